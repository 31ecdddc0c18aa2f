//! An ONNX model whose weights are codes.
//!
//! Weights are encoded one after the other, the rows of each on all threads. What was encoded is
//! held in memory until the model is written; what is carried stays in the map of its file.

mod initializers;
mod rewrite;

use std::fs::{self, File};
use std::ops::Range;
use std::path::{Path, PathBuf};

use niwaki_codes::{Grouping, Scheme, Symmetry, Uniform};
use niwaki_onnx::proto::{ModelProto, StringStringEntryProto};
use niwaki_onnx::{MOST_BYTES, SaveOptions, save};
use niwaki_quant::Distortion;
use niwaki_tensors::decode_f32;
use rayon::prelude::*;

use super::codes::{New, Weights};
use crate::blocks::{BLOCK, Blocks};
use crate::compress::Options;
use crate::destination::{Form, OnnxSeats};
use crate::encode::{narrowed, not_finite};
use crate::error::{Error, ErrorKind};
use crate::plan::{Plan, Planned};
use crate::progress::{Progress, counting};
use crate::recontain::Plain;
use crate::report::{Damped, Report, TensorReport, Totals};
use crate::source::{Source, SourceTensor, to_onnx};
use crate::target::file_error;
use crate::weigh::{DAMPING, Known};
use rewrite::{Replacement, Rewrite};

/// Key under which the recipe travels.
const RECIPE_KEY: &str = "niwaki.recipe";

/// Bytes of a model from which its initializers go to a file beside it: room is left for the rest.
const INSIDE: u64 = MOST_BYTES - (1 << 26);

/// Initializers of so many bytes then go there.
const OUTSIDE: u64 = 1 << 10;

/// Writes the plan as one ONNX model.
pub(crate) fn onnx(
    source: &Source<'_>,
    plan: &Plan,
    seats: &OnnxSeats,
    out: &Path,
    options: &Options,
    progress: Progress<'_>,
) -> Result<Report, Error> {
    // A path that cannot be written is known before an hour of work.
    if !options.replace && fs::symlink_metadata(out).is_ok() {
        let error = Error::from(ErrorKind::Usage { what: "exists".to_owned() }).at(out);
        return Err(error.hinting("`--force` replaces it"));
    }
    let pool = options.pool()?;
    let done = counting(progress, plan.bytes_before());
    let mut rewrite = Rewrite::new(seats);
    let (mut reports, mut damped) = (Vec::with_capacity(plan.tensors.len()), Vec::new());
    for planned in &plan.tensors {
        let tensor = &source.tensors()[planned.index];
        tensor.ensure_unchanged()?;
        let known = pool.install(|| known(plan, planned))?;
        if let Some(damping) = known.as_ref().and_then(Known::damping) {
            damped.push(Damped { name: planned.name.clone(), damping });
        }
        let (replacement, lost) = pool.install(|| replacement((planned, known.as_ref()), tensor, seats, &rewrite))?;
        if let Some(replacement) = replacement {
            rewrite.replace(&planned.name, replacement);
        }
        reports.push(TensorReport::new(planned, &lost.map(|lost| vec![(0, lost)]).unwrap_or_default()));
        done(planned.bytes_before);
    }
    if let Some(model) = &seats.apart {
        model.ensure_unchanged()?;
    }
    let mut model = rewrite.model();
    if !plan.recipe.rules.is_empty() {
        set(&mut model, RECIPE_KEY, plan.recipe.to_string());
    }
    let output_bytes = write(&model, seats.folder.as_deref(), out, options, INSIDE)?;
    Ok(Report {
        input_bytes: source.opened().file_bytes(),
        output_bytes,
        bits_per_weight: Totals::of(plan).bits_per_weight(),
        tensors: reports,
        digest: None,
        damped,
        resumed: 0,
    })
}

/// Writes the model, beside it what would make it larger than `inside`; the bytes of both files.
fn write(model: &ModelProto, folder: Option<&Path>, out: &Path, options: &Options, inside: u64) -> Result<u64, Error> {
    let large = bytes_of(model) > inside;
    let how = SaveOptions {
        overwrite: options.replace,
        external: large.then_some(OUTSIDE),
        folder: folder.map(Path::to_owned),
    };
    save(model, out, &how)?;
    let mut files = vec![out.to_owned()];
    if large {
        files.push(beside(out));
    }
    let mut bytes = 0;
    for file in files {
        let known = fs::metadata(&file).map_err(|e| file_error(&e, &file))?;
        bytes += known.len();
        if options.durable {
            File::open(&file).and_then(|file| file.sync_all()).map_err(|e| file_error(&e, &file))?;
        }
    }
    Ok(bytes)
}

/// The file of external data.
fn beside(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".data");
    PathBuf::from(name)
}

/// Bytes of the graph's dense initializers.
fn bytes_of(model: &ModelProto) -> u64 {
    let tensors = model.graph.iter().flat_map(|graph| &graph.initializer);
    let bytes = tensors.map(|tensor| {
        let dims = tensor.dims.iter().map(|dim| usize::try_from(*dim).unwrap_or(0));
        let elements = dims.fold(1usize, usize::saturating_mul);
        let kind = niwaki_onnx::DataType::from_i32(tensor.data_type());
        kind.and_then(|kind| kind.byte_len(elements)).unwrap_or(0) as u64
    });
    bytes.fold(0, u64::saturating_add)
}

fn set(model: &mut ModelProto, key: &str, value: String) {
    model.metadata_props.retain(|entry| entry.key() != key);
    model.metadata_props.push(StringStringEntryProto { key: Some(key.to_owned()), value: Some(value) });
}

/// What the encoder of a tensor knows of its layer's inputs, where its fit asks for it.
fn known(plan: &Plan, planned: &Planned) -> Result<Option<Known>, Error> {
    let layer = plan.stats.as_ref().and_then(|stats| stats.layer(&planned.name));
    let Some((layer, weighing)) = layer.zip(planned.weighing) else { return Ok(None) };
    Known::of(&layer, weighing, plan.recipe.damping.unwrap_or(DAMPING)).map(Some)
}

/// What takes the place of a weight, and what that lost; nothing where it stays as the model has it.
fn replacement(
    (planned, known): (&Planned, Option<&Known>),
    tensor: &SourceTensor<'_>,
    seats: &OnnxSeats,
    rewrite: &Rewrite<'_>,
) -> Result<(Option<Replacement>, Option<Distortion>), Error> {
    let at = |what: String| Error::from(ErrorKind::Held { format: "onnx", scheme: what }).of(&planned.name);
    let Some(Scheme::Uniform(scheme)) = planned.layout.scheme else {
        if seats.apart.is_none() && planned.taken {
            return Ok((None, None));
        }
        let dtype = planned.layout.dtype;
        let (bytes, lost) = match tensor.elements().filter(|_| dtype == tensor.dtype()) {
            Some(bytes) => (bytes.to_vec(), None),
            None => {
                let values = decoded(tensor)?;
                let bytes = narrowed(&values, dtype);
                let mut again = vec![0.0; values.len()];
                decode_f32(dtype, &bytes, &mut again)?;
                (bytes, Some(Distortion::between(&values, &again)))
            }
        };
        let kind = to_onnx(dtype).ok_or_else(|| at(format!("elements of {dtype}")))?;
        let dims = planned.layout.shape.dims();
        let elements = initializers::elements(&planned.name, kind, dims, bytes);
        return Ok((Some(Replacement::Elements(Box::new(elements))), lost));
    };
    let form = seats.form(planned.index, tensor, &scheme).map_err(at)?;
    let (plain, lost) = codes((planned, known), tensor, &form)?;
    let kind =
        seats.weight(planned.index).map(|weight| weight.dtype).ok_or_else(|| at("a weight of no model".into()))?;
    Ok((Some(initializers::replacement(rewrite, planned, &form, kind, plain)), lost))
}

/// All weights of a tensor.
fn decoded(tensor: &SourceTensor<'_>) -> Result<Vec<f32>, Error> {
    let mut values = vec![0.0; tensor.shape().elements()];
    let (_, cols) = tensor.matrix();
    let each = (BLOCK / cols.max(1)).max(1) * cols.max(1);
    let pieces = values.par_chunks_mut(each).enumerate();
    let all: Vec<_> = pieces.map(|(at, out)| tensor.decode(at * each..at * each + out.len(), out)).collect();
    all.into_iter().collect::<Result<(), Error>>()?;
    Ok(values)
}

/// The codes of a tensor, and what they lost unless they are those that it had.
fn codes(
    (planned, known): (&Planned, Option<&Known>),
    tensor: &SourceTensor<'_>,
    form: &Form,
) -> Result<(Plain, Option<Distortion>), Error> {
    let across = form.across.then(|| transposed(&decoded(tensor)?, form, &planned.name)).transpose()?;
    let step = form.group().is_some() || form.scheme.grouping == Grouping::Row;
    // The rows of a group of channels have inputs of their own.
    let groups = known.map_or(1, Known::groups).max(1);
    let blocks = Blocks::of_steps(form.rows / groups, form.cols, step.then_some(1));
    let one = |at: usize| -> Result<(Plain, Option<Distortion>), Error> {
        let (group, block) = (at / blocks.len(), blocks.get(at % blocks.len()).rows);
        let rows = group * (form.rows / groups) + block.start..group * (form.rows / groups) + block.end;
        if !form.across
            && let Some(plain) = taken(tensor, form, rows.clone())?
        {
            return Ok((plain, None));
        }
        let range = rows.start * form.cols..rows.end * form.cols;
        let mut buffer = Vec::new();
        let weights = across.as_ref().map_or(Weights::Of(tensor), |all| Weights::Numbers(all));
        let known = known.map(|known| (known, group));
        let new = New { scheme: &form.scheme, fit: planned.fit, name: &planned.name, cols: form.cols, known };
        let plain = new.encode(range.clone(), &weights, &mut buffer)?;
        let lost = match &across {
            Some(all) => Distortion::between(all.get(range).unwrap_or_default(), &numbers(&plain, form)),
            None => {
                buffer.resize(range.len(), 0.0);
                tensor.decode(range, &mut buffer)?;
                Distortion::between(&buffer, &numbers(&plain, form))
            }
        };
        Ok((plain, Some(lost)))
    };
    let all: Vec<_> = (0..groups * blocks.len()).into_par_iter().map(one).collect();
    let mut whole = Plain { scheme: form.scheme, codes: Vec::new(), scales: Vec::new(), zeros: Vec::new() };
    let mut lost: Option<Distortion> = None;
    for piece in all {
        let (mut plain, distortion) = piece?;
        whole.codes.append(&mut plain.codes);
        // A scale of all stands in every piece.
        if step || whole.scales.is_empty() {
            whole.scales.append(&mut plain.scales);
            whole.zeros.append(&mut plain.zeros);
        }
        lost = match (lost, distortion) {
            (Some(mut all), Some(next)) => {
                all.merge(&next);
                Some(all)
            }
            (all, next) => all.or(next),
        };
    }
    Ok((whole, lost))
}

/// Codes that a tensor has already, where they are of the form's scheme.
fn taken(tensor: &SourceTensor<'_>, form: &Form, rows: Range<usize>) -> Result<Option<Plain>, Error> {
    let plain = match tensor.codes(rows)? {
        Some(coded) => Plain::of(&coded, form.cols),
        None => None,
    };
    let scheme = |of: &Uniform| (of.bits, of.symmetry, of.grouping);
    Ok(plain.filter(|plain| scheme(&plain.scheme) == scheme(&form.scheme)))
}

/// The transpose of a matrix of weights.
fn transposed(values: &[f32], form: &Form, name: &str) -> Result<Vec<f32>, Error> {
    // Places in messages are those of the weight as the model has it.
    if let Some(at) = values.iter().position(|x| !x.is_finite()) {
        return Err(not_finite(at, name));
    }
    let mut out = vec![0.0; values.len()];
    out.par_chunks_mut(form.cols.max(1)).enumerate().for_each(|(row, out)| {
        let column = values.iter().skip(row).step_by(form.rows.max(1));
        out.iter_mut().zip(column).for_each(|(to, from)| *to = *from);
    });
    Ok(out)
}

/// What codes of whole rows mean.
fn numbers(plain: &Plain, form: &Form) -> Vec<f32> {
    let middle = form.scheme.bits.half() as u8;
    let affine = form.scheme.symmetry == Symmetry::Affine;
    let mut out = Vec::with_capacity(plain.codes.len());
    for (row, codes) in plain.codes.chunks(form.cols.max(1)).enumerate() {
        for (nth, codes) in codes.chunks(form.group().unwrap_or(form.cols).max(1)).enumerate() {
            let group = match form.scheme.grouping {
                Grouping::Tensor => 0,
                _ => row * form.blocks() + nth,
            };
            let scale = plain.scales.get(group).copied().unwrap_or(0.0);
            let zero = if affine { plain.zeros.get(group).copied().unwrap_or(0) } else { middle };
            out.extend(codes.iter().map(|code| f32::from(i16::from(*code) - i16::from(zero)) * scale));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use niwaki_onnx::build::{graph, initializer, model};
    use niwaki_onnx::{DataType, Limits, Model};

    use super::*;

    #[test]
    fn what_is_too_much_for_one_file_goes_beside_it() {
        let folder = std::env::temp_dir().join(format!("niwaki-onnx-sink-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let tensors = vec![
            initializer("large", DataType::Int8, &[40, 100], vec![7; 4000]),
            initializer("small", DataType::Int4, &[3], vec![0x21, 3]),
        ];
        let proto = model(21, graph("g", vec![], vec![], vec![], tensors));
        for (inside, files) in [(4001, 2), (4002, 1)] {
            let out = folder.join(format!("{inside}.onnx"));
            let bytes = write(&proto, None, &out, &Options::default(), inside).unwrap();
            let of = |path: PathBuf| fs::metadata(path).map_or(0, |known| known.len());
            assert_eq!(bytes, of(out.clone()) + of(beside(&out)));
            assert_eq!(usize::from(of(beside(&out)) > 0) + 1, files);
            let read = Model::open(&out, &Limits::default()).unwrap();
            let large = read.initializers().find(|tensor| tensor.name() == "large").unwrap();
            assert!(read.read(large).unwrap().bytes.iter().all(|byte| *byte == 7));
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}

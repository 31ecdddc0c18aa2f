//! Folders in the layout of another tool: safetensors and a `config.json` that says what the
//! codes mean.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use niwaki_codes::floats::Float;
use niwaki_codes::simd::Level;
use niwaki_codes::{Grouping, Scheme, Uniform};
use niwaki_container::Part;
use niwaki_foreign::{
    Coded as Given, Format as Layouts, Module, ModuleScheme, Outline, Part as StoredPart, quantization_config,
};
use niwaki_quant::{Distortion, largest};
use niwaki_tensors::{Entry, Layout, Limits, Writer, metadata_len};

use super::codes::{New, Weights};
use super::{Scratch, Work, elements, share};
use crate::blocks::{BLOCK, Blocks};
use crate::compare;
use crate::compress::Options;
use crate::destination::{Format, Tool, as_float};
use crate::encode::{FloatRows, not_encodable, shares_a_scale};
use crate::error::{Error, ErrorKind};
use crate::plan::{Plan, Planned};
use crate::progress::Progress;
use crate::recontain::Plain;
use crate::report::{Report, TensorReport, Totals, rounded_db};
use crate::source::{Names, Opened, Source, SourceTensor};
use crate::target::{CodeKeys, Target};

/// The module of the output head in Hugging Face's models.
const HEAD: &str = "lm_head";

/// Writes the plan as a folder.
pub(crate) fn tool(
    source: &Source<'_>,
    plan: &Plan,
    tool: Tool,
    out: &Path,
    options: &Options,
    progress: Progress<'_>,
) -> Result<Report, Error> {
    if out.extension().is_some_and(|e| e == "safetensors") {
        let what = format!("{} is a folder with a `config.json`, not one file", tool.format);
        return Err(Error::from(ErrorKind::Usage { what }).at(out).hinting("give a name without `.safetensors`"));
    }
    let mut tensors = Vec::with_capacity(plan.tensors.len());
    for planned in &plan.tensors {
        let tensor = &source.tensors()[planned.index];
        let codes = match planned.layout.scheme {
            Some(Scheme::Uniform(scheme)) => Codes::Uniform(scheme, tool.outline(tensor, &scheme)?),
            other => match other.and_then(as_float) {
                Some(float) => {
                    let (format, parts) = tool.floats(tensor, float)?;
                    Codes::Float(float, format, parts)
                }
                None => Codes::None,
            },
        };
        tensors.push(Stored { planned, tensor, codes });
    }
    let config = config(&tensors, tool)?;
    let target = Target::folder(source, out, config, options)?;
    let outcome = write(source, &tensors, tool, &target, options, (plan.bytes_before(), progress));
    let output_bytes = target.close(source, options, outcome)?;
    // What was lost is measured as a reader sees it.
    let lost = measured(&target.file, &tensors, options)?;
    Ok(Report {
        input_bytes: source.opened().file_bytes(),
        output_bytes,
        bits_per_weight: Totals::of(plan).bits_per_weight(),
        tensors: plan.tensors.iter().zip(lost).map(|(planned, lost)| TensorReport::with_db(planned, lost)).collect(),
        digest: None,
        damped: Vec::new(),
        resumed: 0,
    })
}

/// One tensor and how it is stored.
struct Stored<'a> {
    planned: &'a Planned,
    tensor: &'a SourceTensor<'a>,
    codes: Codes,
}

/// Codes and where their parts lie.
enum Codes {
    /// It is stored as it is.
    None,
    Uniform(Uniform, Outline),
    Float(Float, Layouts, Vec<StoredPart>),
}

impl Stored<'_> {
    fn entries(&self) -> Vec<Entry> {
        let entry = |part: &StoredPart| Entry { name: part.name.clone(), dtype: part.dtype, shape: part.shape.clone() };
        match &self.codes {
            Codes::Uniform(_, outline) => outline.parts().iter().map(entry).collect(),
            Codes::Float(_, _, parts) => parts.iter().map(entry).collect(),
            Codes::None => {
                let (dtype, shape) = (self.planned.layout.dtype, self.planned.layout.shape.dims().to_vec());
                vec![Entry { name: self.planned.written.clone(), dtype, shape }]
            }
        }
    }

    /// Blocks that are written on their own.
    fn blocks(&self) -> Blocks {
        let (rows, cols) = self.tensor.matrix();
        match &self.codes {
            Codes::None => Blocks::of_runs(rows, cols),
            Codes::Uniform(Uniform { grouping: Grouping::Tensor, .. }, _) => Blocks::of_steps(rows, cols, None),
            Codes::Uniform(_, outline) => Blocks::of_steps(rows, cols, outline.step()),
            Codes::Float(float, ..) => Blocks::new(rows, cols, Scheme::Float(*float)),
        }
    }

    /// What its module's configuration says of it.
    fn described(&self) -> Option<Module<'_>> {
        let (format, scheme) = match &self.codes {
            Codes::Uniform(_, outline) => (outline.format(), ModuleScheme::Uniform(*outline.scheme())),
            Codes::Float(float, format, _) => (*format, ModuleScheme::Float(*float)),
            Codes::None => return None,
        };
        Some(Module { name: self.module(), format, scheme })
    }

    /// The module that the weight belongs to.
    fn module(&self) -> &str {
        let name = self.planned.name.as_str();
        name.strip_suffix(".weight").unwrap_or(name)
    }
}

/// What `config.json` says of the codes, under the keys where it says it; nothing where no
/// tensor has any.
fn config(tensors: &[Stored<'_>], tool: Tool) -> Result<CodeKeys, Error> {
    let modules: Vec<_> = tensors.iter().filter_map(Stored::described).collect();
    let same_kind = |stored: &&Stored<'_>| {
        matches!(stored.codes, Codes::None)
            && stored.planned.layout.shape.dims().len() == 2
            && stored.planned.name.ends_with(".weight")
            && !stored.planned.name.contains("embed")
    };
    let mut ignore: Vec<&str> = tensors.iter().filter(same_kind).map(Stored::module).collect();
    // An output head that is the embedding over again has no tensor, and engines have its module.
    if !ignore.contains(&HEAD) && !modules.iter().any(|module| module.name == HEAD) {
        ignore.push(HEAD);
    }
    if modules.is_empty() {
        let error = Error::from(ErrorKind::NoMatch { rule: format!("`--to {}`", tool.format) });
        return Err(error.hinting("it holds codes of matrices called `….weight`, and none has any"));
    }
    let said = quantization_config(&modules, &ignore, tool.activations)?;
    let mut keys = vec![("quantization_config", said.clone())];
    if tool.format == Format::Mlx {
        keys.push(("quantization", said));
    }
    Ok(keys)
}

fn write(
    source: &Source<'_>,
    tensors: &[Stored<'_>],
    tool: Tool,
    target: &Target,
    options: &Options,
    (total, progress): (u64, Progress<'_>),
) -> Result<u64, Error> {
    // Wide types first, so that each element is aligned without pads between tensors.
    let mut entries: Vec<(usize, usize, Entry)> = Vec::new();
    for (nth, stored) in tensors.iter().enumerate() {
        entries.extend(stored.entries().into_iter().enumerate().map(|(part, entry)| (nth, part, entry)));
    }
    entries.sort_by_key(|(.., entry)| std::cmp::Reverse(entry.dtype.bitsize()));
    let mut places: Vec<Vec<usize>> = tensors.iter().map(|stored| vec![0; stored.entries().len()]).collect();
    for (at, (nth, part, _)) in entries.iter().enumerate() {
        places[*nth][*part] = at;
    }
    let mut metadata = source.texts();
    metadata.retain(|(key, _)| key != "format");
    let format = if tool.format == Format::Mlx { "mlx" } else { "pt" };
    metadata.push(("format".to_owned(), format.to_owned()));
    let metadata: Vec<_> = metadata.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let layout = Layout::exact(entries.into_iter().map(|(.., entry)| entry).collect(), metadata_len(&metadata))?;
    let bytes = layout.file_bytes();
    let writer = Writer::create(&target.file, layout, options.overwrite())?;
    let works = tensors.iter().zip(&places).map(|(stored, entries)| Item {
        stored,
        writer: &writer,
        entries,
        blocks: stored.blocks(),
        most: Mutex::default(),
    });
    super::run(works.collect(), &options.pool()?, total, progress)?;
    writer.finish(&metadata, options.durable)?;
    Ok(bytes)
}

/// Signal to noise of each tensor of the output against the source, as it decodes.
fn measured(file: &Path, tensors: &[Stored<'_>], options: &Options) -> Result<Vec<Option<f64>>, Error> {
    let opened = Opened::open(file, &Limits::default())?;
    let written = opened.source(None, Names::Own)?;
    let found: BTreeMap<&str, &SourceTensor<'_>> = written.tensors().iter().map(|t| (t.name(), t)).collect();
    let pool = options.pool()?;
    let lost = |stored: &Stored<'_>| {
        let name = stored.planned.written.as_str();
        let missing = || ErrorKind::Unlike { what: "cannot be found in what was written".to_owned() };
        let found = found.get(name).ok_or_else(|| Error::from(missing()).of(name).at(file))?;
        if stored.planned.taken && matches!(stored.codes, Codes::None) {
            return Ok(None);
        }
        pool.install(|| compare::sqnr(stored.tensor, found)).map(rounded_db)
    };
    tensors.iter().map(lost).collect()
}

/// One tensor on its way into the file.
struct Item<'a> {
    stored: &'a Stored<'a>,
    writer: &'a Writer,
    /// The entry of each part.
    entries: &'a [usize],
    blocks: Blocks,
    /// The largest magnitude, once it is known.
    most: Mutex<Option<f32>>,
}

impl Item<'_> {
    fn write(&self, part: usize, at: u64, bytes: &[u8]) -> Result<(), Error> {
        Ok(self.writer.write_at(self.entries.get(part).copied().unwrap_or(usize::MAX), at, bytes)?)
    }

    /// Whole rows as small floats.
    fn floats(&self, float: Float, rows: Range<usize>, scratch: &mut Scratch) -> Result<(), Error> {
        let Scratch { decoded, bytes } = scratch;
        let (tensor, (_, cols)) = (self.stored.tensor, self.stored.tensor.matrix());
        let largest = self.largest(float, decoded)?;
        let values = tensor.values(rows.start * cols..rows.end * cols, decoded)?;
        let rows = FloatRows { float, first: rows.start, cols, largest };
        rows.encode(values, tensor.name(), bytes, |part, at, bytes| {
            let part = match part {
                Part::Codes => 0,
                Part::Scales => 1,
                _ => 2,
            };
            self.write(part, at as u64, bytes)
        })?;
        Ok(())
    }

    /// The largest magnitude of the tensor, where a scale hangs on it.
    fn largest(&self, float: Float, decoded: &mut Vec<f32>) -> Result<f32, Error> {
        if !shares_a_scale(float) {
            return Ok(0.0);
        }
        // Whoever is first looks at the weights; the others wait for what it finds.
        let mut known = self.most.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(most) = *known {
            return Ok(most);
        }
        let (tensor, mut most) = (self.stored.tensor, 0.0f32);
        let all = tensor.shape().elements();
        for start in (0..all).step_by(BLOCK) {
            let values = tensor.values(start..(start + BLOCK).min(all), decoded)?;
            let found = largest(Level::best(), values);
            most = most.max(found.map_err(|e| not_encodable(&e.offset(start, 0), tensor.name()))?);
        }
        *known = Some(most);
        Ok(most)
    }

    /// Codes of whole rows: those that are there already, or new ones.
    fn codes(&self, scheme: &Uniform, rows: Range<usize>, decoded: &mut Vec<f32>) -> Result<Plain, Error> {
        let tensor = self.stored.tensor;
        let (_, cols) = tensor.matrix();
        let same =
            |has: &Uniform| (has.bits, has.symmetry, has.grouping) == (scheme.bits, scheme.symmetry, scheme.grouping);
        if let Some(coded) = tensor.codes(rows.clone())?
            && let Some(plain) = Plain::of(&coded, cols).filter(|plain| same(&plain.scheme))
        {
            return Ok(plain);
        }
        let start = rows.start * cols;
        let new = New { scheme, fit: self.stored.planned.fit, name: &self.stored.planned.name, cols, known: None };
        new.encode(start..rows.end * cols, &Weights::Of(tensor), decoded)
    }
}

impl Work for Item<'_> {
    fn items(&self) -> usize {
        self.blocks.len()
    }

    fn item(&self, index: usize, scratch: &mut Scratch) -> Result<Option<Distortion>, Error> {
        let tensor = self.stored.tensor;
        tensor.ensure_unchanged()?;
        let block = self.blocks.get(index);
        let (_, cols) = tensor.matrix();
        match &self.stored.codes {
            Codes::None => {
                let dtype = self.stored.planned.layout.dtype;
                return elements(tensor, dtype, block.range(cols), scratch, |at, bytes| self.write(0, at, bytes));
            }
            Codes::Float(float, ..) => self.floats(*float, block.rows, scratch)?,
            Codes::Uniform(scheme, outline) => {
                let plain = self.codes(scheme, block.rows.clone(), &mut scratch.decoded)?;
                let given = Given { codes: &plain.codes, scales: &plain.scales, zeros: &plain.zeros };
                let laid = outline.pieces(&plain.scheme, block.rows, given);
                for piece in laid.map_err(|e| Error::from(e).of(tensor.name()))?.pieces {
                    self.write(piece.part, piece.at, &piece.bytes)?;
                }
            }
        }
        Ok(None)
    }

    fn bytes(&self, index: usize) -> u64 {
        share(self.stored.planned, self.blocks.get(index).elements())
    }
}

//! Importance matrices of llama.cpp: of each linear layer the mean squares of its inputs.
//!
//! ```text
//! GGUF   general.type = imatrix; NAME.in_sum2 F32 [matrices, inputs], sums of squares; NAME.counts F32 [matrices, 1]
//! .dat   i32 entries { i32 length | name | i32 calls | i32 inputs | f32 calls x mean square [inputs] } ...
//! ```
//!
//! Names are those of GGUF. Such a file says not of which weights it is: it is taken for those of the checkpoint at hand.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use niwaki_gguf::{Array, GgmlType, Gguf, Metadata, Texts, Value, Writer};
use niwaki_tensors::{Checkpoint, Dtype, Entry, Layout, Limits, Overwrite, metadata_len, read_limited};

use crate::described;
use crate::destination::{Destination, Format, Settings};
use crate::error::{Error, ErrorKind};
use crate::signature::tensor_digest;
use crate::source::Source;
use crate::stats::{About, AboutLayer, ENDINGS, KEY, Stats, tensor_name};

/// Bytes of a name at most.
const NAME: usize = 1024;

/// The value of `general.type`.
const TYPE: &str = "imatrix";

fn unlike(what: impl Into<String>) -> Error {
    ErrorKind::Unlike { what: what.into() }.into()
}

/// Writes what statistics say of the linear layers of a checkpoint as GGUF; how many those are.
///
/// # Errors
///
/// A checkpoint that has no names there, statistics of none of its linear layers; those of writing.
pub fn write(stats: &Stats, source: &Source<'_>, (out, overwrite): (&Path, Overwrite)) -> Result<usize, Error> {
    let to = Destination::new(Format::Gguf, source, &Settings::default())?;
    let mut all: Vec<(String, Vec<f32>, u64)> = Vec::new();
    for (index, tensor) in source.tensors().iter().enumerate() {
        let Some(layer) = stats.layer(tensor.name()).filter(|layer| layer.is_linear()) else { continue };
        let Ok(name) = to.name(index, tensor.name()) else { continue };
        let values = layer.values();
        let sums = layer.mean_squares()?.concat().iter().map(|mean| (mean * values as f64) as f32).collect();
        all.push((name.to_owned(), sums, values));
    }
    if all.is_empty() {
        return Err(unlike("no linear layer in it that an importance matrix could be of").at(stats.path()));
    }
    let mut metadata = Metadata::new();
    metadata.set("general.type", Value::Text(TYPE.to_owned()));
    let mut datasets = Texts::new();
    datasets.push("niwaki calibrate");
    metadata.set("imatrix.datasets", Value::Array(Array::Text(datasets)));
    let number = |of: u64| Value::U32(u32::try_from(of).unwrap_or(u32::MAX));
    metadata.set("imatrix.chunk_count", number(stats.examples()));
    let tokens = all.iter().map(|(.., values)| *values).max().unwrap_or(0);
    metadata.set("imatrix.chunk_size", number(tokens / stats.examples().max(1)));
    let entry = |name: String, inputs| niwaki_gguf::Entry { name, dims: vec![1, inputs], ggml_type: GgmlType::F32 };
    let both = |(name, sums, _): &(String, Vec<f32>, u64)| {
        [entry(format!("{name}.in_sum2"), sums.len()), entry(format!("{name}.counts"), 1)]
    };
    let entries: Vec<niwaki_gguf::Entry> = all.iter().flat_map(both).collect();
    let layout = niwaki_gguf::Layout::new(&metadata, &entries).map_err(|e| Error::from(e).at(out))?;
    let writer = Writer::create(out, layout, overwrite)?;
    for (nth, (_, sums, values)) in all.iter().enumerate() {
        writer.write_at(2 * nth, 0, bytemuck::cast_slice(sums))?;
        writer.write_at(2 * nth + 1, 0, &(*values as f32).to_le_bytes())?;
    }
    writer.finish(false)?;
    Ok(all.len())
}

/// Whether a file is one of these by its name or its first bytes.
pub(crate) fn is_one(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf") || e.eq_ignore_ascii_case("dat"))
}

/// What an importance matrix says of the layers of a checkpoint.
///
/// # Errors
///
/// A file that is none, or of none of the checkpoint's tensors; numbers that are not finite, or are negative.
pub(crate) fn open(path: &Path, source: &Source<'_>) -> Result<Stats, Error> {
    let at = |e: Error| e.at(path);
    let means = match path.extension().is_some_and(|e| e.eq_ignore_ascii_case("dat")) {
        true => parse_dat(&read_limited(path, &Limits::default())?).map_err(at)?,
        false => of_gguf(&Gguf::open(path, &Limits::default())?).map_err(at)?,
    };
    let to = Destination::new(Format::Gguf, source, &Settings::default())?;
    let mut layers = BTreeMap::new();
    let mut tensors: Vec<(String, Vec<f32>)> = Vec::new();
    for (index, tensor) in source.tensors().iter().enumerate() {
        let Some(means) = to.name(index, tensor.name()).ok().and_then(|name| means.get(name)) else { continue };
        let (name, shape) = (tensor.name(), tensor.shape().dims().to_vec());
        if shape.len() != 2 || shape[1] != means.len() {
            let what = format!("rows of {}, the importance matrix is of {} inputs", tensor.shape(), means.len());
            return Err(at(unlike(what).of(name)));
        }
        let (inputs, digest) = (means.len(), tensor_digest(source, tensor)?.to_string());
        let about = AboutLayer {
            digest,
            shape,
            inputs,
            groups: 1,
            kernel: false,
            turned: false,
            values: 0,
            gram: None,
            histogram: None,
        };
        layers.insert(name.to_owned(), about);
        let reach: Vec<f32> = means.iter().map(|mean| mean.sqrt()).collect();
        let low = reach.iter().map(|x| -x).collect();
        tensors.extend(ENDINGS.iter().zip([means.clone(), low, reach]).map(|(end, x)| (tensor_name(name, end), x)));
    }
    if layers.is_empty() {
        return Err(at(unlike("an importance matrix of none of the checkpoint's tensors")));
    }
    let about = About { version: 1, digest: "0".repeat(64), examples: 0, layers, values: BTreeMap::new() };
    let file = safetensors(&described::text(&about)?, tensors)?;
    let checkpoint = Checkpoint::from_bytes(path, file, &Limits::default())?;
    Stats::without_ranges(checkpoint)
}

/// A file of statistics in memory.
fn safetensors(text: &str, tensors: Vec<(String, Vec<f32>)>) -> Result<Arc<[u8]>, Error> {
    let metadata = [(KEY, text)];
    let (names, numbers): (Vec<String>, Vec<Vec<f32>>) = tensors.into_iter().unzip();
    let entry = |(name, numbers): (String, &Vec<f32>)| Entry { name, dtype: Dtype::F32, shape: vec![numbers.len()] };
    let entries = names.into_iter().zip(&numbers).map(entry).collect();
    let mut file = Layout::exact(entries, metadata_len(&metadata))?.header(&metadata)?;
    file.extend(numbers.iter().flatten().flat_map(|x| x.to_le_bytes()));
    Ok(file.into())
}

/// Mean squares by name, of a file in GGUF.
fn of_gguf(file: &Gguf) -> Result<BTreeMap<String, Vec<f32>>, Error> {
    if file.metadata().text("general.type") != Some(TYPE) {
        let error = unlike("no importance matrix: `general.type` is not `imatrix`");
        return Err(error.hinting("`--stats` takes what `calibrate` or llama-imatrix write"));
    }
    let mut all = BTreeMap::new();
    for sums in file.tensors() {
        let Some(name) = sums.name().strip_suffix(".in_sum2") else { continue };
        let counts = file.get(&format!("{name}.counts")).ok_or_else(|| unlike("has no `.counts`").of(name))?;
        let (sums, counts) = (floats(&sums)?, floats(&counts)?);
        // Of several experts, each with sums of its own, nothing is known here.
        let [count] = counts[..] else { continue };
        all.insert(name.to_owned(), means(name, &sums, count)?);
    }
    Ok(all)
}

fn floats(view: &niwaki_gguf::TensorView<'_>) -> Result<Vec<f32>, Error> {
    if view.ggml_type()? != GgmlType::F32 {
        return Err(unlike("elements that are no F32").of(view.name()));
    }
    Ok(view.bytes()?.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}

/// Means of sums; ones where nothing was counted.
fn means(name: &str, sums: &[f32], count: f32) -> Result<Vec<f32>, Error> {
    if let Some(at) = sums.iter().position(|x| !x.is_finite() || *x < 0.0) {
        return Err(unlike(format!("sum {at} of its squares is {}; 0 or more expected", sums[at])).of(name));
    }
    if !count.is_finite() || count < 0.0 {
        return Err(unlike(format!("its count is {count}; 0 or more expected")).of(name));
    }
    Ok(sums.iter().map(|sum| if count > 0.0 { sum / count } else { 1.0 }).collect())
}

/// Mean squares by name, of a file as llama.cpp wrote them before GGUF.
///
/// # Errors
///
/// Bytes that are none, by the place where they cease to be, and numbers that are not finite, or are negative.
pub fn parse_dat(bytes: &[u8]) -> Result<BTreeMap<String, Vec<f32>>, Error> {
    let mut rest = bytes;
    let mut take = |len: usize| -> Result<&[u8], Error> {
        let at = bytes.len() - rest.len();
        let found = rest.split_off(..len);
        found.ok_or_else(|| {
            unlike(format!("an importance matrix ends at byte {}, {len} more expected at {at}", bytes.len()))
        })
    };
    let number = |bytes: &[u8]| bytes.first_chunk().map_or(-1, |four| i32::from_le_bytes(*four));
    let entries = number(take(4)?);
    if entries < 1 {
        return Err(unlike(format!("an importance matrix of {entries} entries")));
    }
    let mut all = BTreeMap::new();
    for entry in 0..entries {
        let len = number(take(4)?);
        let len = usize::try_from(len).ok().filter(|len| (1..=NAME).contains(len));
        let len = len.ok_or_else(|| unlike(format!("the name of entry {entry} has no length of 1 to {NAME}")))?;
        let name = String::from_utf8(take(len)?.to_vec());
        let name = name.map_err(|_| unlike(format!("the name of entry {entry} is no UTF-8")))?;
        let (calls, inputs) = (number(take(4)?), number(take(4)?));
        let inputs = usize::try_from(inputs).ok().and_then(|inputs| inputs.checked_mul(4));
        let inputs = inputs.ok_or_else(|| unlike("a negative number of inputs").of(&name))?;
        let sums = take(inputs)?.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four));
        let sums: Vec<f32> = sums.collect();
        let means = means(&name, &sums, calls as f32)?;
        all.insert(name, means);
    }
    Ok(all)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    fn dat(entries: i32, calls: i32, sums: &[f32]) -> Vec<u8> {
        let mut bytes = entries.to_le_bytes().to_vec();
        for number in [1, i32::from_le_bytes([b'w', 0, 0, 0])] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.truncate(9);
        bytes.extend(calls.to_le_bytes());
        bytes.extend((sums.len() as i32).to_le_bytes());
        bytes.extend(sums.iter().flat_map(|x| x.to_le_bytes()));
        bytes
    }

    #[test]
    fn sums_are_divided_by_calls() {
        let all = parse_dat(&dat(1, 4, &[2.0, 0.0, 6.0])).unwrap();
        assert_eq!(all["w"], [0.5, 0.0, 1.5]);
        assert_eq!(parse_dat(&dat(1, 0, &[2.0])).unwrap()["w"], [1.0]);
    }

    #[test]
    fn what_is_none_is_refused() {
        let said = |bytes: &[u8]| parse_dat(bytes).unwrap_err().to_string();
        assert_eq!(said(&[1, 0]), "an importance matrix ends at byte 2, 4 more expected at 0");
        assert_eq!(said(&dat(0, 1, &[])), "an importance matrix of 0 entries");
        assert_eq!(said(&dat(2, 1, &[1.0])), "an importance matrix ends at byte 21, 4 more expected at 21");
        assert_eq!(said(&dat(1, 1, &[-1.0])), "tensor `w`: sum 0 of its squares is -1; 0 or more expected");
        assert_eq!(said(&dat(1, -3, &[1.0])), "tensor `w`: its count is -3; 0 or more expected");
        let whole = dat(1, 1, &[1.0, 2.0]);
        for end in 0..whole.len() {
            assert!(parse_dat(&whole[..end]).is_err(), "{end}");
        }
    }
}

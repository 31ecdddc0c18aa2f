//! The header of a safetensors file.
//!
//! ```text
//! u64 n, little-endian | n bytes of JSON | data
//! ```
//!
//! Three steps. The object is taken apart far enough to see names, repeated keys and limits;
//! then the `safetensors` crate says whether the file is valid; and if it is not, the parts
//! are looked at one by one to say why.

mod diagnose;

use std::collections::BTreeMap;

use safetensors::tensor::Metadata;
use safetensors::{SafeTensorError, SafeTensors};
use serde::de::IgnoredAny;

use crate::dtype::Dtype;
use crate::error::{Error, ErrorKind};
use crate::json::{self, Raw};
use crate::limits::{FORMAT_HEADER_BYTES, Limit, Limits};

/// Bytes in front of the header, which hold its length.
pub(crate) const LENGTH_BYTES: usize = 8;

/// The key of the metadata among the tensors.
pub(crate) const METADATA_KEY: &str = "__metadata__";

/// What the header of one file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The tensors in the order of their data; where one is empty, in the order of the header.
    pub entries: Vec<HeaderEntry>,
    /// The file's own texts.
    pub metadata: BTreeMap<String, String>,
    /// Where the data begins, in bytes from the beginning of the file.
    pub data_start: usize,
}

/// One tensor of a [`Header`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderEntry {
    /// Its name.
    pub name: String,
    /// Its type.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its first byte, counted from the beginning of the data.
    pub begin: usize,
    /// The byte after its last.
    pub end: usize,
}

/// A header taken apart.
struct Outline<'a> {
    /// Tensors in the order of the header.
    tensors: Vec<(String, RawEntry<'a>)>,
    metadata: Option<Raw<'a>>,
}

/// The entry of one tensor, unread.
enum RawEntry<'a> {
    Fields { dtype: Option<Raw<'a>>, shape: Option<Raw<'a>>, offsets: Option<Raw<'a>> },
    NotAnObject,
}

/// Reads the header of a file given as bytes, all of it: data is measured, not looked at.
///
/// # Errors
///
/// Whatever the `safetensors` crate refuses, names and keys that stand twice, and what
/// exceeds `limits`.
pub fn parse_header(file: &[u8], limits: &Limits) -> Result<Header, Error> {
    let text = header_text(file, limits)?;
    let data_start = LENGTH_BYTES + text.len();
    let data_len = file.len() - data_start;
    let outline = outline(text, limits)?;
    // Offsets beyond the file are refused by the crate too, but it adds them up before it
    // compares, which overflows for the largest.
    if outline.largest_offset() > data_len as u64 {
        return Err(diagnose::diagnose(&outline, data_len as u64, None));
    }
    let (_, metadata) =
        SafeTensors::read_metadata(file).map_err(|e| diagnose::diagnose(&outline, data_len as u64, Some(e)))?;
    outline.header(&metadata, data_start)
}

/// Reads the header of a file without its data: exactly the bytes in front of it, its length first.
/// The data is as long as the tensors say.
///
/// # Errors
///
/// Those of [`parse_header`], and [`ErrorKind::HeaderBeyondFile`] for bytes of another number than
/// the header says.
pub fn parse_header_alone(front: &[u8], limits: &Limits) -> Result<Header, Error> {
    let text = header_text(front, limits)?;
    let (says, has) = (text.len() as u64, (front.len() - LENGTH_BYTES) as u64);
    if says != has {
        return Err(ErrorKind::HeaderBeyondFile { says, has }.into());
    }
    let outline = outline(text, limits)?;
    let metadata: Metadata = serde_json::from_str(text).map_err(|e| {
        let refusal = SafeTensorError::InvalidHeaderDeserialization(e);
        diagnose::diagnose(&outline, outline.largest_offset(), Some(refusal))
    })?;
    outline.header(&metadata, front.len())
}

/// The text of the header, once its length is known to be one.
fn header_text<'a>(file: &'a [u8], limits: &Limits) -> Result<&'a str, Error> {
    let Some((length, rest)) = file.split_first_chunk::<LENGTH_BYTES>() else {
        return Err(ErrorKind::Short { has: file.len() as u64 }.into());
    };
    let says = u64::from_le_bytes(*length);
    if says > limits.header_bytes {
        return Err(ErrorKind::Limit { limit: Limit::HeaderBytes, max: limits.header_bytes, has: says }.into());
    }
    if says > FORMAT_HEADER_BYTES {
        return Err(ErrorKind::HeaderBeyondFormat { says }.into());
    }
    let Some(bytes) = rest.get(..says as usize) else {
        return Err(ErrorKind::HeaderBeyondFile { says, has: rest.len() as u64 }.into());
    };
    std::str::from_utf8(bytes).map_err(|e| Error::from(ErrorKind::HeaderUtf8 { at: e.valid_up_to() }).because(e))
}

/// Takes a header apart; refuses what stands twice and what exceeds the limits.
fn outline<'a>(text: &'a str, limits: &Limits) -> Result<Outline<'a>, Error> {
    let pairs = json::object(text, limits.tensors.saturating_add(1)).map_err(json_error)?;
    if let Some(name) = json::repeated(&pairs) {
        let twice = match name {
            METADATA_KEY => Error::from(ErrorKind::TwiceKey { key: name.to_owned() }),
            _ => Error::from(ErrorKind::TwiceTensor).of(name),
        };
        return Err(twice);
    }
    let mut outline = Outline { tensors: Vec::with_capacity(pairs.len()), metadata: None };
    for (name, raw) in pairs {
        if name == METADATA_KEY {
            check_metadata_keys(raw)?;
            outline.metadata = Some(raw);
            continue;
        }
        if name.len() as u64 > limits.name_bytes {
            let has = name.len() as u64;
            return Err(ErrorKind::Limit { limit: Limit::NameBytes, max: limits.name_bytes, has }.into());
        }
        let entry = entry(raw, limits).map_err(|error| error.of(&name))?;
        outline.tensors.push((name, entry));
    }
    let has = outline.tensors.len() as u64;
    if has > limits.tensors {
        return Err(ErrorKind::Limit { limit: Limit::Tensors, max: limits.tensors, has }.into());
    }
    Ok(outline)
}

fn json_error(error: serde_json::Error) -> Error {
    Error::from(ErrorKind::HeaderJson { line: error.line(), column: error.column() }).because(error)
}

fn check_metadata_keys(raw: Raw<'_>) -> Result<(), Error> {
    let pairs = json::object(raw.get(), u64::MAX).unwrap_or_default();
    match json::repeated(&pairs) {
        Some(key) => Err(ErrorKind::TwiceKey { key: key.to_owned() }.into()),
        None => Ok(()),
    }
}

/// Finds the three fields of an entry. A list of three stands for an object, as in the crate.
fn entry<'a>(raw: Raw<'a>, limits: &Limits) -> Result<RawEntry<'a>, Error> {
    if raw.get().starts_with('[')
        && let Ok([dtype, shape, offsets]) = json::list(raw.get())
    {
        check_dims(shape, limits)?;
        return Ok(RawEntry::Fields { dtype: Some(dtype), shape: Some(shape), offsets: Some(offsets) });
    }
    let Ok(pairs) = json::object(raw.get(), u64::MAX) else { return Ok(RawEntry::NotAnObject) };
    if let Some(key) = json::repeated(&pairs) {
        return Err(ErrorKind::TwiceKey { key: key.to_owned() }.into());
    }
    let field = |name: &str| pairs.iter().find(|(key, _)| key == name).map(|(_, raw)| *raw);
    let shape = field("shape");
    shape.map_or(Ok(()), |shape| check_dims(shape, limits))?;
    Ok(RawEntry::Fields { dtype: field("dtype"), shape, offsets: field("data_offsets") })
}

/// Counts dimensions before anything makes room for them.
fn check_dims(shape: Raw<'_>, limits: &Limits) -> Result<(), Error> {
    // A list of n needs n - 1 commas and two brackets, so most texts are too short to look at.
    let most = shape.get().len() as u64 / 2;
    let has =
        if most <= limits.dims { most } else { json::value::<Vec<IgnoredAny>>(shape).map_or(0, |d| d.len() as u64) };
    match has > limits.dims {
        true => Err(ErrorKind::Limit { limit: Limit::Dims, max: limits.dims, has }.into()),
        false => Ok(()),
    }
}

impl Outline<'_> {
    /// The header that it is the outline of, once the crate has read it.
    fn header(self, metadata: &Metadata, data_start: usize) -> Result<Header, Error> {
        let mut entries = Vec::with_capacity(self.tensors.len());
        for (name, _) in self.tensors {
            let Some(info) = metadata.info(&name) else { return Err(Error::from(ErrorKind::TwiceTensor).of(&name)) };
            let (begin, end) = info.data_offsets;
            entries.push(HeaderEntry { dtype: info.dtype, shape: info.shape.clone(), begin, end, name });
        }
        entries.sort_by_key(|entry| (entry.begin, entry.end));
        let metadata = metadata.metadata().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
        Ok(Header { entries, metadata, data_start })
    }

    fn largest_offset(&self) -> u64 {
        let offsets = self.tensors.iter().filter_map(|(_, entry)| match entry {
            RawEntry::Fields { offsets: Some(raw), .. } => json::value::<(u64, u64)>(raw),
            _ => None,
        });
        offsets.map(|(begin, end)| begin.max(end)).max().unwrap_or(0)
    }
}

//! Why a header is refused, in the order in which the `safetensors` crate looks.

use safetensors::SafeTensorError;

use super::{Outline, RawEntry};
use crate::dtype::{Dtype, parse_dtype};
use crate::error::{Error, ErrorKind, Fault};
use crate::json::{self, Raw};

/// An entry that could be read.
struct Entry<'a> {
    name: &'a str,
    dtype: Dtype,
    shape: Vec<u64>,
    begin: u64,
    end: u64,
}

/// The reason; `refusal` is what the crate said, where it was asked.
pub(super) fn diagnose(outline: &Outline<'_>, data_len: u64, refusal: Option<SafeTensorError>) -> Error {
    let found = look(outline, data_len).err();
    match (found, refusal) {
        (Some(error), Some(cause)) => error.because(cause),
        (Some(error), None) => error,
        (None, Some(cause)) => Error::from(ErrorKind::Refused { why: cause.to_string() }).because(cause),
        (None, None) => ErrorKind::Refused { why: "offsets lie beyond the file".to_owned() }.into(),
    }
}

fn look(outline: &Outline<'_>, data_len: u64) -> Result<(), Error> {
    if let Some(raw) = outline.metadata {
        check_metadata(raw)?;
    }
    let mut entries = Vec::with_capacity(outline.tensors.len());
    for (name, raw) in &outline.tensors {
        entries.push(read(name, raw).map_err(|fault| Error::from(ErrorKind::Entry(fault)).of(name))?);
    }
    entries.sort_by_key(|entry| (entry.begin, entry.end));
    let mut last: Option<&Entry<'_>> = None;
    for entry in &entries {
        place(entry, last).map_err(|kind| Error::from(kind).of(entry.name))?;
        size(entry).map_err(|kind| Error::from(kind).of(entry.name))?;
        if entry.end > data_len {
            let kind = ErrorKind::Truncated { needs: entry.end, has: data_len };
            return Err(Error::from(kind).of(entry.name));
        }
        last = Some(entry);
    }
    let end = last.map_or(0, |entry| entry.end);
    if end < data_len {
        return Err(ErrorKind::Trailing { end, has: data_len }.into());
    }
    Ok(())
}

fn check_metadata(raw: Raw<'_>) -> Result<(), Error> {
    if raw.get() == "null" {
        return Ok(());
    }
    let pairs = json::object(raw.get(), u64::MAX).map_err(|e| Error::from(ErrorKind::Metadata).because(e))?;
    if pairs.iter().any(|(_, raw)| json::value::<String>(raw).is_none()) {
        return Err(ErrorKind::Metadata.into());
    }
    Ok(())
}

fn read<'a>(name: &'a str, entry: &RawEntry<'_>) -> Result<Entry<'a>, Fault> {
    let RawEntry::Fields { dtype, shape, offsets } = entry else { return Err(Fault::NotAnObject) };
    let dtype = dtype.ok_or(Fault::Missing("dtype"))?;
    let shape = shape.ok_or(Fault::Missing("shape"))?;
    let offsets = offsets.ok_or(Fault::Missing("data_offsets"))?;
    let dtype: String = json::value(dtype).ok_or(Fault::DtypeNoText)?;
    let dtype = parse_dtype(&dtype).ok_or(Fault::DtypeUnknown(dtype))?;
    let shape = json::value(shape).ok_or(Fault::Shape)?;
    let (begin, end) = json::value(offsets).ok_or(Fault::Offsets)?;
    Ok(Entry { name, dtype, shape, begin, end })
}

/// Whether a tensor begins where the one before it ends.
fn place(entry: &Entry<'_>, last: Option<&Entry<'_>>) -> Result<(), ErrorKind> {
    let &Entry { begin, end, .. } = entry;
    let free = last.map_or(0, |last| last.end);
    if end < begin {
        return Err(ErrorKind::Reversed { begin, end });
    }
    match last {
        _ if begin > free => Err(ErrorKind::Hole { from: free, to: begin }),
        Some(last) if begin < free => Err(ErrorKind::Overlap { begin, other: last.name.to_owned(), end: free }),
        _ => Ok(()),
    }
}

/// Whether the offsets span what type and shape need.
fn size(entry: &Entry<'_>) -> Result<(), ErrorKind> {
    let Entry { dtype, shape, .. } = entry;
    let elements = shape.iter().try_fold(1u64, |n, &dim| n.checked_mul(dim));
    let bits = elements.and_then(|n| n.checked_mul(dtype.bitsize() as u64));
    let Some(bits) = bits.filter(|&bits| usize::try_from(bits).is_ok()) else {
        return Err(ErrorKind::Overflow { dtype: *dtype, shape: shape.clone() });
    };
    if !bits.is_multiple_of(8) {
        return Err(ErrorKind::PartByte { dtype: *dtype, shape: shape.clone(), bits });
    }
    let (needs, has) = (bits / 8, entry.end - entry.begin);
    if needs != has {
        return Err(ErrorKind::Size { dtype: *dtype, shape: shape.clone(), needs, has });
    }
    Ok(())
}

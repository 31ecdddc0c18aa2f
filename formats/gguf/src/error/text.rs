//! The sentences.

use std::fmt::{self, Write as _};

use niwaki_tensors::{Limit, OneLine};

use super::{Error, ErrorKind, Place};
use crate::ggml::is_retired;
use crate::header::MOST_ALIGNMENT;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let ErrorKind::File(error) = self.kind() {
            return error.fmt(f);
        }
        let f = &mut OneLine::new(f);
        if let Some(path) = self.path() {
            write!(f, "`{}`: ", path.display())?;
        }
        match (self.kind(), self.place()) {
            (ErrorKind::Twice, Place::Key(key)) => return write!(f, "the key `{key}` stands twice"),
            (ErrorKind::Twice, Place::Tensor(name)) => return write!(f, "two tensors are called `{name}`"),
            (_, Place::File) => {}
            (_, Place::Key(key)) => write!(f, "key `{key}`: ")?,
            (_, Place::KeyNumber(number)) => write!(f, "key {number}: ")?,
            (ErrorKind::Folder(_), Place::Tensor(name)) => write!(f, "tensor `{name}` ")?,
            (_, Place::Tensor(name)) => write!(f, "tensor `{name}`: ")?,
            (_, Place::TensorNumber(number)) => write!(f, "tensor {number}: ")?,
        }
        sentence(f, self.kind())
    }
}

/// `256x64`; without dimensions it is a `scalar`.
pub(crate) fn dims<T: fmt::Display>(dims: &[T]) -> String {
    if dims.is_empty() {
        return "scalar".to_owned();
    }
    dims.iter().map(ToString::to_string).collect::<Vec<_>>().join("x")
}

fn limit_text(f: &mut OneLine<'_, '_>, limit: Limit, max: u64, has: u64) -> fmt::Result {
    match limit {
        Limit::HeaderBytes => write!(f, "header has {has} bytes or more")?,
        Limit::Tensors => write!(f, "header says {has} tensors")?,
        Limit::NameBytes => write!(f, "its name has {has} bytes")?,
        Limit::Dims => write!(f, "{has} dimensions")?,
        _ => write!(f, "{has}")?,
    }
    write!(f, "; the limit is {max} (`{limit}`)")
}

fn sentence(f: &mut OneLine<'_, '_>, kind: &ErrorKind) -> fmt::Result {
    use ErrorKind::*;
    match kind {
        File(error) => write!(f, "{error}"),
        IsFolder => f.write_str("is a folder; a GGUF file is expected"),
        Short { has } => write!(f, "has {has} bytes; a GGUF file begins with 24"),
        Magic { found } => write!(f, "begins with `{}`; a GGUF file begins with `GGUF`", found.escape_ascii()),
        Version { found } => write!(f, "GGUF version {found} is not read; 2 and 3 are"),
        BigEndian { version } => write!(f, "GGUF version {version} for big-endian machines is not read"),
        Limit { limit, max, has } => limit_text(f, *limit, *max, *has),
        Count { what, says, fits } => {
            write!(f, "header says {says} {what}; the rest of the file has room for {fits} at most")
        }
        Cut { what, at, needs, has } => write!(f, "{what} at byte {at} needs {needs} bytes; the file has {has} more"),
        Utf8 { what, at } => write!(f, "{what} is not UTF-8 at byte {at}"),
        ValueType { found, at } => write!(f, "value type {found} at byte {at} is unknown; 0 to 12 are known"),
        Bool { found, at } => write!(f, "the bool at byte {at} is {found}; 0 or 1 is expected"),
        Nesting { max } => write!(f, "arrays in arrays are read to a depth of {max}; these are deeper"),
        Folder(fault) => write!(f, "{fault}"),
        NoName => f.write_str("its name is empty"),
        Twice => f.write_str("stands twice"),
        Alignment { found } => write!(f, "{found} is no power of two up to {MOST_ALIGNMENT}"),
        KeyType { found, expected } => write!(f, "is of type {found}; {expected} is expected"),
        NameBytes { has, max } => write!(f, "its name has {has} bytes; it may have {max}"),
        other => tensor_sentence(f, other),
    }
}

fn tensor_sentence(f: &mut OneLine<'_, '_>, kind: &ErrorKind) -> fmt::Result {
    use ErrorKind::*;
    match kind {
        Dims { has } => write!(f, "{has} dimensions; the format ends at 4"),
        Overflow { ggml: Some(ggml), dims: has } => {
            write!(f, "{ggml} {} does not fit into the address space", dims(has))
        }
        Overflow { ggml: None, dims: has } => write!(f, "{} does not fit into the address space", dims(has)),
        Row { ggml, row } => {
            let block = ggml.block_elements();
            write!(f, "rows of {row} elements are no whole blocks; {ggml} has blocks of {block}")
        }
        Offset { begin, alignment } => {
            write!(f, "begins at byte {begin} of the data; a multiple of {alignment} is expected")
        }
        Beyond { end, has } => write!(f, "ends at byte {end} of the data; the file has {has}"),
        Overlap { begin, other, end } => {
            write!(f, "begins at byte {begin} of the data, inside `{other}`, which ends at {end}")
        }
        UnknownType { id } if is_retired(*id) => write!(f, "type {id} is one that ggml has retired"),
        UnknownType { id } => write!(f, "type {id} is unknown"),
        NoEntry { index, has } => write!(f, "entry {index} was asked for; there are {has}"),
        Bounds { begin, len, has } => write!(f, "{len} bytes at byte {begin} were asked for; it has {has}"),
        other => write!(f, "{other:?}"),
    }
}

//! The sentences.

use std::fmt::{self, Write as _};

use super::one_line::OneLine;
use super::{Access, Error, ErrorKind, Place};
use crate::limits::MOST_BYTES;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let f = &mut OneLine::new(f);
        if let Some(path) = self.path() {
            write!(f, "`{}`: ", path.display())?;
        }
        match (self.kind(), self.place()) {
            (ErrorKind::Twice, Place::Tensor(name)) => return write!(f, "two initializers are called `{name}`"),
            (_, Place::File) => {}
            (_, Place::Tensor(name)) => write!(f, "tensor `{name}`: ")?,
            (_, Place::Attribute { node, op, attribute }) if node.is_empty() => {
                write!(f, "node without a name ({op}): attribute `{attribute}` ")?;
            }
            (_, Place::Attribute { node, op, attribute }) => {
                write!(f, "node `{node}` ({op}): attribute `{attribute}` ")?;
            }
        }
        model_sentence(f, self.kind())
    }
}

/// `256x64`; without dimensions it is a `scalar`.
pub(crate) fn dims<T: fmt::Display>(dims: &[T]) -> String {
    if dims.is_empty() {
        return "scalar".to_owned();
    }
    dims.iter().map(ToString::to_string).collect::<Vec<_>>().join("x")
}

fn model_sentence(f: &mut OneLine<'_, '_>, kind: &ErrorKind) -> fmt::Result {
    use ErrorKind::*;
    match kind {
        Io { access: Access::Open, error } => write!(f, "cannot be opened: {error}"),
        Io { access: Access::Write, error } => write!(f, "cannot be written: {error}"),
        Io { access: Access::Rename, error } => write!(f, "cannot take this name: {error}"),
        NotFile => f.write_str("is not a file; an ONNX model is expected"),
        Changed { had, has } if had == has => f.write_str("was written to while it was open"),
        Changed { had, has } => write!(f, "had {had} bytes when it was opened, has {has} now"),
        Limit { limit, max, has } => write!(f, "{has}; the limit is {max} (`Limits::{limit}`)"),
        Protobuf { message, says } => write!(f, "not an ONNX file (`{message}`): {says}"),
        NewerVersion { found, known, says } => {
            write!(f, "IR version {found} is not read; {known} is the newest one known: {says}")
        }
        NoGraph => f.write_str("the model has no graph"),
        NoOpset => f.write_str("the model imports no operator set; at least one is expected"),
        NoName { index } => write!(f, "initializer {index} has no name"),
        Exists => f.write_str("exists already"),
        FileNameUtf8 => f.write_str("the name is not UTF-8; external data beside it could not be referred to"),
        NoFileName => f.write_str("is no name of a file"),
        TooLarge { has } => write!(
            f,
            "the model needs {has} bytes; protobuf ends at {MOST_BYTES}, and larger models keep tensors in external data"
        ),
        NoAttribute { expected } => write!(f, "is not there; {expected} is expected"),
        AttributeTwice => f.write_str("stands twice"),
        AttributeType { found, expected } => write!(f, "is of type {found}; {expected} is expected"),
        AttributeReference { to } => write!(f, "refers to `{to}` of a function's caller; a value is expected"),
        other => tensor_sentence(f, other),
    }
}

fn tensor_sentence(f: &mut OneLine<'_, '_>, kind: &ErrorKind) -> fmt::Result {
    use ErrorKind::*;
    match kind {
        Twice => f.write_str("stands twice"),
        DataType { found } => write!(f, "data type {found} is unknown; 1 to 26 are known"),
        NegativeDim { dims: has } => write!(f, "negative dimension in {}", dims(has)),
        Overflow { dtype, dims: has } => write!(f, "{dtype} {} does not fit into the address space", dims(has)),
        Bytes { dtype, dims: shape, needs, has } => {
            write!(f, "{dtype} {} needs {needs} bytes, has {has}", dims(shape))
        }
        Count { field, dtype, dims: shape, needs, has } => {
            write!(f, "{dtype} {} needs {needs} values in `{field}`, has {has}", dims(shape))
        }
        Field { dtype, found, expected } => {
            write!(f, "values of {dtype} stand in `{found}`; `{expected}` or `raw_data` is expected")
        }
        Fields { one, other } => write!(f, "data in `{one}` and in `{other}`; one of them is expected"),
        Value { dtype, index, found } => write!(f, "value {index} is {found}, which {dtype} cannot hold"),
        Text => f.write_str("holds texts; numbers are expected"),
        NotText { dtype } => write!(f, "holds {dtype}; STRING is expected"),
        Utf8 => f.write_str("is not UTF-8"),
        Segment => f.write_str("is a segment of a tensor; a whole one is expected"),
        DataLocation { found } => write!(f, "data location {found} is unknown; 0 and 1 are known"),
        other => outside_sentence(f, other),
    }
}

fn outside_sentence(f: &mut OneLine<'_, '_>, kind: &ErrorKind) -> fmt::Result {
    use ErrorKind::*;
    match kind {
        NoFolder => f.write_str("has external data, and the model is in no folder"),
        InnerExternal => f.write_str("has external data and is no initializer of the graph; it is not written"),
        NoLocation => f.write_str("has external data without a `location`"),
        ExternalTwice { key } => write!(f, "`{key}` of its external data stands twice"),
        ExternalNumber { key, found } => {
            write!(f, "`{key}` of its external data is `{found}`; a number of bytes is expected")
        }
        Outside { location } => {
            write!(f, "external data in `{location}`; a file inside the model's folder is expected")
        }
        Beyond { location, offset, length, has } => {
            write!(f, "external data of {length} bytes at byte {offset} of `{location}`, which has {has}")
        }
        Positions { found, expected } => write!(f, "positions are {found}; {expected} is expected"),
        Position { index, found, expected } => write!(f, "position {index} is {found}; {expected} is expected"),
        other => write!(f, "{other:?}"),
    }
}

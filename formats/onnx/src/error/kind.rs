//! The kinds of error, with the numbers that their sentences need.

use std::io;

use super::Blame;
use crate::data_type::DataType;

/// What was attempted when the operating system said no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Access {
    /// Opening or mapping a file.
    Open,
    /// Writing a file.
    Write,
    /// Giving a finished file its name.
    Rename,
}

/// The kinds of [`Error`](super::Error).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// What the operating system refused.
    Io {
        /// What was attempted.
        access: Access,
        /// What it said.
        error: io::ErrorKind,
    },
    /// A folder, a pipe or a device where a file is expected.
    NotFile,
    /// A file that was written to while it was open.
    Changed {
        /// Bytes that it had.
        had: u64,
        /// Bytes that it has.
        has: u64,
    },
    /// A limit was passed.
    Limit {
        /// The field of [`Limits`](crate::Limits).
        limit: &'static str,
        /// Its value.
        max: u64,
        /// What was found.
        has: u64,
    },
    /// Bytes that are no message of the schema.
    Protobuf {
        /// `ModelProto`, or another message.
        message: &'static str,
        /// What the decoder says.
        says: String,
    },
    /// Bytes that are not read and declare a version of the format that is not known.
    NewerVersion {
        /// The version found.
        found: i64,
        /// The newest one known.
        known: i64,
        /// What the decoder says.
        says: String,
    },
    /// A model without a graph.
    NoGraph,
    /// A model that imports no operator set.
    NoOpset,
    /// An initializer without a name.
    NoName {
        /// Which of them, counted from 0.
        index: usize,
    },
    /// Two initializers of one name.
    Twice,
    /// A type that is not known.
    DataType {
        /// Its number.
        found: i32,
    },
    /// A negative dimension.
    NegativeDim {
        /// The dimensions.
        dims: Vec<i64>,
    },
    /// A tensor too large to be addressed.
    Overflow {
        /// Its type.
        dtype: DataType,
        /// Its dimensions.
        dims: Vec<i64>,
    },
    /// Another number of bytes than type and dimensions ask for.
    Bytes {
        /// The type.
        dtype: DataType,
        /// The dimensions.
        dims: Vec<usize>,
        /// Bytes that it needs.
        needs: usize,
        /// Bytes that it has.
        has: usize,
    },
    /// Another number of values than the dimensions ask for.
    Count {
        /// The field.
        field: &'static str,
        /// The type.
        dtype: DataType,
        /// The dimensions.
        dims: Vec<usize>,
        /// Values that it needs.
        needs: usize,
        /// Values that it has.
        has: usize,
    },
    /// Data in a field that does not hold values of the type.
    Field {
        /// The type.
        dtype: DataType,
        /// The field found.
        found: &'static str,
        /// The field expected.
        expected: &'static str,
    },
    /// Data in several places at once.
    Fields {
        /// One field.
        one: &'static str,
        /// Another one.
        other: &'static str,
    },
    /// A value that its type cannot hold.
    Value {
        /// The type.
        dtype: DataType,
        /// Which, counted from 0.
        index: usize,
        /// The value.
        found: i128,
    },
    /// Texts asked for as bytes.
    Text,
    /// Something else asked for as texts.
    NotText {
        /// The type.
        dtype: DataType,
    },
    /// A text that is not UTF-8.
    Utf8,
    /// A part of a tensor, where a whole one is expected.
    Segment,
    /// A place of data that is neither in the model nor outside.
    DataLocation {
        /// Its number.
        found: i32,
    },
    /// External data of a model that is in no folder.
    NoFolder,
    /// External data without a `location`.
    NoLocation,
    /// A key of external data that stands twice.
    ExternalTwice {
        /// The key.
        key: String,
    },
    /// An `offset` or `length` that is no number.
    ExternalNumber {
        /// The key.
        key: String,
        /// What stands there.
        found: String,
    },
    /// A `location` that leads out of the model's folder.
    Outside {
        /// The location.
        location: String,
    },
    /// External data that ends after its file.
    Beyond {
        /// The location.
        location: String,
        /// Where the data begins.
        offset: u64,
        /// Its length.
        length: u64,
        /// Bytes of the file.
        has: u64,
    },
    /// Positions of a sparse tensor that do not fit its values.
    Positions {
        /// What they are.
        found: String,
        /// What is expected.
        expected: String,
    },
    /// A position of a sparse tensor outside its dimensions, or not after the one before.
    Position {
        /// Which, counted from 0.
        index: usize,
        /// The position.
        found: i64,
        /// What is expected.
        expected: &'static str,
    },
    /// An attribute that is needed and not there.
    NoAttribute {
        /// The type expected.
        expected: &'static str,
    },
    /// An attribute that stands twice.
    AttributeTwice,
    /// An attribute of another type.
    AttributeType {
        /// The type found.
        found: String,
        /// The type expected.
        expected: &'static str,
    },
    /// An attribute of a function's caller.
    AttributeReference {
        /// The caller's attribute.
        to: String,
    },
    /// An output that exists.
    Exists,
    /// External data of a tensor that is no initializer of the graph, where a model is written.
    InnerExternal,
    /// A file name that external data cannot refer to.
    FileNameUtf8,
    /// A path without a file's name.
    NoFileName,
    /// A model larger than protobuf allows.
    TooLarge {
        /// Its bytes.
        has: u64,
    },
}

impl ErrorKind {
    pub(crate) fn blame(&self) -> Blame {
        match self {
            Self::Io { .. } => Blame::Io,
            Self::Changed { .. } => Blame::Environment,
            Self::Limit { .. } => Blame::Limit,
            Self::InnerExternal | Self::NotFile | Self::NoFolder | Self::Text | Self::NotText { .. } => Blame::Caller,
            Self::Exists | Self::NoFileName | Self::FileNameUtf8 | Self::TooLarge { .. } => Blame::Caller,
            _ => Blame::Input,
        }
    }
}

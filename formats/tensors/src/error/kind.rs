//! The kinds of error, with the numbers that their sentences need.

use std::io;

use super::Blame;
use crate::dtype::Dtype;
use crate::limits::Limit;

/// The kinds of [`Error`](super::Error). Byte positions count from the beginning of the
/// data, which follows the header.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system refused.
    Io {
        /// What was asked of it.
        access: Access,
        /// What it said.
        error: io::ErrorKind,
    },
    /// Neither a file nor a folder: a device, a pipe.
    NotAFile,
    /// A folder in which there is no checkpoint.
    NothingFound,
    /// A folder with several safetensors files, or several indexes, and no way to choose.
    Several {
        /// Their names, sorted.
        found: Vec<String>,
    },
    /// A limit was passed.
    Limit {
        /// Which.
        limit: Limit,
        /// Its value.
        max: u64,
        /// What was found.
        has: u64,
    },
    /// A file shorter than the eight bytes that every file begins with.
    Short {
        /// Bytes of the file.
        has: u64,
    },
    /// A header longer than the format allows.
    HeaderBeyondFormat {
        /// Bytes that the file says its header has.
        says: u64,
    },
    /// A header longer than the file.
    HeaderBeyondFile {
        /// Bytes that the file says its header has.
        says: u64,
        /// Bytes that follow.
        has: u64,
    },
    /// A header that is not UTF-8.
    HeaderUtf8 {
        /// The first wrong byte, counted from the beginning of the header.
        at: usize,
    },
    /// A header that is not JSON, or not an object.
    HeaderJson {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// Two tensors of one name.
    TwiceTensor,
    /// A key that stands twice, in a tensor's entry or in the metadata.
    TwiceKey {
        /// The key.
        key: String,
    },
    /// Metadata that is not an object of texts.
    Metadata,
    /// A tensor's entry that cannot be read.
    Entry(Fault),
    /// A tensor that ends before it begins.
    Reversed {
        /// Its first byte.
        begin: u64,
        /// The byte after its last.
        end: u64,
    },
    /// Bytes before a tensor that belong to none.
    Hole {
        /// The first.
        from: u64,
        /// The beginning of the tensor.
        to: u64,
    },
    /// A tensor that begins inside another.
    Overlap {
        /// Its first byte.
        begin: u64,
        /// The other tensor.
        other: String,
        /// Where the other ends.
        end: u64,
    },
    /// A shape whose size does not fit into the address space.
    Overflow {
        /// The type.
        dtype: Dtype,
        /// The shape.
        shape: Vec<u64>,
    },
    /// A tensor whose bits fill no whole number of bytes.
    PartByte {
        /// The type.
        dtype: Dtype,
        /// The shape.
        shape: Vec<u64>,
        /// The bits.
        bits: u64,
    },
    /// Offsets that do not span what type and shape need.
    Size {
        /// The type.
        dtype: Dtype,
        /// The shape.
        shape: Vec<u64>,
        /// Bytes that they need.
        needs: u64,
        /// Bytes between the offsets.
        has: u64,
    },
    /// A tensor that ends beyond the file.
    Truncated {
        /// Where the tensor ends.
        needs: u64,
        /// Where the data ends.
        has: u64,
    },
    /// Data that belongs to no tensor, at the end of the file.
    Trailing {
        /// Where the tensors end.
        end: u64,
        /// Where the data ends.
        has: u64,
    },
    /// A file that the safetensors crate refuses for a reason of its own.
    Refused {
        /// Its words.
        why: String,
    },
    /// An index that is not JSON, or not one of ours.
    IndexJson {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// An index without `weight_map`.
    IndexNoMap,
    /// A shard name that is not a plain path inside the folder.
    ShardPath {
        /// The name.
        shard: String,
    },
    /// A tensor that the index places in a file that does not have it.
    IndexMissing {
        /// The file.
        shard: String,
    },
    /// A tensor that the index places in another file than the one that has it.
    IndexElsewhere {
        /// The file that the index names.
        says: String,
        /// The file that has it.
        has: String,
    },
    /// A tensor of a shard that the index does not name.
    IndexUnlisted {
        /// The file that has it.
        shard: String,
    },
    /// A tensor that two shards have.
    TwoShards {
        /// The one file.
        first: String,
        /// The other.
        second: String,
    },
    /// A file that changed while it was mapped.
    Changed {
        /// Bytes when it was opened.
        had: u64,
        /// Bytes now.
        has: u64,
    },
    /// A file that could not be mapped.
    Unmapped {
        /// Its bytes.
        bytes: u64,
    },
    /// A type that is not decoded to `f32`.
    NoDecode {
        /// The type.
        dtype: Dtype,
    },
    /// A range of elements that the tensor does not have.
    Elements {
        /// The first.
        begin: usize,
        /// The one after the last.
        end: usize,
        /// How many the tensor has.
        has: usize,
    },
    /// A range of elements that begins or ends inside a byte.
    InsideByte {
        /// The first.
        begin: usize,
        /// The one after the last.
        end: usize,
        /// The type.
        dtype: Dtype,
    },
    /// A buffer of the wrong length.
    Buffer {
        /// Elements that are needed.
        needs: usize,
        /// Elements that it has.
        has: usize,
    },
    /// An output that exists.
    Exists,
    /// An output whose name is that of a folder.
    IsFolder,
    /// An output that is no regular file.
    NotRegular,
    /// An output that is marked read-only.
    ReadOnly,
    /// An output path without a file name.
    NoName,
    /// An output whose folder does not exist.
    NoFolder,
    /// An output that another process is writing.
    Busy,
    /// A name that the format or the pads use.
    Reserved,
    /// A header that does not fit into the room reserved for it.
    HeaderRoom {
        /// Bytes that it needs.
        needs: usize,
        /// Bytes reserved.
        has: usize,
    },
    /// An entry that the layout does not have.
    NoEntry {
        /// The index asked for.
        index: usize,
        /// How many there are.
        has: usize,
    },
    /// Bytes to write or read that do not lie inside their tensor.
    Bounds {
        /// The first byte in the tensor.
        begin: u64,
        /// How many.
        len: u64,
        /// How many bytes the tensor has.
        has: u64,
    },
    /// A tensor given with the wrong number of bytes.
    Given {
        /// Bytes that type and shape need.
        needs: u64,
        /// Bytes given.
        has: u64,
    },
}

/// What was asked of the operating system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Access {
    /// To read, or to look.
    Read,
    /// To make or write a file.
    Write,
    /// To give a finished file its name.
    Rename,
}

/// What is wrong with a tensor's entry in the header.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// It is not an object.
    NotAnObject,
    /// A key is missing.
    Missing(&'static str),
    /// The type is no text.
    DtypeNoText,
    /// The type is not one of the format.
    DtypeUnknown(String),
    /// The shape is not a list of whole numbers from 0.
    Shape,
    /// The offsets are not two whole numbers from 0.
    Offsets,
}

impl ErrorKind {
    pub(super) fn blame(&self) -> Blame {
        match self {
            Self::Io { error: io::ErrorKind::NotFound, .. } => Blame::Caller,
            Self::Io { .. } => Blame::Io,
            Self::Limit { .. } => Blame::Limit,
            Self::Changed { .. } | Self::Unmapped { .. } | Self::Busy => Blame::Environment,
            Self::NotAFile | Self::NothingFound | Self::Several { .. } => Blame::Caller,
            Self::NoDecode { .. } | Self::Elements { .. } | Self::InsideByte { .. } | Self::Buffer { .. } => {
                Blame::Caller
            }
            Self::Exists | Self::IsFolder | Self::NotRegular | Self::ReadOnly | Self::NoName | Self::NoFolder => {
                Blame::Caller
            }
            Self::Reserved | Self::HeaderRoom { .. } | Self::NoEntry { .. } | Self::Bounds { .. } => Blame::Caller,
            Self::Given { .. } => Blame::Caller,
            _ => Blame::Input,
        }
    }

    pub(super) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Several { .. } => Some("name one of them"),
            Self::Changed { .. } => Some("run again when nothing else writes to it"),
            Self::Truncated { .. } | Self::HeaderBeyondFile { .. } | Self::Short { .. } => {
                Some("the download or copy may be incomplete")
            }
            _ => None,
        }
    }
}

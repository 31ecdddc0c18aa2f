//! The kinds of error, with the numbers that their sentences need.

use niwaki_tensors::{Blame, Limit};

use crate::ggml::GgmlType;
use crate::hf::FolderFault;
use crate::value::ValueType;

/// The kinds of [`Error`](super::Error). `at` counts bytes from the beginning of the file,
/// `begin` and `end` from the beginning of the data.
#[derive(Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A file that could not be opened or written.
    File(niwaki_tensors::Error),
    /// A folder where a file is expected.
    IsFolder,
    /// A file shorter than what every file begins with.
    Short {
        /// Its bytes.
        has: u64,
    },
    /// A file that begins with something else than `GGUF`.
    Magic {
        /// Its first four bytes.
        found: [u8; 4],
    },
    /// A version that is not read.
    Version {
        /// The version found.
        found: u32,
    },
    /// A file for big-endian machines.
    BigEndian {
        /// Its version.
        version: u32,
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
    /// More keys or tensors than the file has room for.
    Count {
        /// `keys` or `tensors`.
        what: &'static str,
        /// As the header says.
        says: u64,
        /// How many at most would fit into the rest of the file.
        fits: u64,
    },
    /// Something that ends after the file.
    Cut {
        /// What it is.
        what: &'static str,
        /// Where it begins.
        at: u64,
        /// Bytes that it needs at least.
        needs: u64,
        /// Bytes that the file still has.
        has: u64,
    },
    /// A text that is not UTF-8.
    Utf8 {
        /// What it is.
        what: &'static str,
        /// The first wrong byte.
        at: u64,
    },
    /// A type of value that the format does not have.
    ValueType {
        /// The number found.
        found: u32,
        /// Where.
        at: u64,
    },
    /// A bool that is neither 0 nor 1.
    Bool {
        /// The byte found.
        found: u8,
        /// Where.
        at: u64,
    },
    /// Arrays of arrays of arrays.
    Nesting {
        /// How deep they may be.
        max: usize,
    },
    /// A key or a tensor without a name.
    NoName,
    /// A key or a tensor's name that stands twice.
    Twice,
    /// An alignment that is no power of two.
    Alignment {
        /// The number found.
        found: u32,
    },
    /// A key whose value has another type.
    KeyType {
        /// The type found.
        found: ValueType,
        /// The type expected.
        expected: ValueType,
    },
    /// A name longer than the format allows.
    NameBytes {
        /// Its bytes.
        has: u64,
        /// The most it may have.
        max: u64,
    },
    /// More dimensions than the format allows.
    Dims {
        /// How many.
        has: u64,
    },
    /// A tensor too large to be addressed.
    Overflow {
        /// Its type.
        ggml: Option<GgmlType>,
        /// Its dimensions, the last of which is a row.
        dims: Vec<u64>,
    },
    /// A row that is no whole number of blocks.
    Row {
        /// The type.
        ggml: GgmlType,
        /// Elements of a row.
        row: u64,
    },
    /// A tensor that begins between two multiples of the alignment.
    Offset {
        /// Where it begins.
        begin: u64,
        /// The alignment.
        alignment: u64,
    },
    /// A tensor that ends after the file.
    Beyond {
        /// Where it ends.
        end: u64,
        /// Bytes of data that the file has.
        has: u64,
    },
    /// A tensor that begins inside another one.
    Overlap {
        /// Where it begins.
        begin: u64,
        /// The other one.
        other: String,
        /// Where that one ends.
        end: u64,
    },
    /// A type of tensor that ggml does not have, or has no more.
    UnknownType {
        /// Its number.
        id: u32,
    },
    /// A Hugging Face folder that cannot be described as GGUF.
    Folder(FolderFault),
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
}

impl ErrorKind {
    pub(super) fn blame(&self) -> Blame {
        match self {
            Self::File(error) => error.blame(),
            Self::Limit { .. } => Blame::Limit,
            Self::IsFolder | Self::NoEntry { .. } | Self::Bounds { .. } => Blame::Caller,
            _ => Blame::Input,
        }
    }

    pub(super) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::File(error) => error.hint(),
            Self::Short { .. } | Self::Cut { .. } | Self::Beyond { .. } | Self::Count { .. } => {
                Some("the download or copy may be incomplete")
            }
            Self::Folder(fault) => fault.hint(),
            Self::Version { found: 1 } => Some("convert the model again with a current converter"),
            _ => None,
        }
    }
}

//! Bounds on what a file may ask of us.

use std::fmt;

/// The largest header that the format allows, in bytes.
pub(crate) const FORMAT_HEADER_BYTES: u64 = 100_000_000;

/// Bounds on headers and indexes; a value passed to whatever reads.
///
/// # Examples
///
/// ```
/// use niwaki_tensors::Limits;
///
/// let limits = Limits { tensors: 100, ..Limits::default() };
/// assert_eq!(limits.dims, 8);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one file's header. The format itself ends at 100 MB, whatever stands here.
    pub header_bytes: u64,
    /// Tensors in one file, and in one index.
    pub tensors: u64,
    /// Bytes of a tensor's name.
    pub name_bytes: u64,
    /// Dimensions of a tensor.
    pub dims: u64,
    /// Bytes of an index file, and of a `config.json`.
    pub index_bytes: u64,
    /// Files that an index names.
    pub shards: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_bytes: FORMAT_HEADER_BYTES,
            tensors: 1_000_000,
            name_bytes: 4096,
            dims: 8,
            index_bytes: 100_000_000,
            shards: 10_000,
        }
    }
}

/// Which of the [`Limits`] was passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Limit {
    /// [`Limits::header_bytes`].
    HeaderBytes,
    /// [`Limits::tensors`].
    Tensors,
    /// [`Limits::name_bytes`].
    NameBytes,
    /// [`Limits::dims`].
    Dims,
    /// [`Limits::index_bytes`].
    IndexBytes,
    /// [`Limits::shards`].
    Shards,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HeaderBytes => "Limits::header_bytes",
            Self::Tensors => "Limits::tensors",
            Self::NameBytes => "Limits::name_bytes",
            Self::Dims => "Limits::dims",
            Self::IndexBytes => "Limits::index_bytes",
            Self::Shards => "Limits::shards",
        })
    }
}

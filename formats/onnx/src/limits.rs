//! Bounds on what a file may ask of us.

/// Bounds on models and their tensors; a value passed to whatever reads.
///
/// # Examples
///
/// ```
/// use niwaki_onnx::Limits;
///
/// let limits = Limits { dims: 8, ..Limits::default() };
/// assert_eq!(limits.file_bytes, 2_147_483_647);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a model's own file, external data apart. Protobuf itself ends at 2 GiB.
    pub file_bytes: u64,
    /// Bytes of one file of external data.
    pub external_bytes: u64,
    /// Bytes of a sparse tensor once it is written out: few bytes may stand for many zeros.
    pub expanded_bytes: u64,
    /// Dimensions of a tensor.
    pub dims: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { file_bytes: MOST_BYTES, external_bytes: 1 << 42, expanded_bytes: 1 << 30, dims: 32 }
    }
}

/// The largest message that protobuf allows, in bytes.
pub const MOST_BYTES: u64 = i32::MAX as u64;

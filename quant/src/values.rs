//! Weights as they lie in a file: little-endian bytes of any alignment.

use core::ops::Range;

use niwaki_codes::half_floats::{read_f32, widen_bf16};
use niwaki_codes::simd::Level;

use crate::kernels::widen_f16;
use crate::round::Ahead;

/// Borrowed weights of one dtype, still encoded.
#[derive(Clone, Copy, Debug)]
pub enum Values<'a> {
    /// IEEE single precision, four bytes each.
    F32(&'a [u8]),
    /// IEEE half precision, two bytes each.
    F16(&'a [u8]),
    /// bfloat16, two bytes each.
    Bf16(&'a [u8]),
}

impl<'a> Values<'a> {
    /// How many whole weights there are.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(bytes) => bytes.len() / 4,
            Self::F16(bytes) | Self::Bf16(bytes) => bytes.len() / 2,
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The weights of `range`, cut at the end of what there is.
    pub fn slice(&self, range: Range<usize>) -> Self {
        let end = range.end.min(self.len());
        let start = range.start.min(end);
        let cut = |bytes: &'a [u8], size: usize| bytes.get(start * size..end * size).unwrap_or(&[]);
        match self {
            Self::F32(bytes) => Self::F32(cut(bytes, 4)),
            Self::F16(bytes) => Self::F16(cut(bytes, 2)),
            Self::Bf16(bytes) => Self::Bf16(cut(bytes, 2)),
        }
    }

    /// What comes from the weight `at` on.
    pub(crate) fn ahead(&self, at: usize) -> Ahead<'a> {
        let (bytes, size): (&'a [u8], usize) = match self {
            Self::F32(bytes) => (bytes, 4),
            Self::F16(bytes) | Self::Bf16(bytes) => (bytes, 2),
        };
        Ahead { bytes: bytes.get(at * size..).unwrap_or(&[]), size, begun: 0 }
    }

    /// Widens weights into `out` from the first on; stops at the shorter side.
    pub fn decode(&self, level: Level, out: &mut [f32]) {
        match self {
            Self::F32(bytes) => read_f32(level, bytes, out),
            Self::F16(bytes) => widen_f16(level, bytes, out),
            Self::Bf16(bytes) => widen_bf16(level, bytes, out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_holds_whole_weights_of_the_range() {
        let bytes: [u8; 9] = [0, 0, 0x80, 0x3F, 0, 0, 0, 0x40, 0xFF];
        let values = Values::F32(&bytes);
        assert_eq!((values.len(), values.is_empty()), (2, false));
        let mut out = [9.0; 3];
        values.slice(1..7).decode(Level::Scalar, &mut out);
        assert_eq!(out, [2.0, 9.0, 9.0]);
        assert!(values.slice(2..9).is_empty());
        Values::Bf16(&bytes[..8]).slice(1..4).decode(Level::Scalar, &mut out);
        assert_eq!(out, [1.0, 0.0, 2.0]);
    }
}

//! Between a row of weights and its kept ones.

use crate::simd::Level;
use crate::{Error, ErrorKind};

#[cfg(target_arch = "x86_64")]
use super::x86_64;

/// What a mask can move: numbers and raw bytes of 1, 2, 4 or 8 bytes.
///
/// Raw bytes (`[u8; 2]` for BF16, say) need no alignment.
pub trait Cell: sealed::Sealed + Copy {
    /// The value of a dropped weight: all bytes zero, for floats exactly +0.
    const ZERO: Self;
}

mod sealed {
    /// Implemented for types without padding in which all bit patterns are values.
    pub trait Sealed {}
}

macro_rules! cells {
    ($($cell:ty: $zero:expr),* $(,)?) => {
        $(
            impl sealed::Sealed for $cell {}
            impl Cell for $cell {
                const ZERO: Self = $zero;
            }
        )*
    };
}
cells!(
    f32: 0.0, u8: 0, u16: 0, u32: 0, u64: 0, half::f16: half::f16::ZERO, half::bf16: half::bf16::ZERO,
    [u8; 1]: [0; 1], [u8; 2]: [0; 2], [u8; 4]: [0; 4], [u8; 8]: [0; 8],
);

/// Moves the kept values of one row to the front of `out` and says how many they are;
/// `out` stays as it is past them.
///
/// `bits` is the row's part of a mask; bits past the end of the row do not count.
///
/// ```
/// use niwaki_codes::{mask, simd::Level};
///
/// let mut kept = [0.0; 2];
/// assert_eq!(mask::gather(Level::best(), &[0b101], &[1.5, 2.5, 3.5], &mut kept)?, 2);
/// assert_eq!(kept, [1.5, 3.5]);
/// # Ok::<(), niwaki_codes::Error>(())
/// ```
///
/// # Errors
///
/// [`ErrorKind::PartLength`] if `bits` is not as long as the row asks for,
/// [`ErrorKind::Range`] if `out` is too short.
pub fn gather<T: Cell>(level: Level, bits: &[u8], values: &[T], out: &mut [T]) -> Result<usize, Error> {
    let kept = kept(bits, values.len())?;
    let has = out.len();
    let out = out.get_mut(..kept).ok_or(ErrorKind::Range { needs: kept, has })?;
    #[cfg(target_arch = "x86_64")]
    if x86_64::gather(level, bits, values, out) {
        return Ok(kept);
    }
    let _ = level;
    gather_scalar(bits, values, out);
    Ok(kept)
}

/// Puts the kept values of one row of `out.len()` weights back in their places, with
/// exact zeros between them, and says how many of `kept` that took.
///
/// ```
/// use niwaki_codes::{mask, simd::Level};
///
/// let mut row = [9.0; 3];
/// assert_eq!(mask::scatter(Level::best(), &[0b101], &[1.5, 3.5, 4.5], &mut row)?, 2);
/// assert_eq!(row, [1.5, 0.0, 3.5]);
/// # Ok::<(), niwaki_codes::Error>(())
/// ```
///
/// # Errors
///
/// [`ErrorKind::PartLength`] if `bits` is not as long as the row asks for,
/// [`ErrorKind::Range`] if `kept` is too short.
pub fn scatter<T: Cell>(level: Level, bits: &[u8], kept: &[T], out: &mut [T]) -> Result<usize, Error> {
    let needs = self::kept(bits, out.len())?;
    let kept = kept.get(..needs).ok_or(ErrorKind::Range { needs, has: kept.len() })?;
    #[cfg(target_arch = "x86_64")]
    if x86_64::scatter(level, bits, kept, out) {
        return Ok(needs);
    }
    let _ = level;
    scatter_scalar(bits, kept, out);
    Ok(needs)
}

/// How many of the first `cols` bits are set, where `bits` is of the right length.
fn kept(bits: &[u8], cols: usize) -> Result<usize, Error> {
    super::MaskView::new(1, cols, bits).map(|row| row.kept())
}

/// Up to 64 mask bits as a word, lowest bit first; only the lowest `weights` may be set.
#[inline(always)]
pub(crate) fn word(bits: &[u8], weights: usize) -> u64 {
    let all = match bits.first_chunk::<8>() {
        Some(bytes) => u64::from_le_bytes(*bytes),
        None => bits.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    };
    all & u64::MAX.checked_shr(64u32.saturating_sub(weights as u32)).unwrap_or(0)
}

/// The definition of [`gather`]; `out` has room for exactly the kept.
pub(super) fn gather_scalar<T: Cell>(bits: &[u8], values: &[T], out: &mut [T]) {
    let mut out = out.iter_mut();
    for (values, bits) in values.chunks(64).zip(bits.chunks(8)) {
        let mut left = word(bits, values.len());
        while left != 0 {
            if let (Some(value), Some(slot)) = (values.get(left.trailing_zeros() as usize), out.next()) {
                *slot = *value;
            }
            left &= left - 1;
        }
    }
}

/// The definition of [`scatter`]; `kept` holds exactly the kept.
pub(super) fn scatter_scalar<T: Cell>(bits: &[u8], kept: &[T], out: &mut [T]) {
    let mut kept = kept.iter();
    for (out, bits) in out.chunks_mut(64).zip(bits.chunks(8)) {
        out.fill(T::ZERO);
        let mut left = word(bits, out.len());
        while left != 0 {
            if let (Some(slot), Some(value)) = (out.get_mut(left.trailing_zeros() as usize), kept.next()) {
                *slot = *value;
            }
            left &= left - 1;
        }
    }
}

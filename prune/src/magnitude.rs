//! Magnitudes as integers.
//!
//! The bits of |w|, read as an unsigned number, order finite floats as |w| does, so
//! that comparing, counting and ties are exact. -0 and +0 are equal.

use niwaki_codes::stamp;

use crate::{Error, ErrorKind};

/// The bits of infinity; NaNs lie above.
const INFINITE: u32 = 0x7f80_0000;

/// |w| as a number that orders like it.
#[inline(always)]
pub(crate) fn magnitude(w: f32) -> u32 {
    w.to_bits() & 0x7fff_ffff
}

stamp! {
    /// Whether some weight is infinite or NaN.
    fn some_not_finite = some_not_finite_body(weights: &[f32]) -> bool;
}

#[inline(always)]
fn some_not_finite_body(weights: &[f32]) -> bool {
    weights.iter().fold(0, |most, w| magnitude(*w).max(most)) >= INFINITE
}

/// Refuses weights without a magnitude; `at` is where the first weight stands in the tensor.
pub(crate) fn finite(level: niwaki_codes::simd::Level, at: u64, weights: &[f32]) -> Result<(), Error> {
    if !some_not_finite(level, weights) {
        return Ok(());
    }
    match weights.iter().zip(at..).find(|(w, _)| !w.is_finite()) {
        Some((value, index)) => Err(ErrorKind::NotFinite { index, value: *value }.into()),
        None => Ok(()),
    }
}

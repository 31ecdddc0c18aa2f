//! Grids of evenly spaced codes: scale and zero point from the range of a group.
//!
//! ```text
//! code = clamp(rne(x / scale) + zero, 0, 2^bits - 1)      x' = scale * (code - zero)
//! ```
//!
//! `rne` is to nearest, ties to even. On a symmetric grid `zero` is 2^(bits-1) and the
//! scale may be negative: the end of larger magnitude takes code 0, exactly.

use niwaki_codes::half_floats::{f16_to_f32, f32_to_f16};
use niwaki_codes::{Bits, ScaleType, Symmetry, Uniform, stamp};

/// Scale and zero point of one group, as they are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GridPoint {
    /// Distance between neighbouring codes.
    pub scale: f32,
    /// The code that decodes to 0; 2^(bits-1) on a symmetric grid.
    pub zero: u8,
}

/// Adding and taking away 1.5 * 2^23 rounds a float below 2^22 to nearest, ties to
/// even; in between, the integer stands in the low bits.
pub(crate) const ROUNDER: f32 = 12_582_912.0;

/// Keys at and above this are of infinities and NaN.
pub(crate) const NOT_FINITE: u32 = 0xFF00_0000;

/// A number that orders floats by magnitude, the negative one of two first.
#[inline(always)]
pub(crate) fn key(x: f32) -> u32 {
    x.to_bits().rotate_left(1)
}

stamp! {
    /// Whether there is no infinity or NaN.
    pub(crate) fn all_finite = all_finite_body(x: &[f32]) -> bool;
}

#[inline(always)]
fn all_finite_body(x: &[f32]) -> bool {
    let mut most = 0;
    for x in x {
        most = key(*x).max(most);
    }
    most < NOT_FINITE
}

/// The inverse of [`key`].
#[inline(always)]
pub(crate) fn from_key(key: u32) -> f32 {
    f32::from_bits(key.rotate_right(1))
}

/// What grids of one scheme have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grid {
    pub(crate) bits: Bits,
    pub(crate) symmetry: Symmetry,
    pub(crate) scales: ScaleType,
}

/// What a group spans: the key of its largest magnitude and, with 0, its ends.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Extent {
    pub(crate) key: u32,
    pub(crate) low: f32,
    pub(crate) high: f32,
}

impl Grid {
    pub(crate) fn of(scheme: &Uniform) -> Self {
        Self { bits: scheme.bits, symmetry: scheme.symmetry, scales: scheme.scale_type() }
    }

    /// Codes above zero: the largest code.
    #[inline(always)]
    pub(crate) fn top(&self) -> f32 {
        (self.bits.levels() - 1) as f32
    }

    /// The code of 0 on a symmetric grid.
    #[inline(always)]
    pub(crate) fn half(&self) -> u8 {
        self.bits.half() as u8
    }

    /// The stored scale nearest to `raw`: never 0 for a `raw` that is not, infinite
    /// where F16 cannot hold it.
    #[inline(always)]
    pub(crate) fn stored(&self, raw: f32) -> f32 {
        let (rounded, least) = match self.scales {
            ScaleType::F16 => (f16_to_f32(f32_to_f16(raw)), 5.960_464_5e-8),
            ScaleType::F32 => (raw, f32::MIN_POSITIVE),
        };
        let tiny = raw != 0.0 && rounded.abs() < least;
        if tiny { least.copysign(raw) } else { rounded }
    }

    /// The scale, not yet rounded to its stored type, that puts the largest magnitude
    /// on code 0 of a symmetric grid.
    #[inline(always)]
    pub(crate) fn symmetric_scale(&self, key: u32) -> f32 {
        let extreme = from_key(key);
        let scale = -extreme * (1.0 / self.bits.half() as f32);
        let scale = if scale.abs() < f32::MIN_POSITIVE { f32::MIN_POSITIVE.copysign(-extreme) } else { scale };
        if extreme == 0.0 { 0.0 } else { scale }
    }

    /// The scale, not yet rounded, that spreads all codes from `low` to `high`, and
    /// `low <= 0 <= high`. Beyond half the range of `f32` the grid ends before the
    /// weights do, so that every code decodes to a finite number.
    #[inline(always)]
    pub(crate) fn affine_scale(&self, low: f32, high: f32) -> f32 {
        let scale = high / self.top() - low / self.top();
        let most = f32::MAX / self.bits.levels() as f32;
        let scale = if scale < most { scale } else { most };
        let scale = if scale < f32::MIN_POSITIVE { f32::MIN_POSITIVE } else { scale };
        if low == high { 0.0 } else { scale }
    }

    /// The code nearest to 0 on a grid of stored `scale` that starts at `low`.
    #[inline(always)]
    pub(crate) fn affine_zero(&self, low: f32, scale: f32) -> f32 {
        let steps = if scale == 0.0 { 0.0 } else { -low / scale };
        let steps = if steps > 0.0 { steps } else { 0.0 };
        let steps = if steps < self.top() { steps } else { self.top() };
        (steps + ROUNDER) - ROUNDER
    }

    /// The grid of an extent as it is: the fit `min_max`.
    #[inline(always)]
    pub(crate) fn min_max(&self, extent: Extent) -> GridPoint {
        match self.symmetry {
            Symmetry::Symmetric => {
                GridPoint { scale: self.stored(self.symmetric_scale(extent.key)), zero: self.half() }
            }
            Symmetry::Affine => {
                let scale = self.stored(self.affine_scale(extent.low, extent.high));
                GridPoint { scale, zero: self.affine_zero(extent.low, scale) as u8 }
            }
        }
    }

    /// The constants that quantize on a point of this grid.
    #[inline(always)]
    pub(crate) fn ruler(&self, point: GridPoint) -> Ruler {
        Ruler::new(point.scale, inverse(point.scale), point.zero.into(), self.top())
    }
}

/// 1 / scale; 0 for no scale and for one that overflowed.
#[inline(always)]
pub(crate) fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

/// What makes a code of the bits of a rounded float: a zero point less [`ROUNDER`]'s.
#[inline(always)]
pub(crate) fn shift(zero: f32) -> u32 {
    (zero + ROUNDER).to_bits().wrapping_sub(ROUNDER.to_bits()).wrapping_sub(ROUNDER.to_bits())
}

/// The constants of one group while its weights are quantized.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ruler {
    pub(crate) scale: f32,
    pub(crate) inverse: f32,
    pub(crate) low: f32,
    pub(crate) high: f32,
    pub(crate) shift: u32,
}

impl Ruler {
    #[inline(always)]
    pub(crate) fn new(scale: f32, inverse: f32, zero: f32, top: f32) -> Self {
        Self { scale, inverse, low: -zero, high: top - zero, shift: shift(zero) }
    }

    /// The code of `x` less the zero point, plus [`ROUNDER`].
    #[inline(always)]
    pub(crate) fn rounded(&self, x: f32) -> f32 {
        steps(x, self.inverse, self.low, self.high)
    }
}

/// `x * inverse`, clamped and rounded to an integer, plus [`ROUNDER`].
#[inline(always)]
pub(crate) fn steps(x: f32, inverse: f32, low: f32, high: f32) -> f32 {
    let t = x * inverse;
    let t = if t > low { t } else { low };
    let t = if t < high { t } else { high };
    t + ROUNDER
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRID: Grid = Grid { bits: Bits::MIN, symmetry: Symmetry::Symmetric, scales: ScaleType::F16 };

    #[test]
    fn keys_order_by_magnitude_and_put_the_negative_above() {
        let rising = [0.0, -0.0, 1e-45, -1e-45, 0.5, -0.5, f32::MAX, f32::MIN];
        assert!(rising.windows(2).all(|w| key(w[0]) < key(w[1])));
        assert!(rising.iter().all(|x| from_key(key(*x)).to_bits() == x.to_bits() && key(*x) < NOT_FINITE));
        assert!([f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -f32::NAN].iter().all(|x| key(*x) >= NOT_FINITE));
    }

    #[test]
    fn a_scale_is_stored_as_its_type_allows() {
        assert_eq!(GRID.stored(1.0 + 1e-4), 1.0);
        assert_eq!(GRID.stored(-1e-30), -(2f32.powi(-24)));
        assert_eq!(GRID.stored(0.0), 0.0);
        assert!(GRID.stored(65520.0).is_infinite());
        let single = Grid { scales: ScaleType::F32, ..GRID };
        assert_eq!(single.stored(1e-40), f32::MIN_POSITIVE);
        assert_eq!(single.stored(1e30), 1e30);
    }

    #[test]
    fn steps_round_ties_to_even() {
        for (x, want) in [(0.5, 0.0), (1.5, 2.0), (-0.5, 0.0), (-1.5, -2.0), (2.5, 2.0), (9.0, 7.0), (-9.0, -8.0)] {
            assert_eq!(steps(x, 1.0, -8.0, 7.0) - ROUNDER, want);
        }
    }
}

//! Grids of values, and factors between them.

use niwaki_image::{MOST_TIMES, Times};

/// Codes of 8 bits: `x = scale (q - zero)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Grid {
    pub(crate) scale: f32,
    pub(crate) zero: i8,
}

impl Grid {
    /// From the least to the greatest number of a value, 0 among them.
    pub(crate) fn of(ends: [f32; 2]) -> Self {
        Self::no_finer(ends, 0.0)
    }

    /// The same with steps of at least `least`.
    pub(crate) fn no_finer([low, high]: [f32; 2], least: f64) -> Self {
        let (low, high) = (f64::from(low.min(0.0)), f64::from(high.max(0.0)));
        let step = ((high - low) / 255.0).max(least) as f32;
        // What is rounded to a single float may have become a little less.
        let step = if f64::from(step) < least { step.next_up() } else { step };
        let scale = if step.is_normal() { step } else { 1.0 };
        let zero = (-128.0 - low / f64::from(scale)).round().clamp(-128.0, 127.0) as i8;
        Self { scale, zero }
    }

    /// The code of a number.
    pub(crate) fn code(&self, x: f32) -> i8 {
        ((f64::from(x) / f64::from(self.scale)).round() + f64::from(self.zero)).clamp(-128.0, 127.0) as i8
    }

    /// The codes between two numbers, either of which may be infinite.
    pub(crate) fn codes(&self, (low, high): (f32, f32)) -> (i8, i8) {
        (self.code(low), self.code(high))
    }
}

/// A factor as steps have it; none for one that is not between -1 and 1.
pub(crate) fn times(factor: f64) -> Option<Times> {
    if factor.is_nan() || factor.abs() >= 1.0 {
        return None;
    }
    // 2^30 to 2^31 of these are the factor, of tiny ones fewer.
    let mut shift = 31;
    while shift < 62 && factor.abs() * 2f64.powi(shift) < 2f64.powi(30) {
        shift += 1;
    }
    let multiplier = (factor * 2f64.powi(shift)).round().clamp(-f64::from(i32::MAX), f64::from(i32::MAX));
    Some(Times { multiplier: multiplier as i32, shift: shift as u8 })
}

/// A factor with 16 bits after the point; none for one beyond 64.
pub(crate) fn times16(factor: f64) -> Option<i32> {
    let times = (factor * 65536.0).round();
    (0.0..=f64::from(MOST_TIMES)).contains(&times).then_some(times as i32)
}

/// The largest factor of [`times16`].
pub(crate) const MOST: f64 = 64.0;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    #[test]
    fn zero_and_the_ends_are_on_the_grid() {
        for ends in [[-1.0, 3.0], [0.0, 6.0], [-2.0, 0.0], [0.5, 2.0], [-3.0, -1.0], [0.0, 0.0]] {
            let grid = Grid::of(ends);
            assert_eq!(grid.code(0.0), grid.zero, "{ends:?}");
            for end in ends {
                let back = grid.scale * f32::from(i16::from(grid.code(end)) - i16::from(grid.zero));
                assert!((back - end).abs() <= grid.scale * 0.501, "{end} is {back} on {grid:?}");
            }
        }
        assert_eq!(Grid::of([0.0, 6.0]).codes((0.0, f32::INFINITY)), (-128, 127));
        assert!((0.3..0.3001).contains(&f64::from(Grid::no_finer([0.0, 1.0], 0.3).scale)));
    }

    #[test]
    fn factors_have_thirty_bits() {
        for factor in [0.999_999, 0.5, 0.3, 1e-3, -0.7, 2f64.powi(-30), 1.0 - 2f64.powi(-33)] {
            let Times { multiplier, shift } = times(factor).unwrap();
            let back = f64::from(multiplier) / 2f64.powi(shift.into());
            assert!((back / factor - 1.0).abs() <= 2f64.powi(-30), "{factor} is {back}");
        }
        assert_eq!(times(1.0), None);
        assert_eq!(times(f64::NAN), None);
        assert_eq!(times(0.0).unwrap().multiplier, 0);
        assert_eq!((times16(1.0), times16(64.0), times16(64.1)), (Some(65536), Some(1 << 22), None));
    }
}

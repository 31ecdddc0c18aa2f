//! Products with factors that are no whole numbers.

use niwaki_image::Times;

/// More than any sum of codes is times a factor: what is beyond is clamped anyway.
const MOST: i64 = 1 << 30;

/// Bits after the point of numbers that are added.
const POINT: u8 = 16;

/// `x` times a factor below 1, rounded to nearest; halves go up.
pub(crate) fn times(x: i32, by: Times) -> i32 {
    rounded(x, by.multiplier, by.shift) as i32
}

/// The same with 16 bits after the point, within ±2^30.
pub(crate) fn times16(x: i32, by: Times) -> i32 {
    rounded(x, by.multiplier, by.shift.wrapping_sub(POINT)).clamp(-MOST, MOST) as i32
}

/// A number with 16 bits after the point, rounded; halves go up.
pub(crate) fn whole(x: i32) -> i32 {
    x.wrapping_add(1 << (POINT - 1)) >> POINT
}

/// A code: a whole number of steps from the zero point, within bounds.
pub(crate) fn code(steps: i32, zero: i8, low: i8, high: i8) -> i8 {
    let zero = i32::from(zero);
    let [low, high] = [low, high].map(|end| i32::from(end).wrapping_sub(zero));
    // Not `clamp`, which panics where ends are the wrong way round.
    steps.max(low).min(high).wrapping_add(zero) as i8
}

fn rounded(x: i32, multiplier: i32, shift: u8) -> i64 {
    let shift = u32::from(shift);
    let half = 1i64.wrapping_shl(shift.wrapping_sub(1));
    i64::from(x).wrapping_mul(multiplier.into()).wrapping_add(half).wrapping_shr(shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_go_up() {
        let half = |x| times(x, Times { multiplier: 1 << 30, shift: 31 });
        assert_eq!([-3, -2, -1, 0, 1, 2, 3].map(half), [-1, -1, 0, 0, 1, 1, 2]);
        assert_eq!([-3 << 15, -1 << 15, 1 << 15, (1 << 15) - 1].map(whole), [-1, 0, 1, 0]);
    }

    #[test]
    fn the_ends_of_sums_and_factors_stay_in_range() {
        let most = Times { multiplier: i32::MAX, shift: 31 };
        assert_eq!((times(i32::MAX, most), times(i32::MIN + 1, most)), (i32::MAX - 1, i32::MIN + 2));
        assert_eq!(times16(i32::MAX, most), 1 << 30);
        assert_eq!(times(i32::MAX, Times { multiplier: i32::MAX, shift: 62 }), 1);
    }

    #[test]
    fn sixteen_bits_after_the_point_are_the_same_number() {
        for x in [-70_000, -12_345, -1, 0, 1, 999, 50_000] {
            let by = Times { multiplier: 1_518_500_250, shift: 40 };
            let exact = f64::from(x) * 1_518_500_250.0 / 2f64.powi(40);
            assert!((f64::from(times16(x, by)) / 65536.0 - exact).abs() <= 0.5 / 65536.0, "{x}");
            assert!((f64::from(times(x, by)) - exact).abs() <= 0.5, "{x}");
        }
    }

    #[test]
    fn codes_are_held_within_bounds() {
        assert_eq!(code(i32::MAX, 127, -128, 127), 127);
        assert_eq!(code(i32::MIN, -128, -128, 127), -128);
        assert_eq!(code(-5, 3, 3, 127), 3);
        assert_eq!(code(5, 3, -128, 7), 7);
    }
}

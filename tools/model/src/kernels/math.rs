//! Functions of one float as polynomials without branches, so that compilers make vectors of them.
//!
//! Only additions, multiplications, divisions and operations on bits are used, and none is fused:
//! every CPU gives the same bits. How far each is from the true value, at most, in units in the
//! last place, is stated with it, and tested against the standard library in double precision.
//! Ranges, constants and polynomials are those of the Cephes library and of the public
//! approximations by N. Juffa.

/// Adding it leaves a whole number in the low bits.
const ROUNDER: f32 = 12_582_912.0;

/// ln 2 in two parts, of which the first has few bits: its products with small whole numbers are
/// exact.
const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];

/// 2^n, for -126 <= n <= 127.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// e^x = 2^n (1 + r): n and r, |x| <= 110.
#[inline(always)]
fn reduced_exp(x: f32) -> (i32, f32) {
    let shifted = x * std::f32::consts::LOG2_E + ROUNDER;
    let whole = shifted - ROUNDER;
    let n = (shifted.to_bits() as i32).wrapping_sub(ROUNDER.to_bits() as i32);
    let r = (x - whole * LN_2[0]) - whole * LN_2[1];
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    (n, p * (r * r) + r)
}

/// e^x, within 1.5 units.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    let (n, r) = reduced_exp(x.clamp(-110.0, 110.0));
    // In two steps: results may be denormal, or infinite.
    let half = n >> 1;
    (1.0 + r) * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

/// e^x - 1 for x <= 88, within 2 units.
#[inline(always)]
pub(crate) fn exp_m1(x: f32) -> f32 {
    let (n, r) = reduced_exp(x.clamp(-80.0, 88.0));
    let scale = power_of_two(n);
    scale * r + (scale - 1.0)
}

/// The natural logarithm, within 1.5 units.
#[inline(always)]
pub(crate) fn ln(x: f32) -> f32 {
    let small = x < f32::MIN_POSITIVE;
    let normal = if small { x * 8_388_608.0 } else { x };
    let bits = normal.to_bits() as i32;
    let exponent = bits.wrapping_sub(0x3f2a_aaab) & !0x007f_ffff;
    let f = f32::from_bits(bits.wrapping_sub(exponent) as u32) - 1.0;
    let n = (exponent >> 23) as f32 + if small { -23.0 } else { 0.0 };
    let s = f * f;
    let mut p = (-0.130_310_06 * f + 0.140_869_14) * s + (-0.121_483_19 * f + 0.139_814_85);
    p = p * f - 0.166_846_13;
    p = p * f + 0.200_120_35;
    p = p * f - 0.249_996_2;
    p = p * f + 0.333_331_97;
    p = p * f - 0.5;
    let y = n * LN_2[0] + (f + (p * s + n * LN_2[1]));
    let y = if x == 0.0 { f32::NEG_INFINITY } else { y };
    let y = if x < 0.0 { f32::NAN } else { y };
    if x < f32::INFINITY { y } else { x }
}

/// ln (1 + x), for x >= 0, within 3 units.
#[inline(always)]
pub(crate) fn ln_1p(x: f32) -> f32 {
    let sum = 1.0 + x;
    // What the sum has lost.
    let lost = x - (sum - 1.0);
    let y = ln(sum) + lost / sum;
    if x < f32::INFINITY { y } else { x }
}

/// The hyperbolic tangent, within 2 units.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    let size = x.abs();
    let square = x * x;
    let mut p = -5.704_988_7e-3;
    p = p * square + 2.063_909e-2;
    p = p * square - 5.373_971_6e-2;
    p = p * square + 1.333_144_2e-1;
    p = p * square - 3.333_328e-1;
    let near = p * square * x + x;
    let far = (1.0 - 2.0 / (exp(size + size) + 1.0)).copysign(x);
    if size < 0.625 { near } else { far }
}

/// 1 / (1 + e^-x), within 3 units.
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    let small = exp(-x.abs());
    let over = 1.0 / (1.0 + small);
    if x < 0.0 { small * over } else { over }
}

/// The error function, within 2 units.
#[inline(always)]
pub(crate) fn erf(x: f32) -> f32 {
    let size = x.abs();
    let square = x * x;
    let p = -1.728_534_7e-5 * size + 3.831_979_7e-4;
    let q = -3.883_964_4e-3 * size + 2.425_462_2e-2;
    let mut far = p * square + q;
    far = far * size - 1.067_778_8e-1;
    far = far * size - 6.348_467e-1;
    far = far * size - 1.287_175_1e-1;
    far = far * size - size;
    // From 4 on it is 1; beyond, the polynomial no longer holds.
    let far = 1.0 - exp(if size < 4.0 { far } else { -100.0 });
    let mut near = -5.967_617e-4;
    near = near * square + 4.991_194_2e-3;
    near = near * square - 2.676_813_5e-2;
    near = near * square + 1.128_199_2e-1;
    near = near * square - 3.761_253_4e-1;
    near = near * square + 1.283_791_7e-1;
    let near = near * x + x;
    if size > 0.927_734_4 { far.copysign(x) } else { near }
}

/// The larger; what is no number stays.
#[inline(always)]
pub(crate) fn larger(a: f32, b: f32) -> f32 {
    if a > b || a.is_nan() { a } else { b }
}

/// The smaller; what is no number stays.
#[inline(always)]
pub(crate) fn smaller(a: f32, b: f32) -> f32 {
    if a < b || a.is_nan() { a } else { b }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest distance, in units in the last place of the true value, over floats of every
    /// size between the ends.
    fn distance(range: [f32; 2], of: fn(f32) -> f32, truth: fn(f64) -> f64) -> f64 {
        let mut worst = 0f64;
        let mut check = |x: f32| {
            if x >= range[0] && x <= range[1] {
                let (y, truth) = (of(x), truth(f64::from(x)));
                let single = truth as f32;
                if y == single {
                    return;
                }
                let unit = f64::from(f32::from_bits((single.abs().to_bits() & 0x7f80_0000).max(0x0080_0000)))
                    * f64::from(f32::EPSILON);
                worst = worst.max((f64::from(y) - truth).abs() / unit);
            }
        };
        // A prime step through the bits of all floats, and one through the range.
        (0..u32::MAX).step_by(4099).map(f32::from_bits).for_each(&mut check);
        (0..200_000).for_each(|k| check(range[0] + (range[1] - range[0]) * (k as f32 / 200_000.0)));
        worst
    }

    #[test]
    fn functions_are_as_near_as_they_say() {
        assert!(distance([-87.0, 88.7], exp, f64::exp) <= 1.5);
        assert!(distance([-80.0, 88.0], exp_m1, f64::exp_m1) <= 2.0);
        assert!(distance([0.0, f32::MAX], ln, f64::ln) <= 1.5);
        assert!(distance([0.0, 3e38], ln_1p, f64::ln_1p) <= 3.0);
        assert!(distance([-20.0, 20.0], tanh, f64::tanh) <= 2.0);
        assert!(distance([-80.0, 80.0], sigmoid, |x| 1.0 / (1.0 + (-x).exp())) <= 3.0);
        assert!(distance([-10.0, 10.0], erf, libm::erf) <= 2.0);
    }

    #[test]
    fn ends_are_exact() {
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp(89.0), f32::INFINITY);
        assert!((f64::from(exp(-100.0)) - (-100f64).exp()).abs() < 2e-45, "denormal");
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(ln(0.0), f32::NEG_INFINITY);
        assert_eq!(ln(f32::INFINITY), f32::INFINITY);
        assert_eq!(ln(1.0), 0.0);
        assert!(ln(-1.0).is_nan());
        assert_eq!((tanh(f32::INFINITY), tanh(f32::NEG_INFINITY)), (1.0, -1.0));
        assert_eq!((erf(f32::INFINITY), erf(f32::NEG_INFINITY), erf(1e30)), (1.0, -1.0, 1.0));
        assert_eq!((sigmoid(f32::INFINITY), sigmoid(f32::NEG_INFINITY)), (1.0, 0.0));
        for function in [exp, exp_m1, ln, ln_1p, tanh, sigmoid, erf] {
            assert!(function(f32::NAN).is_nan());
        }
        assert!(larger(f32::NAN, 1.0).is_nan() && larger(1.0, f32::NAN).is_nan());
        assert!(smaller(f32::NAN, 1.0).is_nan() && smaller(1.0, f32::NAN).is_nan());
    }
}

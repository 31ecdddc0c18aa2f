//! Exponential and logarithm of basic operations only.
//!
//! The ones of the system differ in the last bit from one C library to the next, and a bit is
//! enough to make another pixel. IEEE 754 fixes sums, products, quotients and square roots, so
//! these give the same bits everywhere. They are within two units in the last place.

use std::f64::consts::{LOG2_E, SQRT_2};

/// The upper bits of ln 2, so few that their product with any exponent is exact.
const LN_2_HIGH: f64 = 6.931_471_803_691_238e-1;
/// The rest of ln 2.
const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;

/// e to the power `x`, 0 below -700 and capped above 700.
///
/// `x = k ln 2 + r`, a Taylor polynomial of `r` to degree 13, times 2 to the power `k`.
pub(crate) fn exp(x: f64) -> f64 {
    if x < -700.0 {
        return 0.0;
    }
    let k = (x.min(700.0) * LOG2_E).round();
    let r = (x.min(700.0) - k * LN_2_HIGH) - k * LN_2_LOW;
    let sum = (1..=13).rev().fold(1.0, |sum, n| 1.0 + sum * r / f64::from(n));
    sum * f64::from_bits(((k as i64 + 1023) as u64) << 52)
}

/// The natural logarithm of a positive normal number.
///
/// `x = m 2^e` with `m` near 1, then the series of the inverse hyperbolic tangent of
/// `(m - 1) / (m + 1)`.
pub(crate) fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let mut e = ((bits >> 52) & 0x7ff) as f64 - 1023.0;
    let mut m = f64::from_bits(bits & 0x000f_ffff_ffff_ffff | 1023 << 52);
    if m > SQRT_2 {
        m *= 0.5;
        e += 1.0;
    }
    let s = (m - 1.0) / (m + 1.0);
    let z = s * s;
    let series = (0..=11).rev().fold(0.0, |sum, n| sum * z + 1.0 / f64::from(2 * n + 1));
    e * LN_2_HIGH + (2.0 * s * series + e * LN_2_LOW)
}

/// Sine and cosine of up to three quarters of a turn either way: their Taylor polynomials.
pub(crate) fn sin_cos(x: f64) -> (f64, f64) {
    let square = x * x;
    // From the last term inwards: 1 - x² / (n (n - 1)) (1 - …).
    let series = |first: u32| {
        (0..16).rev().fold(1.0, |sum, term| {
            let n = f64::from(first + 2 * term);
            1.0 - square / (n * (n + 1.0)) * sum
        })
    };
    (x * series(2), series(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() <= 4.0 * f64::EPSILON * b.abs()
    }

    #[test]
    fn both_are_those_of_the_system_but_for_the_last_bits() {
        for i in 0..20_000 {
            let x = -700.0 + f64::from(i) * 0.0351;
            assert!(near(exp(x), x.exp()), "exp {x}: {} {}", exp(x), x.exp());
            let y = 1e-300 * x.abs().exp2().min(1e300) + f64::from(i) * 1e-4 + 1e-12;
            assert!((ln(y) - y.ln()).abs() <= 4.0 * f64::EPSILON * y.ln().abs().max(1.0), "ln {y}");
        }
        assert_eq!((exp(0.0), ln(1.0), exp(-800.0)), (1.0, 0.0, 0.0));
    }

    #[test]
    fn sines_are_those_of_the_system_but_for_the_last_bits() {
        for i in -240..=240 {
            let x = f64::from(i) / 100.0;
            let (sine, cosine) = sin_cos(x);
            assert!((sine - x.sin()).abs() < 1e-15 && (cosine - x.cos()).abs() < 1e-15, "{x}: {sine} {cosine}");
        }
    }

    #[test]
    fn their_bits_are_fixed() {
        assert_eq!(exp(-0.78125).to_bits(), 0x3fdd_4d24_4cf4_ea9e, "{:x}", exp(-0.78125).to_bits());
        assert_eq!(ln(0.3).to_bits(), 0xbff3_4378_fcbd_a721, "{:x}", ln(0.3).to_bits());
    }
}

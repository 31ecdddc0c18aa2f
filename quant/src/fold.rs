//! Scales of a layer's inputs that make its weights easier to round, and change nothing else.
//!
//! ```text
//! y = W x = (W diag(s)) (diag(1/s) x)
//! ```
//!
//! Columns of the weights are multiplied by `s`, and whatever makes the inputs is divided by it. What differs between the
//! criteria is only `s`, of a channel j:
//!
//! ```text
//! awq            s_j = m_j^a / sqrt(max m^a min m^a)        m_j how large input j is
//! smoothquant    s_j = r_j^a / w_j^(1 - a)                  r_j the largest input j, w_j the largest weight that it meets
//! ```
//!
//! With powers of two for scales, floats lose nothing but where they fall below what their type holds.
//!
//! Whence: Lin et al. 2023, *AWQ*, section 3.2, equations 4 and 5; the division by the root of both ends is from its released
//! code. Xiao et al. 2022, *SmoothQuant*, section 4, equation 4.
//!
//! Departures: `m_j` is whatever the caller has, where AWQ takes the mean of magnitudes; what is less than 2^-14 of the
//! largest, or 0, counts as that much (the released codes let no scale, and no weight, be less than 1e-4 and 1e-5).
//! Logarithms and powers are our own, of additions, products and quotients of doubles: the same bits on every machine.

use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use crate::{Error, ErrorKind};

/// What of the largest magnitude any counts as at least: scales stay within what halves hold.
const FLOOR: f64 = 1.0 / 16384.0;

/// What scales go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Criterion {
    /// How large inputs are: weights of large inputs are rounded in smaller steps.
    Awq,
    /// How far inputs reach, and weights: what is hard to round in inputs is moved to the weights.
    SmoothQuant,
}

impl Criterion {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Awq, Self::SmoothQuant];

    /// The word for it in recipes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Awq => "awq",
            Self::SmoothQuant => "smoothquant",
        }
    }
}

impl fmt::Display for Criterion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Criterion {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let found = Self::ALL.into_iter().find(|criterion| criterion.name() == text);
        found.ok_or_else(|| ErrorKind::CriterionText.into())
    }
}

/// Which numbers scales may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steps {
    /// The nearest power of two.
    PowersOfTwo,
    /// Any single float.
    Any,
}

/// By channel, what weights are multiplied by: of how large its inputs are, each 0 or more, and an exponent from 0 to 1.
/// Ones where all inputs are 0.
pub fn awq(magnitudes: &[f64], alpha: f64, steps: Steps) -> Vec<f32> {
    let mut logs = logs(magnitudes);
    logs.iter_mut().for_each(|log| *log *= alpha);
    let ends = |of: fn(f64, f64) -> f64| logs.iter().copied().reduce(of).unwrap_or(0.0);
    let middle = 0.5 * (ends(f64::min) + ends(f64::max));
    logs.iter().map(|log| steps.scale(log - middle)).collect()
}

/// By channel, what weights are multiplied by: of how far its inputs reach, and the weights that these meet, and an exponent
/// from 0 to 1, which says how much of what is hard in inputs is moved. There are as many of both.
pub fn smoothquant(inputs: &[f64], weights: &[f64], alpha: f64, steps: Steps) -> Vec<f32> {
    let both = logs(inputs).into_iter().zip(logs(weights));
    both.map(|(input, weight)| steps.scale(alpha * input - (1.0 - alpha) * weight)).collect()
}

impl Steps {
    /// Of these the one nearest to `2^log`.
    fn scale(self, log: f64) -> f32 {
        match self {
            Self::PowersOfTwo => exp2(whole(log)) as f32,
            Self::Any => exp2(log) as f32,
        }
    }
}

/// Logarithms to the base 2, of numbers that are 0 or more; zeros where there are no others.
fn logs(of: &[f64]) -> Vec<f64> {
    let floor = of.iter().copied().fold(0.0, f64::max) * FLOOR;
    let least = if floor >= f64::MIN_POSITIVE { floor } else { 1.0 };
    of.iter().map(|x| log2(x.max(least))).collect()
}

/// The nearest whole number of one within 2^20 of 0; of two the greater.
fn whole(x: f64) -> f64 {
    const MIDDLE: f64 = 1_048_576.0;
    ((x + MIDDLE + 0.5) as u32) as f64 - MIDDLE
}

/// The logarithm to the base 2 of a normal positive number, within a few units of its last place.
fn log2(x: f64) -> f64 {
    let bits = x.to_bits();
    let (mut exponent, mut m) = ((bits >> 52) as i32 - 1023, f64::from_bits(bits & ((1 << 52) - 1) | (1023 << 52)));
    if m > core::f64::consts::SQRT_2 {
        (exponent, m) = (exponent + 1, 0.5 * m);
    }
    // ln m = 2 (t + t³/3 + t⁵/5 + ..), of a t of at most 0.172: what is left out is below 1e-18.
    let t = (m - 1.0) / (m + 1.0);
    let series = (0..12).rev().fold(0.0, |sum, k| sum * (t * t) + 1.0 / f64::from(2 * k + 1));
    f64::from(exponent) + 2.0 * t * series * core::f64::consts::LOG2_E
}

/// 2 to the power of a number within 1000 of 0, within a few units of its last place.
fn exp2(x: f64) -> f64 {
    let exponent = whole(x);
    // e^y = 1 + y (1 + y/2 (1 + y/3 (..))), of a y within 0.347 of 0: what is left out is below 1e-18.
    let y = (x - exponent) * core::f64::consts::LN_2;
    let power = (1..16).rev().fold(1.0, |sum, k| 1.0 + y / f64::from(k) * sum);
    power * f64::from_bits(((exponent as i64 + 1023) as u64) << 52)
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn scales_of_awq_are_powers_of_magnitudes_about_their_middle() {
        // Ends 1 and 16: the root of their product is 4.
        assert_eq!(awq(&[1.0, 16.0, 4.0], 1.0, Steps::Any), [0.25, 4.0, 1.0]);
        assert_eq!(awq(&[1.0, 16.0, 4.0], 0.5, Steps::Any), [0.5, 2.0, 1.0]);
        assert_eq!(awq(&[1.0, 16.0, 4.0], 0.0, Steps::Any), [1.0; 3]);
        for (alpha, magnitudes) in [(0.3, [0.7, 31.0, 5.5]), (0.85, [1e-3, 2e-3, 9e-1])] {
            let powers = magnitudes.map(|m: f64| m.powf(alpha));
            let middle = (powers[0] * powers.iter().copied().fold(0.0, f64::max)).sqrt();
            let found = awq(&magnitudes, alpha, Steps::Any);
            for (found, power) in found.iter().zip(powers) {
                // Rounded once to a single float.
                assert!((f64::from(*found) / (power / middle) - 1.0).abs() <= f64::from(f32::EPSILON), "{alpha}");
            }
        }
    }

    #[test]
    fn scales_of_smoothquant_are_those_of_the_equation() {
        assert_eq!(smoothquant(&[16.0, 1.0], &[0.25, 4.0], 0.5, Steps::Any), [8.0, 0.5]);
        // All of it to the weights; nothing of it, so that weights reach equally far.
        assert_eq!(smoothquant(&[16.0, 1.0], &[0.25, 4.0], 1.0, Steps::Any), [16.0, 1.0]);
        assert_eq!(smoothquant(&[16.0, 1.0], &[0.25, 4.0], 0.0, Steps::Any), [4.0, 0.25]);
        let (inputs, weights) = ([70.0, 0.3], [0.2, 0.9]);
        for (at, found) in smoothquant(&inputs, &weights, 0.7, Steps::Any).into_iter().enumerate() {
            let expected = inputs[at].powf(0.7) / weights[at].powf(0.3);
            assert!((f64::from(found) / expected - 1.0).abs() <= f64::from(f32::EPSILON), "{found} {expected}");
        }
    }

    #[test]
    fn powers_of_two_are_the_nearest() {
        let magnitudes: Vec<f64> = (0..60).map(|at| 1.37f64.powi(at % 20 - 9)).collect();
        for alpha in [0.0, 0.35, 0.5, 1.0] {
            let any = awq(&magnitudes, alpha, Steps::Any);
            for (two, any) in awq(&magnitudes, alpha, Steps::PowersOfTwo).into_iter().zip(any) {
                assert_eq!(two.to_bits() & 0x007F_FFFF, 0, "{two} is no power of two");
                assert!((f64::from(two).log2() - f64::from(any).log2()).abs() <= 0.5 + 1e-6, "{two} for {any}");
            }
        }
    }

    #[test]
    fn inputs_that_are_always_zero_count_as_small_ones() {
        assert_eq!(awq(&[0.0, 16384.0, 1.0], 1.0, Steps::Any), [1.0 / 128.0, 128.0, 1.0 / 128.0]);
        assert_eq!(awq(&[0.0; 3], 0.7, Steps::PowersOfTwo), [1.0; 3]);
        assert_eq!(awq(&[5e-324; 2], 0.7, Steps::Any), [1.0; 2]);
        assert_eq!(awq(&[], 0.5, Steps::Any), vec![0.0; 0]);
        assert_eq!(smoothquant(&[0.0, 1.0], &[1.0, 0.0], 0.5, Steps::Any), [1.0 / 128.0, 128.0]);
    }

    #[test]
    fn logarithms_and_powers_are_those_of_the_standard_library() {
        for at in -4000..4000 {
            let x = f64::from(at) * 0.0137;
            // Sums of a dozen terms, each rounded to half a unit.
            assert!((exp2(x) / x.exp2() - 1.0).abs() <= 16.0 * f64::EPSILON, "2^{x}");
            let (found, needs) = (log2(x.exp2()), x.exp2().log2());
            assert!((found - needs).abs() <= 16.0 * f64::EPSILON * needs.abs().max(1.0), "{found} {needs}");
        }
        assert_eq!([0.49, 0.5, -0.5, -0.51, 3.0].map(whole), [0.0, 1.0, 0.0, -1.0, 3.0]);
    }

    #[test]
    fn names_go_there_and_back() {
        for criterion in Criterion::ALL {
            assert_eq!(criterion.name().parse(), Ok(criterion));
        }
        assert_eq!("AWQ".parse::<Criterion>().map_err(|e| e.kind()), Err(ErrorKind::CriterionText));
    }
}

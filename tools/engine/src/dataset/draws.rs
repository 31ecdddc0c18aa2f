//! Random numbers that are the same on every machine, for any order of the items: those of [`niwaki_quant::draws`], and
//! distributions of them.

pub(crate) use niwaki_quant::draws::Draws;
use niwaki_quant::draws::mixed;

use super::elementary::ln;

/// What names of what is drawn begin with.
const FIRST: u64 = 0x9E37_79B9_7F4A_7C15;

/// A number between `low` and `high`.
pub(crate) fn between(draws: &mut Draws, low: f64, high: f64) -> f64 {
    low + (high - low) * draws.unit()
}

/// A number of the standard normal distribution: [`quantile`] of a number between 0 and 1.
pub(crate) fn normal(draws: &mut Draws) -> f64 {
    quantile(draws.unit())
}

/// Numbers of the standard normal distribution that hang on the seed and on what they are called.
pub(crate) fn normals(len: usize, seed: u64, name: &str) -> Vec<f64> {
    let purpose = name.bytes().fold(FIRST, |sum, byte| mixed(sum ^ u64::from(byte)));
    let mut draws = Draws::new(seed, purpose, 0);
    (0..len).map(|_| normal(&mut draws)).collect()
}

/// A quotient of polynomials, coefficients from the constant upwards.
fn quotient(above: &[f64; 8], below: &[f64; 8], x: f64) -> f64 {
    let at = |p: &[f64; 8]| p.iter().rev().fold(0.0, |sum, c| sum * x + c);
    at(above) / at(below)
}

/// The number that a standard normal variable is below with probability `p`, between 0 and 1.
///
/// Algorithm AS 241, PPND16 (Wichura 1988): relative error about 1e-16.
pub(crate) fn quantile(p: f64) -> f64 {
    let q = p - 0.5;
    if q.abs() <= 0.425 {
        return q * quotient(&A, &B, 0.180_625 - q * q);
    }
    let r = (-ln(p.min(1.0 - p))).sqrt();
    let x = if r <= 5.0 { quotient(&C, &D, r - 1.6) } else { quotient(&E, &F, r - 5.0) };
    if q < 0.0 { -x } else { x }
}

/// Near the middle.
const A: [f64; 8] = [
    3.387_132_872_796_366_5,
    133.141_667_891_784_38,
    1_971.590_950_306_551_3,
    13_731.693_765_509_46,
    45_921.953_931_549_87,
    67_265.770_927_008_7,
    33_430.575_583_588_13,
    2_509.080_928_730_122_7,
];
const B: [f64; 8] = [
    1.0,
    42.313_330_701_600_91,
    687.187_007_492_057_9,
    5_394.196_021_424_751,
    21_213.794_301_586_597,
    39_307.895_800_092_71,
    28_729.085_735_721_943,
    5_226.495_278_852_854,
];
/// In the tails.
const C: [f64; 8] = [
    1.423_437_110_749_683_5,
    4.630_337_846_156_546,
    5.769_497_221_460_691,
    3.647_848_324_763_204_5,
    1.270_458_252_452_368_4,
    0.241_780_725_177_450_6,
    0.022_723_844_989_269_184,
    0.000_774_545_014_278_341_4,
];
const D: [f64; 8] = [
    1.0,
    2.053_191_626_637_759,
    1.676_384_830_183_803_8,
    0.689_767_334_985_1,
    0.148_103_976_427_480_08,
    0.015_198_666_563_616_457,
    0.000_547_593_808_499_534_5,
    1.050_750_071_644_416_9e-9,
];
/// Far out.
const E: [f64; 8] = [
    6.657_904_643_501_103,
    5.463_784_911_164_114,
    1.784_826_539_917_291_3,
    0.296_560_571_828_504_87,
    0.026_532_189_526_576_124,
    0.001_242_660_947_388_078_4,
    2.711_555_568_743_487_6e-5,
    2.010_334_399_292_288_1e-7,
];
const F: [f64; 8] = [
    1.0,
    0.599_832_206_555_888,
    0.136_929_880_922_735_8,
    0.014_875_361_290_850_615,
    0.000_786_869_131_145_613_3,
    1.846_318_317_510_054_8e-5,
    1.421_511_758_316_446e-7,
    2.044_263_103_389_939_7e-15,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_another_implementation() {
        // `statistics.NormalDist().inv_cdf` of Python 3.11.
        for (p, x) in [
            (1e-300, -37.047_096_299_361_2),
            (1e-12, -7.034_483_825_301_132),
            (0.001, -3.090_232_306_167_813_5),
            (0.05, -1.644_853_626_951_472_6),
            (0.3, -0.524_400_512_708_040_7),
            (0.5, 0.0),
            (0.9, 1.281_551_565_544_600_8),
            (0.99, 2.326_347_874_040_841),
        ] {
            assert!((quantile(p) - x).abs() <= 1e-14 * x.abs(), "{p}: {} {x}", quantile(p));
        }
    }

    #[test]
    fn draws_have_the_moments_of_their_distributions() {
        let mut draws = Draws::new(7, 1, 0);
        let n = 200_000;
        let normal: Vec<f64> = (0..n).map(|_| normal(&mut draws)).collect();
        let mean = normal.iter().sum::<f64>() / f64::from(n);
        let square = normal.iter().map(|x| x * x).sum::<f64>() / f64::from(n);
        // Five standard errors: 1 and the root of 2, over the root of n.
        assert!(mean.abs() < 0.0112 && (square - 1.0).abs() < 0.0159, "{mean} {square}");
        let mut counts = [0u32; 6];
        for _ in 0..60_000 {
            counts[draws.below(6)] += 1;
        }
        assert!(counts.iter().all(|&count| count.abs_diff(10_000) < 457), "{counts:?}");
        assert!((0..n).all(|_| (-3.0..5.0).contains(&between(&mut draws, -3.0, 5.0))));
    }

    #[test]
    fn streams_differ_and_repeat() {
        let first = |seed, purpose, item| Draws::new(seed, purpose, item).bits();
        assert_eq!(first(1, 2, 3), first(1, 2, 3));
        let mut seen: Vec<u64> =
            (0..10).flat_map(|i| [first(i, 0, 0), first(0, i + 1, 0), first(0, 0, i + 1)]).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 30);
        assert_eq!(Draws::new(0, 0, 0).below(0), 0);
    }
}

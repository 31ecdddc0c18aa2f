//! Codes of a row that serve several widths: of each the first bits.
//!
//! ```text
//! W bits   q = floor((w + R) 2^W / 2R), held within 0 .. 2^W - 1
//! b bits   w = s (2 (q >> (W - b)) + 1 - 2^b)
//! ```
//!
//! `s` is the one of the least squared error at that width. `R` is the largest magnitude or one of its parts, whichever makes the
//! sum of the errors of all widths the least, each counted in steps of its own width.

use niwaki_codes::{Bits, Widths};

/// Parts of the largest magnitude that are tried: all of it, and a 32nd less each.
const PARTS: u32 = 24;

/// Codes of a row, and the scale at each width, narrowest first.
pub(crate) struct Nested {
    pub(crate) codes: Vec<i16>,
    pub(crate) scales: Vec<f64>,
}

/// The odd number of a code at a width.
pub(crate) fn number(code: i16, widths: Widths, width: Bits) -> i64 {
    let cut = i64::from(code) >> (widths.widest().get() - width.get());
    2 * cut + 1 - (1 << width.get())
}

impl Nested {
    /// The codes of a row whose scales are at least `least`.
    pub(crate) fn of(row: &[f32], widths: Widths, least: f64) -> Self {
        let count = 2f64.powi(widths.widest().get() as i32);
        let most = row.iter().fold(0.0, |most: f64, w| most.max(f64::from(w.abs())));
        let reach = |part: u32| (most * f64::from(32 - part) / 32.0).max(least * count);
        let mut best: Option<(f64, Self)> = None;
        for part in 0..PARTS {
            let (reach, mut loss) = (reach(part), 0.0);
            let code =
                |w: &f32| ((f64::from(*w) + reach) * count / (2.0 * reach)).floor().clamp(0.0, count - 1.0) as i16;
            let codes: Vec<i16> = row.iter().map(code).collect();
            let scales = widths.iter().map(|width| {
                let (scale, error) = fitted(row, &codes, |code| number(code, widths, width));
                loss += error * 4f64.powi(width.get() as i32);
                scale.max(least)
            });
            let nested = Self { scales: scales.collect(), codes };
            if best.as_ref().is_none_or(|(least, _)| loss < *least) {
                best = Some((loss, nested));
            }
        }
        best.map_or(Self { codes: Vec::new(), scales: Vec::new() }, |(_, best)| best)
    }
}

/// The scale of the least squared error, and that error.
fn fitted(row: &[f32], codes: &[i16], number: impl Fn(i16) -> i64) -> (f64, f64) {
    let (mut ww, mut wu, mut uu) = (0.0, 0.0, 0.0);
    for (w, code) in row.iter().zip(codes) {
        let (w, u) = (f64::from(*w), number(*code) as f64);
        (ww, wu, uu) = (ww + w * w, wu + w * u, uu + u * u);
    }
    let scale = if uu > 0.0 { wu / uu } else { 0.0 };
    (scale, ww - scale * wu)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    fn widths(all: &[u32]) -> Widths {
        Widths::new(all.iter().map(|bits| Bits::new(*bits).unwrap())).unwrap()
    }

    #[test]
    fn every_bit_more_takes_about_six_decibels_of_the_error() {
        let row: Vec<f32> =
            (0..4096u32).map(|at| ((at.wrapping_mul(2_654_435_761) >> 8) as f32 / 8_388_608.0) - 1.0).collect();
        let all = widths(&[2, 3, 4, 5, 6, 7, 8]);
        let nested = Nested::of(&row, all, 1e-30);
        let power: f64 = row.iter().map(|w| f64::from(*w).powi(2)).sum();
        for (width, scale) in all.iter().zip(&nested.scales) {
            let error: f64 = row
                .iter()
                .zip(&nested.codes)
                .map(|(w, code)| (f64::from(*w) - scale * number(*code, all, width) as f64).powi(2))
                .sum();
            // Uniform weights on a grid of 2^b cells: 6.02 b dB, within what 4096 of them say.
            let decibels = 10.0 * (power / error).log10();
            assert!((decibels - 6.0206 * f64::from(width.get())).abs() < 0.3, "{decibels} at {width}");
        }
    }

    #[test]
    fn scales_are_not_less_than_they_may_be() {
        let all = widths(&[3, 8]);
        for row in [vec![0.0; 5], vec![1e-9, -1e-9], vec![]] {
            let nested = Nested::of(&row, all, 1e-3);
            assert_eq!(nested.codes.len(), row.len());
            assert!(nested.scales.iter().all(|scale| *scale >= 1e-3), "{:?}", nested.scales);
            assert!(nested.codes.iter().all(|code| number(*code, all, Bits::new(8).unwrap()).abs() == 1));
        }
    }
}

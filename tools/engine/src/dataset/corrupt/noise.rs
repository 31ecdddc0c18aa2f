//! Noise, pixel by pixel.
//!
//! Draws go through a picture in the order of its bytes: channels, rows, columns.

use super::{Severity, byte};
use crate::dataset::draws::{Draws, normal};
use crate::dataset::elementary::exp;

/// `clip(x + N(0, s))`, `s` = 0.04, 0.06, 0.08, 0.09, 0.10.
pub(super) fn gaussian(severity: Severity, draws: &mut Draws, pixels: &[u8], out: &mut [u8]) {
    let s = severity.of([0.04, 0.06, 0.08, 0.09, 0.10]);
    each(pixels, out, |x| x + s * normal(draws));
}

/// `clip(x + x N(0, s))`, `s` = 0.06, 0.10, 0.12, 0.16, 0.20.
pub(super) fn speckle(severity: Severity, draws: &mut Draws, pixels: &[u8], out: &mut [u8]) {
    let s = severity.of([0.06, 0.10, 0.12, 0.16, 0.20]);
    each(pixels, out, |x| x + x * (s * normal(draws)));
}

/// Of all numbers a share of 0.01, 0.02, 0.03, 0.05, 0.07 become 0 or 1, either as likely:
/// salt and pepper, each channel by itself.
pub(super) fn impulse(severity: Severity, draws: &mut Draws, pixels: &[u8], out: &mut [u8]) {
    let share = severity.of([0.01, 0.02, 0.03, 0.05, 0.07]);
    each(pixels, out, |x| {
        let (changed, white) = (draws.unit() < share, draws.unit() < 0.5);
        if changed { f64::from(white) } else { x }
    });
}

/// A new value for each pixel of 0 to 1.
fn each(pixels: &[u8], out: &mut [u8], mut new: impl FnMut(f64) -> f64) {
    for (out, pixel) in out.iter_mut().zip(pixels) {
        *out = byte(new(f64::from(*pixel) / 255.0));
    }
}

/// `clip(Poisson(x c) / c)`, `c` = 500, 250, 100, 75, 50.
///
/// Numbers are drawn by inversion: the least `k` whose distribution function is above a uniform
/// draw. A byte has 256 values, so the 256 functions are computed once.
#[derive(Debug)]
pub(super) struct Shot {
    photons: f64,
    /// For each pixel the probability of at most `k`.
    at_most: Vec<Vec<f64>>,
}

impl Shot {
    pub(super) fn new(severity: Severity) -> Self {
        let photons = severity.of([500.0, 250.0, 100.0, 75.0, 50.0]);
        Self { photons, at_most: (0..256).map(|pixel| at_most(f64::from(pixel) / 255.0 * photons)).collect() }
    }

    pub(super) fn apply(&self, draws: &mut Draws, pixels: &[u8], out: &mut [u8]) {
        for (out, pixel) in out.iter_mut().zip(pixels) {
            let at_most = &self.at_most[usize::from(*pixel)];
            let u = draws.unit();
            let k = at_most.partition_point(|p| *p <= u);
            *out = byte(k as f64 / self.photons);
        }
    }
}

/// The distribution function of Poisson's distribution with this mean, as far as it changes.
fn at_most(mean: f64) -> Vec<f64> {
    let mut p = exp(-mean);
    let mut all = vec![p];
    while p > 1e-18 || (all.len() as f64) < mean {
        p = p * mean / all.len() as f64;
        all.push(all[all.len() - 1] + p);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distribution_function_is_poissons() {
        assert_eq!(at_most(0.0)[..2], [1.0, 1.0]);
        // P(X <= 2) for mean 2 is 5 e^-2.
        assert!((at_most(2.0)[2] - 5.0 * (-2f64).exp()).abs() < 1e-15);
        for mean in [0.1, 3.0, 50.0, 500.0] {
            let all = at_most(mean);
            assert!((all[all.len() - 1] - 1.0).abs() < 1e-12 && all.len() < 1000, "{mean}: {}", all.len());
        }
    }
}

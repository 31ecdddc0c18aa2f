//! Images seen anew in every pass over the data: shifted, mirrored, mixed.
//!
//! What happens to an image is drawn for the seed, the pass and the image's number: it does not hang on batches or
//! threads, nor on where a training was interrupted.

use super::draws::{Draws, normal};
use super::elementary::{exp, ln};

/// What the numbers of a shift and a mirroring are drawn for.
const PLACES: u64 = 0x6175_676d_656e_7400;
/// What the numbers of a mixture are drawn for.
const MIXTURE: u64 = 0x6d69_7875_7000;

/// What is done to images.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Augment {
    /// Each is cut, at a random place, from itself with so many black pixels around it.
    pub crop: usize,
    /// Every other one is mirrored, left to right.
    pub flip: bool,
    /// Each is mixed with another of its batch, by a share drawn from Beta(a, a); not where a is 0.
    pub mixup: f64,
}

impl Augment {
    /// Shifts and mirrors an image of channels, rows and columns in place. `black` is what a black pixel of each
    /// channel is after preprocessing.
    pub fn places(&self, [channels, rows, cols]: [usize; 3], black: &[f32], which: [u64; 3], image: &mut [f32]) {
        let [seed, epoch, item] = which;
        let mut draws = Draws::new(seed ^ PLACES, epoch, item);
        let around = 2 * self.crop + 1;
        let (down, right) = (draws.below(around) as isize, draws.below(around) as isize);
        let (down, right) = (down - self.crop as isize, right - self.crop as isize);
        let mirrored = self.flip && draws.bits() >> 63 == 1;
        if (down, right, mirrored) == (0, 0, false) {
            return;
        }
        let plane = rows * cols;
        let mut old = vec![0.0; plane];
        for (channel, image) in image.chunks_exact_mut(plane.max(1)).enumerate().take(channels) {
            old.copy_from_slice(image);
            for (row, out) in image.chunks_exact_mut(cols).enumerate() {
                let from = row.checked_add_signed(down).filter(|row| *row < rows);
                for (col, out) in out.iter_mut().enumerate() {
                    let col = if mirrored { cols - 1 - col } else { col };
                    let at = from.zip(col.checked_add_signed(right).filter(|col| *col < cols));
                    *out = at
                        .map_or_else(|| black.get(channel).copied().unwrap_or(0.0), |(row, col)| old[row * cols + col]);
                }
            }
        }
    }

    /// The share of itself that each image of a batch keeps, and the image in the batch that it is mixed with.
    pub fn mixture(&self, seed: u64, step: u64, batch: usize) -> Option<(f64, Vec<usize>)> {
        if self.mixup <= 0.0 || batch < 2 {
            return None;
        }
        let mut draws = Draws::new(seed ^ MIXTURE, 0, step);
        let share = beta(&mut draws, self.mixup);
        let mut others: Vec<usize> = (0..batch).collect();
        for last in (1..batch).rev() {
            others.swap(last, draws.below(last + 1));
        }
        Some((share, others))
    }
}

/// A number of the distribution Beta(a, a): of two of Gamma(a), the share of the first, by their logarithms, since the
/// numbers themselves become 0 where a is small.
fn beta(draws: &mut Draws, a: f64) -> f64 {
    let (x, y) = (log_gamma(draws, a), log_gamma(draws, a));
    1.0 / (1.0 + exp(y - x))
}

/// The logarithm of a number of the distribution Gamma(a, 1) (Marsaglia and Tsang, *A simple method for generating gamma
/// variables*, 2000).
fn log_gamma(draws: &mut Draws, a: f64) -> f64 {
    if a < 1.0 {
        return log_gamma(draws, a + 1.0) + ln(draws.unit()) / a;
    }
    let d = a - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = normal(draws);
        let root = 1.0 + c * x;
        let v = root * root * root;
        if v > 0.0 && ln(draws.unit()) < 0.5 * x * x + d - d * v + d * ln(v) {
            return ln(d) + ln(v);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    #[test]
    fn images_are_shifted_and_mirrored_by_their_number() {
        let augment = Augment { crop: 1, flip: true, mixup: 0.0 };
        let image: Vec<f32> = (1..=18).map(|x| x as f32).collect();
        let of = |item: u64| {
            let mut seen = image.clone();
            augment.places([2, 3, 3], &[-1.0, -2.0], [7, 0, item], &mut seen);
            seen
        };
        assert_eq!(of(3), of(3));
        let mut kinds: Vec<Vec<f32>> = (0..2000).map(of).collect();
        // Both channels move alike.
        for seen in &kinds {
            let (first, second) = seen.split_at(9);
            let moved = |x: f32| if x == -1.0 { -2.0 } else { x + 9.0 };
            assert!(first.iter().map(|x| moved(*x)).eq(second.iter().copied()));
        }
        kinds.sort_by(|a, b| a.partial_cmp(b).unwrap());
        kinds.dedup();
        assert_eq!(kinds.len(), 18, "nine places, mirrored or not");
        let mut same = image.clone();
        Augment::default().places([2, 3, 3], &[0.0; 2], [7, 0, 1], &mut same);
        assert_eq!(same, image);
    }

    #[test]
    fn shares_are_of_the_beta_distribution() {
        for (a, variance) in [(1e-3, 0.25 / 1.002), (0.2, 0.25 / 1.4), (1.0, 1.0 / 12.0), (4.0, 0.25 / 9.0)] {
            let augment = Augment { mixup: a, ..Augment::default() };
            let shares: Vec<f64> = (0..20_000).map(|step| augment.mixture(1, step, 4).unwrap().0).collect();
            let mean = shares.iter().sum::<f64>() / 2e4;
            let spread = shares.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 2e4;
            assert!((mean - 0.5).abs() < 0.015 && (spread / variance - 1.0).abs() < 0.05, "{a}: {mean}, {spread}");
        }
        let (_, mut others) = Augment { mixup: 1.0, ..Augment::default() }.mixture(1, 2, 9).unwrap();
        others.sort_unstable();
        assert!(others.into_iter().eq(0..9));
        assert!(Augment::default().mixture(1, 2, 9).is_none());
    }
}

//! A sum for each input of a layer.

use alloc::vec;
use alloc::vec::Vec;

/// Sums of something of each input, in doubles and in the order of the values, and how many values each had.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sums {
    pub(super) sums: Vec<f64>,
    pub(super) count: u64,
}

impl Sums {
    /// Of so many inputs, none of which has been seen.
    pub(super) fn new(inputs: usize) -> Self {
        Self { sums: vec![0.0; inputs], count: 0 }
    }

    /// Adds what is `of` each value of rows with one for each input; what fills none at the end is left out.
    pub(super) fn rows(&mut self, values: &[f32], of: impl Fn(f64) -> f64) {
        for row in values.chunks_exact(self.sums.len().max(1)) {
            for (sum, x) in self.sums.iter_mut().zip(row) {
                *sum += of(f64::from(*x));
            }
            self.count += 1;
        }
    }

    /// Adds what is `of` each value of planes of `size`, one for each input in turn.
    pub(super) fn planes(&mut self, values: &[f32], size: usize, of: impl Fn(f64) -> f64) {
        for image in values.chunks_exact((self.sums.len() * size).max(1)) {
            for (sum, plane) in self.sums.iter_mut().zip(image.chunks_exact(size.max(1))) {
                *sum += plane.iter().map(|x| of(f64::from(*x))).sum::<f64>();
            }
            self.count += size as u64;
        }
    }

    /// The mean of each input; 0 where nothing was seen.
    pub(super) fn means(&self) -> Vec<f64> {
        self.sums.iter().map(|sum| sum / self.count.max(1) as f64).collect()
    }
}

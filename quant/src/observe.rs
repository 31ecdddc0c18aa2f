//! What is remembered of the values that flow into a layer.

mod extremes;
#[cfg(feature = "std")]
mod factor;
mod gram;
mod histogram;
#[cfg(feature = "std")]
mod inverse;
#[cfg(feature = "std")]
mod least_squares;
mod means;
mod patches;
mod reach;

use alloc::vec;
use alloc::vec::Vec;

pub use extremes::Extremes;
#[cfg(feature = "std")]
pub use factor::Factor;
pub use gram::{Band, Gram};
pub use histogram::{BINS, Histogram};
#[cfg(feature = "std")]
pub use inverse::{Inverse, Order, importances};
#[cfg(feature = "std")]
pub use least_squares::LeastSquares;
pub use means::Means;
pub use patches::Patches;
pub use reach::{mse, percentile};

/// The sum of squares of each input of a layer, over all that it saw: the diagonal of the Gram matrix. Sums are of doubles,
/// in the order of the values.
#[derive(Clone, Debug, PartialEq)]
pub struct SecondMoments {
    sums: Vec<f64>,
    count: u64,
}

impl SecondMoments {
    /// Of a layer of so many inputs, which saw nothing yet.
    pub fn new(inputs: usize) -> Self {
        Self { sums: vec![0.0; inputs], count: 0 }
    }

    /// Inputs of the layer.
    pub fn inputs(&self) -> usize {
        self.sums.len()
    }

    /// Values that each input had.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Sees rows with a value for each input; what fills none at the end is left out.
    pub fn rows(&mut self, values: &[f32]) {
        for row in values.chunks_exact(self.sums.len().max(1)) {
            for (sum, x) in self.sums.iter_mut().zip(row) {
                *sum += f64::from(*x) * f64::from(*x);
            }
            self.count += 1;
        }
    }

    /// Sees planes of `size` values, one for each input in turn; of images, one after the other.
    pub fn planes(&mut self, values: &[f32], size: usize) {
        for image in values.chunks_exact((self.sums.len() * size).max(1)) {
            for (sum, plane) in self.sums.iter_mut().zip(image.chunks_exact(size.max(1))) {
                *sum += plane.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>();
            }
            self.count += size as u64;
        }
    }

    /// The mean square of each input; 0 where nothing was seen.
    pub fn means(&self) -> Vec<f64> {
        self.sums.iter().map(|sum| sum / self.count.max(1) as f64).collect()
    }

    /// The norm of all values of each input.
    #[cfg(feature = "std")]
    pub fn norms(&self) -> Vec<f64> {
        self.sums.iter().map(|sum| sum.sqrt()).collect()
    }
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::*;

    #[test]
    fn rows_and_planes_are_added_by_input() {
        let mut rows = SecondMoments::new(2);
        rows.rows(&[3.0, 1.0, 4.0, -2.0, 9.0]);
        assert_eq!((rows.norms(), rows.count()), (vec![5.0, 5f64.sqrt()], 2));
        assert_eq!(rows.means(), vec![12.5, 2.5]);
        let mut planes = SecondMoments::new(2);
        planes.planes(&[3.0, 0.0, 1.0, 1.0, 0.0, 4.0, 1.0, -1.0], 2);
        assert_eq!((planes.norms(), planes.count()), (vec![5.0, 2.0], 4));
        assert_eq!(
            (planes.inputs(), SecondMoments::new(0).norms(), SecondMoments::new(1).means()),
            (2, vec![], vec![0.0])
        );
    }
}

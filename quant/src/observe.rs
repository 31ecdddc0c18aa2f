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
mod sums;

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
use sums::Sums;

/// The sum of squares of each input of a layer, over all that it saw: the diagonal of the Gram matrix. Sums are of doubles,
/// in the order of the values.
#[derive(Clone, Debug, PartialEq)]
pub struct SecondMoments(Sums);

impl SecondMoments {
    /// Of a layer of so many inputs, which saw nothing yet.
    pub fn new(inputs: usize) -> Self {
        Self(Sums::new(inputs))
    }

    /// Inputs of the layer.
    pub fn inputs(&self) -> usize {
        self.0.sums.len()
    }

    /// Values that each input had.
    pub fn count(&self) -> u64 {
        self.0.count
    }

    /// Sees rows with a value for each input; what fills none at the end is left out.
    pub fn rows(&mut self, values: &[f32]) {
        self.0.rows(values, |x| x * x);
    }

    /// Sees planes of `size` values, one for each input in turn; of images, one after the other.
    pub fn planes(&mut self, values: &[f32], size: usize) {
        self.0.planes(values, size, |x| x * x);
    }

    /// The mean square of each input; 0 where nothing was seen.
    pub fn means(&self) -> Vec<f64> {
        self.0.means()
    }

    /// The norm of all values of each input.
    #[cfg(feature = "std")]
    pub fn norms(&self) -> Vec<f64> {
        self.0.sums.iter().map(|sum| sum.sqrt()).collect()
    }
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use alloc::vec;

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

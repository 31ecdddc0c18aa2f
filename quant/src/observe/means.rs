//! The mean of each input of a layer.

use alloc::vec::Vec;

use super::Sums;

/// The sum of each input of a layer, over all that it saw. Sums are of doubles, in the order of the values.
#[derive(Clone, Debug, PartialEq)]
pub struct Means(Sums);

impl Means {
    /// Of a layer of so many inputs, which saw nothing yet.
    pub fn new(inputs: usize) -> Self {
        Self(Sums::new(inputs))
    }

    /// Sees rows with a value for each input; what fills none at the end is left out.
    pub fn rows(&mut self, values: &[f32]) {
        self.0.rows(values, |x| x);
    }

    /// Sees planes of `size` values, one for each input in turn; of images, one after the other.
    pub fn planes(&mut self, values: &[f32], size: usize) {
        self.0.planes(values, size, |x| x);
    }

    /// The mean of each input; 0 where nothing was seen.
    pub fn means(&self) -> Vec<f64> {
        self.0.means()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_those_of_each_input() {
        let mut rows = Means::new(2);
        rows.rows(&[3.0, 1.0, 4.0, -2.0, 9.0]);
        assert_eq!(rows.means(), [3.5, -0.5]);
        let mut planes = Means::new(2);
        planes.planes(&[3.0, 0.0, 1.0, 5.0, 0.5, 4.0, -1.0, 1.0], 2);
        assert_eq!(planes.means(), [(3.0 + 0.0 + 0.5 + 4.0) / 4.0, (1.0 + 5.0 - 1.0 + 1.0) / 4.0]);
        assert_eq!(Means::new(1).means(), [0.0]);
    }
}

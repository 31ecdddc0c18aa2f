//! The mean of each input of a layer.

use alloc::vec;
use alloc::vec::Vec;

/// The sum of each input of a layer, over all that it saw. Sums are of doubles, in the order of the values.
#[derive(Clone, Debug, PartialEq)]
pub struct Means {
    sums: Vec<f64>,
    count: u64,
}

impl Means {
    /// Of a layer of so many inputs, which saw nothing yet.
    pub fn new(inputs: usize) -> Self {
        Self { sums: vec![0.0; inputs], count: 0 }
    }

    /// Sees rows with a value for each input; what fills none at the end is left out.
    pub fn rows(&mut self, values: &[f32]) {
        for row in values.chunks_exact(self.sums.len().max(1)) {
            self.sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
            self.count += 1;
        }
    }

    /// Sees planes of `size` values, one for each input in turn; of images, one after the other.
    pub fn planes(&mut self, values: &[f32], size: usize) {
        for image in values.chunks_exact((self.sums.len() * size).max(1)) {
            for (sum, plane) in self.sums.iter_mut().zip(image.chunks_exact(size.max(1))) {
                *sum += plane.iter().map(|x| f64::from(*x)).sum::<f64>();
            }
            self.count += size as u64;
        }
    }

    /// The mean of each input; 0 where nothing was seen.
    pub fn means(&self) -> Vec<f64> {
        self.sums.iter().map(|sum| sum / self.count.max(1) as f64).collect()
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

//! How far the inputs of a layer reach.

use alloc::vec;
use alloc::vec::Vec;

/// The least and the greatest value of each input of a layer, over all that it saw.
#[derive(Clone, Debug, PartialEq)]
pub struct Extremes {
    low: Vec<f32>,
    high: Vec<f32>,
}

impl Extremes {
    /// Of a layer of so many inputs, which saw nothing yet.
    pub fn new(inputs: usize) -> Self {
        Self { low: vec![f32::INFINITY; inputs], high: vec![f32::NEG_INFINITY; inputs] }
    }

    /// The least value of each input; infinite where nothing was seen.
    pub fn low(&self) -> &[f32] {
        &self.low
    }

    /// The greatest value of each input; infinite, and negative, where nothing was seen.
    pub fn high(&self) -> &[f32] {
        &self.high
    }

    /// Widens the range of an input to these two; of one that is not there, nothing.
    pub fn widen(&mut self, input: usize, low: f32, high: f32) {
        if let (Some(least), Some(most)) = (self.low.get_mut(input), self.high.get_mut(input)) {
            (*least, *most) = (least.min(low), most.max(high));
        }
    }

    /// Sees rows with a value for each input; what fills none at the end is left out.
    pub fn rows(&mut self, values: &[f32]) {
        for row in values.chunks_exact(self.low.len().max(1)) {
            self.low.iter_mut().zip(row).for_each(|(low, x)| *low = low.min(*x));
            self.high.iter_mut().zip(row).for_each(|(high, x)| *high = high.max(*x));
        }
    }

    /// Sees planes of `size` values, one for each input in turn; of images, one after the other.
    pub fn planes(&mut self, values: &[f32], size: usize) {
        for image in values.chunks_exact((self.low.len() * size).max(1)) {
            for (at, plane) in image.chunks_exact(size.max(1)).enumerate() {
                self.low[at] = plane.iter().fold(self.low[at], |low, x| low.min(*x));
                self.high[at] = plane.iter().fold(self.high[at], |high, x| high.max(*x));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_those_of_each_input() {
        let mut rows = Extremes::new(2);
        assert_eq!((rows.low()[0], rows.high()[1]), (f32::INFINITY, f32::NEG_INFINITY));
        rows.rows(&[3.0, 1.0, 4.0, -2.0, 9.0]);
        assert_eq!((rows.low(), rows.high()), (&[3.0, -2.0][..], &[4.0, 1.0][..]));
        rows.widen(1, -7.0, 0.5);
        rows.widen(2, -9.0, 9.0);
        assert_eq!((rows.low(), rows.high()), (&[3.0, -7.0][..], &[4.0, 1.0][..]));
        let mut planes = Extremes::new(2);
        planes.planes(&[3.0, 0.0, 1.0, 5.0, 0.5, 4.0, -1.0, 1.0], 2);
        assert_eq!((planes.low(), planes.high()), (&[0.0, -1.0][..], &[4.0, 5.0][..]));
    }
}

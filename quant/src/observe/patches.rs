//! What a convolution multiplies its kernels with, as rows.

use core::ops::Range;

/// The windows of a convolution on an image `[channels, rows, columns]`; pairs are of rows and columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Patches {
    /// Channels that a kernel sees: of several groups those of one.
    pub channels: usize,
    /// Places of the image.
    pub image: [usize; 2],
    /// Places of a window.
    pub kernel: [usize; 2],
    /// How far windows are apart.
    pub stride: [usize; 2],
    /// How far the places of a window are apart.
    pub dilation: [usize; 2],
    /// Zeros before the image.
    pub before: [usize; 2],
    /// Windows.
    pub output: [usize; 2],
}

impl Patches {
    /// What a window has: as many values as a kernel has weights, in their order.
    pub fn inputs(&self) -> usize {
        self.channels * self.kernel[0] * self.kernel[1]
    }

    /// Windows of an image.
    pub fn count(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// Values of an image.
    pub fn image_len(&self) -> usize {
        self.channels * self.image[0] * self.image[1]
    }

    /// Writes the values under some windows of an image, a row for each, zeros where the window is beside it.
    ///
    /// # Panics
    ///
    /// If the image is not as large as this says.
    pub fn write(&self, image: &[f32], windows: Range<usize>, out: &mut [f32]) {
        assert_eq!(image.len(), self.image_len(), "an image of as many values as channels and places say");
        let plane = self.image[0] * self.image[1];
        let taps = self.kernel[0] * self.kernel[1];
        for (window, out) in windows.zip(out.chunks_exact_mut(self.inputs().max(1))) {
            let (row, column) = (window / self.output[1].max(1), window % self.output[1].max(1));
            for (image, out) in image.chunks_exact(plane.max(1)).zip(out.chunks_exact_mut(taps.max(1))) {
                for (tap, out) in out.iter_mut().enumerate() {
                    let y = self.under(0, row, tap / self.kernel[1]);
                    let x = self.under(1, column, tap % self.kernel[1]);
                    *out = y.zip(x).map_or(0.0, |(y, x)| image[y * self.image[1] + x]);
                }
            }
        }
    }

    /// The place of the image that is under one of a window; none beside it.
    fn under(&self, axis: usize, window: usize, tap: usize) -> Option<usize> {
        let at = window * self.stride[axis] + tap * self.dilation[axis];
        at.checked_sub(self.before[axis]).filter(|at| *at < self.image[axis])
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn windows_are_rows_in_the_order_of_weights() {
        let patches = Patches {
            channels: 2,
            image: [2, 3],
            kernel: [2, 2],
            stride: [1, 2],
            dilation: [1, 1],
            before: [1, 0],
            output: [2, 1],
        };
        assert_eq!((patches.inputs(), patches.count(), patches.image_len()), (8, 2, 12));
        let image: [f32; 12] = core::array::from_fn(|at| at as f32 + 1.0);
        let mut out = vec![f32::NAN; 16];
        patches.write(&image, 0..2, &mut out);
        let expected = [0.0, 0.0, 1.0, 2.0, 0.0, 0.0, 7.0, 8.0, 1.0, 2.0, 4.0, 5.0, 7.0, 8.0, 10.0, 11.0];
        assert_eq!(out, expected);
        patches.write(&image, 1..2, &mut out[..8]);
        assert_eq!(out[..8], expected[8..]);
    }

    #[test]
    fn windows_reach_over_what_is_between() {
        let patches = Patches {
            channels: 1,
            image: [1, 5],
            kernel: [1, 2],
            stride: [1, 1],
            dilation: [1, 3],
            before: [0, 1],
            output: [1, 4],
        };
        let mut out = vec![f32::NAN; 8];
        patches.write(&[1.0, 2.0, 3.0, 4.0, 5.0], 0..4, &mut out);
        assert_eq!(out, [0.0, 3.0, 1.0, 4.0, 2.0, 5.0, 3.0, 0.0]);
    }
}

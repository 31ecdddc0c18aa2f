//! Resampling of one channel, as Pillow does it.
//!
//! Every output pixel is a weighted mean of the input pixels under a window around its centre;
//! when pictures shrink, the window widens by the same factor, which keeps fine patterns from
//! turning into false ones (antialiasing). First rows, then columns, both rounded to bytes.
//! Weights are whole multiples of 2^-22, so the result is exact: on 8-bit images it is what
//! `PIL.Image.resize` gives, byte for byte.

/// A window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Filter {
    /// All pixels weigh the same: `PIL.Image.BOX`.
    Box,
    /// Weights fall off linearly: `PIL.Image.BILINEAR`.
    #[default]
    Bilinear,
    /// Weights are a cubic spline's, below 0 where they are far: `PIL.Image.BICUBIC` (Keys, *Cubic convolution
    /// interpolation for digital image processing*, 1981, a = -1/2).
    Bicubic,
}

/// The slope of the cubic spline at 1.
const A: f64 = -0.5;

/// Binary digits of weights.
const DIGITS: u32 = 22;

impl Filter {
    /// Half of the window's width, in pixels of the larger of both grids.
    fn support(self) -> f64 {
        match self {
            Self::Box => 0.5,
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        match self {
            Self::Box => f64::from(x > -0.5 && x <= 0.5),
            Self::Bilinear => (1.0 - x.abs()).max(0.0),
            Self::Bicubic => match x.abs() {
                x if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
                x if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
                _ => 0.0,
            },
        }
    }

    /// For every output pixel the first input pixel that counts, and weights from there on.
    fn windows(self, input: usize, output: usize) -> Vec<(usize, Vec<i64>)> {
        let scale = input as f64 / output as f64;
        let stretch = scale.max(1.0);
        let support = self.support() * stretch;
        let window = |at: usize| {
            let center = (at as f64 + 0.5) * scale;
            // Casts clamp at 0 and drop the fraction, as is meant.
            let first = (center - support + 0.5) as usize;
            let end = ((center + support + 0.5) as usize).min(input);
            let weights: Vec<f64> =
                (first..end).map(|x| self.weight((x as f64 - center + 0.5) * (1.0 / stretch))).collect();
            let total: f64 = weights.iter().sum();
            // To the nearest, halves away from 0.
            let whole = |w: f64| (w / total * f64::from(1 << DIGITS) + f64::copysign(0.5, w / total)) as i64;
            (first, weights.into_iter().map(whole).collect())
        };
        (0..output).map(window).collect()
    }
}

/// One row or column resampled: `at` reads it, `put` takes the result.
fn line(windows: &[(usize, Vec<i64>)], at: impl Fn(usize) -> u8, mut put: impl FnMut(usize, u8)) {
    for (place, (first, weights)) in windows.iter().enumerate() {
        let sum: i64 = weights.iter().enumerate().map(|(i, w)| w * i64::from(at(first + i))).sum();
        put(place, ((sum + (1 << (DIGITS - 1))) >> DIGITS).clamp(0, 255) as u8);
    }
}

/// A channel of height and width `from`, resampled to `to`. Neither may have a side of 0.
pub(super) fn resize(plane: &[u8], from: (usize, usize), to: (usize, usize), filter: Filter) -> Vec<u8> {
    let ((height, width), (new_height, new_width)) = (from, to);
    let mut wide = plane.to_vec();
    if new_width != width {
        let windows = filter.windows(width, new_width);
        wide = vec![0; height * new_width];
        for (row, out) in plane.chunks(width).zip(wide.chunks_mut(new_width)) {
            line(&windows, |x| row[x], |x, pixel| out[x] = pixel);
        }
    }
    if new_height == height {
        return wide;
    }
    let windows = filter.windows(height, new_height);
    let mut out = vec![0; new_height * new_width];
    for x in 0..new_width {
        line(&windows, |y| wide[y * new_width + x], |y, pixel| out[y * new_width + x] = pixel);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_means_and_wholes_are_copies() {
        let plane = [0, 10, 20, 30, 40, 50, 60, 71];
        // Rows first, and rounded: 5, 25, 45 and 65.5, which is 66.
        assert_eq!(resize(&plane, (2, 4), (1, 2), Filter::Box), [25, 46]);
        assert_eq!(resize(&plane, (2, 4), (2, 4), Filter::Bilinear), plane);
        assert_eq!(resize(&[7], (1, 1), (3, 2), Filter::Bilinear), [7; 6]);
        assert_eq!(resize(&[0, 100], (1, 2), (1, 4), Filter::Box), [0, 0, 100, 100]);
        // Centres at 1/4, 3/4, 5/4, 7/4 of the input's pixels, whose centres are at 1/2 and 3/2.
        assert_eq!(resize(&[0, 100], (1, 2), (1, 4), Filter::Bilinear), [0, 25, 75, 100]);
        // A window of width 8 over four pixels: weights 5/8, 7/8, 7/8 and 5/8 of a sum of 3.
        assert_eq!(resize(&[0, 0, 80, 160], (1, 4), (1, 1), Filter::Bilinear), [57]);
        // At 1/4 beyond a pixel: -9/128, 111/128, 29/128 and -3/128 of its neighbours; what goes beyond is cut off.
        assert_eq!(resize(&[0, 0, 128, 0, 0], (1, 5), (1, 10), Filter::Bicubic)[3..7], [29, 111, 111, 29]);
        assert_eq!(resize(&[0, 0, 255, 255], (1, 4), (1, 8), Filter::Bicubic), [0, 0, 0, 52, 203, 255, 255, 255]);
    }
}

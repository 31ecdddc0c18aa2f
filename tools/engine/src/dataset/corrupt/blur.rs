//! Blurs: Gaussian, out of focus, frosted glass, zoom.

use super::{Severity, byte};
use crate::dataset::draws::Draws;
use crate::dataset::elementary::exp;

/// A channel of numbers.
pub(super) struct Plane {
    height: usize,
    width: usize,
    values: Vec<f64>,
}

impl Plane {
    fn of_bytes(pixels: &[u8], (height, width): (usize, usize)) -> Self {
        Self { height, width, values: pixels.iter().map(|x| f64::from(*x) / 255.0).collect() }
    }

    fn write(&self, out: &mut [u8]) {
        out.iter_mut().zip(&self.values).for_each(|(out, x)| *out = byte(*x));
    }
}

/// Applies `blur` to every channel.
fn channels(pixels: &[u8], size: (usize, usize), out: &mut [u8], blur: impl Fn(Plane) -> Plane) {
    let plane = size.0 * size.1;
    for (pixels, out) in pixels.chunks(plane).zip(out.chunks_mut(plane)) {
        blur(Plane::of_bytes(pixels, size)).write(out);
    }
}

/// Weights of a Gaussian at 0, 1, …, cut off at four deviations, of sum 1 with their mirror
/// images; the window of `scipy.ndimage.gaussian_filter`.
fn gaussian_weights(sigma: f64) -> Vec<f64> {
    let radius = (4.0 * sigma + 0.5) as usize;
    let raw: Vec<f64> = (0..=radius).map(|x| exp(-0.5 / (sigma * sigma) * (x * x) as f64)).collect();
    let total = raw[0] + 2.0 * raw[1..].iter().sum::<f64>();
    raw.into_iter().map(|w| w / total).collect()
}

/// Convolution with a symmetric window along columns, then along rows; outside the picture is
/// what its edge is.
fn separable(plane: &Plane, weights: &[f64]) -> Plane {
    let Plane { height, width, ref values } = *plane;
    let pass = |values: &[f64], along: usize, stride: usize| -> Vec<f64> {
        let at = |i: usize| {
            let place = i / stride % along;
            let to = |other: usize| i - place * stride + other * stride;
            let pairs = weights.iter().enumerate().skip(1).rev().map(|(by, weight)| {
                let (before, after) = (place.saturating_sub(by), (place + by).min(along - 1));
                (values[to(before)] + values[to(after)]) * weight
            });
            pairs.fold(values[i] * weights[0], |sum, pair| sum + pair)
        };
        (0..values.len()).map(at).collect()
    };
    let columns = pass(values, height, width);
    Plane { height, width, values: pass(&columns, width, 1) }
}

/// A Gaussian of deviation 0.4, 0.6, 0.7, 0.8, 1 pixels.
pub(super) fn gaussian(severity: Severity, pixels: &[u8], size: (usize, usize), out: &mut [u8]) {
    let weights = gaussian_weights(severity.of([0.4, 0.6, 0.7, 0.8, 1.0]));
    channels(pixels, size, out, |plane| separable(&plane, &weights));
}

/// A Gaussian, bytes again, then each pixel from the last to the first takes the colour of one
/// at most `d` before it in both directions, as often as said, and the Gaussian once more:
/// deviation, `d` and repetitions (0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2),
/// (0.4, 1, 2).
///
/// In the original two pixels are to change places. They do not: its assignment through views
/// copies the one over the other. That is what CIFAR-10-C holds, and what is done here.
pub(super) fn glass(severity: Severity, draws: &mut Draws, pixels: &[u8], size: (usize, usize), out: &mut [u8]) {
    let (sigma, delta, times) = severity.of([(0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)]);
    let weights = gaussian_weights(sigma);
    let (height, width) = size;
    let mut mixed = vec![0; pixels.len()];
    channels(pixels, size, &mut mixed, |plane| separable(&plane, &weights));
    for _ in 0..times {
        for y in (delta + 1..=height.saturating_sub(delta)).rev() {
            for x in (delta + 1..=width.saturating_sub(delta)).rev() {
                let step = |draws: &mut Draws| delta - draws.below(2 * delta);
                let (dx, dy) = (step(draws), step(draws));
                for plane in mixed.chunks_mut(height * width) {
                    plane[y * width + x] = plane[(y - dy) * width + x - dx];
                }
            }
        }
    }
    channels(&mixed, size, out, |plane| separable(&plane, &weights));
}

/// The weights of a lens out of focus, `side` by `side`.
///
/// All pixels at most `radius` from the middle weigh the same; a Gaussian of 3x3 then takes off
/// the stairs of the edge.
fn disk(radius: f64, sigma: f64) -> (usize, Vec<f64>) {
    let reach = radius as usize + 1;
    let side = 2 * reach + 1;
    let inside = |i: usize| {
        let (y, x) = ((i / side).abs_diff(reach) as f64, (i % side).abs_diff(reach) as f64);
        f64::from(x * x + y * y <= radius * radius)
    };
    let disk: Vec<f64> = (0..side * side).map(inside).collect();
    let total: f64 = disk.iter().sum();
    let edge = exp(-0.5 / (sigma * sigma));
    let weights = [1.0 / (1.0 + 2.0 * edge), edge / (1.0 + 2.0 * edge)];
    let disk = Plane { height: side, width: side, values: disk.into_iter().map(|w| w / total).collect() };
    (side, separable(&disk, &weights).values)
}

/// The place that a place outside of the picture mirrors, without repeating the edge.
fn reflected(at: isize, len: usize) -> usize {
    let period = 2 * (len as isize - 1);
    if period == 0 {
        return 0;
    }
    let at = at.rem_euclid(period);
    at.min(period - at) as usize
}

/// Out of focus: a disk of radius 0.3, 0.4, 0.5, 1, 1.5, its edge smoothed by a Gaussian of
/// deviation 0.4, 0.5, 0.6, 0.2, 0.1. Outside the picture is its mirror image.
pub(super) fn defocus(severity: Severity, pixels: &[u8], size: (usize, usize), out: &mut [u8]) {
    let (radius, sigma) = severity.of([(0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1)]);
    let (side, weights) = disk(radius, sigma);
    let reach = (side / 2) as isize;
    channels(pixels, size, out, |Plane { height, width, values }| {
        let at = |i: usize| {
            let (y, x) = ((i / width) as isize, (i % width) as isize);
            let pixel = |j: usize| {
                let (dy, dx) = ((j / side) as isize - reach, (j % side) as isize - reach);
                values[reflected(y + dy, height) * width + reflected(x + dx, width)]
            };
            weights.iter().enumerate().map(|(j, weight)| weight * pixel(j)).sum()
        };
        Plane { height, width, values: (0..values.len()).map(at).collect() }
    });
}

/// How many zooms there are at each severity; the largest is one hundredth less.
///
/// The original writes `arange(1, 1.06, 0.01)` and so on. The ends are not part of such a list,
/// except where rounding makes them: at 1.06 and 1.11. That is what CIFAR-10-C holds.
const ZOOMS: [u32; 5] = [7, 12, 16, 21, 26];

/// One hundredth, as the difference of 1.01 and 1 in f64.
const ZOOM_STEP: f64 = 1.01 - 1.0;

/// The mean of the picture and of its middle part magnified 1, 1.01, 1.02, … times, up to 1.06,
/// 1.11, 1.15, 1.20, 1.25; computed in f32 as the original is.
pub(super) fn zoom(severity: Severity, pixels: &[u8], size: (usize, usize), out: &mut [u8]) {
    let count = severity.of(ZOOMS);
    let plane = size.0 * size.1;
    let axes: Vec<[Vec<Between>; 2]> = (0..count)
        .map(|i| 1.0 + f64::from(i) * ZOOM_STEP)
        .map(|factor| [magnified(size.0, factor), magnified(size.1, factor)])
        .collect();
    for (pixels, out) in pixels.chunks(plane).zip(out.chunks_mut(plane)) {
        let picture: Vec<f32> = pixels.iter().map(|x| (f64::from(*x) / 255.0) as f32).collect();
        let mut sum = vec![0f32; plane];
        for [rows, columns] in &axes {
            let places = rows.iter().flat_map(|row| columns.iter().map(move |column| (row, column)));
            for (sum, (row, column)) in sum.iter_mut().zip(places) {
                let across = |y: usize| column.of(|x| f64::from(picture[y * size.1 + x]));
                *sum += row.of(across) as f32;
            }
        }
        for ((out, x), sum) in out.iter_mut().zip(&picture).zip(&sum) {
            let mean = ((x + sum) / (count + 1) as f32).clamp(0.0, 1.0);
            *out = (mean * 255.0) as u8;
        }
    }
}

/// A place between two of a line.
pub(super) struct Between {
    first: usize,
    second: usize,
    share: f64,
}

impl Between {
    pub(super) fn of(&self, at: impl Fn(usize) -> f64) -> f64 {
        (1.0 - self.share) * at(self.first) + self.share * at(self.second)
    }
}

/// Where the middle part of a line of `len` has its pixels when it is magnified to fill it: the
/// part is `ceil(len / factor)` long, becomes `round(that * factor)` long with its ends on each
/// other, and what is too much at both ends is cut off.
pub(super) fn magnified(len: usize, factor: f64) -> Vec<Between> {
    let part = ((len as f64 / factor).ceil() as usize).clamp(1, len);
    let from = (len - part) / 2;
    let long = ((part as f64 * factor).round_ties_even() as usize).max(len);
    let trim = (long - len) / 2;
    let step = if long > 1 { (part - 1) as f64 / (long - 1) as f64 } else { 0.0 };
    let between = |i: usize| {
        let place = ((i + trim) as f64 * step).min((part - 1) as f64);
        let first = place.floor();
        let second = (first as usize + 1).min(part - 1);
        Between { first: from + first as usize, second: from + second, share: place - first }
    };
    (0..len).map(between).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_have_sum_one_and_the_shape_that_is_meant() {
        for sigma in [0.05, 0.25, 0.4, 0.6, 0.7, 0.8, 1.0] {
            let weights = gaussian_weights(sigma);
            let sum = weights[0] + 2.0 * weights[1..].iter().sum::<f64>();
            assert!((sum - 1.0).abs() < 1e-15, "{sigma}");
            for (x, weight) in weights.iter().enumerate() {
                let expected = (-0.5 * (x as f64 / sigma).powi(2)).exp();
                assert!((weight / weights[0] - expected).abs() < 1e-15, "{sigma} {x}");
            }
        }
        assert_eq!((gaussian_weights(1.0).len(), gaussian_weights(0.05).len()), (5, 1));
        let (side, weights) = disk(1.0, 1e-3);
        let cross: Vec<usize> = (0..25).filter(|i| weights[*i] > 0.19).collect();
        assert_eq!((side, cross), (5, vec![7, 11, 12, 13, 17]));
        for (radius, sigma) in [(0.3, 0.4), (1.0, 0.2), (1.5, 0.1)] {
            assert!((disk(radius, sigma).1.iter().sum::<f64>() - 1.0).abs() < 1e-15);
        }
    }

    #[test]
    fn outside_is_the_edge_or_the_mirror_image() {
        let line: Vec<usize> = (-3..7).map(|at| reflected(at, 4)).collect();
        assert_eq!(line, [3, 2, 1, 0, 1, 2, 3, 2, 1, 0]);
        assert_eq!(reflected(-5, 1), 0);
        let plane = Plane { height: 1, width: 3, values: vec![4.0, 0.0, 0.0] };
        assert_eq!(separable(&plane, &[0.5, 0.25]).values, [3.0, 1.0, 0.0]);
    }

    #[test]
    fn magnified_lines_keep_their_middle() {
        let places = |len, factor| magnified(len, factor).iter().map(|b| b.first as f64 + b.share).collect::<Vec<_>>();
        assert_eq!(places(4, 1.0), [0.0, 1.0, 2.0, 3.0]);
        // Three of four pixels become four (4.5 is a tie): nothing is cut off.
        assert_eq!(places(4, 1.5), [0.0, 2.0 / 3.0, 4.0 / 3.0, 2.0]);
        // Three of six become six: from the second pixel to the fourth.
        assert_eq!(places(6, 2.0), [1.0, 1.4, 1.8, 2.2, 2.6, 3.0]);
        assert_eq!(places(1, 1.25), [0.0]);
    }
}

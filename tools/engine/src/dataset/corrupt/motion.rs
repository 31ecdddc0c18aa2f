//! What moves: the picture itself, and snow that falls over it.

use super::blur::{Between, magnified};
use super::{Severity, byte};
use crate::dataset::draws::{Draws, between, normal};
use crate::dataset::elementary::{exp, sin_cos};

/// Degrees in radians.
const DEGREE: f64 = std::f64::consts::PI / 180.0;

/// The weights of a trace: half a Gaussian, `2 radius + 1` long, of sum 1.
fn trace(radius: usize, sigma: f64) -> Vec<f64> {
    let raw: Vec<f64> = (0..2 * radius + 1).map(|i| exp(-((i * i) as f64) / (2.0 * sigma * sigma))).collect();
    let total: f64 = raw.iter().sum();
    raw.into_iter().map(|weight| weight / total).collect()
}

/// A channel blurred along a trace in the direction of `degrees`, as ImageMagick's `-motion-blur` does it: pixel number `i`
/// of the trace is `ceil(i cos - 1/2)` to the right and `ceil(i sin - 1/2)` below; outside the picture is what its edge is.
fn along(plane: &[u8], (height, width): (usize, usize), trace: &[f64], degrees: f64) -> Vec<u8> {
    let (sine, cosine) = sin_cos(degrees * DEGREE);
    let steps: Vec<(f64, isize, isize)> = trace
        .iter()
        .enumerate()
        .map(|(i, weight)| {
            let step = |by: f64| (i as f64 * by - 0.5).ceil() as isize;
            (*weight, step(sine), step(cosine))
        })
        .collect();
    let moved = |at: usize, by: isize, len: usize| at.saturating_add_signed(by).min(len - 1);
    let pixel = |at: usize| {
        let (y, x) = (at / width, at % width);
        let sum = steps.iter().map(|(weight, down, right)| {
            weight * f64::from(plane[moved(y, *down, height) * width + moved(x, *right, width)])
        });
        (sum.sum::<f64>() + 0.5) as u8
    };
    (0..plane.len()).map(pixel).collect()
}

/// The camera moves: a trace of radius 6, 6, 6, 8, 9 and deviation 1, 1.5, 2, 2, 2.5 in a direction from -45 to 45 degrees.
pub(super) fn blur(severity: Severity, draws: &mut Draws, pixels: &[u8], size: (usize, usize), out: &mut [u8]) {
    let (radius, sigma) = severity.of([(6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5)]);
    let (trace, degrees) = (trace(radius, sigma), between(draws, -45.0, 45.0));
    let plane = size.0 * size.1;
    for (pixels, out) in pixels.chunks(plane).zip(out.chunks_mut(plane)) {
        out.copy_from_slice(&along(pixels, size, &trace, degrees));
    }
}

/// How snow falls.
#[derive(Clone, Copy)]
struct Snow {
    /// Mean and deviation of what is drawn for each pixel.
    drawn: (f64, f64),
    /// How many times flakes are magnified.
    zoom: f64,
    /// What is less is no flake.
    least: f64,
    /// The trace of a flake.
    trace: (usize, f64),
    /// How much of the picture stays as it is; the rest whitens.
    stays: f64,
}

/// Snow by severity.
const SNOW: [Snow; 5] = [
    Snow { drawn: (0.1, 0.2), zoom: 1.0, least: 0.6, trace: (8, 3.0), stays: 0.95 },
    Snow { drawn: (0.1, 0.2), zoom: 1.0, least: 0.5, trace: (10, 4.0), stays: 0.9 },
    Snow { drawn: (0.15, 0.3), zoom: 1.75, least: 0.55, trace: (10, 4.0), stays: 0.9 },
    Snow { drawn: (0.25, 0.3), zoom: 2.25, least: 0.6, trace: (12, 6.0), stays: 0.85 },
    Snow { drawn: (0.3, 0.3), zoom: 1.25, least: 0.65, trace: (14, 12.0), stays: 0.8 },
];

/// Normal numbers, magnified, cut off below and blurred in a direction from -135 to -45 degrees, lie over the whitened
/// picture, once as they are and once turned by half: `clip(s x + (1 - s) max(x, 1.5 grey + 0.5) + f + f')`.
pub(super) fn snow(severity: Severity, draws: &mut Draws, pixels: &[u8], size: (usize, usize), out: &mut [u8]) {
    let Snow { drawn, zoom, least, trace: (radius, sigma), stays } = severity.of(SNOW);
    let plane = size.0 * size.1;
    let raw: Vec<f64> = (0..plane).map(|_| drawn.0 + drawn.1 * normal(draws)).collect();
    let [rows, columns] = [magnified(size.0, zoom), magnified(size.1, zoom)];
    let at = |row: &Between, column: &Between| row.of(|y| column.of(|x| raw[y * size.1 + x]));
    let places = rows.iter().flat_map(|row| columns.iter().map(move |column| (row, column)));
    let flake = |x: f64| if x < least { 0 } else { byte(x) };
    let flakes: Vec<u8> = places.map(|(row, column)| flake(at(row, column))).collect();
    let flakes = along(&flakes, size, &trace(radius, sigma), between(draws, -135.0, -45.0));
    let of = |channel: usize, at: usize| f64::from(pixels.get(channel * plane + at).copied().unwrap_or(0)) / 255.0;
    for (at, flake) in flakes.iter().enumerate() {
        let grey = match pixels.len() == plane {
            true => of(0, at),
            false => 0.299 * of(0, at) + 0.587 * of(1, at) + 0.114 * of(2, at),
        };
        let fallen = (f64::from(*flake) + f64::from(flakes[plane - 1 - at])) / 255.0;
        for (channel, out) in out.iter_mut().skip(at).step_by(plane).enumerate() {
            let x = of(channel, at);
            *out = byte(stays * x + (1.0 - stays) * x.max(grey * 1.5 + 0.5) + fallen);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_goes_where_its_angle_says() {
        let mut plane = [0u8; 49];
        plane[3 * 7 + 3] = 200;
        let line = [0.5, 0.25, 0.25];
        let seen = |degrees: f64| -> Vec<(usize, u8)> {
            let out = along(&plane, (7, 7), &line, degrees);
            out.into_iter().enumerate().filter(|(_, x)| *x > 0).collect()
        };
        // To the right of a pixel is what it takes: the point leaves a trace to its left.
        assert_eq!(seen(0.0), [(22, 50), (23, 50), (24, 100)]);
        // Below it, and above.
        assert_eq!(seen(90.0), [(10, 50), (17, 50), (24, 100)]);
        assert_eq!(seen(-90.0), [(24, 100), (31, 50), (38, 50)]);
        // One and two steps round to the same pixel.
        assert_eq!(seen(45.0), [(16, 100), (24, 100)]);
    }

    #[test]
    fn traces_have_sum_one_and_fall() {
        for (radius, sigma) in [(6, 1.0), (9, 2.5), (14, 12.0)] {
            let trace = trace(radius, sigma);
            assert_eq!(trace.len(), 2 * radius + 1);
            assert!((trace.iter().sum::<f64>() - 1.0).abs() < 1e-12 && trace.windows(2).all(|two| two[1] < two[0]));
        }
    }
}

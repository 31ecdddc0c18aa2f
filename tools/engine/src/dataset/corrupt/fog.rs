//! Fog: a random height map added to all channels.

use super::{Severity, byte};
use crate::dataset::draws::{Draws, between};

/// The longest side of images that fog is drawn for: the map of 4096 x 4096 takes 128 MiB.
pub(super) const LONGEST: usize = 4096;

/// `clip((x + a F) m / (m + a))` with the picture's largest value `m` and a plasma fractal `F`
/// of 0 to 1 whose roughness falls by `d` a level: `(a, d)` = (0.2, 3), (0.5, 3), (0.75, 2.5),
/// (1, 2), (1.5, 1.75).
pub(super) fn fog(severity: Severity, draws: &mut Draws, pixels: &[u8], size: (usize, usize), out: &mut [u8]) {
    let (amount, decay) = severity.of([(0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75)]);
    let (height, width) = size;
    let side = height.max(width).max(2).next_power_of_two();
    let map = plasma(side, decay, draws);
    let largest = f64::from(pixels.iter().copied().max().unwrap_or(0)) / 255.0;
    for (pixels, out) in pixels.chunks(height * width).zip(out.chunks_mut(height * width)) {
        for (i, (out, pixel)) in out.iter_mut().zip(pixels).enumerate() {
            let x = f64::from(*pixel) / 255.0 + amount * map[i / width * side + i % width];
            *out = byte(x * largest / (largest + amount));
        }
    }
}

/// A height map of 0 to 1 by the diamond-square algorithm (Fournier, Fussell and Carpenter
/// 1982), its edges joined; `side` is a power of two of at least 2.
///
/// The square of the wibble scales the noise, as in the original.
fn plasma(side: usize, decay: f64, draws: &mut Draws) -> Vec<f64> {
    let mut map = vec![0.0; side * side];
    let at = |map: &[f64], y: usize, x: usize| map[y % side * side + x % side];
    let (mut step, mut wibble) = (side, 100.0);
    while step >= 2 {
        let half = step / 2;
        let mut mean = |sum: f64| sum / 4.0 + wibble * between(draws, -wibble, wibble);
        let corners = || (0..side).step_by(step).flat_map(|y| (0..side).step_by(step).map(move |x| (y, x)));
        for (y, x) in corners() {
            let left = at(&map, y, x) + at(&map, y + step, x);
            let right = at(&map, y, x + step) + at(&map, y + step, x + step);
            map[(y + half) * side + x + half] = mean(left + right);
        }
        // Above a middle and left of one. Neither reads what the other writes.
        for (y, x) in corners() {
            let middles = at(&map, y + half, x + half) + at(&map, y + side - half, x + half);
            map[y * side + x + half] = mean(middles + (at(&map, y, x) + at(&map, y, x + step)));
        }
        for (y, x) in corners() {
            let middles = at(&map, y + half, x + half) + at(&map, y + half, x + side - half);
            map[(y + half) * side + x] = mean(middles + (at(&map, y, x) + at(&map, y + step, x)));
        }
        step = half;
        wibble /= decay;
    }
    let least = map.iter().copied().fold(f64::INFINITY, f64::min);
    let most = map.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let range = if most > least { most - least } else { 1.0 };
    map.iter_mut().for_each(|x| *x = (*x - least) / range);
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_fills_its_range_and_its_roughness_falls() {
        let roughness = |decay| {
            let map = plasma(64, decay, &mut Draws::new(1, 2, 3));
            let (least, most) = map.iter().fold((1.0f64, 0.0f64), |(a, b), x| (a.min(*x), b.max(*x)));
            assert_eq!((least, most), (0.0, 1.0));
            map.windows(2).map(|pair| (pair[1] - pair[0]).abs()).sum::<f64>()
        };
        assert!(roughness(3.0) < roughness(1.75), "{} {}", roughness(3.0), roughness(1.75));
    }

    #[test]
    fn the_smallest_map_follows_the_formula() {
        let (mut draws, mut again) = (Draws::new(0, 0, 0), Draws::new(0, 0, 0));
        let map = plasma(2, 3.0, &mut draws);
        let wibbles = [0, 1, 2].map(|_| 100.0 * between(&mut again, -100.0, 100.0));
        let middle = wibbles[0];
        let heights = [0.0, middle / 2.0 + wibbles[1], middle / 2.0 + wibbles[2], middle];
        let least = heights.iter().copied().fold(f64::INFINITY, f64::min);
        let most = heights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        for (found, height) in map.iter().zip(heights) {
            assert!((found - (height - least) / (most - least)).abs() < 1e-15, "{map:?} {heights:?}");
        }
    }
}

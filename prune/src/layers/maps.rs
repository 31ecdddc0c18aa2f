//! What the maps that a block makes say of it.

use alloc::vec::Vec;

/// Sums over the maps `relu(output)` of one block: their mean, and how far their ranks are from full.
///
/// - *expectABS*: the mean over samples, channels and positions.
/// - *HRank*: the mean over samples and channels of `rank(map) / max(height, width)` (Lin et al., *HRank: Filter Pruning using
///   High-Rank Feature Map*, 2020).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Maps {
    sum: f64,
    elements: u64,
    ranks: f64,
    maps: u64,
}

impl Maps {
    /// Those of the sizes of maps.
    pub fn sizes(values: &[f32]) -> Self {
        let sum = values.iter().map(|x| f64::from(x.max(0.0))).sum();
        Self { sum, elements: values.len() as u64, ..Self::default() }
    }

    /// Those of the ranks of maps of `height` x `width`, one after the other; what fills none at the end is left out.
    pub fn ranks(values: &[f32], height: usize, width: usize) -> Self {
        let mut found = Self::default();
        for map in values.chunks_exact((height * width).max(1)) {
            let map: Vec<f32> = map.iter().map(|x| x.max(0.0)).collect();
            found.ranks += rank(&map, height, width) as f64 / height.max(width).max(1) as f64;
            found.maps += 1;
        }
        found
    }

    /// Adds the sums of others, behind these.
    pub fn add(&mut self, others: &Self) {
        self.sum += others.sum;
        self.elements += others.elements;
        self.ranks += others.ranks;
        self.maps += others.maps;
    }

    /// The mean of all elements; none where there is none.
    pub fn mean(&self) -> Option<f64> {
        (self.elements > 0).then(|| self.sum / self.elements as f64)
    }

    /// The mean rank, of 1; none where there is no map.
    pub fn rank(&self) -> Option<f64> {
        (self.maps > 0).then(|| self.ranks / self.maps as f64)
    }
}

/// The rank of a matrix `[rows, cols]`: how many of its singular values are above the largest one times `max(rows, cols)` times
/// 2^-23, what single floats tell apart. Of a matrix with NaN or infinity it is 0.
///
/// Singular values are found by rotations of pairs of rows until all are at right angles (Hestenes, *Inversion of Matrices by
/// Biorthogonalization and Related Results*, 1958), in double floats.
pub fn rank(values: &[f32], rows: usize, cols: usize) -> usize {
    if rows == 0 || cols == 0 || values.len() != rows * cols || values.iter().any(|x| !x.is_finite()) {
        return 0;
    }
    let tall = rows > cols;
    let (count, len) = if tall { (cols, rows) } else { (rows, cols) };
    let at = |row: usize, col: usize| f64::from(if tall { values[col * cols + row] } else { values[row * cols + col] });
    let mut all: Vec<f64> = (0..count * len).map(|place| at(place / len, place % len)).collect();
    // Twice as many sweeps as matrices of such sizes were seen to need.
    for _ in 0..30 {
        if !sweep(&mut all, count, len) {
            break;
        }
    }
    let norms: Vec<f64> = all.chunks_exact(len).map(|row| row.iter().map(|x| x * x).sum::<f64>().sqrt()).collect();
    let most = norms.iter().copied().fold(0.0, f64::max);
    let least = most * len as f64 * f64::from(f32::EPSILON);
    norms.iter().filter(|norm| **norm > least).count()
}

/// Turns each pair of rows to right angles once; whether any was not.
fn sweep(all: &mut [f64], count: usize, len: usize) -> bool {
    let mut turned = false;
    for first in 0..count {
        for second in first + 1..count {
            let (before, after) = all.split_at_mut(second * len);
            let (a, b) = (&mut before[first * len..(first + 1) * len], &mut after[..len]);
            let (mut aa, mut bb, mut ab) = (0.0, 0.0, 0.0);
            for (x, y) in a.iter().zip(b.iter()) {
                aa += x * x;
                bb += y * y;
                ab += x * y;
            }
            if ab == 0.0 || ab * ab <= 1e-30 * aa * bb {
                continue;
            }
            turned = true;
            let zeta = (bb - aa) / (2.0 * ab);
            let tangent = zeta.signum() / (zeta.abs() + (1.0 + zeta * zeta).sqrt());
            let cosine = 1.0 / (1.0 + tangent * tangent).sqrt();
            let sine = cosine * tangent;
            for (x, y) in a.iter_mut().zip(b.iter_mut()) {
                (*x, *y) = (cosine * *x - sine * *y, sine * *x + cosine * *y);
            }
        }
    }
    turned
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    /// A matrix of a rank: sums of so many products of a column and a row.
    fn of_rank(rank: usize, rows: usize, cols: usize) -> Vec<f32> {
        let number = |a: usize, b: usize| {
            let x = (a * 64 + b + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            ((x ^ x >> 29) >> 17 & 31) as f32 - 15.5
        };
        let at = |place: usize| (0..rank).map(|k| number(place / cols, k) * number(k + 50, place % cols)).sum();
        (0..rows * cols).map(at).collect()
    }

    #[test]
    fn the_rank_of_a_sum_of_products_is_their_number() {
        for (rows, cols) in [(8, 8), (5, 9), (9, 5), (32, 32), (1, 7), (7, 1)] {
            for wanted in 0..=rows.min(cols).min(6) {
                assert_eq!(rank(&of_rank(wanted, rows, cols), rows, cols), wanted, "{rows}x{cols}");
            }
        }
        let unit: Vec<f32> = (0..64).map(|at| if at % 9 == 0 { 1e-3 } else { 0.0 }).collect();
        assert_eq!(rank(&unit, 8, 8), 8);
        assert_eq!((rank(&[], 0, 3), rank(&[f32::NAN; 4], 2, 2), rank(&[1.0; 3], 2, 2)), (0, 0, 0));
    }

    #[test]
    fn what_rounding_makes_is_no_rank() {
        // The second row is the first one, rounded: apart by what single floats do not tell apart.
        let row: Vec<f32> = (1..=16).map(|x| x as f32 / 3.0).collect();
        let other: Vec<f32> = row.iter().map(|x| (x * 1.1) * (1.0 / 1.1)).collect();
        assert_ne!(row, other);
        assert_eq!(rank(&[row, other].concat(), 2, 16), 1);
    }

    #[test]
    fn maps_are_looked_at_where_they_are_above_zero() {
        // The first map is all ones, the second one number above zero, and what is left of the third is nothing.
        let values = vec![1.0, 1.0, 1.0, 1.0, -3.0, 2.0, -1.0, -1.0, -1.0, 0.0, -2.0, -0.5, 7.0];
        let mut found = Maps::ranks(&values, 2, 2);
        assert_eq!((found.mean(), found.rank()), (None, Some((0.5 + 0.5 + 0.0) / 3.0)));
        found.add(&Maps::sizes(&values[..12]));
        assert_eq!((found.mean(), found.rank()), (Some(6.0 / 12.0), Some(1.0 / 3.0)));
        let twice = found;
        found.add(&twice);
        assert_eq!((found.mean(), found.rank()), (Some(0.5), Some(1.0 / 3.0)));
        assert_eq!((Maps::default().mean(), Maps::default().rank()), (None, None));
    }
}

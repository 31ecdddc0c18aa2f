//! How alike two sets of features are.

use alloc::vec;
use alloc::vec::Vec;

use crate::{Error, ErrorKind};

/// Sums for the linear centered kernel alignment of two features of the same samples (Kornblith et al., *Similarity of Neural
/// Network Representations Revisited*, 2019):
///
/// ```text
/// CKA(X, Y) = |Y'X|² / (|X'X| |Y'Y|)        X, Y centered, norms of all elements
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Alignment {
    widths: [usize; 2],
    sums: [Vec<f64>; 2],
    /// X'X, Y'Y and Y'X before centering.
    products: [Vec<f64>; 3],
    samples: u64,
}

impl Alignment {
    /// Of features of so many numbers.
    pub fn new(widths: [usize; 2]) -> Self {
        let [x, y] = widths;
        let products = [vec![0.0; x * x], vec![0.0; y * y], vec![0.0; y * x]];
        Self { widths, sums: widths.map(|width| vec![0.0; width]), products, samples: 0 }
    }

    /// Adds samples: features `[samples, width]` of each, row by row.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::States`] for other numbers of samples, or rows that are not full.
    pub fn add(&mut self, x: &[f32], y: &[f32]) -> Result<(), Error> {
        let [of_x, of_y] = self.widths;
        let fits = of_x > 0 && of_y > 0 && x.len().is_multiple_of(of_x) && x.len() / of_x * of_y == y.len();
        if !fits {
            return Err(ErrorKind::States { before: x.len(), after: y.len(), width: of_x }.into());
        }
        for (x, y) in x.chunks_exact(of_x).zip(y.chunks_exact(of_y)) {
            let [xx, yy, yx] = &mut self.products;
            for (sums, row) in self.sums.iter_mut().zip([x, y]) {
                sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
            }
            for (all, [rows, cols]) in [(xx, [x, x]), (yy, [y, y]), (yx, [y, x])] {
                for (sums, row) in all.chunks_exact_mut(cols.len()).zip(rows) {
                    sums.iter_mut().zip(cols).for_each(|(sum, col)| *sum += f64::from(*row) * f64::from(*col));
                }
            }
            self.samples += 1;
        }
        Ok(())
    }

    /// The alignment, from 0 to 1; none of features that do not change.
    pub fn score(&self) -> Option<f64> {
        let [x, y] = &self.sums;
        let [xx, yy, yx] = &self.products;
        let norm = |all: &[f64], rows: &[f64], cols: &[f64]| {
            let centered = |(sums, row): (&[f64], &f64)| {
                let each = |(sum, col): (&f64, &f64)| (sum - row * col / self.samples as f64).powi(2);
                sums.iter().zip(cols).map(each).sum::<f64>()
            };
            all.chunks_exact(cols.len()).zip(rows).map(centered).sum::<f64>()
        };
        let (own, other) = (norm(xx, x, x), norm(yy, y, y));
        let both = (own * other).sqrt();
        (self.samples > 1 && both > 0.0).then(|| norm(yx, y, x) / both)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features(samples: usize, width: usize, seed: usize) -> Vec<f32> {
        (0..samples * width).map(|at| ((at * 7919 + seed * 104_729) % 1009) as f32 / 500.0 - 1.0).collect()
    }

    fn of(x: &[f32], y: &[f32], widths: [usize; 2]) -> Option<f64> {
        let mut found = Alignment::new(widths);
        found.add(x, y).unwrap();
        found.score()
    }

    #[test]
    fn turned_scaled_and_moved_features_are_the_same() {
        let x = features(40, 2, 1);
        let (sine, cosine) = (0.6, 0.8);
        let turned =
            |row: &[f32]| [3.0 * (cosine * row[0] - sine * row[1]) + 5.0, 3.0 * (sine * row[0] + cosine * row[1])];
        let y: Vec<f32> = x.chunks_exact(2).flat_map(turned).collect();
        assert!((of(&x, &y, [2, 2]).unwrap() - 1.0).abs() < 1e-6);
        let other = of(&x, &features(40, 3, 9), [2, 3]).unwrap();
        assert!((0.0..0.5).contains(&other), "{other}");
    }

    #[test]
    fn the_sums_are_those_of_the_definition() {
        let (x, y) = (features(12, 3, 3), features(12, 2, 5));
        let centered = |all: &[f32], width: usize| -> Vec<Vec<f64>> {
            let mean = |col: usize| all.iter().skip(col).step_by(width).map(|x| f64::from(*x)).sum::<f64>() / 12.0;
            let column = |col: usize| all.iter().skip(col).step_by(width).map(|x| f64::from(*x) - mean(col)).collect();
            (0..width).map(column).collect()
        };
        let (a, b) = (centered(&x, 3), centered(&y, 2));
        let norm = |a: &[Vec<f64>], b: &[Vec<f64>]| -> f64 {
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            a.iter().flat_map(|a| b.iter().map(move |b| dot(a, b).powi(2))).sum()
        };
        let expected = norm(&a, &b) / (norm(&a, &a) * norm(&b, &b)).sqrt();
        assert!((of(&x, &y, [3, 2]).unwrap() - expected).abs() < 1e-12);
        let mut parts = Alignment::new([3, 2]);
        parts.add(&x[..15], &y[..10]).unwrap();
        parts.add(&x[15..], &y[10..]).unwrap();
        assert_eq!(parts.score(), of(&x, &y, [3, 2]));
    }

    #[test]
    fn features_that_do_not_change_are_like_nothing_and_others_are_refused() {
        assert_eq!(of(&[1.0; 8], &[2.0; 8], [2, 2]), None);
        assert_eq!(Alignment::new([2, 2]).score(), None);
        assert!(Alignment::new([2, 2]).add(&[1.0; 4], &[1.0; 6]).is_err());
        assert!(Alignment::new([0, 2]).add(&[], &[]).is_err());
    }
}

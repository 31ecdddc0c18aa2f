//! How much each feature tells of the classes, by partial least squares.

use alloc::vec;
use alloc::vec::Vec;

use crate::{Error, ErrorKind};

/// Sums of features and classes for a partial least squares regression of the one on the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Projection {
    features: usize,
    classes: usize,
    /// Sums of features, and samples of each class.
    sums: Vec<f64>,
    counts: Vec<f64>,
    /// X'X and X'Y before centering.
    squares: Vec<f64>,
    products: Vec<f64>,
}

impl Projection {
    /// Of so many features and classes.
    pub fn new(features: usize, classes: usize) -> Self {
        let (squares, products) = (vec![0.0; features * features], vec![0.0; features * classes]);
        Self { features, classes, sums: vec![0.0; features], counts: vec![0.0; classes], squares, products }
    }

    /// Adds a sample: its features, and its class.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::States`] for another number of features, or a class that is not there.
    pub fn add(&mut self, features: &[f32], class: usize) -> Result<(), Error> {
        if features.len() != self.features || class >= self.classes {
            return Err(ErrorKind::States { before: features.len(), after: class, width: self.features }.into());
        }
        for (sums, row) in self.squares.chunks_exact_mut(self.features.max(1)).zip(features) {
            sums.iter_mut().zip(features).for_each(|(sum, col)| *sum += f64::from(*row) * f64::from(*col));
        }
        for ((at, x), sum) in features.iter().enumerate().zip(&mut self.sums) {
            *sum += f64::from(*x);
            self.products[at * self.classes + class] += f64::from(*x);
        }
        self.counts[class] += 1.0;
        Ok(())
    }

    /// The variable importance in the projection of each feature, with so many components:
    ///
    /// ```text
    /// VIP_j = sqrt( d Σ_h s_h (w_jh / |w_h|)² / Σ_h s_h ),        s_h = |t_h|² |q_h|²
    /// ```
    ///
    /// of d features, w being the weights of a component, t its scores and q its loadings of the classes. Features and classes
    /// are centered and scaled to a variance of 1; a feature that does not change has the importance 0. The mean of the squares
    /// is 1. Components are found from the products of features and classes alone (Dayal and MacGregor, *Improved PLS
    /// Algorithms*, 1997); there are fewer where nothing is left to tell.
    pub fn importance(&self, components: usize) -> Vec<f64> {
        let Scaled { squares, mut products } = self.scaled();
        let (d, classes) = (self.features, self.classes);
        let mut turned: Vec<[Vec<f64>; 2]> = Vec::new();
        let (mut sums, mut total) = (vec![0.0; d], 0.0);
        let first: f64 = products.iter().map(|x| x * x).sum();
        for _ in 0..components {
            let left: f64 = products.iter().map(|x| x * x).sum();
            if left <= first * 1e-20 {
                break;
            }
            let direction = strongest(&products, d, classes);
            let mut w: Vec<f64> = products.chunks_exact(classes).map(|row| dot(row, &direction)).collect();
            let norm = dot(&w, &w).sqrt();
            w.iter_mut().for_each(|w| *w /= norm);
            let mut r = w.clone();
            for [p, before] in &turned {
                let share = dot(p, &w);
                r.iter_mut().zip(before).for_each(|(r, x)| *r -= share * x);
            }
            let xr: Vec<f64> = squares.chunks_exact(d).map(|row| dot(row, &r)).collect();
            let tt = dot(&r, &xr);
            if tt <= 0.0 {
                break;
            }
            let p: Vec<f64> = xr.iter().map(|x| x / tt).collect();
            let mut q = vec![0.0; classes];
            for (row, r) in products.chunks_exact(classes).zip(&r) {
                q.iter_mut().zip(row).for_each(|(q, x)| *q += r * x / tt);
            }
            for (row, p) in products.chunks_exact_mut(classes).zip(&p) {
                row.iter_mut().zip(&q).for_each(|(x, q)| *x -= p * q * tt);
            }
            let explained = tt * dot(&q, &q);
            sums.iter_mut().zip(&w).for_each(|(sum, w)| *sum += explained * w * w);
            total += explained;
            turned.push([p, r]);
        }
        sums.iter().map(|sum| if total > 0.0 { (d as f64 * sum / total).sqrt() } else { 0.0 }).collect()
    }

    /// The products of features and classes that are centered and scaled.
    fn scaled(&self) -> Scaled {
        let samples: f64 = self.counts.iter().sum();
        let spread = |square: f64, sum: f64| {
            let variance = square - sum * sum / samples;
            // What rounding makes of a feature that does not change is no variance.
            if variance > square * 1e-12 { 1.0 / variance.sqrt() } else { 0.0 }
        };
        let d = self.features;
        let x: Vec<f64> = (0..d).map(|at| spread(self.squares[at * d + at], self.sums[at])).collect();
        let y: Vec<f64> = self.counts.iter().map(|count| spread(*count, *count)).collect();
        let of = |all: &[f64], cols: usize, others: &[f64], scale: &[f64]| -> Vec<f64> {
            let each = |(at, sum): (usize, &f64)| {
                let (row, col) = (at / cols, at % cols);
                (sum - self.sums[row] * others[col] / samples) * x[row] * scale[col]
            };
            all.iter().enumerate().map(each).collect()
        };
        Scaled {
            squares: of(&self.squares, d.max(1), &self.sums, &x),
            products: of(&self.products, self.classes.max(1), &self.counts, &y),
        }
    }
}

/// X'X and X'Y.
struct Scaled {
    squares: Vec<f64>,
    products: Vec<f64>,
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The direction of classes that a matrix `[rows, classes]` stretches most: powers of M'M on its largest column.
fn strongest(matrix: &[f64], rows: usize, classes: usize) -> Vec<f64> {
    let mut square = vec![0.0; classes * classes];
    for row in matrix.chunks_exact(classes).take(rows) {
        for (sums, a) in square.chunks_exact_mut(classes).zip(row) {
            sums.iter_mut().zip(row).for_each(|(sum, b)| *sum += a * b);
        }
    }
    let size = |row: &&[f64]| dot(row, row);
    let start = square.chunks_exact(classes).max_by(|a, b| size(a).total_cmp(&size(b)));
    let mut direction = start.map(<[f64]>::to_vec).unwrap_or_default();
    for _ in 0..500 {
        let mut next: Vec<f64> = square.chunks_exact(classes).map(|row| dot(row, &direction)).collect();
        let norm = dot(&next, &next).sqrt();
        if norm == 0.0 {
            break;
        }
        next.iter_mut().for_each(|x| *x /= norm);
        let apart: f64 = next.iter().zip(&direction).map(|(a, b)| (a - b).powi(2)).sum();
        direction = next;
        if apart < 1e-24 {
            break;
        }
    }
    direction
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Samples of three classes: the first feature tells them, the second a little, the third nothing, the fourth never changes.
    fn seen() -> Projection {
        let mut projection = Projection::new(4, 3);
        for at in 0..300 {
            let class = at % 3;
            let noise = |seed: usize| ((at * 7919 + seed * 104_729) % 1009) as f32 / 1009.0 - 0.5;
            let features = [class as f32 + 0.1 * noise(1), class as f32 + 4.0 * noise(2), noise(3), 7.0];
            projection.add(&features, class).unwrap();
        }
        projection
    }

    #[test]
    fn what_tells_the_classes_is_important() {
        let found = seen().importance(2);
        assert!(found[0] > found[1] && found[1] > found[2] && found[3] == 0.0, "{found:?}");
        let mean: f64 = found.iter().map(|x| x * x).sum::<f64>() / 4.0;
        assert!((mean - 1.0).abs() < 1e-9, "{mean}");
    }

    #[test]
    fn one_component_of_two_classes_is_by_correlation() {
        // The weights of the first component are the correlations with the class.
        let mut projection = Projection::new(2, 2);
        let samples = [([0.0, 1.0], 0), ([1.0, 0.0], 0), ([3.0, 1.0], 1), ([2.0, 2.0], 1)];
        samples.iter().for_each(|(x, class)| projection.add(x, *class).unwrap());
        // Of (0, 1, 3, 2) with (0, 0, 1, 1): 2 / sqrt(5), of (1, 0, 1, 2) 1 / sqrt(2).
        let (a, b) = (2.0 / 5f64.sqrt(), 1.0 / 2f64.sqrt());
        let norm = ((a * a + b * b) / 2.0).sqrt();
        let found = projection.importance(1);
        assert!((found[0] - a / norm).abs() < 1e-9 && (found[1] - b / norm).abs() < 1e-9, "{found:?}");
    }

    #[test]
    fn more_components_than_there_are_change_nothing_and_nothing_has_no_importance() {
        let seen = seen();
        let close = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(close(&seen.importance(3), &seen.importance(30)));
        assert_eq!(Projection::new(2, 2).importance(4), [0.0, 0.0]);
        assert!(Projection::new(2, 2).add(&[1.0], 0).is_err() && Projection::new(1, 2).add(&[1.0], 2).is_err());
    }
}

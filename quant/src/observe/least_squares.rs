//! Weights that make targets of inputs, with the least squares.

use alloc::vec;
use alloc::vec::Vec;

use niwaki_codes::simd::Level;

use super::{Factor, Gram};
use crate::Error;

/// The weights `W` that minimize `|T - X W'|² + λ |W|²` for inputs `X` and targets `T` of the same rows, from the Gram matrix
/// of both beside each other: `W = T'X (X'X + λ)⁻¹`.
#[derive(Clone, Debug)]
pub struct LeastSquares {
    factor: Factor,
    inputs: usize,
    /// `T'X`, `[targets, inputs]`.
    cross: Vec<f64>,
    /// The squares of each target.
    squares: Vec<f64>,
}

impl LeastSquares {
    /// Of a Gram matrix of rows `[inputs, targets]`. λ is `damping` times the mean square of the inputs, more where the matrix
    /// has no inverse with that ([`Gram::inverse_factor`]).
    ///
    /// # Errors
    ///
    /// Those of [`Gram::inverse_factor`]; [`ErrorKind::Length`](crate::ErrorKind::Length) for a matrix of fewer inputs.
    pub fn new(level: Level, both: &Gram, inputs: usize, damping: f64) -> Result<Self, Error> {
        both.check()?;
        let factor = both.first(inputs)?.inverse_factor(level, damping)?;
        let targets = inputs..both.inputs();
        let cross = targets.clone().flat_map(|target| (0..inputs).map(move |input| both.get(input, target))).collect();
        Ok(Self { factor, inputs, cross, squares: targets.map(|target| both.get(target, target)).collect() })
    }

    /// How many targets there are.
    pub fn targets(&self) -> usize {
        self.squares.len()
    }

    /// The damping, as a share of the mean square of the inputs.
    pub fn damping(&self) -> f64 {
        self.factor.damping
    }

    /// The weights of a target, one for each input.
    pub fn weights(&self, target: usize) -> Vec<f64> {
        let n = self.inputs;
        let cross = &self.cross[target * n..(target + 1) * n];
        let mut weights = vec![0.0; n];
        // X'X⁻¹ = U'U, U upper triangular.
        for (at, row) in self.factor.upper.chunks_exact(n.max(1)).enumerate() {
            let share: f64 = row[at..].iter().zip(&cross[at..]).map(|(u, c)| u * c).sum();
            weights[at..].iter_mut().zip(&row[at..]).for_each(|(w, u)| *w += share * u);
        }
        weights
    }

    /// The squares of a target, and what is left of them with these weights: `|t|²`, `|t - X w|²`.
    ///
    /// The second is exact for weights of [`weights`](Self::weights): there `X'X w = X't - λ w`.
    pub fn squares(&self, target: usize, weights: &[f64]) -> [f64; 2] {
        let cross = &self.cross[target * self.inputs..(target + 1) * self.inputs];
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let squares = self.squares[target];
        let added = self.factor.damping * self.factor.mean;
        [squares, squares - dot(weights, cross) - added * dot(weights, weights)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of three inputs and two targets; the first target is 2 a - b, the second nothing of the inputs.
    fn rows(count: usize) -> Vec<f32> {
        // The mixing function of splitmix64.
        let number = |at: usize, seed: usize| {
            let x = ((at * 8 + seed) as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let x = (x ^ x >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
            ((x ^ x >> 31) >> 40) as f32 / 8_388_608.0 - 1.0
        };
        let row = |at: usize| {
            let [a, b, c] = [number(at, 1), number(at, 2), number(at, 3)];
            [a, b, c, 2.0 * a - b, number(at, 4)]
        };
        (0..count).flat_map(row).collect()
    }

    fn solved(rows: &[f32], damping: f64) -> LeastSquares {
        let mut gram = Gram::new(5);
        gram.rows(Level::best(), rows);
        LeastSquares::new(Level::best(), &gram, 3, damping).unwrap()
    }

    #[test]
    fn what_is_a_sum_of_inputs_is_found_and_nothing_is_left() {
        let all = rows(200);
        let found = solved(&all, 0.0);
        let weights = found.weights(0);
        let close = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
        assert!(close(&weights, &[2.0, -1.0, 0.0]), "{weights:?}");
        let [all_of_it, left] = found.squares(0, &weights);
        assert!(left.abs() < 1e-9 * all_of_it && found.targets() == 2);
        let [all_of_it, left] = found.squares(1, &found.weights(1));
        assert!(left > 0.9 * all_of_it, "{left} of {all_of_it}");
    }

    #[test]
    fn what_is_left_is_that_of_the_rows_and_damping_makes_weights_smaller() {
        let all = rows(60);
        for damping in [0.0, 0.01, 1.0] {
            let found = solved(&all, damping);
            for target in 0..2 {
                let weights = found.weights(target);
                let left = |row: &[f32]| {
                    let made: f64 = row[..3].iter().zip(&weights).map(|(x, w)| f64::from(*x) * w).sum();
                    (f64::from(row[3 + target]) - made).powi(2)
                };
                let expected: f64 = all.chunks_exact(5).map(left).sum();
                let [squares, found] = found.squares(target, &weights);
                assert!((found - expected).abs() < 1e-6 * squares, "{damping}: {found} {expected}");
            }
        }
        let size = |damping: f64| solved(&all, damping).weights(0).iter().map(|w| w * w).sum::<f64>();
        assert!(size(1.0) < size(0.01) && size(0.01) < size(0.0));
    }

    #[test]
    fn an_input_that_is_always_zero_has_no_weight() {
        let mut all = rows(50);
        all.chunks_exact_mut(5).for_each(|row| row[2] = 0.0);
        let found = solved(&all, 0.01);
        assert_eq!(found.weights(0)[2], 0.0);
        let gram = Gram::new(2);
        assert!(LeastSquares::new(Level::best(), &gram, 3, 0.01).is_err());
    }
}

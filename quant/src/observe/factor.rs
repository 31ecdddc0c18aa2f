//! The inverse of a Gram matrix, as a factor.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use niwaki_codes::simd::Level;
use niwaki_codes::stamp;

use super::Gram;
use crate::{Error, ErrorKind};

/// Columns, or rows, that are dealt with together.
const BLOCK: usize = 32;

/// Columns that the kernel deals with at once.
const TILE: usize = 32;

/// A pivot below this part of its input's square is what rounding left.
const DEPENDENT: f64 = 1e-12;

/// The least damping where some is needed and none was asked for, and what it grows by.
const LEAST: f64 = 1e-6;
const MORE: f64 = 10.0;

/// How often it grows.
const TRIALS: usize = 8;

/// The inverse of a damped Gram matrix `H` as `H⁻¹ = U'U`, `U` upper triangular.
///
/// The square of diagonal element `j` is that of the inverse of `H` without the inputs before `j`, and row `j` over it what
/// the weights behind it take over when weight `j` goes: the order in which SparseGPT (Frantar and Alistarh, 2023) and GPTQ
/// (Frantar et al., 2023) fix the columns of a layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Factor {
    /// `U`, `[inputs, inputs]`, row by row, with zeros below the diagonal.
    pub upper: Vec<f64>,
    /// Inputs that were 0 in every row: they are as if alone, and their weights are free to be 0.
    pub dead: Vec<usize>,
    /// The share of the mean square that was added to the diagonal in the end: what was asked for, or more where the matrix
    /// had no inverse with that.
    pub damping: f64,
    /// The mean square of inputs, those that were always 0 aside.
    pub mean: f64,
}

impl Gram {
    /// The factor of the inverse; `damping` times the mean of the diagonal, inputs that are always 0 aside, is added to the
    /// diagonal first. Where that has no inverse, ten times more is tried, and again, a few times.
    ///
    /// The time is that of `2 inputs³ / 3` multiplications, memory twice the matrix.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Damping`] for one that is negative or no finite number; [`ErrorKind::Input`] for inputs that were none;
    /// [`ErrorKind::Singular`].
    pub fn inverse_factor(&self, level: Level, damping: f64) -> Result<Factor, Error> {
        if !damping.is_finite() || damping < 0.0 {
            return Err(ErrorKind::Damping.into());
        }
        self.check()?;
        let n = self.inputs();
        let dead: Vec<usize> = (0..n).filter(|at| self.get(*at, *at) == 0.0).collect();
        let alive = (n - dead.len()).max(1);
        let mean = (0..n).map(|at| self.get(at, at)).sum::<f64>() / alive as f64;
        let mut damping = damping;
        for _ in 0..TRIALS {
            let mut upper = vec![0.0; n * n];
            for (row, upper) in upper.chunks_exact_mut(n.max(1)).enumerate() {
                (row..n).for_each(|column| upper[column] = self.get(row, column));
                upper[row] += if upper[row] == 0.0 { 1.0 } else { damping * mean };
            }
            if decompose(level, &mut upper, n) {
                invert(level, &mut upper, n);
                if upper.iter().all(|x| x.is_finite()) {
                    return Ok(Factor { upper, dead, damping, mean });
                }
            }
            damping = (damping * MORE).max(LEAST);
        }
        Err(ErrorKind::Singular.into())
    }
}

/// Makes `V` of the upper triangle of `H = V V'`, `V` upper triangular, from the last column on; false where a pivot is
/// nothing but rounding.
fn decompose(level: Level, h: &mut [f64], n: usize) -> bool {
    let diagonal: Vec<f64> = (0..n).map(|at| h[at * n + at]).collect();
    let mut turned = vec![0.0; BLOCK * n];
    let mut end = n;
    while end > 0 {
        let start = (end - 1) / BLOCK * BLOCK;
        for j in (start..end).rev() {
            let (above, own) = h.split_at_mut(j * n);
            let own = &mut own[..end];
            let pivot = own[j] - dot(&own[j + 1..], &own[j + 1..]);
            if pivot.is_nan() || pivot <= diagonal[j] * DEPENDENT {
                return false;
            }
            own[j] = pivot.sqrt();
            for row in above.chunks_exact_mut(n) {
                row[j] = (row[j] - dot(&row[j + 1..end], &own[j + 1..])) / own[j];
            }
        }
        // What the block's columns explain of all rows and columns before them.
        for (row, h) in h.chunks_exact(n).take(start).enumerate() {
            (start..end).for_each(|j| turned[(j - start) * n + row] = h[j]);
        }
        let (above, count) = (&mut h[..start * n], end - start);
        subtract(level, above, n, 0..start, start..end, &turned[..count * n]);
        end = start;
    }
    true
}

/// Makes `V⁻¹` of `V`, upper triangular, from the last rows on.
fn invert(level: Level, v: &mut [f64], n: usize) {
    let mut own = vec![0.0; BLOCK * n];
    let mut end = n;
    while end > 0 {
        let start = (end - 1) / BLOCK * BLOCK;
        let (above, below) = v.split_at_mut(end * n);
        let rows = &mut above[start * n..];
        // Coefficients stand where results go.
        let own = &mut own[..rows.len()];
        own.copy_from_slice(rows);
        for row in rows.chunks_exact_mut(n) {
            row[end..].fill(0.0);
        }
        product(level, rows, n, end..n, own, below);
        for j in (start..end).rev() {
            let (before, after) = rows.split_at_mut((j + 1 - start) * n);
            let row = &mut before[(j - start) * n..];
            row[..j].fill(0.0);
            row[j + 1..end].fill(0.0);
            for k in j + 1..end {
                let (coefficient, from) = (own[(j - start) * n + k], &after[(k - j - 1) * n..][..n]);
                row[k..].iter_mut().zip(&from[k..]).for_each(|(x, u)| *x -= coefficient * u);
            }
            let pivot = row[j];
            row[j + 1..].iter_mut().for_each(|x| *x /= pivot);
            row[j] = 1.0 / pivot;
        }
        end = start;
    }
}

/// `sum x[i] y[i]`, in an order that is always the same.
fn dot(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}

/// Takes from the columns `to` of rows of `n` their own columns `from`, each times a row of `by`.
fn subtract(level: Level, rows: &mut [f64], n: usize, to: Range<usize>, from: Range<usize>, by: &[f64]) {
    for tile in to.clone().step_by(TILE) {
        // Rows below the tile have nothing there.
        let last = (tile + TILE).min(to.end);
        for row in rows.chunks_exact_mut(n).take(last) {
            let (before, own) = row.split_at_mut(from.start);
            less(level, &mut before[tile..last], &own[..from.len()], &by[tile..], n);
        }
    }
}

/// Takes from the columns `columns` of rows of `n` the products of coefficients, those of the same columns of `own`, with the
/// rows of `by`.
fn product(level: Level, rows: &mut [f64], n: usize, columns: Range<usize>, own: &[f64], by: &[f64]) {
    for tile in columns.clone().step_by(TILE) {
        let last = (tile + TILE).min(columns.end);
        for (row, own) in rows.chunks_exact_mut(n).zip(own.chunks_exact(n)) {
            // Rows of `by` are triangular: those behind the tile have nothing in it.
            less(level, &mut row[tile..last], &own[columns.start..last], by.get(tile..).unwrap_or_default(), n);
        }
    }
}

stamp! {
    /// `y -= sum coefficients[k] x[k]`, the `x` so many elements apart.
    fn less = less_body(y: &mut [f64], coefficients: &[f64], x: &[f64], apart: usize) -> ();
}

#[inline(always)]
fn less_body(y: &mut [f64], coefficients: &[f64], x: &[f64], apart: usize) {
    let Some(whole) = y.first_chunk_mut::<TILE>() else {
        for (coefficient, x) in coefficients.iter().zip(x.chunks(apart)) {
            y.iter_mut().zip(x).for_each(|(y, x)| *y -= coefficient * x);
        }
        return;
    };
    let mut sums = *whole;
    for (coefficient, x) in coefficients.iter().zip(x.chunks(apart)) {
        let Some(x) = x.first_chunk::<TILE>() else { break };
        for (sum, x) in sums.iter_mut().zip(x) {
            *sum -= coefficient * x;
        }
    }
    *whole = sums;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(len: usize) -> Vec<f32> {
        (0..len).map(|at| ((at * 7919 + at * at * 31) % 257) as f32 / 128.0 - 1.0).collect()
    }

    /// A Gram matrix of more rows than inputs, some of them alike.
    fn gram(inputs: usize) -> Gram {
        let mut gram = Gram::new(inputs);
        gram.rows(Level::best(), &values(inputs * (2 * inputs + 3)));
        gram
    }

    #[test]
    fn the_factor_is_that_of_the_inverse() {
        for inputs in [1, 2, 5, 31, 32, 33, 64, 100] {
            let gram = gram(inputs);
            let mean = (0..inputs).map(|at| gram.get(at, at)).sum::<f64>() / inputs as f64;
            for level in Level::all() {
                let Factor { upper, dead, damping, .. } = gram.inverse_factor(level, 0.01).expect("damped");
                assert_eq!((dead.len(), damping), (0, 0.01));
                for (row, column) in (0..inputs).flat_map(|row| (0..inputs).map(move |column| (row, column))) {
                    if row > column {
                        assert_eq!(upper[row * inputs + column], 0.0);
                    }
                    // U (H + damping) U' = 1.
                    let h = |i: usize, j: usize| gram.get(i, j) + if i == j { 0.01 * mean } else { 0.0 };
                    let u = |i: usize, j: usize| upper[i * inputs + j];
                    let of = |k: usize| (0..inputs).map(|l| u(row, k) * h(k, l) * u(column, l)).sum::<f64>();
                    let found: f64 = (0..inputs).map(of).sum();
                    let expected = f64::from(u8::from(row == column));
                    assert!((found - expected).abs() < 1e-9, "{inputs} inputs, {row} and {column}: {found}");
                }
            }
        }
        assert_eq!(Gram::new(0).inverse_factor(Level::Scalar, 0.01).map(|factor| factor.upper), Ok(vec![]));
    }

    #[test]
    fn inputs_that_are_always_zero_are_alone() {
        let mut gram = Gram::new(3);
        gram.rows(Level::Scalar, &[1.0, 0.0, 2.0, -3.0, 0.0, 1.0]);
        let factor = gram.inverse_factor(Level::Scalar, 0.01).expect("damped");
        assert_eq!((factor.dead, &factor.upper[3..6]), (vec![1], &[0.0, 1.0, 0.0][..]));
        assert_eq!(factor.upper[1], 0.0);
        let dead = Gram::new(2).inverse_factor(Level::Scalar, 0.5).expect("ones");
        assert_eq!((dead.dead, dead.upper), (vec![0, 1], vec![1.0, 0.0, 0.0, 1.0]));
    }

    #[test]
    fn what_has_no_inverse_is_damped_more() {
        let mut gram = Gram::new(40);
        gram.rows(Level::best(), &values(40 * 7));
        let none = gram.inverse_factor(Level::best(), 0.0).expect("damped");
        assert!(none.damping >= LEAST, "{}", none.damping);
        assert_eq!(gram.inverse_factor(Level::best(), 0.1).expect("damped").damping, 0.1);
        for wrong in [-0.01, f64::NAN, f64::INFINITY] {
            assert_eq!(gram.inverse_factor(Level::best(), wrong).map_err(|e| e.kind()), Err(ErrorKind::Damping));
        }
        gram.rows(Level::best(), &[f32::NAN; 40]);
        let kind = gram.inverse_factor(Level::best(), 0.1).map_err(|e| e.kind());
        assert_eq!(kind, Err(ErrorKind::Input { index: 0 }));
    }
}

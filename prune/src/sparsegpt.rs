//! Masks with an update of the weights that stay: SparseGPT (Frantar and Alistarh, *SparseGPT: Massive Language Models Can
//! Be Accurately Pruned in One-Shot*, 2023).
//!
//! ```text
//! U = upper Cholesky factor of (X'X + damping)⁻¹, X the layer's inputs
//! for each block of 128 columns, from the left:
//!     keep the weights of the largest |w_j| / U_jj in the block, as many as is its share
//!                                                 (n of every m: in each row, when the first of the m comes)
//!     for each column j of the block, in each row:
//!         e_j      = w_j / U_jj where w_j goes, else 0
//!         w_j, ..  -= e_j (U_j,j ..)              in the block
//!     w behind the block -= e (U behind the block)
//! ```
//!
//! Each step is that of the optimal brain surgeon among the columns not yet passed: of all changes of these that make `w_j`
//! zero, the one that changes the outputs on `X` least. The factor comes from whoever saw `X`.

use alloc::vec;
use alloc::vec::Vec;

use niwaki_codes::simd::Level;
use niwaki_codes::{Mask, stamp};

use crate::magnitude::finite;
use crate::{Error, ErrorKind, NofM, mask_of_count};

#[cfg(test)]
mod tests;

/// Columns whose masks are chosen together, and behind which weights are updated at once.
const BLOCK: usize = 128;

/// Rows of a band.
const ROWS: usize = 16;

/// Columns that the kernel deals with at once.
const TILE: usize = 32;

/// Which weights of a layer are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// So many; of each block of columns the share that it is of all columns.
    Count(u64),
    /// n of every m along a row; of a short last run n, or all.
    NofM(NofM),
}

/// A layer on its way: `[rows, cols]` weights, row by row, a row each output.
///
/// ```text
/// while choose():  each band of bands(): solve()        bands in any order, on any threads: the same bits
/// finish()
/// ```
#[derive(Clone, Debug)]
pub struct SparseGpt<'f> {
    level: Level,
    cols: usize,
    factors: Vec<&'f [f64]>,
    kept: Kept,
    /// The columns of the block under way.
    block: [usize; 2],
    /// The most columns of a block.
    width: usize,
    weights: Vec<f64>,
    keeps: Vec<bool>,
    /// What goes of each row in the block, over the diagonal; `width` numbers a row.
    errors: Vec<f64>,
}

/// Some rows in one block of columns.
#[derive(Debug)]
#[must_use = "a block is done when all its bands are solved"]
pub struct Band<'b> {
    level: Level,
    rows: Rows<'b>,
    nofm: Option<NofM>,
}

/// What a band works on.
#[derive(Debug)]
struct Rows<'b> {
    cols: usize,
    block: [usize; 2],
    width: usize,
    factor: &'b [f64],
    weights: &'b mut [f64],
    keeps: &'b mut [bool],
    errors: &'b mut [f64],
}

impl<'f> SparseGpt<'f> {
    /// Begins with a layer of `(rows, cols)`. `factors` are upper triangular `[cols, cols]`, row by row: one for all rows, or
    /// where parts of the rows see inputs of their own, as groups of a convolution do, one for each part. Weights whose input
    /// is always 0 should be 0.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Count`] for weights, or for rows, that are others; [`ErrorKind::NotFinite`];
    /// [`ErrorKind::Factor`] for one of another size, or whose diagonal is not above 0.
    pub fn new(
        level: Level,
        (rows, cols): (usize, usize),
        weights: &[f32],
        factors: Vec<&'f [f64]>,
        kept: Kept,
    ) -> Result<Self, Error> {
        if Some(weights.len()) != rows.checked_mul(cols) {
            let needs = (rows as u64).saturating_mul(cols as u64);
            return Err(ErrorKind::Count { needs, has: weights.len() as u64 }.into());
        }
        finite(level, 0, weights)?;
        if factors.is_empty() || !rows.is_multiple_of(factors.len()) {
            return Err(ErrorKind::Factor { factor: factors.len() }.into());
        }
        let wrong = |factor: &&[f64]| {
            let whole = factor.len() == cols * cols && factor.iter().all(|x| x.is_finite());
            !whole || (0..cols).any(|at| factor[at * cols + at] <= 0.0)
        };
        if let Some(factor) = factors.iter().position(wrong) {
            return Err(ErrorKind::Factor { factor }.into());
        }
        // A run of m lies in one block.
        let width = match kept {
            Kept::Count(_) => BLOCK,
            Kept::NofM(run) => (BLOCK / run.m()).max(1) * run.m(),
        };
        let kept = match kept {
            Kept::Count(count) => Kept::Count(count.min(weights.len() as u64)),
            other => other,
        };
        Ok(Self {
            level,
            cols,
            factors,
            kept,
            block: [0, 0],
            width,
            weights: weights.iter().map(|w| f64::from(*w)).collect(),
            keeps: vec![false; weights.len()],
            errors: vec![0.0; rows * width],
        })
    }

    /// Goes on to the next block, and chooses its mask where that is one of all rows; false behind the last.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFinite`] where an update made a weight that is no number; its index is that in the block.
    pub fn choose(&mut self) -> Result<bool, Error> {
        let start = self.block[1];
        let end = (start + self.width).min(self.cols);
        if start == end || self.weights.is_empty() {
            return Ok(false);
        }
        self.block = [start, end];
        if let Kept::Count(count) = self.kept {
            let before = |col: usize| (u128::from(count) * col as u128 / self.cols as u128) as u64;
            self.choose_count(before(end) - before(start))?;
        }
        Ok(true)
    }

    /// Keeps so many weights of the block.
    fn choose_count(&mut self, count: u64) -> Result<(), Error> {
        let ([start, end], cols) = (self.block, self.cols);
        let rows = self.weights.len() / cols;
        let each = rows / self.factors.len();
        let mut scores = Vec::with_capacity(rows * (end - start));
        for (row, weights) in self.weights.chunks_exact(cols).enumerate() {
            let factor = self.factors[row / each];
            scores.extend((start..end).map(|j| score(weights[j], factor[j * cols + j])));
        }
        let mask = mask_of_count(self.level, count, rows, end - start, &scores)?;
        let view = mask.view();
        for (row, keeps) in self.keeps.chunks_exact_mut(cols).enumerate() {
            let keeps = keeps[start..end].iter_mut().enumerate();
            keeps.for_each(|(at, keep)| *keep = view.keeps(row, at) == Some(true));
        }
        Ok(())
    }

    /// The rows of the block, in parts that do not depend on each other.
    pub fn bands(&mut self) -> Vec<Band<'_>> {
        let (cols, width, block, level) = (self.cols, self.width, self.block, self.level);
        let nofm = match self.kept {
            Kept::NofM(run) => Some(run),
            Kept::Count(_) => None,
        };
        let each = self.keeps.len() / cols.max(1) / self.factors.len();
        let size = each.max(1) * cols.max(1);
        let groups = self.weights.chunks_mut(size).zip(self.keeps.chunks_mut(size));
        let groups = groups.zip(self.errors.chunks_mut(each.max(1) * width)).zip(&self.factors);
        let mut bands = Vec::new();
        for (((weights, keeps), errors), factor) in groups {
            let rows = weights.chunks_mut(ROWS * cols).zip(keeps.chunks_mut(ROWS * cols));
            for ((weights, keeps), errors) in rows.zip(errors.chunks_mut(ROWS * width)) {
                let rows = Rows { cols, block, width, factor, weights, keeps, errors };
                bands.push(Band { level, rows, nofm });
            }
        }
        bands
    }

    /// The mask, and the weights as they are then: zeros where the mask has none, the others updated.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFinite`] for an update that no float holds.
    pub fn finish(self) -> Result<(Mask, Vec<f32>), Error> {
        let Self { level, cols, weights, keeps, .. } = self;
        let weights: Vec<f32> = weights.into_iter().map(|w| w as f32).collect();
        finite(level, 0, &weights)?;
        let rows = weights.len().checked_div(cols).unwrap_or(0);
        Ok((Mask::from_fn(rows, cols, |row, col| keeps[row * cols + col])?, weights))
    }
}

impl Band<'_> {
    /// Chooses n of every m where that is asked for, zeroes what goes, and updates what is behind it.
    pub fn solve(self) {
        solve(self.level, self.rows, self.nofm);
    }
}

/// The root of what the outputs lose with a weight.
fn score(weight: f64, diagonal: f64) -> f32 {
    let score = (weight.abs() / diagonal) as f32;
    // Beyond all floats is still larger than others; what is no number stays none.
    if score == f32::INFINITY { f32::MAX } else { score }
}

stamp! {
    /// One block of a band.
    fn solve = solve_body(rows: Rows<'_>, nofm: Option<NofM>) -> ();
}

#[inline(always)]
fn solve_body(rows: Rows<'_>, nofm: Option<NofM>) {
    let Rows { cols, block: [start, end], width, factor, weights, keeps, errors } = rows;
    let lines = weights.chunks_exact_mut(cols).zip(keeps.chunks_exact_mut(cols));
    for ((weights, keeps), errors) in lines.zip(errors.chunks_exact_mut(width)) {
        for j in start..end {
            if let Some(run) = nofm.filter(|run| j.is_multiple_of(run.m())) {
                let last = (j + run.m()).min(end);
                let diagonal = |at: usize| factor[(j + at) * cols + j + at];
                choose_run(run.n(), &weights[j..last], diagonal, &mut keeps[j..last]);
            }
            errors[j - start] = 0.0;
            if !keeps[j] {
                let factor = &factor[j * cols..][..cols];
                let error = weights[j] / factor[j];
                errors[j - start] = error;
                weights[j] = 0.0;
                let behind = weights[j + 1..end].iter_mut().zip(&factor[j + 1..end]);
                behind.for_each(|(w, u)| *w -= error * u);
            }
        }
    }
    carry_body(weights, errors, (cols, width), &factor[start * cols..end * cols], end);
}

/// Keeps the `n` of a run with the highest scores; of equal ones those before.
#[inline(always)]
fn choose_run(n: usize, weights: &[f64], diagonal: impl Fn(usize) -> f64, keeps: &mut [bool]) {
    let mut scores = [0.0; NofM::MAX];
    for (at, (score, weight)) in scores.iter_mut().zip(weights).enumerate() {
        *score = weight.abs() / diagonal(at);
    }
    let scores = &scores[..weights.len()];
    for (at, (keep, score)) in keeps.iter_mut().zip(scores).enumerate() {
        let above = |(other, x): (usize, &f64)| x > score || x == score && other < at;
        *keep = scores.iter().enumerate().filter(|other| above(*other)).count() < n;
    }
}

/// Updates the weights from column `from` on with the errors of a block, whose rows of the factor these are.
#[inline(always)]
fn carry_body(weights: &mut [f64], errors: &[f64], (cols, width): (usize, usize), factor: &[f64], from: usize) {
    for tile in (from..cols).step_by(TILE) {
        let last = (tile + TILE).min(cols);
        for (weights, errors) in weights.chunks_exact_mut(cols).zip(errors.chunks_exact(width)) {
            let weights = &mut weights[tile..last];
            let rows = errors.iter().zip(factor.chunks_exact(cols));
            if let Some(weights) = weights.first_chunk_mut::<TILE>() {
                let mut sums = *weights;
                for (error, factor) in rows {
                    let Some(factor) = factor[tile..].first_chunk::<TILE>() else { break };
                    for (w, u) in sums.iter_mut().zip(factor) {
                        *w -= error * u;
                    }
                }
                *weights = sums;
            } else {
                for (error, factor) in rows {
                    weights.iter_mut().zip(&factor[tile..last]).for_each(|(w, u)| *w -= error * u);
                }
            }
        }
    }
}

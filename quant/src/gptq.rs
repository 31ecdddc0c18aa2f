//! Codes that make up for each other's errors: GPTQ (Frantar, Ashkboos, Hoefler and Alistarh, *GPTQ: Accurate Post-Training
//! Quantization for Generative Pre-trained Transformers*, 2023).
//!
//! ```text
//! U = upper Cholesky factor of (X'X + damping)⁻¹, X the layer's inputs
//! for each block of columns, in order:
//!     for each column j of the block, in each row:
//!         q_j      = w_j rounded on its grid
//!         e_j      = (w_j - q_j) / U_jj
//!         w_j, ..  -= e_j (U_j,j ..)              in the block
//!     w behind the block -= e (U behind the block)
//! ```
//!
//! Grids are those of least squares in which an error at column `j` counts `1 / U_jj²`: what it costs the outputs when the
//! columns behind make up for it. Where columns go as they stand, the grid of a group is that of its weights as they are
//! when their turn comes; where the largest inputs go first, all grids are those of the weights at the beginning, and
//! stored codes say nothing of the order. Weights with a row for each input are for [`encode_gptq_columns`].
//!
//! Departures: the weights of inputs that are always 0 are rounded, not dropped: other data may have such inputs.

mod columns;

use alloc::vec;
use alloc::vec::Vec;

use niwaki_codes::simd::Level;
use niwaki_codes::{Uniform, stamp};

use crate::encode::UniformOut;
use crate::grid::{Grid, GridPoint, ROUNDER, Ruler};
use crate::lines::Lines;
use crate::observe::Inverse;
use crate::weighted::{Groups, finite, group_of};
use crate::{Distortion, Error, ErrorKind, Fit, Values};
pub use columns::encode_gptq_columns;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests;

/// Columns behind which weights are updated at once, about.
const BLOCK: usize = 128;

/// Rows that go through a block together.
const ROWS: usize = 16;

/// Columns that the kernel deals with at once.
const TILE: usize = 32;

/// The largest group whose grid waits for its turn.
const LATE: usize = 512;

/// Encodes whole rows, each of as many weights as the layer has inputs. Rows do not depend on each other.
///
/// # Errors
///
/// Those of [`encode_rows`](crate::encode_rows); [`ErrorKind::Inverse`] for one of another layer.
pub fn encode_gptq_rows(
    level: Level,
    scheme: &Uniform,
    inverse: &Inverse,
    values: Values<'_>,
    out: UniformOut<'_>,
) -> Result<Distortion, Error> {
    let cols = inverse.inputs();
    let group = group_of(scheme, cols)?;
    check(inverse, values.len())?;
    let mut lines = Lines::new(level, scheme, (values.len(), cols), out)?;
    let mut bench = Bench::new(level, scheme, inverse, group);
    for start in (0..values.len()).step_by((ROWS * cols).max(1)) {
        let band = values.slice(start..start + ROWS * cols);
        bench.round(band).map_err(|e| e.offset(start, start / cols.max(1) * bench.groups.count()))?;
        bench.write(&mut lines)?;
    }
    Ok(lines.finish())
}

/// Refuses an inverse of other inputs than so many weights have.
fn check(inverse: &Inverse, weights: usize) -> Result<(), Error> {
    let (inputs, upper) = (inverse.inputs(), inverse.upper());
    let whole = upper.len() == inputs * inputs && (0..inputs).all(|at| upper[at * inputs + at] > 0.0);
    match whole && weights.is_multiple_of(inputs.max(1)) {
        true => Ok(()),
        false => Err(ErrorKind::Inverse { needs: inputs, has: weights }.into()),
    }
}

/// Some rows on their way.
struct Bench<'i> {
    level: Level,
    scheme: Uniform,
    inverse: &'i Inverse,
    group: usize,
    groups: Groups,
    /// Whether columns go as they stand, in groups small enough to wait for their turn.
    late: bool,
    /// Columns of a block.
    width: usize,
    /// The rows as they were.
    rows: Vec<f32>,
    /// The rows as they are by now, columns in the order of the inverse.
    weights: Vec<f64>,
    codes: Vec<u8>,
    points: Vec<GridPoint>,
    rulers: Vec<Ruler>,
    errors: Vec<f64>,
}

impl<'i> Bench<'i> {
    fn new(level: Level, scheme: &Uniform, inverse: &'i Inverse, group: usize) -> Self {
        let cols = inverse.inputs();
        let given = inverse.order().iter().enumerate().all(|(place, column)| place == *column);
        let late = given && group <= LATE && group < cols;
        let groups = Groups::new(inverse.importance(), group);
        Self {
            level,
            scheme: *scheme,
            inverse,
            group,
            late,
            width: if late { group } else { BLOCK },
            rows: vec![0.0; ROWS * cols],
            weights: vec![0.0; ROWS * cols],
            codes: vec![0; ROWS * cols],
            points: vec![GridPoint::default(); ROWS * groups.count()],
            rulers: vec![Ruler::default(); ROWS * groups.count()],
            errors: Vec::new(),
            groups,
        }
    }

    /// Chooses the codes of some rows.
    fn round(&mut self, values: Values<'_>) -> Result<(), Error> {
        let cols = self.inverse.inputs();
        self.rows.resize(values.len(), 0.0);
        values.decode(self.level, &mut self.rows);
        finite(&self.rows)?;
        self.weights.clear();
        for row in self.rows.chunks_exact(cols) {
            self.weights.extend(self.inverse.order().iter().map(|column| f64::from(row[*column])));
        }
        self.codes.resize(values.len(), 0);
        if !self.late {
            (0..self.groups.count()).try_for_each(|group| self.grids(group))?;
        }
        for start in (0..cols).step_by(self.width) {
            let end = (start + self.width).min(cols);
            if self.late {
                self.grids(start / self.group)?;
            }
            self.errors.clear();
            self.errors.resize(values.len() / cols * self.width, 0.0);
            let band = Band {
                cols,
                block: [start, end],
                width: self.width,
                group: self.group,
                groups: self.groups.count(),
                upper: self.inverse.upper(),
                order: self.inverse.order(),
                rulers: &self.rulers,
                weights: &mut self.weights,
                codes: &mut self.codes,
                errors: &mut self.errors,
            };
            solve(self.level, band);
        }
        Ok(())
    }

    /// Chooses the grid of one group of each row.
    fn grids(&mut self, group: usize) -> Result<(), Error> {
        let (cols, count) = (self.inverse.inputs(), self.groups.count());
        let (grid, columns) = (Grid::of(&self.scheme), group * self.group..((group + 1) * self.group).min(cols));
        let (mut x, mut padded) = (Vec::new(), Vec::new());
        for (row, first) in self.rows.chunks_exact(cols).enumerate() {
            x.clear();
            match self.late {
                true => x.extend(self.weights[row * cols..][columns.clone()].iter().map(|w| *w as f32)),
                false => x.extend_from_slice(&first[columns.clone()]),
            }
            finite(&x).map_err(|e| e.offset(row * cols + columns.start, 0))?;
            let point = self.groups.point(self.level, (&self.scheme, Fit::Lsq), group, &x, &mut padded);
            let point = point.map_err(|e| e.offset(0, row * count + group))?;
            self.points[row * count + group] = point;
            self.rulers[row * count + group] = grid.ruler(point);
        }
        Ok(())
    }

    /// Writes the rows.
    fn write(&self, lines: &mut Lines<'_>) -> Result<(), Error> {
        let cols = self.inverse.inputs();
        let rows = self.rows.chunks_exact(cols.max(1)).zip(self.codes.chunks_exact(cols.max(1)));
        for ((row, codes), points) in rows.zip(self.points.chunks(self.groups.count().max(1))) {
            lines.codes(row, codes, self.group, points)?;
        }
        Ok(())
    }
}

/// Some rows in one block of columns.
struct Band<'b> {
    cols: usize,
    block: [usize; 2],
    width: usize,
    group: usize,
    /// Groups of a row.
    groups: usize,
    upper: &'b [f64],
    order: &'b [usize],
    rulers: &'b [Ruler],
    weights: &'b mut [f64],
    codes: &'b mut [u8],
    errors: &'b mut [f64],
}

stamp! {
    /// Rounds the columns of a block, and updates what is behind them.
    fn solve = solve_body(band: Band<'_>) -> ();
}

#[inline(always)]
fn solve_body(band: Band<'_>) {
    let Band { cols, block: [start, end], width, group, groups, upper, order, rulers, weights, codes, errors } = band;
    let rows = weights.chunks_exact_mut(cols).zip(codes.chunks_exact_mut(cols));
    for (((weights, codes), errors), rulers) in rows.zip(errors.chunks_exact_mut(width)).zip(rulers.chunks(groups)) {
        for place in start..end {
            let column = order[place];
            let ruler = &rulers[column / group];
            let steps = ruler.rounded(weights[place] as f32) - ROUNDER;
            codes[column] = (steps - ruler.low) as u8;
            let factor = &upper[place * cols..][..cols];
            let error = (weights[place] - f64::from(steps * ruler.scale)) / factor[place];
            errors[place - start] = error;
            let behind = weights[place + 1..end].iter_mut().zip(&factor[place + 1..end]);
            behind.for_each(|(w, u)| *w -= error * u);
        }
    }
    carry_body(weights, errors, (cols, width), &upper[start * cols..end * cols], end);
}

/// Updates the weights from place `from` on with the errors of a block, whose rows of the factor these are.
#[inline(always)]
fn carry_body(weights: &mut [f64], errors: &[f64], (cols, width): (usize, usize), factor: &[f64], from: usize) {
    for tile in (from..cols).step_by(TILE) {
        let last = (tile + TILE).min(cols);
        for (weights, errors) in weights.chunks_exact_mut(cols).zip(errors.chunks_exact(width)) {
            take(&mut weights[tile..last], tile, errors.iter().copied().zip(factor.chunks_exact(cols)));
        }
    }
}

/// Takes from a tile of weights, which begins at place `tile` of their line, that of other lines, each so many times.
#[inline(always)]
fn take<'l>(weights: &mut [f64], tile: usize, lines: impl Iterator<Item = (f64, &'l [f64])>) {
    if let Some(weights) = weights.first_chunk_mut::<TILE>() {
        let mut sums = *weights;
        for (times, line) in lines {
            let Some(line) = line[tile..].first_chunk::<TILE>() else { break };
            for (w, x) in sums.iter_mut().zip(line) {
                *w -= times * x;
            }
        }
        *weights = sums;
    } else {
        for (times, line) in lines {
            weights.iter_mut().zip(&line[tile..]).for_each(|(w, x)| *w -= times * x);
        }
    }
}

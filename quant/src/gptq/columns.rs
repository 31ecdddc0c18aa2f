//! GPTQ of weights whose rows are inputs, as `MatMul` of ONNX has them.
//!
//! ```text
//! for each input j, in the order of the inverse:
//!     grids = those of the groups of row j as it is by now
//!     q_j   = w_j rounded on them
//!     e_j   = (w_j - q_j) / U_jj
//!     w_k  -= U_jk e_j                   for each input k behind j
//! ```
//!
//! All weights of a group have the same input: an error of any of them costs the same, and every grid can wait for its turn,
//! whatever the order. Columns are outputs: those of other groups do not depend on each other.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use niwaki_codes::simd::Level;
use niwaki_codes::{Uniform, stamp};

use super::{BLOCK, TILE, check, take};
use crate::encode::UniformOut;
use crate::grid::{Grid, GridPoint, ROUNDER, Ruler};
use crate::lines::Lines;
use crate::observe::Inverse;
use crate::weighted::{Groups, finite, group_of};
use crate::{Distortion, Error, Fit, Values};

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests;

/// Encodes a matrix with a row for each input of a layer, its columns outputs: all of them, or some that begin and end where
/// groups do. `out` is what a matrix of these columns has.
///
/// # Errors
///
/// Those of [`encode_rows`](crate::encode_rows); [`ErrorKind::Inverse`](crate::ErrorKind::Inverse) for one of another layer.
pub fn encode_gptq_columns(
    level: Level,
    scheme: &Uniform,
    inverse: &Inverse,
    values: Values<'_>,
    out: UniformOut<'_>,
) -> Result<Distortion, Error> {
    check(inverse, values.len())?;
    let cols = values.len() / inverse.inputs().max(1);
    let group = group_of(scheme, cols)?;
    let mut lines = Lines::new(level, scheme, (values.len(), cols), out)?;
    let mut rows = vec![0.0; values.len()];
    values.decode(level, &mut rows);
    finite(&rows)?;
    let mut bench = Bench::new(level, scheme, inverse, &rows, group);
    bench.round()?;
    let points = bench.points.chunks(bench.groups.count().max(1));
    for ((row, codes), points) in rows.chunks(cols.max(1)).zip(bench.codes.chunks(cols.max(1))).zip(points) {
        lines.codes(row, codes, group, points)?;
    }
    Ok(lines.finish())
}

/// A matrix on its way.
struct Bench<'i> {
    level: Level,
    scheme: Uniform,
    inverse: &'i Inverse,
    cols: usize,
    group: usize,
    groups: Groups,
    /// The weights as they are by now, inputs in the order of the inverse.
    weights: Vec<f64>,
    /// By input, as they stand.
    codes: Vec<u8>,
    points: Vec<GridPoint>,
    /// Of the inputs of a block.
    errors: Vec<f64>,
}

impl<'i> Bench<'i> {
    fn new(level: Level, scheme: &Uniform, inverse: &'i Inverse, rows: &[f32], group: usize) -> Self {
        let cols = rows.len() / inverse.inputs().max(1);
        let groups = Groups::new(&vec![1.0; cols], group);
        let input = |input: &usize| rows[input * cols..][..cols].iter().map(|w| f64::from(*w));
        Self {
            level,
            scheme: *scheme,
            inverse,
            cols,
            group,
            weights: inverse.order().iter().flat_map(input).collect(),
            codes: vec![0; rows.len()],
            points: vec![GridPoint::default(); inverse.inputs() * groups.count()],
            errors: vec![0.0; BLOCK.min(inverse.inputs()) * cols],
            groups,
        }
    }

    /// Chooses all codes.
    fn round(&mut self) -> Result<(), Error> {
        let (inputs, cols) = (self.inverse.inputs(), self.cols);
        for start in (0..inputs).step_by(BLOCK) {
            let end = (start + BLOCK).min(inputs);
            for place in start..end {
                self.carry([start, place], place..place + 1);
                let errors = (place - start) * cols;
                self.input(place, errors)?;
            }
            self.carry([start, end], end..inputs);
        }
        Ok(())
    }

    /// Updates some inputs with the errors of those from place `start` to `end`.
    fn carry(&mut self, [start, end]: [usize; 2], to: Range<usize>) {
        let (inputs, cols) = (self.inverse.inputs(), self.cols);
        let behind = Behind {
            weights: &mut self.weights[to.start * cols..to.end * cols],
            cols,
            errors: &self.errors[..(end - start) * cols],
            factor: &self.inverse.upper()[start * inputs..end * inputs],
            inputs,
            first: to.start,
        };
        carry(self.level, behind);
    }

    /// Rounds the weights of an input on grids of their own, and writes their errors from `errors` on.
    fn input(&mut self, place: usize, errors: usize) -> Result<(), Error> {
        let (inputs, cols, count) = (self.inverse.inputs(), self.cols, self.groups.count());
        let (input, diagonal) = (self.inverse.order()[place], self.inverse.upper()[place * inputs + place]);
        let grid = Grid::of(&self.scheme);
        let weights = self.weights[place * cols..][..cols].chunks(self.group);
        let outs = self.codes[input * cols..][..cols].chunks_mut(self.group);
        let outs = outs.zip(self.errors[errors..][..cols].chunks_mut(self.group));
        let (mut x, mut padded) = (Vec::new(), Vec::new());
        for ((nth, weights), (codes, errors)) in weights.enumerate().zip(outs) {
            x.clear();
            x.extend(weights.iter().map(|w| *w as f32));
            finite(&x).map_err(|e| e.offset(input * cols + nth * self.group, 0))?;
            let point = self.groups.point(self.level, (&self.scheme, Fit::Lsq), nth, &x, &mut padded);
            let point = point.map_err(|e| e.offset(0, input * count + nth))?;
            self.points[input * count + nth] = point;
            solve(self.level, (&grid.ruler(point), diagonal), weights, codes, errors);
        }
        Ok(())
    }
}

stamp! {
    /// Rounds weights of one input, and says how far they are from what they were.
    fn solve = solve_body(by: (&Ruler, f64), weights: &[f64], codes: &mut [u8], errors: &mut [f64]) -> ();
}

#[inline(always)]
fn solve_body((ruler, diagonal): (&Ruler, f64), weights: &[f64], codes: &mut [u8], errors: &mut [f64]) {
    for ((w, code), error) in weights.iter().zip(codes).zip(errors) {
        let steps = ruler.rounded(*w as f32) - ROUNDER;
        *code = (steps - ruler.low) as u8;
        *error = (*w - f64::from(steps * ruler.scale)) / diagonal;
    }
}

/// Inputs that make up for errors.
struct Behind<'b> {
    weights: &'b mut [f64],
    cols: usize,
    errors: &'b [f64],
    /// The rows of the factor that belong to the errors.
    factor: &'b [f64],
    inputs: usize,
    /// The place of the first of the inputs.
    first: usize,
}

stamp! {
    /// Updates inputs with errors of those before them.
    fn carry = carry_body(behind: Behind<'_>) -> ();
}

#[inline(always)]
fn carry_body(behind: Behind<'_>) {
    let Behind { weights, cols, errors, factor, inputs, first } = behind;
    for tile in (0..cols).step_by(TILE) {
        let last = (tile + TILE).min(cols);
        for (nth, weights) in weights.chunks_exact_mut(cols).enumerate() {
            let times = factor.chunks_exact(inputs).map(|factor| factor[first + nth]);
            take(&mut weights[tile..last], tile, times.zip(errors.chunks_exact(cols)));
        }
    }
}

//! The quantizer of a layer's weights, or of its input, as an operator of the graph.
//!
//! It takes what it quantizes, a choice (`[bits, row, affine]`) and a table of the steps and offsets of all forms, f32
//! `[1 + rows, 3, 7]`: first those for all of the tensor, then those of each row; of each the symmetric steps, the affine
//! steps and the affine offsets; of each those of 2 to 8 bits. Which of them count is in the choice, so that a training
//! step changes forms by setting one small weight.

use niwaki_codes::simd::Level;
use niwaki_codes::{Bits, Symmetry};
use niwaki_model::{Context, Data, Fault, Inputs, Keeps, Operator, Pass, Pullback, Reverse, Tensor};
use niwaki_quant::fake_quant::{Learned, Slopes, fake_quantize, fake_quantize_back};
use niwaki_quant::forms::{Form, Granularity};
use rayon::prelude::*;

use crate::matrix::transposed;

/// Widths that a table has, from 2 bits on.
const WIDTHS: usize = 7;

/// Numbers of a table for each set of values with grids of their own.
pub(super) const SET: usize = 3 * WIDTHS;

/// Values that one thread takes at a time.
const PART: usize = 1 << 14;

/// Which grids of a table count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) bits: Bits,
    /// Whether each row has its own.
    pub(super) row: bool,
    pub(super) affine: bool,
}

impl Choice {
    /// What a form says of the weights.
    pub(super) fn of_weights(form: &Form) -> Self {
        let style = form.style;
        Self {
            bits: form.weights,
            row: style.granularity == Granularity::Row,
            affine: style.weights == Symmetry::Affine,
        }
    }

    /// What a form says of the input.
    pub(super) fn of_input(form: &Form) -> Option<Self> {
        let affine = form.style.activations == Symmetry::Affine;
        form.activations.map(|bits| Self { bits, row: false, affine })
    }

    pub(super) fn tensor(self) -> Tensor {
        Tensor::vector(vec![i64::from(self.bits.get()), i64::from(self.row), i64::from(self.affine)])
    }

    pub(super) fn read(all: &[i64]) -> Result<Self, Fault> {
        let wrong = || Fault::shape(format!("a choice of {all:?}"), "bits, row and affine");
        let [bits, row, affine] = *all else { return Err(wrong()) };
        let bits = u32::try_from(bits).ok().and_then(|bits| Bits::new(bits).ok()).ok_or_else(wrong)?;
        Ok(Self { bits, row: row != 0, affine: affine != 0 })
    }

    /// Where the step and the offset of a set stand in a table; a symmetric grid has no offset.
    pub(super) fn places(self, set: usize) -> (usize, Option<usize>) {
        let (first, width) = (set * SET, usize::from(self.bits.get() as u8 - 2));
        match self.affine {
            false => (first + width, None),
            true => (first + WIDTHS + width, Some(first + 2 * WIDTHS + width)),
        }
    }

    /// The grid of a set.
    fn grid(self, table: &[f32], set: usize, how: Quantizer) -> Result<Learned, Fault> {
        let (step, offset) = self.places(set);
        let number = |at: usize| {
            table.get(at).copied().ok_or_else(|| Fault::shape(format!("a table of {}", table.len()), format!("{at}")))
        };
        let offset = offset.map_or(Ok(0.0), number)?;
        Ok(Learned::new(self.bits, how.signed, number(step)?, offset))
    }

    /// The grids of a tensor whose table that is: one, or one for each row.
    pub(super) fn grids(self, table: &[f32], how: Quantizer) -> Result<Vec<Learned>, Fault> {
        let sets = if self.row { 1..(table.len() / SET).max(2) } else { 0..1 };
        sets.map(|set| self.grid(table, set, how)).collect()
    }
}

/// Puts values onto learned grids, which stay floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quantizer {
    /// Whether codes have a sign.
    pub(super) signed: bool,
    /// Whether the rows of a matrix are inputs, and grids of rows are those of its columns.
    pub(super) turned: bool,
}

impl Quantizer {
    /// Puts `x` onto grids in place: all of it onto one, or each of as many equal parts onto its own.
    fn apply(grids: &[Learned], x: &[f32], out: &mut [f32]) {
        let level = Level::best();
        match grids {
            [grid] => out.par_chunks_mut(PART).zip(x.par_chunks(PART)).for_each(|(out, x)| {
                fake_quantize(level, *grid, x, out);
            }),
            grids => {
                let row = (x.len() / grids.len().max(1)).max(1);
                let rows = out.chunks_mut(row).zip(x.chunks(row)).zip(grids);
                rows.for_each(|((out, x), grid)| fake_quantize(level, *grid, x, out));
            }
        }
    }

    /// Takes gradients back in place; what they say of each grid.
    fn back(grids: &[Learned], x: &[f32], gradients: &mut [f32]) -> Vec<Slopes> {
        let level = Level::best();
        match grids {
            [grid] => {
                let parts = gradients.par_chunks_mut(PART).zip(x.par_chunks(PART));
                let parts: Vec<Slopes> = parts.map(|(g, x)| fake_quantize_back(level, *grid, x, g)).collect();
                let mut all = Slopes::default();
                parts.into_iter().for_each(|part| all += part);
                vec![all]
            }
            grids => {
                let row = (x.len() / grids.len().max(1)).max(1);
                let rows = gradients.chunks_mut(row).zip(x.chunks(row)).zip(grids);
                rows.map(|((g, x), grid)| fake_quantize_back(level, *grid, x, g)).collect()
            }
        }
    }

    /// What slopes are multiplied with: 1 / sqrt(p n) for the values that share a grid (LSQ, section 2.2); of rows EQ-Net's
    /// code has 2 / sqrt(p n / inputs), where n counts all weights.
    fn damping(choice: Choice, (_, high): (f32, f32), shape: &[usize]) -> f64 {
        let all = shape.iter().product::<usize>() as f64;
        let inputs = shape.get(1).copied().unwrap_or(1).max(1) as f64;
        match choice.row {
            false => 1.0 / (f64::from(high) * all).sqrt(),
            true => 2.0 / (f64::from(high) * all / inputs).sqrt(),
        }
    }
}

impl Operator for Quantizer {
    fn name(&self) -> &'static str {
        "FakeQuantize"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let choice = Choice::read(&inputs.integers(1)?)?;
        let grids = choice.grids(inputs.elements::<f32>(2, "float32")?, *self)?;
        let shape = inputs.get(0)?.shape().to_vec();
        let x = inputs.elements::<f32>(0, "float32")?;
        let mut out = context.buffer(&shape)?;
        match (self.turned && choice.row, shape.last()) {
            (true, Some(cols)) => {
                let mut rows = context.scratch(x.len());
                Self::apply(&grids, &transposed(x, *cols), &mut rows);
                out.copy_from_slice(&transposed(&rows, x.len() / (*cols).max(1)));
                context.put(rows);
            }
            _ => Self::apply(&grids, x, &mut out),
        }
        let made = Tensor::of(shape.as_slice(), out);
        made.map(|made| vec![made]).ok_or_else(|| Fault::shape("another number of elements", "those of the input"))
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Flows(self)
    }
}

impl Pullback for Quantizer {
    fn keeps(&self, _wanted: &[bool]) -> Keeps {
        Keeps::NOTHING.input(0).input(1).input(2)
    }

    fn pull(&self, pass: &mut Pass, _context: &Context<'_>) -> Result<Vec<Option<Tensor>>, Fault> {
        let mut gradient = pass.take_gradient(0)?;
        let choice = Choice::read(&pass.integers(1)?)?;
        let table: &[f32] = pass.elements(2)?;
        let (grids, shape) = (choice.grids(table, *self)?, pass.shape(0)?.to_vec());
        let x: &[f32] = pass.elements(0)?;
        let Data::F32(own) = gradient.data_mut() else {
            return Err(Fault::shape("a gradient of another type", "float32"));
        };
        let slopes = match (self.turned && choice.row, shape.last()) {
            (true, Some(cols)) => {
                let mut rows = transposed(own.as_slice(), *cols);
                let slopes = Self::back(&grids, &transposed(x, *cols), &mut rows);
                own.to_mut().copy_from_slice(&transposed(&rows, x.len() / (*cols).max(1)));
                slopes
            }
            _ => Self::back(&grids, x, own.to_mut()),
        };
        let mut of_table = vec![0.0; table.len()];
        for (nth, (slopes, grid)) in slopes.iter().zip(&grids).enumerate() {
            let damping = Self::damping(choice, grid.codes(), &shape);
            let (step, offset) = choice.places(nth + usize::from(choice.row));
            // Of a step the magnitude counts.
            of_table[step] = (slopes.step * damping) as f32 * 1f32.copysign(table[step]);
            if let Some(offset) = offset {
                of_table[offset] = (slopes.offset * damping) as f32;
            }
        }
        let of_table = if pass.wants(2) { Some(pass.of_input(2, of_table)?) } else { None };
        Ok(vec![pass.wants(0).then_some(gradient), None, of_table])
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests;

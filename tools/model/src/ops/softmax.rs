//! Softmax and what is made like it.

mod back;

use niwaki_codes::simd::Level;
use rayon::prelude::*;

use crate::attributes::Definition;
use crate::fault::Fault;
use crate::kernels::{lanes, math, parts};
use crate::operator::{Context, Inputs, Operator};
use crate::ops::halves::Half;
use crate::ops::shape::axis;
use crate::ops::unary::own;
use crate::ops::{Built, some};
use crate::reverse::Reverse;
use crate::tensor::{Data, Tensor};

/// What is made of the numbers along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Exponentials, divided by their sum.
    Softmax,
    /// Their logarithms.
    LogSoftmax,
    /// 1 where the largest is first, else 0.
    Hardmax,
}

/// Softmax along an axis.
#[derive(Clone, Copy, Debug)]
pub struct Softmax {
    /// What is made.
    pub kind: Kind,
    /// Along which axis.
    pub axis: i64,
    /// Whether all axes from that one on are seen as one, as before opset 13.
    pub flat: bool,
}

/// The operators of this family.
pub(crate) fn build(definition: &Definition) -> Built {
    let kind = match definition.op.as_str() {
        "Softmax" => Kind::Softmax,
        "LogSoftmax" => Kind::LogSoftmax,
        "Hardmax" => Kind::Hardmax,
        _ => return Ok(None),
    };
    let flat = definition.opset < 13;
    let axis = definition.int("axis")?.unwrap_or(if flat { 1 } else { -1 });
    some(Softmax { kind, axis, flat })
}

impl Operator for Softmax {
    fn name(&self) -> &'static str {
        match self.kind {
            Kind::Softmax => "Softmax",
            Kind::LogSoftmax => "LogSoftmax",
            Kind::Hardmax => "Hardmax",
        }
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        if let Some(half) = Half::among(inputs) {
            return half.run(inputs, 1, |inputs| self.run(inputs, context));
        }
        let mut tensor = own(inputs.take(0)?, context)?;
        let (long, inner) = self.rows(tensor.shape())?;
        match tensor.data_mut() {
            Data::F32(x) => self.single(x.to_mut(), long, inner),
            Data::F64(x) => self.double(x.to_mut(), long, inner),
            _ => return Err(Fault::dtype(0, &tensor, "a float")),
        }
        Ok(vec![tensor])
    }

    fn reverse(&self) -> Reverse<'_> {
        match self.kind {
            Kind::Hardmax => Reverse::Stops,
            _ => Reverse::Flows(self),
        }
    }
}

impl Softmax {
    /// How many numbers there are along the axis, and how far they are apart.
    fn rows(&self, shape: &[usize]) -> Result<(usize, usize), Fault> {
        // An axis at the end of all is one of a single element.
        let flat_end = self.flat && self.axis == shape.len() as i64;
        let at = if flat_end { shape.len() } else { axis(self.axis, shape.len())? };
        Ok(match self.flat {
            true => (shape[at..].iter().product(), 1),
            false => (shape[at], shape[at + 1..].iter().product()),
        })
    }

    fn single(&self, x: &mut [f32], long: usize, inner: usize) {
        let (level, kind) = (Level::best(), self.kind);
        if long == 0 || inner == 0 {
            return;
        }
        if inner == 1 {
            parts::each(x, long, |_, x| x.chunks_exact_mut(long).for_each(|x| row(level, kind, x)));
            return;
        }
        x.par_chunks_mut(long * inner).for_each(|x| columns(level, kind, x, long, inner));
    }

    fn double(&self, x: &mut [f64], long: usize, inner: usize) {
        if long == 0 || inner == 0 {
            return;
        }
        for x in x.chunks_exact_mut(long * inner) {
            for column in 0..inner {
                let places = || (0..long).map(|k| k * inner + column);
                let top = places().fold(f64::NEG_INFINITY, |top, at| top.max(x[at]));
                let sum: f64 = places().map(|at| (x[at] - top).exp()).sum();
                let first = places().find(|at| x[*at] == top);
                places().for_each(|at| {
                    x[at] = match self.kind {
                        Kind::Softmax => (x[at] - top).exp() / sum,
                        Kind::LogSoftmax => x[at] - top - sum.ln(),
                        Kind::Hardmax => f64::from(u8::from(Some(at) == first)),
                    };
                });
            }
        }
    }
}

/// One row. A row of which every number is minus infinity becomes none, as in the formula.
fn row(level: Level, kind: Kind, x: &mut [f32]) {
    let top = lanes::max(level, x);
    match kind {
        Kind::Softmax => {
            let sum = lanes::exponentials(level, x, top);
            lanes::affine(level, x, 1.0 / sum, 0.0);
        }
        Kind::LogSoftmax => {
            let sum = lanes::sum_of_exponentials(level, x, top);
            lanes::below(level, x, top, math::ln(sum));
        }
        Kind::Hardmax => {
            let first = x.iter().position(|x| *x == top);
            x.fill(0.0);
            if let Some(x) = first.and_then(|at| x.get_mut(at)) {
                *x = 1.0;
            }
        }
    }
}

/// The columns of a matrix, each as a row.
fn columns(level: Level, kind: Kind, x: &mut [f32], long: usize, inner: usize) {
    let mut one = vec![0f32; long];
    for column in 0..inner {
        for (one, x) in one.iter_mut().zip(x[column..].iter().step_by(inner)) {
            *one = *x;
        }
        row(level, kind, &mut one);
        for (one, x) in one.iter().zip(x[column..].iter_mut().step_by(inner)) {
            *x = *one;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;
    use crate::attributes::Attribute;
    use crate::ops::trial::{assert_close, definition, elements, run, tensor};

    fn softmax(op: &str, opset: i64, axis: Option<i64>, x: &Tensor) -> Tensor {
        let attributes: Vec<_> = axis.map(|axis| ("axis", Attribute::Int(axis))).into_iter().collect();
        let definition = Definition { opset, ..definition(op, &attributes) };
        run(&definition, &[Some(x.clone())]).unwrap().remove(0)
    }

    #[test]
    fn each_axis_sums_to_one_as_the_formula_says() {
        let x: Vec<f32> = (0..2 * 37 * 5).map(|k| ((k * 31) % 101) as f32 / 9.0).collect();
        let x = tensor(&[2, 37, 5], &x);
        let wide: Vec<f64> = elements::<f32>(&x).iter().map(|x| f64::from(*x)).collect();
        let wide = tensor(&[2, 37, 5], &wide);
        for op in ["Softmax", "LogSoftmax", "Hardmax"] {
            for (opset, axis) in [(13, None), (13, Some(0)), (13, Some(1)), (11, None), (11, Some(2)), (11, Some(0))] {
                let truth = elements::<f64>(&softmax(op, opset, axis, &wide));
                assert_close(&softmax(op, opset, axis, &x), &truth);
            }
        }
        let whole: f64 = elements::<f64>(&softmax("Softmax", 11, None, &wide)).iter().sum();
        assert!((whole - 2.0).abs() < 1e-9, "before opset 13, the axes from the first on are one");
    }

    #[test]
    fn huge_numbers_do_not_overflow() {
        let x = tensor(&[1, 3], &[1e4f32, 1e4, -1e4]);
        assert_eq!(elements::<f32>(&softmax("Softmax", 13, None, &x)), [0.5, 0.5, 0.0]);
        assert_eq!(elements::<f32>(&softmax("Hardmax", 13, None, &x)), [1.0, 0.0, 0.0]);
        assert_close(&softmax("LogSoftmax", 13, None, &x), &[-2f64.ln(), -2f64.ln(), -2e4 - 2f64.ln()]);
    }
}

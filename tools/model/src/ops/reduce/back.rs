//! Gradients of sums, extremes and norms: of each x, with y what came of it and n how many there are.

use super::{Reduce, Reduction};
use crate::fault::Fault;
use crate::kernels::parts;
use crate::operator::Context;
use crate::ops::binary::{Side, stretch};
use crate::ops::shape::axes;
use crate::ops::spread::Spread;
use crate::real::{Real, in_reals};
use crate::reverse::{Keeps, Pass, Pullback};
use crate::tensor::Tensor;

impl Reduce {
    /// Whether the way back is done.
    pub(super) fn flows(&self) -> bool {
        !matches!(self.reduction, Reduction::Prod)
    }

    /// The gradient of x, from that of y.
    fn slope(&self, g: f64, x: f64, y: f64, count: f64) -> f64 {
        match self.reduction {
            Reduction::Sum => g,
            Reduction::Mean => g / count,
            // Where several are the largest, each has all of the gradient.
            Reduction::Max | Reduction::Min => {
                if x == y {
                    g
                } else {
                    0.0
                }
            }
            Reduction::L1 => {
                if x == 0.0 {
                    0.0
                } else {
                    g * x.signum()
                }
            }
            Reduction::L2 => {
                if y == 0.0 {
                    0.0
                } else {
                    g * x / y
                }
            }
            Reduction::LogSum => g / y.exp(),
            Reduction::LogSumExp => g * (x - y).exp(),
            Reduction::SumSquare => 2.0 * g * x,
            Reduction::Prod => 0.0,
        }
    }

    fn back<T: Real>(&self, pass: &Pass, context: &Context<'_>) -> Result<Vec<Option<Tensor>>, Fault> {
        let shape = pass.shape(0)?;
        let rank = shape.len();
        let given = match pass.has(1) {
            true => Some(pass.integers(1)?),
            false => self.axes.clone(),
        };
        let along = match given.as_deref().unwrap_or(&[]) {
            [] if self.none_is_none => Vec::new(),
            [] => (0..rank).collect(),
            some => axes(some, rank)?,
        };
        let kept: Vec<usize> = (0..rank).map(|at| if along.contains(&at) { 1 } else { shape[at] }).collect();
        let count = along.iter().map(|at| shape[*at]).product::<usize>() as f64;
        let g = pass.gradient_elements::<T>(0)?;
        let plain = matches!(self.reduction, Reduction::Sum | Reduction::Mean);
        // Of sums, neither x nor y is looked at.
        let (x, y) = if plain { (g, g) } else { (pass.elements::<T>(0)?, pass.output_elements::<T>(0)?) };
        let mut out = T::buffer(context, shape)?;
        let (of_x, of_y): (&[usize], &[usize]) = if plain { (&kept, &kept) } else { (shape, &kept) };
        let full = Spread::new([shape, of_x, of_y])?;
        parts::each(&mut out, 1, |start, out| {
            full.stretches(start, out.len(), |at, len, offsets| {
                let sides = [stretch(&full, 1, x, offsets, len), stretch(&full, 2, y, offsets, len)];
                let gradient = stretch(&full, 2, g, offsets, len);
                for (k, out) in out[at..at + len].iter_mut().enumerate() {
                    let of = |side: Side<'_, T>| match side {
                        Side::Row(all) => all[k].wide(),
                        Side::One(one) => one.wide(),
                        Side::Here => 0.0,
                    };
                    *out = T::near(self.slope(of(gradient), of(sides[0]), of(sides[1]), count));
                }
            });
        });
        Ok(vec![Some(pass.of_input(0, out)?)])
    }
}

impl Pullback for Reduce {
    fn keeps(&self, _: &[bool]) -> Keeps {
        match self.reduction {
            Reduction::Sum | Reduction::Mean => Keeps::NOTHING.input(1),
            _ => Keeps::NOTHING.input(0).input(1).output(0),
        }
    }

    fn pull(&self, pass: &mut Pass, context: &Context<'_>) -> Result<Vec<Option<Tensor>>, Fault> {
        in_reals!(pass.dtype(0)?, T => self.back::<T>(pass, context))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reverse::check::{gradients, numbers, random};

    #[test]
    fn gradients_are_those_of_finite_differences() {
        use Reduction::{L1, L2, LogSum, LogSumExp, Max, Mean, Min, Sum, SumSquare};
        for reduction in [Sum, Mean, Max, Min, L1, L2, LogSumExp, SumSquare, LogSum] {
            for axes in [None, Some(vec![0]), Some(vec![1, -1]), Some(vec![1])] {
                for keep in [true, false] {
                    let x = match reduction {
                        LogSum => Tensor::of([2, 3, 5], numbers(30, 1).into_iter().map(|x| 1.5 + x).collect()),
                        _ => random(&[2, 3, 5], 1),
                    };
                    gradients(&Reduce { reduction, axes: axes.clone(), keep, none_is_none: false }, &[x], &[0]);
                }
            }
        }
    }
}

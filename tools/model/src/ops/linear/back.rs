//! Gradients of linear layers: dx = dy W, dW = dyᵀ x, db = Σ dy.

use super::Linear;
use crate::fault::{Fault, dims};
use crate::kernels::mm::{Matrix, Target, Way, mm};
use crate::kernels::weights::Stored;
use crate::operator::Context;
use crate::real::{Real, in_reals};
use crate::reverse::{Keeps, Pass, Pullback};
use crate::tensor::{Dtype, Tensor};

impl Linear {
    fn back<T: Real>(&self, pass: &Pass, weights: &[T], context: &Context<'_>) -> Result<Vec<Option<Tensor>>, Fault> {
        let &[out, width] = pass.shape(1)? else { return Err(Fault::shape(dims(pass.shape(1)?), "[out, in]")) };
        let g = pass.gradient_elements::<T>(0)?;
        let rows = g.len() / out.max(1);
        let mut all = vec![None; 3];
        if pass.wants(0) {
            let mut dx = T::buffer(context, pass.shape(0)?)?;
            let sides = (Matrix::rows(g, rows, out)?, Matrix::rows(weights, out, width)?);
            mm(Target::rows(&mut dx, rows, width)?, sides.0, sides.1, Way::replace())?;
            all[0] = Some(pass.of_input(0, dx)?);
        }
        if pass.wants(1) {
            let mut dw = T::buffer(context, pass.shape(1)?)?;
            let sides = (Matrix::rows(g, rows, out)?.transposed(), Matrix::rows(pass.elements::<T>(0)?, rows, width)?);
            mm(Target::rows(&mut dw, out, width)?, sides.0, sides.1, Way::replace())?;
            all[1] = Some(pass.of_input(1, dw)?);
        }
        if pass.wants(2) {
            let mut sums = vec![0f64; out];
            for g in g.chunks_exact(out.max(1)) {
                sums.iter_mut().zip(g).for_each(|(sum, g)| *sum += g.wide());
            }
            all[2] = Some(pass.of_input(2, sums.into_iter().map(T::near).collect())?);
        }
        Ok(all)
    }
}

impl Pullback for Linear {
    fn keeps(&self, wanted: &[bool]) -> Keeps {
        Keeps::crosswise(wanted)
    }

    fn pull(&self, pass: &mut Pass, context: &Context<'_>) -> Result<Vec<Option<Tensor>>, Fault> {
        match pass.dtype(1)? {
            // Weights of halves stay as they are, and only x has a gradient.
            Dtype::F16 | Dtype::BF16 => {
                let stored = Stored::of(pass.input(1)?, 1)?;
                let mut wide = context.scratch(pass.input(1)?.len());
                stored.widen(0, &mut wide);
                let found = self.back::<f32>(pass, &wide, context);
                context.put(wide);
                found
            }
            dtype => in_reals!(dtype, T => {
                let weights = if pass.wants(0) { pass.elements::<T>(1)? } else { &[] };
                self.back::<T>(pass, weights, context)
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reverse::check::{gradients, random};

    #[test]
    fn gradients_are_those_of_finite_differences() {
        for heads in [None, Some(2)] {
            for shape in [&[3, 5][..], &[2, 3, 5], &[5], &[2, 1, 5]] {
                let inputs = [random(shape, 1), random(&[4, 5], 2), random(&[4], 3)];
                gradients(&Linear { heads }, &inputs, &[0, 1, 2]);
                gradients(&Linear { heads }, &inputs[..2], &[0]);
            }
        }
    }
}

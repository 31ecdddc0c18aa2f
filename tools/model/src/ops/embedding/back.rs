//! Gradients of rows of a table: added where they came from, one after the other.

use super::Embedding;
use crate::fault::{Fault, dims};
use crate::operator::Context;
use crate::real::{Real, in_reals};
use crate::reverse::{Keeps, Pass, Pullback};
use crate::tensor::Tensor;

impl Embedding {
    fn back<T: Real>(&self, pass: &Pass, context: &Context<'_>) -> Result<Vec<Option<Tensor>>, Fault> {
        let &[rows, width] = pass.shape(1)? else { return Err(Fault::shape(dims(pass.shape(1)?), "[rows, width]")) };
        let mut out = T::buffer(context, pass.shape(1)?)?;
        out.fill(T::ZERO);
        let ids = pass.integers(0)?;
        let scale = T::near(f64::from(self.scale));
        for (id, g) in ids.iter().zip(pass.gradient_elements::<T>(0)?.chunks_exact(width.max(1))) {
            let row = usize::try_from(*id).ok().filter(|row| *row < rows);
            let row = row.ok_or_else(|| Fault::shape(format!("row {id}"), format!("less than {rows}")))?;
            out[row * width..][..width].iter_mut().zip(g).for_each(|(out, g)| *out += *g * scale);
        }
        Ok(vec![None, Some(pass.of_input(1, out)?)])
    }
}

impl Pullback for Embedding {
    fn keeps(&self, _: &[bool]) -> Keeps {
        Keeps::NOTHING.input(0)
    }

    fn pull(&self, pass: &mut Pass, context: &Context<'_>) -> Result<Vec<Option<Tensor>>, Fault> {
        in_reals!(pass.dtype(1)?, T => self.back::<T>(pass, context))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reverse::check::{gradients, random};

    #[test]
    fn gradients_are_those_of_finite_differences() {
        let ids = Tensor::of([2, 3], vec![1i64, 0, 1, 4, 4, 1]);
        gradients(&Embedding { scale: 1.5 }, &[ids, random(&[5, 3], 1)], &[1]);
    }
}

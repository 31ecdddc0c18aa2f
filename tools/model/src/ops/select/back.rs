//! Gradients of choices.

use super::{Choice, Clip, Several, Where};
use crate::fault::Fault;
use crate::kernels::parts;
use crate::operator::{Context, Inputs, Operator};
use crate::ops::binary::{Operation, combine};
use crate::ops::number::Number;
use crate::ops::spread::gathered;
use crate::ops::unary::own;
use crate::real::{Real, in_reals};
use crate::reverse::{Keeps, Pass, Pullback};
use crate::tensor::{Data, Tensor};

impl Pullback for Where {
    fn keeps(&self, _: &[bool]) -> Keeps {
        Keeps::NOTHING.input(0)
    }

    fn pull(&self, pass: &mut Pass, context: &Context<'_>) -> Result<Vec<Option<Tensor>>, Fault> {
        let gradient = pass.take_gradient(0)?;
        let zero = in_reals!(gradient.dtype(), T => Tensor::scalar(T::ZERO));
        let mut found = vec![None; 3];
        for (at, found) in found.iter_mut().enumerate().skip(1) {
            if pass.wants(at) {
                let (a, b) = if at == 1 { (gradient.clone(), zero.clone()) } else { (zero.clone(), gradient.clone()) };
                let inputs = vec![Some(pass.input(0)?.clone()), Some(a), Some(b)];
                let chosen = self.run(&mut Inputs::new(inputs), context)?.pop().ok_or(Fault::Missing { input: at })?;
                *found = Some(gathered(chosen, pass.shape(at)?, context)?);
            }
        }
        Ok(found)
    }
}

impl Clip {
    fn back<T: Real + Number>(&self, pass: &Pass, g: &mut [T]) -> Result<(), Fault> {
        let inputs = (0..3).map(|at| if at > 0 { pass.input(at).ok().cloned() } else { None }).collect();
        let [low, high] = self.ends::<T>(&Inputs::new(inputs))?;
        let x = pass.elements::<T>(0)?;
        parts::each(g, 1, |at, g| {
            for (g, x) in g.iter_mut().zip(&x[at..]) {
                if *x < low || *x > high {
                    *g = T::ZERO;
                }
            }
        });
        Ok(())
    }
}

impl Pullback for Clip {
    fn keeps(&self, _: &[bool]) -> Keeps {
        Keeps::NOTHING.input(0).input(1).input(2)
    }

    fn pull(&self, pass: &mut Pass, context: &Context<'_>) -> Result<Vec<Option<Tensor>>, Fault> {
        let mut gradient = own(pass.take_gradient(0)?, context)?;
        match gradient.data_mut() {
            Data::F32(g) => self.back::<f32>(pass, g.to_mut())?,
            Data::F64(g) => self.back::<f64>(pass, g.to_mut())?,
            _ => return Err(Fault::dtype(0, &gradient, "a float")),
        }
        Ok(vec![Some(gradient)])
    }
}

impl Pullback for Several {
    fn keeps(&self, _: &[bool]) -> Keeps {
        Keeps::NOTHING
    }

    fn pull(&self, pass: &mut Pass, context: &Context<'_>) -> Result<Vec<Option<Tensor>>, Fault> {
        let mut gradient = pass.take_gradient(0)?;
        if self.choice == Choice::Mean {
            let share = in_reals!(gradient.dtype(), T => Tensor::scalar(T::near(1.0 / pass.inputs() as f64)));
            gradient = combine(Operation::Mul, gradient, share, context)?;
        }
        let of = |at: usize| match pass.wants(at) {
            true => gathered(gradient.clone(), pass.shape(at)?, context).map(Some),
            false => Ok(None),
        };
        (0..pass.inputs()).map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reverse::check::{gradients, random};
    use crate::tensor::Buffer;

    #[test]
    fn gradients_are_those_of_finite_differences() {
        let truth = Tensor::new([3, 1], Data::Bool(Buffer::from(vec![1u8, 0, 1])));
        gradients(&Where, &[truth, random(&[2, 3, 4], 1), random(&[4], 2)], &[1, 2]);
        gradients(&Clip { low: Some(-0.5), high: Some(0.25) }, &[random(&[3, 7], 1)], &[0]);
        gradients(&Clip { low: Some(0.0), high: None }, &[random(&[3, 7], 1)], &[0]);
        for choice in [Choice::Sum, Choice::Mean] {
            gradients(&Several { choice }, &[random(&[2, 3], 1), random(&[3], 2), random(&[2, 1], 3)], &[0, 1, 2]);
        }
    }
}

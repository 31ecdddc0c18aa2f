//! Gradients of rotations: turned back by the same angles.

use super::Rotate;
use crate::fault::Fault;
use crate::operator::Context;
use crate::ops::unary::own;
use crate::real::Real;
use crate::reverse::{Keeps, Pass, Pullback};
use crate::tensor::{Data, Tensor};

impl Pullback for Rotate {
    fn keeps(&self, _: &[bool]) -> Keeps {
        Keeps::NOTHING.input(1).input(2)
    }

    fn pull(&self, pass: &mut Pass, context: &Context<'_>) -> Result<Vec<Option<Tensor>>, Fault> {
        let mut gradient = own(pass.take_gradient(0)?, context)?;
        let [_, heads, size] = *pass.shape(0)? else { return Err(Fault::Missing { input: 0 }) };
        let half = pass.shape(1)?.last().copied().unwrap_or(0);
        match gradient.data_mut() {
            Data::F32(g) => {
                let sin: Vec<f32> = pass.elements::<f32>(2)?.iter().map(|x| -x).collect();
                super::rotate(g.to_mut(), [heads, size, half], pass.elements(1)?, &sin);
            }
            Data::F64(g) => {
                let wide = |at: usize| f64::widened(pass.input(at)?.data()).ok_or(Fault::Missing { input: at });
                let sin: Vec<f64> = wide(2)?.iter().map(|x| -x).collect();
                super::rotate(g.to_mut(), [heads, size, half], &wide(1)?, &sin);
            }
            _ => return Err(Fault::dtype(0, &gradient, "a float")),
        }
        Ok(vec![Some(gradient)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reverse::check::{gradients, random};

    #[test]
    fn gradients_are_those_of_finite_differences() {
        gradients(&Rotate, &[random(&[3, 2, 5], 1), random(&[3, 2], 2), random(&[3, 2], 3)], &[0]);
    }
}

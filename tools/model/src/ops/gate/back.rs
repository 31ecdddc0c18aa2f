//! Gradients of gates and soft caps.

use super::{Activation, Gate, SoftCap};
use crate::fault::Fault;
use crate::operator::{Context, Inputs, Operator};
use crate::ops::binary::{Operation, combine};
use crate::ops::unary::{Function, Unary, own};
use crate::reverse::{Keeps, Pass, Pullback};
use crate::tensor::{Data, Tensor};

impl Activation {
    /// The same as a function of elements.
    pub(super) fn unary(self) -> Unary {
        let function = match self {
            Self::Silu => Function::Swish,
            Self::Gelu => Function::Gelu,
            Self::GeluTanh => Function::FastGelu,
            Self::Relu => Function::Relu,
        };
        Unary { function, parameters: [1.0, 0.0] }
    }
}

impl Pullback for Gate {
    fn keeps(&self, wanted: &[bool]) -> Keeps {
        Keeps::NOTHING.input(0).input_if(1, wanted.len() > 1)
    }

    fn pull(&self, pass: &mut Pass, context: &Context<'_>) -> Result<Vec<Option<Tensor>>, Fault> {
        let gradient = pass.take_gradient(0)?;
        let gate = pass.input(0)?;
        let mut found = vec![None; 2];
        if pass.wants(1) {
            let activated = self.activation.unary().run(&mut Inputs::new(vec![Some(gate.clone())]), context)?.remove(0);
            found[1] = Some(combine(Operation::Mul, gradient.clone(), activated, context)?);
        }
        if pass.wants(0) {
            let gradient = match pass.has(1) {
                true => combine(Operation::Mul, gradient, pass.input(1)?.clone(), context)?,
                false => gradient,
            };
            // Of a rectifier the sign of the number is that of the result.
            found[0] = Some(self.activation.unary().sloped(gradient, Some(gate), context)?);
        }
        Ok(found)
    }
}

impl Pullback for SoftCap {
    fn keeps(&self, _: &[bool]) -> Keeps {
        Keeps::NOTHING.output(0)
    }

    fn pull(&self, pass: &mut Pass, context: &Context<'_>) -> Result<Vec<Option<Tensor>>, Fault> {
        let mut gradient = own(pass.take_gradient(0)?, context)?;
        let cap = f64::from(self.cap);
        match gradient.data_mut() {
            Data::F32(g) => {
                let y = pass.output_elements::<f32>(0)?;
                g.to_mut().iter_mut().zip(y).for_each(|(g, y)| *g *= 1.0 - (y / self.cap) * (y / self.cap));
            }
            Data::F64(g) => {
                let y = pass.output_elements::<f64>(0)?;
                g.to_mut().iter_mut().zip(y).for_each(|(g, y)| *g *= 1.0 - (y / cap) * (y / cap));
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
        for activation in [Activation::Silu, Activation::Gelu, Activation::GeluTanh, Activation::Relu] {
            let inputs = [random(&[3, 7], 1), random(&[3, 7], 2)];
            gradients(&Gate { activation }, &inputs, &[0, 1]);
            gradients(&Gate { activation }, &inputs[..1], &[0]);
        }
        gradients(&SoftCap { cap: 0.7 }, &[random(&[3, 7], 1)], &[0]);
    }
}

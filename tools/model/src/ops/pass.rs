//! Operators that give back what they get.

use crate::attributes::Definition;
use crate::fault::Fault;
use crate::operator::{Context, Inputs, Operator};
use crate::ops::binary::made;
use crate::ops::{Built, some};
use crate::reverse::{Keeps, Pass, Pullback, Reverse};
use crate::tensor::{Buffer, Data, Tensor};
use crate::value::{OnValues, Value, take};

/// The same tensor.
#[derive(Clone, Copy, Debug)]
pub struct Identity;

/// The same tensor, at which gradients end.
#[derive(Clone, Copy, Debug)]
pub struct Detach;

/// Dropout of a trained model: the same tensor, and truth for every element of it.
#[derive(Clone, Copy, Debug)]
pub struct Dropout;

/// The operators of this family.
pub(crate) fn build(definition: &Definition) -> Built {
    match definition.op.as_str() {
        "Identity" => some(Identity),
        "Dropout" => some(Dropout),
        _ => Ok(None),
    }
}

impl Operator for Identity {
    fn name(&self) -> &'static str {
        "Identity"
    }

    fn run(&self, inputs: &mut Inputs, _: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        inputs.take(0).map(|x| vec![x])
    }

    fn on_values(&self) -> Option<&dyn OnValues> {
        Some(self)
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Flows(self)
    }
}

impl OnValues for Identity {
    fn run_values(&self, mut inputs: Vec<Option<Value>>, _: &Context<'_>) -> Result<Vec<Value>, Fault> {
        take(&mut inputs, 0).map(|value| vec![value])
    }
}

impl Operator for Detach {
    fn name(&self) -> &'static str {
        "Detach"
    }

    fn run(&self, inputs: &mut Inputs, _: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        inputs.take(0).map(|x| vec![x])
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Stops
    }
}

impl Operator for Dropout {
    fn name(&self) -> &'static str {
        "Dropout"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let trains = inputs.optional(2).is_some_and(|flag| matches!(flag.data(), Data::Bool(x) if x.as_slice() == [1]));
        let drops = match inputs.optional(1).map(Tensor::data) {
            None => true,
            Some(Data::F32(ratio)) => ratio.as_slice() != [0.0],
            Some(_) => true,
        };
        if trains && drops {
            return Err(Fault::Unsupported("dropout while training".to_owned()));
        }
        let x = inputs.take(0)?;
        let mask = vec![1u8; context.len::<u8>(x.shape())?];
        let mask = made(x.shape().to_vec(), Data::Bool(Buffer::from(mask)))?;
        Ok(vec![x, mask])
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Flows(self)
    }
}

macro_rules! passes {
    ($($name:ident),*) => {
        $(impl Pullback for $name {
            fn keeps(&self, _: &[bool]) -> Keeps {
                Keeps::NOTHING
            }

            fn pull(&self, pass: &mut Pass, _: &Context<'_>) -> Result<Vec<Option<Tensor>>, Fault> {
                pass.take_gradient(0).map(|gradient| vec![Some(gradient)])
            }
        })*
    };
}

passes!(Identity, Dropout);

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;
    use crate::ops::trial::{definition, elements, run, tensor};

    #[test]
    fn dropout_passes_all_but_while_training() {
        let x = tensor(&[2], &[1.0f32, 2.0]);
        let y = run(&definition("Dropout", &[]), &[Some(x.clone())]).unwrap();
        assert_eq!(elements::<f32>(&y[0]), [1.0, 2.0]);
        assert!(matches!(y[1].data(), Data::Bool(mask) if mask.as_slice() == [1, 1]));
        let yes = Tensor::new([], Data::Bool(Buffer::from(vec![1u8]))).unwrap();
        let refused = run(&definition("Dropout", &[]), &[Some(x), Some(Tensor::scalar(0.5f32)), Some(yes)]);
        assert_eq!(refused.unwrap_err().to_string(), "dropout while training is not supported");
    }
}

//! A tensor in pieces as a list: SplitToSequence.

use super::{LEAST, no_tensors};
use crate::attributes::Definition;
use crate::fault::Fault;
use crate::operator::{Context, Inputs, Operator, integers};
use crate::ops::movement::join::piece;
use crate::ops::shape::axis;
use crate::ops::{Built, some};
use crate::tensor::Tensor;
use crate::value::{OnValues, Value, take};

/// A tensor in pieces along an axis.
#[derive(Clone, Copy, Debug)]
struct Split {
    axis: i64,
    /// Whether pieces of 1, where nobody says their sizes, keep the axis.
    keeps: bool,
}

pub(super) fn build(definition: &Definition) -> Built {
    let keeps = definition.int("keepdims")?.is_none_or(|keeps| keeps != 0);
    some(Split { axis: definition.int("axis")?.unwrap_or(0), keeps })
}

/// The sizes of pieces of `dim` in all: a number is that of each, but for a smaller last one; several are those of all.
fn sizes(said: &Tensor, dim: usize, context: &Context<'_>) -> Result<Vec<usize>, Fault> {
    let all = integers(said, 1)?;
    let wrong = || Fault::shape(format!("pieces of {all:?}"), format!("{dim} in all"));
    let each = all.iter().map(|size| usize::try_from(*size).map_err(|_| wrong())).collect::<Result<Vec<_>, _>>()?;
    match (each.as_slice(), said.rank()) {
        ([size], 0) if *size > 0 => {
            context.len::<u8>(&[dim.div_ceil(*size), LEAST])?;
            Ok((0..dim).step_by(*size).map(|from| (*size).min(dim - from)).collect())
        }
        (all, 1) if all.iter().try_fold(0usize, |sum, size| sum.checked_add(*size)) == Some(dim) => Ok(each),
        _ => Err(wrong()),
    }
}

impl Operator for Split {
    fn name(&self) -> &'static str {
        "SplitToSequence"
    }

    fn run(&self, _: &mut Inputs, _: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        Err(no_tensors(self.name()))
    }

    fn on_values(&self) -> Option<&dyn OnValues> {
        Some(self)
    }
}

impl OnValues for Split {
    fn run_values(&self, mut inputs: Vec<Option<Value>>, context: &Context<'_>) -> Result<Vec<Value>, Fault> {
        let input = take(&mut inputs, 0)?.into_tensor(0)?;
        let said = inputs.get_mut(1).and_then(Option::take).map(|value| value.into_tensor(1)).transpose()?;
        let at = axis(self.axis, input.rank())?;
        let dim = input.shape()[at];
        let each = match &said {
            Some(said) => sizes(said, dim, context)?,
            None => sizes(&Tensor::scalar(1i64), dim, context)?,
        };
        let (mut from, mut pieces) = (0, Vec::with_capacity(each.len()));
        for size in each {
            let one = piece(&input, at, from, size, context)?;
            from += size;
            if self.keeps || said.is_some() {
                pieces.push(one);
                continue;
            }
            let mut shape = one.shape().to_vec();
            shape.remove(at);
            pieces.push(one.reshaped(shape).ok_or(Fault::Missing { input: 0 })?);
        }
        Ok(vec![Value::List(pieces)])
    }
}

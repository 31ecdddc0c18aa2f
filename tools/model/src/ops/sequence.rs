//! Lists of tensors, which ONNX calls sequences, and optionals.
//!
//! ```text
//! SequenceEmpty | SequenceConstruct | SplitToSequence --> list
//! list --> SequenceInsert | SequenceErase --> list       a position from either end; the end where none is said
//! list --> SequenceAt | SequenceLength | ConcatFromSequence --> tensor
//! x?   --> Optional | OptionalHasElement | OptionalGetElement
//! ```
//!
//! An optional that is full is what is in it ([`Value`]), so `Optional` passes its input on, and OptionalGetElement takes
//! tensors and lists as they are (ONNX allows that since opset 18).

mod split;

use crate::attributes::Definition;
use crate::fault::Fault;
use crate::operator::{Context, Inputs, Operator, integers};
use crate::ops::movement::join::concat;
use crate::ops::shape::axis;
use crate::ops::{Built, some};
use crate::tensor::{Buffer, Data, Tensor};
use crate::value::{OnValues, Value, take, values};

/// Bytes that a tensor of a list counts at least.
const LEAST: usize = 64;

/// An operator of lists or optionals.
#[derive(Clone, Copy, Debug)]
enum Sequence {
    Empty,
    Construct,
    Insert,
    Erase,
    At,
    Length,
    Concat { axis: i64, new: bool },
    Optional,
    HasElement,
    GetElement,
}

/// The operators of this family.
pub(crate) fn build(definition: &Definition) -> Built {
    some(match definition.op.as_str() {
        "SequenceEmpty" => Sequence::Empty,
        "SequenceConstruct" => Sequence::Construct,
        "SequenceInsert" => Sequence::Insert,
        "SequenceErase" => Sequence::Erase,
        "SequenceAt" => Sequence::At,
        "SequenceLength" => Sequence::Length,
        "ConcatFromSequence" => {
            let axis = definition.int("axis")?.ok_or_else(|| Fault::shape("no attribute `axis`", "one"))?;
            Sequence::Concat { axis, new: definition.flag("new_axis")? }
        }
        "Optional" => Sequence::Optional,
        "OptionalHasElement" => Sequence::HasElement,
        "OptionalGetElement" => Sequence::GetElement,
        "SplitToSequence" => return split::build(definition),
        _ => return Ok(None),
    })
}

/// What an operator says that makes lists where nothing but tensors can be.
pub(crate) fn no_tensors(name: &str) -> Fault {
    Fault::Unsupported(format!("{name}, whose lists are there only while a graph runs forward,"))
}

/// Bytes that a tensor counts in a list.
pub(crate) fn room(tensor: &Tensor) -> usize {
    tensor.data().bytes().max(LEAST)
}

/// Refuses lists that take more than one result may.
fn bounded(all: &[Tensor], context: &Context<'_>) -> Result<(), Fault> {
    let bytes = all.iter().map(room).fold(0, usize::saturating_add);
    context.len::<u8>(&[bytes]).map(|_| ())
}

/// A list of tensors of one type of elements.
fn list(all: Vec<Tensor>, context: &Context<'_>) -> Result<Value, Fault> {
    let first = all.first().map(Tensor::dtype);
    if let Some((at, other)) = all.iter().enumerate().find(|(_, tensor)| Some(tensor.dtype()) != first) {
        return Err(Fault::dtype(at, other, "the type of the list's other tensors"));
    }
    bounded(&all, context)?;
    Ok(Value::List(all))
}

/// The position that an input says, of `places`; none where it is left out.
fn position(inputs: &mut [Option<Value>], input: usize, places: usize) -> Result<Option<usize>, Fault> {
    let Some(value) = inputs.get_mut(input).and_then(Option::take) else { return Ok(None) };
    match integers(&value.into_tensor(input)?, input)?[..] {
        [at] => {
            axis(at, places).map(Some).map_err(|_| Fault::shape(format!("position {at}"), format!("one of {places}")))
        }
        ref all => Err(Fault::shape(format!("{} positions", all.len()), "one")),
    }
}

fn truth(is: bool) -> Result<Value, Fault> {
    let tensor = Tensor::new([], Data::Bool(Buffer::from(vec![u8::from(is)])));
    tensor.map(Value::Tensor).ok_or(Fault::Missing { input: 0 })
}

impl Operator for Sequence {
    fn name(&self) -> &'static str {
        match self {
            Self::Empty => "SequenceEmpty",
            Self::Construct => "SequenceConstruct",
            Self::Insert => "SequenceInsert",
            Self::Erase => "SequenceErase",
            Self::At => "SequenceAt",
            Self::Length => "SequenceLength",
            Self::Concat { .. } => "ConcatFromSequence",
            Self::Optional => "Optional",
            Self::HasElement => "OptionalHasElement",
            Self::GetElement => "OptionalGetElement",
        }
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let made = self.run_values(values(std::mem::take(inputs).into_vec()), context)?;
        let tensor = |value: Value| value.tensor().cloned().ok_or_else(|| no_tensors(self.name()));
        made.into_iter().map(tensor).collect()
    }

    fn on_values(&self) -> Option<&dyn OnValues> {
        Some(self)
    }
}

impl OnValues for Sequence {
    fn run_values(&self, mut inputs: Vec<Option<Value>>, context: &Context<'_>) -> Result<Vec<Value>, Fault> {
        let one = match self {
            Self::Empty => Value::List(Vec::new()),
            Self::Construct => {
                let tensor =
                    |(at, value): (usize, Option<Value>)| value.ok_or(Fault::Missing { input: at })?.into_tensor(at);
                list(inputs.into_iter().enumerate().map(tensor).collect::<Result<_, _>>()?, context)?
            }
            Self::Insert => {
                let (mut all, more) = (take(&mut inputs, 0)?.into_list(0)?, take(&mut inputs, 1)?.into_tensor(1)?);
                let at = position(&mut inputs, 2, all.len() + 1)?;
                all.insert(at.unwrap_or(all.len()), more);
                list(all, context)?
            }
            Self::Erase => {
                let mut all = take(&mut inputs, 0)?.into_list(0)?;
                let at = position(&mut inputs, 1, all.len())?.or(all.len().checked_sub(1));
                all.remove(at.ok_or_else(|| Fault::shape("an empty list", "a tensor to remove"))?);
                Value::List(all)
            }
            Self::At => {
                let mut all = take(&mut inputs, 0)?.into_list(0)?;
                let at = position(&mut inputs, 1, all.len())?.ok_or(Fault::Missing { input: 1 })?;
                Value::Tensor(all.swap_remove(at))
            }
            Self::Length => Value::Tensor(Tensor::scalar(take(&mut inputs, 0)?.into_list(0)?.len() as i64)),
            Self::Concat { axis, new } => {
                Value::Tensor(joined(take(&mut inputs, 0)?.into_list(0)?, *axis, *new, context)?)
            }
            Self::Optional => inputs.get_mut(0).and_then(Option::take).unwrap_or(Value::Nothing),
            Self::HasElement => {
                let value = inputs.get_mut(0).and_then(Option::take);
                truth(value.is_some_and(|value| !matches!(value, Value::Nothing)))?
            }
            Self::GetElement => match take(&mut inputs, 0)? {
                Value::Nothing => return Err(Fault::kind(0, &Value::Nothing, "something")),
                value => value,
            },
        };
        Ok(vec![one])
    }
}

/// Tensors of a list one after the other along an axis, which may be a new one.
fn joined(all: Vec<Tensor>, along: i64, new: bool, context: &Context<'_>) -> Result<Tensor, Fault> {
    if all.is_empty() {
        return Err(Fault::shape("an empty list", "tensors to join"));
    }
    if !new {
        return concat(all, along, context);
    }
    let widened = |tensor: Tensor| {
        let mut shape = tensor.shape().to_vec();
        shape.insert(axis(along, shape.len() + 1)?, 1);
        tensor.reshaped(shape).ok_or(Fault::Missing { input: 0 })
    };
    concat(all.into_iter().map(widened).collect::<Result<_, _>>()?, along, context)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests;

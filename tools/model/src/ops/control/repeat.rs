//! A graph again and again: Loop.

use super::{bounded, graph, is_pure, on_tensors, run, stack, take_all, truth};
use crate::attributes::Definition;
use crate::execute::Executor;
use crate::fault::Fault;
use crate::operator::{Context, Inputs, Operator, integers};
use crate::ops::{Built, some};
use crate::tensor::{Buffer, Data, Tensor};
use crate::value::{OnValues, Value};

/// Runs a graph so many times, or as long as it says so. Values go from turn to turn; others are
/// collected.
#[derive(Debug)]
struct Loop {
    body: Executor,
    /// Values that go from turn to turn.
    carried: usize,
    captures: usize,
}

pub(super) fn build(definition: &Definition) -> Built {
    let body = graph(definition, "body")?;
    let (has, gives) = (body.graph().inputs().len(), body.graph().outputs().len());
    match has.checked_sub(definition.captures + 2) {
        Some(carried) if gives > carried => some(Loop { body, carried, captures: definition.captures }),
        _ => Err(Fault::shape(
            format!("a body of {has} inputs, {} of them from around it, and {gives} outputs", definition.captures),
            "a number, a condition and what it carries; a condition and what it carries",
        )),
    }
}

/// An input that is a tensor, where it is there.
fn optional(inputs: &mut [Option<Value>], at: usize) -> Result<Option<Tensor>, Fault> {
    inputs.get_mut(at).and_then(Option::take).map(|value| value.into_tensor(at)).transpose()
}

/// How many turns at most: the only whole number of input 0, where it is there.
fn most(inputs: &mut [Option<Value>]) -> Result<i64, Fault> {
    let Some(tensor) = optional(inputs, 0)? else { return Ok(i64::MAX) };
    match integers(&tensor, 0)?[..] {
        [most] => Ok(most),
        ref all => Err(Fault::shape(format!("{} numbers of turns", all.len()), "one")),
    }
}

impl Operator for Loop {
    fn name(&self) -> &'static str {
        "Loop"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        on_tensors(self, inputs, context)
    }

    fn on_values(&self) -> Option<&dyn OnValues> {
        Some(self)
    }

    fn is_pure(&self) -> bool {
        is_pure(&self.body)
    }
}

impl OnValues for Loop {
    fn run_values(&self, mut inputs: Vec<Option<Value>>, context: &Context<'_>) -> Result<Vec<Value>, Fault> {
        let most = most(&mut inputs)?;
        let mut goes_on = optional(&mut inputs, 1)?.map_or(Ok(true), |tensor| truth(&tensor, 1))?;
        let from_around = 2 + self.carried;
        let mut carried = take_all(&mut inputs, 2..from_around)?;
        let captured = take_all(&mut inputs, from_around..from_around + self.captures)?;
        let collects = self.body.graph().outputs().len() - 1 - self.carried;
        let mut collected: Vec<Vec<Tensor>> = vec![Vec::new(); collects];
        let mut turn = 0;
        while goes_on && turn < most {
            let condition = Tensor::new([], Data::Bool(Buffer::from(vec![1u8]))).ok_or(Fault::Missing { input: 1 })?;
            let mut taken = vec![Tensor::scalar(turn).into(), condition.into()];
            taken.append(&mut carried);
            taken.extend(captured.iter().cloned());
            let mut made = run(&self.body, taken, context)?.into_iter();
            goes_on = made.next().map_or(Ok(false), |value| truth(&value.into_tensor(0)?, 0))?;
            carried = made.by_ref().take(self.carried).collect();
            for (all, value) in collected.iter_mut().zip(made) {
                all.push(value.into_tensor(from_around)?);
            }
            turn += 1;
            bounded(collected.iter().filter_map(|all| all.last()), turn as usize, context)?;
        }
        for all in collected {
            carried.push(stack(all, 0, context)?.into());
        }
        Ok(carried)
    }
}

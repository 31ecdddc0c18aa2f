//! A graph again and again: Loop.

use super::{bounded, graph, is_pure, run, stack, take, truth};
use crate::attributes::Definition;
use crate::execute::Executor;
use crate::fault::Fault;
use crate::operator::{Context, Inputs, Operator};
use crate::ops::{Built, some};
use crate::tensor::{Buffer, Data, Tensor};

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

/// The only whole number of an input, where it is there.
fn most(inputs: &Inputs) -> Result<i64, Fault> {
    if inputs.optional(0).is_none() {
        return Ok(i64::MAX);
    }
    match inputs.integers(0)?[..] {
        [most] => Ok(most),
        ref all => Err(Fault::shape(format!("{} numbers of turns", all.len()), "one")),
    }
}

impl Operator for Loop {
    fn name(&self) -> &'static str {
        "Loop"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let most = most(inputs)?;
        let mut goes_on = inputs.optional(1).map_or(Ok(true), |tensor| truth(tensor, 1))?;
        let from_around = 2 + self.carried;
        let mut carried = take(inputs, 2..from_around)?;
        let captured = take(inputs, from_around..from_around + self.captures)?;
        let collects = self.body.graph().outputs().len() - 1 - self.carried;
        let mut collected: Vec<Vec<Tensor>> = vec![Vec::new(); collects];
        let mut turn = 0;
        while goes_on && turn < most {
            let condition = Tensor::new([], Data::Bool(Buffer::from(vec![1u8]))).ok_or(Fault::Missing { input: 1 })?;
            let mut taken = vec![Tensor::scalar(turn), condition];
            taken.append(&mut carried);
            taken.extend(captured.iter().cloned());
            let mut made = run(&self.body, taken, context)?.into_iter();
            goes_on = made.next().map_or(Ok(false), |tensor| truth(&tensor, 0))?;
            carried = made.by_ref().take(self.carried).collect();
            collected.iter_mut().zip(made).for_each(|(all, tensor)| all.push(tensor));
            turn += 1;
            bounded(collected.iter().filter_map(|all| all.last()), turn as usize, context)?;
        }
        for all in collected {
            carried.push(stack(all, 0, context)?);
        }
        Ok(carried)
    }

    fn is_pure(&self) -> bool {
        is_pure(&self.body)
    }
}

//! Operators that run graphs of their own: If, Loop, Scan, SequenceMap.
//!
//! A graph takes values of the graph around it as its last inputs, and so does the node:
//! [`Definition::captures`] says how many. Multiplications inside are not counted.

mod branch;
mod each;
mod repeat;
mod scan;

use crate::attributes::Definition;
use crate::execute::{Executor, Run};
use crate::fault::Fault;
use crate::operator::{Context, Inputs};
use crate::ops::Built;
use crate::ops::movement::join::concat;
use crate::tensor::Tensor;
use crate::value::{OnValues, Value, take, tensors, values};

/// The operators of this family.
pub(crate) fn build(definition: &Definition) -> Built {
    match definition.op.as_str() {
        "If" => branch::build(definition),
        "Loop" => repeat::build(definition),
        "Scan" => scan::build(definition),
        "SequenceMap" => each::build(definition),
        _ => Ok(None),
    }
}

/// The graph in an attribute, ready to run.
fn graph(definition: &Definition, name: &str) -> Result<Executor, Fault> {
    let graph = definition.graph(name)?.ok_or_else(|| Fault::shape(format!("no attribute `{name}`"), "a graph"))?;
    Executor::new((*graph).clone()).map_err(|error| Fault::Within(error.to_string()))
}

/// Whether equal inputs always give equal outputs.
fn is_pure(executor: &Executor) -> bool {
    executor.graph().nodes().iter().all(|node| node.op.is_pure())
}

fn run(executor: &Executor, inputs: Vec<Value>, context: &Context<'_>) -> Result<Vec<Value>, Fault> {
    let how = Run { limit: context.limit(), observe: None };
    let outcome = executor.run_values(inputs, how).map_err(|error| Fault::Within(error.to_string()))?;
    Ok(outcome.outputs)
}

/// Several inputs, all of which have to be there.
fn take_all(inputs: &mut [Option<Value>], range: std::ops::Range<usize>) -> Result<Vec<Value>, Fault> {
    range.map(|at| take(inputs, at)).collect()
}

/// Does on tensors what is done on values.
fn on_tensors(of: &dyn OnValues, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
    tensors(of.run_values(values(std::mem::take(inputs).into_vec()), context)?)
}

/// The only truth value of a tensor.
fn truth(tensor: &Tensor, input: usize) -> Result<bool, Fault> {
    match tensor.data() {
        crate::Data::Bool(all) if all.as_slice().len() == 1 => Ok(all.as_slice()[0] != 0),
        _ => Err(Fault::dtype(input, tensor, "one bool")),
    }
}

/// Tensors of one shape one after the other along a new dimension.
fn stack(all: Vec<Tensor>, axis: i64, context: &Context<'_>) -> Result<Tensor, Fault> {
    let widened = all.into_iter().map(|tensor| {
        let at = crate::ops::shape::axis(axis, tensor.rank() + 1)?;
        let mut shape = tensor.shape().to_vec();
        shape.insert(at, 1);
        tensor.reshaped(shape).ok_or(Fault::Missing { input: 0 })
    });
    let widened = widened.collect::<Result<Vec<_>, _>>()?;
    if widened.is_empty() {
        return Err(Fault::Unsupported("collecting the results of no turn at all".to_owned()));
    }
    concat(widened, axis, context)
}

/// Refuses results that together take more than one may.
fn bounded<'t>(all: impl Iterator<Item = &'t Tensor>, turns: usize, context: &Context<'_>) -> Result<(), Fault> {
    let widest = all.map(Tensor::owned_bytes).max().unwrap_or(0);
    context.len::<u8>(&[widest, turns]).map(|_| ())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests;

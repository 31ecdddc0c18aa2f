//! A graph for each part of its inputs: Scan.

use super::{bounded, graph, is_pure, run, stack};
use crate::attributes::Definition;
use crate::execute::Executor;
use crate::fault::Fault;
use crate::operator::{Context, Inputs, Operator};
use crate::ops::movement::join::piece;
use crate::ops::shape::axis;
use crate::ops::{Built, some};
use crate::tensor::Tensor;
use crate::value::{Value, tensors};

/// Runs a graph for each part of the inputs along an axis. Values go from turn to turn; others are
/// collected.
#[derive(Debug)]
struct Scan {
    body: Executor,
    /// Values that go from turn to turn.
    carried: usize,
    captures: usize,
    inputs: Vec<Along>,
    outputs: Vec<Along>,
}

/// How an input is cut, or an output put together.
#[derive(Clone, Copy, Debug)]
struct Along {
    axis: i64,
    backwards: bool,
}

pub(super) fn build(definition: &Definition) -> Built {
    if definition.opset < 9 {
        return Err(Fault::Unsupported("Scan of opset 8".to_owned()));
    }
    let body = graph(definition, "body")?;
    let (has, gives) = (body.graph().inputs().len(), body.graph().outputs().len());
    let wrong = || {
        Fault::shape(
            format!("a body of {has} inputs, {} of them from around it, and {gives} outputs", definition.captures),
            "what it carries and what is cut; what it carries and what is collected",
        )
    };
    let cut = definition.int("num_scan_inputs")?.and_then(|cut| usize::try_from(cut).ok()).ok_or_else(wrong)?;
    let carried = has.checked_sub(definition.captures).and_then(|all| all.checked_sub(cut)).ok_or_else(wrong)?;
    let collected = gives.checked_sub(carried).ok_or_else(wrong)?;
    let along = |axes: &str, directions: &str, count: usize| {
        let axes = definition.ints(axes)?.unwrap_or_else(|| vec![0; count]);
        let directions = definition.ints(directions)?.unwrap_or_else(|| vec![0; count]);
        if axes.len() != count || directions.len() != count {
            return Err(wrong());
        }
        Ok(axes.into_iter().zip(directions).map(|(axis, way)| Along { axis, backwards: way != 0 }).collect())
    };
    let inputs = along("scan_input_axes", "scan_input_directions", cut)?;
    let outputs = along("scan_output_axes", "scan_output_directions", collected)?;
    some(Scan { body, carried, captures: definition.captures, inputs, outputs })
}

impl Scan {
    /// How many parts the inputs have.
    fn turns(&self, cut: &[Tensor]) -> Result<usize, Fault> {
        let mut turns = None;
        for (tensor, along) in cut.iter().zip(&self.inputs) {
            let dim = tensor.shape()[axis(along.axis, tensor.rank())?];
            if *turns.get_or_insert(dim) != dim {
                return Err(Fault::shape(format!("inputs of {turns:?} and {dim} parts"), "as many of each"));
            }
        }
        turns.ok_or_else(|| Fault::shape("no inputs that are cut", "one or more"))
    }
}

/// Several inputs, all of which have to be there.
fn take(inputs: &mut Inputs, range: std::ops::Range<usize>) -> Result<Vec<Tensor>, Fault> {
    range.map(|at| inputs.take(at)).collect()
}

/// Part `turn` of an input.
fn part(tensor: &Tensor, along: Along, turn: usize, turns: usize, context: &Context<'_>) -> Result<Tensor, Fault> {
    let at = axis(along.axis, tensor.rank())?;
    let turn = if along.backwards { turns - 1 - turn } else { turn };
    let part = piece(tensor, at, turn, 1, context)?;
    let mut shape = part.shape().to_vec();
    shape.remove(at);
    part.reshaped(shape).ok_or(Fault::Missing { input: 0 })
}

impl Operator for Scan {
    fn name(&self) -> &'static str {
        "Scan"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let from_cut = self.carried + self.inputs.len();
        let mut carried = take(inputs, 0..self.carried)?;
        let cut = take(inputs, self.carried..from_cut)?;
        let captured = take(inputs, from_cut..from_cut + self.captures)?;
        let turns = self.turns(&cut)?;
        let mut collected: Vec<Vec<Tensor>> = vec![Vec::new(); self.outputs.len()];
        for turn in 0..turns {
            let mut taken = std::mem::take(&mut carried);
            for (tensor, along) in cut.iter().zip(&self.inputs) {
                taken.push(part(tensor, *along, turn, turns, context)?);
            }
            taken.extend(captured.iter().cloned());
            let taken = taken.into_iter().map(Value::Tensor).collect();
            let mut made = tensors(run(&self.body, taken, context)?)?.into_iter();
            carried = made.by_ref().take(self.carried).collect();
            collected.iter_mut().zip(made).for_each(|(all, tensor)| all.push(tensor));
            bounded(collected.iter().filter_map(|all| all.last()), turn + 1, context)?;
        }
        for (mut all, along) in collected.into_iter().zip(&self.outputs) {
            if along.backwards {
                all.reverse();
            }
            carried.push(stack(all, along.axis, context)?);
        }
        Ok(carried)
    }

    fn is_pure(&self) -> bool {
        is_pure(&self.body)
    }
}

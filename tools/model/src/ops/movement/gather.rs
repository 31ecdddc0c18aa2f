//! Parts of a tensor by indices: Gather, GatherElements, GatherND, Compress.

use rayon::prelude::*;

use super::bits::{Bits, moved, tensor};
use super::index;
use crate::attributes::Definition;
use crate::fault::{Fault, dims};
use crate::operator::{Context, Inputs, Operator, integers};
use crate::ops::shape::{axis, strides, walk};
use crate::ops::{Built, some};
use crate::reverse::Reverse;
use crate::tensor::{Data, Tensor, elements};

/// For each index the part of the tensor at it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gather {
    axis: i64,
}

/// For each index the element that is at it along an axis and in the same place along the others.
#[derive(Clone, Copy, Debug)]
pub(super) struct GatherElements {
    axis: i64,
}

/// For each list of indices the part of the tensor at them.
#[derive(Clone, Copy, Debug)]
pub(super) struct GatherNd {
    batch_dims: usize,
}

/// The parts for which a condition holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Compress {
    axis: Option<i64>,
}

pub(super) fn build(definition: &Definition) -> Built {
    match definition.op.as_str() {
        "Gather" => some(Gather { axis: definition.int("axis")?.unwrap_or(0) }),
        "GatherElements" => some(GatherElements { axis: definition.int("axis")?.unwrap_or(0) }),
        "GatherND" => {
            let batch_dims = super::size(definition.int("batch_dims")?.unwrap_or(0))?;
            some(GatherNd { batch_dims })
        }
        "Compress" => some(Compress { axis: definition.int("axis")? }),
        _ => Ok(None),
    }
}

/// Elements below which one thread does it all.
const PARALLEL: usize = 1 << 16;

/// Copies blocks of `len` elements from these offsets.
fn blocks<T: Bits>(x: &[T], len: usize, from: &[usize], out: &mut [T]) {
    if out.is_empty() {
        return;
    }
    if len == 1 {
        return out.iter_mut().zip(from).for_each(|(out, from)| *out = x[*from]);
    }
    let copy = |(out, from): (&mut [T], &usize)| out.copy_from_slice(&x[*from..*from + len]);
    if out.len() < PARALLEL {
        out.chunks_exact_mut(len).zip(from).for_each(copy);
    } else {
        out.par_chunks_exact_mut(len).zip(from).for_each(copy);
    }
}

/// Blocks of `len` elements from these offsets, in that shape.
fn gathered(
    input: &Tensor,
    len: usize,
    from: &[usize],
    shape: Vec<usize>,
    context: &Context<'_>,
) -> Result<Vec<Tensor>, Fault> {
    let data = moved!(input.data(), x => {
        let mut out = Bits::room(context, &shape)?;
        blocks(x, len, from, &mut out);
        out
    });
    Ok(vec![tensor(shape, data)?])
}

/// Offsets of all blocks along an axis at the places that are chosen.
fn offsets(shape: &[usize], at: usize, chosen: &[usize]) -> Vec<usize> {
    let inner: usize = shape[at + 1..].iter().product();
    let outer: usize = shape[..at].iter().product();
    let block = inner * shape[at];
    (0..outer).flat_map(|outer| chosen.iter().map(move |at| outer * block + at * inner)).collect()
}

impl Gather {
    /// The places along the axis that are chosen.
    fn chosen(&self, dim: usize, indices: &Tensor) -> Result<Vec<usize>, Fault> {
        let wanted = integers(indices, 1)?;
        wanted.into_iter().map(|one| index(one, dim)).collect()
    }

    /// How long the parts are that lie in one piece, and where each begins.
    pub(super) fn blocks(&self, shape: &[usize], indices: &Tensor) -> Result<(usize, Vec<usize>), Fault> {
        let at = axis(self.axis, shape.len())?;
        let chosen = self.chosen(shape[at], indices)?;
        Ok((shape[at + 1..].iter().product(), offsets(shape, at, &chosen)))
    }
}

impl Operator for Gather {
    fn name(&self) -> &'static str {
        "Gather"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let (input, indices) = (inputs.get(0)?, inputs.get(1)?);
        let at = axis(self.axis, input.rank())?;
        let shape = [&input.shape()[..at], indices.shape(), &input.shape()[at + 1..]].concat();
        if context.len::<u8>(&shape)? == 0 {
            self.chosen(input.shape()[at], indices)?;
            return gathered(input, 1, &[], shape, context);
        }
        let (len, from) = self.blocks(input.shape(), indices)?;
        gathered(input, len, &from, shape, context)
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Flows(self)
    }
}

impl Operator for GatherElements {
    fn name(&self) -> &'static str {
        "GatherElements"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let wanted = inputs.integers(1)?;
        let (input, indices) = (inputs.get(0)?, inputs.get(1)?);
        let at = axis(self.axis, input.rank())?;
        let offsets = element_offsets(input, indices, &wanted, at)?;
        gathered(input, 1, &offsets, indices.shape().to_vec(), context)
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Flows(self)
    }
}

/// Where the element of each index is.
pub(super) fn element_offsets(
    input: &Tensor,
    indices: &Tensor,
    wanted: &[i64],
    at: usize,
) -> Result<Vec<usize>, Fault> {
    let (shape, of) = (indices.shape(), input.shape());
    if shape.len() != of.len() || (0..of.len()).any(|place| place != at && shape[place] > of[place]) {
        return Err(Fault::shape(format!("indices of {} into {}", dims(shape), dims(of)), "places that are there"));
    }
    let mut own = strides(of);
    let apart = std::mem::replace(&mut own[at], 0);
    let mut offsets = Vec::with_capacity(wanted.len());
    let mut all = wanted.iter();
    let mut wrong = None;
    walk(shape, [&own], |[from]| match all.next().map(|one| index(*one, of[at])) {
        Some(Ok(one)) => offsets.push(from + one * apart),
        Some(Err(fault)) => wrong = wrong.take().or(Some(fault)),
        None => {}
    });
    wrong.map_or(Ok(offsets), Err)
}

/// Where the part of each list of indices begins; the lists are along the last dimension, and
/// `batch` dimensions before it are the input's.
pub(super) fn list_offsets(of: &[usize], indices: &[usize], wanted: &[i64], batch: usize) -> Result<Vec<usize>, Fault> {
    let wrong = || Fault::shape(format!("indices of {} into {}", dims(indices), dims(of)), "places that are there");
    let (depth, lists) = indices.split_last().ok_or_else(wrong)?;
    if lists.len() < batch || of.len() < batch + depth || lists[..batch] != of[..batch] {
        return Err(wrong());
    }
    let own = strides(of);
    let batches = elements(&of[..batch]).ok_or_else(wrong)?;
    let count = elements(lists).ok_or_else(wrong)?;
    let each = count.checked_div(batches).unwrap_or(0);
    let apart = batch.checked_sub(1).map_or(0, |last| own[last]);
    let mut offsets = Vec::new();
    for at in 0..count {
        let list = &wanted[at * depth..(at + 1) * depth];
        let mut from = at.checked_div(each).unwrap_or(0) * apart;
        for (place, one) in list.iter().enumerate() {
            from += index(*one, of[batch + place])? * own[batch + place];
        }
        offsets.push(from);
    }
    Ok(offsets)
}

impl Operator for GatherNd {
    fn name(&self) -> &'static str {
        "GatherND"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let wanted = inputs.integers(1)?;
        let (input, indices) = (inputs.get(0)?, inputs.get(1)?);
        let (of, lists) = (input.shape(), indices.shape());
        let depth = lists.last().copied().unwrap_or(0);
        let rest = of.get(self.batch_dims.saturating_add(depth)..).unwrap_or_default();
        let shape = [&lists[..lists.len().saturating_sub(1)], rest].concat();
        // Lists without indices are not held anywhere: their number is a size like any other.
        if context.len::<u64>(&shape)? == 0 {
            return gathered(input, 1, &[], shape, context);
        }
        let offsets = list_offsets(of, lists, &wanted, self.batch_dims)?;
        gathered(input, rest.iter().product(), &offsets, shape, context)
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Flows(self)
    }
}

impl Operator for Compress {
    fn name(&self) -> &'static str {
        "Compress"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let input = inputs.take(0)?;
        let Data::Bool(holds) = inputs.get(1)?.data() else {
            return Err(Fault::dtype(1, inputs.get(1)?, "bool"));
        };
        let input = match self.axis {
            Some(_) => input,
            None => {
                let len = input.len();
                tensor(vec![len], input.into_data())?
            }
        };
        let at = axis(self.axis.unwrap_or(0), input.rank())?;
        let dim = input.shape()[at];
        let chosen: Vec<usize> =
            (0..).zip(holds.as_slice()).filter(|(_, holds)| **holds != 0).map(|(at, _)| at).collect();
        if let Some(last) = chosen.last().filter(|last| **last >= dim) {
            return Err(Fault::shape(format!("place {last} of {dim}"), "one that is there"));
        }
        let mut shape = input.shape().to_vec();
        shape[at] = chosen.len();
        if context.len::<u8>(&shape)? == 0 {
            return gathered(&input, 1, &[], shape, context);
        }
        let inner = shape[at + 1..].iter().product();
        gathered(&input, inner, &offsets(input.shape(), at, &chosen), shape, context)
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Flows(self)
    }
}

//! Elements put into a tensor by indices: ScatterElements (once Scatter), ScatterND.

use super::bits::bits;
use super::gather::{element_offsets, list_offsets};
use super::reduce::{Reduce, Reduction};
use crate::attributes::Definition;
use crate::each;
use crate::fault::{Fault, dims};
use crate::operator::{Context, Inputs, Operator};
use crate::ops::shape::axis;
use crate::ops::{Built, some};
use crate::tensor::{Dtype, Tensor};

/// Puts each element where its index says along an axis, and in the same place along the others.
#[derive(Clone, Copy, Debug)]
struct ScatterElements {
    name: &'static str,
    axis: i64,
    reduction: Reduction,
}

/// Puts a part where each list of indices says.
#[derive(Clone, Copy, Debug)]
struct ScatterNd {
    reduction: Reduction,
}

pub(super) fn build(definition: &Definition) -> Built {
    let name = match definition.op.as_str() {
        "ScatterElements" => "ScatterElements",
        "Scatter" => "Scatter",
        "ScatterND" => "ScatterND",
        _ => return Ok(None),
    };
    let reduction = match definition.text("reduction")?.as_deref() {
        None | Some("none") => Reduction::None,
        Some("add") => Reduction::Add,
        Some("mul") => Reduction::Multiply,
        Some("max") => Reduction::Max,
        Some("min") => Reduction::Min,
        Some(other) => return Err(Fault::shape(format!("reduction `{other}`"), "none, add, mul, max or min")),
    };
    match name {
        "ScatterND" => some(ScatterNd { reduction }),
        _ => some(ScatterElements { name, axis: definition.int("axis")?.unwrap_or(0), reduction }),
    }
}

/// Puts blocks of `len` elements at these offsets.
fn put(tensor: &mut Tensor, updates: &Tensor, len: usize, at: &[usize], reduction: Reduction) -> Result<(), Fault> {
    if updates.dtype() != tensor.dtype() {
        return Err(Fault::dtype(2, updates, "the type of input 0"));
    }
    if tensor.dtype() == Dtype::BOOL && reduction != Reduction::None {
        return Err(Fault::dtype(0, tensor, "numbers"));
    }
    if len == 0 {
        return Ok(());
    }
    each!(tensor.data_mut(), buffer => blocks(buffer.to_mut(), bits(updates), len, at, reduction))
}

fn blocks<T: Reduce>(
    out: &mut [T],
    updates: Option<&[T]>,
    len: usize,
    at: &[usize],
    reduction: Reduction,
) -> Result<(), Fault> {
    let updates = updates.ok_or(Fault::Missing { input: 2 })?;
    for (from, update) in at.iter().zip(updates.chunks_exact(len)) {
        let out = &mut out[*from..*from + len];
        match reduction {
            Reduction::None => out.copy_from_slice(update),
            _ => out.iter_mut().zip(update).for_each(|(out, update)| *out = out.with(*update, reduction)),
        }
    }
    Ok(())
}

impl Operator for ScatterElements {
    fn name(&self) -> &'static str {
        self.name
    }

    fn run(&self, inputs: &mut Inputs, _: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let wanted = inputs.integers(1)?;
        let mut input = inputs.take(0)?;
        let (indices, updates) = (inputs.get(1)?, inputs.get(2)?);
        if updates.shape() != indices.shape() {
            return Err(Fault::shape(format!("updates of {}", dims(updates.shape())), dims(indices.shape())));
        }
        let at = axis(self.axis, input.rank())?;
        let offsets = element_offsets(&input, indices, &wanted, at)?;
        put(&mut input, updates, 1, &offsets, self.reduction)?;
        Ok(vec![input])
    }
}

impl Operator for ScatterNd {
    fn name(&self) -> &'static str {
        "ScatterND"
    }

    fn run(&self, inputs: &mut Inputs, _: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let wanted = inputs.integers(1)?;
        let mut input = inputs.take(0)?;
        let (lists, updates) = (inputs.get(1)?.shape(), inputs.get(2)?);
        let depth = lists.last().copied().unwrap_or(0);
        let rest = input.shape().get(depth..).unwrap_or_default();
        let needs = [&lists[..lists.len().saturating_sub(1)], rest].concat();
        if updates.shape() != needs {
            return Err(Fault::shape(format!("updates of {}", dims(updates.shape())), dims(&needs)));
        }
        if updates.is_empty() {
            return Ok(vec![input]);
        }
        let offsets = list_offsets(input.shape(), lists, &wanted, 0)?;
        let len = rest.iter().product();
        put(&mut input, updates, len, &offsets, self.reduction)?;
        Ok(vec![input])
    }
}

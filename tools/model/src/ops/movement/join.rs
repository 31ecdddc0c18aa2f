//! Tensors one after the other: Concat, and Split, its reverse.

use super::bits::{Bits, bits, moved, tensor};
use super::view::{View, signed};
use super::{integers, size};
use crate::attributes::Definition;
use crate::fault::{Fault, dims};
use crate::operator::{Context, Inputs, Operator};
use crate::ops::shape::{axis, strides};
use crate::ops::{Built, some};
use crate::reverse::Reverse;
use crate::tensor::Tensor;

/// Tensors one after the other along an axis.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Concat {
    pub(crate) axis: i64,
}

/// A tensor in pieces along an axis.
#[derive(Clone, Debug)]
pub(super) struct Split {
    axis: i64,
    sizes: Option<Vec<i64>>,
    /// How many pieces, where their sizes are not said.
    pieces: usize,
    /// Whether the last piece may be smaller.
    uneven: bool,
}

pub(super) fn build(definition: &Definition) -> Built {
    match definition.op.as_str() {
        "Concat" => {
            let axis = definition.int("axis")?.ok_or_else(|| Fault::shape("no attribute `axis`", "one"))?;
            some(Concat { axis })
        }
        "Split" => {
            let asked = definition.int("num_outputs")?;
            some(Split {
                axis: definition.int("axis")?.unwrap_or(0),
                sizes: definition.ints("split")?,
                pieces: asked.map(size).transpose()?.unwrap_or(definition.outputs),
                uneven: definition.opset >= 18,
            })
        }
        _ => Ok(None),
    }
}

impl Operator for Concat {
    fn name(&self) -> &'static str {
        "Concat"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let all = (0..inputs.len()).map(|at| inputs.take(at)).collect::<Result<Vec<_>, _>>()?;
        concat(all, self.axis, context).map(|tensor| vec![tensor])
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Flows(self)
    }
}

/// Tensors one after the other along an axis.
pub(crate) fn concat(mut all: Vec<Tensor>, along: i64, context: &Context<'_>) -> Result<Tensor, Fault> {
    let first = all.first().ok_or(Fault::Missing { input: 0 })?;
    let at = axis(along, first.rank())?;
    if all.len() == 1 {
        return Ok(all.remove(0));
    }
    let mut shape = first.shape().to_vec();
    for (input, other) in all.iter().enumerate().skip(1) {
        if other.dtype() != first.dtype() {
            return Err(Fault::dtype(input, other, "the type of input 0"));
        }
        let wrong = || Fault::shape(format!("{} and {}", dims(first.shape()), dims(other.shape())), "shapes that join");
        let differ = |place: usize| place != at && other.shape()[place] != first.shape()[place];
        if other.rank() != shape.len() || (0..shape.len()).any(differ) {
            return Err(wrong());
        }
        shape[at] = shape[at].checked_add(other.shape()[at]).ok_or_else(wrong)?;
    }
    let data = moved!(first.data(), x => joined(x, &all, at, &shape, context)?);
    tensor(shape, data)
}

/// Inputs one after the other; they are of one type, that of the first.
fn joined<T: Bits>(
    _: &[T],
    all: &[Tensor],
    at: usize,
    shape: &[usize],
    context: &Context<'_>,
) -> Result<Vec<T>, Fault> {
    let mut out = T::room(context, shape)?;
    if out.is_empty() {
        return Ok(out);
    }
    let inner: usize = shape[at + 1..].iter().product();
    let block = shape[at] * inner;
    let mut start = 0;
    for (input, other) in all.iter().enumerate() {
        let part = bits::<T>(other).ok_or_else(|| Fault::dtype(input, other, "the type of input 0"))?;
        let own = other.shape()[at] * inner;
        if own == 0 {
            continue;
        }
        for (out, part) in out.chunks_exact_mut(block).zip(part.chunks_exact(own)) {
            out[start..start + own].copy_from_slice(part);
        }
        start += own;
    }
    Ok(out)
}

impl Split {
    fn sizes(&self, wanted: Option<Vec<i64>>, dim: usize) -> Result<Vec<usize>, Fault> {
        if let Some(wanted) = wanted {
            let sizes = wanted.into_iter().map(size).collect::<Result<Vec<_>, _>>()?;
            let sum = sizes.iter().try_fold(0usize, |sum, size| sum.checked_add(*size));
            return match sum {
                Some(sum) if sum == dim => Ok(sizes),
                _ => Err(Fault::shape(format!("pieces of {sizes:?}"), format!("{dim} in all"))),
            };
        }
        let wrong = || Fault::shape(format!("{} pieces of {dim}", self.pieces), "pieces of equal sizes");
        if self.pieces == 0 || (!self.uneven && !dim.is_multiple_of(self.pieces)) {
            return Err(wrong());
        }
        let each = dim.div_ceil(self.pieces);
        let last = each.checked_mul(self.pieces - 1).and_then(|before| dim.checked_sub(before)).ok_or_else(wrong)?;
        Ok((1..self.pieces).map(|_| each).chain([last]).collect())
    }
}

impl Operator for Split {
    fn name(&self) -> &'static str {
        "Split"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let wanted = integers(inputs, 1, &self.sizes)?;
        let input = inputs.take(0)?;
        let at = axis(self.axis, input.rank())?;
        let sizes = self.sizes(wanted, input.shape()[at])?;
        if sizes.len() == 1 {
            return Ok(vec![input]);
        }
        let mut from = 0;
        let mut pieces = Vec::with_capacity(sizes.len());
        for size in sizes {
            pieces.push(piece(&input, at, from, size, context)?);
            from += size;
        }
        Ok(pieces)
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Flows(self)
    }
}

/// So much of a tensor along an axis.
pub(crate) fn piece(
    input: &Tensor,
    at: usize,
    from: usize,
    size: usize,
    context: &Context<'_>,
) -> Result<Tensor, Fault> {
    let mut shape = input.shape().to_vec();
    shape[at] = size;
    let own = strides(input.shape());
    let view = View::new(&shape, &signed(&own), from.saturating_mul(own[at]));
    let data = moved!(input.data(), x => {
        let mut out = Bits::room(context, &shape)?;
        view.copy(x, &mut out);
        out
    });
    tensor(shape, data)
}

//! Elements that are repeated: Expand, Tile.

use super::bits::{Bits, moved, tensor};
use super::size;
use super::view::{View, signed};
use crate::attributes::Definition;
use crate::fault::{Fault, dims};
use crate::operator::{Context, Inputs, Operator};
use crate::ops::shape::{broadcast, broadcast_strides, strides};
use crate::ops::{Built, some};
use crate::reverse::Reverse;
use crate::tensor::Tensor;

/// A tensor broadcast to a shape.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expand;

/// A tensor several times along each dimension.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tile;

pub(super) fn build(definition: &Definition) -> Built {
    match definition.op.as_str() {
        "Expand" => some(Expand),
        "Tile" => some(Tile),
        _ => Ok(None),
    }
}

impl Operator for Expand {
    fn name(&self) -> &'static str {
        "Expand"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let wanted = inputs.integers(1)?.into_iter().map(size).collect::<Result<Vec<_>, _>>()?;
        let input = inputs.take(0)?;
        let shape = broadcast(&[input.shape(), &wanted])?;
        if shape == input.shape() {
            return Ok(vec![input]);
        }
        let view = View::new(&shape, &signed(&broadcast_strides(input.shape(), &shape)), 0);
        let data = moved!(input.data(), x => {
            let mut out = Bits::room(context, &shape)?;
            view.copy(x, &mut out);
            out
        });
        Ok(vec![tensor(shape, data)?])
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Flows(self)
    }
}

impl Operator for Tile {
    fn name(&self) -> &'static str {
        "Tile"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let repeats = inputs.integers(1)?.into_iter().map(size).collect::<Result<Vec<_>, _>>()?;
        let input = inputs.take(0)?;
        if repeats.len() != input.rank() {
            let found = format!("{} repeats of {}", repeats.len(), dims(input.shape()));
            return Err(Fault::shape(found, "one for each dimension"));
        }
        let times = |(dim, times): (&usize, &usize)| dim.checked_mul(*times);
        let shape: Option<Vec<usize>> = input.shape().iter().zip(&repeats).map(times).collect();
        let shape = shape.ok_or_else(|| Fault::shape(format!("repeats {repeats:?}"), "a size that fits"))?;
        let own = signed(&strides(input.shape()));
        let split: Vec<usize> = repeats.iter().zip(input.shape()).flat_map(|(times, dim)| [*times, *dim]).collect();
        let apart: Vec<isize> = own.iter().flat_map(|stride| [0, *stride]).collect();
        let view = View::new(&split, &apart, 0);
        let data = moved!(input.data(), x => {
            let mut out = Bits::room(context, &shape)?;
            view.copy(x, &mut out);
            out
        });
        Ok(vec![tensor(shape, data)?])
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Flows(self)
    }
}

//! Parts of a tensor by their place: Slice, CenterCropPad.

use super::bits::{Bits, moved, tensor};
use super::pad::{Mode, pad};
use super::view::{View, signed};
use super::{integers, size};
use crate::attributes::Definition;
use crate::fault::Fault;
use crate::operator::{Context, Inputs, Operator};
use crate::ops::shape::{axes, axis, strides};
use crate::ops::{Built, some};
use crate::reverse::Reverse;
use crate::tensor::Tensor;

/// From, to and step along axes.
#[derive(Clone, Debug)]
pub(super) struct Slice {
    /// As older opsets have them.
    starts: Option<Vec<i64>>,
    ends: Option<Vec<i64>>,
    axes: Option<Vec<i64>>,
}

/// The middle, or what there is with zeros around it.
#[derive(Clone, Debug)]
pub(super) struct CenterCropPad {
    axes: Option<Vec<i64>>,
}

pub(super) fn build(definition: &Definition) -> Built {
    match definition.op.as_str() {
        "Slice" => some(Slice {
            starts: definition.ints("starts")?,
            ends: definition.ints("ends")?,
            axes: definition.ints("axes")?,
        }),
        "CenterCropPad" => some(CenterCropPad { axes: definition.ints("axes")? }),
        _ => Ok(None),
    }
}

/// Where the first element along a dimension is, and how many there are.
fn range(start: i64, end: i64, step: i64, dim: usize) -> Result<(usize, usize), Fault> {
    let dim = dim as i64;
    let from_front = |at: i64| if at < 0 { at.saturating_add(dim) } else { at };
    let (start, end) = (from_front(start), from_front(end));
    let (start, end, step) = match step {
        0 => return Err(Fault::shape("step 0", "another")),
        1.. => (start.clamp(0, dim), end.clamp(0, dim), step),
        // Seen from the back, it is the same.
        _ => (dim - 1 - start.max(0).min(dim - 1), dim - 1 - end.clamp(-1, dim - 1), step.saturating_neg()),
    };
    let count = (end - start).max(0) as u64;
    Ok((start as usize, count.div_ceil(step as u64) as usize))
}

impl Operator for Slice {
    fn name(&self) -> &'static str {
        "Slice"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let starts = integers(inputs, 1, &self.starts)?.ok_or(Fault::Missing { input: 1 })?;
        let ends = integers(inputs, 2, &self.ends)?.ok_or(Fault::Missing { input: 2 })?;
        let wanted = integers(inputs, 3, &self.axes)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
        let steps = integers(inputs, 4, &None)?.unwrap_or_else(|| vec![1; starts.len()]);
        if [ends.len(), wanted.len(), steps.len()].iter().any(|len| *len != starts.len()) {
            let found =
                format!("{} starts, {} ends, {} axes, {} steps", starts.len(), ends.len(), wanted.len(), steps.len());
            return Err(Fault::shape(found, "as many of each"));
        }
        let input = inputs.take(0)?;
        axes(&wanted, input.rank())?;
        let own = strides(input.shape());
        let (mut shape, mut apart, mut from) = (input.shape().to_vec(), signed(&own), 0usize);
        for (place, wanted) in wanted.iter().enumerate() {
            let at = axis(*wanted, input.rank())?;
            let (start, end, step) = (starts[place], ends[place], steps[place]);
            let dim = shape[at];
            let (first, count) = range(start, end, step, dim)?;
            shape[at] = count;
            let first = if step < 0 { dim.saturating_sub(1).saturating_sub(first) } else { first };
            from = from.saturating_add(first.saturating_mul(own[at]));
            apart[at] = apart[at].saturating_mul(step as isize);
        }
        if shape == input.shape() && steps.iter().all(|step| *step > 0) {
            return Ok(vec![input]);
        }
        let view = View::new(&shape, &apart, from);
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

impl Operator for CenterCropPad {
    fn name(&self) -> &'static str {
        "CenterCropPad"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let wanted = inputs.integers(1)?.into_iter().map(size).collect::<Result<Vec<_>, _>>()?;
        let input = inputs.take(0)?;
        let places = match &self.axes {
            Some(axes) => axes.iter().map(|one| axis(*one, input.rank())).collect::<Result<Vec<_>, _>>()?,
            None => (0..input.rank()).collect(),
        };
        if wanted.len() != places.len() {
            return Err(Fault::shape(format!("{} sizes", wanted.len()), format!("{}", places.len())));
        }
        let mut pads = vec![(0i64, 0i64); input.rank()];
        for (at, wanted) in places.into_iter().zip(wanted) {
            let (has, wanted) = (input.shape()[at] as i64, wanted as i64);
            // Of an odd number, the larger half is after.
            pads[at] = if wanted >= has {
                ((wanted - has) / 2, (wanted - has) - (wanted - has) / 2)
            } else {
                (-((has - wanted) / 2), -((has - wanted) - (has - wanted) / 2))
            };
        }
        pad(&input, &pads, Mode::Constant, None, context).map(|tensor| vec![tensor])
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Flows(self)
    }
}

//! Channels to places, and back.

use super::bits::tensor;
use super::transpose::transposed;
use crate::attributes::Definition;
use crate::fault::{Fault, dims};
use crate::operator::{Context, Inputs, Operator};
use crate::ops::{Built, some};
use crate::reverse::Reverse;
use crate::tensor::Tensor;

/// Channels become a square of places.
#[derive(Clone, Copy, Debug)]
pub(super) struct DepthToSpace {
    side: usize,
    /// Whether the channels of one square are side by side (CRD).
    columns: bool,
}

/// Each square of places becomes channels.
#[derive(Clone, Copy, Debug)]
pub(super) struct SpaceToDepth {
    side: usize,
}

pub(super) fn build(definition: &Definition) -> Built {
    let side = |definition: &Definition| match definition.int("blocksize")? {
        Some(side) if (1..=1 << 16).contains(&side) => Ok(side as usize),
        found => Err(Fault::shape(format!("block size {found:?}"), "1 or more")),
    };
    match definition.op.as_str() {
        "DepthToSpace" => {
            let columns = match definition.text("mode")?.as_deref() {
                None | Some("DCR") => false,
                Some("CRD") => true,
                Some(mode) => return Err(Fault::shape(format!("mode `{mode}`"), "DCR or CRD")),
            };
            some(DepthToSpace { side: side(definition)?, columns })
        }
        "SpaceToDepth" => some(SpaceToDepth { side: side(definition)? }),
        _ => Ok(None),
    }
}

fn image(tensor: &Tensor) -> Result<[usize; 4], Fault> {
    let wrong = |_| Fault::shape(dims(tensor.shape()), "4 dimensions");
    tensor.shape().try_into().map_err(wrong)
}

/// A tensor in the shape `split`, its dimensions in another order, in the shape `shape`.
fn moved(
    input: Tensor,
    split: [usize; 6],
    order: [usize; 6],
    shape: [usize; 4],
    context: &Context<'_>,
) -> Result<Vec<Tensor>, Fault> {
    let input = tensor(split.to_vec(), input.into_data())?;
    let moved = transposed(input, &order, context)?;
    Ok(vec![tensor(shape.to_vec(), moved.into_data())?])
}

impl Operator for DepthToSpace {
    fn name(&self) -> &'static str {
        "DepthToSpace"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let input = inputs.take(0)?;
        let ([n, c, h, w], side) = (image(&input)?, self.side);
        let wrong = || Fault::shape(format!("{c} channels"), format!("a multiple of {}", side * side));
        if c % (side * side) != 0 {
            return Err(wrong());
        }
        let less = c / (side * side);
        let (high, wide) = h.checked_mul(side).zip(w.checked_mul(side)).ok_or_else(wrong)?;
        let (split, order) = match self.columns {
            false => ([n, side, side, less, h, w], [0, 3, 4, 1, 5, 2]),
            true => ([n, less, side, side, h, w], [0, 1, 4, 2, 5, 3]),
        };
        moved(input, split, order, [n, less, high, wide], context)
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Flows(self)
    }
}

impl Operator for SpaceToDepth {
    fn name(&self) -> &'static str {
        "SpaceToDepth"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let input = inputs.take(0)?;
        let ([n, c, h, w], side) = (image(&input)?, self.side);
        let wrong = || Fault::shape(dims(input.shape()), format!("sides that are multiples of {side}"));
        if h % side != 0 || w % side != 0 {
            return Err(wrong());
        }
        let more = c.checked_mul(side * side).ok_or_else(wrong)?;
        let split = [n, c, h / side, side, w / side, side];
        moved(input, split, [0, 3, 5, 1, 2, 4], [n, more, h / side, w / side], context)
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Flows(self)
    }
}

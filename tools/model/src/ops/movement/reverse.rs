//! The beginning of each sequence turned round: ReverseSequence.

use super::bits::{Bits, moved, tensor};
use super::index;
use crate::attributes::Definition;
use crate::fault::{Fault, dims};
use crate::operator::{Context, Inputs, Operator};
use crate::ops::{Built, some};
use crate::reverse::Reverse;
use crate::tensor::Tensor;

/// The first steps of each sequence, as many as its length says, in the reverse order.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReverseSequence {
    /// Whether the sequences are along the first dimension, and not the second.
    time_first: bool,
}

pub(super) fn build(definition: &Definition) -> Built {
    if definition.op != "ReverseSequence" {
        return Ok(None);
    }
    let batch = definition.int("batch_axis")?.unwrap_or(1);
    let time = definition.int("time_axis")?.unwrap_or(0);
    match (batch, time) {
        (1, 0) => some(ReverseSequence { time_first: true }),
        (0, 1) => some(ReverseSequence { time_first: false }),
        _ => Err(Fault::shape(format!("batch axis {batch}, time axis {time}"), "0 and 1")),
    }
}

impl Operator for ReverseSequence {
    fn name(&self) -> &'static str {
        "ReverseSequence"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let lengths = inputs.integers(1)?;
        let input = inputs.take(0)?;
        let [first, second, rest @ ..] = input.shape() else {
            return Err(Fault::shape(dims(input.shape()), "2 dimensions or more"));
        };
        let (batch, time) = if self.time_first { (*second, *first) } else { (*first, *second) };
        if lengths.len() != batch {
            return Err(Fault::shape(format!("{} lengths", lengths.len()), format!("{batch}")));
        }
        if input.is_empty() {
            return Ok(vec![input]);
        }
        let lengths = lengths.into_iter().map(|len| index(len, time + 1)).collect::<Result<Vec<_>, _>>()?;
        let block: usize = rest.iter().product();
        let data = moved!(input.data(), x => {
            let mut out = Bits::room(context, input.shape())?;
            for (to, out) in out.chunks_exact_mut(block).enumerate() {
                let (step, sequence) = if self.time_first { (to / batch, to % batch) } else { (to % time, to / time) };
                let len = lengths[sequence];
                let step = if step < len { len - 1 - step } else { step };
                let from = if self.time_first { step * batch + sequence } else { sequence * time + step };
                out.copy_from_slice(&x[from * block..][..block]);
            }
            out
        });
        Ok(vec![tensor(input.shape().to_vec(), data)?])
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Flows(self)
    }
}

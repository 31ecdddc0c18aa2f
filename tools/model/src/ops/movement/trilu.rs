//! One triangle of each matrix: Trilu.

use super::integer;
use crate::attributes::Definition;
use crate::each;
use crate::fault::{Fault, dims};
use crate::operator::{Context, Inputs, Operator};
use crate::ops::{Built, some};
use crate::reverse::Reverse;
use crate::tensor::Tensor;

/// Keeps one side of a diagonal; zeros elsewhere.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trilu {
    upper: bool,
}

pub(super) fn build(definition: &Definition) -> Built {
    match definition.op.as_str() {
        "Trilu" => some(Trilu { upper: definition.int("upper")?.unwrap_or(1) != 0 }),
        _ => Ok(None),
    }
}

impl Operator for Trilu {
    fn name(&self) -> &'static str {
        "Trilu"
    }

    fn run(&self, inputs: &mut Inputs, _: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let diagonal = if inputs.optional(1).is_some() { integer(inputs, 1)? } else { 0 };
        let mut tensor = inputs.take(0)?;
        let [.., height, width] = *tensor.shape() else {
            return Err(Fault::shape(dims(tensor.shape()), "2 dimensions or more"));
        };
        if !tensor.is_empty() {
            each!(tensor.data_mut(), buffer => clear(buffer.to_mut(), (height, width), diagonal, self.upper));
        }
        Ok(vec![tensor])
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Flows(self)
    }
}

fn clear<T: Copy + Default>(x: &mut [T], (height, width): (usize, usize), diagonal: i64, upper: bool) {
    for (at, row) in x.chunks_exact_mut(width).enumerate() {
        let from = diagonal.saturating_add((at % height) as i64);
        let edge = |at: i64| at.clamp(0, width as i64) as usize;
        match upper {
            true => row[..edge(from)].fill(T::default()),
            false => row[edge(from.saturating_add(1))..].fill(T::default()),
        }
    }
}

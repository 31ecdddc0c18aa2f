//! New entries of a cache of keys or values: TensorScatter.

use super::bits::bits;
use super::index;
use crate::attributes::Definition;
use crate::each;
use crate::fault::{Fault, dims};
use crate::operator::{Context, Inputs, Operator};
use crate::ops::shape::axis;
use crate::ops::{Built, some};
use crate::tensor::Tensor;

/// Puts what is new of each sequence behind what is there.
#[derive(Clone, Copy, Debug)]
struct TensorScatter {
    axis: i64,
    /// Whether what does not fit at the end goes to the beginning.
    circular: bool,
}

pub(super) fn build(definition: &Definition) -> Built {
    if definition.op != "TensorScatter" {
        return Ok(None);
    }
    let circular = match definition.text("mode")?.as_deref() {
        None | Some("linear") => false,
        Some("circular") => true,
        Some(mode) => return Err(Fault::shape(format!("mode `{mode}`"), "linear or circular")),
    };
    some(TensorScatter { axis: definition.int("axis")?.unwrap_or(-2), circular })
}

/// Where the steps of all sequences go.
struct Places {
    /// For each block of the new ones, the first step.
    first: Vec<usize>,
    /// Steps that there is room for, and new ones.
    room: usize,
    new: usize,
    /// Elements of a step.
    inner: usize,
}

impl Operator for TensorScatter {
    fn name(&self) -> &'static str {
        "TensorScatter"
    }

    fn run(&self, inputs: &mut Inputs, _: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let wanted = inputs.optional(2).map(|_| inputs.integers(2)).transpose()?;
        let mut cache = inputs.take(0)?;
        let update = inputs.get(1)?;
        let (of, new) = (cache.shape(), update.shape());
        let wrong = || Fault::shape(format!("{} into {}", dims(new), dims(of)), "steps of sequences that fit");
        let at = axis(self.axis, of.len())?;
        let differ = |place: usize| place != at && of[place] != new[place];
        if at == 0 || new.len() != of.len() || (0..of.len()).any(differ) || new[at] > of[at] {
            return Err(wrong());
        }
        if update.dtype() != cache.dtype() {
            return Err(Fault::dtype(1, update, "the type of input 0"));
        }
        let starts = wanted.unwrap_or_else(|| vec![0; of[0]]);
        if starts.len() != of[0] {
            return Err(Fault::shape(format!("{} places", starts.len()), format!("{}", of[0])));
        }
        if update.is_empty() {
            return Ok(vec![cache]);
        }
        let last = if self.circular { of[at] } else { of[at] - new[at] + 1 };
        let starts = starts.iter().map(|start| index(*start, last)).collect::<Result<Vec<_>, _>>()?;
        let each: usize = of[1..at].iter().product();
        let first = starts.into_iter().flat_map(|start| std::iter::repeat_n(start, each)).collect();
        let places = Places { first, room: of[at], new: new[at], inner: of[at + 1..].iter().product() };
        each!(cache.data_mut(), buffer => put(buffer.to_mut(), bits(update), &places)?);
        Ok(vec![cache])
    }
}

fn put<T: Copy>(cache: &mut [T], update: Option<&[T]>, places: &Places) -> Result<(), Fault> {
    let update = update.ok_or(Fault::Missing { input: 1 })?;
    for (number, step) in update.chunks_exact(places.inner).enumerate() {
        let (sequence, at) = (number / places.new, number % places.new);
        let to = sequence * places.room + (places.first[sequence] + at) % places.room;
        cache[to * places.inner..][..places.inner].copy_from_slice(step);
    }
    Ok(())
}

//! Elements around a tensor.

use super::bits::{Bits, bits, moved, tensor};
use super::integers;
use crate::attributes::Definition;
use crate::fault::{Fault, dims};
use crate::operator::{Context, Inputs, Operator};
use crate::ops::shape::{axis, strides};
use crate::ops::{Built, some};
use crate::reverse::Reverse;
use crate::tensor::Tensor;

/// What is put around.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Always the same.
    Constant,
    /// What is at the same distance on the other side of the edge.
    Reflect,
    /// The element at the edge.
    Edge,
    /// What is at the other end.
    Wrap,
}

/// Puts elements around a tensor; where the number is negative, takes away.
#[derive(Clone, Debug)]
pub(super) struct Pad {
    mode: Mode,
    /// As older opsets have them.
    pads: Option<Vec<i64>>,
    value: Option<f32>,
}

pub(super) fn build(definition: &Definition) -> Built {
    if definition.op != "Pad" {
        return Ok(None);
    }
    let mode = match definition.text("mode")?.as_deref() {
        None | Some("constant") => Mode::Constant,
        Some("reflect") => Mode::Reflect,
        Some("edge") => Mode::Edge,
        Some("wrap") => Mode::Wrap,
        Some(mode) => return Err(Fault::shape(format!("mode `{mode}`"), "constant, reflect, edge or wrap")),
    };
    some(Pad { mode, pads: definition.ints("pads")?, value: definition.float("value")? })
}

impl Operator for Pad {
    fn name(&self) -> &'static str {
        "Pad"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let pads = integers(inputs, 1, &self.pads)?.ok_or(Fault::Missing { input: 1 })?;
        let wanted = integers(inputs, 3, &None)?;
        let value = inputs.optional(2).cloned().or_else(|| self.value.map(Tensor::scalar));
        let input = inputs.take(0)?;
        let rank = input.rank();
        let places = match wanted {
            Some(wanted) => wanted.iter().map(|one| axis(*one, rank)).collect::<Result<Vec<_>, _>>()?,
            None => (0..rank).collect(),
        };
        let count = places.len();
        if pads.len() != 2 * count {
            let found = format!("{} numbers of elements to put around {}", pads.len(), dims(input.shape()));
            return Err(Fault::shape(found, format!("{}", 2 * count)));
        }
        let mut around = vec![(0, 0); rank];
        for (place, at) in places.into_iter().enumerate() {
            around[at] = (pads[place], pads[count + place]);
        }
        if around.iter().all(|pair| *pair == (0, 0)) {
            return Ok(vec![input]);
        }
        if let Some(value) = value.as_ref().filter(|value| value.dtype() != input.dtype() || value.len() != 1) {
            return Err(Fault::shape(format!("value {value:?}"), format!("one {}", input.dtype())));
        }
        pad(&input, &around, self.mode, value.as_ref(), context).map(|tensor| vec![tensor])
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Flows(self)
    }
}

impl Pad {
    /// The same with zeros of any type.
    pub(super) fn without_value(&self) -> Self {
        Self { value: None, ..self.clone() }
    }
}

/// Puts so many elements before and after each dimension. The value is one of the input's type, and
/// 0 where there is none.
pub(super) fn pad(
    input: &Tensor,
    around: &[(i64, i64)],
    mode: Mode,
    value: Option<&Tensor>,
    context: &Context<'_>,
) -> Result<Tensor, Fault> {
    let size = |(dim, (before, after)): (&usize, &(i64, i64))| {
        let size = i64::try_from(*dim).ok()?.checked_add(*before)?.checked_add(*after)?;
        usize::try_from(size).ok()
    };
    let shape: Option<Vec<usize>> = input.shape().iter().zip(around).map(size).collect();
    let wrong = || Fault::shape(format!("{around:?} around {}", dims(input.shape())), "sizes that can be");
    let shape = shape.ok_or_else(wrong)?;
    if mode != Mode::Constant && input.is_empty() && !shape.contains(&0) {
        return Err(wrong());
    }
    let data = moved!(input.data(), x => padded(x, value, Around { input, around, mode, shape: &shape }, context)?);
    tensor(shape, data)
}

struct Around<'a> {
    input: &'a Tensor,
    around: &'a [(i64, i64)],
    mode: Mode,
    shape: &'a [usize],
}

fn padded<T: Bits>(x: &[T], value: Option<&Tensor>, job: Around<'_>, context: &Context<'_>) -> Result<Vec<T>, Fault> {
    let mut out = T::room(context, job.shape)?;
    if out.is_empty() {
        return Ok(out);
    }
    let value = value.and_then(bits::<T>).and_then(|all| all.first().copied()).unwrap_or_default();
    let own = job.input.shape();
    let apart = strides(own);
    let map = |at: usize| Map::new(own[at], job.around[at].0, job.shape[at], job.mode, apart[at]);
    let maps: Vec<Map> = (0..own.len()).map(map).collect();
    fill(&maps, x, Some(0), value, &mut out);
    Ok(out)
}

/// For each place along a dimension of the result the offset in the source; none for the value.
struct Map {
    offsets: Vec<Option<usize>>,
    /// From where on so many places have the elements as they are in the source.
    plain: (usize, usize),
}

impl Map {
    fn new(dim: usize, before: i64, size: usize, mode: Mode, apart: usize) -> Self {
        let (dim, last) = (dim as i64, dim as i64 - 1);
        let offset = |at: usize| {
            let at = at as i64 - before;
            let from = match mode {
                _ if (0..dim).contains(&at) => at,
                Mode::Constant => return None,
                Mode::Edge => at.clamp(0, last),
                Mode::Wrap => at.rem_euclid(dim),
                Mode::Reflect if last == 0 => 0,
                Mode::Reflect => last - (at.rem_euclid(2 * last) - last).abs(),
            };
            Some(from as usize * apart)
        };
        let from = before.clamp(0, size as i64);
        let to = before.saturating_add(dim).clamp(from, size as i64);
        Self { offsets: (0..size).map(offset).collect(), plain: (from as usize, (to - from) as usize) }
    }
}

fn fill<T: Bits>(maps: &[Map], x: &[T], from: Option<usize>, value: T, out: &mut [T]) {
    let Some(from) = from else { return out.fill(value) };
    match maps {
        [] => out[0] = x[from],
        [map] => {
            let (start, len) = map.plain;
            if let Some(first) = map.offsets.get(start).copied().flatten().filter(|_| len > 0) {
                out[start..start + len].copy_from_slice(&x[from + first..][..len]);
            }
            let elsewhere = (0..start).chain(start + len..out.len());
            elsewhere.for_each(|at| out[at] = map.offsets[at].map_or(value, |offset| x[from + offset]));
        }
        [map, rest @ ..] => {
            let inner = out.len() / map.offsets.len();
            for (out, offset) in out.chunks_exact_mut(inner).zip(&map.offsets) {
                fill(rest, x, offset.map(|offset| from + offset), value, out);
            }
        }
    }
}

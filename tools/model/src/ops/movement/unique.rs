//! Each element once: Unique.

use std::cmp::Ordering;

use super::sort::order;
use crate::attributes::Definition;
use crate::fault::Fault;
use crate::operator::{Context, Inputs, Operator};
use crate::ops::shape::axis;
use crate::ops::{Built, some};
use crate::tensor::{Element, Tensor};
use crate::{each, same};

/// Each element, or each part along an axis, once; where it first is, which one each input is, and
/// how many there are of it.
#[derive(Clone, Copy, Debug)]
struct Unique {
    axis: Option<i64>,
    sorted: bool,
}

pub(super) fn build(definition: &Definition) -> Built {
    match definition.op.as_str() {
        "Unique" => some(Unique { axis: definition.int("axis")?, sorted: definition.int("sorted")?.unwrap_or(1) != 0 }),
        _ => Ok(None),
    }
}

/// Parts of a tensor along an axis, as places of their elements.
#[derive(Clone, Copy)]
struct Parts {
    outer: usize,
    dim: usize,
    inner: usize,
}

impl Parts {
    fn places(self, part: usize) -> impl Iterator<Item = usize> {
        (0..self.outer).flat_map(move |outer| {
            let from = (outer * self.dim + part) * self.inner;
            from..from + self.inner
        })
    }

    fn compare<T: PartialOrd>(self, x: &[T], a: usize, b: usize) -> Ordering {
        let mut all = self.places(a).zip(self.places(b)).map(|(a, b)| order(&x[a], &x[b]));
        all.find(|one| one.is_ne()).unwrap_or(Ordering::Equal)
    }

    /// Groups of equal parts, each in the order of the input.
    fn groups<T: Element>(self, x: &[T], sorted: bool) -> Vec<Vec<usize>> {
        let mut all: Vec<usize> = (0..self.dim).collect();
        all.sort_by(|a, b| self.compare(x, *a, *b));
        let equal = all.chunk_by(|a, b| self.compare(x, *a, *b).is_eq());
        let mut groups: Vec<Vec<usize>> = equal.map(<[usize]>::to_vec).collect();
        if !sorted {
            groups.sort_by_key(|group| group.first().copied());
        }
        groups
    }
}

impl Operator for Unique {
    fn name(&self) -> &'static str {
        "Unique"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let input = inputs.get(0)?;
        let (mut shape, at) = match self.axis {
            Some(along) => (input.shape().to_vec(), axis(along, input.rank())?),
            None => (vec![input.len()], 0),
        };
        context.len::<i64>(&[shape[at]])?;
        let product = |dims: &[usize]| dims.iter().try_fold(1usize, |all, dim| all.checked_mul(*dim));
        let (outer, inner) = product(&shape[..at]).zip(product(&shape[at + 1..])).unwrap_or((0, 0));
        let parts = Parts { outer, dim: shape[at], inner };
        let groups = each!(input.data(), x => parts.groups(x.as_slice(), self.sorted));
        shape[at] = groups.len();
        let once = Parts { dim: groups.len(), ..parts };
        let firsts: Vec<usize> = groups.iter().filter_map(|group| group.first().copied()).collect();
        let data = same!(input.data(), x => {
            let x = x.as_slice();
            let mut out = vec![Default::default(); once.outer * once.dim * once.inner];
            for (to, from) in firsts.iter().enumerate() {
                once.places(to).zip(parts.places(*from)).for_each(|(to, from)| out[to] = x[from]);
            }
            out
        });
        let mut which = vec![0i64; parts.dim];
        for (at, group) in groups.iter().enumerate() {
            group.iter().for_each(|part| which[*part] = at as i64);
        }
        let values = Tensor::new(shape, data).ok_or_else(|| Fault::shape("elements", "as many as the shape says"))?;
        let firsts = Tensor::vector(firsts.into_iter().map(|at| at as i64).collect());
        let counts = Tensor::vector(groups.iter().map(|group| group.len() as i64).collect());
        Ok(vec![values, firsts, Tensor::vector(which), counts])
    }
}

//! The largest elements, and those that are not 0: TopK, NonZero.

use std::cmp::Ordering;

use super::integer;
use crate::attributes::Definition;
use crate::fault::Fault;
use crate::operator::{Context, Inputs, Operator};
use crate::ops::shape::{axis, strides};
use crate::ops::{Built, some};
use crate::reverse::Reverse;
use crate::tensor::{Element, Tensor};
use crate::{each, same};

/// The largest or smallest elements along an axis, and their places.
///
/// They are in order even where the order does not matter; of equals the first come first, and what
/// is not a number counts as the largest.
#[derive(Clone, Copy, Debug)]
struct TopK {
    axis: i64,
    largest: bool,
    /// As the oldest opset has it.
    count: Option<i64>,
}

/// The places of all elements that are not 0, dimension by dimension.
#[derive(Clone, Copy, Debug)]
struct NonZero;

pub(super) fn build(definition: &Definition) -> Built {
    match definition.op.as_str() {
        "TopK" => some(TopK {
            axis: definition.int("axis")?.unwrap_or(-1),
            largest: definition.int("largest")?.unwrap_or(1) != 0,
            count: definition.int("k")?,
        }),
        "NonZero" => some(NonZero),
        _ => Ok(None),
    }
}

/// An order of all elements: what is not a number comes last.
pub(super) fn order<T: PartialOrd>(a: &T, b: &T) -> Ordering {
    let odd = |x: &T| x.partial_cmp(x).is_none();
    a.partial_cmp(b).unwrap_or_else(|| odd(a).cmp(&odd(b)))
}

impl Operator for TopK {
    fn name(&self) -> &'static str {
        "TopK"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let count = match self.count {
            Some(count) => count,
            None => integer(inputs, 1)?,
        };
        let input = inputs.get(0)?;
        let at = axis(self.axis, input.rank())?;
        let dim = input.shape()[at];
        let count = match usize::try_from(count) {
            Ok(count) if count <= dim => count,
            _ => return Err(Fault::shape(format!("the first {count} of {dim}"), "as many as there are")),
        };
        let mut shape = input.shape().to_vec();
        shape[at] = count;
        context.len::<i64>(&shape)?;
        let offsets = each!(input.data(), x => self.offsets(x.as_slice(), input.shape(), at, count));
        let (inner, block) = (strides(input.shape())[at], dim.max(1));
        let places: Vec<i64> = offsets.iter().map(|from| (from / inner % block) as i64).collect();
        let data = same!(input.data(), x => {
            let x = x.as_slice();
            offsets.iter().map(|from| x[*from]).collect::<Vec<_>>()
        });
        let wrong = || Fault::shape("elements", "as many as the shape says");
        let values = Tensor::new(shape.clone(), data).ok_or_else(wrong)?;
        Ok(vec![values, Tensor::of(shape, places).ok_or_else(wrong)?])
    }
}

impl TopK {
    /// Where the elements of the result are.
    fn offsets<T: Element>(&self, x: &[T], shape: &[usize], at: usize, count: usize) -> Vec<usize> {
        if x.is_empty() || count == 0 {
            return Vec::new();
        }
        let (dim, inner) = (shape[at], strides(shape)[at]);
        let mut offsets = vec![0; x.len() / dim * count];
        let before = |a: &usize, b: &usize| {
            let values = if self.largest { order(&x[*b], &x[*a]) } else { order(&x[*a], &x[*b]) };
            values.then(a.cmp(b))
        };
        let mut line: Vec<usize> = Vec::with_capacity(dim);
        for lane in 0..x.len() / dim {
            let (outer, within) = (lane / inner, lane % inner);
            line.clear();
            line.extend((0..dim).map(|place| (outer * dim + place) * inner + within));
            if count < dim {
                line.select_nth_unstable_by(count, before);
            }
            line[..count].sort_unstable_by(before);
            for (place, from) in line[..count].iter().enumerate() {
                offsets[(outer * count + place) * inner + within] = *from;
            }
        }
        offsets
    }
}

impl Operator for NonZero {
    fn name(&self) -> &'static str {
        "NonZero"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let input = inputs.get(0)?;
        let found: Vec<usize> = each!(input.data(), x => nonzero(x.as_slice()));
        // A tensor without dimensions counts as one of one dimension.
        let shape = if input.rank() == 0 { &[1][..] } else { input.shape() };
        context.len::<i64>(&[shape.len(), found.len()])?;
        let places = shape
            .iter()
            .zip(strides(shape))
            .flat_map(|(dim, apart)| found.iter().map(move |from| (from / apart % dim) as i64));
        let places = places.collect();
        Ok(vec![Tensor::of([shape.len(), found.len()], places).ok_or(Fault::Missing { input: 0 })?])
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Stops
    }
}

fn nonzero<T: Element>(x: &[T]) -> Vec<usize> {
    x.iter().enumerate().filter(|(_, x)| **x != T::default()).map(|(at, _)| at).collect()
}

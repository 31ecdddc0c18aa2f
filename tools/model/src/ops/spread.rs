//! Walks over tensors that broadcast to one shape, a row at a time.

use crate::fault::{Fault, dims};
use crate::operator::{Context, Inputs, Operator};
use crate::ops::reduce::{Reduce, Reduction};
use crate::ops::shape::{broadcast, broadcast_strides};
use crate::tensor::Tensor;

/// How `N` tensors broadcast together: as few dimensions as it takes.
///
/// Neighbouring dimensions along which every tensor goes on alike are one; what is left at the end
/// are rows, along which each tensor has one element after the other, or one element for all.
#[derive(Debug)]
pub(crate) struct Spread<const N: usize> {
    /// The shape that they have together.
    pub(crate) shape: Vec<usize>,
    outer: Vec<(usize, [usize; N])>,
    row: usize,
    /// For each tensor, whether it has one element for a whole row.
    pub(crate) still: [bool; N],
}

impl<const N: usize> Spread<N> {
    /// Of tensors of these shapes.
    ///
    /// # Errors
    ///
    /// Shapes that do not broadcast.
    pub(crate) fn new(shapes: [&[usize]; N]) -> Result<Self, Fault> {
        let shape = broadcast(&shapes)?;
        let strides = shapes.map(|own| broadcast_strides(own, &shape));
        let mut outer: Vec<(usize, [usize; N])> = Vec::new();
        for (at, dim) in shape.iter().copied().enumerate().filter(|(_, dim)| *dim != 1) {
            let steps: [usize; N] = std::array::from_fn(|k| strides[k][at]);
            match outer.last_mut() {
                Some((above, last)) if (0..N).all(|k| last[k] == steps[k] * dim) => {
                    *above = above.saturating_mul(dim);
                    *last = steps;
                }
                _ => outer.push((dim, steps)),
            }
        }
        let (row, steps) = outer.pop().unwrap_or((1, [1; N]));
        Ok(Self { shape, outer, row, still: steps.map(|step| step == 0) })
    }

    /// Calls `work` for every stretch of a row within `len` results from `start` on: its place
    /// after `start`, its length, and where it begins in each tensor.
    pub(crate) fn stretches(&self, start: usize, len: usize, mut work: impl FnMut(usize, usize, [usize; N])) {
        if self.row == 0 || len == 0 {
            return;
        }
        let (mut row, mut within) = (start / self.row, start % self.row);
        let mut place = vec![0; self.outer.len()];
        let mut offsets = [0; N];
        for ((dim, steps), place) in self.outer.iter().zip(&mut place).rev() {
            *place = row % dim;
            row /= dim;
            (0..N).for_each(|k| offsets[k] += *place * steps[k]);
        }
        let mut done = 0;
        loop {
            let long = (self.row - within).min(len - done);
            work(done, long, std::array::from_fn(|k| offsets[k] + if self.still[k] { 0 } else { within }));
            (done, within) = (done + long, 0);
            if done == len {
                return;
            }
            for ((dim, steps), place) in self.outer.iter().zip(&mut place).rev() {
                *place += 1;
                (0..N).for_each(|k| offsets[k] += steps[k]);
                if *place < *dim {
                    break;
                }
                (0..N).for_each(|k| offsets[k] -= steps[k] * dim);
                *place = 0;
            }
        }
    }
}

/// The gradient of a tensor of that shape, where `gradient` is that of what it was repeated to: sums over
/// the dimensions along which it was.
///
/// # Errors
///
/// Shapes that one does not repeat to the other.
pub(crate) fn gathered(gradient: Tensor, shape: &[usize], context: &Context<'_>) -> Result<Tensor, Fault> {
    if gradient.shape() == shape {
        return Ok(gradient);
    }
    let more = gradient.rank().checked_sub(shape.len());
    let wrong = || Fault::shape(format!("a gradient of {}", dims(gradient.shape())), format!("one of {}", dims(shape)));
    let more = more.ok_or_else(wrong)?;
    let repeated = |at: &usize| *at < more || (shape[at - more] == 1 && gradient.shape()[*at] != 1);
    let axes: Vec<i64> = (0..gradient.rank()).filter(repeated).map(|at| at as i64).collect();
    let sum = Reduce { reduction: Reduction::Sum, axes: Some(axes), keep: true, none_is_none: true };
    let found = dims(gradient.shape());
    let sums = sum.run(&mut Inputs::new(vec![Some(gradient)]), context)?.pop().ok_or(Fault::Missing { input: 0 })?;
    sums.reshaped(shape)
        .ok_or_else(|| Fault::shape(format!("a gradient of {found}"), format!("one of {}", dims(shape))))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;
    use crate::ops::shape::walk;

    #[test]
    fn stretches_go_where_a_walk_goes() {
        let cases: [(&[usize], &[usize]); 8] = [
            (&[2, 3], &[2, 3]),
            (&[2, 3, 4], &[3, 1]),
            (&[2, 1, 4], &[3, 1]),
            (&[], &[5]),
            (&[], &[1, 1]),
            (&[4, 1, 3, 1, 2], &[2, 1, 5, 1]),
            (&[2, 0], &[1]),
            (&[1, 7], &[6, 1]),
        ];
        for (a, b) in cases {
            let spread = Spread::new([a, b]).unwrap();
            let (sa, sb) = (broadcast_strides(a, &spread.shape), broadcast_strides(b, &spread.shape));
            let mut truth = Vec::new();
            walk(&spread.shape, [&sa, &sb], |offsets| truth.push(offsets));
            for start in 0..truth.len() {
                let mut seen = Vec::new();
                spread.stretches(start, truth.len() - start, |at, len, offsets| {
                    assert_eq!(at, seen.len());
                    for k in 0..len {
                        seen.push([0, 1].map(|t| offsets[t] + if spread.still[t] { 0 } else { k }));
                    }
                });
                assert_eq!(seen, truth[start..]);
            }
        }
        assert_eq!(Spread::new([&[8, 3, 5, 5][..], &[3, 1, 1][..]]).unwrap().row, 25);
    }
}

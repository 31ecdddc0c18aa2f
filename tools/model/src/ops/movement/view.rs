//! A tensor seen with other strides: transposed, cut, turned round or repeated; and its copy.

use rayon::prelude::*;

use super::bits::Bits;

/// Elements of a slice in an order of their own. Whoever makes one sees to it that all offsets are
/// within the slice.
#[derive(Clone, Debug)]
pub(super) struct View {
    /// Dimensions, and how far apart neighbours along each are.
    dims: Vec<(usize, isize)>,
    /// Where the first element is.
    start: usize,
}

/// Elements below which one thread does it all.
const PARALLEL: usize = 1 << 16;
/// Elements along each side of a block that is transposed.
const BLOCK: usize = 16;

impl View {
    /// Neighbours that follow each other in memory become one dimension, and those of size 1 none.
    pub(super) fn new(shape: &[usize], strides: &[isize], start: usize) -> Self {
        let mut dims: Vec<(usize, isize)> = Vec::with_capacity(shape.len());
        for (dim, stride) in shape.iter().copied().zip(strides.iter().copied()).filter(|(dim, _)| *dim != 1) {
            match dims.last_mut() {
                Some((before, apart)) if *apart == stride.wrapping_mul(dim as isize) => {
                    *before = before.saturating_mul(dim);
                    *apart = stride;
                }
                _ => dims.push((dim, stride)),
            }
        }
        Self { dims, start }
    }

    /// Writes the elements in the view's order; `out` is as long as they are many.
    pub(super) fn copy<T: Bits>(&self, source: &[T], out: &mut [T]) {
        if out.is_empty() {
            return;
        }
        let [(first, stride), rest @ ..] = &self.dims[..] else {
            out[0] = source[self.start];
            return;
        };
        let inner: usize = rest.iter().map(|(dim, _)| dim).product();
        if out.len() < PARALLEL {
            return copy(&self.dims, source, self.start, out);
        }
        // Whole blocks of the first dimension for each thread.
        let rows = (PARALLEL / 4).div_ceil(inner).next_multiple_of(BLOCK).min(*first);
        out.par_chunks_mut(rows * inner).enumerate().for_each(|(at, out)| {
            let mut dims = self.dims.clone();
            dims[0].0 = out.len() / inner;
            let start = self.start.wrapping_add_signed(stride.wrapping_mul((at * rows) as isize));
            copy(&dims, source, start, out);
        });
    }
}

/// One thread's part.
fn copy<T: Bits>(dims: &[(usize, isize)], source: &[T], start: usize, out: &mut [T]) {
    let Some(((len, apart), outer)) = dims.split_last() else {
        out[0] = source[start];
        return;
    };
    let near = outer.iter().position(|(dim, stride)| *stride == 1 && *dim >= 4);
    match near {
        Some(near) if *apart > 1 && *len >= 4 => blocks(dims, near, source, start, out),
        _ => {
            let mut rows = out.chunks_exact_mut(*len);
            each(outer, start, |from| {
                if let Some(out) = rows.next() {
                    row(source, from, *apart, out);
                }
            });
        }
    }
}

/// Neighbours that are `apart` from each other.
fn row<T: Bits>(source: &[T], from: usize, apart: isize, out: &mut [T]) {
    match apart {
        1 => out.copy_from_slice(&source[from..from + out.len()]),
        0 => out.fill(source[from]),
        _ => {
            let mut from = from;
            for out in out {
                *out = source[from];
                from = from.wrapping_add_signed(apart);
            }
        }
    }
}

/// A transposition: neighbours in memory are those along dimension `near`, in the result those
/// along the last. Small blocks of both stay in cache.
fn blocks<T: Bits>(dims: &[(usize, isize)], near: usize, source: &[T], start: usize, out: &mut [T]) {
    let last = dims.len() - 1;
    let (height, (width, apart)) = (dims[near].0, dims[last]);
    let pitch: usize = dims[near + 1..].iter().map(|(dim, _)| dim).product();
    // All other dimensions, in the source and in the result.
    let others: Vec<usize> = (0..last).filter(|at| *at != near).collect();
    let result = |at: usize| -> isize { dims[at + 1..].iter().map(|(dim, _)| *dim as isize).product() };
    let from: Vec<(usize, isize)> = others.iter().map(|at| dims[*at]).collect();
    let to: Vec<(usize, isize)> = others.iter().map(|at| (dims[*at].0, result(*at))).collect();
    let mut targets = Vec::new();
    each(&to, 0, |to| targets.push(to));
    let mut targets = targets.into_iter();
    each(&from, start, |from| {
        let Some(to) = targets.next() else { return };
        for top in (0..height).step_by(BLOCK) {
            for left in (0..width).step_by(BLOCK) {
                for y in top..height.min(top + BLOCK) {
                    let out = &mut out[to + y * pitch + left..][..BLOCK.min(width - left)];
                    row(source, (from + y).wrapping_add_signed(apart * left as isize), apart, out);
                }
            }
        }
    });
}

/// Calls `found` with each offset in row-major order.
fn each(dims: &[(usize, isize)], start: usize, mut found: impl FnMut(usize)) {
    let mut at = vec![0usize; dims.len()];
    let mut offset = start;
    loop {
        found(offset);
        let mut axis = dims.len();
        loop {
            let Some(next) = axis.checked_sub(1) else { return };
            axis = next;
            let (dim, stride) = dims[axis];
            at[axis] += 1;
            offset = offset.wrapping_add_signed(stride);
            if at[axis] < dim {
                break;
            }
            offset = offset.wrapping_add_signed(stride.wrapping_mul(dim as isize).wrapping_neg());
            at[axis] = 0;
        }
    }
}

/// Strides with a sign.
pub(super) fn signed(strides: &[usize]) -> Vec<isize> {
    strides.iter().map(|stride| *stride as isize).collect()
}

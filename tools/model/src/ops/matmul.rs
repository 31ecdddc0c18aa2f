//! Products of matrices: MatMul, Gemm.

mod back;
mod packed;
mod right;

use std::sync::Arc;

use rayon::prelude::*;

use crate::attributes::Definition;
use crate::fault::{Fault, dims};
use crate::kernels::mm::{Matrix, Target, Way, mm};
use crate::operator::{Context, Inputs, Operator};
use crate::ops::shape::{broadcast, broadcast_strides, walk};
use crate::ops::{Built, some};
use crate::real::{Real, in_reals, reals, rounded};
use crate::reverse::Reverse;
use crate::tensor::{Buffer, Dtype, Element, Tensor, elements};
pub(crate) use right::Right;

/// Products of the matrices in the last two dimensions, over all others broadcast.
#[derive(Clone, Copy, Debug, Default)]
pub struct MatMul {
    /// Rows and columns of the left matrices are exchanged.
    pub transpose_left: bool,
    /// Rows and columns of the right matrices are exchanged.
    pub transpose_right: bool,
    /// What the product is multiplied with; none for 1.
    pub alpha: Option<f32>,
}

/// alpha A B + beta C, of matrices.
#[derive(Clone, Copy, Debug)]
pub struct Gemm {
    /// Rows and columns of A are exchanged.
    pub transpose_left: bool,
    /// Rows and columns of B are exchanged.
    pub transpose_right: bool,
    /// What the product is multiplied with.
    pub alpha: f32,
    /// What C is multiplied with.
    pub beta: f32,
}

/// The operators of this family.
pub(crate) fn build(definition: &Definition) -> Built {
    match (definition.domain.as_str(), definition.op.as_str()) {
        ("", "MatMul") => some(MatMul::default()),
        ("com.microsoft", "FusedMatMul") => {
            if definition.flag("transBatchA")? || definition.flag("transBatchB")? {
                return Err(Fault::Unsupported("FusedMatMul with a transposed batch".to_owned()));
            }
            some(MatMul {
                transpose_left: definition.flag("transA")?,
                transpose_right: definition.flag("transB")?,
                alpha: definition.float("alpha")?,
            })
        }
        ("", "Gemm") => some(Gemm {
            transpose_left: definition.flag("transA")?,
            transpose_right: definition.flag("transB")?,
            alpha: definition.float("alpha")?.unwrap_or(1.0),
            beta: definition.float("beta")?.unwrap_or(1.0),
        }),
        _ => Ok(None),
    }
}

/// The sizes of a product over a batch.
pub(crate) struct Sizes {
    /// Dimensions before the last two.
    batch: Vec<usize>,
    left_batch: Vec<usize>,
    right_batch: Vec<usize>,
    m: usize,
    k: usize,
    n: usize,
    /// The shape of the result.
    pub(crate) shape: Vec<usize>,
}

impl Sizes {
    /// The sizes for these shapes, as numpy's `matmul` has them.
    ///
    /// # Errors
    ///
    /// Shapes that do not fit.
    pub(crate) fn new(left: &[usize], right: &[usize], transpose: (bool, bool)) -> Result<Self, Fault> {
        let wrong =
            || Fault::shape(format!("shapes {} and {}", dims(left), dims(right)), "those of a product of matrices");
        let (left_batch, mut m, mut k) = split(left, true).ok_or_else(wrong)?;
        let (right_batch, mut inner, mut n) = split(right, false).ok_or_else(wrong)?;
        if transpose.0 && left.len() > 1 {
            (m, k) = (k, m);
        }
        if transpose.1 && right.len() > 1 {
            (inner, n) = (n, inner);
        }
        if k != inner {
            return Err(wrong());
        }
        let batch = broadcast(&[left_batch, right_batch])?;
        let mut shape = batch.clone();
        if left.len() > 1 {
            shape.push(m);
        }
        if right.len() > 1 {
            shape.push(n);
        }
        Ok(Self { batch, left_batch: left_batch.to_vec(), right_batch: right_batch.to_vec(), m, k, n, shape })
    }

    /// Rows of the left matrices, the columns that they have, and the columns of the right ones.
    pub(crate) fn each(&self) -> (usize, usize, usize) {
        (self.m, self.k, self.n)
    }

    /// Where the matrices of each product start, in matrices.
    pub(crate) fn pairs(&self) -> Vec<(usize, usize)> {
        let left = broadcast_strides(&self.left_batch, &self.batch);
        let right = broadcast_strides(&self.right_batch, &self.batch);
        let mut pairs = Vec::new();
        walk(&self.batch, [&left, &right], |[a, b]| pairs.push((a, b)));
        pairs
    }

    /// Whether one right matrix serves all left ones, so that they are one.
    fn is_shared(&self) -> bool {
        elements(&self.right_batch) == Some(1)
    }
}

/// The dimensions of the batch, and the rows and columns of the matrices; a vector is one row on
/// the left, one column on the right.
fn split(shape: &[usize], is_left: bool) -> Option<(&[usize], usize, usize)> {
    match shape {
        [] => None,
        [one] if is_left => Some((&[], 1, *one)),
        [one] => Some((&[], *one, 1)),
        [batch @ .., rows, columns] => Some((batch, *rows, *columns)),
    }
}

/// Multiplications in one product above which all threads share it, rather than one after the other.
const LARGE: usize = 1 << 20;

impl MatMul {
    fn reals<T: Real>(&self, inputs: &Inputs, context: &Context<'_>, sizes: &Sizes) -> Result<Tensor, Fault> {
        let left = reals::<T>(inputs, 0)?;
        let mut out = T::buffer(context, &sizes.shape)?;
        let scale = T::near(f64::from(self.alpha.unwrap_or(1.0)));
        if sizes.is_shared() && !self.transpose_left {
            let m = elements(&sizes.left_batch).unwrap_or(0) * sizes.m;
            let left = Matrix::rows(&left, m, sizes.k)?;
            let right = Right { tensor: inputs.get(1)?, k: sizes.k, n: sizes.n, transposed: self.transpose_right };
            right.times(left, &mut out, scale)?;
        } else {
            let right = reals::<T>(inputs, 1)?;
            self.each(&mut out, (&left, &right), sizes, scale)?;
        }
        rounded(inputs.get(0)?.dtype(), sizes.shape.clone(), out)
    }

    /// Every product by itself.
    fn each<T: Real>(&self, out: &mut [T], sides: (&[T], &[T]), sizes: &Sizes, scale: T) -> Result<(), Fault> {
        let (m, k, n) = (sizes.m, sizes.k, sizes.n);
        if out.is_empty() {
            return Ok(());
        }
        let parallel = m.saturating_mul(k).saturating_mul(n) >= LARGE;
        let one = |(out, (a, b)): (&mut [T], (usize, usize))| {
            let (left, right) = (&sides.0[a * m * k..(a + 1) * m * k], &sides.1[b * k * n..(b + 1) * k * n]);
            let left =
                if self.transpose_left { Matrix::rows(left, k, m)?.transposed() } else { Matrix::rows(left, m, k)? };
            let right =
                if self.transpose_right { Matrix::rows(right, n, k)?.transposed() } else { Matrix::rows(right, k, n)? };
            mm(Target::rows(out, m, n)?, left, right, Way { add: false, scale, parallel })
        };
        let pairs = sizes.pairs();
        if parallel {
            out.chunks_mut(m * n).zip(pairs).try_for_each(one)
        } else {
            out.par_chunks_mut(m * n).zip(pairs).try_for_each(one)
        }
    }
}

impl Operator for MatMul {
    fn name(&self) -> &'static str {
        "MatMul"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let (left, right) = (inputs.get(0)?, inputs.get(1)?);
        let sizes = Sizes::new(left.shape(), right.shape(), (self.transpose_left, self.transpose_right))?;
        if left.dtype() != right.dtype() {
            return Err(Fault::shape(format!("types {} and {}", left.dtype(), right.dtype()), "one type"));
        }
        let whole = match left.dtype() {
            Dtype::I32 => {
                integers::<i32>(left, right, &sizes, context, |sum, a, b| sum.wrapping_add(a.wrapping_mul(b)))
            }
            Dtype::I64 => {
                integers::<i64>(left, right, &sizes, context, |sum, a, b| sum.wrapping_add(a.wrapping_mul(b)))
            }
            Dtype::U32 => {
                integers::<u32>(left, right, &sizes, context, |sum, a, b| sum.wrapping_add(a.wrapping_mul(b)))
            }
            Dtype::U64 => {
                integers::<u64>(left, right, &sizes, context, |sum, a, b| sum.wrapping_add(a.wrapping_mul(b)))
            }
            dtype => return Ok(vec![in_reals!(dtype, T => self.reals::<T>(inputs, context, &sizes))?]),
        };
        if *self != Self::default() {
            return Err(Fault::dtype(0, left, "a float type"));
        }
        Ok(vec![whole?])
    }

    fn macs(&self, inputs: &[Option<&[usize]>], outputs: &[&[usize]]) -> u64 {
        let k = match inputs.first().copied().flatten() {
            Some([.., k, _]) if self.transpose_left => *k,
            Some([.., k]) => *k,
            _ => 0,
        };
        products(outputs, k)
    }

    fn prepare(&self, constants: &[Option<&Tensor>]) -> Result<Option<Arc<dyn Operator>>, Fault> {
        packed::prepare(self, (self.transpose_left, self.transpose_right), constants)
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Flows(self)
    }
}

impl PartialEq for MatMul {
    fn eq(&self, other: &Self) -> bool {
        (self.transpose_left, self.transpose_right) == (other.transpose_left, other.transpose_right)
            && self.alpha.unwrap_or(1.0) == other.alpha.unwrap_or(1.0)
    }
}

/// Elements of the first output times `k`.
pub(crate) fn products(outputs: &[&[usize]], k: usize) -> u64 {
    let made = outputs.first().and_then(|shape| elements(shape)).unwrap_or(0);
    (made as u64).saturating_mul(k as u64)
}

/// Products of whole numbers, which wrap.
fn integers<T: Element>(
    left: &Tensor,
    right: &Tensor,
    sizes: &Sizes,
    context: &Context<'_>,
    add: impl Fn(T, T, T) -> T + Sync,
) -> Result<Tensor, Fault> {
    let a: &[T] = left.get().ok_or_else(|| Fault::dtype(0, left, "whole numbers"))?;
    let b: &[T] = right.get().ok_or_else(|| Fault::dtype(1, right, "whole numbers"))?;
    let (m, k, n) = (sizes.m, sizes.k, sizes.n);
    let mut out = vec![T::default(); context.len::<T>(&sizes.shape)?];
    if !out.is_empty() {
        out.par_chunks_mut(m * n).zip(sizes.pairs()).for_each(|(out, (at_a, at_b))| {
            let (a, b) = (&a[at_a * m * k..], &b[at_b * k * n..]);
            for (row, out) in out.chunks_mut(n).enumerate() {
                for (t, b) in b.chunks(n).take(k).enumerate() {
                    let x = a[row * k + t];
                    out.iter_mut().zip(b).for_each(|(sum, y)| *sum = add(*sum, x, *y));
                }
            }
        });
    }
    let found = out.len();
    crate::real::made(sizes.shape.clone(), T::wrap(Buffer::from(out)), found)
}

impl Gemm {
    fn reals<T: Real>(&self, inputs: &Inputs, context: &Context<'_>) -> Result<Tensor, Fault> {
        let (left, right) = (inputs.get(0)?, inputs.get(1)?);
        if left.rank() != 2 || right.rank() != 2 {
            let found = format!("shapes {} and {}", dims(left.shape()), dims(right.shape()));
            return Err(Fault::shape(found, "two matrices"));
        }
        let sizes = Sizes::new(left.shape(), right.shape(), (self.transpose_left, self.transpose_right))?;
        let (m, k, n) = (sizes.m, sizes.k, sizes.n);
        let mut out = T::buffer(context, &sizes.shape)?;
        let all = reals::<T>(inputs, 0)?;
        let left = if self.transpose_left { Matrix::rows(&all, k, m)?.transposed() } else { Matrix::rows(&all, m, k)? };
        let right = Right { tensor: right, k, n, transposed: self.transpose_right };
        right.times(left, &mut out, T::near(f64::from(self.alpha)))?;
        self.add(inputs, &mut out, (m, n))?;
        rounded(inputs.get(0)?.dtype(), sizes.shape, out)
    }

    /// Adds beta C, where there is one.
    fn add<T: Real>(&self, inputs: &Inputs, out: &mut [T], (m, n): (usize, usize)) -> Result<(), Fault> {
        let Some(addend) = inputs.optional(2).filter(|_| self.beta != 0.0) else { return Ok(()) };
        let (shape, c, beta) = (addend.shape(), reals::<T>(inputs, 2)?, T::near(f64::from(self.beta)));
        if broadcast(&[shape, &[m, n]])? != [m, n] {
            return Err(Fault::shape(
                format!("an addend of {}", dims(shape)),
                format!("one that broadcasts to {m}x{n}"),
            ));
        }
        if m * n == 0 {
            return Ok(());
        }
        let strides = broadcast_strides(shape, &[m, n]);
        for (row, out) in out.chunks_mut(n).enumerate() {
            let c = &c[row * strides[0]..];
            match strides[1] {
                0 => out.iter_mut().for_each(|x| *x += beta * c[0]),
                _ => out.iter_mut().zip(c).for_each(|(x, c)| *x += beta * *c),
            }
        }
        Ok(())
    }
}

impl Operator for Gemm {
    fn name(&self) -> &'static str {
        "Gemm"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let dtype = inputs.get(0)?.dtype();
        if matches!(dtype, Dtype::I32 | Dtype::I64 | Dtype::U32 | Dtype::U64) {
            return Err(Fault::Unsupported(format!("Gemm of {dtype}")));
        }
        Ok(vec![in_reals!(dtype, T => self.reals::<T>(inputs, context))?])
    }

    fn macs(&self, inputs: &[Option<&[usize]>], outputs: &[&[usize]]) -> u64 {
        let k = match inputs.first().copied().flatten() {
            Some([k, _]) if self.transpose_left => *k,
            Some([_, k]) => *k,
            _ => 0,
        };
        products(outputs, k)
    }

    fn prepare(&self, constants: &[Option<&Tensor>]) -> Result<Option<Arc<dyn Operator>>, Fault> {
        packed::prepare(self, (self.transpose_left, self.transpose_right), constants)
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Flows(self)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests;

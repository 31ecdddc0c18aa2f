//! Gradients of products of matrices: dA = dY Bᵀ, dB = Aᵀ dY.

use rayon::prelude::*;

use super::{Gemm, LARGE, MatMul, Sizes};
use crate::fault::Fault;
use crate::kernels::mm::{Matrix, Target, Way, mm};
use crate::operator::Context;
use crate::ops::spread::gathered;
use crate::real::{Real, count, in_reals, made};
use crate::reverse::{Keeps, Pass, Pullback};
use crate::tensor::{Buffer, Tensor};

/// A matrix that stands row after row, or column after column.
fn matrix<T: Real>(all: &[T], rows: usize, columns: usize, turned: bool) -> Result<Matrix<'_, T>, Fault> {
    if turned { Ok(Matrix::rows(all, columns, rows)?.transposed()) } else { Matrix::rows(all, rows, columns) }
}

/// A product into a place that is to hold `rows` x `columns` of it, or that turned around.
fn into<T: Real>(
    out: &mut [T],
    (left, right): (Matrix<'_, T>, Matrix<'_, T>),
    (rows, columns, turned): (usize, usize, bool),
    way: Way<T>,
) -> Result<(), Fault> {
    match turned {
        false => mm(Target::rows(out, rows, columns)?, left, right, way),
        true => mm(Target::rows(out, columns, rows)?, right.transposed(), left.transposed(), way),
    }
}

/// What a way back is done with.
#[derive(Clone, Copy)]
struct Back<'b, T> {
    pass: &'b Pass,
    context: &'b Context<'b>,
    /// What products are multiplied with.
    scale: T,
}

fn tensor<T: Real>(shape: &[usize], all: Vec<T>) -> Result<Tensor, Fault> {
    let found = all.len();
    made(shape.to_vec(), T::wrap(Buffer::from(all)), found)
}

impl MatMul {
    fn back<T: Real>(&self, pass: &Pass, context: &Context<'_>) -> Result<Vec<Option<Tensor>>, Fault> {
        let turned = (self.transpose_left, self.transpose_right);
        let sizes = Sizes::new(pass.shape(0)?, pass.shape(1)?, turned)?;
        let g = pass.gradient_elements::<T>(0)?;
        let scale = T::near(f64::from(self.alpha.unwrap_or(1.0)));
        let back = Back { pass, context, scale };
        let mut found = vec![None; 2];
        // One right matrix for all left ones: they are one.
        let flat = sizes.is_shared() && !self.transpose_left;
        if pass.wants(0) {
            let right = pass.elements::<T>(1)?;
            found[0] = Some(match flat {
                true => self.shared_left(&sizes, g, right, back)?,
                false => self.each_back(&sizes, (g, right), 0, back)?,
            });
        }
        if pass.wants(1) {
            let left = pass.elements::<T>(0)?;
            found[1] = Some(match flat {
                true => self.shared_right(&sizes, g, left, back)?,
                false => self.each_back(&sizes, (g, left), 1, back)?,
            });
        }
        Ok(found)
    }

    fn shared_left<T: Real>(
        &self,
        sizes: &Sizes,
        g: &[T],
        right: &[T],
        Back { pass, context, scale }: Back<'_, T>,
    ) -> Result<Tensor, Fault> {
        let m = count(&sizes.left_batch)? * sizes.m;
        let mut out = T::buffer(context, pass.shape(0)?)?;
        let right = matrix(right, sizes.k, sizes.n, self.transpose_right)?.transposed();
        let way = Way { scale, ..Way::replace() };
        mm(Target::rows(&mut out, m, sizes.k)?, Matrix::rows(g, m, sizes.n)?, right, way)?;
        pass.of_input(0, out)
    }

    fn shared_right<T: Real>(
        &self,
        sizes: &Sizes,
        g: &[T],
        left: &[T],
        Back { pass, context, scale }: Back<'_, T>,
    ) -> Result<Tensor, Fault> {
        let m = count(&sizes.left_batch)? * sizes.m;
        let mut out = T::buffer(context, pass.shape(1)?)?;
        let sides = (Matrix::rows(left, m, sizes.k)?.transposed(), Matrix::rows(g, m, sizes.n)?);
        let way = Way { scale, ..Way::replace() };
        into(&mut out, sides, (sizes.k, sizes.n, self.transpose_right), way)?;
        pass.of_input(1, out)
    }

    /// Every product by itself, for one of the sides; what was repeated is then summed.
    fn each_back<T: Real>(
        &self,
        sizes: &Sizes,
        (g, other): (&[T], &[T]),
        side: usize,
        Back { pass, context, scale }: Back<'_, T>,
    ) -> Result<Tensor, Fault> {
        let (m, k, n) = sizes.each();
        let pairs = sizes.pairs();
        let (rows, columns, turned) =
            if side == 0 { (m, k, self.transpose_left) } else { (k, n, self.transpose_right) };
        let mut all = sizes.batch.clone();
        all.push(rows * columns);
        let mut out = T::buffer(context, &all)?;
        let parallel = m.saturating_mul(k).saturating_mul(n) >= LARGE;
        let way = Way { add: false, scale, parallel };
        let one = |(at, (out, (a, b))): (usize, (&mut [T], (usize, usize)))| {
            let g = matrix(&g[at * m * n..(at + 1) * m * n], m, n, false)?;
            let sides = match side {
                0 => (g, matrix(&other[b * k * n..(b + 1) * k * n], k, n, self.transpose_right)?.transposed()),
                _ => (matrix(&other[a * m * k..(a + 1) * m * k], m, k, self.transpose_left)?.transposed(), g),
            };
            into(out, sides, (rows, columns, turned), way)
        };
        if rows * columns > 0 {
            if parallel {
                out.chunks_mut(rows * columns).zip(pairs).enumerate().try_for_each(one)?;
            } else {
                out.par_chunks_mut(rows * columns).zip(pairs).enumerate().try_for_each(one)?;
            }
        }
        // As if the matrix were repeated over the whole batch.
        let shape = pass.shape(side)?;
        let own = if shape.len() > 1 { &shape[..shape.len() - 2] } else { &[] };
        let mut repeated = own.to_vec();
        repeated.push(rows * columns);
        gathered(tensor(&all, out)?, &repeated, context)?
            .reshaped(shape)
            .ok_or_else(|| Fault::shape("a gradient of another size", crate::fault::dims(shape)))
    }
}

impl Pullback for MatMul {
    fn keeps(&self, wanted: &[bool]) -> Keeps {
        Keeps::crosswise(wanted)
    }

    fn pull(&self, pass: &mut Pass, context: &Context<'_>) -> Result<Vec<Option<Tensor>>, Fault> {
        in_reals!(pass.dtype(0)?, T => self.back::<T>(pass, context))
    }
}

impl Gemm {
    fn back<T: Real>(&self, pass: &Pass, context: &Context<'_>) -> Result<Vec<Option<Tensor>>, Fault> {
        let product = MatMul {
            transpose_left: self.transpose_left,
            transpose_right: self.transpose_right,
            alpha: Some(self.alpha),
        };
        let mut found = product.back::<T>(pass, context)?;
        if pass.wants(2) {
            let beta = T::near(f64::from(self.beta));
            let g = pass.gradient_elements::<T>(0)?;
            let mut all = T::buffer(context, pass.output_shape(0)?)?;
            all.iter_mut().zip(g).for_each(|(y, g)| *y = *g * beta);
            found.push(Some(gathered(tensor(pass.output_shape(0)?, all)?, pass.shape(2)?, context)?));
        }
        Ok(found)
    }
}

impl Pullback for Gemm {
    fn keeps(&self, wanted: &[bool]) -> Keeps {
        Keeps::crosswise(wanted)
    }

    fn pull(&self, pass: &mut Pass, context: &Context<'_>) -> Result<Vec<Option<Tensor>>, Fault> {
        in_reals!(pass.dtype(0)?, T => self.back::<T>(pass, context))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reverse::check::{gradients, random};

    #[test]
    fn gradients_are_those_of_finite_differences() {
        let plain = MatMul::default();
        for [a, b] in [
            [&[3, 4][..], &[4, 5][..]],
            [&[2, 3, 4], &[4, 5]],
            [&[2, 2, 3, 4], &[2, 2, 4, 2]],
            [&[2, 1, 3, 4], &[3, 4, 2]],
            [&[3, 4], &[2, 4, 5]],
            [&[4], &[4, 5]],
            [&[2, 3, 4], &[4]],
            [&[4], &[4]],
            [&[4], &[2, 4, 3]],
        ] {
            gradients(&plain, &[random(a, 1), random(b, 2)], &[0, 1]);
        }
        for (transpose_left, transpose_right) in [(true, false), (false, true), (true, true)] {
            let turned = MatMul { transpose_left, transpose_right, alpha: Some(0.5) };
            let shape = |rows, columns, turned: bool| if turned { [2, columns, rows] } else { [2, rows, columns] };
            let (a, b) = (shape(3, 4, transpose_left), shape(4, 5, transpose_right));
            gradients(&turned, &[random(&a, 1), random(&b, 2)], &[0, 1]);
            gradients(&turned, &[random(&a, 1), random(&b[1..], 2)], &[0, 1]);
            let gemm = Gemm { transpose_left, transpose_right, alpha: 1.5, beta: 0.5 };
            for c in [&[5][..], &[3, 1], &[3, 5], &[]] {
                gradients(&gemm, &[random(&a[1..], 1), random(&b[1..], 2), random(c, 3)], &[0, 1, 2]);
            }
        }
    }
}

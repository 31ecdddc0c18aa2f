//! Products whose right matrix is a constant of single floats: it is put into panels once.

use std::fmt::Debug;
use std::sync::Arc;

use super::{Gemm, MatMul};
use crate::fault::Fault;
use crate::kernels::mm::{self, Matrix, Target, mm_packed};
use crate::kernels::product::Packed;
use crate::operator::{Context, Inputs, Operator};
use crate::real::rounded;
use crate::reverse::Reverse;
use crate::tensor::{Dtype, Tensor};

/// Elements from which on a matrix is not kept twice.
const LARGE: usize = 1 << 24;

/// An operator, and its second input in panels.
#[derive(Debug)]
struct Prepared<P> {
    of: P,
    right: Packed,
}

/// How a product is made by panels.
pub(super) trait Packable: Operator + Clone + Debug + 'static {
    /// Whether its left matrices may be of so many dimensions, two or more.
    fn takes(&self, rank: usize) -> bool;

    /// What a product is multiplied with.
    fn scale(&self) -> f32;

    /// What comes after the product of `m` rows.
    ///
    /// # Errors
    ///
    /// What is added does not fit.
    fn finish(&self, inputs: &Inputs, out: &mut [f32], size: (usize, usize)) -> Result<(), Fault>;
}

impl Packable for MatMul {
    fn takes(&self, _: usize) -> bool {
        true
    }

    fn scale(&self) -> f32 {
        self.alpha.unwrap_or(1.0)
    }

    fn finish(&self, _: &Inputs, _: &mut [f32], _: (usize, usize)) -> Result<(), Fault> {
        Ok(())
    }
}

impl Packable for Gemm {
    fn takes(&self, rank: usize) -> bool {
        rank == 2
    }

    fn scale(&self) -> f32 {
        self.alpha
    }

    fn finish(&self, inputs: &Inputs, out: &mut [f32], size: (usize, usize)) -> Result<(), Fault> {
        self.add(inputs, out, size)
    }
}

/// The same operator with its right matrix in panels, where that is a constant of single floats that is not too large, and
/// rows of the left one are not exchanged.
pub(super) fn prepare<P: Packable>(
    of: &P,
    (left, right): (bool, bool),
    constants: &[Option<&Tensor>],
) -> Result<Option<Arc<dyn Operator>>, Fault> {
    let Some(Some(weights)) = constants.get(1) else { return Ok(None) };
    let (Some(all), &[rows, columns]) = (weights.get::<f32>(), weights.shape()) else { return Ok(None) };
    if left || all.is_empty() || all.len() >= LARGE {
        return Ok(None);
    }
    let matrix = Matrix::rows(all, rows, columns)?;
    let right = mm::packed(if right { matrix.transposed() } else { matrix });
    Ok(Some(Arc::new(Prepared { of: of.clone(), right })))
}

impl<P: Packable> Operator for Prepared<P> {
    fn name(&self) -> &'static str {
        self.of.name()
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let (left, [k, n]) = (inputs.get(0)?, self.right.size());
        let all = match (left.get::<f32>(), left.shape()) {
            (Some(all), [.., _, last]) if *last == k && self.of.takes(left.rank()) => all,
            // Other types and single vectors, and what is refused.
            _ => return self.of.run(inputs, context),
        };
        let mut shape = left.shape().to_vec();
        *shape.last_mut().unwrap_or(&mut 0) = n;
        let (m, mut out) = (all.len() / k, context.buffer(&shape)?);
        mm_packed(Target::rows(&mut out, m, n)?, Matrix::rows(all, m, k)?, &self.right, self.of.scale())?;
        self.of.finish(inputs, &mut out, (m, n))?;
        rounded(Dtype::F32, shape, out).map(|out| vec![out])
    }

    fn macs(&self, inputs: &[Option<&[usize]>], outputs: &[&[usize]]) -> u64 {
        self.of.macs(inputs, outputs)
    }

    fn reverse(&self) -> Reverse<'_> {
        self.of.reverse()
    }
}

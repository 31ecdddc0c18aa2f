//! Determinants: Det.

use rayon::prelude::*;

use crate::attributes::Definition;
use crate::fault::{Fault, dims};
use crate::operator::{Context, Inputs, Operator};
use crate::ops::{Built, some};
use crate::real::{Real, in_reals, reals, rounded};
use crate::tensor::Tensor;

/// The determinants of the matrices in the last two dimensions.
#[derive(Clone, Copy, Debug)]
pub struct Det;

/// The operators of this family.
pub(crate) fn build(definition: &Definition) -> Built {
    match (definition.domain.as_str(), definition.op.as_str()) {
        ("", "Det") => some(Det),
        _ => Ok(None),
    }
}

impl Operator for Det {
    fn name(&self) -> &'static str {
        "Det"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        Ok(vec![in_reals!(inputs.get(0)?.dtype(), T => all::<T>(inputs, context))?])
    }
}

fn all<T: Real>(inputs: &Inputs, context: &Context<'_>) -> Result<Tensor, Fault> {
    let tensor = inputs.get(0)?;
    let [batch @ .., n, columns] = tensor.shape() else {
        return Err(Fault::shape(format!("a shape of {}", dims(tensor.shape())), "square matrices"));
    };
    if n != columns {
        return Err(Fault::shape(format!("a shape of {}", dims(tensor.shape())), "square matrices"));
    }
    let mut out = T::buffer(context, batch)?;
    let x = reals::<T>(inputs, 0)?;
    if *n == 0 {
        out.fill(T::ONE);
    } else if !out.is_empty() {
        let each = out.par_iter_mut().zip(x.par_chunks(n * n));
        each.for_each(|(out, matrix)| *out = T::near(determinant(matrix.iter().map(|x| x.wide()).collect(), *n)));
    }
    rounded(tensor.dtype(), batch.to_vec(), out)
}

/// By elimination, the largest number of each column first.
fn determinant(mut a: Vec<f64>, n: usize) -> f64 {
    let mut product = 1.0;
    for column in 0..n {
        let largest = (column..n).max_by(|x, y| a[x * n + column].abs().total_cmp(&a[y * n + column].abs()));
        let row = largest.unwrap_or(column);
        if row != column {
            (0..n).for_each(|at| a.swap(row * n + at, column * n + at));
            product = -product;
        }
        let pivot = a[column * n + column];
        product *= pivot;
        if pivot == 0.0 {
            return 0.0;
        }
        let (above, below) = a.split_at_mut((column + 1) * n);
        let pivots = &above[column * n..];
        for row in below.chunks_mut(n) {
            let factor = row[column] / pivot;
            row.iter_mut().zip(pivots).skip(column).for_each(|(x, y)| *x -= factor * y);
        }
    }
    product
}

#[cfg(test)]
mod tests {
    use super::determinant;

    #[test]
    fn determinants_of_small_matrices() {
        assert_eq!(determinant(vec![3.0], 1), 3.0);
        assert_eq!(determinant(vec![0.0, 2.0, 3.0, 4.0], 2), -6.0);
        assert_eq!(determinant(vec![1.0, 2.0, 2.0, 4.0], 2), 0.0);
        let close = determinant(vec![2.0, 0.0, 1.0, 1.0, 3.0, 2.0, 1.0, 1.0, 1.0], 3);
        assert!((close - 0.0).abs() < 1e-12, "{close}");
        assert!((determinant(vec![2.0, 0.0, 1.0, 1.0, 3.0, 2.0, 1.0, 1.0, 2.0], 3) - 6.0).abs() < 1e-12);
    }
}

//! Linear layers whose weights stay where they are, in the type in which they are stored.

mod back;

use crate::fault::{Fault, dims};
use crate::kernels::mm::{Matrix, Target, Way, mm};
use crate::kernels::weights::{Stored, multiply};
use crate::operator::{Context, Inputs, Operator};
use crate::reverse::Reverse;
use crate::tensor::{Buffer, Data, Dtype, Tensor};

/// x Wᵀ + b: inputs are x, whose last dimensions are together as large as a row of weights; the
/// weights `[out, in]`, single or half floats; and, where there is one, a bias `[out]`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Linear {
    /// Results are laid out as so many heads: [.., heads, out / heads].
    pub heads: Option<usize>,
}

/// The dimensions of `x` before those that are together `width`.
fn before(x: &[usize], width: usize) -> Option<&[usize]> {
    (0..x.len()).rev().map(|at| x.split_at(at)).find_map(|(rows, row)| {
        let all = row.iter().try_fold(1usize, |all, dim| all.checked_mul(*dim));
        (all == Some(width)).then_some(rows)
    })
}

fn wrong(x: &Tensor, weights: &[usize]) -> Fault {
    let found = format!("inputs {} and weights {}", dims(x.shape()), dims(weights));
    Fault::shape(found, "[.., in] and [out, in]")
}

/// The shape of results.
fn laid_out(x: &Tensor, [out, width]: [usize; 2], heads: Option<usize>) -> Result<Vec<usize>, Fault> {
    let rows = before(x.shape(), width).filter(|_| width > 0);
    let mut shape = rows.ok_or_else(|| wrong(x, &[out, width]))?.to_vec();
    match heads {
        None => shape.push(out),
        Some(heads) if heads > 0 && out.is_multiple_of(heads) => shape.extend([heads, out / heads]),
        Some(heads) => return Err(Fault::shape(format!("{out} outputs"), format!("a multiple of {heads} heads"))),
    }
    Ok(shape)
}

/// The one result of a linear layer: products of single floats with weights `[out, in]`, and a bias.
pub(super) fn product(
    x: &Tensor,
    (weights, size): (Stored<'_>, [usize; 2]),
    bias: Option<&[f32]>,
    heads: Option<usize>,
    context: &Context<'_>,
) -> Result<Vec<Tensor>, Fault> {
    let (shape, [out, width]) = (laid_out(x, size, heads)?, size);
    let elements = x.get::<f32>().ok_or_else(|| Fault::dtype(0, x, "float"))?;
    let mut y = context.buffer(&shape)?;
    multiply(elements, width, weights, &mut y, context)?;
    if let Some(bias) = bias {
        if bias.len() != out {
            return Err(Fault::shape(format!("a bias of {}", bias.len()), out.to_string()));
        }
        for row in y.chunks_exact_mut(out.max(1)) {
            row.iter_mut().zip(bias).for_each(|(y, b)| *y += *b);
        }
    }
    made(shape, y)
}

impl Operator for Linear {
    fn name(&self) -> &'static str {
        "Linear"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let (x, weights) = (inputs.get(0)?, inputs.get(1)?);
        let &[out, width] = weights.shape() else { return Err(wrong(x, weights.shape())) };
        if x.dtype() == Dtype::F64 {
            let shape = laid_out(x, [out, width], self.heads)?;
            return doubles(inputs, shape, [out, width]);
        }
        let bias = inputs.optional(2).map(|_| inputs.elements::<f32>(2, "float")).transpose()?;
        product(x, (Stored::of(weights, 1)?, [out, width]), bias, self.heads, context)
    }

    fn macs(&self, inputs: &[Option<&[usize]>], outputs: &[&[usize]]) -> u64 {
        let (Some(Some([_, width])), Some(output)) = (inputs.get(1), outputs.first()) else { return 0 };
        output.iter().fold(*width as u64, |macs, dim| macs.saturating_mul(*dim as u64))
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Flows(self)
    }
}

/// The same in doubles.
fn doubles(inputs: &Inputs, shape: Vec<usize>, [out, width]: [usize; 2]) -> Result<Vec<Tensor>, Fault> {
    let (x, weights) = (inputs.elements::<f64>(0, "double")?, inputs.elements::<f64>(1, "double")?);
    let bias = inputs.optional(2).map(|_| inputs.elements::<f64>(2, "double")).transpose()?;
    let rows = x.len() / width;
    let mut y = vec![0.0; rows * out];
    let right = Matrix::rows(weights, out, width)?.transposed();
    mm(Target::rows(&mut y, rows, out)?, Matrix::rows(x, rows, width)?, right, Way::replace())?;
    if let Some(bias) = bias.filter(|bias| bias.len() == out) {
        y.chunks_exact_mut(out.max(1)).for_each(|row| row.iter_mut().zip(bias).for_each(|(y, b)| *y += b));
    }
    let len = y.len();
    crate::real::made(shape, Data::F64(Buffer::from(y)), len).map(|y| vec![y])
}

/// The one result of an operator.
pub(crate) fn made(shape: Vec<usize>, elements: Vec<f32>) -> Result<Vec<Tensor>, Fault> {
    let len = elements.len();
    let tensor = Tensor::of(shape, elements);
    tensor.map(|y| vec![y]).ok_or_else(|| Fault::shape(format!("{len} results"), "as many as the shape has"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use half::bf16;

    use super::*;
    use crate::operator::Pool;

    fn run(linear: Linear, inputs: Vec<Tensor>) -> Result<Tensor, Fault> {
        let pool = Pool::default();
        let inputs = inputs.into_iter().map(Some).collect();
        Ok(linear.run(&mut Inputs::new(inputs), &Context::new(1 << 20, &pool))?.remove(0))
    }

    #[test]
    fn heads_are_joined_and_split() {
        let x = Tensor::of([1, 2, 2], vec![1.0f32, 2.0, 3.0, 4.0]).unwrap();
        let rows = [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0], [0.0, 2.0, 0.0, 0.0]];
        let weights = Tensor::of([4, 4], rows.concat().into_iter().map(bf16::from_f32).collect()).unwrap();
        let bias = Tensor::vector(vec![0.0f32, 0.5, 0.0, 0.0]);
        let y = run(Linear { heads: Some(2) }, vec![x.clone(), weights.clone(), bias]).unwrap();
        assert_eq!((y.shape(), y.get::<f32>().unwrap()), (&[1, 2, 2][..], &[1.0, 4.5, 10.0, 4.0][..]));
        let none = Tensor::of::<f32>([0, 4], vec![]).unwrap();
        assert_eq!(run(Linear::default(), vec![none, weights.clone()]).unwrap().shape(), [0, 4]);
        assert!(run(Linear { heads: Some(3) }, vec![x.clone(), weights.clone()]).is_err());
        assert!(run(Linear::default(), vec![x.clone(), weights, Tensor::vector(vec![0.0f32; 3])]).is_err());
        let wrong = run(Linear::default(), vec![x, Tensor::of([2, 3], vec![0.0f32; 6]).unwrap()]).unwrap_err();
        assert_eq!(wrong.to_string(), "inputs 1x2x2 and weights 2x3, [.., in] and [out, in] expected");
    }
}

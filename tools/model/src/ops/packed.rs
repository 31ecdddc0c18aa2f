//! Linear layers and tables whose weights are codes of a few bits, and stay so.

use std::sync::Arc;

use crate::fault::Fault;
use crate::kernels::weights::Stored;
use crate::operator::{Context, Inputs, Operator};
use crate::ops::embedding::rows_of;
use crate::ops::linear::product;
use crate::packed::Packed;
use crate::tensor::Tensor;

/// x Wᵀ + b: inputs are x, whose last dimensions are together as large as a row of weights, and, where
/// there is one, a bias `[out]`.
#[derive(Clone, Debug)]
pub struct PackedLinear {
    /// `[out, in]`.
    pub weights: Arc<Packed>,
    /// Results are laid out as so many heads: [.., heads, out / heads].
    pub heads: Option<usize>,
}

/// Rows of a table, by number: the input is numbers [..], the result [.., width].
#[derive(Clone, Debug)]
pub struct PackedEmbedding {
    /// `[rows, width]`.
    pub table: Arc<Packed>,
    /// What each number is multiplied with.
    pub scale: f32,
}

impl Operator for PackedLinear {
    fn name(&self) -> &'static str {
        "PackedLinear"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let size = [self.weights.rows(), self.weights.cols()];
        let bias = inputs.optional(1).map(|_| inputs.elements::<f32>(1, "float")).transpose()?;
        product(inputs.get(0)?, (Stored::Packed(&self.weights), size), bias, self.heads, context)
    }

    fn macs(&self, _inputs: &[Option<&[usize]>], outputs: &[&[usize]]) -> u64 {
        let Some(output) = outputs.first() else { return 0 };
        output.iter().fold(self.weights.cols() as u64, |macs, dim| macs.saturating_mul(*dim as u64))
    }
}

impl Operator for PackedEmbedding {
    fn name(&self) -> &'static str {
        "PackedEmbedding"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let size = [self.table.rows(), self.table.cols()];
        rows_of(inputs, (Stored::Packed(&self.table), size), self.scale, context)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use niwaki_codes::Scheme;

    use super::*;
    use crate::operator::Pool;
    use crate::packed::{Activations, Codes};

    /// Four rows of codes; their scales are 1, 2, 3 and 4.
    fn packed(cols: usize) -> Arc<Packed> {
        let Ok(Scheme::Uniform(scheme)) = "int8/row/affine".parse() else { panic!("a scheme") };
        let codes = (0..4 * cols).map(|at| (at * 37 % 251) as u8).collect();
        let scales = [1.0f32, 2.0, 3.0, 4.0].iter().flat_map(|scale| scale.to_le_bytes()).collect();
        Arc::new(Packed::new(4, cols, Codes::Uniform { scheme, codes, scales, zeros: Some(vec![100; 4]) }).unwrap())
    }

    fn weight(cols: usize, row: usize, col: usize) -> f32 {
        (row + 1) as f32 * (((row * cols + col) * 37 % 251) as f32 - 100.0)
    }

    fn run(op: &dyn Operator, inputs: Vec<Tensor>) -> Result<Tensor, Fault> {
        let pool = Pool::default();
        let inputs = inputs.into_iter().map(Some).collect();
        Ok(op.run(&mut Inputs::new(inputs), &Context::new(1 << 20, &pool))?.remove(0))
    }

    #[test]
    fn layers_of_codes_are_layers_of_their_weights_for_few_inputs_and_many() {
        for cols in [3, 64, 130] {
            for inputs in [0, 1, 3, 9] {
                let linear = PackedLinear { weights: packed(cols), heads: Some(2) };
                // Small whole numbers: every sum is exact.
                let x: Vec<f32> = (0..inputs * cols).map(|at| (at * 7 % 5) as f32 - 2.0).collect();
                let bias = Tensor::vector(vec![0.5f32, 1.0, -1.0, 0.0]);
                let y = run(&linear, vec![Tensor::of([inputs, cols], x.clone()).unwrap(), bias.clone()]).unwrap();
                assert_eq!(y.shape(), [inputs, 2, 2]);
                for (at, y) in y.get::<f32>().unwrap().iter().enumerate() {
                    let (input, row) = (at / 4, at % 4);
                    let sum: f32 = (0..cols).map(|col| weight(cols, row, col) * x[input * cols + col]).sum();
                    assert_eq!(*y, sum + bias.get::<f32>().unwrap()[row], "{cols} {inputs} at {at}");
                }
            }
        }
        let linear = PackedLinear { weights: packed(3), heads: None };
        let wrong = run(&linear, vec![Tensor::vector(vec![0.0f32; 4])]).unwrap_err();
        assert_eq!(wrong.to_string(), "inputs 4 and weights 4x3, [.., in] and [out, in] expected");
        assert_eq!(linear.macs(&[], &[&[5, 4]]), 60);
    }

    #[test]
    fn rounded_inputs_are_near_and_the_same_for_few_and_many() {
        let (cols, inputs) = (130, 9);
        let weights = Packed::clone(&packed(cols)).with(Activations::Dynamic);
        let rounded = PackedLinear { weights: Arc::new(weights), heads: None };
        let exact = PackedLinear { weights: packed(cols), heads: None };
        let x: Vec<f32> = (0..inputs * cols).map(|at| (at * 7 % 113) as f32 - 56.0).collect();
        let all = Tensor::of([inputs, cols], x.clone()).unwrap();
        let (y, expected) = (run(&rounded, vec![all.clone()]).unwrap(), run(&exact, vec![all]).unwrap());
        let (y, expected) = (y.get::<f32>().unwrap(), expected.get::<f32>().unwrap());
        assert_ne!(y, expected);
        for (at, (y, expected)) in y.iter().zip(expected).enumerate() {
            let size: f32 = (0..cols).map(|col| (weight(cols, at % 4, col) * x[at / 4 * cols + col]).abs()).sum();
            assert!((y - expected).abs() < 0.01 * size, "{at}: {y} and {expected}");
        }
        for (input, y) in y.chunks(4).enumerate() {
            let one = Tensor::of([1, cols], x[input * cols..][..cols].to_vec()).unwrap();
            assert_eq!(run(&rounded, vec![one]).unwrap().get::<f32>().unwrap(), y, "{input}");
        }
    }

    #[test]
    fn rows_of_codes_are_decoded() {
        let table = PackedEmbedding { table: packed(3), scale: 2.0 };
        let y = run(&table, vec![Tensor::vector(vec![2i64, 0])]).unwrap();
        assert_eq!(y.shape(), [2, 3]);
        let expected: Vec<f32> = [2, 0].iter().flat_map(|row| (0..3).map(|col| 2.0 * weight(3, *row, col))).collect();
        assert_eq!(y.get::<f32>().unwrap(), expected);
        assert_eq!(
            run(&table, vec![Tensor::vector(vec![4i64])]).unwrap_err().to_string(),
            "row 4, less than 4 expected"
        );
    }
}

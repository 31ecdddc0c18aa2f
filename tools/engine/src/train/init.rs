//! Fresh weights.

use std::any::Any;

use niwaki_model::ops::conv::Conv;
use niwaki_model::ops::matmul::{Gemm, MatMul};
use niwaki_model::ops::normalize::BatchNormalization;
use niwaki_model::{Dtype, Graph, Tensor, ValueId};

use crate::dataset::normals;

/// What a weight is for.
#[derive(Clone, Copy)]
enum Use {
    /// A product over so many inputs.
    Product(usize),
    /// A factor, or a variance.
    One,
    /// What is added, or a mean.
    Zero,
}

/// Makes all weights anew: those of products by the normal distribution of variance 2 / inputs (He et al., *Delving Deep
/// into Rectifiers*, 2015), factors and variances 1, all else 0. A weight's numbers hang on seed and name alone.
pub(super) fn fresh(graph: &mut Graph, seed: u64) {
    let mut all: Vec<(ValueId, Use)> = Vec::new();
    for node in graph.nodes() {
        let op: &dyn Any = &*node.op;
        let shape = |at: usize| {
            let value = node.inputs.get(at).copied().flatten()?;
            graph.constant(value).map(|tensor| (value, tensor.shape().to_vec()))
        };
        let product = |at: usize, inputs: fn(&[usize]) -> usize| {
            shape(at).map(|(value, shape)| (value, Use::Product(inputs(&shape))))
        };
        let first: fn(&[usize]) -> usize = |shape| shape.len().checked_sub(2).map_or(1, |at| shape[at]);
        let last: fn(&[usize]) -> usize = |shape| shape.last().copied().unwrap_or(1);
        if op.is::<Conv>() {
            all.extend(product(1, |shape| shape.iter().skip(1).product()));
        } else if let Some(gemm) = op.downcast_ref::<Gemm>() {
            all.extend(product(1, if gemm.transpose_right { last } else { first }));
        } else if let Some(product_) = op.downcast_ref::<MatMul>() {
            all.extend(product(1, if product_.transpose_right { last } else { first }));
        } else if op.is::<BatchNormalization>() || node.op.name() == "LayerNormalization" {
            let uses = [Use::One, Use::Zero, Use::Zero, Use::One];
            all.extend(uses.iter().enumerate().filter_map(|(at, one)| Some((shape(at + 1)?.0, *one))));
            continue;
        }
        // What is added to products.
        let bias = if op.is::<Conv>() || op.is::<Gemm>() { shape(2) } else { None };
        let sum =
            (node.op.name() == "Add").then(|| (0..2).find_map(|at| shape(at).filter(|(_, shape)| shape.len() == 1)));
        all.extend(bias.or_else(|| sum.flatten()).map(|(value, _)| (value, Use::Zero)));
    }
    for (value, used) in all {
        let Some(tensor) = graph.constant(value).filter(|tensor| tensor.dtype() == Dtype::F32) else { continue };
        let shape = tensor.shape().to_vec();
        let len = tensor.len();
        let numbers = match used {
            Use::Product(inputs) => {
                let spread = (2.0 / inputs.max(1) as f64).sqrt();
                normals(len, seed, graph.name(value)).into_iter().map(|x| (x * spread) as f32).collect()
            }
            Use::One => vec![1.0; len],
            Use::Zero => vec![0.0; len],
        };
        if let Some(tensor) = Tensor::of(shape, numbers) {
            graph.set_weight(value, tensor);
        }
    }
}

//! Which weights of a model can be masked.

use std::any::Any;
use std::collections::BTreeSet;

use niwaki_model::hf::Blueprint;
use niwaki_model::ops::conv::Conv;
use niwaki_model::ops::linear::Linear;
use niwaki_model::ops::matmul::{Gemm, MatMul};
use niwaki_model::{Dtype, Graph, Node, ValueId};

use crate::error::{Error, ErrorKind};
use crate::model::Model;
use crate::train::{Named, Settings};

/// The flag of weights that are not masked.
pub(super) const KEEP: &str = "--keep";

/// A weight that a layer multiplies by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Product {
    pub(crate) weight: ValueId,
    /// What it is multiplied with.
    pub(crate) input: ValueId,
    /// Whether it is a kernel, and what is multiplied are images.
    pub(crate) kernel: bool,
    /// Whether its rows are inputs, and its columns outputs.
    pub(crate) turned: bool,
}

impl Product {
    /// That of a convolution or a linear layer.
    pub(crate) fn of(node: &Node) -> Option<Self> {
        let op: &dyn Any = &*node.op;
        let turned = match (op.downcast_ref::<Gemm>(), op.downcast_ref::<MatMul>()) {
            (Some(gemm), _) => !gemm.transpose_right,
            (_, Some(product)) => !product.transpose_right,
            _ if op.is::<Conv>() || op.is::<Linear>() => false,
            _ => return None,
        };
        let [input, weight] = [0, 1].map(|at| node.inputs.get(at).copied().flatten());
        Some(Self { weight: weight?, input: input?, kernel: op.is::<Conv>(), turned })
    }
}

/// The weights of convolutions and linear layers, in the order of the nodes, but for those of the last one where a model
/// tells classes or tokens, and those that something else takes too, as embeddings do.
///
/// # Errors
///
/// Globs that match nothing; no weight that is left.
pub(crate) fn chosen(model: &Model, graph: &Graph, settings: &Settings) -> Result<Vec<Product>, Error> {
    let names = graph.weights().map(|(value, _)| graph.name(value));
    let named = Named::new(settings, KEEP, names).map_err(|e| e.at(model.path()))?;
    let products: Vec<Product> = graph.nodes().iter().filter_map(Product::of).collect();
    let tells = !matches!(model.language(), Some(Blueprint::Encoder(encoder)) if encoder.classes.is_empty());
    let head = products.last().filter(|_| tells).map(|product| product.weight);
    let others: BTreeSet<ValueId> = graph
        .nodes()
        .iter()
        .flat_map(|node| {
            let own = Product::of(node).map(|product| product.weight);
            node.inputs.iter().flatten().copied().filter(move |value| own != Some(*value))
        })
        .collect();
    let mut seen = BTreeSet::new();
    let fits = |value: ValueId| {
        let name = graph.name(value);
        let weight = graph.constant(value).is_some_and(|tensor| tensor.dtype() == Dtype::F32 && tensor.rank() > 1);
        weight && named.takes(name) && (named.chosen() || Some(value) != head) && !others.contains(&value)
    };
    let of = products.into_iter().filter(|product| fits(product.weight) && seen.insert(product.weight));
    let chosen: Vec<Product> = of.collect();
    if chosen.is_empty() {
        let rule = "the model, with F32 weights of convolutions or linear layers to mask,".to_owned();
        return Err(Error::from(ErrorKind::NoMatch { rule }).at(model.path()));
    }
    Ok(chosen)
}

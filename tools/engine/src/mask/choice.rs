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
use crate::plan::glob;
use crate::train::Settings;

/// The weight that a node multiplies by.
fn product(node: &Node) -> Option<ValueId> {
    let op: &dyn Any = &*node.op;
    let is = op.is::<Conv>() || op.is::<Gemm>() || op.is::<MatMul>() || op.is::<Linear>();
    is.then(|| node.inputs.get(1).copied().flatten()).flatten()
}

/// The weights of convolutions and linear layers, in the order of the nodes, but for those of the last one where a model
/// tells classes or tokens, and those that something else takes too, as embeddings do.
///
/// # Errors
///
/// Globs that match nothing; no weight that is left.
pub(crate) fn chosen(model: &Model, graph: &Graph, settings: &Settings) -> Result<Vec<ValueId>, Error> {
    let globs = |flag: &str, all: &[String]| {
        let one = |text: &String| {
            let glob = glob(text)?;
            match graph.weights().any(|(value, _)| glob.is_match(graph.name(value))) {
                true => Ok(glob),
                false => Err(Error::from(ErrorKind::NoMatch { rule: format!("`{flag} {text}`") }).at(model.path())),
            }
        };
        all.iter().map(one).collect::<Result<Vec<_>, Error>>()
    };
    let (only, keep) = (globs("--only", &settings.only)?, globs("--keep", &settings.freeze)?);
    let products: Vec<ValueId> = graph.nodes().iter().filter_map(product).collect();
    let tells = !matches!(model.language(), Some(Blueprint::Encoder(encoder)) if encoder.classes.is_empty());
    let head = products.last().filter(|_| tells);
    let others: BTreeSet<ValueId> = graph
        .nodes()
        .iter()
        .flat_map(|node| node.inputs.iter().flatten().filter(|value| product(node) != Some(**value)))
        .copied()
        .collect();
    let mut seen = BTreeSet::new();
    let fits = |value: &ValueId| {
        let name = graph.name(*value);
        let weight = graph.constant(*value).is_some_and(|tensor| tensor.dtype() == Dtype::F32 && tensor.rank() > 1);
        let named = match only.is_empty() {
            true => Some(value) != head,
            false => only.iter().any(|glob| glob.is_match(name)),
        };
        weight && named && !others.contains(value) && !keep.iter().any(|glob| glob.is_match(name))
    };
    let chosen: Vec<ValueId> = products.iter().copied().filter(|value| fits(value) && seen.insert(*value)).collect();
    if chosen.is_empty() {
        let rule = "the model, with F32 weights of convolutions or linear layers to mask,".to_owned();
        return Err(Error::from(ErrorKind::NoMatch { rule }).at(model.path()));
    }
    Ok(chosen)
}

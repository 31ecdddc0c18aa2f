//! The layers of a model that are quantized.

use std::collections::BTreeMap;

use niwaki_model::{Dtype, Graph, ValueId};

use crate::error::{Error, ErrorKind};
use crate::mask::Product;
use crate::model::Model;

/// A layer whose weights, and whose input, get a quantizer.
#[derive(Clone, Debug)]
pub(super) struct Site {
    /// The node.
    pub(super) node: usize,
    pub(super) weight: ValueId,
    pub(super) input: ValueId,
    /// The name of the weight.
    pub(super) name: String,
    /// Weights, and output channels.
    pub(super) len: usize,
    pub(super) rows: usize,
    /// Whether the rows of the weight are inputs.
    pub(super) turned: bool,
}

/// The convolutions and linear layers of a graph, in the order of its nodes: those whose weights are single floats and of
/// one layer alone.
///
/// # Errors
///
/// Fewer than three.
pub(super) fn sites(model: &Model, graph: &Graph) -> Result<Vec<Site>, Error> {
    let mut uses: BTreeMap<ValueId, usize> = BTreeMap::new();
    for value in graph.nodes().iter().flat_map(|node| node.inputs.iter().flatten()) {
        *uses.entry(*value).or_default() += 1;
    }
    let site = |(node, of): (usize, &niwaki_model::Node)| {
        let Product { weight, input, turned, .. } = Product::of(of)?;
        let tensor = graph.constant(weight)?;
        let fits =
            tensor.dtype() == Dtype::F32 && tensor.rank() > 1 && !tensor.is_empty() && uses.get(&weight) == Some(&1);
        let rows = if turned { *tensor.shape().last()? } else { *tensor.shape().first()? };
        fits.then(|| Site { node, weight, input, name: graph.name(weight).to_owned(), len: tensor.len(), rows, turned })
    };
    let all: Vec<Site> = graph.nodes().iter().enumerate().filter_map(site).collect();
    if all.len() < 3 {
        let what = format!(
            "{} layers with F32 weights of their own: at least three expected, as the first and the last stay at 8 bits",
            all.len()
        );
        return Err(Error::from(ErrorKind::Unlike { what }).at(model.path()));
    }
    Ok(all)
}

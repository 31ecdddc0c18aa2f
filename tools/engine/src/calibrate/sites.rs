//! The layers of a graph whose inputs are looked at.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};

use niwaki_container::Digest;
use niwaki_model::ops::conv::Conv;
use niwaki_model::ops::matmul::{Gemm, MatMul};
use niwaki_model::{Dtype, Graph, Node, Tensor, ValueId};

use crate::mask::Product;
use crate::stats::AboutLayer;

/// A layer.
#[derive(Clone, Debug)]
pub(super) struct Site {
    /// The name of its weight.
    pub(super) name: String,
    pub(super) product: Product,
    /// Its node, by place in the graph.
    pub(super) node: usize,
    /// What the file will say of it.
    pub(super) about: AboutLayer,
}

/// The convolutions and linear layers whose weights the checkpoint has, in the order of the graph. A weight that several
/// take is that of the first.
pub(super) fn sites(graph: &Graph, digests: &BTreeMap<String, Digest>) -> Vec<Site> {
    let mut seen = BTreeSet::new();
    let site = |(at, node): (usize, &Node)| {
        let product = Product::of(node)?;
        let (name, tensor) = (graph.name(product.weight), graph.constant(product.weight)?);
        let float = matches!(tensor.dtype(), Dtype::F32 | Dtype::F16 | Dtype::BF16);
        let digest = digests.get(name)?.to_string();
        let groups = (&*node.op as &dyn Any).downcast_ref::<Conv>().map_or(1, Conv::groups);
        let (shape, kernel, turned) = (tensor.shape().to_vec(), product.kernel, product.turned);
        let inputs = match (kernel, turned) {
            (true, _) => shape.get(1)? * groups,
            (false, true) => *shape.first()?,
            (false, false) => *shape.get(1)?,
        };
        let fits = float && !tensor.is_empty() && (kernel && shape.len() > 2 || !kernel && shape.len() == 2);
        let about =
            AboutLayer { digest, shape, inputs, groups, kernel, turned, values: 0, gram: None, histogram: None };
        (fits && !takes_columns(node)).then(|| Site { name: name.to_owned(), product, node: at, about })
    };
    let all = graph.nodes().iter().enumerate().filter_map(site);
    all.filter(|site| seen.insert(site.product.weight)).collect()
}

/// Whether what it multiplies has its inputs as columns.
fn takes_columns(node: &Node) -> bool {
    let op: &dyn Any = &*node.op;
    let gemm = op.downcast_ref::<Gemm>().is_some_and(|gemm| gemm.transpose_left);
    gemm || op.downcast_ref::<MatMul>().is_some_and(|product| product.transpose_left)
}

/// Says which histogram is whose: layers that take the same value share one. The values, in the order of their histograms.
pub(super) fn share_histograms(sites: &mut [Site]) -> Vec<ValueId> {
    let mut values: Vec<ValueId> = Vec::new();
    for site in sites {
        let input = site.product.input;
        let at = values.iter().position(|value| *value == input);
        site.about.histogram = Some(at.unwrap_or(values.len()));
        if at.is_none() {
            values.push(input);
        }
    }
    values
}

/// Says which Gram matrix is whose: linear layers that take the same value share one. The layers that can have none.
pub(super) fn share(graph: &Graph, sites: &mut [Site]) -> Vec<String> {
    let mut rows = BTreeMap::new();
    let (mut next, mut without) = (0, Vec::new());
    for site in sites {
        let planes = graph.constant(site.product.weight).map_or(0, Tensor::rank).saturating_sub(2);
        if site.about.kernel && planes > 2 {
            without.push(site.name.clone());
            continue;
        }
        let shared = (!site.about.kernel).then(|| *rows.entry(site.product.input).or_insert(next));
        let gram = shared.unwrap_or(next);
        site.about.gram = Some(gram);
        next = next.max(gram + 1);
    }
    without
}

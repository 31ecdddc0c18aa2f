//! The convolutions of a model whose output channels are gated, found by the graph.
//!
//! ```text
//! Conv -> BatchNormalization, Relu, Clip, in any order, each the only one that takes what is before it -> the place of the mask
//! ```
//!
//! So the mask of a residual block's last convolution lies before the addition, on what the normalization makes. A
//! convolution behind which there is nothing but a result of the model has none.

use std::any::Any;
use std::collections::BTreeMap;

use niwaki_model::ops::binary::{Binary, Operation};
use niwaki_model::ops::conv::Conv;
use niwaki_model::ops::normalize::BatchNormalization;
use niwaki_model::ops::pass::{Dropout, Identity};
use niwaki_model::ops::pool::{AveragePool, MaxPool};
use niwaki_model::ops::select::Clip;
use niwaki_model::ops::unary::Relu;
use niwaki_model::{Dtype, Graph, Node, Tensor, ValueId};

use crate::error::{Error, ErrorKind};
use crate::model::Model;

/// A convolution whose output channels are gated.
#[derive(Clone, Debug)]
pub(super) struct Site {
    /// The name of its weight.
    pub(super) name: String,
    /// What it takes, which its head looks at too.
    pub(super) input: ValueId,
    /// What its mask lies on.
    pub(super) place: ValueId,
    /// Input channels, output channels, and the parts that they are cut into.
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    pub(super) groups: usize,
    /// Places of its kernel.
    pub(super) taps: u64,
    /// Dimensions of its images, those of examples and channels too.
    pub(super) rank: usize,
    /// The sites before it without whose masks no channel of its input is other than 0; none where any may be.
    pub(super) sources: Option<Vec<usize>>,
    /// The last site before it, whose mask the paper charges it for.
    pub(super) before: Option<usize>,
}

/// Whether an operator makes each channel of its first input into the same channel, and a scale and an activation of it.
fn follows(node: &Node) -> bool {
    let op: &dyn Any = &*node.op;
    op.is::<BatchNormalization>() || op.is::<Relu>() || op.is::<Clip>()
}

/// Whether channels of zeros of its first input are channels of zeros of what it makes.
fn keeps_zeros(node: &Node) -> bool {
    let op: &dyn Any = &*node.op;
    op.is::<Relu>() || op.is::<MaxPool>() || op.is::<AveragePool>() || op.is::<Identity>() || op.is::<Dropout>()
}

fn is_sum(node: &Node) -> bool {
    let op: &dyn Any = &*node.op;
    matches!(op.downcast_ref::<Binary>(), Some(Binary { operation: Operation::Add }))
}

/// What is known of the channels of a value.
#[derive(Clone, Debug, Default)]
struct Origin {
    /// The sites without whose masks no channel is other than 0; none where any may be.
    sources: Option<Vec<usize>>,
    /// The last site that it is made of.
    last: Option<usize>,
}

/// What a graph does with its values.
struct Flow<'g> {
    graph: &'g Graph,
    /// The nodes that take each value, once for each time; results count as one more.
    users: BTreeMap<ValueId, Vec<usize>>,
    /// Of each value that nodes so far make.
    origins: BTreeMap<ValueId, Origin>,
    /// Output channels of each site so far.
    channels: Vec<usize>,
}

impl<'g> Flow<'g> {
    fn new(graph: &'g Graph) -> Self {
        Self { graph, users: graph.users(), origins: BTreeMap::new(), channels: Vec::new() }
    }

    /// The place of the mask of a convolution that makes that value; none before a result.
    fn place(&self, mut value: ValueId) -> Option<ValueId> {
        loop {
            let users = self.users.get(&value)?;
            if users.contains(&usize::MAX) {
                return None;
            }
            let next = match users[..] {
                [user] => self.graph.nodes().get(user).filter(|node| follows(node) && node.inputs[0] == Some(value)),
                _ => None,
            };
            match next.and_then(|node| node.outputs.first().copied().flatten()) {
                Some(made) => value = made,
                None => return Some(value),
            }
        }
    }

    fn origin(&self, value: Option<ValueId>) -> Origin {
        value.and_then(|value| self.origins.get(&value)).cloned().unwrap_or_default()
    }

    /// What is known of the channels of what a node makes.
    fn made(&self, node: &Node) -> Origin {
        let of = |at: usize| self.origin(node.inputs.get(at).copied().flatten());
        let last = node.inputs.iter().filter_map(|value| self.origin(*value).last).max();
        let sources = match () {
            () if keeps_zeros(node) => of(0).sources,
            () if is_sum(node) => of(0).sources.zip(of(1).sources).map(|(a, b)| {
                let mut all = [a, b].concat();
                all.sort_unstable();
                all.dedup();
                all
            }),
            () => None,
        };
        Origin { sources, last }
    }

    /// The site of a node, where it is one.
    fn site(&self, node: &Node) -> Option<Site> {
        let op: &dyn Any = &*node.op;
        let groups = op.downcast_ref::<Conv>()?.groups();
        let [input, weight] = [0, 1].map(|at| node.inputs.get(at).copied().flatten());
        let (input, weight) = (input?, weight?);
        let tensor = self.graph.constant(weight)?;
        let &[outputs, each, ref kernel @ ..] = tensor.shape() else { return None };
        let own = tensor.dtype() == Dtype::F32 && self.users.get(&weight).is_some_and(|users| users.len() == 1);
        let place = self.place(node.outputs.first().copied().flatten()?)?;
        let inputs = each.checked_mul(groups)?;
        let origin = self.origin(Some(input));
        (own && !tensor.is_empty()).then(|| Site {
            name: self.graph.name(weight).to_owned(),
            input,
            place,
            inputs,
            outputs,
            groups,
            rank: tensor.rank(),
            taps: kernel.iter().map(|taps| *taps as u64).product(),
            sources: origin.sources.filter(|all| all.iter().all(|site| self.channels[*site] == inputs)),
            before: origin.last.filter(|site| self.channels[*site] == inputs),
        })
    }
}

/// The convolutions whose channels are gated, in the order of the nodes: those whose weights are single floats and of one
/// layer alone, but for those that make results.
///
/// # Errors
///
/// A model without any.
pub(super) fn sites(model: &Model) -> Result<Vec<Site>, Error> {
    let mut graph = model.graph().clone();
    graph.sort().map_err(|e| e.at(model.path()))?;
    let mut flow = Flow::new(&graph);
    let mut all: Vec<Site> = Vec::new();
    for node in graph.nodes() {
        let made = flow.made(node);
        for value in node.outputs.iter().flatten() {
            // What a mask lies on is said already.
            flow.origins.entry(*value).or_insert_with(|| made.clone());
        }
        if let Some(site) = flow.site(node) {
            let masked = Origin { sources: Some(vec![all.len()]), last: Some(all.len()) };
            flow.origins.insert(site.place, masked);
            flow.channels.push(site.outputs);
            all.push(site);
        }
    }
    if all.is_empty() {
        let what = "no convolution with F32 weights of its own: its output channels are what is gated".to_owned();
        return Err(Error::from(ErrorKind::Unlike { what }).at(model.path()));
    }
    Ok(all)
}

/// The shape of what the mask of each site lies on, and all multiplications of the model, of one image.
pub(super) fn of_image(model: &Model, sites: &[Site], image: Tensor) -> Result<(Vec<Vec<usize>>, u64), Error> {
    let at = |e: niwaki_model::Error| Error::from(e.at(model.path()));
    let mut graph = model.graph().clone();
    graph.fold().map_err(at)?;
    let executor = niwaki_model::Executor::new(graph).map_err(at)?;
    let mut shapes: Vec<Vec<usize>> = vec![Vec::new(); sites.len()];
    let mut look = |value: ValueId, tensor: &Tensor| {
        let of = |(site, _): &(&Site, &mut Vec<usize>)| site.place == value;
        let found = sites.iter().zip(&mut shapes).find(of);
        found.into_iter().for_each(|(_, shape)| *shape = tensor.shape().to_vec());
    };
    let how = niwaki_model::Run { observe: Some(&mut look), ..Default::default() };
    let macs = executor.run(vec![image], how).map_err(at)?.macs;
    Ok((shapes, macs))
}

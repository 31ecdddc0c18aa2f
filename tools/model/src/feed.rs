//! Lets the feed-forward parts of transformers compute only the channels that fire.
//!
//! ```text
//! Linear(x) -> Gate [with Linear(x)] -> Linear         FeedForward(x), with a threshold
//! ```

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::{Error, ErrorKind};
use crate::graph::{Graph, Node, ValueId};
use crate::kernels::weights::Stored;
use crate::ops::feed::FeedForward;
use crate::ops::gate::{Activation, Gate};
use crate::ops::linear::Linear;
use crate::ops::packed::PackedLinear;
use crate::tensor::Tensor;

/// A feed-forward part of a transformer whose weights are floats.
#[derive(Clone, Debug)]
pub struct Feed {
    /// The name of the weight of its first layer, which makes what goes into the activation.
    pub name: String,
    /// What that layer makes, `[.., channels]`.
    pub hidden: ValueId,
    /// The activation.
    pub activation: Activation,
    /// How many channels there are.
    pub channels: usize,
    /// Multiplications of one row of inputs: of the first layer, and of all others.
    pub macs: [u64; 2],
    /// Its nodes.
    first: usize,
    gated: Option<usize>,
    last: usize,
    gate: usize,
}

impl Graph {
    /// The feed-forward parts, in the order of a sorted graph.
    pub fn feeds(&self) -> Vec<Feed> {
        let (users, makers) = (self.users(), self.makers());
        (0..self.nodes().len()).filter_map(|gate| self.feed(gate, &users, &makers)).collect()
    }

    /// That of a gate.
    fn feed(
        &self,
        at: usize,
        users: &BTreeMap<ValueId, Vec<usize>>,
        makers: &BTreeMap<ValueId, usize>,
    ) -> Option<Feed> {
        let gate = &self.nodes()[at];
        let op: &dyn Any = &*gate.op;
        let activation = op.downcast_ref::<Gate>()?.activation;
        let alone = |value: ValueId| users.get(&value).filter(|users| users.len() == 1).map(|users| users[0]);
        // A layer that makes what the gate alone takes.
        let before = |value: ValueId| makers.get(&value).copied().filter(|_| alone(value) == Some(at));
        let hidden = gate.inputs.first().copied().flatten()?;
        let first = before(hidden)?;
        let gated = match gate.inputs.get(1).copied().flatten() {
            Some(value) => Some(before(value)?),
            None => None,
        };
        let last = alone(gate.outputs.first().copied().flatten()?).filter(|last| *last != usize::MAX)?;
        let of = |node: usize| self.plain(node).map(Tensor::len);
        let others = of(last)? + gated.map_or(Some(0), of)?;
        let takes = |node: usize| self.nodes()[node].inputs.first().copied().flatten();
        let fits = gated.is_none_or(|gated| takes(gated) == takes(first)) && takes(last) == gate.outputs[0];
        let &[channels, _] = self.plain(first)?.shape() else { return None };
        fits.then(|| Feed {
            name: self.nodes()[first].inputs[1].map(|weight| self.name(weight).to_owned()).unwrap_or_default(),
            hidden,
            activation,
            channels,
            macs: [of(first).unwrap_or(0) as u64, others as u64],
            first,
            gated,
            last,
            gate: at,
        })
    }

    /// The weights of a linear layer that are floats and never change.
    fn plain(&self, node: usize) -> Option<&Tensor> {
        let op: &dyn Any = &*self.nodes()[node].op;
        op.downcast_ref::<Linear>().filter(|linear| linear.heads.is_none())?;
        let weights = self.constant(self.nodes()[node].inputs.get(1).copied().flatten()?)?;
        Stored::of(weights, 1).ok().map(|_| weights)
    }

    /// Multiplications of all linear layers for one row of inputs.
    pub fn linear_macs(&self) -> u64 {
        let of = |node: &Node| {
            let op: &dyn Any = &*node.op;
            let weights = || self.constant(node.inputs.get(1).copied().flatten()?).map(Tensor::len);
            match op.downcast_ref::<PackedLinear>() {
                Some(packed) => packed.weights.rows() * packed.weights.cols(),
                None => op.downcast_ref::<Linear>().and_then(|_| weights()).unwrap_or(0),
            }
        };
        self.nodes().iter().map(|node| of(node) as u64).sum()
    }

    /// Lets each [feed-forward part](Self::feeds) compute only the channels whose activation is not below its threshold, for
    /// running forward. The graph is sorted then.
    ///
    /// # Errors
    ///
    /// Another number of thresholds than of parts; those of [`sort`](Self::sort).
    pub fn skip_channels(&mut self, thresholds: &[f32]) -> Result<(), Error> {
        let feeds = self.feeds();
        if feeds.len() != thresholds.len() {
            let what = format!("{} thresholds, {} feed-forward parts of floats", thresholds.len(), feeds.len());
            return Err(ErrorKind::Model(what).into());
        }
        let mut keep = vec![true; self.nodes().len()];
        let mut added = Vec::with_capacity(feeds.len());
        for (feed, threshold) in feeds.iter().zip(thresholds) {
            let input = |node: Option<usize>, at: usize| self.nodes()[node?].inputs.get(at).copied().flatten();
            let layers = [Some(feed.first), feed.gated, Some(feed.last)];
            let mut inputs = vec![input(layers[0], 0)];
            inputs.extend(layers.iter().flat_map(|node| [input(*node, 1), input(*node, 2)]));
            let made = self.nodes()[feed.last].outputs.first().copied().flatten();
            let name = self.nodes()[feed.gate].name.clone();
            layers.iter().flatten().chain([&feed.gate]).for_each(|node| keep[*node] = false);
            let op = Arc::new(FeedForward::new(feed.activation, *threshold));
            let there = self.value(format!("{}.there", feed.name));
            added.push(Node { name, op, inputs, outputs: vec![made, Some(there)] });
        }
        self.keep_nodes(&keep);
        added.into_iter().for_each(|node| self.push(node));
        self.sort()
    }

    /// The values that say how many channels were there for each row of inputs, `[rows]`: one for each part that
    /// [skips channels](Self::skip_channels), in order.
    pub fn there(&self) -> Vec<ValueId> {
        let of = |node: &Node| {
            let op: &dyn Any = &*node.op;
            node.outputs.get(1).copied().flatten().filter(|_| op.is::<FeedForward>())
        };
        self.nodes().iter().filter_map(of).collect()
    }
}

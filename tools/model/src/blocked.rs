//! Lets convolutions that follow each other pass images on in blocks of channels.
//!
//! ```text
//! Conv -> Relu -> Conv -> Flatten        Conv, to blocks -> Relu -> Conv in blocks -> FromBlocks -> Flatten
//! ```

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::error::Error;
use crate::fuse::as_a;
use crate::graph::{Graph, Node, ValueId};
use crate::kernels::blocks::FEW;
use crate::ops::binary::Binary;
use crate::ops::conv::Conv;
use crate::ops::conv::blocked::between::{BlockedAffine, BlockedMaxPool};
use crate::ops::conv::blocked::pair::BlockedPair;
use crate::ops::conv::blocked::{BlockedConv, FromBlocks, ToBlocks};
use crate::ops::normalize::BatchNormalization;
use crate::ops::pool::MaxPool;
use crate::ops::select::Clip;
use crate::ops::unary::{Relu, Unary};
use crate::tensor::Tensor;

/// Values that are made in blocks, and of how many channels.
type Channels = BTreeMap<ValueId, usize>;

/// The values in blocks that stand for others.
#[derive(Default)]
struct Twins {
    of: BTreeMap<ValueId, ValueId>,
    channels: Channels,
    /// Those that are put into blocks from what was there.
    entered: BTreeMap<ValueId, ValueId>,
}

impl Twins {
    /// The value in blocks, or the same where there is none.
    fn or_same(&self, value: ValueId) -> ValueId {
        *self.of.get(&value).unwrap_or(&value)
    }
}

impl Graph {
    /// Lets convolutions of two-dimensional images that follow each other pass images on in blocks of channels, for running
    /// forward; values that anything else takes, and results, are as before. Best after [`fuse`](Self::fuse). The graph is
    /// sorted then.
    ///
    /// # Errors
    ///
    /// Those of [`sort`](Self::sort).
    pub fn block(&mut self) -> Result<(), Error> {
        self.sort()?;
        let mut alone = BTreeSet::new();
        let mut channels = self.in_blocks(&alone);
        // A convolution between others is not worth the way in and out.
        alone.extend((0..self.nodes().len()).filter(|at| self.is_alone(*at, &channels)));
        channels = self.in_blocks(&alone);
        if channels.is_empty() {
            return Ok(());
        }
        let mut twins = Twins::default();
        for value in channels.keys() {
            let name = self.name(*value).to_owned();
            twins.of.insert(*value, self.value(name));
        }
        twins.channels = channels;
        for at in 0..self.nodes().len() {
            if self.nodes()[at].outputs.iter().flatten().any(|value| twins.of.contains_key(value)) {
                self.enter(at, &mut twins);
            }
        }
        self.leave(&twins);
        self.join();
        self.sort()
    }

    /// Makes one node of a convolution of single pixels and one of each channel by itself that alone takes what it makes.
    fn join(&mut self) {
        let users = self.users();
        let mut keep = vec![true; self.nodes().len()];
        for (at, keep) in keep.iter_mut().enumerate() {
            let Some(next) = self.only_user(at, &users) else { continue };
            let [first, second] = [at, next].map(|at| &self.nodes()[at]);
            let [a, b] = [first, second].map(|node| as_a::<BlockedConv>(&node.op).filter(|_| node.inputs.len() == 1));
            let Some(pair) = a.zip(b).and_then(|(a, b)| BlockedPair::new(a, b)) else { continue };
            let inputs = first.inputs.clone();
            let second = self.node_mut(next);
            (second.op, second.inputs) = (Arc::new(pair), inputs);
            *keep = false;
        }
        self.keep_nodes(&keep);
    }

    /// The values that are made in blocks, where the convolutions `alone` make none.
    fn in_blocks(&self, alone: &BTreeSet<usize>) -> Channels {
        let mut channels = Channels::new();
        for (at, node) in self.nodes().iter().enumerate() {
            let [Some(output)] = node.outputs[..] else { continue };
            let made = match self.convolution(node) {
                Some([taken, made]) => {
                    let input = node.inputs.first().copied().flatten().and_then(|input| channels.get(&input));
                    (!alone.contains(&at) && input.is_none_or(|of| *of == taken)).then_some(made)
                }
                None => self.elementwise(node, &channels),
            };
            made.into_iter().for_each(|made| {
                channels.insert(output, made);
            });
        }
        channels
    }

    /// The channels in and out of a node that is a convolution that could be one of blocks.
    fn convolution(&self, node: &Node) -> Option<[usize; 2]> {
        let op: &dyn Any = &*node.op;
        let conv = op.downcast_ref::<Conv>()?;
        let weights = self.constant(node.inputs.get(1).copied().flatten()?).filter(|w| w.get::<f32>().is_some())?;
        let bias = node.inputs.get(2).copied().flatten();
        let known = |bias| self.constant(bias).and_then(Tensor::get::<f32>).map(<[f32]>::len);
        conv.block_channels(weights.shape()).filter(|[_, made]| bias.is_none_or(|bias| known(bias) == Some(*made)))
    }

    /// The channels of what a node makes that makes each element of one, where it takes blocks.
    fn elementwise(&self, node: &Node, channels: &Channels) -> Option<usize> {
        let op: &dyn Any = &*node.op;
        let mut inputs = node.inputs.iter().flatten();
        if op.downcast_ref::<MaxPool>().is_some_and(MaxPool::is_plain) {
            return channels.get(inputs.next()?).copied();
        }
        if let Some((_, [scale, ..])) = self.fixed(node) {
            return channels.get(inputs.next()?).copied().filter(|of| *of == scale.len());
        }
        if op.is::<Relu>() || op.is::<Unary>() || op.is::<Clip>() {
            let of = *channels.get(inputs.next()?)?;
            return inputs.all(|bound| self.constant(*bound).is_some()).then_some(of);
        }
        if !op.is::<Binary>() {
            return None;
        }
        let one = |value: &ValueId| self.constant(*value).is_some_and(|number| number.len() == 1 && number.rank() < 2);
        match [inputs.next()?, inputs.next()?].map(|value| (channels.get(value), one(value))) {
            [(Some(a), _), (Some(b), _)] => (a == b).then_some(*a),
            [(Some(of), _), (None, true)] | [(None, true), (Some(of), _)] => Some(*of),
            _ => None,
        }
    }

    /// A normalization over fixed statistics, and its scale, bias, mean and variance, which are as many.
    fn fixed<'g>(&'g self, node: &'g Node) -> Option<(&'g BatchNormalization, [&'g [f32]; 4])> {
        let op: &dyn Any = &*node.op;
        let norm = op.downcast_ref::<BatchNormalization>().filter(|norm| norm.training.is_none())?;
        let numbers = |place: usize| self.constant(node.inputs.get(place).copied().flatten()?)?.get::<f32>();
        let all = [numbers(1)?, numbers(2)?, numbers(3)?, numbers(4)?];
        all.iter().all(|each| each.len() == all[0].len()).then_some((norm, all))
    }

    /// Whether a node is a convolution that neither takes blocks nor makes any that a convolution takes.
    fn is_alone(&self, at: usize, channels: &Channels) -> bool {
        let node = &self.nodes()[at];
        let (Some(_), [Some(output)]) = (self.convolution(node), &node.outputs[..]) else { return false };
        if node.inputs.first().copied().flatten().is_some_and(|input| channels.contains_key(&input)) {
            return false;
        }
        let mut made = BTreeSet::from([*output]);
        for node in self.nodes() {
            if !node.inputs.iter().flatten().any(|value| made.contains(value)) {
                continue;
            }
            if self.convolution(node).is_some() {
                return false;
            }
            made.extend(node.outputs.iter().flatten().filter(|value| channels.contains_key(value)));
        }
        true
    }

    /// Makes a node one that makes blocks.
    fn enter(&mut self, at: usize, twins: &mut Twins) {
        let mut node = self.nodes()[at].clone();
        if let Some([taken, made]) = self.convolution(&node) {
            let op: &dyn Any = &*node.op;
            let constant = |place: usize| self.constant(node.inputs.get(place).copied().flatten()?);
            let (Some(conv), Some(weights), Some(Some(x))) =
                (op.downcast_ref::<Conv>(), constant(1), node.inputs.first().copied())
            else {
                return;
            };
            let apart = taken <= FEW && conv.groups() == 1 && !twins.of.contains_key(&x);
            let Some(blocked) = conv.blocked(weights, constant(2), apart) else { return };
            let x = if apart { x } else { self.twin(x, twins) };
            let add = node.inputs.get(3).copied().flatten();
            let add = add.map(|add| if twins.channels.get(&add) == Some(&made) { twins.or_same(add) } else { add });
            node.op = Arc::new(blocked);
            node.inputs = [Some(x)].into_iter().chain(add.map(Some)).collect();
        } else {
            let op: &dyn Any = &*node.op;
            if let Some(factors) = self.fixed(&node).map(|(norm, all)| norm.fixed(all)) {
                node.inputs.truncate(1);
                node.op = Arc::new(BlockedAffine::new(factors));
            } else if let Some(pool) = op.downcast_ref::<MaxPool>().cloned() {
                node.op = Arc::new(BlockedMaxPool(pool));
            }
            node.inputs.iter_mut().flatten().for_each(|value| *value = twins.or_same(*value));
        }
        node.outputs.iter_mut().flatten().for_each(|value| *value = twins.or_same(*value));
        *self.node_mut(at) = node;
    }

    /// A value in blocks.
    fn twin(&mut self, value: ValueId, twins: &mut Twins) -> ValueId {
        if let Some(twin) = twins.of.get(&value).or_else(|| twins.entered.get(&value)) {
            return *twin;
        }
        let name = self.name(value).to_owned();
        let twin = self.node(name, ToBlocks, &[value]);
        twins.entered.insert(value, twin);
        twin
    }

    /// Takes those values out of blocks that something takes as they were.
    fn leave(&mut self, twins: &Twins) {
        let users = self.users();
        for (value, twin) in twins.of.iter().filter(|(value, _)| users.contains_key(value)) {
            let op = Arc::new(FromBlocks { channels: twins.channels[value] });
            let (inputs, outputs) = (vec![Some(*twin)], vec![Some(*value)]);
            self.push(Node { name: self.name(*value).to_owned(), op, inputs, outputs });
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests;

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
mod tests {
    use super::*;
    use crate::attributes::{Attribute, Definition};
    use crate::kernels::numbers;
    use crate::ops::binary::Operation;
    use crate::ops::unary::Function;
    use crate::{Executor, Run};

    fn floats(shape: &[usize], seed: u32) -> Tensor {
        Tensor::of(shape, numbers(shape.iter().product(), seed)).unwrap()
    }

    /// A convolution of `weights`, of which each window is padded so that a stride of 1 keeps the size.
    fn conv(graph: &mut Graph, x: ValueId, weights: [usize; 4], stride: i64, groups: i64) -> ValueId {
        conv_with(graph, x, weights, (stride, groups, 0))
    }

    /// The same, `ceil` as pools have it.
    fn conv_with(
        graph: &mut Graph,
        x: ValueId,
        weights: [usize; 4],
        (stride, groups, ceil): (i64, i64, i64),
    ) -> ValueId {
        let pads = vec![weights[2] as i64 / 2; 4];
        let attributes = [
            ("pads".to_owned(), Attribute::Ints(pads)),
            ("strides".to_owned(), Attribute::Ints(vec![stride; 2])),
            ("group".to_owned(), Attribute::Int(groups)),
            ("ceil_mode".to_owned(), Attribute::Int(ceil)),
        ];
        let of = Definition { op: "Conv".into(), opset: 17, inputs: 3, outputs: 1, ..Definition::default() };
        let op = crate::ops::build(&Definition { attributes: attributes.into(), ..of }).unwrap().unwrap();
        let w = graph.weight("w", floats(&weights, 3));
        let b = graph.weight("b", floats(&weights[..1], 4));
        let y = graph.value("y");
        graph.push(Node { name: "conv".into(), op, inputs: vec![Some(x), Some(w), Some(b)], outputs: vec![Some(y)] });
        y
    }

    /// The largest of three by three, a stride of 2 apart.
    fn pool(graph: &mut Graph, x: ValueId) -> ValueId {
        let ints = |name: &str, all: Vec<i64>| (name.to_owned(), Attribute::Ints(all));
        let attributes = [ints("kernel_shape", vec![3; 2]), ints("strides", vec![2; 2]), ints("pads", vec![1; 4])];
        let of = Definition { op: "MaxPool".into(), opset: 17, inputs: 1, outputs: 1, ..Definition::default() };
        let op = crate::ops::build(&Definition { attributes: attributes.into(), ..of }).unwrap().unwrap();
        let y = graph.value("y");
        graph.push(Node { name: "pool".into(), op, inputs: vec![Some(x)], outputs: vec![Some(y)] });
        y
    }

    fn binary(graph: &mut Graph, operation: Operation, a: ValueId, b: ValueId) -> ValueId {
        graph.node("binary", Binary { operation }, &[a, b])
    }

    /// A network of `channels` that has a shortcut, channels by themselves, a gate, and results on the way.
    fn net(channels: usize) -> Graph {
        let mut graph = Graph::default();
        let x = graph.input("x", None, None);
        let stem = conv(&mut graph, x, [channels, 3, 3, 3], 2, 1);
        let stem = graph.node("relu", Relu, &[stem]);
        let each = conv(&mut graph, stem, [channels, 1, 3, 3], 1, channels as i64);
        let each = graph.node("clip", Clip { low: Some(0.0), high: Some(6.0) }, &[each]);
        let back = conv(&mut graph, each, [channels, channels, 1, 1], 1, 1);
        let sum = binary(&mut graph, Operation::Add, back, stem);
        let gate = conv(&mut graph, sum, [channels, channels, 1, 1], 1, 1);
        let gate = graph.node("gate", Unary { function: Function::Sigmoid, parameters: [0.0; 2] }, &[gate]);
        let gated = binary(&mut graph, Operation::Mul, sum, gate);
        let two = graph.weight("two", Tensor::scalar(2.0f32));
        let twice = binary(&mut graph, Operation::Mul, gated, two);
        let norm = [1, 2, 3].map(|seed| graph.weight("n", floats(&[channels], seed)));
        let var = graph.weight("v", Tensor::vector(vec![0.5f32; channels]));
        let op = BatchNormalization { epsilon: 1e-5, training: None };
        let norm = graph.node("norm", op, &[twice, norm[0], norm[1], norm[2], var]);
        let pool = pool(&mut graph, norm);
        let last = conv(&mut graph, pool, [2 * channels, channels, 5, 5], 2, 1);
        [gated, last].into_iter().for_each(|value| graph.output(value));
        graph
    }

    fn made(graph: Graph, x: Tensor) -> Vec<Vec<u32>> {
        let outputs = Executor::new(graph).unwrap().run(vec![x], Run::default()).unwrap().outputs;
        outputs.iter().map(|y| y.get::<f32>().unwrap().iter().map(|x| x.to_bits()).collect()).collect()
    }

    fn count<T: crate::Operator>(graph: &Graph) -> usize {
        graph.nodes().iter().filter(|node| (&*node.op as &dyn Any).is::<T>()).count()
    }

    #[test]
    fn results_are_the_same_to_the_bit() {
        for channels in [16, 24, 40] {
            let mut plain = net(channels);
            plain.fuse().unwrap();
            let mut blocked = plain.clone();
            blocked.block().unwrap();
            assert_eq!(count::<Conv>(&blocked), 0, "{channels} channels");
            assert_eq!([count::<ToBlocks>(&blocked), count::<FromBlocks>(&blocked)], [0, 2], "{channels} channels");
            // One image on several threads, and many with a thread each.
            for shape in [[1, 3, 45, 38], [9, 3, 15, 12]] {
                let x = floats(&shape, 7);
                assert!(made(plain.clone(), x.clone()) == made(blocked.clone(), x), "{channels} channels, {shape:?}");
            }
        }
    }

    #[test]
    fn what_is_added_may_be_in_blocks_or_apart_or_repeated() {
        for (added, image) in
            [(vec![2, 32, 9, 7], 9), (vec![32, 1, 1], 9), (vec![2, 32, 1, 1], 9), (vec![5, 2, 32, 9, 7], 0)]
        {
            let mut graph = Graph::default();
            let [x, add] = ["x", "add"].map(|name| graph.input(name, None, None));
            let stem = conv(&mut graph, x, [32, 3, 3, 3], 1, 1);
            let back = conv(&mut graph, stem, [32, 32, 5, 5], 1, 1);
            let sum = binary(&mut graph, Operation::Add, back, add);
            let relu = graph.node("relu", Relu, &[sum]);
            let last = conv(&mut graph, relu, [32, 32, 1, 1], 1, 1);
            graph.output(last);
            graph.fuse().unwrap();
            let mut blocked = graph.clone();
            blocked.block().unwrap();
            assert_eq!([count::<Conv>(&blocked), count::<FromBlocks>(&blocked)], [0, 1]);
            let run = |graph: Graph| {
                let inputs = vec![floats(&[2, 3, 9, 7], 7), floats(&added, 8)];
                let outcome = Executor::new(graph).unwrap().run(inputs, Run::default());
                outcome.map(|made| made.outputs[0].get::<f32>().unwrap().to_vec())
            };
            // Of five dimensions it fits nothing that is a convolution's.
            assert!(image == 0 || run(graph.clone()).unwrap() == run(blocked.clone()).unwrap(), "{added:?}");
            assert_eq!(run(graph).is_ok(), run(blocked).is_ok(), "{added:?}");
        }
    }

    #[test]
    fn pairs_change_no_bit() {
        let shapes = [[1, 3, 40, 300], [1, 3, 9, 8], [9, 3, 15, 12], [2, 3, 1, 1]];
        for (channels, kernel, stride) in [(16, 3, 1), (40, 3, 2), (72, 5, 1), (24, 5, 3), (32, 1, 2)] {
            let mut graph = Graph::default();
            let x = graph.input("x", None, None);
            let stem = conv(&mut graph, x, [24, 3, 3, 3], 1, 1);
            let wide = conv(&mut graph, stem, [channels, 24, 1, 1], 1, 1);
            let wide = graph.node("clip", Clip { low: Some(0.0), high: Some(0.7) }, &[wide]);
            let each = conv(&mut graph, wide, [channels, 1, kernel, kernel], stride, channels as i64);
            let each = graph.node("relu", Relu, &[each]);
            graph.output(each);
            graph.fuse().unwrap();
            let mut blocked = graph.clone();
            blocked.block().unwrap();
            assert_eq!([count::<BlockedPair>(&blocked), blocked.nodes().len()], [1, 3], "{channels} channels");
            for shape in shapes {
                let x = floats(&shape, 7);
                let macs = |graph: &Graph| {
                    Executor::new(graph.clone()).unwrap().run(vec![x.clone()], Run::default()).unwrap().macs
                };
                assert_eq!(macs(&graph), macs(&blocked), "{channels} channels, {shape:?}");
                assert!(made(graph.clone(), x.clone()) == made(blocked.clone(), x), "{channels} channels, {shape:?}");
            }
        }
    }

    #[test]
    fn tiles_make_what_windows_make() {
        let mut graph = Graph::default();
        let x = graph.input("x", None, None);
        let stem = conv(&mut graph, x, [40, 3, 3, 3], 1, 1);
        let stem = graph.node("relu", Relu, &[stem]);
        let back = conv(&mut graph, stem, [40, 40, 3, 3], 1, 1);
        let sum = binary(&mut graph, Operation::Add, back, stem);
        let last = conv(&mut graph, sum, [24, 40, 3, 3], 1, 1);
        graph.output(last);
        graph.fuse().unwrap();
        let mut blocked = graph.clone();
        blocked.block().unwrap();
        for shape in [[1, 3, 45, 38], [9, 3, 15, 12], [3, 3, 1, 1], [0, 3, 6, 6]] {
            let run = |graph: &Graph| {
                let made = Executor::new(graph.clone()).unwrap().run(vec![floats(&shape, 7)], Run::default()).unwrap();
                made.outputs[0].get::<f32>().unwrap().to_vec()
            };
            let (plain, blocked) = (run(&graph), run(&blocked));
            let most = plain.iter().fold(0.0, |most: f32, y| most.max(y.abs()));
            assert_eq!(plain.len(), blocked.len());
            assert!(plain.iter().zip(&blocked).all(|(a, b)| (a - b).abs() <= 4e-6 * most), "{shape:?}");
        }
    }

    #[test]
    fn what_is_not_worth_it_stays() {
        // A convolution alone, few channels, groups, and what no convolution has: a last window past the end.
        let mut graph = Graph::default();
        let x = graph.input("x", None, None);
        let alone = conv(&mut graph, x, [16, 32, 3, 3], 1, 1);
        let few =
            [0, 1].into_iter().fold(x, |x, at| conv(&mut graph, x, [5, if at == 0 { 32 } else { 5 }, 3, 3], 1, 1));
        let groups = [0, 1].into_iter().fold(x, |x, _| conv(&mut graph, x, [32, 16, 3, 3], 1, 2));
        let ceil = [0, 1].into_iter().fold(x, |x, _| conv_with(&mut graph, x, [32, 32, 3, 3], (2, 1, 1)));
        [alone, few, groups, ceil].into_iter().for_each(|value| graph.output(value));
        graph.fuse().unwrap();
        let before = graph.nodes().len();
        graph.block().unwrap();
        assert_eq!([graph.nodes().len(), count::<Conv>(&graph)], [before, 7]);
    }

    #[test]
    fn images_of_another_size_are_refused_as_before() {
        let mut graph = net(16);
        graph.fuse().unwrap();
        graph.block().unwrap();
        let executor = Executor::new(graph).unwrap();
        for shape in [&[1, 4, 45, 38][..], &[1, 3, 45], &[1, 1, 8, 8, 16]] {
            assert!(executor.run(vec![floats(shape, 1)], Run::default()).is_err(), "{shape:?}");
        }
    }
}

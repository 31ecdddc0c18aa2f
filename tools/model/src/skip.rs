//! Lets convolutions leave out channels that are made 0 behind them.
//!
//! ```text
//! Conv -> ChannelGate(P)                                   SkipConv(P)
//! Conv -> normalization, activation -> ChannelGate(P)      SkipConv(P) -> normalization, activation -> ChannelGate(P)
//! ```

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::error::Error;
use crate::graph::{Graph, ValueId};
use crate::ops::channels::ChannelGate;
use crate::ops::conv::Conv;
use crate::ops::normalize::BatchNormalization;
use crate::ops::select::Clip;
use crate::ops::unary::Relu;

impl Graph {
    /// Lets convolutions compute only the channels that a [`ChannelGate`] lets through, from those of their input that are not
    /// all 0, for running forward; how many do. Best after [`fuse`](Self::fuse). The graph is sorted then.
    ///
    /// # Errors
    ///
    /// Those of [`sort`](Self::sort).
    pub fn skip(&mut self) -> Result<usize, Error> {
        self.sort()?;
        let (users, makers) = (self.users(), self.makers());
        let mut gone = BTreeSet::new();
        let mut count = 0;
        for gate in 0..self.nodes().len() {
            let op: &dyn Any = &*self.nodes()[gate].op;
            let (true, Some(conv)) = (op.is::<ChannelGate>(), self.gated(gate, &users, &makers)) else { continue };
            let Some(numbers) = self.nodes()[gate].inputs.get(1).copied().flatten() else { continue };
            let Some(skipping) = self.skipping(conv).filter(|_| !self.depends(numbers, conv)) else { continue };
            // What a gate alone makes of it, the convolution makes too.
            let next_to = self.nodes()[gate].inputs[0] == self.nodes()[conv].outputs[0];
            let outputs = self.nodes()[gate].outputs.clone();
            let node = self.node_mut(conv);
            node.inputs.resize(3, None);
            node.inputs.push(Some(numbers));
            node.op = Arc::new(skipping);
            if next_to {
                node.outputs = outputs;
                gone.insert(gate);
            }
            count += 1;
        }
        let keep: Vec<bool> = (0..self.nodes().len()).map(|at| !gone.contains(&at)).collect();
        self.keep_nodes(&keep);
        self.sort()?;
        Ok(count)
    }

    /// The convolution behind which a gate is, with nothing between them but what makes each channel of itself.
    fn gated(
        &self,
        gate: usize,
        users: &BTreeMap<ValueId, Vec<usize>>,
        makers: &BTreeMap<ValueId, usize>,
    ) -> Option<usize> {
        let mut value = self.nodes()[gate].inputs.first().copied().flatten()?;
        loop {
            let maker = *makers.get(&value)?;
            if users.get(&value).map(Vec::len) != Some(1) {
                return None;
            }
            let op: &dyn Any = &*self.nodes()[maker].op;
            if op.is::<Conv>() {
                return Some(maker);
            }
            let norm = op.downcast_ref::<BatchNormalization>().is_some_and(|norm| norm.training.is_none());
            if !(norm || op.is::<Relu>() || op.is::<Clip>()) {
                return None;
            }
            value = self.nodes()[maker].inputs.first().copied().flatten()?;
        }
    }

    /// What a convolution becomes.
    fn skipping(&self, at: usize) -> Option<crate::ops::conv::SkipConv> {
        let op: &dyn Any = &*self.nodes()[at].op;
        let weights = self.nodes()[at].inputs.get(1).copied().flatten()?;
        op.downcast_ref::<Conv>()?.skipping(self.constant(weights)?.shape())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;
    use crate::attributes::{Attribute, Definition};
    use crate::reverse::check::numbers;
    use crate::tensor::Tensor;
    use crate::{Executor, Node, Run};

    fn floats(shape: &[usize], seed: u64) -> Tensor {
        let all = numbers(shape.iter().product(), seed).into_iter().map(|x| x as f32).collect();
        Tensor::of(shape, all).unwrap()
    }

    /// Two convolutions, each gated by numbers that are inputs; between the first and its gate a normalization and an
    /// activation, in that order or the other.
    fn net([kernel, stride, groups]: [usize; 3], [c, middle, out]: [usize; 3], late: bool) -> Graph {
        let mut graph = Graph::default();
        let [x, p, q] = ["x", "p", "q"].map(|name| graph.input(name, None, None));
        let conv = |graph: &mut Graph, x, shape: [usize; 4], (bias, groups): (bool, usize)| {
            let pads = vec![shape[3] as i64 / 2; 4];
            let strides = vec![stride as i64; 2];
            let groups = ("group".to_owned(), Attribute::Int(groups as i64));
            let attributes =
                [groups, ("pads".to_owned(), Attribute::Ints(pads)), ("strides".to_owned(), Attribute::Ints(strides))];
            let of = Definition { op: "Conv".into(), opset: 17, inputs: 3, outputs: 1, ..Definition::default() };
            let op = crate::ops::build(&Definition { attributes: attributes.into(), ..of }).unwrap().unwrap();
            let w = graph.weight("w", floats(&shape, 3));
            let b = bias.then(|| graph.weight("b", floats(&shape[..1], 4)));
            let y = graph.value("y");
            graph.push(Node { name: "conv".into(), op, inputs: vec![Some(x), Some(w), b], outputs: vec![Some(y)] });
            y
        };
        let norm = |graph: &mut Graph, x| {
            let all = [1, 2, 3].map(|seed| graph.weight("n", floats(&[middle], seed)));
            let var = graph.weight("v", Tensor::vector(vec![0.5f32; middle]));
            graph.node("norm", BatchNormalization { epsilon: 1e-5, training: None }, &[x, all[0], all[1], all[2], var])
        };
        let mut y = conv(&mut graph, x, [middle, c, kernel, kernel], (false, 1));
        for step in [late, !late] {
            y = if step { graph.node("relu", Relu, &[y]) } else { norm(&mut graph, y) };
        }
        let y = graph.node("gate", ChannelGate, &[y, p]);
        let z = conv(&mut graph, y, [out, middle / groups, kernel, kernel], (true, groups));
        let z = graph.node("gate", ChannelGate, &[z, q]);
        graph.output(z);
        graph
    }

    fn run(graph: &Graph, skip: bool, inputs: &[Tensor]) -> (Vec<u32>, usize) {
        let mut graph = graph.clone();
        graph.fuse().unwrap();
        let count = if skip { graph.skip().unwrap() } else { 0 };
        let nodes = graph.nodes().len();
        let made = Executor::new(graph).unwrap().run(inputs.to_vec(), Run::default()).unwrap().outputs;
        assert!(!skip || count == 2);
        (made[0].get::<f32>().unwrap().iter().map(|x| x.to_bits()).collect(), nodes)
    }

    #[test]
    fn channels_that_are_left_out_change_nothing() {
        let all =
            [([3, 16, 20], 1, 1), ([4, 9, 5], 1, 3), ([1, 8, 1], 1, 9), ([2, 12, 12], 12, 1), ([2, 12, 24], 4, 3)];
        for (kernel, stride, size) in [(3, 1, 8), (3, 2, 9), (1, 1, 4), (1, 2, 5), (5, 1, 6), (1, 1, 1)] {
            for (channels, groups, images) in all {
                for late in [false, true] {
                    let graph = net([kernel, stride, groups], channels, late);
                    for seed in 0..4 {
                        let [c, middle, out] = channels;
                        let shift = |tensor: Tensor, by: f32| {
                            let all = tensor.get::<f32>().unwrap().iter().map(|x| x + by).collect();
                            Tensor::of(tensor.shape(), all).unwrap()
                        };
                        // None, some and all channels are there.
                        let by = [-1.5, -0.3, 0.4, 1.5][seed as usize];
                        let [p, q] = [middle, out].map(|channels| shift(floats(&[images, channels], 10 + seed), by));
                        let inputs = [floats(&[images, c, size, size], 20 + seed), p, q];
                        let ((masked, all), (skipped, fewer)) =
                            (run(&graph, false, &inputs), run(&graph, true, &inputs));
                        assert!(
                            masked.iter().zip(&skipped).all(|(a, b)| a == b || (a | b) << 1 == 0),
                            "{kernel}/{stride}"
                        );
                        assert!(fewer < all, "a gate next to its convolution is gone");
                    }
                }
            }
        }
    }

    #[test]
    fn what_others_take_too_is_computed() {
        let mut graph = net([3, 1, 1], [2, 4, 4], false);
        let before = graph.nodes()[3].inputs[0].unwrap();
        graph.output(before);
        graph.fuse().unwrap();
        assert_eq!(graph.skip().unwrap(), 1);
    }
}

//! Residual blocks of a graph: found by how values flow, never by names.
//!
//! ```text
//!          .--------- branch, with weights ---------.
//! input --|                                          Add [--> closing] --> output
//!          '--------- shortcut: nothing, or a path --'
//! ```
//!
//! A shortcut that is nothing is an *identity*: without the block, whoever took its output can take its input. What closes a
//! block is the one operator behind its sum, where it also closed the block before: `Relu` of a network that is rectified
//! behind its sums, the normalization of a transformer that normalizes there.

use std::any::Any;
use std::collections::BTreeMap;

use crate::graph::{Graph, Node, ValueId};
use crate::ops::conv::Conv;
use crate::ops::linear::Linear;
use crate::ops::matmul::{Gemm, MatMul};

/// What a branch does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Branch {
    /// It has convolutions.
    Convolutions,
    /// It multiplies what it computes by what it computes, as attention does.
    Attention,
    /// It has linear layers alone.
    Linear,
}

/// A residual block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Residual {
    /// What it takes.
    pub input: ValueId,
    /// What it gives: the sum, or what closes the block.
    pub output: ValueId,
    /// Whether its shortcut is what it takes, as it is.
    pub identity: bool,
    /// What its branch does.
    pub branch: Branch,
    /// Its nodes, in their order: those that what it takes flows through, the sum and what closes it.
    pub nodes: Vec<usize>,
    /// Which of them is the sum.
    sum: usize,
    /// Who takes a value from within the block, though it is not of the block: a node's name, or none where the value is a
    /// result of the graph.
    pub leak: Option<(ValueId, Option<String>)>,
}

impl Graph {
    /// The residual blocks in the order in which they run; of blocks within blocks the outermost. The graph is sorted, as
    /// [`sort`](Self::sort) leaves it.
    pub fn residuals(&self) -> Vec<Residual> {
        let flow = Flow::new(self);
        let all: Vec<Residual> = (0..self.nodes().len()).filter_map(|at| flow.residual(at)).collect();
        let (identities, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|one| one.identity);
        let within = |one: &Residual, all: &[Residual]| all.iter().any(|other| other.around(one));
        // Sums of another kind, as of scores and masks, are of no block of their own; what goes around blocks is none.
        let around = |one: &Residual, all: &[Residual]| all.iter().any(|other| one.around(other));
        let identities: Vec<Residual> = identities.iter().filter(|one| !within(one, &identities)).cloned().collect();
        let own = |one: &&Residual| !within(one, &identities) && !around(one, &identities) && !around(one, &others);
        let mut found: Vec<Residual> = others.iter().filter(own).cloned().collect();
        found.extend(identities);
        found.sort_by_key(|one| one.sum);
        found
    }
}

impl Residual {
    /// Whether another block's sum is of its nodes.
    fn around(&self, other: &Self) -> bool {
        self.sum != other.sum && self.nodes.contains(&other.sum)
    }
}

/// Who makes each value, and who takes it.
struct Flow<'g> {
    graph: &'g Graph,
    makers: BTreeMap<ValueId, usize>,
    users: BTreeMap<ValueId, Vec<usize>>,
    /// Whether a value hangs on what callers bring.
    live: Vec<bool>,
}

impl<'g> Flow<'g> {
    fn new(graph: &'g Graph) -> Self {
        let mut live = vec![false; graph.values()];
        graph.inputs().iter().for_each(|input| live[input.value.index()] = true);
        for node in graph.nodes() {
            let hangs = node.inputs.iter().flatten().any(|value| live[value.index()]);
            node.outputs.iter().flatten().for_each(|output| live[output.index()] = hangs);
        }
        Self { graph, makers: graph.makers(), users: graph.users(), live }
    }

    fn node(&self, at: usize) -> &'g Node {
        &self.graph.nodes()[at]
    }

    /// The block that ends with node `at`, where that adds two values that hang on inputs.
    fn residual(&self, at: usize) -> Option<Residual> {
        let node = self.node(at);
        if !matches!(node.op.name(), "Add" | "Sum") {
            return None;
        }
        let [Some(a), Some(b)] = node.inputs[..] else { return None };
        if a == b || !self.live[a.index()] || !self.live[b.index()] {
            return None;
        }
        let (behind_a, behind_b) = (self.behind(a), self.behind(b));
        let through = |value: ValueId, behind: &[bool]| self.maker(value).is_none_or(|at| behind[at]);
        let (input, identity, mut nodes) = if through(a, &behind_b) && !self.inside(a, &behind_b).is_empty() {
            (a, true, self.inside(a, &behind_b))
        } else if through(b, &behind_a) && !self.inside(b, &behind_a).is_empty() {
            (b, true, self.inside(b, &behind_a))
        } else {
            let fork = (0..at).rev().find(|at| behind_a[*at] && behind_b[*at])?;
            let input = self.node(fork).outputs.first().copied().flatten()?;
            let mut nodes = [self.inside(input, &behind_a), self.inside(input, &behind_b)].concat();
            nodes.sort_unstable();
            nodes.dedup();
            (input, false, nodes)
        };
        let branch = self.branch(&nodes)?;
        nodes.push(at);
        let sum = node.outputs.first().copied().flatten()?;
        let leak = self.leak(&nodes, sum);
        let closing = self.closing(input, sum);
        nodes.extend(closing);
        let output = closing.map_or(Some(sum), |at| self.node(at).outputs.first().copied().flatten())?;
        Some(Residual { input, output, identity, branch, nodes, sum: at, leak })
    }

    fn maker(&self, value: ValueId) -> Option<usize> {
        self.makers.get(&value).copied()
    }

    /// The nodes that a value is made by, and what these take, and so on.
    fn behind(&self, value: ValueId) -> Vec<bool> {
        let mut seen = vec![false; self.graph.nodes().len()];
        let mut left = vec![value];
        while let Some(value) = left.pop() {
            let Some(at) = self.maker(value).filter(|at| !seen[*at]) else { continue };
            seen[at] = true;
            left.extend(self.node(at).inputs.iter().flatten().copied());
        }
        seen
    }

    /// The nodes of those marked that a value flows through. Its shape is not the value.
    fn inside(&self, from: ValueId, marked: &[bool]) -> Vec<usize> {
        let mut flows = vec![false; self.graph.values()];
        flows[from.index()] = true;
        let mut found = Vec::new();
        let behind = self.maker(from).map_or(0, |at| at + 1);
        for (at, node) in self.graph.nodes().iter().enumerate().skip(behind) {
            let takes = node.inputs.iter().flatten().any(|value| flows[value.index()]);
            if marked[at] && takes && !matches!(node.op.name(), "Shape" | "Size") {
                found.push(at);
                node.outputs.iter().flatten().for_each(|output| flows[output.index()] = true);
            }
        }
        found
    }

    /// What a branch does; none where it has no weights to multiply by.
    fn branch(&self, nodes: &[usize]) -> Option<Branch> {
        let (mut convolves, mut weights, mut attends) = (false, false, false);
        for at in nodes {
            let node = self.node(*at);
            let op: &dyn Any = &*node.op;
            let live = |at: usize| node.inputs.get(at).copied().flatten().is_some_and(|value| self.live[value.index()]);
            attends |= node.op.name().contains("Attention");
            if op.is::<Conv>() || op.is::<Gemm>() || op.is::<MatMul>() || op.is::<Linear>() {
                let both = live(0) && live(1);
                convolves |= op.is::<Conv>();
                attends |= both;
                weights |= !both;
            }
        }
        match (convolves, attends) {
            (true, _) => Some(Branch::Convolutions),
            (_, true) => (weights || attends).then_some(Branch::Attention),
            _ => weights.then_some(Branch::Linear),
        }
    }

    /// Who takes a value of these nodes but they themselves and whoever takes the sum.
    fn leak(&self, nodes: &[usize], sum: ValueId) -> Option<(ValueId, Option<String>)> {
        let made = nodes.iter().flat_map(|at| self.node(*at).outputs.iter().flatten()).filter(|value| **value != sum);
        made.copied().find_map(|value| {
            let users = self.users.get(&value)?;
            if users.contains(&usize::MAX) {
                return Some((value, None));
            }
            let other = users.iter().find(|at| !nodes.contains(at))?;
            Some((value, Some(self.node(*other).name.clone())))
        })
    }

    /// The one node that takes a sum, where it does what made the block's input.
    fn closing(&self, input: ValueId, sum: ValueId) -> Option<usize> {
        let [one] = self.users.get(&sum)?[..] else { return None };
        let (before, node) = (self.maker(input)?, self.graph.nodes().get(one)?);
        let same = self.node(before).op.name() == node.op.name();
        let whole = node.inputs.first() == Some(&Some(sum));
        let shapes = matches!(node.op.name(), "Relu" | "LayerNormalization" | "RMSNormalization");
        (same && whole && shapes).then_some(one)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;
    use crate::attributes::{Attribute, Definition};
    use crate::tensor::Tensor;
    use crate::{Executor, Run, ops};

    /// A graph that grows node by node.
    #[derive(Default)]
    struct Net(Graph);

    impl Net {
        fn node(&mut self, op: &str, name: &str, inputs: &[ValueId]) -> ValueId {
            let pads = ("pads".to_owned(), Attribute::Ints(vec![1; 4]));
            let attributes = if op == "Conv" { [pads].into() } else { [].into() };
            let definition = Definition {
                op: op.into(),
                opset: 20,
                inputs: inputs.len(),
                outputs: 1,
                attributes,
                ..Definition::default()
            };
            let op = ops::build(&definition).unwrap().unwrap();
            let output = self.0.value(name);
            let inputs = inputs.iter().copied().map(Some).collect();
            self.0.push(Node { name: name.to_owned(), op, inputs, outputs: vec![Some(output)] });
            output
        }

        fn weight(&mut self, shape: &[usize]) -> ValueId {
            let all = (0..shape.iter().product()).map(|at| (at * 37 % 11) as f32 / 11.0 - 0.4).collect();
            self.0.weight("w", Tensor::of(shape, all).unwrap())
        }

        fn conv(&mut self, x: ValueId, name: &str, kernel: usize) -> ValueId {
            let weight = self.weight(&[2, 2, kernel, kernel]);
            self.node("Conv", name, &[x, weight])
        }

        fn linear(&mut self, x: ValueId, name: &str) -> ValueId {
            let weight = self.weight(&[4, 4]);
            self.node("MatMul", name, &[x, weight])
        }

        fn done(mut self, output: ValueId) -> Graph {
            self.0.output(output);
            self.0.sort().unwrap();
            self.0
        }
    }

    /// A stem, a block whose shortcut has a convolution, and one whose shortcut is nothing; both rectified behind the sum.
    fn rectified() -> Graph {
        let mut net = Net::default();
        let x = net.0.input("x", None, None);
        let stem = net.conv(x, "stem", 3);
        let mut x = net.node("Relu", "x0", &[stem]);
        for block in ["one", "two"] {
            let name = |what: &str| format!("{block}.{what}");
            let y = net.conv(x, &name("a"), 3);
            let y = net.node("Relu", &name("b"), &[y]);
            let y = net.conv(y, &name("c"), 3);
            let short = if block == "one" { net.conv(x, &name("short"), 3) } else { x };
            let sum = net.node("Add", &name("sum"), &[y, short]);
            x = net.node("Relu", &name("out"), &[sum]);
        }
        net.done(x)
    }

    fn names(graph: &Graph, block: &Residual) -> Vec<String> {
        block.nodes.iter().map(|at| graph.nodes()[*at].name.clone()).collect()
    }

    #[test]
    fn blocks_are_found_with_their_shortcuts_and_what_closes_them() {
        let graph = rectified();
        let found = graph.residuals();
        let short: Vec<_> = found.iter().map(|b| (graph.name(b.input), graph.name(b.output), b.identity)).collect();
        assert_eq!(short, [("x0", "one.out", false), ("one.out", "two.out", true)]);
        assert_eq!(names(&graph, &found[1]), ["two.a", "two.b", "two.c", "two.sum", "two.out"]);
        assert_eq!(names(&graph, &found[0]).len(), 6);
        assert!(found.iter().all(|block| block.branch == Branch::Convolutions && block.leak.is_none()));
    }

    #[test]
    fn a_block_is_bypassed_and_its_nodes_and_weights_go() {
        let mut graph = rectified();
        let block = graph.residuals().remove(1);
        graph.bypass(block.output, block.input);
        graph.sort().unwrap();
        assert!(graph.nodes().iter().all(|node| !node.name.starts_with("two")));
        assert_eq!((graph.weights().count(), graph.residuals().len()), (4, 1));
        assert_eq!(graph.name(graph.outputs()[0]), "one.out");
        let x = Tensor::of([1, 2, 4, 4], (0..32).map(|x| x as f32 / 9.0).collect()).unwrap();
        let y = Executor::new(graph).unwrap().run(vec![x], Run::default()).unwrap().outputs.remove(0);
        assert_eq!(y.shape(), [1, 2, 4, 4]);
    }

    #[test]
    fn halves_of_transformers_are_blocks_and_what_is_in_them_is_not() {
        let mut net = Net::default();
        let x = net.0.input("x", None, None);
        let mask = net.0.input("mask", None, None);
        let x = net.linear(x, "embedded");
        let q = net.linear(x, "q");
        let k = net.linear(x, "k");
        let scores = net.node("MatMul", "scores", &[q, k]);
        // Neither the mask nor what activations add up is a shortcut.
        let masked = net.node("Add", "masked", &[scores, mask]);
        let attended = net.node("MatMul", "attended", &[masked, x]);
        let half = net.node("Add", "half", &[x, attended]);
        let up = net.linear(half, "up");
        let cube = net.node("Mul", "cube", &[up, up]);
        let bent = net.node("Add", "bent", &[up, cube]);
        let down = net.linear(bent, "down");
        let whole = net.node("Add", "whole", &[down, half]);
        let graph = net.done(whole);
        let found = graph.residuals();
        let short: Vec<_> = found.iter().map(|b| (graph.name(b.input), graph.name(b.output), b.branch)).collect();
        let expected = [("embedded", "half", Branch::Attention), ("half", "whole", Branch::Linear)];
        assert_eq!(short, expected);
        assert!(found.iter().all(|block| block.identity && block.leak.is_none()));
    }

    #[test]
    fn a_value_from_within_that_is_used_elsewhere_is_said() {
        let mut net = Net::default();
        let x = net.0.input("x", None, None);
        let inner = net.conv(x, "inner", 3);
        let y = net.conv(inner, "y", 3);
        let sum = net.node("Add", "sum", &[y, x]);
        let other = net.node("Sigmoid", "other", &[inner]);
        let end = net.node("Mul", "end", &[sum, other]);
        let mut graph = net.done(end);
        let leak = |graph: &Graph| graph.residuals()[0].leak.clone();
        assert_eq!(leak(&graph), Some((inner, Some("other".to_owned()))));
        graph.output(y);
        graph.output(inner);
        assert_eq!(leak(&graph), Some((inner, None)));
        // A network without sums has no blocks, nor has one whose sums have no weights between.
        assert_eq!(Graph::default().residuals(), []);
    }
}

//! Residual blocks of an ONNX model.

mod remove;
mod scores;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Instant;

use niwaki_model::{Branch, Executor, Graph, Node, Residual, Run, Tensor, ValueId};
use niwaki_prune::layers::{Removable, Seat};

use super::of_selection;
use crate::error::{Error, ErrorKind};
use crate::inspect::example;
use crate::mask::Product;
use crate::model::Model;
pub use remove::Written;

/// Passes by which the time of one is measured: so many, or as many as there is time for, but some.
const TIMED: usize = 21;
const LEAST: usize = 3;
const ENOUGH: f64 = 0.5;

/// A block of a network.
#[derive(Clone, Debug)]
pub struct Block {
    /// What it does: `convolutions`, `attention`, `linear`, or `transformer` for the halves of one together.
    pub what: &'static str,
    /// The stage that it is of: neighbours whose outputs have one shape.
    pub stage: usize,
    /// Whether its shortcut is nothing but what it takes.
    pub identity: bool,
    /// Multiplications that are followed by an addition, of convolutions and linear layers, for one example.
    pub macs: u64,
    /// Weights, normalizations and biases included.
    pub weights: u64,
    input: ValueId,
    output: ValueId,
    /// The weights of its convolutions and linear layers.
    products: Vec<ValueId>,
    /// Who takes a value from within it.
    leak: Option<String>,
}

/// What one example costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Multiplications that are followed by an addition, of convolutions and linear layers.
    pub macs: u64,
    /// Weights: all floats that nodes take.
    pub weights: u64,
    /// The most bytes that values took at any time, weights aside.
    pub peak_bytes: u64,
    /// The median time of a pass, in seconds.
    pub seconds: f64,
}

/// An ONNX model and its blocks.
#[derive(Debug)]
pub struct Network {
    model: Model,
    blocks: Vec<Block>,
}

impl Network {
    /// Finds the blocks of an ONNX model; those of transformers by their `halves` where that is asked for.
    ///
    /// # Errors
    ///
    /// Those of [`Model::open`] and of running it on zeros; a plain network, which has no blocks.
    pub fn open(path: &Path, halves: bool) -> Result<Self, Error> {
        let model = Model::open(path)?;
        let graph = model.graph();
        let found = graph.residuals();
        if found.is_empty() {
            let what = "a plain network: no branch with weights is added to what it takes, so there is no block";
            return Err(Error::from(ErrorKind::Unlike { what: what.to_owned() }).at(path));
        }
        let sizes = Sizes::of(&model)?;
        let mut blocks: Vec<Block> = Vec::new();
        let mut shape: Option<&[usize]> = None;
        for residual in &found {
            let block = sizes.block(graph, residual);
            let joined = !halves && residual.branch == Branch::Linear;
            match blocks.last_mut() {
                Some(last) if joined && last.what == "attention" && last.output == block.input => last.join(block),
                last => {
                    let stage = last.map_or(0, |last| last.stage);
                    let now = sizes.shapes.get(&residual.output).map(Vec::as_slice);
                    let changes = shape.is_some() && shape != now;
                    shape = now;
                    blocks.push(Block { stage: stage + usize::from(changes), ..block });
                }
            }
        }
        Ok(Self { model, blocks })
    }

    /// The blocks in the order in which they run.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// Whether any of them has convolutions.
    pub(super) fn convolves(&self) -> bool {
        self.blocks.iter().any(|block| block.what == "convolutions")
    }

    /// The blocks as choices see them.
    pub(super) fn seats(&self) -> Vec<Seat> {
        let seat = |block: &Block| Seat { stage: block.stage, identity: block.may_go() };
        self.blocks.iter().map(seat).collect()
    }

    /// Whether these blocks may go together, and why not.
    pub(super) fn check(&self, removed: &[usize], removable: Removable) -> Result<(), Error> {
        let unlike = |what: String| Err(Error::from(ErrorKind::Unlike { what }).at(self.model.path()));
        for (at, block) in removed.iter().filter_map(|at| Some((*at, self.blocks.get(*at)?))) {
            if !block.identity {
                return unlike(format!("block {at} changes what it takes on both ways: nothing can take its place"));
            }
            if let Some(who) = &block.leak {
                return unlike(format!("block {at} cannot go: a value from within is used elsewhere, by {who}"));
            }
        }
        removable.check(&self.seats(), removed).map_err(|e| {
            let hint = match removable {
                Removable::Any => None,
                _ => Some("`--rule any` lets all blocks go whose shortcut is what they take"),
            };
            let e = of_selection(&e, self.model.path());
            hint.into_iter().fold(e, Error::hinting)
        })
    }

    /// The graph without these blocks.
    fn without(&self, removed: &[usize]) -> Graph {
        let mut graph = self.model.graph().clone();
        for (value, by) in self.bypasses(removed) {
            graph.bypass(value, by);
        }
        graph
    }

    /// What these blocks give, and what is taken instead when they go.
    fn bypasses(&self, removed: &[usize]) -> BTreeMap<ValueId, ValueId> {
        let mut found = BTreeMap::new();
        for (_, block) in self.blocks.iter().enumerate().filter(|(at, _)| removed.contains(at)) {
            let by = found.get(&block.input).copied().unwrap_or(block.input);
            found.insert(block.output, by);
        }
        found
    }

    /// What one example costs without these blocks, measured on zeros.
    ///
    /// # Errors
    ///
    /// Those of running.
    pub fn cost(&self, removed: &[usize]) -> Result<Cost, Error> {
        let model = self.model.with(self.without(removed));
        let executor = model.executor()?;
        let mut sorted = model.graph().clone();
        let at = |e: niwaki_model::Error| Error::from(e.at(self.model.path()));
        sorted.sort().map_err(at)?;
        let floats = |(_, tensor): (ValueId, &Tensor)| if is_float(tensor) { tensor.len() as u64 } else { 0 };
        let weights = sorted.weights().map(floats).sum();
        let inputs = inputs(&model)?;
        let pass = || executor.run(inputs.clone(), Run::default()).map_err(at);
        let first = pass()?;
        let mut seconds = Vec::with_capacity(TIMED);
        let begin = Instant::now();
        while seconds.len() < LEAST || seconds.len() < TIMED && begin.elapsed().as_secs_f64() < ENOUGH {
            let start = Instant::now();
            pass()?;
            seconds.push(start.elapsed().as_secs_f64());
        }
        seconds.sort_by(f64::total_cmp);
        Ok(Cost {
            macs: first.macs,
            weights,
            peak_bytes: first.peak_bytes as u64,
            seconds: seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN),
        })
    }
}

impl Block {
    /// Whether what it takes can take its place: what is used elsewhere is as good as no identity.
    fn may_go(&self) -> bool {
        self.identity && self.leak.is_none()
    }

    /// Adds the half behind this one.
    fn join(&mut self, next: Self) {
        self.what = "transformer";
        self.identity &= next.identity;
        self.macs += next.macs;
        self.weights += next.weights;
        self.output = next.output;
        self.products.extend(next.products);
        self.leak = self.leak.take().or(next.leak);
    }
}

fn is_float(tensor: &Tensor) -> bool {
    use niwaki_model::Dtype;
    matches!(tensor.dtype(), Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::F64)
}

/// Zeros that a model takes.
fn inputs(model: &Model) -> Result<Vec<Tensor>, Error> {
    let unlike = |what: String| Error::from(ErrorKind::Unlike { what }).at(model.path());
    Ok(example(model.graph()).map_err(unlike)?.0)
}

/// The shapes of all values for one example.
struct Sizes {
    shapes: BTreeMap<ValueId, Vec<usize>>,
}

impl Sizes {
    fn of(model: &Model) -> Result<Self, Error> {
        let at = |e: niwaki_model::Error| Error::from(e.at(model.path()));
        let mut shapes = BTreeMap::new();
        let mut observe = |value: ValueId, tensor: &Tensor| {
            shapes.insert(value, tensor.shape().to_vec());
        };
        let executor = Executor::new(model.graph().clone()).map_err(at)?;
        executor.run(inputs(model)?, Run { observe: Some(&mut observe), ..Run::default() }).map_err(at)?;
        for (value, tensor) in model.graph().weights() {
            shapes.insert(value, tensor.shape().to_vec());
        }
        Ok(Self { shapes })
    }

    fn shape(&self, value: Option<ValueId>) -> Option<&[usize]> {
        self.shapes.get(&value?).map(Vec::as_slice)
    }

    /// Multiplications of a node.
    fn macs(&self, node: &Node) -> u64 {
        let inputs: Vec<Option<&[usize]>> = node.inputs.iter().map(|value| self.shape(*value)).collect();
        let outputs: Vec<&[usize]> = node.outputs.iter().map(|value| self.shape(*value).unwrap_or(&[])).collect();
        node.op.macs(&inputs, &outputs)
    }

    fn block(&self, graph: &Graph, residual: &Residual) -> Block {
        let nodes: Vec<&Node> = residual.nodes.iter().filter_map(|at| graph.nodes().get(*at)).collect();
        let weight = |value: &ValueId| graph.constant(*value).is_some_and(is_float);
        let own: BTreeSet<ValueId> =
            nodes.iter().flat_map(|node| node.inputs.iter().flatten()).copied().filter(weight).collect();
        let count = |value: &ValueId| graph.constant(*value).map_or(0, |tensor| tensor.len() as u64);
        let same = self.shapes.get(&residual.input) == self.shapes.get(&residual.output);
        let who = |(value, node): &(ValueId, Option<String>)| match node {
            Some(node) => format!("`{node}`"),
            None => format!("the result `{}`", graph.name(*value)),
        };
        let result = graph.outputs().contains(&residual.output);
        let leak = residual.leak.as_ref().map(who);
        Block {
            what: match residual.branch {
                Branch::Convolutions => "convolutions",
                Branch::Attention => "attention",
                Branch::Linear => "linear",
            },
            stage: 0,
            identity: residual.identity && same,
            macs: nodes.iter().map(|node| self.macs(node)).sum(),
            weights: own.iter().map(count).sum(),
            input: residual.input,
            output: residual.output,
            products: nodes
                .iter()
                .filter_map(|node| Product::of(node))
                .map(|product| product.weight)
                .filter(|value| weight(value))
                .collect(),
            leak: leak.or_else(|| result.then(|| format!("the result `{}`", graph.name(residual.output)))),
        }
    }
}

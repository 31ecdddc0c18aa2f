//! From nodes to steps.
//!
//! ```text
//! Conv, Gemm, MatMul [+ a bias] [+ a value that nobody else takes any more] [Relu, Clip]     one step
//! Add [Relu, Clip]                        onto whichever value nobody else takes any more
//! MaxPool, AveragePool, GlobalAveragePool, GlobalMaxPool, ReduceMean over the image, Softmax
//! BatchNormalization                      a convolution of each channel by itself, where no weights before it can have it
//! Relu, Clip                              of their own where nothing before them can do it
//! Reshape, Flatten, Squeeze, Unsqueeze    nothing: values lie as they do
//! Slice of every n-th row and column      a pool of windows of one place
//! Pad of channels                         a convolution with a matrix of zeros and ones
//! ```
//!
//! Values lie channels last; the weights of a linear layer behind a flattened image are put in that order.

use std::collections::BTreeMap;

use niwaki_image::{Onto, Work};
use niwaki_model::ops::binary::{Binary, Operation};
use niwaki_model::ops::conv::Conv;
use niwaki_model::ops::matmul::{Gemm, MatMul};
use niwaki_model::ops::normalize::BatchNormalization;
use niwaki_model::ops::pool::{AveragePool, GlobalPool, MaxPool};
use niwaki_model::ops::reduce::{Reduce, Reduction};
use niwaki_model::ops::softmax::{Kind, Softmax};
use niwaki_model::{Node, ValueId};

use super::graph::{Ready, as_a, ends};
use super::grid::{Grid, MOST, times16};
use super::plan::{Held, Plan};
use super::weights::Codes;
use crate::error::{Error, ErrorKind};
use crate::stats::Stats;

/// What became of a node: done, or why it cannot be.
pub(super) type Done = Result<Option<&'static str>, Error>;

/// The ends of all numbers.
pub(super) const ALL: (f32, f32) = (f32::NEG_INFINITY, f32::INFINITY);

/// Nodes becoming steps.
pub(crate) struct Lowering<'l> {
    pub(super) ready: &'l Ready,
    pub(super) stats: &'l Stats,
    pub(super) codes: Codes,
    pub(super) held: BTreeMap<ValueId, Held>,
    /// Nodes that are steps, or parts of some.
    pub(super) done: Vec<bool>,
    pub(super) plan: Plan,
}

/// What follows a node and is done with it.
pub(super) struct Tail {
    /// The value that comes out.
    pub(super) value: ValueId,
    /// Between which numbers.
    pub(super) ends: (f32, f32),
    /// What is added.
    pub(super) onto: Option<Held>,
    /// A constant that is added to each channel.
    pub(super) bias: Option<ValueId>,
}

impl<'l> Lowering<'l> {
    /// Makes a plan of a graph: the plan, its input and its output.
    ///
    /// # Errors
    ///
    /// Nodes that no step does, all in one error; values of which the statistics say nothing; weights that are no numbers.
    pub(crate) fn plan(ready: &'l Ready, stats: &'l Stats, codes: Codes) -> Result<(Plan, Held, Held), Error> {
        let done = vec![false; ready.graph.nodes().len()];
        let mut lowering = Self { ready, stats, codes, held: BTreeMap::new(), done, plan: Plan::default() };
        let unlike = |what: &str| Error::from(ErrorKind::Unlike { what: what.to_owned() });
        let given = ready.graph.inputs().first().map(|input| input.value);
        let given = given.ok_or_else(|| unlike("a model without inputs"))?;
        let shape = ready.shape(given).ok_or_else(|| unlike("an input that is no image"))?;
        let input = Held { room: lowering.plan.room(shape), shape, grid: Grid::of(lowering.ends_of(given)?) };
        lowering.held.insert(given, input);
        let mut missing = Vec::new();
        for at in 0..lowering.done.len() {
            if lowering.done[at] {
                continue;
            }
            lowering.done[at] = true;
            let node = ready.node(at);
            // What a node takes that could not be done is not there, and was said already.
            let there = |value: &ValueId| lowering.held.contains_key(value) || ready.graph.constant(*value).is_some();
            if !node.inputs.iter().flatten().all(there) {
                continue;
            }
            if let Some(why) = lowering.node(at, node)? {
                missing.push(format!("`{}` ({}{why})", node.name, node.op.name()));
            }
        }
        if !missing.is_empty() {
            let what = format!("a device image of nodes {}", missing.join(", "));
            return Err(ErrorKind::Unsupported { what }.into());
        }
        let output = ready.graph.outputs().first().and_then(|output| lowering.held.get(output)).copied();
        let output = output.ok_or_else(|| unlike("an output that no node makes"))?;
        Ok((lowering.plan, input, output))
    }

    fn node(&mut self, at: usize, node: &Node) -> Done {
        let Some((input, output)) = ends(node) else { return Ok(Some(": without an input")) };
        if self.ready.shape(output).is_none() {
            return Ok(Some(": neither an image nor a row of numbers"));
        }
        if matches!(as_a::<Binary>(node), Some(Binary { operation: Operation::Add })) {
            return self.sum(at, node);
        }
        let Some(held) = self.held.get(&input).copied() else { return Ok(Some(": of a constant")) };
        if let Some(conv) = as_a::<Conv>(node) {
            return self.conv(at, node, conv, held);
        }
        if as_a::<Gemm>(node).is_some() || as_a::<MatMul>(node).is_some() {
            return self.linear(at, node, held);
        }
        if let Some(norm) = as_a::<BatchNormalization>(node) {
            return self.norm(at, node, norm, held);
        }
        if let Some(pool) = as_a::<MaxPool>(node) {
            let spans = pool.windows(self.ready.dims(input).get(2..).unwrap_or_default());
            return self.most(at, held, spans.ok());
        }
        if let Some(pool) = as_a::<AveragePool>(node) {
            let spans = pool.windows(self.ready.dims(input).get(2..).unwrap_or_default());
            return self.average(at, held, spans.ok(), pool.counts_padding());
        }
        if let Some(pool) = as_a::<GlobalPool>(node) {
            return match pool {
                GlobalPool::Average => self.mean(at, held),
                GlobalPool::Max => self.most(at, held, None),
                GlobalPool::Lp(_) => Ok(Some("")),
            };
        }
        if let Some(reduce) = as_a::<Reduce>(node) {
            let over_image = self.over_image(node, reduce);
            return if over_image { self.mean(at, held) } else { Ok(Some(": only means of whole images")) };
        }
        if let Some(softmax) = as_a::<Softmax>(node) {
            let last = self.ready.dims(input).len() == 2 && matches!(softmax.axis, 1 | -1);
            let plain = softmax.kind == Kind::Softmax && last;
            return if plain { self.softmax(held, output) } else { Ok(Some(": only softmax over classes")) };
        }
        if let Some(ends) = self.ready.graph.clamp(node) {
            return self.clamped(held, output, ends);
        }
        self.moved(node, held, (input, output))
    }

    /// Whether a reduction is the mean over rows and columns.
    fn over_image(&self, node: &Node, reduce: &Reduce) -> bool {
        let given = self.ready.constant(node, 1).and_then(|axes| axes.get::<i64>());
        let axes = reduce.axes.as_deref().or(given).unwrap_or_default();
        let rank = node.inputs.first().copied().flatten().map_or(0, |value| self.ready.dims(value).len());
        let mut axes: Vec<i64> = axes.iter().map(|axis| if *axis < 0 { axis + rank as i64 } else { *axis }).collect();
        axes.sort_unstable();
        rank == 4 && axes == [2, 3] && reduce.reduction == Reduction::Mean
    }

    /// The least and the greatest number of a value.
    pub(super) fn ends_of(&self, value: ValueId) -> Result<[f32; 2], Error> {
        let name = self.ready.graph.name(value);
        self.stats.value(name).ok_or_else(|| {
            let what = format!("nothing of value `{name}`");
            let error = Error::from(ErrorKind::Unlike { what }).at(self.stats.path());
            error.hinting("`calibrate` of this version, on this model, says how far values reach")
        })
    }

    /// Whether nodes other than those of `except` still take what lies in a room.
    fn taken(&self, room: usize, except: usize) -> bool {
        let lies = |value: &ValueId| self.held.get(value).is_some_and(|held| held.room == room);
        let waits =
            |(at, node): (usize, &Node)| at != except && !self.done[at] && node.inputs.iter().flatten().any(lies);
        self.ready.graph.outputs().iter().any(lies) || self.ready.graph.nodes().iter().enumerate().any(waits)
    }

    /// The nodes behind a node that are done with it: `rows` channels come out, and `input` goes in.
    pub(super) fn tail(&mut self, at: usize, (rows, input): (usize, Option<Held>)) -> Tail {
        let value = self.ready.node(at).outputs.first().copied().flatten();
        let mut tail =
            Tail { value: value.unwrap_or(self.ready.graph.outputs()[0]), ends: ALL, onto: None, bias: None };
        while let Some(user) = self.ready.only_user(tail.value) {
            let node = self.ready.node(user);
            let Some((_, output)) = ends(node) else { break };
            if let Some(clamp) = self.ready.graph.clamp(node) {
                (self.done[user], tail.value, tail.ends) = (true, output, clamp);
                break;
            }
            let adds = matches!(as_a::<Binary>(node), Some(Binary { operation: Operation::Add }));
            let Some(input) = input.filter(|_| adds && tail.onto.is_none()) else { break };
            let other = node.inputs.iter().flatten().copied().find(|other| *other != tail.value);
            let Some(other) = other.filter(|_| self.ready.shape(output) == self.ready.shape(tail.value)) else { break };
            if self.is_bias(other, tail.value, rows) && tail.bias.is_none() {
                tail.bias = Some(other);
            } else if let Some(held) = self.held.get(&other).copied()
                && Some(held.shape) == self.ready.shape(tail.value)
                && held.room != input.room
                && !self.taken(held.room, user)
            {
                tail.onto = Some(held);
            } else {
                break;
            }
            (self.done[user], tail.value) = (true, output);
        }
        tail
    }

    /// Whether a constant has a number for each channel of a value.
    fn is_bias(&self, constant: ValueId, value: ValueId, rows: usize) -> bool {
        let Some(tensor) = self.ready.graph.constant(constant) else { return false };
        let behind = self.ready.dims(value).len().saturating_sub(2);
        let channel = tensor.shape().len().checked_sub(1 + behind).and_then(|axis| tensor.shape().get(axis));
        tensor.len() == rows && channel == Some(&rows) && tensor.get::<f32>().is_some()
    }

    /// A grid for a value, of steps no finer than `least` or a sixty-fourth of what is added.
    pub(super) fn grid(&self, value: ValueId, least: f64, added: &[Held]) -> Result<Grid, Error> {
        let added = added.iter().map(|held| f64::from(held.grid.scale) * (1.0 + 1e-6) / MOST);
        Ok(Grid::no_finer(self.ends_of(value)?, added.fold(least, f64::max)))
    }

    /// A sum of two values, onto one of them.
    fn sum(&mut self, at: usize, node: &Node) -> Done {
        let [Some(a), Some(b)] = [0, 1].map(|place| Some(*self.held.get(&node.inputs.get(place).copied()??)?)) else {
            return Ok(Some(": of a constant"));
        };
        if a.shape != b.shape {
            return Ok(Some(": of values of different shapes"));
        }
        let free = |onto: Held, input: Held| onto.room != input.room && !self.taken(onto.room, at);
        let (onto, input) = match (free(a, b), free(b, a)) {
            (true, _) => (a, b),
            (_, true) => (b, a),
            _ => {
                let copy = Held { room: self.plan.room(a.shape), ..a };
                self.plan.step(a, copy, (i8::MIN, i8::MAX), Work::Rescale { times: 65536 });
                (copy, b)
            }
        };
        let tail = self.tail(at, (0, None));
        let grid = self.grid(tail.value, 0.0, &[onto, input])?;
        let [times, more] = [input, onto].map(|held| steps16(held.grid, grid));
        let output = Held { grid, ..onto };
        let work = Work::Add { times: times?, onto: Onto { zero: onto.grid.zero, times: more? } };
        self.plan.step(input, output, grid.codes(tail.ends), work);
        self.held.insert(tail.value, output);
        Ok(None)
    }

    /// Values between two ends, on a grid of their own.
    fn clamped(&mut self, input: Held, value: ValueId, ends: (f32, f32)) -> Done {
        let grid = self.grid(value, 0.0, &[input])?;
        let output = Held { room: self.plan.room(input.shape), shape: input.shape, grid };
        self.plan.step(input, output, grid.codes(ends), Work::Rescale { times: steps16(input.grid, grid)? });
        self.held.insert(value, output);
        Ok(None)
    }
}

/// Steps of one grid in one of another.
///
/// # Errors
///
/// More than 64 of them: [`Lowering::grid`] makes sure that there are not.
pub(super) fn steps16(from: Grid, to: Grid) -> Result<i32, Error> {
    let what = || ErrorKind::Unsupported { what: "a value that is added to one 64 times as fine".to_owned() };
    Ok(times16(f64::from(from.scale) / f64::from(to.scale)).ok_or_else(what)?)
}

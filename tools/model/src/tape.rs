//! Runs a graph forward and takes gradients back.
//!
//! The way there keeps what the way back looks at. Where that does not fit in memory, the nodes are
//! cut into segments ([`Tape::fit`]): only what goes from segment to segment is kept, and the rest is
//! computed once more on the way back, to the same bits (Chen et al., *Training Deep Nets with Sublinear
//! Memory Cost*, 2016).

mod back;
mod meter;
mod segments;

use std::ops::Range;
use std::sync::Arc;

use crate::error::{Error, ErrorKind};
use crate::execute::{Observer, check, last_uses, place, prepared, taken};
use crate::graph::{Graph, ValueId};
use crate::operator::{Context, Inputs, Operator, Pool};
use crate::reverse::{Keeps, Reverse, Seen};
use crate::tensor::Tensor;
use meter::Meter;

/// A graph made ready to run forward and back.
#[derive(Debug)]
pub struct Tape {
    graph: Graph,
    /// The operator of each node, made ready for the inputs that never change.
    ready: Vec<Arc<dyn Operator>>,
    /// For each node the values that nobody takes after it.
    last: Vec<Vec<ValueId>>,
    /// What gradients are wanted of.
    wanted: Vec<ValueId>,
    /// For each value whether a gradient of it is computed.
    needs: Vec<bool>,
    /// For each node what the way back looks at; none where no gradient goes.
    keeps: Vec<Option<Keeps>>,
    stops: Vec<Stop>,
    /// Where the segments begin, and the number of nodes.
    bounds: Vec<usize>,
    /// For each segment the values made before it that it takes.
    entries: Vec<Vec<ValueId>>,
    limit: u64,
    pool: Pool,
}

/// A node at which gradients end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// Its name.
    pub node: String,
    /// Its operator.
    pub op: &'static str,
}

/// What the way there left for the way back.
#[derive(Debug)]
pub struct Forward {
    /// The results, in the graph's order.
    pub outputs: Vec<Tensor>,
    /// Multiplications that are followed by an addition, of convolutions and products of matrices.
    pub macs: u64,
    /// Of the last segment, by node.
    saved: Vec<Option<Saved>>,
    /// What each segment took of those before it.
    entries: Vec<Vec<Tensor>>,
    meter: Meter,
}

/// What came of the way back.
#[derive(Debug)]
pub struct Back {
    /// The gradients of the values that were wanted, in that order; none where the results do not change
    /// with a value.
    pub gradients: Vec<Option<Tensor>>,
    /// The most bytes that values and gradients took at any time of the way there and back, weights
    /// aside.
    pub peak_bytes: usize,
}

/// What a node took and made.
#[derive(Debug)]
struct Saved {
    inputs: Vec<Option<Seen>>,
    outputs: Vec<Seen>,
}

/// What nodes are run with.
struct Way<'w> {
    values: Vec<Option<Tensor>>,
    /// What the way back needs, where that is kept.
    saved: Option<Vec<Option<Saved>>>,
    observe: Option<Observer<'w>>,
    meter: Meter,
    macs: u64,
}

impl Tape {
    /// Makes a graph ready for the gradients of its outputs with respect to `wanted`: weights, inputs,
    /// values in between. What never changes, `wanted` aside, is computed ahead.
    ///
    /// # Errors
    ///
    /// Those of [`Graph::fold`]; operators that gradients would have to pass and cannot, all of them in
    /// one error; weights that do not fit their nodes.
    pub fn new(mut graph: Graph, wanted: Vec<ValueId>) -> Result<Self, Error> {
        graph.fold_around(&wanted)?;
        let mut needs = vec![false; graph.values()];
        wanted.iter().for_each(|value| needs[value.index()] = true);
        let (mut keeps, mut stops, mut missing) = (Vec::new(), Vec::new(), Vec::new());
        for node in graph.nodes() {
            let asked: Vec<bool> = node.inputs.iter().map(|v| v.is_some_and(|v| needs[v.index()])).collect();
            let flows = match node.op.reverse() {
                _ if !asked.contains(&true) => None,
                Reverse::Flows(back) => Some(back.keeps(&asked)),
                Reverse::Stops => {
                    stops.push(Stop { node: node.name.clone(), op: node.op.name() });
                    None
                }
                Reverse::Missing => {
                    missing.push((node.name.clone(), node.op.name().to_owned()));
                    None
                }
            };
            if flows.is_some() {
                node.outputs.iter().flatten().for_each(|value| needs[value.index()] = true);
            }
            keeps.push(flows);
        }
        if !missing.is_empty() {
            return Err(ErrorKind::NoWayBack(missing).into());
        }
        let ready = prepared(&graph, &wanted)?;
        let last = last_uses(&graph);
        let bounds = vec![0, graph.nodes().len()];
        let pool = Pool::default();
        Ok(Self {
            graph,
            ready,
            last,
            wanted,
            needs,
            keeps,
            stops,
            bounds,
            entries: vec![Vec::new()],
            limit: 16 << 30,
            pool,
        })
    }

    /// The graph, with the weights as they are.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The values whose gradients are computed.
    pub fn wanted(&self) -> &[ValueId] {
        &self.wanted
    }

    /// The nodes at which gradients end, in order.
    pub fn stops(&self) -> &[Stop] {
        &self.stops
    }

    /// A weight, to be changed: one of those whose gradients are wanted.
    pub fn weight_mut(&mut self, value: ValueId) -> Option<&mut Tensor> {
        if self.wanted.contains(&value) { self.graph.weight_mut(value) } else { None }
    }

    /// Gives a weight other elements, such as running statistics. Weights that nodes have made
    /// themselves ready for are not to be changed so; those of `BatchNormalization` are none of them.
    pub fn set_weight(&mut self, value: ValueId, tensor: Tensor) {
        self.graph.set_weight(value, tensor);
    }

    /// Runs forward on inputs in the graph's order, and keeps what the way back needs.
    ///
    /// # Errors
    ///
    /// Inputs that do not fit, and whatever a node refuses.
    pub fn forward(&self, inputs: Vec<Tensor>, observe: Option<Observer<'_>>) -> Result<Forward, Error> {
        check(&self.graph, &inputs)?;
        let mut entries = Vec::with_capacity(self.entries.len());
        let mut way = Way { values: self.start(inputs), saved: None, observe, meter: Meter::default(), macs: 0 };
        way.values.iter().flatten().for_each(|tensor| way.meter.hold(tensor));
        if let Some(observe) = &mut way.observe {
            for input in self.graph.inputs() {
                way.values[input.value.index()].iter().for_each(|tensor| observe(input.value, tensor));
            }
        }
        let last = self.entries.len() - 1;
        for (nth, taken) in self.entries.iter().enumerate() {
            let mut kept = Vec::new();
            if nth < last {
                kept.extend(taken.iter().filter_map(|value| way.values[value.index()].clone()));
                kept.iter().for_each(|tensor| way.meter.hold(tensor));
            } else {
                way.saved = Some(self.nothing_saved());
            }
            entries.push(kept);
            self.run(self.bounds[nth]..self.bounds[nth + 1], &mut way)?;
        }
        let output = |value: &ValueId| {
            let found = way.values[value.index()].clone().or_else(|| self.graph.constant(*value).cloned());
            found.ok_or_else(|| ErrorKind::Undefined { value: self.graph.name(*value).to_owned() }.into())
        };
        let outputs = self.graph.outputs().iter().map(output).collect::<Result<Vec<_>, Error>>()?;
        self.clear(&mut way);
        let Way { saved, meter, macs, .. } = way;
        Ok(Forward { outputs, macs, saved: saved.unwrap_or_default(), entries, meter })
    }

    /// The values as they are before the first node.
    fn start(&self, inputs: Vec<Tensor>) -> Vec<Option<Tensor>> {
        let mut values = vec![None; self.graph.values()];
        for (input, tensor) in self.graph.inputs().iter().zip(inputs) {
            values[input.value.index()] = Some(tensor);
        }
        values
    }

    fn nothing_saved(&self) -> Vec<Option<Saved>> {
        (0..self.graph.nodes().len()).map(|_| None).collect()
    }

    /// Gives all values back.
    fn clear(&self, way: &mut Way<'_>) {
        for tensor in std::mem::take(&mut way.values).into_iter().flatten() {
            way.meter.release(&tensor);
            self.pool.free(tensor);
        }
    }

    /// Runs nodes forward.
    fn run(&self, nodes: Range<usize>, way: &mut Way<'_>) -> Result<(), Error> {
        let context = Context::new(self.limit, &self.pool);
        for at in nodes {
            let (node, last) = (&self.graph.nodes()[at], &self.last[at]);
            let inputs = taken(&self.graph, node, last, &mut way.values);
            let keeps = if way.saved.is_some() { self.keeps[at] } else { None };
            let seen = keeps.map(|keeps| {
                let seen = |(nth, input): (usize, &Option<Tensor>)| {
                    input.as_ref().map(|tensor| Seen::of(tensor, keeps.has_input(nth)))
                };
                inputs.iter().enumerate().map(seen).collect::<Vec<_>>()
            });
            for (value, seen) in node.inputs.iter().zip(seen.iter().flatten()) {
                self.hold(*value, seen.as_ref(), &mut way.meter);
            }
            let shapes: Vec<Option<Vec<usize>>> =
                inputs.iter().map(|tensor| tensor.as_ref().map(|tensor| tensor.shape().to_vec())).collect();
            // Those that the node has for itself are no longer held, but not yet gone.
            let own: Vec<(usize, usize)> = node
                .inputs
                .iter()
                .zip(&inputs)
                .filter(|(value, _)| value.is_some_and(|value| way.values[value.index()].is_none()))
                .filter(|(value, _)| value.is_some_and(|value| self.graph.constant(value).is_none()))
                .filter_map(|(_, tensor)| tensor.as_ref().map(place))
                .collect();
            let mut inputs = Inputs::new(inputs);
            let outputs =
                self.ready[at].run(&mut inputs, &context).map_err(|fault| Error::from(fault).of(&node.name))?;
            outputs.iter().for_each(|tensor| way.meter.hold(tensor));
            own.into_iter().for_each(|place| way.meter.release_place(place));
            inputs.into_vec().into_iter().flatten().for_each(|tensor| self.pool.free(tensor));
            let needs = node.outputs.iter().rposition(Option::is_some).map_or(0, |at| at + 1);
            if outputs.len() < needs {
                return Err(Error::from(ErrorKind::Outputs { found: outputs.len(), needs }).of(&node.name));
            }
            let of_outputs: Vec<&[usize]> = outputs.iter().map(Tensor::shape).collect();
            let of_inputs: Vec<Option<&[usize]>> = shapes.iter().map(|shape| shape.as_deref()).collect();
            way.macs = way.macs.saturating_add(self.ready[at].macs(&of_inputs, &of_outputs));
            if let (Some(saved), Some(keeps), Some(inputs)) = (&mut way.saved, keeps, seen) {
                let seen = |(nth, output)| Seen::of(output, keeps.has_output(nth));
                let outputs: Vec<Seen> = outputs.iter().enumerate().map(seen).collect();
                outputs.iter().for_each(|seen| self.hold(None, Some(seen), &mut way.meter));
                saved[at] = Some(Saved { inputs, outputs });
            }
            for (nth, tensor) in outputs.into_iter().enumerate() {
                let value = node.outputs.get(nth).copied().flatten();
                if let (Some(observe), Some(value)) = (&mut way.observe, value) {
                    observe(value, &tensor);
                }
                match value.filter(|value| !last.contains(value)) {
                    Some(value) => way.values[value.index()] = Some(tensor),
                    // What is asked for, but never used, is not kept.
                    None => {
                        way.meter.release(&tensor);
                        self.pool.free(tensor);
                    }
                }
            }
        }
        Ok(())
    }

    /// Counts what is kept of a node's input or output; weights are there anyway.
    fn hold(&self, value: Option<ValueId>, seen: Option<&Seen>, meter: &mut Meter) {
        let constant = value.is_some_and(|value| self.graph.constant(value).is_some());
        if let Some(tensor) = seen.and_then(|seen| seen.value.as_ref()).filter(|_| !constant) {
            meter.hold(tensor);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests;

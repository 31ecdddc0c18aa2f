//! A graph: values, and the nodes that make them of each other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::error::{Error, ErrorKind};
use crate::operator::Operator;
use crate::tensor::{Dtype, Tensor};
use crate::value::Kind;

/// A value of a graph, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueId(usize);

impl ValueId {
    /// Its number: those of one graph are consecutive.
    pub fn index(self) -> usize {
        self.0
    }
}

/// An operator and the values that it takes and makes.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name, which errors and reports use.
    pub name: String,
    /// What it does.
    pub op: Arc<dyn Operator>,
    /// What it takes; none where an input is left out.
    pub inputs: Vec<Option<ValueId>>,
    /// What it makes; none where nobody asks for it.
    pub outputs: Vec<Option<ValueId>>,
}

/// A dimension of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dim {
    /// Always so many.
    Fixed(usize),
    /// As many as the caller brings; equal names are equal numbers.
    Named(String),
    /// As many as the caller brings.
    Any,
}

/// A value that the caller brings.
#[derive(Clone, Debug)]
pub struct Input {
    /// The value.
    pub value: ValueId,
    /// The type of its elements, where the graph says it.
    pub dtype: Option<Dtype>,
    /// Its dimensions, where the graph says how many there are.
    pub dims: Option<Vec<Dim>>,
    /// What kind of value it is; none where the graph does not say it.
    pub kind: Option<Kind>,
}

/// Nodes in an order in which each takes only what is there before it.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    names: Vec<String>,
    nodes: Vec<Node>,
    inputs: Vec<Input>,
    outputs: Vec<ValueId>,
    weights: BTreeMap<ValueId, Tensor>,
}

impl Graph {
    /// A new value. Names are for people, and for callers that look for one: they need not differ.
    pub fn value(&mut self, name: impl Into<String>) -> ValueId {
        self.names.push(name.into());
        ValueId(self.names.len() - 1)
    }

    /// A new value that is always this tensor: a weight, or a constant.
    pub fn weight(&mut self, name: impl Into<String>, tensor: Tensor) -> ValueId {
        let value = self.value(name);
        self.weights.insert(value, tensor);
        value
    }

    /// A new value that the caller brings.
    pub fn input(&mut self, name: impl Into<String>, dtype: Option<Dtype>, dims: Option<Vec<Dim>>) -> ValueId {
        let value = self.value(name);
        self.inputs.push(Input { value, dtype, dims, kind: Some(Kind::Tensor) });
        value
    }

    /// A new value that the caller brings, of a kind; where that is not said, whatever it is.
    pub fn input_of(&mut self, name: impl Into<String>, kind: Option<Kind>) -> ValueId {
        let value = self.value(name);
        self.inputs.push(Input { value, dtype: None, dims: None, kind });
        value
    }

    /// A new node with one output, which is called as the node is.
    pub fn node(&mut self, name: impl Into<String>, op: impl Operator, inputs: &[ValueId]) -> ValueId {
        let name = name.into();
        let output = self.value(name.clone());
        let inputs = inputs.iter().copied().map(Some).collect();
        self.push(Node { name, op: Arc::new(op), inputs, outputs: vec![Some(output)] });
        output
    }

    /// Adds a node.
    pub fn push(&mut self, node: Node) {
        self.nodes.push(node);
    }

    /// Makes a value a result.
    pub fn output(&mut self, value: ValueId) {
        self.outputs.push(value);
    }

    /// The name of a value.
    pub fn name(&self, value: ValueId) -> &str {
        self.names.get(value.0).map_or("", String::as_str)
    }

    /// Calls a value otherwise.
    pub(crate) fn rename(&mut self, value: ValueId, name: impl Into<String>) {
        if let Some(old) = self.names.get_mut(value.0) {
            *old = name.into();
        }
    }

    /// The first value of that name.
    pub fn find(&self, name: &str) -> Option<ValueId> {
        self.names.iter().position(|other| other == name).map(ValueId)
    }

    /// How many values there are.
    pub fn values(&self) -> usize {
        self.names.len()
    }

    /// The nodes that take each value, once for each time; a result counts as one more, of the number `usize::MAX`.
    pub fn users(&self) -> BTreeMap<ValueId, Vec<usize>> {
        let mut users: BTreeMap<ValueId, Vec<usize>> = BTreeMap::new();
        for (at, node) in self.nodes.iter().enumerate() {
            node.inputs.iter().flatten().for_each(|value| users.entry(*value).or_default().push(at));
        }
        for output in &self.outputs {
            users.entry(*output).or_default().push(usize::MAX);
        }
        users
    }

    /// The node that makes each value that a node makes.
    pub(crate) fn makers(&self) -> BTreeMap<ValueId, usize> {
        let made = |(at, node): (usize, &Node)| {
            node.outputs.iter().flatten().map(move |value| (*value, at)).collect::<Vec<_>>()
        };
        self.nodes.iter().enumerate().flat_map(made).collect()
    }

    /// All nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The values that the caller brings.
    pub fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    /// The values that are results.
    pub fn outputs(&self) -> &[ValueId] {
        &self.outputs
    }

    /// The values that are always the same, in order.
    pub fn weights(&self) -> impl Iterator<Item = (ValueId, &Tensor)> {
        self.weights.iter().map(|(value, tensor)| (*value, tensor))
    }

    /// The tensor that a value always is.
    pub fn constant(&self, value: ValueId) -> Option<&Tensor> {
        self.weights.get(&value)
    }

    /// Gives a weight other elements.
    pub fn set_weight(&mut self, value: ValueId, tensor: Tensor) {
        self.weights.insert(value, tensor);
    }

    /// A weight's elements, to be changed.
    pub fn weight_mut(&mut self, value: ValueId) -> Option<&mut Tensor> {
        self.weights.get_mut(&value)
    }

    /// Lets an operator transform a value, a weight or an activation: all that took the value, and the
    /// results that were it, take what the operator makes of it. The operator takes the value first,
    /// then `more`: other values, and parameters of its own, which are weights ([`weight`](Self::weight)).
    /// None of `more` may be made from the value itself; [`sort`](Self::sort) finds the cycle.
    ///
    /// This is how quantizers, masks and gates enter a graph; whoever only looks at values observes a
    /// run ([`Run::observe`](crate::Run::observe)).
    pub fn transform(
        &mut self,
        value: ValueId,
        name: impl Into<String>,
        op: impl Operator,
        more: &[ValueId],
    ) -> ValueId {
        let name = name.into();
        let output = self.value(name.clone());
        self.bypass(value, output);
        let inputs = std::iter::once(&value).chain(more).copied().map(Some).collect();
        self.push(Node { name, op: Arc::new(op), inputs, outputs: vec![Some(output)] });
        output
    }

    /// Lets all that take a value, and the results that are it, take another one instead. Nodes that nothing needs any more go
    /// when the graph is [sorted](Self::sort).
    pub fn bypass(&mut self, value: ValueId, by: ValueId) {
        for taken in self.nodes.iter_mut().flat_map(|node| &mut node.inputs) {
            if *taken == Some(value) {
                *taken = Some(by);
            }
        }
        for result in self.outputs.iter_mut().filter(|result| **result == value) {
            *result = by;
        }
    }

    /// As [`transform`](Self::transform), for what one node takes in one place alone: all others take the value as it is.
    /// None where nothing is there.
    pub fn transform_input(
        &mut self,
        (node, place): (usize, usize),
        name: impl Into<String>,
        op: impl Operator,
        more: &[ValueId],
    ) -> Option<ValueId> {
        let value = self.nodes.get(node)?.inputs.get(place).copied().flatten()?;
        let all: Vec<ValueId> = std::iter::once(value).chain(more.iter().copied()).collect();
        let output = self.node(name, op, &all);
        self.nodes[node].inputs[place] = Some(output);
        Some(output)
    }

    /// A node, to be changed.
    pub(crate) fn node_mut(&mut self, at: usize) -> &mut Node {
        &mut self.nodes[at]
    }

    /// Keeps the nodes that are marked.
    pub(crate) fn keep_nodes(&mut self, keep: &[bool]) {
        let mut keep = keep.iter();
        self.nodes.retain(|_| keep.next().copied().unwrap_or(true));
    }

    /// Puts the nodes in an order in which each takes only what is there before it; of those that
    /// could come next, the one that was added first. Nodes that no output needs are dropped, and
    /// so are weights that nothing needs.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Cycle`], and [`ErrorKind::Undefined`] for a value that nothing makes.
    pub fn sort(&mut self) -> Result<(), Error> {
        let mut made_by: BTreeMap<ValueId, usize> = BTreeMap::new();
        for (at, node) in self.nodes.iter().enumerate() {
            for output in node.outputs.iter().flatten() {
                if made_by.insert(*output, at).is_some() {
                    let twice = Error::from(ErrorKind::MadeTwice { value: self.name(*output).to_owned() });
                    return Err(twice.of(&node.name));
                }
            }
        }
        let given: BTreeSet<ValueId> =
            self.inputs.iter().map(|input| input.value).chain(self.weights.keys().copied()).collect();
        let undefined = |value: ValueId| Error::from(ErrorKind::Undefined { value: self.name(value).to_owned() });
        // Depth first from the outputs; a node is entered, then left when all that it takes is there.
        let mut state = vec![Visit::New; self.nodes.len()];
        let mut needed = vec![false; self.nodes.len()];
        let mut stack: Vec<usize> = Vec::new();
        for output in &self.outputs {
            match made_by.get(output) {
                Some(node) => stack.push(*node),
                None if given.contains(output) => {}
                None => return Err(undefined(*output)),
            }
        }
        while let Some(node) = stack.last().copied() {
            needed[node] = true;
            if state[node] != Visit::New {
                state[node] = Visit::Left;
                stack.pop();
                continue;
            }
            state[node] = Visit::Entered;
            for input in self.nodes[node].inputs.iter().flatten() {
                match made_by.get(input).map(|from| (*from, state[*from])) {
                    Some((_, Visit::Entered)) => return Err(Error::from(ErrorKind::Cycle).of(&self.nodes[node].name)),
                    Some((from, Visit::New)) => stack.push(from),
                    Some((_, Visit::Left)) => {}
                    None if given.contains(input) => {}
                    None => return Err(undefined(*input).of(&self.nodes[node].name)),
                }
            }
        }
        self.order(&made_by, &needed);
        let used: BTreeSet<ValueId> =
            self.nodes.iter().flat_map(|node| node.inputs.iter().flatten()).chain(&self.outputs).copied().collect();
        self.weights.retain(|value, _| used.contains(value));
        Ok(())
    }

    /// Keeps the nodes that are needed, each after those whose values it takes, the earliest first.
    fn order(&mut self, made_by: &BTreeMap<ValueId, usize>, needed: &[bool]) {
        let mut waits = vec![0usize; self.nodes.len()];
        let mut then: Vec<Vec<usize>> = vec![Vec::new(); self.nodes.len()];
        for (at, node) in self.nodes.iter().enumerate().filter(|(at, _)| needed[*at]) {
            let from: BTreeSet<usize> =
                node.inputs.iter().flatten().filter_map(|input| made_by.get(input).copied()).collect();
            waits[at] = from.len();
            from.into_iter().for_each(|from| then[from].push(at));
        }
        let mut ready: BTreeSet<usize> = (0..self.nodes.len()).filter(|at| needed[*at] && waits[*at] == 0).collect();
        let mut old: Vec<Option<Node>> = std::mem::take(&mut self.nodes).into_iter().map(Some).collect();
        while let Some(at) = ready.pop_first() {
            self.nodes.extend(old[at].take());
            for next in &then[at] {
                waits[*next] -= 1;
                if waits[*next] == 0 {
                    ready.insert(*next);
                }
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Visit {
    New,
    Entered,
    Left,
}

//! Runs a graph forward.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::each;
use crate::error::{Error, ErrorKind};
use crate::fault::{Fault, dims};
use crate::graph::{Dim, Graph, Input, Node, ValueId};
use crate::operator::{Context, Inputs, Operator, Pool};
use crate::tensor::Tensor;
use crate::value::Value;

/// Told of values.
pub type Observer<'r> = &'r mut dyn FnMut(ValueId, &Tensor);

/// What a run may take, and what watches it.
pub struct Run<'r> {
    /// The most bytes that one value may take.
    pub limit: u64,
    /// Told every value as it is made.
    pub observe: Option<Observer<'r>>,
}

impl Default for Run<'_> {
    fn default() -> Self {
        Self { limit: 16 << 30, observe: None }
    }
}

/// A graph made ready to run: it knows when each value is used for the last time.
#[derive(Debug)]
pub struct Executor {
    graph: Graph,
    /// The operator of each node, made ready for the inputs that never change.
    ready: Vec<Arc<dyn Operator>>,
    /// For each node the values that nobody takes after it.
    last: Vec<Vec<ValueId>>,
    pool: Pool,
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome<V = Tensor> {
    /// The results, in the graph's order.
    pub outputs: Vec<V>,
    /// The most bytes that values took at any time, weights aside.
    pub peak_bytes: usize,
    /// Multiplications that are followed by an addition, of convolutions and products of matrices.
    pub macs: u64,
}

/// A run that stands still between two nodes, with all values that nodes after it take.
#[derive(Debug)]
pub struct Paused {
    values: Vec<Option<Value>>,
    memory: Memory,
    macs: u64,
    /// The node that is next.
    next: usize,
}

impl Paused {
    /// A tensor that was made, while some node after it takes it.
    pub fn value(&self, value: ValueId) -> Option<&Tensor> {
        self.values.get(value.index())?.as_ref()?.tensor()
    }
}

impl Executor {
    /// Makes a graph ready.
    ///
    /// # Errors
    ///
    /// Those of [`Graph::sort`], and weights that do not fit their nodes.
    pub fn new(graph: Graph) -> Result<Self, Error> {
        Self::changing(graph, &[])
    }

    /// The same, where these weights may change: [`set_weight`](Self::set_weight).
    ///
    /// # Errors
    ///
    /// Those of [`new`](Self::new).
    pub fn changing(mut graph: Graph, weights: &[ValueId]) -> Result<Self, Error> {
        graph.sort()?;
        let last = last_uses(&graph);
        let ready = prepared(&graph, weights)?;
        Ok(Self { graph, ready, last, pool: Pool::default() })
    }

    /// The graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Gives a weight that may change other elements.
    pub fn set_weight(&mut self, value: ValueId, tensor: Tensor) {
        self.graph.set_weight(value, tensor);
    }

    /// Runs it on inputs in the graph's order.
    ///
    /// # Errors
    ///
    /// Inputs that do not fit, results that are no tensors, and whatever a node refuses.
    pub fn run(&self, inputs: Vec<Tensor>, how: Run<'_>) -> Result<Outcome, Error> {
        let Outcome { outputs, peak_bytes, macs } =
            self.run_values(inputs.into_iter().map(Value::Tensor).collect(), how)?;
        let tensor = |(id, value): (&ValueId, Value)| match value {
            Value::Tensor(tensor) => Ok(tensor),
            other => {
                let what = format!("output `{}` is {}, a tensor expected", self.graph.name(*id), other.kind());
                Err(Error::from(ErrorKind::Model(what)))
            }
        };
        let outputs = self.graph.outputs().iter().zip(outputs).map(tensor).collect::<Result<_, _>>()?;
        Ok(Outcome { outputs, peak_bytes, macs })
    }

    /// The same, where inputs and results may be lists, or nothing.
    ///
    /// # Errors
    ///
    /// Inputs that do not fit, and whatever a node refuses.
    pub fn run_values(&self, inputs: Vec<Value>, mut how: Run<'_>) -> Result<Outcome<Value>, Error> {
        let mut paused = self.start_values(inputs, &mut how)?;
        self.go_on(&mut paused, self.graph.nodes().len(), &mut how)?;
        let Paused { values, memory, macs, .. } = paused;
        let output = |value: &ValueId| {
            let found = values[value.index()].clone();
            let found = found.or_else(|| self.graph.constant(*value).cloned().map(Value::Tensor));
            found.ok_or_else(|| ErrorKind::Undefined { value: self.graph.name(*value).to_owned() }.into())
        };
        let outputs = self.graph.outputs().iter().map(output).collect::<Result<Vec<_>, Error>>()?;
        Ok(Outcome { outputs, peak_bytes: memory.peak, macs })
    }

    /// Begins a run, and stands still before the first node.
    ///
    /// # Errors
    ///
    /// Inputs that do not fit.
    pub fn start(&self, inputs: Vec<Tensor>, how: &mut Run<'_>) -> Result<Paused, Error> {
        self.start_values(inputs.into_iter().map(Value::Tensor).collect(), how)
    }

    fn start_values(&self, inputs: Vec<Value>, how: &mut Run<'_>) -> Result<Paused, Error> {
        check_values(&self.graph, &inputs)?;
        let mut values: Vec<Option<Value>> = vec![None; self.graph.values()];
        for (input, value) in self.graph.inputs().iter().zip(inputs) {
            if let (Some(observe), Value::Tensor(tensor)) = (&mut how.observe, &value) {
                observe(input.value, tensor);
            }
            values[input.value.index()] = Some(value);
        }
        let mut memory = Memory::default();
        values.iter().flatten().flat_map(Value::tensors).for_each(|tensor| memory.made(tensor, &[]));
        Ok(Paused { values, memory, macs: 0, next: 0 })
    }

    /// Goes on with a run until it stands before node number `to`, with the weights as they are now.
    ///
    /// # Errors
    ///
    /// Whatever a node refuses.
    pub fn go_on(&self, paused: &mut Paused, to: usize, how: &mut Run<'_>) -> Result<(), Error> {
        let context = Context::new(how.limit, &self.pool);
        while paused.next < to.min(self.graph.nodes().len()) {
            self.node(paused, &context, how)?;
            paused.next += 1;
        }
        Ok(())
    }

    /// Runs the next node.
    fn node(&self, paused: &mut Paused, context: &Context<'_>, how: &mut Run<'_>) -> Result<(), Error> {
        let Paused { values, memory, macs, next } = paused;
        let (node, op, last) = (&self.graph.nodes()[*next], &self.ready[*next], &self.last[*next]);
        let taken = taken(&self.graph, node, last, values);
        let parts = taken.iter().flatten().flat_map(Value::tensors);
        let places: Vec<(usize, usize)> = parts.filter(|tensor| tensor.is_alone()).map(place).collect();
        let made = match op.on_values() {
            Some(on) => on.run_values(taken, context).map(|outputs| (outputs, 0)),
            None => self.on_tensors(op.as_ref(), taken, context),
        };
        let (outputs, more) = made.map_err(|fault| Error::from(fault).of(&node.name))?;
        *macs = macs.saturating_add(more);
        outputs.iter().flat_map(Value::tensors).for_each(|tensor| memory.made(tensor, &places));
        memory.freed(&places, &outputs);
        let needs = node.outputs.iter().rposition(Option::is_some).map_or(0, |at| at + 1);
        if outputs.len() < needs {
            return Err(Error::from(ErrorKind::Outputs { found: outputs.len(), needs }).of(&node.name));
        }
        for (id, value) in node.outputs.iter().zip(outputs) {
            let Some(id) = id else { continue };
            if let (Some(observe), Value::Tensor(tensor)) = (&mut how.observe, &value) {
                observe(*id, tensor);
            }
            // What is asked for, but never used, is not kept.
            values[id.index()] = (!last.contains(id)).then_some(value);
        }
        Ok(())
    }

    /// Runs an operator that takes and makes tensors alone; what it made, and its multiplications.
    fn on_tensors(
        &self,
        op: &dyn Operator,
        taken: Vec<Option<Value>>,
        context: &Context<'_>,
    ) -> Result<(Vec<Value>, u64), Fault> {
        let tensor = |(at, value): (usize, Option<Value>)| value.map(|value| value.into_tensor(at)).transpose();
        let taken = taken.into_iter().enumerate().map(tensor).collect::<Result<Vec<_>, _>>()?;
        let shapes: Vec<Option<Vec<usize>>> =
            taken.iter().map(|tensor| tensor.as_ref().map(|tensor| tensor.shape().to_vec())).collect();
        let mut inputs = Inputs::new(taken);
        let outputs = op.run(&mut inputs, context)?;
        for tensor in inputs.into_vec().into_iter().flatten() {
            self.pool.free(tensor);
        }
        let of_outputs: Vec<&[usize]> = outputs.iter().map(Tensor::shape).collect();
        let of_inputs: Vec<Option<&[usize]>> = shapes.iter().map(|shape| shape.as_deref()).collect();
        let macs = op.macs(&of_inputs, &of_outputs);
        Ok((outputs.into_iter().map(Value::Tensor).collect(), macs))
    }
}

/// The operator of each node, made ready for inputs that never change: constants, but for those that are `changing`.
pub(crate) fn prepared(graph: &Graph, changing: &[ValueId]) -> Result<Vec<Arc<dyn Operator>>, Error> {
    let constant = |value: &Option<ValueId>| value.filter(|v| !changing.contains(v)).and_then(|v| graph.constant(v));
    let ready = |node: &Node| {
        let constants: Vec<_> = node.inputs.iter().map(constant).collect();
        let ready = node.op.prepare(&constants).map_err(|fault| Error::from(fault).of(&node.name))?;
        Ok(ready.unwrap_or_else(|| Arc::clone(&node.op)))
    };
    graph.nodes().iter().map(ready).collect()
}

/// For each node of a sorted graph the values that nobody takes after it.
pub(crate) fn last_uses(graph: &Graph) -> Vec<Vec<ValueId>> {
    let mut user: BTreeMap<ValueId, usize> = BTreeMap::new();
    for (at, node) in graph.nodes().iter().enumerate() {
        for value in node.inputs.iter().chain(&node.outputs).flatten() {
            user.insert(*value, at);
        }
    }
    for value in graph.outputs() {
        user.remove(value);
    }
    let mut last = vec![Vec::new(); graph.nodes().len()];
    for (value, at) in user {
        if graph.constant(value).is_none() {
            last[at].push(value);
        }
    }
    last
}

/// What a node takes. Values that nobody takes after it are its own.
pub(crate) fn taken<V: Clone + From<Tensor>>(
    graph: &Graph,
    node: &Node,
    last: &[ValueId],
    values: &mut [Option<V>],
) -> Vec<Option<V>> {
    let mut taken = Vec::with_capacity(node.inputs.len());
    for (place, value) in node.inputs.iter().enumerate() {
        taken.push(value.and_then(|value| {
            let again = node.inputs.iter().skip(place + 1).any(|other| *other == Some(value));
            let slot = values.get_mut(value.index())?;
            let own = if !again && last.contains(&value) { slot.take() } else { slot.clone() };
            own.or_else(|| graph.constant(value).cloned().map(V::from))
        }));
    }
    taken
}

/// Refuses tensors that are not the inputs of a graph.
pub(crate) fn check(graph: &Graph, inputs: &[Tensor]) -> Result<(), Error> {
    check_values(graph, &inputs.iter().cloned().map(Value::Tensor).collect::<Vec<_>>())
}

/// Refuses values that are not the inputs of a graph.
fn check_values(graph: &Graph, inputs: &[Value]) -> Result<(), Error> {
    let wanted = graph.inputs();
    if inputs.len() != wanted.len() {
        return Err(ErrorKind::Inputs { found: inputs.len(), needs: wanted.len() }.into());
    }
    let mut named: BTreeMap<&str, usize> = BTreeMap::new();
    for (Input { value: id, dtype, dims: expected, kind }, value) in wanted.iter().zip(inputs) {
        let wrong = |found: String, needs: String| {
            Err(ErrorKind::Input { name: graph.name(*id).to_owned(), found, needs }.into())
        };
        if let Some(kind) = kind.filter(|kind| !kind.holds(value)) {
            return wrong(value.kind().to_owned(), kind.to_string());
        }
        let Value::Tensor(tensor) = value else { continue };
        if let Some(dtype) = dtype.filter(|dtype| *dtype != tensor.dtype()) {
            return wrong(tensor.dtype().to_string(), dtype.to_string());
        }
        let Some(expected) = expected else { continue };
        let fits = |(dim, has): (&Dim, &usize)| match dim {
            Dim::Fixed(needs) => needs == has,
            Dim::Any | Dim::Named(_) => true,
        };
        if expected.len() != tensor.rank() || !expected.iter().zip(tensor.shape()).all(fits) {
            return wrong(dims(tensor.shape()), dims_text(expected));
        }
        for (dim, has) in expected.iter().zip(tensor.shape()) {
            let Dim::Named(name) = dim else { continue };
            let before = *named.entry(name).or_insert(*has);
            if before != *has {
                return wrong(format!("`{name}` is {has}"), format!("{before} as elsewhere"));
            }
        }
    }
    Ok(())
}

/// Where elements stand, and their bytes.
pub(crate) fn place(tensor: &Tensor) -> (usize, usize) {
    (each!(tensor.data(), buffer => buffer.as_slice().as_ptr() as usize), tensor.owned_bytes())
}

/// Bytes of values, shared ones counted once.
#[derive(Debug, Default)]
struct Memory {
    now: usize,
    peak: usize,
}

impl Memory {
    /// A value was made; not of new memory, where it stands in that of an input.
    fn made(&mut self, tensor: &Tensor, inputs: &[(usize, usize)]) {
        let (at, bytes) = place(tensor);
        if tensor.is_alone() && !inputs.iter().any(|(input, _)| *input == at) {
            self.now += bytes;
            self.peak = self.peak.max(self.now);
        }
    }

    /// Inputs that were the node's own are gone, but for those in whose memory outputs stand.
    fn freed(&mut self, inputs: &[(usize, usize)], outputs: &[Value]) {
        for (at, bytes) in inputs {
            if !outputs.iter().flat_map(Value::tensors).any(|output| place(output).0 == *at) {
                self.now = self.now.saturating_sub(*bytes);
            }
        }
    }
}

/// Dimensions as errors say them: `?x3x32x32`, `scalar` for none.
pub fn dims_text(dims: &[Dim]) -> String {
    if dims.is_empty() {
        return "scalar".to_owned();
    }
    let each = dims.iter().map(|dim| match dim {
        Dim::Fixed(dim) => dim.to_string(),
        Dim::Named(name) => name.clone(),
        Dim::Any => "?".to_owned(),
    });
    each.collect::<Vec<_>>().join("x")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests;

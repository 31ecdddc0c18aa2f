//! A graph as it is filled, and the graphs around it.

use std::collections::BTreeMap;
use std::sync::Arc;

use niwaki_onnx::Model;
use niwaki_onnx::proto::tensor_shape_proto::dimension;
use niwaki_onnx::proto::{FunctionProto, GraphProto, NodeProto, ValueInfoProto, type_proto};

use super::call::Call;
use super::definition::definition;
use super::{dtype, name_of, tensor, unreadable};
use crate::error::{Error, ErrorKind};
use crate::graph::{Dim, Graph, Node, ValueId};
use crate::ops;
use crate::tensor::Dtype;
use crate::value::Kind;

/// Names and what they are in one graph.
pub(super) struct Scope<'m, 'p> {
    pub(super) model: &'m Model,
    pub(super) graph: Graph,
    pub(super) names: BTreeMap<String, ValueId>,
    /// The graph that this one is a part of.
    pub(super) parent: Option<&'p Scope<'m, 'p>>,
    /// The call whose body is being written out here: names are those of its function.
    pub(super) call: Option<Call<'m>>,
    /// How many graphs and calls are around this.
    pub(super) depth: usize,
    /// Values of graphs around this one that it takes, in order.
    captured: Vec<String>,
    /// Initializers of types smaller than a byte, and the numbers of these types.
    pub(super) small: BTreeMap<String, i32>,
}

/// What is counted over all of a model.
pub(super) struct Tally<'m> {
    /// The functions that it brings along, by domain, name and overload.
    pub(super) functions: BTreeMap<[&'m str; 3], &'m FunctionProto>,
    /// Nodes that cannot be run: name and operator.
    pub(super) unsupported: Vec<(String, String)>,
    /// Bytes of the bodies of functions that were written out.
    pub(super) written: usize,
}

impl<'m, 'p> Scope<'m, 'p> {
    pub(super) fn new(model: &'m Model, parent: Option<&'p Scope<'m, 'p>>) -> Self {
        Self {
            model,
            graph: Graph::default(),
            names: BTreeMap::new(),
            parent,
            call: None,
            depth: 0,
            captured: Vec::new(),
            small: BTreeMap::new(),
        }
    }

    /// Fills it from a graph; returns that, not sorted, and the names that it takes from around it.
    pub(super) fn fill(mut self, from: &GraphProto, tally: &mut Tally<'m>) -> Result<(Graph, Vec<String>), Error> {
        let within = self.parent.is_some();
        let initializers = from.initializer.iter().map(niwaki_onnx::Initializer::Dense);
        let sparse = from.sparse_initializer.iter().map(niwaki_onnx::Initializer::Sparse);
        for initializer in initializers.chain(sparse) {
            let read = self.model.read(initializer).map_err(unreadable)?;
            if read.dtype.bits() < 8 {
                self.small.insert(initializer.name().to_owned(), read.dtype.number());
            }
            let value = self.graph.weight(initializer.name(), tensor(read).map_err(|e| e.of(initializer.name()))?);
            self.names.insert(initializer.name().to_owned(), value);
        }
        for input in &from.input {
            // Models of old versions list initializers among the inputs.
            if !self.names.contains_key(input.name()) {
                let (dtype, dims) = described(input);
                let value = match kind(input).filter(|_| !within) {
                    Some(Kind::Tensor) => self.graph.input(input.name(), dtype, dims),
                    other => self.graph.input_of(input.name(), other),
                };
                self.names.insert(input.name().to_owned(), value);
            }
        }
        self.nodes(&from.node, None, &mut BTreeMap::new(), tally)?;
        for output in &from.output {
            let value = self.lookup(output.name())?;
            self.graph.output(value);
        }
        Ok((self.graph, self.captured))
    }

    /// Adds nodes, those of a call with its name before theirs. What makes one of `results` makes
    /// the value beside it.
    pub(super) fn nodes(
        &mut self,
        nodes: &[NodeProto],
        caller: Option<&str>,
        results: &mut BTreeMap<&str, ValueId>,
        tally: &mut Tally<'m>,
    ) -> Result<(), Error> {
        let full = |name: &str| caller.map_or_else(|| name.to_owned(), |caller| format!("{caller}/{name}"));
        // What nodes make is known before what they take is looked up: their order is not trusted.
        for output in nodes.iter().flat_map(|node| &node.output).filter(|output| !output.is_empty()) {
            if self.names.contains_key(output) {
                return Err(ErrorKind::MadeTwice { value: output.clone() }.into());
            }
            let value = results.remove(output.as_str()).unwrap_or_else(|| self.graph.value(full(output)));
            self.names.insert(output.clone(), value);
        }
        for (at, node) in nodes.iter().enumerate() {
            let name = full(&name_of(node, at));
            self.node(&name, node, tally).map_err(|e| e.of(&name))?;
        }
        Ok(())
    }

    fn node(&mut self, name: &str, node: &NodeProto, tally: &mut Tally<'m>) -> Result<(), Error> {
        if let Some(function) = tally.function(node) {
            return self.inline(name, node, function, tally);
        }
        let mut captured = Vec::new();
        let before = tally.unsupported.len();
        let definition = definition(self, node, &mut captured, tally)?;
        if tally.unsupported.len() > before {
            // A graph of its own has nodes that cannot be run, and is not whole.
            return Ok(());
        }
        let Some(op) = ops::build(&definition)? else {
            let domain = if definition.domain.is_empty() { String::new() } else { format!("{}.", definition.domain) };
            tally.unsupported.push((name.to_owned(), format!("{domain}{}", definition.op)));
            return Ok(());
        };
        let mut inputs = Vec::with_capacity(node.input.len() + captured.len());
        for input in &node.input {
            inputs.push(self.input(input)?);
        }
        for name in &captured {
            inputs.push(Some(self.lookup(name)?));
        }
        let outputs = node.output.iter().map(|output| self.names.get(output).copied()).collect();
        self.graph.push(Node { name: name.to_owned(), op, inputs, outputs });
        Ok(())
    }

    /// The number of an initializer's type, here or around here, where that is smaller than a byte.
    pub(super) fn small_type(&self, name: &str) -> Option<i32> {
        let around = if self.call.is_some() { None } else { self.parent };
        self.small.get(name).copied().or_else(|| around?.small_type(name))
    }

    /// The value that a node takes by this name; none where it is left out.
    pub(super) fn input(&mut self, name: &str) -> Result<Option<ValueId>, Error> {
        if name.is_empty() {
            return Ok(None);
        }
        match self.lookup(name) {
            Err(_) if self.is_left_out(name) => Ok(None),
            value => value.map(Some),
        }
    }

    /// The value of a name, here or around here. A function sees nothing of what is around its call.
    fn lookup(&mut self, name: &str) -> Result<ValueId, Error> {
        if let Some(value) = self.names.get(name) {
            return Ok(*value);
        }
        let mut outer = if self.call.is_some() { None } else { self.parent };
        while let Some(scope) = outer {
            if let Some(value) = scope.names.get(name) {
                // What never changes is taken along; all else is brought by whoever runs this graph.
                let value = match scope.graph.constant(*value) {
                    Some(constant) => self.graph.weight(name, constant.clone()),
                    None => {
                        self.captured.push(name.to_owned());
                        self.graph.input_of(name, None)
                    }
                };
                self.names.insert(name.to_owned(), value);
                return Ok(value);
            }
            outer = if scope.call.is_some() { None } else { scope.parent };
        }
        Err(ErrorKind::Undefined { value: name.to_owned() }.into())
    }

    /// A graph within this one; appends the names that it takes from here.
    pub(super) fn within(
        &self,
        graph: &GraphProto,
        captured: &mut Vec<String>,
        tally: &mut Tally<'m>,
    ) -> Result<Arc<Graph>, Error> {
        let within = Scope { depth: self.deeper()?, ..Scope::new(self.model, Some(self)) };
        let (graph, names) = within.fill(graph, tally)?;
        captured.extend(names);
        Ok(Arc::new(graph))
    }
}

/// What kind of value a model says that an input is; none where it says nothing, or another kind.
fn kind(input: &ValueInfoProto) -> Option<Kind> {
    match input.r#type.as_ref()?.value.as_ref()? {
        type_proto::Value::TensorType(_) => Some(Kind::Tensor),
        type_proto::Value::SequenceType(_) => Some(Kind::List),
        type_proto::Value::OptionalType(of) => match of.elem_type.as_ref()?.value.as_ref()? {
            type_proto::Value::TensorType(_) => Some(Kind::MaybeTensor),
            type_proto::Value::SequenceType(_) => Some(Kind::MaybeList),
            _ => None,
        },
        _ => None,
    }
}

/// The type and the dimensions that a model says of an input or an output.
pub fn described(input: &ValueInfoProto) -> (Option<Dtype>, Option<Vec<Dim>>) {
    let Some(type_proto::Value::TensorType(of)) = input.r#type.as_ref().and_then(|of| of.value.as_ref()) else {
        return (None, None);
    };
    let dim = |dim: &niwaki_onnx::proto::tensor_shape_proto::Dimension| match &dim.value {
        Some(dimension::Value::DimValue(size)) => usize::try_from(*size).map_or(Dim::Any, Dim::Fixed),
        Some(dimension::Value::DimParam(name)) if !name.is_empty() && name != "?" => Dim::Named(name.clone()),
        _ => Dim::Any,
    };
    let dims = of.shape.as_ref().map(|shape| shape.dim.iter().map(dim).collect());
    (niwaki_onnx::DataType::from_i32(of.elem_type()).and_then(dtype), dims)
}

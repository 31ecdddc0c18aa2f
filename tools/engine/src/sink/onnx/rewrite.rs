//! A graph with other weights.

use std::collections::{BTreeMap, BTreeSet};

use niwaki_onnx::DataType;
use niwaki_onnx::build::{Dim, attr_int, value};
use niwaki_onnx::proto::{GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, ValueInfoProto};

use crate::destination::{OnnxSeats, names};

/// The domain of `MatMulNBits`.
const MICROSOFT: &str = "com.microsoft";

/// The first IR version in which initializers need not be inputs.
const FREE: i64 = 4;

/// The first with codes of 4 bits.
const FOUR_BITS: i64 = 10;

/// What takes the place of a weight.
pub(super) enum Replacement {
    /// Other elements of the same type.
    Elements(Box<TensorProto>),
    /// Codes, and nodes that make the weight of them.
    Linear { tensors: Vec<TensorProto>, nodes: Vec<NodeProto> },
    /// Codes, with which other nodes compute.
    NBits(Codes),
}

/// What `MatMulNBits` takes: codes, scales, and zero points, where there are any.
pub(super) struct Codes {
    pub(super) tensors: Vec<TensorProto>,
    pub(super) k: usize,
    pub(super) n: usize,
    pub(super) bits: usize,
    pub(super) block: usize,
}

impl Replacement {
    fn tensors(&self) -> &[TensorProto] {
        match self {
            Self::Elements(tensor) => std::slice::from_ref(tensor),
            Self::Linear { tensors, .. } => tensors,
            Self::NBits(codes) => &codes.tensors,
        }
    }

    /// Whether the weight is an initializer no more.
    fn ends(&self) -> bool {
        !matches!(self, Self::Elements(_))
    }
}

/// A model, and what takes the place of its weights.
pub(super) struct Rewrite<'a> {
    model: &'a ModelProto,
    names: BTreeSet<String>,
    weights: BTreeMap<String, Replacement>,
}

impl<'a> Rewrite<'a> {
    pub(super) fn new(seats: &'a OnnxSeats) -> Self {
        let names = seats.proto.graph.as_ref().map(names).unwrap_or_default();
        Self { model: &seats.proto, names, weights: BTreeMap::new() }
    }

    /// A name that the graph does not have: that of a weight, and a word.
    pub(super) fn name(&self, weight: &str, what: &str) -> String {
        let mut name = format!("{weight}_{what}");
        while self.names.contains(&name) {
            name.push('_');
        }
        name
    }

    pub(super) fn replace(&mut self, weight: &str, with: Replacement) {
        let nodes: &[NodeProto] = match &with {
            Replacement::Linear { nodes, .. } => nodes,
            _ => &[],
        };
        self.names.extend(with.tensors().iter().map(|tensor| tensor.name().to_owned()));
        self.names.extend(nodes.iter().flat_map(|node| node.output.iter().cloned().chain([node.name().to_owned()])));
        self.weights.insert(weight.to_owned(), with);
    }

    /// The model with its new weights.
    pub(super) fn model(self) -> ModelProto {
        let mut model = self.model.clone();
        if let Some(graph) = &mut model.graph {
            self.graph(graph, model.ir_version.unwrap_or(0) < FREE);
            self.versions(&mut model);
        }
        model
    }

    fn graph(&self, graph: &mut GraphProto, inputs_too: bool) {
        let mut tensors = Vec::with_capacity(graph.initializer.len());
        let mut order = Vec::new();
        for tensor in graph.initializer.drain(..) {
            match self.weights.get_key_value(tensor.name()) {
                Some(with) => order.push(with),
                None => tensors.push(tensor),
            }
        }
        // Sparse ones are stored with their zeros where they are replaced.
        graph.sparse_initializer.retain(|sparse| {
            let name = sparse.values.as_ref().map_or("", |values| values.name());
            let with = self.weights.get_key_value(name);
            order.extend(with);
            with.is_none()
        });
        let mut nodes = Vec::new();
        for (_, with) in &order {
            tensors.extend_from_slice(with.tensors());
            if let Replacement::Linear { nodes: new, .. } = with {
                nodes.extend_from_slice(new);
            }
        }
        graph.initializer = tensors;
        nodes.extend(graph.node.drain(..).map(|node| self.node(node)));
        graph.node = nodes;
        let ended = |name: &str| self.weights.get(name).is_some_and(Replacement::ends);
        graph.input.retain(|input| !ended(input.name()));
        if inputs_too {
            let new = order.iter().filter(|(_, with)| with.ends()).flat_map(|(_, with)| with.tensors());
            graph.input.extend(new.map(declared));
        }
        let gone = |name: &str| matches!(self.weights.get(name), Some(Replacement::NBits(_)));
        graph.value_info.retain(|known| !gone(known.name()));
    }

    /// A node that computes with codes, where its right side is such.
    fn node(&self, node: NodeProto) -> NodeProto {
        let Some(Replacement::NBits(codes)) = node.input.get(1).and_then(|right| self.weights.get(right)) else {
            return node;
        };
        let mut inputs: Vec<String> = node.input.first().cloned().into_iter().collect();
        inputs.extend(codes.tensors.iter().map(|tensor| tensor.name().to_owned()));
        if let Some(bias) = node.input.get(2).filter(|bias| !bias.is_empty()) {
            // Zero points and the order of inputs stand before it.
            inputs.resize(5, String::new());
            inputs.push(bias.clone());
        }
        let number = |name: &str, value: usize| attr_int(name, i64::try_from(value).unwrap_or(i64::MAX));
        NodeProto {
            op_type: Some("MatMulNBits".to_owned()),
            domain: Some(MICROSOFT.to_owned()),
            input: inputs,
            attribute: vec![
                number("K", codes.k),
                number("N", codes.n),
                number("bits", codes.bits),
                number("block_size", codes.block),
            ],
            ..node
        }
    }

    /// Raises versions as far as what was put in asks for.
    fn versions(&self, model: &mut ModelProto) {
        let four = |tensor: &TensorProto| {
            matches!(DataType::from_i32(tensor.data_type()), Some(DataType::Int4 | DataType::Uint4))
        };
        if self.weights.values().flat_map(Replacement::tensors).any(four) {
            model.ir_version = Some(model.ir_version.unwrap_or(0).max(FOUR_BITS));
        }
        let uses = self.weights.values().any(|with| matches!(with, Replacement::NBits(_)));
        if uses && !model.opset_import.iter().any(|import| import.domain() == MICROSOFT) {
            model.opset_import.push(OperatorSetIdProto { domain: Some(MICROSOFT.to_owned()), version: Some(1) });
        }
    }
}

/// An initializer as an input.
fn declared(tensor: &TensorProto) -> ValueInfoProto {
    let dims: Vec<_> = tensor.dims.iter().map(|dim| Dim::Known(usize::try_from(*dim).unwrap_or(0))).collect();
    let kind = DataType::from_i32(tensor.data_type()).unwrap_or(DataType::Float);
    value(tensor.name(), kind, &dims)
}

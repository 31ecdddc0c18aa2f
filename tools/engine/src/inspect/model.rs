//! What is inside a model besides its weights: the graph, and how much there is to multiply.

use std::collections::BTreeMap;
use std::path::Path;

use niwaki_model::hf::{self, Blueprint, Config, DecoderGraph, EncoderGraph};
use niwaki_model::{Data, Dim, Dtype, Executor, Run, Tensor, elements};
use niwaki_onnx::proto::{GraphProto, NodeProto, ValueInfoProto};
use serde::{Serialize, Serializer};

use crate::source::{Onnx, Source};

/// Bytes of an input, or of a value, with which multiplications are counted.
const MOST: u64 = 1 << 31;

/// A graph in short.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Graph {
    /// How many nodes there are of each operator; graphs within nodes are not looked into.
    pub operators: BTreeMap<String, usize>,
    /// What callers bring.
    pub inputs: Vec<Value>,
    /// What comes out.
    pub outputs: Vec<Value>,
}

/// An input or an output.
#[derive(Clone, Debug, Serialize)]
pub struct Value {
    /// Its name.
    pub name: String,
    /// The type of its elements, where the model says it.
    pub dtype: Option<String>,
    /// Its dimensions, where the model says how many there are: numbers, names, or null.
    #[serde(serialize_with = "serialized")]
    pub dims: Option<Vec<Dim>>,
}

/// Multiplications that are followed by an addition, of convolutions and linear layers.
#[derive(Clone, Debug)]
pub(super) enum Macs {
    /// So many, and for what.
    Known(u64, String),
    /// Why they are not known.
    Unknown(String),
}

fn serialized<S: Serializer>(dims: &Option<Vec<Dim>>, to: S) -> Result<S::Ok, S::Error> {
    let json = |dim: &Dim| match dim {
        Dim::Fixed(size) => (*size).into(),
        Dim::Named(name) => name.as_str().into(),
        Dim::Any => serde_json::Value::Null,
    };
    dims.as_ref().map(|dims| dims.iter().map(json).collect::<Vec<_>>()).serialize(to)
}

impl Value {
    fn new(name: &str, dtype: Option<Dtype>, dims: Option<Vec<Dim>>) -> Self {
        Self { name: name.to_owned(), dtype: dtype.map(|dtype| dtype.to_string()), dims }
    }

    fn of_onnx(value: &ValueInfoProto) -> Self {
        let (dtype, dims) = niwaki_model::onnx::described(value);
        Self::new(value.name(), dtype, dims)
    }
}

/// The graph of an ONNX model, as it stands in the file.
pub(super) fn of_onnx(onnx: &Onnx) -> (Graph, Macs) {
    let proto = onnx.model().graph();
    let mut graph = Graph::default();
    for node in &proto.node {
        *graph.operators.entry(operator(node)).or_default() += 1;
    }
    let weights: std::collections::BTreeSet<&str> = onnx.model().initializers().map(|one| one.name()).collect();
    let inputs = proto.input.iter().filter(|input| !weights.contains(input.name()));
    graph.inputs = inputs.map(Value::of_onnx).collect();
    graph.outputs = proto.output.iter().map(Value::of_onnx).collect();
    let functions = onnx.model().proto().functions.iter().any(|function| loops(&function.node));
    let macs = match functions || loops(&proto.node) {
        true => Macs::Unknown("how often its loops turn depends on the inputs".to_owned()),
        false => counted(onnx).unwrap_or_else(|error| Macs::Unknown(error.to_string())),
    };
    (graph, macs)
}

fn operator(node: &NodeProto) -> String {
    match node.domain() {
        "" | "ai.onnx" => node.op_type().to_owned(),
        domain => format!("{domain}.{}", node.op_type()),
    }
}

/// Whether there are loops, in graphs within nodes too.
fn loops(nodes: &[NodeProto]) -> bool {
    let within = |graph: &GraphProto| loops(&graph.node);
    nodes.iter().any(|node| {
        let graphs = node.attribute.iter().flat_map(|one| one.g.iter().chain(&one.graphs));
        node.op_type() == "Loop" || graphs.into_iter().any(within)
    })
}

/// Runs the model once, on zeros: one of every dimension that is left open.
fn counted(onnx: &Onnx) -> Result<Macs, niwaki_model::Error> {
    let mut graph = niwaki_model::onnx::graph(onnx.model())?;
    graph.fold()?;
    graph.fuse()?;
    let executor = Executor::new(graph)?;
    let (inputs, shapes) = match example(executor.graph()) {
        Ok(found) => found,
        Err(why) => return Ok(Macs::Unknown(why)),
    };
    let outcome = executor.run(inputs, Run { limit: MOST, observe: None })?;
    Ok(Macs::Known(outcome.macs, shapes))
}

/// Zeros for every input, one of every dimension that is left open; and their shapes in words.
///
/// # Errors
///
/// Why there are none.
pub(crate) fn example(graph: &niwaki_model::Graph) -> Result<(Vec<Tensor>, String), String> {
    let (mut inputs, mut shapes) = (Vec::new(), Vec::new());
    for input in graph.inputs() {
        let name = graph.name(input.value);
        let dims = input.dims.as_ref().ok_or_else(|| format!("input `{name}` has no dimensions"))?;
        let shape: Vec<usize> = dims.iter().map(|dim| if let Dim::Fixed(size) = dim { *size } else { 1 }).collect();
        let tensor = zeros(&shape, input.dtype.unwrap_or(Dtype::F32));
        inputs.push(tensor.ok_or_else(|| format!("input `{name}` is too large"))?);
        let fixed: Vec<Dim> = shape.iter().copied().map(Dim::Fixed).collect();
        shapes.push(format!("{name} {}", niwaki_model::dims_text(&fixed)));
    }
    Ok((inputs, shapes.join(", ")))
}

fn zeros(shape: &[usize], dtype: Dtype) -> Option<Tensor> {
    let bytes = elements(shape)?.checked_mul(dtype.bitsize() / 8).filter(|bytes| *bytes as u64 <= MOST)?;
    Tensor::new(shape, Data::from_bytes(dtype, vec![0; bytes].into())?)
}

/// The graph of the model in a Hugging Face folder: none where there is no `config.json`. Of its
/// weights only names and shapes are looked at.
pub(super) fn of_folder(folder: &Path, source: Option<&Source<'_>>) -> Option<(Option<Graph>, Macs)> {
    if !folder.join("config.json").is_file() {
        return None;
    }
    let found = Config::open(folder).and_then(|config| match source {
        Some(source) => shaped(&config, source).map(Some),
        None => Ok(None),
    });
    Some(match found {
        Ok(Some(Blueprint::Decoder(DecoderGraph { graph, .. }) | Blueprint::Encoder(EncoderGraph { graph, .. }))) => {
            (Some(summary(&graph)), Macs::Known(linear(&graph), "one token".to_owned()))
        }
        Ok(None) => (None, Macs::Unknown("the layout of its weights is not read".to_owned())),
        Err(error) => (None, Macs::Unknown(error.to_string())),
    })
}

/// The graph of a configuration, with weights of the shapes that a checkpoint has.
fn shaped(config: &Config, source: &Source<'_>) -> Result<Blueprint, niwaki_model::Error> {
    let sizes = source.tensors().iter().map(|tensor| tensor.shape().elements());
    // Nobody reads them: memory that is only promised is the same zeros for all.
    let zeros = bytes::Bytes::from(vec![0u8; sizes.max().unwrap_or(0).saturating_mul(size_of::<u16>())]);
    let shapes: BTreeMap<&str, &[usize]> =
        source.tensors().iter().map(|tensor| (tensor.name(), tensor.shape().dims())).collect();
    hf::build(config, &|name| {
        let Some(shape) = shapes.get(name) else { return Ok(None) };
        let bytes = zeros.slice(..elements(shape).unwrap_or(0).saturating_mul(size_of::<u16>()).min(zeros.len()));
        Ok(Data::from_bytes(Dtype::BF16, bytes).and_then(|data| Tensor::new(*shape, data)).map(Into::into))
    })
}

fn summary(of: &niwaki_model::Graph) -> Graph {
    let mut graph = Graph::default();
    for node in of.nodes() {
        *graph.operators.entry(node.op.name().to_owned()).or_default() += 1;
    }
    let input = |input: &niwaki_model::Input| Value::new(of.name(input.value), input.dtype, input.dims.clone());
    graph.inputs = of.inputs().iter().map(input).collect();
    graph.outputs = of.outputs().iter().map(|value| Value::new(of.name(*value), None, None)).collect();
    graph
}

/// Multiplications of the linear layers for one row of inputs.
fn linear(of: &niwaki_model::Graph) -> u64 {
    let weights = of.nodes().iter().filter(|node| node.op.name() == "Linear").filter_map(|node| {
        let weights = of.constant((*node.inputs.get(1)?)?)?;
        let &[out, width] = weights.shape() else { return None };
        Some(node.op.macs(&[Some(&[1, width]), Some(&[out, width])], &[&[1, out]]))
    });
    weights.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use niwaki_onnx::proto::AttributeProto;

    use super::*;

    #[test]
    fn loops_are_found_in_graphs_within_nodes() {
        let node = |op: &str, graph: Option<GraphProto>| {
            let attribute = AttributeProto { g: graph, ..AttributeProto::default() };
            NodeProto { op_type: Some(op.to_owned()), attribute: vec![attribute], ..NodeProto::default() }
        };
        let within = |node: NodeProto| Some(GraphProto { node: vec![node], ..GraphProto::default() });
        assert!(!loops(&[node("Conv", None), node("If", within(node("Relu", None)))]));
        assert!(loops(&[node("If", within(node("If", within(node("Loop", None)))))]));
    }
}

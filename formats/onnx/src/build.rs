//! Small models, for tests and for whoever exports one.
//!
//! Plain functions that fill in messages; every field of a message is public, and whatever is
//! not asked for here can be set afterwards. The [crate's page](crate) has an example.

use bytes::Bytes;

use crate::data_type::DataType;
use crate::proto::attribute_proto::AttributeType;
use crate::proto::tensor_shape_proto::{Dimension, dimension};
use crate::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto, type_proto,
};

/// A dimension of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dim<'a> {
    /// So many.
    Known(usize),
    /// The same number wherever the name stands.
    Named(&'a str),
    /// Any number.
    Unknown,
}

/// A node, called like its first output. Inputs that are left out are empty names.
pub fn node(op: &str, inputs: &[&str], outputs: &[&str], attributes: Vec<AttributeProto>) -> NodeProto {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    NodeProto {
        op_type: Some(op.to_owned()),
        name: outputs.first().map(|name| (*name).to_owned()),
        input: owned(inputs),
        output: owned(outputs),
        attribute: attributes,
        ..NodeProto::default()
    }
}

fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { name: Some(name.to_owned()), r#type: Some(kind as i32), ..AttributeProto::default() }
}

/// An integer.
pub fn attr_int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { i: Some(value), ..attribute(name, AttributeType::Int) }
}

/// A float.
pub fn attr_float(name: &str, value: f32) -> AttributeProto {
    AttributeProto { f: Some(value), ..attribute(name, AttributeType::Float) }
}

/// A text.
pub fn attr_string(name: &str, value: &str) -> AttributeProto {
    AttributeProto { s: Some(Bytes::copy_from_slice(value.as_bytes())), ..attribute(name, AttributeType::String) }
}

/// Integers.
pub fn attr_ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { ints: values.to_vec(), ..attribute(name, AttributeType::Ints) }
}

/// Floats.
pub fn attr_floats(name: &str, values: &[f32]) -> AttributeProto {
    AttributeProto { floats: values.to_vec(), ..attribute(name, AttributeType::Floats) }
}

/// Texts.
pub fn attr_strings(name: &str, values: &[&str]) -> AttributeProto {
    let strings = values.iter().map(|value| Bytes::copy_from_slice(value.as_bytes())).collect();
    AttributeProto { strings, ..attribute(name, AttributeType::Strings) }
}

/// A tensor.
pub fn attr_tensor(name: &str, value: TensorProto) -> AttributeProto {
    AttributeProto { t: Some(value), ..attribute(name, AttributeType::Tensor) }
}

/// A graph.
pub fn attr_graph(name: &str, value: GraphProto) -> AttributeProto {
    AttributeProto { g: Some(value), ..attribute(name, AttributeType::Graph) }
}

/// An input or output of a graph: a tensor of a type and a shape.
pub fn value(name: &str, dtype: DataType, dims: &[Dim<'_>]) -> ValueInfoProto {
    let dim = |dim: &Dim<'_>| {
        let value = match *dim {
            Dim::Known(n) => Some(dimension::Value::DimValue(i64::try_from(n).unwrap_or(i64::MAX))),
            Dim::Named(name) => Some(dimension::Value::DimParam(name.to_owned())),
            Dim::Unknown => None,
        };
        Dimension { value, ..Dimension::default() }
    };
    let shape = TensorShapeProto { dim: dims.iter().map(dim).collect() };
    let tensor = type_proto::Tensor { elem_type: Some(dtype.number()), shape: Some(shape) };
    let r#type = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: Some(name.to_owned()), r#type: Some(r#type), ..ValueInfoProto::default() }
}

/// A tensor with its elements in `raw_data`: an initializer, or what an attribute holds.
/// Whether the bytes fit is seen when it is read.
pub fn initializer(name: &str, dtype: DataType, dims: &[usize], bytes: impl Into<Bytes>) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        data_type: Some(dtype.number()),
        dims: dims.iter().map(|dim| i64::try_from(*dim).unwrap_or(i64::MAX)).collect(),
        raw_data: Some(bytes.into()),
        ..TensorProto::default()
    }
}

/// A graph.
pub fn graph(
    name: &str,
    nodes: Vec<NodeProto>,
    inputs: Vec<ValueInfoProto>,
    outputs: Vec<ValueInfoProto>,
    initializers: Vec<TensorProto>,
) -> GraphProto {
    GraphProto {
        name: Some(name.to_owned()),
        node: nodes,
        input: inputs,
        output: outputs,
        initializer: initializers,
        ..GraphProto::default()
    }
}

/// A model over version `opset` of ONNX's own operators. Its IR version is 8, or the first that
/// has the types of its initializers.
pub fn model(opset: i64, graph: GraphProto) -> ModelProto {
    let needs = |tensor: &TensorProto| DataType::from_i32(tensor.data_type()).map_or(8, ir_version);
    ModelProto {
        ir_version: Some(graph.initializer.iter().map(needs).max().unwrap_or(8)),
        opset_import: vec![OperatorSetIdProto { domain: Some(String::new()), version: Some(opset) }],
        producer_name: Some("niwaki".to_owned()),
        graph: Some(graph),
        ..ModelProto::default()
    }
}

/// The IR version that a type asks for, from 8 on.
fn ir_version(dtype: DataType) -> i64 {
    match dtype {
        DataType::Float8E4M3Fn | DataType::Float8E4M3Fnuz => 9,
        DataType::Float8E5M2 | DataType::Float8E5M2Fnuz => 9,
        DataType::Uint4 | DataType::Int4 => 10,
        DataType::Float4E2M1 => 11,
        DataType::Float8E8M0 => 12,
        DataType::Uint2 | DataType::Int2 => 13,
        _ => 8,
    }
}

use niwaki_onnx::build::{Dim, attr_float, graph as graph_of, model, node, value};
use niwaki_onnx::proto::{AttributeProto, FunctionProto, ModelProto, NodeProto, OperatorSetIdProto};
use niwaki_onnx::{DataType, Limits, Model};
use prost::Message;

use crate::error::Error;
use crate::execute::{Executor, Run};
use crate::graph::Graph;
use crate::onnx::graph;
use crate::tensor::Tensor;

const DOMAIN: &str = "local";

fn function(name: &str, inputs: &[&str], outputs: &[&str], body: Vec<NodeProto>) -> FunctionProto {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let import = |domain: &str, version| OperatorSetIdProto { domain: Some(domain.to_owned()), version: Some(version) };
    FunctionProto {
        name: Some(name.to_owned()),
        domain: Some(DOMAIN.to_owned()),
        input: owned(inputs),
        output: owned(outputs),
        node: body,
        opset_import: vec![import("", 17), import(DOMAIN, 1)],
        ..FunctionProto::default()
    }
}

fn call(name: &str, inputs: &[&str], outputs: &[&str], attributes: Vec<AttributeProto>) -> NodeProto {
    NodeProto { domain: Some(DOMAIN.to_owned()), ..node(name, inputs, outputs, attributes) }
}

/// A model of one number `x`, and of `y`.
fn with(nodes: Vec<NodeProto>, functions: Vec<FunctionProto>) -> ModelProto {
    let end = |name| value(name, DataType::Float, &[Dim::Known(1)]);
    ModelProto { functions, ..model(17, graph_of("g", nodes, vec![end("x")], vec![end("y")], vec![])) }
}

fn read(proto: &ModelProto) -> Result<Graph, Error> {
    graph(&Model::parse(proto.encode_to_vec().into(), &Limits::default()).unwrap())
}

fn run(proto: &ModelProto, x: f32) -> f32 {
    let executor = Executor::new(read(proto).unwrap()).unwrap();
    let outcome = executor.run(vec![Tensor::vector(vec![x])], Run::default()).unwrap();
    outcome.outputs[0].get::<f32>().unwrap()[0]
}

/// `LeakyRelu` whose slope is that of the caller.
fn leaky(default: Option<f32>) -> FunctionProto {
    let slope = AttributeProto { ref_attr_name: Some("slope".to_owned()), f: None, ..attr_float("alpha", 0.0) };
    let body = vec![node("LeakyRelu", &["a"], &["b"], vec![slope])];
    FunctionProto {
        attribute_proto: default.map(|slope| attr_float("slope", slope)).into_iter().collect(),
        ..function("Leaky", &["a"], &["b"], body)
    }
}

#[test]
fn functions_take_the_attributes_of_their_callers() {
    let two =
        |slope: Vec<AttributeProto>| vec![call("Leaky", &["x"], &["a"], slope), call("Leaky", &["a"], &["y"], vec![])];
    let slope = || vec![attr_float("slope", 0.5)];
    assert_eq!(run(&with(two(slope()), vec![leaky(Some(0.25))]), -8.0), -1.0);
    // Without one, the operator's own: 0.01.
    assert_eq!(run(&with(two(slope()), vec![leaky(None)]), -8.0), -4.0 * 0.01);
}

#[test]
fn functions_call_others_and_leave_inputs_out() {
    // Clamp(a, low, high) calls Clip; Twice(a) passes it on, and leaves the low end out.
    let clamp =
        function("Clamp", &["a", "low", "high"], &["b"], vec![node("Clip", &["a", "low", "high"], &["b"], vec![])]);
    let body = vec![node("Add", &["a", "a"], &["high"], vec![]), call("Clamp", &["a", "", "high"], &["b"], vec![])];
    let twice = function("Twice", &["a"], &["a", "b"], body);
    let nodes =
        vec![call("Twice", &["x"], &["same", "least"], vec![]), node("Add", &["same", "least"], &["y"], vec![])];
    let proto = with(nodes, vec![twice, clamp]);
    // min(x, 2 x) + x
    assert_eq!(run(&proto, 3.0), 6.0);
    assert_eq!(run(&proto, -3.0), -9.0);
}

#[test]
fn functions_see_nothing_of_what_is_around_a_call() {
    let inner = function("F", &["a"], &["b"], vec![node("Add", &["a", "x"], &["b"], vec![])]);
    let error = read(&with(vec![call("F", &["x"], &["y"], vec![])], vec![inner])).unwrap_err();
    assert_eq!(error.to_string(), "node `y/b`: value `x` is made by no node");
    let relu = || function("F", &["a"], &["b"], vec![node("Relu", &["a"], &["b"], vec![])]);
    let error = read(&with(vec![call("F", &["x", "x"], &["y"], vec![])], vec![relu()])).unwrap_err();
    assert_eq!(error.to_string(), "node `y`: 2 inputs and 1 outputs, up to 1 and 1 expected");
    let nowhere = function("F", &["a"], &["b"], vec![]);
    let error = read(&with(vec![call("F", &["x"], &["y"], vec![])], vec![nowhere])).unwrap_err();
    assert_eq!(error.to_string(), "node `y`: value `b` is made by no node");
    let unknown = function("F", &["a"], &["b"], vec![node("Unknown", &["a"], &["b"], vec![])]);
    let error = read(&with(vec![call("F", &["x"], &["y"], vec![])], vec![unknown])).unwrap_err();
    assert_eq!(error.to_string(), "operators that are not supported: `y/b` (Unknown)");
}

#[test]
fn functions_that_grow_without_end_are_refused() {
    let own = function("F", &["a"], &["b"], vec![call("F", &["a"], &["b"], vec![])]);
    let error = read(&with(vec![call("F", &["x"], &["y"], vec![])], vec![own])).unwrap_err();
    assert!(error.to_string().ends_with("more than 64 graphs or functions within each other"), "{error}");
    // Each of 40 calls the next one twice.
    let name = |at: usize| format!("F{at}");
    let doubling = |at: usize| {
        let next = name(at + 1);
        let body = vec![call(&next, &["a"], &["m"], vec![]), call(&next, &["m"], &["b"], vec![])];
        function(&name(at), &["a"], &["b"], body)
    };
    let mut all: Vec<FunctionProto> = (0..40).map(doubling).collect();
    all.push(function(&name(40), &["a"], &["b"], vec![node("Relu", &["a"], &["b"], vec![])]));
    let error = read(&with(vec![call("F0", &["x"], &["y"], vec![])], all)).unwrap_err();
    assert!(error.to_string().ends_with("functions written out take more than 268435456 bytes"), "{error}");
}

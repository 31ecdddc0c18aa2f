//! Runs the node tests of ONNX: each operator, on the inputs and outputs that ONNX gives for it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::io::Read;

use bytes::Bytes;
use niwaki_model::{Data, ErrorKind, Executor, Run, Tensor, Value};
use niwaki_onnx::proto::{OptionalProto, SequenceProto, TensorProto, ValueInfoProto, type_proto};
use niwaki_onnx::{Limits, Model, parse_tensor};
use prost::Message;

/// Operators of the tests that niwaki does not have.
const MISSING: &[&str] = &include!("missing.rs");

/// Their results are random: only the shape and the type are compared.
const RANDOM: [&str; 3] = ["Bernoulli", "RandomNormalLike", "RandomUniformLike"];

/// Files of one test by name.
type Files = BTreeMap<String, Bytes>;

fn tests() -> BTreeMap<String, Files> {
    let packed = include_bytes!("../../../../tests/golden/onnx_nodes.tar.gz");
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&packed[..]));
    let mut tests: BTreeMap<String, Files> = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_str().unwrap().to_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        if let Some((test, file)) = path.split_once('/') {
            tests.entry(test.to_owned()).or_default().insert(file.to_owned(), bytes.into());
        }
    }
    tests
}

fn tensor(proto: &TensorProto) -> Result<Tensor, Trouble> {
    Ok(niwaki_model::onnx::tensor(niwaki_onnx::tensor(proto, None)?)?)
}

fn list(of: &SequenceProto) -> Result<Value, Trouble> {
    of.tensor_values.iter().map(tensor).collect::<Result<_, _>>().map(Value::List)
}

/// `input_0.pb`, `input_1.pb` and so on, of the types that the model says.
fn values(files: &Files, kind: &str, described: &[ValueInfoProto]) -> Result<Vec<Value>, Trouble> {
    let all = (0..).map_while(|at| files.get(&format!("{kind}_{at}.pb")));
    let value = |(bytes, described): (&Bytes, &ValueInfoProto)| match described
        .r#type
        .as_ref()
        .and_then(|of| of.value.as_ref())
    {
        Some(type_proto::Value::SequenceType(_)) => list(&SequenceProto::decode(bytes.clone())?),
        Some(type_proto::Value::OptionalType(_)) => match OptionalProto::decode(bytes.clone())? {
            OptionalProto { tensor_value: Some(proto), .. } => tensor(&proto).map(Value::Tensor),
            OptionalProto { sequence_value: Some(all), .. } => list(&all),
            OptionalProto { .. } => Ok(Value::Nothing),
        },
        _ => tensor(&parse_tensor(bytes.clone())?).map(Value::Tensor),
    };
    all.zip(described).map(value).collect()
}

/// Why a test did not pass.
enum Trouble {
    /// An operator of the model is not there.
    Operator(String),
    Wrong(String),
}

impl<E: std::error::Error> From<E> for Trouble {
    fn from(error: E) -> Self {
        Self::Wrong(error.to_string())
    }
}

fn run(files: &Files) -> Result<(), Trouble> {
    let model = Model::parse(files["model.onnx"].clone(), &Limits::default())?;
    let graph = niwaki_model::onnx::graph(&model).map_err(|error| match error.kind() {
        ErrorKind::Operators(all) => Trouble::Operator(all[0].1.clone()),
        _ => error.into(),
    })?;
    let random = graph.nodes().iter().any(|node| RANDOM.contains(&node.op.name()));
    let mut ready = graph.clone();
    ready.fold()?;
    ready.fuse()?;
    ready.block()?;
    let [inputs, outputs] = model.proto().graph.as_ref().map(|graph| [&graph.input, &graph.output]).unwrap();
    let expected = values(files, "output", outputs)?;
    // As it is, and as it is made ready to run fast.
    for graph in [graph, ready] {
        let made = Executor::new(graph)?.run_values(values(files, "input", inputs)?, Run::default())?.outputs;
        if made.len() != expected.len() {
            return Err(Trouble::Wrong(format!("{} outputs, {} expected", made.len(), expected.len())));
        }
        for (at, (made, expected)) in made.iter().zip(&expected).enumerate() {
            compare_values(made, expected, random).map_err(|what| Trouble::Wrong(format!("output {at}: {what}")))?;
        }
    }
    Ok(())
}

fn compare_values(made: &Value, expected: &Value, random: bool) -> Result<(), String> {
    let (found, truth) = (made.tensors(), expected.tensors());
    if made.kind() != expected.kind() || found.len() != truth.len() {
        let text = |value: &Value| format!("{} of {} tensors", value.kind(), value.tensors().len());
        return Err(format!("{}, {} expected", text(made), text(expected)));
    }
    found.iter().zip(truth).try_for_each(|(found, truth)| compare(found, truth, random))
}

/// The difference that ONNX's own runner allows, but for an absolute one that is that of f32.
fn compare(made: &Tensor, expected: &Tensor, random: bool) -> Result<(), String> {
    if made.dtype() != expected.dtype() || made.shape() != expected.shape() {
        let text = |tensor: &Tensor| format!("{} {:?}", tensor.dtype(), tensor.shape());
        return Err(format!("{}, {} expected", text(made), text(expected)));
    }
    let (found, truth) = (numbers(made), numbers(expected));
    let close = |(a, b): &(f64, f64)| a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-5 + 1e-3 * b.abs();
    match found.into_iter().zip(truth).enumerate().find(|(_, pair)| !random && !close(pair)) {
        Some((at, (a, b))) => Err(format!("{a} at {at}, {b} expected")),
        None => Ok(()),
    }
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    match tensor.data() {
        Data::F32(x) => x.as_slice().iter().map(|x| f64::from(*x)).collect(),
        Data::F64(x) => x.as_slice().to_vec(),
        Data::F16(x) => x.as_slice().iter().map(|x| x.to_f64()).collect(),
        Data::Bf16(x) => x.as_slice().iter().map(|x| x.to_f64()).collect(),
        Data::I64(x) => x.as_slice().iter().map(|x| *x as f64).collect(),
        Data::U64(x) => x.as_slice().iter().map(|x| *x as f64).collect(),
        Data::I32(x) => x.as_slice().iter().map(|x| f64::from(*x)).collect(),
        Data::U32(x) => x.as_slice().iter().map(|x| f64::from(*x)).collect(),
        Data::I16(x) => x.as_slice().iter().map(|x| f64::from(*x)).collect(),
        Data::U16(x) => x.as_slice().iter().map(|x| f64::from(*x)).collect(),
        Data::I8(x) => x.as_slice().iter().map(|x| f64::from(*x)).collect(),
        Data::U8(x) | Data::Bool(x) => x.as_slice().iter().map(|x| f64::from(*x)).collect(),
        _ => panic!("elements of {}", tensor.dtype()),
    }
}

#[test]
fn operators_do_what_onnx_says() {
    let tests = tests();
    assert!(tests.len() > 1000, "{} tests", tests.len());
    let (mut passed, mut failed) = (0, Vec::new());
    let mut missing: BTreeMap<String, usize> = BTreeMap::new();
    for (name, files) in &tests {
        match run(files) {
            Ok(()) => passed += 1,
            Err(Trouble::Operator(operator)) => *missing.entry(operator).or_default() += 1,
            Err(Trouble::Wrong(what)) => failed.push(format!("{name}: {what}")),
        }
    }
    println!("{passed} of {} passed; without an operator: {missing:?}", tests.len());
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
    let unknown: Vec<&String> = missing.keys().filter(|name| !MISSING.contains(&name.as_str())).collect();
    assert!(unknown.is_empty(), "operators that are missing, and not on the list: {unknown:?}");
}

/// What is on the list is not there: the list shrinks as operators come.
#[test]
fn missing_operators_are_missing() {
    for name in MISSING {
        let bare = niwaki_model::Definition { op: (*name).to_owned(), opset: 22, ..Default::default() };
        assert!(matches!(niwaki_model::ops::build(&bare), Ok(None)), "{name} is there: take it off the list");
    }
}

//! Models that run: the bundled network, and graphs that cannot be run.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};

use niwaki_conformance::folder::{Folder, repository};
use niwaki_conformance::onnx::initializers;
use niwaki_conformance::scene::{attempt, run};
use niwaki_conformance::trained::refuse;
use niwaki_onnx::build::{self, Dim, attr_int, attr_ints, graph, initializer, model, node, value};
use niwaki_onnx::proto::{GraphProto, ModelProto, NodeProto, TypeProto, ValueInfoProto, type_proto};
use niwaki_onnx::{DataType, SaveOptions, save};
use niwaki_tensors::{Checkpoint, Dtype, Limits, Overwrite, write_file};

fn fixture(name: &str) -> PathBuf {
    repository().join("tests/fixtures/fashion-cnn").join(name)
}

fn text(path: PathBuf) -> String {
    path.to_str().unwrap().to_owned()
}

/// The network of the fixture as ONNX has it.
fn fashion_cnn() -> ModelProto {
    let conv = |of: &str, from: &str, to: &str| {
        let attributes = vec![attr_ints("kernel_shape", &[3, 3]), attr_ints("pads", &[1; 4])];
        node("Conv", &[from, &format!("{of}.weight"), &format!("{of}.bias")], &[to], attributes)
    };
    let linear = |of: &str, from: &str, to: &str| {
        let inputs = [from, &format!("{of}.weight"), &format!("{of}.bias")];
        node("Gemm", &inputs, &[to], vec![attr_int("transB", 1)])
    };
    let pool = |from: &str, to: &str| {
        let two = |name: &str| attr_ints(name, &[2, 2]);
        node("MaxPool", &[from], &[to], vec![two("kernel_shape"), two("strides")])
    };
    let relu = |from: &str, to: &str| node("Relu", &[from], &[to], vec![]);
    let nodes = vec![
        conv("conv1", "images", "conv1"),
        relu("conv1", "relu1"),
        pool("relu1", "pool1"),
        conv("conv2", "pool1", "conv2"),
        relu("conv2", "relu2"),
        pool("relu2", "pool2"),
        node("Flatten", &["pool2"], &["flat"], vec![attr_int("axis", 1)]),
        linear("fc1", "flat", "fc1"),
        relu("fc1", "relu3"),
        linear("fc2", "relu3", "scores"),
    ];
    let images = [Dim::Named("batch"), Dim::Known(1), Dim::Known(28), Dim::Known(28)];
    model(
        17,
        graph(
            "fashion-cnn",
            nodes,
            vec![value("images", DataType::Float, &images)],
            vec![value("scores", DataType::Float, &[Dim::Named("batch"), Dim::Known(10)])],
            initializers(&text(fixture("model.safetensors"))),
        ),
    )
}

fn written(name: &str, model: &ModelProto) -> (Folder, String) {
    let folder = Folder::new(name);
    let path = folder.at("model.onnx");
    save(model, path.as_ref(), &SaveOptions::default()).unwrap();
    (folder, path)
}

#[test]
fn the_bundled_model_is_made_of_the_bundled_weights() {
    let (_folder, path) = written("fashion", &fashion_cnn());
    assert!(fs::read(path).unwrap() == fs::read(fixture("model.onnx")).unwrap(), "`-- --ignored` writes it anew");
}

#[test]
#[ignore = "writes the fixture"]
fn the_bundled_model_is_written_anew() {
    let (_folder, path) = written("anew", &fashion_cnn());
    fs::copy(&path, fixture("model.onnx")).unwrap();
}

#[test]
fn the_bundled_model_is_as_good_as_its_readme_says() {
    let folder = Folder::new("eval");
    let (model, data) = (text(fixture("model.onnx")), text(fixture("sample.safetensors")));
    let eval = |flags: &str| run(&folder, format!("eval {model} --data {data} --json {flags}").trim()).json();
    let found = eval("");
    assert_eq!((found["version"].as_u64(), found["examples"].as_u64()), (Some(1), Some(500)));
    assert_eq!(found["accuracy"].as_f64(), Some(459.0 / 500.0));
    assert!(found["loss"].as_f64().unwrap() < 0.3 && found["perplexity"].is_null() && found["kl"].is_null());
    // The same figures for any number of threads.
    for threads in [1, 3] {
        assert_eq!(eval(&format!("--threads {threads}"))["loss"], found["loss"]);
    }
    let weights = text(fixture("model.safetensors"));
    run(&folder, &format!("compress {weights} --scheme int8/row/sym -o @int8.safetensors"));
    run(&folder, &format!("compress {weights} --scheme int2/row/sym -o @int2.safetensors"));
    let against = |bits: &str| eval(&format!("--weights {} --against {weights}", folder.at(bits)));
    let (int8, int2) = (against("int8.safetensors"), against("int2.safetensors"));
    assert!(int8["agreement"].as_f64().unwrap() > 0.99 && int8["cosine"].as_f64().unwrap() > 0.9999);
    assert!(int2["agreement"].as_f64() < int8["agreement"].as_f64() && int2["kl"].as_f64() > int8["kl"].as_f64());
    assert_eq!(eval("--limit 10")["examples"].as_u64(), Some(10));
    let printed = run(&folder, &format!("eval {model} --data {data}")).out;
    assert!(printed.contains("accuracy   91.80 %"), "{printed}");
}

/// Images of one value, as inputs of the model.
fn inputs(folder: &Folder, name: &str, tensor: &str, shape: &[usize], dtype: Dtype) {
    let bytes = vec![0; shape.iter().product::<usize>() * dtype.bitsize() / 8];
    write_file(folder.at(name).as_ref(), &[(tensor, dtype, shape, &bytes)], &[], Overwrite::Replace).unwrap();
}

#[test]
fn a_run_writes_every_output_by_its_name() {
    let folder = Folder::new("run");
    let model = text(fixture("model.onnx"));
    inputs(&folder, "in.safetensors", "images", &[2, 1, 28, 28], Dtype::F32);
    let ran = run(&folder, &format!("run {model} --input @in.safetensors -o @out.safetensors --json")).json();
    // 9 taps for 28 x 28 x 8, 72 for 14 x 14 x 16, and the matrices; for two images.
    let macs = 2 * (9 * 28 * 28 * 8 + 72 * 14 * 14 * 16 + 64 * 784 + 640);
    assert_eq!(ran["macs"].as_u64(), Some(macs));
    assert_eq!(ran["outputs"][0]["shape"], serde_json::json!([2, 10]));
    let out = Checkpoint::open(std::path::Path::new(&folder.at("out.safetensors")), &Limits::default()).unwrap();
    let scores = out.get("scores").unwrap();
    let (one, two) = scores.bytes().split_at(40);
    assert!(one == two, "equal images have equal scores");
    let line = |input: &str| format!("run {model} --input @{input} -o @no.safetensors");
    inputs(&folder, "name.safetensors", "image", &[1, 1, 28, 28], Dtype::F32);
    refuse(&folder, &line("name.safetensors"), "no tensor `images`, an input of the model; there is `image`");
    inputs(&folder, "shape.safetensors", "images", &[1, 28, 28], Dtype::F32);
    refuse(&folder, &line("shape.safetensors"), "input `images`: 1x28x28, batchx1x28x28 expected");
    inputs(&folder, "type.safetensors", "images", &[1, 1, 28, 28], Dtype::I32);
    refuse(&folder, &line("type.safetensors"), "input `images`: I32, F32 expected");
    refuse(&folder, &format!("run {model} --input @in.safetensors -o @out.safetensors"), "exists");
}

/// A list of floats, as an input or an output.
fn list(name: &str) -> ValueInfoProto {
    let one = value(name, DataType::Float, &[Dim::Unknown]);
    let of = type_proto::Sequence { elem_type: one.r#type.map(Box::new) };
    let r#type = TypeProto { value: Some(type_proto::Value::SequenceType(Box::new(of))), ..TypeProto::default() };
    ValueInfoProto { name: Some(name.to_owned()), r#type: Some(r#type), ..ValueInfoProto::default() }
}

#[test]
fn tensors_of_lists_are_named_by_their_places() {
    let nodes = vec![
        node("SequenceInsert", &["all", "x", "zero"], &["more"], vec![]),
        node("SequenceLength", &["more"], &["count"], vec![]),
    ];
    let inputs = vec![list("all"), value("x", DataType::Float, &[Dim::Known(1)])];
    let outputs = vec![list("more"), value("count", DataType::Int64, &[])];
    let zero = vec![initializer("zero", DataType::Int64, &[], 0i64.to_le_bytes().to_vec())];
    let (folder, model) = written("lists", &build::model(17, graph("lists", nodes, inputs, outputs, zero)));
    let bytes = [1.0f32, 2.0, 3.0].map(f32::to_le_bytes);
    let tensor = |name, at: usize| (name, Dtype::F32, &[1][..], &bytes[at][..]);
    let all = [tensor("all.0", 0), tensor("all.1", 1), tensor("x", 2)];
    write_file(folder.at("in.safetensors").as_ref(), &all, &[], Overwrite::Refuse).unwrap();
    run(&folder, &format!("run {model} --input @in.safetensors -o @out.safetensors"));
    let out = Checkpoint::open(Path::new(&folder.at("out.safetensors")), &Limits::default()).unwrap();
    let names: Vec<_> = out.tensors().map(|tensor| tensor.name().to_owned()).collect();
    assert_eq!(names, ["more.0", "more.1", "more.2", "count"]);
    let found = ["more.0", "more.1", "more.2"].map(|name| out.get(name).unwrap().bytes().to_vec());
    assert_eq!(found, [2, 0, 1].map(|at: usize| bytes[at].to_vec()));
    assert_eq!(out.get("count").unwrap().bytes(), 3i64.to_le_bytes());
    write_file(folder.at("no.safetensors").as_ref(), &all[2..], &[], Overwrite::Refuse).unwrap();
    let line = format!("run {model} --input @no.safetensors -o @no-out.safetensors");
    refuse(&folder, &line, "no tensor `all.0`, an input of the model; there is `x`");
}

#[test]
fn a_model_is_inspected_without_being_opened_by_its_inputs() {
    let folder = Folder::new("inspect");
    let found = run(&folder, &format!("inspect {} --json", text(fixture("model.onnx")))).json();
    // As above, for one image.
    assert_eq!(found["macs"].as_u64(), Some(9 * 28 * 28 * 8 + 72 * 14 * 14 * 16 + 64 * 784 + 640));
    assert_eq!(found["macs_for"], "images 1x1x28x28");
    let operators = serde_json::json!({"Conv": 2, "Flatten": 1, "Gemm": 2, "MaxPool": 2, "Relu": 3});
    assert_eq!(found["graph"]["operators"], operators);
    let images = serde_json::json!([{"name": "images", "dtype": "F32", "dims": ["batch", 1, 28, 28]}]);
    assert_eq!(found["graph"]["inputs"], images);
    assert_eq!(found["graph"]["outputs"][0]["dims"], serde_json::json!(["batch", 10]));
    let why = |nodes: Vec<NodeProto>| {
        let (folder, path) = written("inspected", &small(nodes));
        let found = run(&folder, &format!("inspect {path} --json")).json();
        assert!(found["macs"].is_null() && found["graph"]["operators"].is_object(), "{found}");
        found["macs_unknown"].as_str().unwrap().to_owned()
    };
    assert!(why(vec![node("Foo", &["x"], &["y"], vec![])]).contains("operators that are not supported: `y` (Foo)"));
    let body = build::attr_ints("nothing", &[]);
    assert!(why(vec![node("Loop", &["x"], &["y"], vec![body])]).contains("loops"));
    let long = build::attr_ints("value_ints", &[1 << 20; 4]);
    let large = vec![node("Constant", &[], &["s"], vec![long]), node("ConstantOfShape", &["s"], &["y"], vec![])];
    assert!(why(large).contains("the limit is"));
    let bert = run(&folder, &format!("inspect {} --json", text(repository().join("tests/golden/hf/bert")))).json();
    // Two layers: four products of 16 x 16, and two of 16 x 24.
    assert_eq!(bert["macs"].as_u64(), Some(2 * (4 * 256 + 2 * 16 * 24)));
    assert_eq!(bert["macs_for"], "one token");
    assert_eq!(bert["graph"]["operators"]["SelfAttention"], 2);
    let llama = run(&folder, &format!("inspect {} --json", text(repository().join("tests/golden/hf/llama")))).json();
    // Two layers: queries and what comes of them 16 x 16, keys and values 8 x 16, three of 24 x 16; 40 logits.
    assert_eq!(llama["macs"].as_u64(), Some(2 * (2 * 256 + 2 * 128 + 3 * 24 * 16) + 40 * 16));
}

#[test]
fn a_model_is_seen_through_patches() {
    let folder = Folder::new("patched");
    let (model, weights) = (text(fixture("model.onnx")), text(fixture("model.safetensors")));
    run(&folder, &format!("compress {weights} --scheme int2/row/sym -o @far.safetensors"));
    run(&folder, "export @far.safetensors --to safetensors -o @robust.safetensors");
    let extract = format!(
        "signature extract --init {weights} --standard {weights} --robust @robust.safetensors -o @sig.safetensors"
    );
    run(&folder, &extract);
    run(&folder, &format!("signature apply {weights} @sig.safetensors --alpha 0.5 -o @merged.safetensors"));
    let data = text(fixture("sample.safetensors"));
    let loss = |flags: &str| {
        run(&folder, &format!("eval {model} --data {data} --json{flags}")).json()["loss"].as_f64().unwrap()
    };
    let (plain, patched) = (loss(""), loss(" --patch @sig.safetensors@0.5"));
    assert_eq!(loss(" --patch @sig.safetensors@0"), plain);
    assert!((plain - patched).abs() > 1e-3, "{plain} {patched}");
    assert_eq!(loss(&format!(" --weights {weights} --patch @sig.safetensors@0.5")), patched);
    // What is merged is rounded to the type of the weights, as what is seen through a patch is.
    assert_eq!(loss(" --weights @merged.safetensors"), patched);
    run(&folder, &format!("compress {weights} --scheme elastic/g32/2,8 -o @elastic.safetensors"));
    let wide = loss(" --weights @elastic.safetensors");
    assert_eq!(loss(" --weights @elastic.safetensors --bits 8"), wide);
    assert!(loss(" --weights @elastic.safetensors --bits 2") > wide);
}

#[test]
fn weights_and_data_that_do_not_fit_are_refused() {
    let folder = Folder::new("unfit");
    let (model, data) = (text(fixture("model.onnx")), text(fixture("sample.safetensors")));
    inputs(&folder, "other.safetensors", "w", &[3], Dtype::F32);
    let eval = |flags: &str| format!("eval {model} {flags}");
    refuse(&folder, &eval(&format!("--data {data} --weights @other.safetensors")), "none of the weights of");
    inputs(&folder, "shape.safetensors", "fc2.bias", &[11], Dtype::F32);
    refuse(
        &folder,
        &eval(&format!("--data {data} --weights @shape.safetensors")),
        "tensor `fc2.bias`: shape 11, the model has 10",
    );
    inputs(&folder, "small.safetensors", "images", &[2, 1, 27, 28], Dtype::U8);
    refuse(&folder, &eval("--data @small.safetensors"), "images of 1x27x28 do not fit its input batchx1x28x28");
    inputs(&folder, "none.safetensors", "images", &[0, 1, 28, 28], Dtype::U8);
    assert_eq!(attempt(&folder, &eval("--data @none.safetensors")).code, 2);
}

/// A model of these nodes on one input `x` [2], with one output `y`.
fn small(nodes: Vec<NodeProto>) -> ModelProto {
    let vector = |name: &str| value(name, DataType::Float, &[Dim::Known(2)]);
    let w = initializer("w", DataType::Float, &[2], vec![0; 8]);
    model(17, graph("small", nodes, vec![vector("x")], vec![vector("y")], vec![w]))
}

#[test]
fn graphs_that_cannot_be_run_are_refused_by_node() {
    let named = |mut node: NodeProto, name: &str| {
        node.name = Some(name.to_owned());
        node
    };
    let long = || build::attr_ints("value_ints", &[1 << 20; 4]);
    let cases = [
        (
            vec![node("Add", &["x", "b"], &["y"], vec![]), named(node("Relu", &["y"], &["b"], vec![]), "back")],
            "takes what it makes itself",
        ),
        (vec![node("Relu", &["z"], &["y"], vec![])], "node `y`: value `z` is made by no node"),
        (
            vec![node("Relu", &["x"], &["y"], vec![]), node("Abs", &["x"], &["y"], vec![])],
            "value `y` is made by another node too",
        ),
        (
            vec![named(node("Foo", &["x"], &["a"], vec![]), "one"), named(node("Bar", &["a"], &["y"], vec![]), "two")],
            "operators that are not supported: `one` (Foo), `two` (Bar)",
        ),
        (
            vec![node("Constant", &[], &["s"], vec![long()]), node("ConstantOfShape", &["s"], &["y"], vec![])],
            "a result of 4835703278458516698824704 bytes, the limit is",
        ),
        (
            vec![
                node("MatMul", &["x", "x2"], &["y"], vec![]),
                node("Concat", &["x", "w"], &["x2"], vec![attr_int("axis", 0)]),
            ],
            "node `y`",
        ),
    ];
    for (nodes, says) in cases {
        let (folder, path) = written("hostile", &small(nodes));
        inputs(&folder, "in.safetensors", "x", &[2], Dtype::F32);
        refuse(&folder, &format!("run {path} --input @in.safetensors -o @no.safetensors"), says);
    }
    let empty = model(17, GraphProto::default());
    let (folder, path) = written("empty", &empty);
    inputs(&folder, "in.safetensors", "x", &[2], Dtype::F32);
    run(&folder, &format!("run {path} --input @in.safetensors -o @out.safetensors"));
}

//! ONNX models whose weights are codes, against naive decoding and our own executor.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use niwaki_conformance::checkpoints::{f32s, weights};
use niwaki_conformance::folder::{Folder, repository};
use niwaki_conformance::onnx_read::{Weight, decoded};
use niwaki_conformance::scene::{attempt, run};
use niwaki_onnx::build::{Dim, attr_int, graph, initializer, model, node, value};
use niwaki_onnx::proto::{GraphProto, ModelProto, TensorProto};
use niwaki_onnx::{DataType, Limits, Model, SaveOptions, save};
use niwaki_tensors::{Checkpoint, Limits as TensorLimits};

fn dense(name: &str, dims: &[usize], seed: u64) -> TensorProto {
    initializer(name, DataType::Float, dims, f32s(&weights(seed, dims.iter().product())))
}

/// A convolution, linear layers stored both ways, a product, and an embedding.
fn network() -> GraphProto {
    let nodes = vec![
        node("Conv", &["x", "conv.weight", "conv.bias"], &["c"], vec![]),
        node("Relu", &["c"], &["r"], vec![]),
        node("Flatten", &["r"], &["f"], vec![]),
        node("Gemm", &["f", "fc.weight", "fc.bias"], &["h"], vec![attr_int("transB", 1)]),
        node("Relu", &["h"], &["a"], vec![]),
        node("MatMul", &["a", "proj.weight"], &["p"], vec![]),
        node("Gather", &["embed.weight", "ids"], &["e"], vec![]),
        node("Add", &["p", "e"], &["s"], vec![]),
        node("Gemm", &["s", "head.weight", "head.bias"], &["y"], vec![]),
    ];
    let tensors = vec![
        dense("conv.weight", &[6, 3, 3, 3], 1),
        dense("conv.bias", &[6], 2),
        dense("fc.weight", &[40, 216], 3),
        dense("fc.bias", &[40], 4),
        dense("proj.weight", &[40, 24], 5),
        dense("embed.weight", &[11, 24], 6),
        dense("head.weight", &[24, 10], 7),
        dense("head.bias", &[10], 8),
    ];
    let inputs = vec![
        value("x", DataType::Float, &[Dim::Known(2), Dim::Known(3), Dim::Known(8), Dim::Known(8)]),
        value("ids", DataType::Int64, &[Dim::Known(2)]),
    ];
    let mut graph =
        graph("small", nodes, inputs, vec![value("y", DataType::Float, &[Dim::Known(2), Dim::Known(10)])], tensors);
    graph.value_info = vec![
        value("h", DataType::Float, &[Dim::Known(2), Dim::Known(40)]),
        value("proj.weight", DataType::Float, &[Dim::Known(40), Dim::Known(24)]),
    ];
    graph
}

fn write(folder: &Folder, name: &str, model: &ModelProto) {
    save(model, folder.at(name).as_ref(), &SaveOptions { overwrite: true, ..SaveOptions::default() }).unwrap();
}

/// A folder with the network in several opsets, and what it is run on.
fn scene(opsets: &[i64]) -> Folder {
    let folder = Folder::new("onnx-export");
    for opset in opsets {
        write(&folder, &format!("model{opset}.onnx"), &model(*opset, network()));
    }
    let ids: Vec<u8> = [3i64, 10].iter().flat_map(|id| id.to_le_bytes()).collect();
    let x = f32s(&weights(9, 2 * 3 * 64).iter().map(|x| x * 40.0).collect::<Vec<_>>());
    niwaki_conformance::checkpoints::write(
        folder.at("in.safetensors"),
        &[("ids", "I64", &[2], ids), ("x", "F32", &[2, 3, 8, 8], x)],
    );
    folder
}

fn numbers(path: &str) -> BTreeMap<String, Weight> {
    let checkpoint = Checkpoint::open(std::path::Path::new(path), &TensorLimits::default()).unwrap();
    let floats = |bytes: &[u8]| bytes.as_chunks::<4>().0.iter().map(|x| f32::from_le_bytes(*x)).collect();
    let all = checkpoint.tensors();
    all.map(|t| (t.name().to_owned(), (t.shape().to_vec(), floats(t.bytes())))).collect()
}

/// The output of a model, with other weights where they are given.
fn output(folder: &Folder, model: &str, weights: Option<&str>) -> Vec<f32> {
    let with = weights.map(|weights| format!(" --weights @{weights}")).unwrap_or_default();
    let answer = attempt(folder, &format!("run @{model}{with} --input @in.safetensors -o @y.safetensors --force"));
    assert_eq!(answer.code, 0, "{answer:?}");
    numbers(&folder.at("y.safetensors"))["y"].1.clone()
}

fn most(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// The transpose of a matrix of `cols` columns.
fn transposed(values: &[f32], cols: usize) -> Vec<f32> {
    (0..cols).flat_map(|col| values.iter().skip(col).step_by(cols).copied()).collect()
}

/// Bytes that the plan said, tensor by tensor, against those of the initializers in the file.
fn check_sizes(folder: &Folder, json: &serde_json::Value, out: &str) {
    let model = Model::open(folder.at(out).as_ref(), &Limits::default()).unwrap();
    for tensor in json["tensors"].as_array().unwrap() {
        let name = tensor["name"].as_str().unwrap();
        let of = |known: &str| {
            let words = ["quantized", "scale", "zero_point", "shape"];
            known == name || words.iter().any(|word| known == format!("{name}_{word}"))
        };
        let parts = model.initializers().filter(|i| of(i.name()));
        let bytes: usize = parts.map(|i| model.read(i).unwrap().bytes.len()).sum();
        assert_eq!(tensor["bytes_after"].as_u64(), Some(bytes as u64), "{name} in {out}");
    }
    let bytes = fs::metadata(folder.at(out)).unwrap().len();
    assert_eq!(json["output_bytes"].as_u64(), Some(bytes));
}

const SCHEMES: [&str; 12] = [
    "int8/row/sym",
    "int8/row/affine",
    "int8/tensor/sym",
    "int8/tensor/affine",
    "int4/row/sym",
    "int3/row/affine",
    "int4/g32/sym",
    "int4/g16/affine",
    "int2/g16/affine",
    "int8/g32/sym",
    "int5/g24/affine",
    "int4/g64/sym/f32",
];

#[test]
fn a_container_goes_into_its_graph_number_by_number() {
    let folder = scene(&[9, 11, 17, 21]);
    for (nth, scheme) in SCHEMES.iter().enumerate() {
        let fit = if nth % 2 == 0 { "min_max" } else { "lsq" };
        run(&folder, &format!("compress @model17.onnx --scheme {scheme} --fit {fit} -o @c.safetensors --force"));
        run(&folder, "export @c.safetensors --to safetensors -o @plain.safetensors --force");
        let plain = numbers(&folder.at("plain.safetensors"));
        for opset in [9, 11, 17, 21] {
            let line = format!("export @c.safetensors --to onnx --model @model{opset}.onnx -o @e.onnx --force --json");
            let json = run(&folder, &line).json();
            check_sizes(&folder, &json, "e.onnx");
            assert!(json["tensors"].as_array().unwrap().iter().all(|t| t["sqnr_db"].is_null()), "{json}");
            let found = decoded(&folder.at("e.onnx"));
            for (name, (dims, values)) in &plain {
                let (has, numbers) = &found[name];
                assert_eq!((has, numbers), (dims, values), "{name}: {scheme}, opset {opset}");
            }
            let (ours, theirs) = (
                output(&folder, "e.onnx", None),
                output(&folder, &format!("model{opset}.onnx"), Some("c.safetensors")),
            );
            assert!(most(&ours, &theirs) <= 1e-6, "{scheme}, opset {opset}: {ours:?} {theirs:?}");
        }
    }
}

/// The distance between neighbours of a grid over these weights.
fn step(values: &[f32], bits: u32, affine: bool) -> f32 {
    let (low, high) = values.iter().fold((0f32, 0f32), |(low, high), x| (low.min(*x), high.max(*x)));
    if affine { (high - low) / ((1 << bits) - 1) as f32 } else { low.abs().max(high) / ((1 << (bits - 1)) - 1) as f32 }
}

#[test]
fn a_model_is_compressed_along_its_outputs() {
    let folder = scene(&[17, 21]);
    let before = decoded(&folder.at("model17.onnx"));
    for opset in [17, 21] {
        for scheme in SCHEMES {
            let line = format!("compress @model{opset}.onnx --scheme {scheme} --to onnx -o @e.onnx --force --json");
            let json = run(&folder, &line).json();
            check_sizes(&folder, &json, "e.onnx");
            let mut found = decoded(&folder.at("e.onnx"));
            for (name, (dims, values)) in &before {
                let (mut has, mut numbers) = found.remove(name).unwrap();
                let across = matches!(name.as_str(), "proj.weight" | "head.weight");
                if across && has != *dims {
                    (has, numbers) = (dims.clone(), transposed(&numbers, dims[0]));
                }
                assert_eq!(has, *dims, "{name}");
                let tensor = json["tensors"].as_array().unwrap().iter().find(|t| t["name"] == name.as_str()).unwrap();
                if tensor["scheme"].is_null() {
                    assert_eq!(numbers, *values, "{name} stays as it was: {scheme}");
                    continue;
                }
                assert_eq!(tensor["scheme"], scheme);
                // Row by row of outputs: no weight is further away than a step of its group allows.
                let (rows, q, cols) = match across {
                    true => (transposed(values, dims[1]), transposed(&numbers, dims[1]), dims[0]),
                    false => (values.clone(), numbers.clone(), values.len() / dims[0]),
                };
                let parts: Vec<&str> = scheme.split('/').collect();
                let bits = parts[0][3..].parse().unwrap();
                let run = match parts[1] {
                    "row" => cols,
                    "tensor" => rows.len(),
                    group => group[1..].parse().unwrap(),
                };
                let row = if parts[1] == "tensor" { rows.len() } else { cols };
                for (rows, q) in rows.chunks(row).zip(q.chunks(row)) {
                    for (x, q) in rows.chunks(run).zip(q.chunks(run)) {
                        // Symmetric grids may end one step short of the smaller end.
                        let affine = parts[2] == "affine";
                        let half = step(x, bits, affine) * if affine { 0.502 } else { 1.002 };
                        assert!(most(x, q) <= half + 1e-7, "{name}: {scheme}, opset {opset}: {} {half}", most(x, q));
                    }
                }
            }
            let wanted = output(&folder, &format!("model{opset}.onnx"), None);
            let got = output(&folder, "e.onnx", None);
            let scale = wanted.iter().fold(0f32, |a, b| a.max(b.abs()));
            if scheme.starts_with("int8") {
                assert!(most(&wanted, &got) < 0.05 * scale, "{scheme}: {wanted:?} {got:?}");
            }
        }
    }
}

#[test]
fn nodes_are_those_that_the_opset_has() {
    let folder = scene(&[9, 11, 17, 21]);
    let ops = |opset: i64, scheme: &str| {
        run(&folder, &format!("compress @model{opset}.onnx --scheme {scheme} --to onnx -o @e.onnx --force"));
        let model = Model::open(folder.at("e.onnx").as_ref(), &Limits::default()).unwrap();
        let count = |op: &str| model.graph().node.iter().filter(|node| node.op_type() == op).count();
        let versions = (model.proto().ir_version(), model.opset(""), model.opset("com.microsoft"));
        (count("DequantizeLinear"), count("MatMulNBits"), count("Reshape"), versions)
    };
    assert_eq!(ops(9, "int8/tensor/sym"), (0, 0, 0, (8, Some(9), None)));
    assert_eq!(ops(11, "int8/tensor/sym"), (5, 0, 0, (8, Some(11), None)));
    assert_eq!(ops(11, "int8/row/sym"), (0, 0, 0, (8, Some(11), None)));
    assert_eq!(ops(17, "int8/row/sym"), (5, 0, 0, (8, Some(17), None)));
    assert_eq!(ops(17, "int4/row/sym"), (5, 0, 0, (8, Some(17), None)));
    assert_eq!(ops(21, "int4/row/sym"), (5, 0, 0, (10, Some(21), None)));
    assert_eq!(ops(9, "int4/g32/sym"), (0, 3, 0, (8, Some(9), Some(1))));
    assert_eq!(ops(21, "int4/g32/sym"), (2, 3, 1, (10, Some(21), Some(1))));
    assert_eq!(ops(21, "int8/g24/sym"), (5, 0, 1, (8, Some(21), None)));
    let told = attempt(&folder, "compress @model17.onnx --scheme int4/g32/sym --to onnx -o @e.onnx --force -v");
    assert!(told.err.contains("tensor `conv.weight`: kept as floats: groups of 32 outside of plain products needs opset 21, and the model's is 17"), "{}", told.err);
}

#[test]
fn what_the_graph_has_beside_weights_stays() {
    let folder = scene(&[]);
    let mut texts = initializer("texts", DataType::String, &[1], vec![]);
    (texts.raw_data, texts.string_data) = (None, vec!["a".into()]);
    let mut graph = network();
    graph.initializer.push(texts);
    write(&folder, "texts.onnx", &model(21, graph));
    run(&folder, "compress @texts.onnx --scheme int4/g32/affine --to onnx -o @e.onnx --threads 1");
    run(&folder, "compress @texts.onnx --scheme int4/g32/affine --to onnx -o @again.onnx --threads 4");
    assert!(fs::read(folder.at("e.onnx")).unwrap() == fs::read(folder.at("again.onnx")).unwrap());
    let model = Model::open(folder.at("e.onnx").as_ref(), &Limits::default()).unwrap();
    let graph = model.graph();
    let known: Vec<&str> = graph.value_info.iter().map(|known| known.name()).collect();
    assert_eq!(known, ["h"], "a weight that is codes now is no value");
    assert!(graph.initializer.iter().any(|tensor| tensor.name() == "texts" && tensor.string_data.len() == 1));
    let product = graph.node.iter().find(|node| node.output == ["y"]).unwrap();
    assert_eq!((product.op_type(), product.name(), product.input.len()), ("MatMulNBits", "y", 6));
    assert_eq!((product.input[0].as_str(), product.input[5].as_str()), ("s", "head.bias"));
    let recipe = model.proto().metadata_props.iter().find(|entry| entry.key() == "niwaki.recipe").unwrap();
    assert!(recipe.value().contains("int4/g32/affine"), "{}", recipe.value());
    run(&folder, "verify @e.onnx");
}

#[test]
fn initializers_that_are_inputs_too_are_moved_together() {
    let folder = scene(&[]);
    let mut old = model(11, network());
    old.ir_version = Some(3);
    let graph = old.graph.as_mut().unwrap();
    let also: Vec<_> = graph
        .initializer
        .iter()
        .map(|tensor| {
            let dims: Vec<_> = tensor.dims.iter().map(|dim| Dim::Known(*dim as usize)).collect();
            value(tensor.name(), DataType::Float, &dims)
        })
        .collect();
    graph.input.extend(also);
    write(&folder, "old.onnx", &old);
    run(&folder, "compress @old.onnx --scheme int8/tensor/affine --to onnx -o @e.onnx");
    let model = Model::open(folder.at("e.onnx").as_ref(), &Limits::default()).unwrap();
    let inputs: Vec<&str> = model.graph().input.iter().map(|input| input.name()).collect();
    let tensors = || model.graph().initializer.iter().map(|tensor| tensor.name());
    assert!(tensors().all(|name| inputs.contains(&name)), "{inputs:?}");
    assert!(!inputs.contains(&"conv.weight") && inputs.contains(&"conv.weight_zero_point"), "{inputs:?}");
    let (ours, theirs) = (output(&folder, "e.onnx", None), output(&folder, "old.onnx", None));
    assert!(most(&ours, &theirs) < 0.02, "{ours:?} {theirs:?}");
}

#[test]
fn whatever_is_no_even_code_is_decoded() {
    let folder = scene(&[21]);
    fs::write(folder.at("masked.toml"), "version = 1\n[[mask]]\ntensors = \"*.weight\"\npattern = { keep = 0.25 }\n")
        .unwrap();
    for (how, bits) in [
        ("--scheme elastic/g32", " --bits 4"),
        ("--scheme elastic/g32", ""),
        ("--scheme nf4/g32", ""),
        ("--scheme fp8_e4m3/row", ""),
        ("--recipe @masked.toml", ""),
    ] {
        run(&folder, &format!("compress @model21.onnx {how} -o @c.safetensors --force"));
        run(&folder, &format!("export @c.safetensors --to safetensors{bits} -o @plain.safetensors --force"));
        let line = format!("export @c.safetensors --to onnx --model @model21.onnx{bits} -o @e.onnx --force --json");
        let json = run(&folder, &line).json();
        check_sizes(&folder, &json, "e.onnx");
        let told = attempt(&folder, &format!("{} -v", line.replace(" --json", "")));
        assert!(told.err.contains("is decoded to F32"), "{}", told.err);
        let (found, plain) = (decoded(&folder.at("e.onnx")), numbers(&folder.at("plain.safetensors")));
        for (name, weight) in &plain {
            assert_eq!(found[name], *weight, "{name}: {how}");
        }
        assert_eq!(output(&folder, "e.onnx", None), output(&folder, "model21.onnx", Some("plain.safetensors")));
    }
}

#[test]
fn halves_stay_halves() {
    let folder = Folder::new("onnx-halves");
    let bytes: Vec<u8> = weights(3, 64 * 8).iter().flat_map(|x| half::f16::from_f32(*x).to_le_bytes()).collect();
    let nodes = vec![node("MatMul", &["x", "w"], &["p"], vec![]), node("Add", &["p", "v"], &["y"], vec![])];
    let tensors = vec![
        initializer("w", DataType::Float16, &[64, 8], bytes.clone()),
        initializer("v", DataType::Float16, &[64, 8], bytes),
    ];
    let ends = |name: &str| vec![value(name, DataType::Float16, &[Dim::Known(64), Dim::Unknown])];
    write(&folder, "half.onnx", &model(21, graph("half", nodes, ends("x"), ends("y"), tensors)));
    for scheme in ["int8/row/sym", "int4/g32/affine", "int5/g32/sym"] {
        run(&folder, &format!("compress @half.onnx --scheme {scheme} --to onnx -o @e.onnx --force"));
        let found = decoded(&folder.at("e.onnx"));
        let before = decoded(&folder.at("half.onnx"));
        assert_eq!(found["v"].0, [64, 8]);
        assert!(most(&found["v"].1, &before["v"].1) < 0.01);
        let model = Model::open(folder.at("e.onnx").as_ref(), &Limits::default()).unwrap();
        let of = |name: &str| model.graph().initializer.iter().find(|t| t.name() == name).unwrap().data_type();
        let nbits = model.graph().node.iter().any(|node| node.op_type() == "MatMulNBits");
        assert_eq!(nbits, scheme == "int4/g32/affine");
        assert_eq!(of("w_scale"), if nbits { DataType::Float16 } else { DataType::Float }.number());
    }
}

#[test]
fn a_checkpoint_needs_its_own_graph() {
    let folder = scene(&[17]);
    run(&folder, "compress @model17.onnx --scheme int8/row/sym -o @c.safetensors");
    let refused = |line: &str| attempt(&folder, line);
    let answer = refused("export @c.safetensors --to onnx -o @e.onnx");
    assert!(answer.error().ends_with("c.safetensors`: has no graph, and an ONNX model is one"), "{answer:?}");
    assert!(answer.err.contains("hint: `--model MODEL.onnx` gives the graph whose weights it has"), "{answer:?}");
    let answer = refused("export @c.safetensors --to gguf --model @model17.onnx -o @e.gguf");
    assert_eq!(answer.error(), "`--model` is for `--to onnx`");
    let answer = refused("export @in.safetensors --to onnx --model @model17.onnx -o @e.onnx");
    assert!(answer.error().contains("none of the weights of"), "{answer:?}");
    niwaki_conformance::checkpoints::write(folder.at("odd.safetensors"), &[("fc.weight", "F32", &[1, 4], vec![0; 16])]);
    let answer = refused("export @odd.safetensors --to onnx --model @model17.onnx -o @e.onnx");
    assert!(
        answer.error().contains("tensor `fc.weight`: shape [1, 4], the model has [40, 216]")
            || answer.error().contains("1x4"),
        "{answer:?}"
    );
    niwaki_conformance::checkpoints::write(folder.at("ints.safetensors"), &[("fc.bias", "I32", &[40], vec![0; 160])]);
    let answer = refused("export @ints.safetensors --to onnx --model @model17.onnx -o @e.onnx");
    assert!(answer.error().contains("elements of I32, the model has FLOAT"), "{answer:?}");
    let answer = refused("compress @model17.onnx --scheme nf4/g32 --to onnx -o @e.onnx");
    assert!(answer.error().contains("nf4/g32"), "{answer:?}");
    let answer = refused("compress @model17.onnx --scheme int4/g32/sym --tail error --to onnx -o @e.onnx");
    assert!(answer.error().contains("fc.weight"), "{answer:?}");
    let answer = refused("compress @model17.onnx --scheme int8/row/sym --to onnx -o @e.safetensors");
    assert!(answer.error().ends_with("is named `.safetensors`, and the output is onnx"), "{answer:?}");
    fs::write(folder.at("cut.onnx"), &fs::read(folder.at("model17.onnx")).unwrap()[..900]).unwrap();
    let answer = refused("export @c.safetensors --to onnx --model @cut.onnx -o @e.onnx");
    assert_eq!(answer.code, 2, "{answer:?}");
    assert!(!fs::exists(folder.at("e.onnx")).unwrap());
    run(&folder, "export @c.safetensors --to onnx --model @model17.onnx -o @e.onnx");
    let answer = refused("export @c.safetensors --to onnx --model @model17.onnx -o @e.onnx");
    assert!(answer.error().contains("exists"), "{answer:?}");
}

#[test]
fn part_of_a_model_goes_into_the_rest() {
    let folder = scene(&[17]);
    let values = weights(77, 40);
    niwaki_conformance::checkpoints::write(
        folder.at("part.safetensors"),
        &[("fc.bias", "F32", &[40], f32s(&values)), ("unknown", "F32", &[1], f32s(&[1.0]))],
    );
    let told = attempt(&folder, "export @part.safetensors --to onnx --model @model17.onnx -o @e.onnx");
    assert_eq!(told.code, 0, "{told:?}");
    assert!(told.err.contains("tensor `unknown` is left out: the model has no weight of that name"), "{}", told.err);
    assert!(told.err.contains("7 float tensors of"), "{}", told.err);
    let (found, before) = (decoded(&folder.at("e.onnx")), decoded(&folder.at("model17.onnx")));
    assert_eq!(found["fc.bias"].1, values);
    assert_eq!(found["fc.weight"], before["fc.weight"]);
}

/// onnxruntime on all of it, where `NIWAKI_PYTHON` has it.
#[test]
fn onnxruntime_computes_the_same() {
    let python = std::env::var("NIWAKI_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let script = repository().join("tests/scripts/check_onnx_export.py");
    let folder = scene(&[11, 17, 21]);
    let mut checked = 0;
    for opset in [11, 17, 21] {
        for scheme in SCHEMES {
            run(&folder, &format!("compress @model{opset}.onnx --scheme {scheme} --to onnx -o @e.onnx --force"));
            output(&folder, "e.onnx", None);
            let paths = ["e.onnx", "in.safetensors", "y.safetensors"].map(|name| folder.at(name));
            let Ok(done) = Command::new(&python).arg(&script).args(paths).output() else {
                return println!("skipped: no {python}");
            };
            let said = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
            assert!(done.status.success(), "{scheme}, opset {opset}: {said}");
            if said.starts_with("skipped") {
                return print!("{said}");
            }
            assert!(said.contains("1 outputs, relative error"), "{said}");
            print!("{scheme}, opset {opset}: {said}");
            checked += 1;
        }
    }
    assert_eq!(checked, 3 * SCHEMES.len());
}

//! ONNX models as checkpoints: every verb that reads a checkpoint reads their initializers.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;

use niwaki_conformance::checkpoints::{f32s, weights};
use niwaki_conformance::folder::{Folder, repository};
use niwaki_conformance::onnx::{initializers, write_onnx};
use niwaki_conformance::scene::{assert_equal, attempt, compare, run};
use niwaki_conformance::trained::write_trained;
use niwaki_onnx::build::initializer;
use niwaki_onnx::proto::TensorProto;
use niwaki_onnx::{DataType, Limits, Model};
use serde_json::Value as Json;

/// The trained network three times, as safetensors and as ONNX.
fn scene() -> Folder {
    let folder = Folder::new("onnx");
    write_trained(&folder);
    for name in ["init", "standard", "fog"] {
        let from = initializers(&folder.at(&format!("{name}.safetensors")));
        write_onnx(&folder.at(&format!("{name}.onnx")), from, None);
    }
    folder
}

/// Initializers that are no plain floats in `raw_data`.
fn odd() -> Vec<TensorProto> {
    let mut typed = initializer("typed", DataType::Float, &[2, 2], vec![]);
    (typed.raw_data, typed.float_data) = (None, vec![1.0, -2.0, 3.0, 0.5]);
    let mut texts = initializer("texts", DataType::String, &[1], vec![]);
    (texts.raw_data, texts.string_data) = (None, vec!["a".into()]);
    vec![
        initializer(
            "shape",
            DataType::Int64,
            &[2],
            [1i64, -1].iter().flat_map(|i| i.to_le_bytes()).collect::<Vec<_>>(),
        ),
        typed,
        texts,
        initializer("nibbles", DataType::Int4, &[4], vec![0x21, 0x43]),
        initializer("scalar", DataType::Double, &[], 2.5f64.to_le_bytes().to_vec()),
    ]
}

fn tensors(json: &Json) -> Vec<(String, String, Json)> {
    let text = |t: &Json, key: &str| t[key].as_str().unwrap().to_owned();
    let all = json["tensors"].as_array().unwrap().iter();
    all.map(|t| (text(t, "name"), text(t, "dtype"), t["shape"].clone())).collect()
}

#[test]
fn inspect_and_verify_list_initializers() {
    let folder = scene();
    let (onnx, plain) =
        (run(&folder, "inspect @standard.onnx --json"), run(&folder, "inspect @standard.safetensors --json"));
    let (onnx, plain) = (onnx.json(), plain.json());
    assert_eq!((onnx["kind"].as_str(), onnx["parameters"].as_u64()), (Some("onnx"), plain["parameters"].as_u64()));
    assert_eq!(tensors(&onnx), tensors(&plain));
    assert!(run(&folder, "inspect @standard.onnx").out.starts_with("ONNX: "));
    let verified = run(&folder, "verify @standard.onnx").out;
    assert_eq!(verified, format!("no faults in {} tensors\nopset 17\n", tensors(&plain).len()));
    write_onnx(&folder.at("odd.onnx"), odd(), None);
    let found = tensors(&run(&folder, "inspect @odd.onnx --json").json());
    let found: Vec<_> = found.iter().map(|(name, dtype, _)| (name.as_str(), dtype.as_str())).collect();
    assert_eq!(found, [("shape", "I64"), ("typed", "F32"), ("scalar", "F64")]);
}

#[test]
fn plan_and_compress_see_what_safetensors_would_hold() {
    let folder = scene();
    assert_equal(&folder, "standard.safetensors", "standard.onnx");
    let plan =
        |from: &str| run(&folder, &format!("plan @{from} --scheme int8/row/sym --json")).json()["tensors"].clone();
    assert_eq!(plan("standard.onnx"), plan("standard.safetensors"));
    for threads in [1, 3] {
        for from in ["onnx", "safetensors"] {
            let line = format!("compress @standard.{from} --scheme int4/g16/sym -o @{from}-{threads}.safetensors");
            run(&folder, &format!("{line} --threads {threads}"));
        }
    }
    let bytes = |name: &str| fs::read(folder.at(name)).unwrap();
    assert!(bytes("onnx-1.safetensors") == bytes("onnx-3.safetensors"));
    assert_equal(&folder, "onnx-1.safetensors", "safetensors-1.safetensors");
    run(&folder, "verify @onnx-1.safetensors");
    let lossy = compare(&folder, "standard.onnx", "onnx-1.safetensors");
    assert!(lossy.iter().any(|(_, db)| db.is_some_and(|db| db > 10.0)), "{lossy:?}");
    run(&folder, "export @standard.onnx --to safetensors -o @back.safetensors");
    assert_equal(&folder, "standard.safetensors", "back.safetensors");
}

#[test]
fn integers_are_carried_and_gguf_says_that_no_engine_runs_it() {
    let folder = scene();
    let dense = initializer("dense.weight", DataType::Float, &[8, 64], f32s(&weights(7, 8 * 64)));
    let all = [dense].into_iter().chain(odd().into_iter().filter(|tensor| tensor.name() != "typed")).collect();
    write_onnx(&folder.at("all.onnx"), all, Some(64));
    assert!(folder.names().contains(&"all.onnx.data".to_owned()));
    run(&folder, "compress @all.onnx --scheme int8/row/sym -o @all.safetensors");
    let found = tensors(&run(&folder, "inspect @all.safetensors --json").json());
    let int = found.iter().find(|(name, ..)| name == "shape").unwrap();
    assert_eq!((int.1.as_str(), &int.2), ("I64", &serde_json::json!([2])));
    let answer = attempt(&folder, "compress @all.onnx --to gguf --scheme q8_0 -o @all.gguf");
    assert_eq!(answer.code, 0, "{answer:?}");
    assert!(answer.err.contains("architecture \"unknown\": it is an ONNX model"), "{}", answer.err);
    run(&folder, "verify @all.gguf");
    let near = compare(&folder, "all.onnx", "all.gguf");
    assert!(near.iter().all(|(_, db)| db.is_none_or(|db| db > 30.0)), "{near:?}");
    let refused = attempt(&folder, "export @standard.onnx --to safetensors --bits 4 -o @no.safetensors");
    assert_eq!(refused.code, 2, "{refused:?}");
}

fn extract(folder: &Folder, format: &str, out: &str) {
    let line =
        format!("--init @init.{format} --standard @standard.{format} --robust @fog.{format} -o @{out}.safetensors");
    run(folder, &format!("signature extract {line}"));
}

#[test]
fn signatures_are_extracted_from_models_and_merged_into_them() {
    let folder = scene();
    extract(&folder, "onnx", "sig");
    extract(&folder, "safetensors", "plain");
    assert_equal(&folder, "plain.safetensors", "sig.safetensors");
    let bytes = |name: &str| fs::read(folder.at(name)).unwrap();
    for from in ["onnx", "safetensors"] {
        run(&folder, &format!("signature apply @standard.{from} {} -o @patched.{from}", folder.at("sig.safetensors")));
    }
    assert_equal(&folder, "patched.safetensors", "patched.onnx");
    assert!(bytes("patched.onnx") != bytes("standard.onnx"));
    assert_eq!(bytes("patched.onnx").len(), bytes("standard.onnx").len());
    assert!(folder.names().contains(&"patched.onnx.undo.safetensors".to_owned()));
    // Whatever is no weight is as it was.
    let open = |name: &str| Model::open(folder.at(name).as_ref(), &Limits::default()).unwrap().into_proto();
    let (mut before, mut after) = (open("standard.onnx"), open("patched.onnx"));
    for model in [&mut before, &mut after] {
        model.graph.as_mut().unwrap().initializer.iter_mut().for_each(|tensor| tensor.raw_data = None);
    }
    assert_eq!(before, after);
    run(&folder, "signature remove @patched.onnx sig -o @back.onnx");
    assert!(bytes("back.onnx") == bytes("standard.onnx"));
    // Over itself.
    run(&folder, "signature remove @patched.onnx sig --force -o @patched.onnx");
    assert!(bytes("patched.onnx") == bytes("standard.onnx"));
}

#[test]
fn models_that_cannot_be_patched_in_place_are_refused() {
    let folder = scene();
    extract(&folder, "onnx", "sig");
    let sig = folder.at("sig.safetensors");
    let mut weights = initializers(&folder.at("standard.safetensors"));
    write_onnx(&folder.at("beside.onnx"), weights.clone(), Some(1));
    let refused = attempt(&folder, &format!("signature apply @beside.onnx {sig} -o @no.onnx"));
    assert!(
        refused.error().ends_with("patches in models with external data is not supported by this version"),
        "{refused:?}"
    );
    for tensor in weights.iter_mut().filter(|tensor| tensor.data_type() == DataType::Float.number()) {
        let raw = tensor.raw_data.take().unwrap();
        tensor.float_data = raw.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    }
    write_onnx(&folder.at("typed.onnx"), weights, None);
    assert_equal(&folder, "standard.onnx", "typed.onnx");
    let refused = attempt(&folder, &format!("signature apply @typed.onnx {sig} -o @no.onnx"));
    assert!(refused.error().contains("stands in none of the files as raw bytes"), "{refused:?}");
    assert!(!folder.names().iter().any(|name| name.starts_with("no.onnx")), "{:?}", folder.names());
}

#[test]
fn damaged_models_end_in_one_line() {
    let folder = scene();
    let bytes = fs::read(folder.at("standard.onnx")).unwrap();
    let mut refusals = 0;
    for len in (0..bytes.len()).step_by(bytes.len() / 40) {
        fs::write(folder.at("cut.onnx"), &bytes[..len]).unwrap();
        for verb in ["inspect @cut.onnx", "compare @cut.onnx @cut.onnx", "plan @cut.onnx --scheme int8/row/sym"] {
            let answer = attempt(&folder, verb);
            let error = answer.error();
            assert!(error.contains("cut.onnx`: ") && answer.err.lines().count() == 1, "{verb}: {answer:?}");
            refusals += 1;
        }
    }
    assert!(refusals > 100);
}

#[test]
fn an_exported_network_has_the_weights_of_its_checkpoint() {
    let folder = repository().join("../shared/data");
    let (onnx, plain) = (folder.join("resnet20-cifar10.onnx"), folder.join("resnet20-cifar10.safetensors"));
    if !onnx.exists() || !plain.exists() {
        return println!("skipped: no `../shared/data/resnet20-cifar10.onnx`");
    }
    let names = |path: &std::path::Path| {
        let answer = niwaki_conformance::cli::niwaki(["inspect", path.to_str().unwrap(), "--json"]).ok().json();
        let mut names: Vec<_> = tensors(&answer).into_iter().map(|(name, ..)| name).collect();
        names.sort();
        names
    };
    let (of_model, of_plain) = (names(&onnx), names(&plain));
    let same = of_plain.iter().filter(|name| of_model.contains(name)).count();
    assert!(same * 2 > of_plain.len(), "{same} of {} names are in the model", of_plain.len());
}

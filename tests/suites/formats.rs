//! Formats of others through the command line: in, out, there and back, and as the tools that
//! they belong to read them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::process::Command;

use niwaki_conformance::checkpoints::weights;
use niwaki_conformance::cli::niwaki;
use niwaki_conformance::folder::{Folder, fashion, repository};
use niwaki_conformance::scene::{assert_equal, attempt, compare, entry, run, scene};
use niwaki_engine::recipe::Mix;
use niwaki_gguf::{Array, GgmlType, Gguf, Layout, Metadata, Value, Writer};
use niwaki_tensors::{Limits, Overwrite};
use serde_json::Value as Json;

#[test]
fn a_folder_becomes_gguf_and_comes_back() {
    let folder = scene();
    run(&folder, "export @llama --to gguf -o @llama.gguf");
    run(&folder, "verify @llama.gguf");
    let gguf = Gguf::open(folder.at("llama.gguf").as_ref(), &Limits::default()).unwrap();
    assert_eq!(gguf.metadata().text("general.architecture"), Some("llama"));
    assert_eq!(gguf.metadata().number("llama.block_count"), Some(2));
    assert_eq!(gguf.metadata().get("tokenizer.ggml.tokens").and_then(Value::as_array).map(Array::len), Some(64));
    let of = |name: &str| gguf.get(name).unwrap().ggml_type().unwrap();
    assert_eq!((of("blk.0.attn_q.weight"), of("output_norm.weight")), (GgmlType::BF16, GgmlType::F32));
    // Under the names of Hugging Face it is what it was, rows in their old places.
    assert_equal(&folder, "llama", "llama.gguf");
    run(&folder, "export @llama.gguf --to safetensors -o @back.safetensors");
    assert_equal(&folder, "llama", "back.safetensors");
    // Under its own names, rows of queries have changed places.
    let own = niwaki(["inspect", &folder.at("llama.gguf")]).ok();
    assert!(own.out.contains("blk.1.attn_q.weight") && own.out.starts_with("GGUF: 20 tensors"), "{}", own.out);
}

#[test]
fn every_mix_is_written_as_planned_and_for_any_number_of_threads() {
    let folder = scene();
    for mix in Mix::names() {
        let flags = format!("@llama --to gguf --scheme {mix}");
        let planned = run(&folder, &format!("plan {flags} --json")).json();
        run(&folder, &format!("compress {flags} -o @one.gguf --threads 1 --force"));
        run(&folder, &format!("compress {flags} -o @many.gguf --threads 5 --force"));
        let bytes = |name: &str| std::fs::read(folder.at(name)).unwrap();
        assert!(bytes("one.gguf") == bytes("many.gguf"), "{mix}");
        run(&folder, "verify @one.gguf");
        let gguf = Gguf::open(folder.at("one.gguf").as_ref(), &Limits::default()).unwrap();
        let recipe = gguf.metadata().text("niwaki.recipe").unwrap();
        assert_eq!(run(&folder, &format!("plan {flags} --print-recipe")).out, recipe, "{mix}");
        let planned: u64 =
            planned["tensors"].as_array().unwrap().iter().map(|t| t["bytes_after"].as_u64().unwrap()).sum();
        let written: usize = gguf.tensors().map(|t| t.bytes().unwrap().len()).sum();
        assert_eq!(planned, written as u64, "{mix}");
        let kind = |name: &str| gguf.get(name).unwrap().ggml_type().unwrap().name().to_lowercase();
        // Blocks of 256 do not fill rows of 64: the plan said so, the fall-back stands there.
        let (rows, down) = (kind("blk.0.attn_k.weight"), kind("blk.0.ffn_down.weight"));
        let says = |name: &str, what: &str| {
            let lines = run(&folder, &format!("plan {flags}")).out;
            assert!(lines.contains(what), "{mix}: {name} is {what}, not so in\n{lines}");
        };
        says("attn_k", &rows);
        says("ffn_down", &down);
        for (name, db) in compare(&folder, "llama", "one.gguf") {
            let norm = name.contains("norm");
            assert!(norm == db.is_none() && db.is_none_or(|db| db > 8.0), "{mix}: {name} {db:?}");
        }
    }
}

#[test]
fn codes_go_from_format_to_format_without_loss() {
    let folder = scene();
    run(&folder, "compress @llama --preset linear --scheme int4/g32/sym -o @a");
    for (from, to, out) in [
        ("a", "gguf", "b.gguf"),
        ("b.gguf", "compressed-tensors", "c"),
        ("c", "gguf", "d.gguf"),
        ("c", "mlx", "e"),
        ("e", "compressed-tensors", "f"),
        ("f", "gptq", "g"),
        ("g", "awq", "h"),
        ("h", "gguf", "i.gguf"),
    ] {
        let answer = run(&folder, &format!("export @{from} --to {to} -o @{out}"));
        assert_equal(&folder, from, out);
        run(&folder, &format!("verify @{out}"));
        assert!(answer.out.contains("nothing was lost"), "{from} to {out}: {}", answer.out);
    }
    let gguf = Gguf::open(folder.at("i.gguf").as_ref(), &Limits::default()).unwrap();
    assert_eq!(gguf.get("model.layers.0.mlp.up_proj.weight").unwrap().ggml_type().unwrap(), GgmlType::Q4_0);
    // Into a container of ours they go by their codes, too, and blocks stay blocks.
    std::fs::write(folder.at("keep.toml"), "version = 1\n").unwrap();
    for (from, out, scheme) in [("h", "j", "int4/g32/sym"), ("b.gguf", "k.safetensors", "q4_0")] {
        run(&folder, &format!("compress @{from} -r @keep.toml -o @{out}"));
        assert_equal(&folder, from, out);
        run(&folder, &format!("verify @{out}"));
        let found = run(&folder, &format!("inspect @{out} --json")).json();
        let of = |name: &str| {
            found["tensors"].as_array().unwrap().iter().find(|t| t["name"] == name).unwrap()["scheme"].clone()
        };
        assert_eq!(of("model.layers.0.mlp.up_proj.weight"), scheme);
    }
}

#[test]
fn what_an_export_loses_is_said_and_true() {
    let folder = scene();
    for (scheme, to, floor) in [
        // The scales of a BF16 model are BF16 there.
        ("int4/g32/sym", "compressed-tensors", 45.0),
        // A minimum is rounded to a half.
        ("int4/g64/affine", "gguf", 50.0),
        // One scale of 32 bits for a row: blocks choose their own.
        ("int8/row/sym", "gguf", 40.0),
        ("q4_0", "awq", 14.0),
        ("q5_1", "compressed-tensors", 20.0),
        ("fp8_e4m3/row", "gguf", 30.0),
        ("nf4/g64", "mlx", 35.0),
        ("int3/g64/affine", "gptq", 45.0),
    ] {
        let out = format!("out-{to}-{}", scheme.replace('/', "-"));
        run(&folder, &format!("compress @llama --preset linear --scheme {scheme} -o @a --force"));
        let said = run(&folder, &format!("export @a --to {to} -o @{out} --json")).json();
        let measured = compare(&folder, "a", &out);
        for t in said["tensors"].as_array().unwrap() {
            let name = t["name"].as_str().unwrap();
            let (_, db) = measured.iter().find(|(other, _)| other == name).unwrap();
            assert_eq!(t["sqnr_db"].as_f64().is_some(), db.is_some(), "{scheme} to {to}: {name}");
            if let Some(db) = db {
                let says = t["sqnr_db"].as_f64().unwrap();
                assert!((db - says).abs() < 0.01 && *db > floor, "{scheme} to {to}: {name} {db}, said {says}");
            }
        }
    }
}

#[test]
fn elastic_codes_go_to_every_format_at_any_width() {
    let folder = scene();
    run(&folder, "compress @llama --preset linear --scheme elastic/g64 --keep *norm* -o @e");
    for (to, floor) in [("gguf", 8.0), ("compressed-tensors", 6.0), ("gptq", 6.0), ("mlx", 6.0), ("awq", 6.0)] {
        let mut before = 0.0;
        for bits in 2..=8 {
            let out = format!("out-{to}-{bits}");
            run(&folder, &format!("export @e --to {to} --bits {bits} -o @{out}"));
            let all = compare(&folder, "e", &out);
            let (_, db) = all.iter().find(|(name, _)| name.ends_with("q_proj.weight")).unwrap();
            let db = db.unwrap();
            assert!(db >= before - 0.01 && db > floor + 4.0 * f64::from(bits.min(4) - 2), "{to} {bits}: {db}");
            before = db;
            run(&folder, &format!("verify @{out}"));
        }
    }
    // FP8 has one width.
    run(&folder, "export @e --to fp8 -o @fp8");
    let (_, db) = compare(&folder, "e", "fp8").into_iter().find(|(name, _)| name.ends_with("q_proj.weight")).unwrap();
    assert!(db.unwrap() > 28.0, "{db:?}");
    let answer = attempt(&folder, "export @llama --to gguf --bits 4 -o @none.gguf");
    assert!(answer.error().contains("this file has none"), "{}", answer.err);
}

#[test]
fn small_floats_are_written_and_read_by_their_schemes() {
    let folder = scene();
    for (scheme, floor) in
        [("fp8_e4m3/tensor", 28.0), ("fp8_e4m3/row", 28.0), ("fp8_e4m3/b32", 28.0), ("nvfp4", 16.0), ("nf4/g64", 17.0)]
    {
        let flags = format!("@llama --preset linear --scheme {scheme}");
        let said = run(&folder, &format!("compress {flags} -o @a --force --threads 1 --json")).json();
        run(&folder, &format!("compress {flags} -o @b --force --threads 4"));
        let bytes = |name: &str| std::fs::read(folder.at(name) + "/model.safetensors").unwrap();
        assert!(bytes("a") == bytes("b"), "{scheme}");
        run(&folder, "verify @a");
        for (t, (name, db)) in said["tensors"].as_array().unwrap().iter().zip(compare(&folder, "llama", "a")) {
            if t["fate"] == "quantize" {
                let (db, says) = (db.unwrap(), t["sqnr_db"].as_f64().unwrap());
                assert!(db > floor && (db - says).abs() < 0.01, "{scheme}: {name} {db} {says}");
            }
        }
        let masked = attempt(&folder, &format!("export @a --to safetensors -o @p{}", scheme.replace('/', "-")));
        assert_eq!(masked.code, 0, "{}", masked.err);
    }
}

#[test]
fn gguf_to_gguf_carries_all_metadata_of_any_architecture() {
    let folder = Folder::new("formats");
    let mut metadata = Metadata::new();
    metadata.set("general.architecture", Value::Text("strange".to_owned()));
    metadata.set("strange.block_count", Value::U32(3));
    metadata.set("strange.numbers", Value::Array(Array::F32(vec![1.5, -2.0])));
    metadata.set("general.alignment", Value::U32(64));
    let entries = [
        entry("blk.0.ffn_up.weight", &[4, 256], GgmlType::F16),
        entry("blk.0.odd.weight", &[2, 256], GgmlType::IQ2_XS),
        entry("ids", &[5], GgmlType::I32),
    ];
    let layout = Layout::new(&metadata, &entries).unwrap();
    let writer = Writer::create(folder.at("a.gguf").as_ref(), layout, Overwrite::Refuse).unwrap();
    let halves: Vec<u8> = weights(3, 1024).iter().flat_map(|x| half::f16::from_f32(*x).to_le_bytes()).collect();
    writer.write_at(0, 0, &halves).unwrap();
    writer.write_at(1, 0, &[7; 148]).unwrap();
    writer.write_at(2, 0, &[1; 20]).unwrap();
    writer.finish(false).unwrap();
    run(&folder, "export @a.gguf --to gguf -o @b.gguf");
    let bytes = |name: &str| std::fs::read(folder.at(name)).unwrap();
    let b = Gguf::open(folder.at("b.gguf").as_ref(), &Limits::default()).unwrap();
    for (key, value) in metadata.iter() {
        assert_eq!(b.metadata().get(key), Some(value), "{key}");
    }
    assert_eq!(b.get("blk.0.odd.weight").unwrap().bytes().unwrap(), [7; 148], "blocks that nobody here decodes");
    assert_eq!(b.get("blk.0.ffn_up.weight").unwrap().bytes().unwrap(), halves);
    run(&folder, "export @b.gguf --to gguf -o @c.gguf");
    assert!(bytes("b.gguf") == bytes("c.gguf"));
    // To be encoded anew, or to leave GGUF, they would have to be decoded.
    let answer = attempt(&folder, "export @a.gguf --to safetensors -o @a.safetensors");
    assert!(answer.error().contains("decoding IQ2_XS blocks is not supported"), "{}", answer.err);
    let answer = attempt(&folder, "compress @a.gguf --to gguf --preset weights --scheme q8_0 -o @d.gguf");
    assert!(answer.error().contains("`blk.0.odd.weight`"), "{}", answer.err);
    assert!(!Path::new(&folder.at("d.gguf")).exists());
}

#[test]
fn small_floats_stay_what_they_are_between_formats() {
    let folder = scene();
    for (to, scheme, next) in [
        ("fp8", "fp8_e4m3/b32", &["fp8", "compressed-tensors"][..]),
        ("compressed-tensors", "fp8_e4m3/row", &["compressed-tensors"]),
        ("compressed-tensors", "nvfp4", &["compressed-tensors"]),
        ("compressed-tensors", "mxfp4", &["compressed-tensors", "mlx", "gguf"]),
        ("mlx", "mxfp4", &["mlx", "compressed-tensors"]),
    ] {
        let from = format!("{to}-{}", scheme.replace('/', "-"));
        run(&folder, &format!("compress @llama --to {to} --scheme {scheme} -o @{from}"));
        for next in next {
            let out = format!("{from}-{next}");
            let said = run(&folder, &format!("export @{from} --to {next} -o @{out} --json")).json();
            let of = |t: &&Json| t["name"].as_str().unwrap().ends_with("up_proj.weight");
            let up = said["tensors"].as_array().unwrap().iter().find(of).unwrap();
            assert_eq!(up["scheme"], scheme, "{from} to {next}");
            let found = compare(&folder, &from, &out);
            let (_, db) = found.iter().find(|(name, _)| name.ends_with("up_proj.weight")).unwrap();
            assert!(db.is_none_or(|db| db > 60.0), "{from} to {next}: {db:?}");
        }
    }
}

#[test]
fn a_bare_checkpoint_becomes_gguf_with_a_warning() {
    let folder = Folder::new("formats");
    let answer = niwaki(["export", &fashion(), "--to", "gguf", "-o", &folder.at("a.gguf")]);
    assert!(answer.code == 0 && answer.err.starts_with("note: architecture \"unknown\""), "{}", answer.err);
    let gguf = Gguf::open(folder.at("a.gguf").as_ref(), &Limits::default()).unwrap();
    assert_eq!(gguf.metadata().text("general.architecture"), Some("unknown"));
    let same = niwaki(["compare", &fashion(), &folder.at("a.gguf"), "--max-abs", "0"]);
    assert_eq!(same.code, 0, "{}", same.out);
}

/// Formats, what Python needs to read them, and schemes that are written.
const TOOLS: [(&str, &str, &[&str]); 5] = [
    (
        "gguf",
        "gguf",
        &[
            "q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q2_k", "q3_k_m", "q4_k_m", "q5_k_m", "q6_k", "iq4_nl", "iq4_xs",
            "mxfp4",
        ],
    ),
    (
        "compressed-tensors",
        "torch, compressed_tensors",
        &[
            "int2/g32/sym",
            "int3/g64/affine",
            "int4/g32/sym",
            "int8/row/sym",
            "fp8_e4m3/row",
            "fp8_e4m3/tensor",
            "nvfp4",
            "mxfp4",
        ],
    ),
    (
        "mlx",
        "mlx.core",
        &["int2/g64/affine", "int3/g32/sym", "int4/g64/affine", "int6/g32/affine", "int8/row/sym", "mxfp4"],
    ),
    (
        "gptq",
        "torch, gptqmodel",
        &["int2/g32/affine", "int3/g32/sym", "int3/row/affine", "int4/g32/sym", "int4/g64/affine", "int8/g32/sym"],
    ),
    ("awq", "torch, transformers, awq", &["int4/g32/sym", "int4/g64/affine", "int4/row/sym"]),
];

#[test]
fn the_tools_read_what_the_command_line_writes() {
    let python = std::env::var("NIWAKI_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has = |modules: &str| {
        let found = Command::new(&python).args(["-c", &format!("import numpy, safetensors, {modules}")]).output();
        found.is_ok_and(|output| output.status.success())
    };
    let script = repository().join("tests/scripts/read_by_tools.py");
    let folder = scene();
    let (mut read, mut skipped) = (0, Vec::new());
    for (to, modules, schemes) in TOOLS {
        if !has(modules) {
            skipped.push(modules);
            continue;
        }
        for scheme in schemes {
            let out = format!("{to}-{}", scheme.replace('/', "-"));
            run(&folder, &format!("compress @llama --to {to} --scheme {scheme} -o @{out}"));
            run(&folder, &format!("export @{out} --to safetensors -o @plain.safetensors --force"));
            let paths = [folder.at(&out), folder.at("plain.safetensors")];
            let output = Command::new(&python).arg(&script).arg(to).args(paths).output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && said.contains("quantized: same"), "{to} {scheme}: {said}");
            read += 1;
        }
    }
    for modules in skipped {
        println!("skipped: {python} with {modules} is not installed");
    }
    println!("{read} files read by the tools themselves");
}

//! Formats of others through the command line: in, out, there and back, and as the tools that
//! they belong to read them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::process::Command;

use niwaki_conformance::checkpoints::{bf16s, f32s, weights, write};
use niwaki_conformance::cli::{Answer, niwaki};
use niwaki_conformance::folder::{Folder, fashion, repository};
use niwaki_conformance::llama::write_llama;
use niwaki_engine::recipe::Mix;
use niwaki_gguf::{Array, Entry, GgmlType, Gguf, Layout, Metadata, Value, Writer};
use niwaki_tensors::{Limits, Overwrite};
use serde_json::Value as Json;

/// A folder with a small Llama in `llama`.
fn scene() -> Folder {
    let folder = Folder::new("formats");
    write_llama(folder.at("llama").as_ref());
    folder
}

/// Runs a verb on paths inside the folder, with `-q`; it must end well and silently.
fn run(folder: &Folder, line: &str) -> Answer {
    let answer = attempt(folder, &format!("{line} -q"));
    assert_eq!((answer.code, answer.err.as_str()), (0, ""), "{line}: {}", answer.out);
    answer
}

/// The same, however it ends. Words with a slash or a dot that begin with `@` are paths.
fn attempt(folder: &Folder, line: &str) -> Answer {
    niwaki(line.split(' ').map(|word| word.strip_prefix('@').map_or(word.to_owned(), |name| folder.at(name))))
}

/// Signal to noise by tensor as `compare` has it; none where two are equal.
fn compare(folder: &Folder, a: &str, b: &str) -> Vec<(String, Option<f64>)> {
    let answer = run(folder, &format!("compare @{a} @{b} --json")).json();
    let of = |t: &Json| {
        let equal = t["sqnr_db"].is_null() && t["max_abs"] == 0.0;
        (t["name"].as_str().unwrap().to_owned(), (!equal).then(|| t["sqnr_db"].as_f64().unwrap_or(f64::NAN)))
    };
    answer["tensors"].as_array().unwrap().iter().map(of).collect()
}

fn assert_equal(folder: &Folder, a: &str, b: &str) {
    let differ: Vec<_> = compare(folder, a, b).into_iter().filter(|(_, db)| db.is_some()).collect();
    assert_eq!(differ, [], "{a} and {b}");
}

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
fn a_scheme_that_a_format_does_not_hold_is_refused_with_the_nearest_that_it_does() {
    let folder = scene();
    for (to, scheme, near) in [
        ("gguf", "int4/g32/sym", "q4_0"),
        ("gguf", "int5/g64/affine", "q5_1"),
        ("gguf", "elastic/g64", "q8_0"),
        ("gguf", "fp8_e4m3/row", "q8_0"),
        ("awq", "int8/g64/sym", "int4/g64/sym"),
        ("gptq", "int5/g64/sym", "int8/g64/sym"),
        ("gptq", "nf4/g64", "int4/g128/sym"),
        ("mlx", "int7/g64/affine", "int8/g64/affine"),
        ("mlx", "int4/g16/sym", "int4/g32/sym"),
        ("mlx", "nvfp4", "mxfp4"),
        ("compressed-tensors", "q4_k", "int4/g32/affine"),
        ("compressed-tensors", "int4/g48/sym", "int4/g16/sym"),
        ("fp8", "int8/row/sym", "fp8_e4m3/row"),
    ] {
        let preset = if to == "gguf" { "weights" } else { "linear" };
        let answer =
            attempt(&folder, &format!("compress @llama --to {to} --preset {preset} --scheme {scheme} -o @out"));
        assert_eq!(answer.code, 2, "{to} {scheme}: {}", answer.out);
        assert!(
            answer.err.contains(&format!("`{near}`")) || answer.err.contains(&format!("nearest is {near}")),
            "{to} {scheme}: {}",
            answer.err
        );
        assert!(answer.err.contains("tensor `model."), "{to} {scheme}: {}", answer.err);
        assert!(!Path::new(&folder.at("out")).exists(), "{to} {scheme}");
    }
    // A row that blocks do not fill: refused by a scheme, another type by a rule that says so.
    let answer = attempt(&folder, "compress @llama --to gguf --preset weights --scheme q4_k -o @out.gguf");
    assert!(answer.err.contains("do not fill the row of 64") && answer.err.contains("`q5_0`"), "{}", answer.err);
    let recipe =
        "version = 1\n[[quantize]]\ntensors = \"*.weight\"\nmin_dims = 2\nscheme = \"q4_k\"\nfallback = \"q5_0\"\n";
    std::fs::write(folder.at("r.toml"), recipe).unwrap();
    let plan = run(&folder, "plan @llama --to gguf -r @r.toml -v").out;
    assert!(plan.contains("q5_0") && plan.contains("q4_k"), "{plan}");
    run(&folder, "compress @llama --to gguf -r @r.toml -o @out.gguf");
}

#[test]
fn hostile_inputs_end_in_one_line_and_leave_nothing() {
    let folder = scene();
    let refuse = |line: &str, what: &str| {
        let before = folder.names();
        let answer = attempt(&folder, &format!("{line} -q"));
        assert!(answer.error().contains(what), "{line}: {}", answer.err);
        assert_eq!(folder.names(), before, "{line}");
    };
    let config = std::fs::read_to_string(folder.at("llama/config.json")).unwrap();
    let change = |text: &str| std::fs::write(folder.at("llama/config.json"), text).unwrap();
    change("{\"model_type\": \"llama\", ");
    refuse("export @llama --to gguf -o @out.gguf", "is no JSON");
    change(&config.replace("\"hidden_size\":64", "\"hidden_size\":\"many\""));
    refuse("export @llama --to gguf -o @out.gguf", "hidden_size");
    change(&config.replace("\"num_attention_heads\":2", "\"num_attention_heads\":3"));
    refuse("export @llama --to gguf -o @out.gguf", "");
    change(&config.replace("\"num_hidden_layers\":2", "\"num_hidden_layers\":3"));
    refuse("export @llama --to gguf -o @out.gguf", "model.layers.2.");
    change(&config);
    std::fs::rename(folder.at("llama/tokenizer.json"), folder.at("tokenizer.json")).unwrap();
    refuse("export @llama --to gguf -o @out.gguf", "vocabulary");
    std::fs::rename(folder.at("tokenizer.json"), folder.at("llama/tokenizer.json")).unwrap();
    run(&folder, "export @llama --to gguf -o @good.gguf");
    let good = std::fs::read(folder.at("good.gguf")).unwrap();
    for cut in [0, 3, 4, 23, 24, 100, good.len() / 2, good.len() - 1] {
        std::fs::write(folder.at("cut.gguf"), &good[..cut]).unwrap();
        refuse("export @cut.gguf --to safetensors -o @out.safetensors", "cut.gguf");
        refuse("compress @cut.gguf --to gguf --scheme q8_0 -o @out.gguf", "cut.gguf");
    }
    // A type that nobody knows, where the first tensor's stands.
    let at = good.windows(18).position(|w| w == b"token_embd.weight\x02").unwrap() + 17 + 4 + 16;
    let mut unknown = good.clone();
    unknown[at..at + 4].copy_from_slice(&99u32.to_le_bytes());
    std::fs::write(folder.at("unknown.gguf"), &unknown).unwrap();
    refuse("export @unknown.gguf --to safetensors -o @out.safetensors", "token_embd.weight");
    refuse("inspect @unknown.gguf", "token_embd.weight");
    // Two tensors that would get one name.
    write(
        folder.at("twice.safetensors"),
        &[("p.weight", "F32", &[8, 32], f32s(&weights(1, 256))), ("p.weight_packed", "F32", &[1], f32s(&[1.0]))],
    );
    refuse("compress @twice.safetensors --to compressed-tensors --scheme int4/g32/sym -o @out", "p.weight_packed");
    let long = "x".repeat(70);
    write(folder.at("long.safetensors"), &[(long.as_str(), "BF16", &[2, 32], bf16s(&weights(1, 64)))]);
    refuse("export @long.safetensors --to gguf -o @out.gguf", &long);
    write(folder.at("u16.safetensors"), &[("ids", "U16", &[2], vec![0; 4])]);
    refuse("export @u16.safetensors --to gguf -o @out.gguf", "U16");
    // What is not a folder, and what is there already.
    refuse("compress @llama --to mlx --scheme int4/g64/sym -o @out.safetensors", "folder");
    refuse("compress @llama --to mlx --scheme int4/g64/sym -o @llama", "exists");
    refuse("compress @llama --to gguf --scheme q8_0 -o @good.gguf", "exists");
    refuse("compress @llama --to gptq --activations dynamic --scheme int8/row/sym -o @out", "dynamic");
    refuse("compress @llama --scheme q4_k_m -o @out", "`q4_k_m` is a mix of GGUF types");
}

/// A GGUF file of these tensors, each filled with one byte.
fn write_gguf(path: &str, metadata: &Metadata, entries: &[Entry], fill: u8) {
    let writer = Writer::create(path.as_ref(), Layout::new(metadata, entries).unwrap(), Overwrite::Replace).unwrap();
    for index in 0..entries.len() {
        let bytes = writer.layout().entry_bytes(index).unwrap();
        writer.write_at(index, 0, &vec![fill; bytes as usize]).unwrap();
    }
    writer.finish(false).unwrap();
}

fn entry(name: &str, dims: &[usize], ggml_type: GgmlType) -> Entry {
    Entry { name: name.to_owned(), dims: dims.to_vec(), ggml_type }
}

#[test]
fn an_output_never_ruins_what_stands_there() {
    let folder = scene();
    let tokenizer = std::fs::read(folder.at("llama/tokenizer.json")).unwrap();
    for to in ["mlx", "safetensors"] {
        let answer = attempt(&folder, &format!("compress @llama --to {to} --scheme int4/g64/affine -o @llama --force"));
        assert!(answer.error().contains("is the input"), "{}", answer.err);
    }
    assert_eq!(std::fs::read(folder.at("llama/tokenizer.json")).unwrap(), tokenizer);
    // Other weights in the folder would win over the new ones.
    std::fs::create_dir(folder.at("old")).unwrap();
    std::fs::write(folder.at("old/model.safetensors.index.json"), "{}").unwrap();
    let answer = attempt(&folder, "compress @llama --to mlx --scheme int4/g64/affine -o @old --force");
    assert!(answer.error().contains("model.safetensors.index.json"), "{}", answer.err);
    // A configuration that cannot be changed ends the run before it begins.
    std::fs::write(folder.at("llama/config.json"), "{\"a\": NaN").unwrap();
    let answer = attempt(&folder, "compress @llama --to mlx --scheme int4/g64/affine -o @new");
    assert!(answer.error().contains("is no JSON object"), "{}", answer.err);
    assert!(!Path::new(&folder.at("new")).exists());
    let answer = attempt(&folder, "export @llama --to gguf -o @a.safetensors");
    assert!(answer.error().contains("is named `.safetensors`"), "{}", answer.err);
}

#[test]
fn odd_tensors_of_gguf_keep_their_numbers() {
    let folder = Folder::new("formats");
    let mut metadata = Metadata::new();
    metadata.set("general.architecture", Value::Text("llama".to_owned()));
    metadata.set("llama.attention.head_count", Value::U32(2));
    metadata.set("niwaki", Value::Text("{}".to_owned()));
    let path = folder.at("a.gguf");
    let entries = [
        entry("token_embd.weight", &[4, 64], GgmlType::Q8_0),
        entry("blk.0.attn_k.bias", &[64], GgmlType::Q8_0),
        entry("blk.0.ffn_up.weight", &[0, 64], GgmlType::Q4_0),
        entry("rope_freqs.weight", &[8], GgmlType::F32),
    ];
    let writer = Writer::create(path.as_ref(), Layout::new(&metadata, &entries).unwrap(), Overwrite::Refuse).unwrap();
    let block = |first: u8| [&[0, 0x3C][..], &(first..first + 32).collect::<Vec<_>>()].concat();
    writer.write_at(0, 0, &[block(1), block(33)].concat().repeat(4)).unwrap();
    writer.write_at(1, 0, &[block(1), block(33)].concat()).unwrap();
    writer.finish(false).unwrap();
    std::fs::write(folder.at("keep.toml"), "version = 1\n").unwrap();
    run(&folder, "compress @a.gguf -r @keep.toml -o @kept.safetensors");
    run(&folder, "export @a.gguf --to safetensors -o @plain.safetensors");
    run(&folder, "export @a.gguf --to gguf -o @b.gguf");
    for other in ["kept.safetensors", "plain.safetensors", "b.gguf"] {
        assert_equal(&folder, "a.gguf", other);
        run(&folder, &format!("inspect @{other}"));
    }
    let said = niwaki(["plan", &path, "-r", &folder.at("keep.toml")]).ok().out;
    assert!(said.lines().any(|line| line.starts_with("rope_freqs.weight") && line.contains("drop")), "{said}");
    // Heads that do not divide the rows, and one part of several.
    metadata.set("llama.attention.head_count", Value::U32(3));
    write_gguf(&path, &metadata, &entries, 0);
    let answer = attempt(&folder, "export @a.gguf --to safetensors -o @c.safetensors");
    assert!(answer.error().contains("cannot be divided among the heads"), "{}", answer.err);
    metadata.set("split.count", Value::U16(2));
    write_gguf(&path, &metadata, &entries, 0);
    let answer = attempt(&folder, "export @a.gguf --to gguf -o @c.gguf");
    assert!(answer.error().contains("one of 2 parts"), "{}", answer.err);
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
fn what_engines_do_not_expect_as_codes_is_decoded() {
    let folder = scene();
    run(&folder, "compress @llama --to gguf --scheme q4_0 -o @a.gguf");
    for to in ["compressed-tensors", "gptq", "awq"] {
        let out = format!("out-{to}");
        let answer = run(&folder, &format!("export @a.gguf --to {to} -o @{out}"));
        let embedding = answer.out.lines().find(|line| line.contains("embed_tokens")).unwrap();
        assert!(embedding.contains("F32, decoded"), "{embedding}");
        assert_equal(&folder, "a.gguf", &out);
    }
    write(folder.at("named.safetensors"), &[("myweight", "F32", &[8, 32], f32s(&weights(1, 256)))]);
    std::fs::write(folder.at("r.toml"), "version = 1\n[[quantize]]\ntensors = \"*\"\nscheme = \"int4/g32/sym\"\n")
        .unwrap();
    let answer = attempt(&folder, "compress @named.safetensors --to gptq -r @r.toml -o @named -q");
    assert!(answer.error().contains("`myweight`"), "{}", answer.err);
    // Decoded to halves, numbers are not what they were, and the report says so.
    write(folder.at("odd.safetensors"), &[("a.weight", "F32", &[64, 45], f32s(&weights(1, 64 * 45)))]);
    run(&folder, "compress @odd.safetensors --scheme int8/row/sym -o @odd8.safetensors");
    let said = run(&folder, "export @odd8.safetensors --to gguf -o @odd.gguf --json").json();
    assert_eq!((&said["tensors"][0]["fate"], said["tensors"][0]["sqnr_db"].is_null()), (&Json::from("decode"), false));
}

#[test]
fn mixes_hold_for_whatever_has_tensors_that_they_name() {
    let folder = scene();
    write(folder.at("bare.safetensors"), &[("a.weight", "F32", &[8, 64], f32s(&weights(1, 512)))]);
    run(&folder, "compress @bare.safetensors --to gguf --scheme q4_0 -o @bare.gguf");
    run(&folder, "plan @llama --to gguf --preset q4_k_m --only *q_proj*");
    let answer = attempt(&folder, "plan @llama --to gguf --preset q4_k_m --fit lsq");
    assert!(answer.error().contains("says scheme and fit"), "{}", answer.err);
    let answer = attempt(&folder, "plan @llama --to mlx --scheme int4/g64/affine --pre-tokenizer x");
    assert!(answer.error().contains("`--to gguf`"), "{}", answer.err);
    // A weight that no code holds, of a type that GGUF does not have.
    let mut bytes = vec![0x38; 64];
    bytes[5] = 0x7F;
    write(folder.at("nan.safetensors"), &[("a.weight", "F8_E4M3", &[2, 32], bytes)]);
    let answer = attempt(&folder, "compress @nan.safetensors --to gguf --scheme q8_0 --nan keep -o @nan.gguf");
    assert!(answer.code == 0 && answer.err.contains("weight 5 is NaN"), "{}", answer.err);
    let gguf = Gguf::open(folder.at("nan.gguf").as_ref(), &Limits::default()).unwrap();
    assert_eq!(gguf.get("a.weight").unwrap().ggml_type().unwrap(), GgmlType::F16);
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
    for (to, modules, schemes) in [
        (
            "gguf",
            "gguf",
            &[
                "q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q2_k", "q3_k_m", "q4_k_m", "q5_k_m", "q6_k", "iq4_nl",
                "iq4_xs", "mxfp4",
            ][..],
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
    ] {
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

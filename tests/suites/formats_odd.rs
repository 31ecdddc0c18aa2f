//! Formats of others through the command line: what is odd, hostile, or stands in the way.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;

use niwaki_conformance::checkpoints::{bf16s, f32s, weights, write};
use niwaki_conformance::cli::niwaki;
use niwaki_conformance::folder::Folder;
use niwaki_conformance::scene::{assert_equal, attempt, entry, run, scene, write_gguf};
use niwaki_gguf::{GgmlType, Gguf, Layout, Metadata, Value, Writer};
use niwaki_tensors::{Limits, Overwrite};
use serde_json::Value as Json;

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
    let answer = attempt(&folder, "compress @llama --to gptq --preset weights --scheme int4/g32/sym -o @embedded -q");
    assert!(answer.error().contains("codes of embeddings"), "{}", answer.err);
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
    // Without `--to gguf` a name of blocks is a scheme, and that of a mix alone is none.
    write(folder.at("wide.safetensors"), &[("a.weight", "F32", &[2, 256], f32s(&weights(1, 512)))]);
    for kind in niwaki_codes::BlockType::ALL {
        run(&folder, &format!("compress @wide.safetensors --scheme {kind} -o @{kind}.safetensors"));
    }
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

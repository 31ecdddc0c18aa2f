//! Channels of feed-forward parts that fire too little to be computed: thresholds planned, measured, run, and refused.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use niwaki_conformance::folder::{Folder, bundled, repository, sample};
use niwaki_conformance::llama::{letters, write_llama};
use niwaki_conformance::scene::attempt;
use niwaki_conformance::trained::refuse;
use niwaki_conformance::transformer::words;
use niwaki_tensors::{Dtype, Overwrite, write_file};
use serde_json::Value;

/// A folder with a small Llama, and a text.
fn scene() -> Folder {
    let folder = Folder::new("thresholds");
    write_llama(&folder.path().join("llama"));
    std::fs::write(folder.path().join("text.txt"), letters(700)).unwrap();
    folder
}

/// What `eval` finds.
fn eval(folder: &Folder, line: &str) -> Value {
    attempt(folder, &format!("eval {line} --json -q")).ok().json()
}

fn number(found: &Value, key: &str) -> f64 {
    found[key].as_f64().unwrap_or_else(|| panic!("no {key}: {found}"))
}

/// What `dynamic plan` leaves, of what it lists first.
fn first_row(said: &Value) -> Value {
    said["table"][0].clone()
}

#[test]
fn thresholds_leave_out_channels_that_do_not_fire() {
    let folder = scene();
    let plan =
        |more: &str| attempt(&folder, &format!("dynamic plan @llama --data @text.txt {more} --json -q")).ok().json();
    let said = plan("--uniform --mass 0.5 -o @half.safetensors --threads 1");
    // Per layer gate, up and down of 64 by 256, and attention of 64 by (64 + 32 + 32 + 64); a table of 64 by 64.
    let (feed, rest) = (2 * 3 * 64 * 256, 2 * 64 * 192 + 64 * 64);
    assert_eq!((&said["layers"], &said["tokens"]), (&Value::from(2), &Value::from(5 * 128)));
    assert_eq!(said["dense"], Value::from(feed + rest));
    let row = first_row(&said);
    let left = number(&row, "channels");
    assert!(left <= 0.5 && left > 0.48, "{row}");
    assert!(
        (number(&row, "feed_forward") - (1.0 + 2.0 * left) / 3.0).abs() < 1e-12,
        "gates are always computed: {row}"
    );
    let active = f64::from(feed) * number(&row, "feed_forward") + f64::from(rest);
    assert!((number(&row, "active") / active - 1.0).abs() < 1e-12, "{row}");
    let half = std::fs::read(folder.at("half.safetensors")).unwrap();
    plan("--uniform --mass 0.5 -o @half.safetensors --force --threads 3");
    assert!(half == std::fs::read(folder.at("half.safetensors")).unwrap());
    // What was counted on is what is left, on the same tokens.
    let heads = "--heads @half.safetensors";
    let measured = attempt(&folder, &format!("dynamic eval @llama {heads} --data @text.txt --json -q")).ok().json();
    assert!((number(&measured, "channels") - left).abs() < 0.05, "{measured}");
    assert_eq!(measured["layers"][0]["layer"], "model.layers.0.mlp.gate_proj.weight");
    assert!(measured["layers"][1]["active"].as_f64().unwrap() < 0.6, "{measured}");
    let found = eval(&folder, &format!("@llama {heads} --data @text.txt"));
    assert_eq!((&found["loss"], &found["perplexity"]), (&measured["loss"], &measured["perplexity"]));
    let against = eval(&folder, &format!("@llama {heads} --data @text.txt --against @llama"));
    assert!(number(&against, "kl") > 0.0);
    // All channels are all that there is.
    plan("--mass 1 -o @all.safetensors");
    let all = eval(&folder, "@llama --heads @all.safetensors --data @text.txt --against @llama");
    assert_eq!((number(&all, "kl"), number(&all, "agreement")), (0.0, 1.0));
    let text = |more: &str| {
        attempt(&folder, &format!("generate @llama --prompt abc --max-tokens 20 --json -q{more}")).ok().json()["text"]
            .clone()
    };
    assert_eq!(text(""), text(" --heads @all.safetensors"));
    assert_eq!(text(&format!(" {heads} --threads 1")), text(&format!(" {heads} --threads 3")));
}

#[test]
fn shares_of_what_fires_meet_a_budget() {
    let folder = scene();
    let plan = |more: &str| attempt(&folder, &format!("dynamic plan @llama --data @text.txt {more} --json -q"));
    let said = plan("--macs 0.7 -o @t.safetensors").ok().json();
    let rows: Vec<f64> = said["table"].as_array().unwrap().iter().map(|row| number(row, "channels")).collect();
    assert!(rows[0] == 1.0 && rows.windows(2).all(|pair| pair[0] > pair[1]), "{rows:?}");
    let picked = &said["picked"];
    assert!(number(picked, "share") <= 0.7, "{picked}");
    let next = plan(&format!("--mass {:.3}", number(picked, "mass") + 0.001)).ok().json();
    assert!(number(&first_row(&next), "share") > 0.7, "the largest that fits: {next}");
    let measured =
        attempt(&folder, "dynamic eval @llama --heads @t.safetensors --data @text.txt --json -q").ok().json();
    assert!((number(&measured, "share") - 0.7).abs() < 0.03, "{measured}");
    let answer = attempt(&folder, "dynamic plan @llama --data @text.txt --macs 0.1 -o @no.safetensors -q");
    assert_eq!(answer.code, 1);
    assert!(answer.out.contains("no thresholds leave 10.00 % of the MACs: the greatest leave"), "{}", answer.out);
    assert!(!std::path::Path::new(&folder.at("no.safetensors")).exists());
}

#[test]
fn encoders_are_measured_against_themselves() {
    let folder = Folder::new("thresholds-encoder");
    let (golden, bert) = (repository().join("tests/golden/hf/bert"), folder.path().join("bert"));
    std::fs::create_dir(&bert).unwrap();
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(golden.join(name), bert.join(name)).unwrap();
    }
    std::fs::write(bert.join("tokenizer.json"), words().to_string()).unwrap();
    std::fs::write(folder.at("lines.txt"), "w5 w6 w7\n\nw8 w9 w10 w11 w12\nw13\n").unwrap();
    let measured = |share: f64| {
        let plan = format!(
            "dynamic plan @bert --data @lines.txt --uniform --mass {share} -o @t.safetensors --force --json -q"
        );
        let said = attempt(&folder, &plan).ok().json();
        // Each line between two tokens of its own.
        assert_eq!((&said["examples"], &said["tokens"]), (&Value::from(3), &Value::from(5 + 7 + 3)));
        attempt(&folder, "dynamic eval @bert --heads @t.safetensors --data @lines.txt --json -q").ok().json()
    };
    let [all, half] = [1.0, 0.5].map(measured);
    assert_eq!((number(&all, "channels"), number(&all, "feed_forward")), (1.0, 1.0));
    // A cosine of two vectors of single floats that are the same.
    assert!(number(&all, "cosine") > 1.0 - 1e-6, "{all}");
    assert!(number(&half, "cosine") < 1.0 - 1e-6 && number(&half, "channels") < 0.6, "{half}");
    let left = number(&half, "channels");
    assert!((number(&half, "feed_forward") - (1.0 + left) / 2.0).abs() < 1e-12, "first layers are whole: {half}");
    let said = eval(&folder, "@bert --heads @t.safetensors --data @lines.txt --against @bert");
    assert_eq!(said["cosine"], half["cosine"]);
}

#[test]
fn thresholds_of_another_model_are_refused() {
    let folder = scene();
    let written = |about: &str, all: &[f32]| {
        let bytes: Vec<u8> = all.iter().flat_map(|x| x.to_le_bytes()).collect();
        let (path, shape) = (folder.at("bad.safetensors"), [all.len()]);
        let tensors: [(&str, Dtype, &[usize], &[u8]); 1] = [("thresholds", Dtype::F32, &shape, &bytes)];
        write_file(path.as_ref(), &tensors, &[("niwaki.thresholds", about)], Overwrite::Replace).unwrap();
    };
    let line = "generate @llama --prompt abc --heads @bad.safetensors";
    let layer = |at: usize| format!("\"model.layers.{at}.mlp.gate_proj.weight\"");
    let about = |version: u32, share: f64, layers: &str| {
        format!("{{\"version\":{version},\"target\":{{\"uniform\":{share}}},\"layers\":[{layers}]}}")
    };
    let both = format!("{},{}", layer(0), layer(1));
    written(&about(1, 0.5, &both), &[0.1, 0.2]);
    attempt(&folder, line).ok();
    for (text, all, says) in [
        (about(2, 0.5, &both), &[0.1, 0.2][..], "version 2, 1 expected"),
        (about(1, 1.5, &both), &[0.1, 0.2], "its target: a share of 1.5 to keep"),
        (about(1, 0.5, &both), &[0.1], "tensor `thresholds`: F32 [1], F32 [2] expected"),
        (about(1, 0.5, &both), &[0.1, -0.2], "tensor `thresholds`: number 1 is -0.2, 0 or more expected"),
        (about(1, 0.5, &both), &[f32::NAN, 0.2], "tensor `thresholds`: number 0 is not finite"),
        (about(1, 0.5, &layer(0)), &[0.1], "thresholds of 1 layers, the model has 2 of floats"),
        (
            about(1, 0.5, &format!("{},{}", layer(1), layer(0))),
            &[0.1, 0.2],
            "a threshold of `model.layers.1.mlp.gate_proj.weight`",
        ),
        (about(1, 0.5, &both).replace("layers", "layer"), &[0.1, 0.2], "unknown field `layer`"),
    ] {
        written(&text, all);
        refuse(&folder, line, says);
    }
    refuse(
        &folder,
        "generate @llama --prompt abc --heads @llama/model.safetensors",
        "no `niwaki.thresholds` in its metadata",
    );
    // Weights that are codes are not read by rows of channels.
    attempt(&folder, "compress @llama --scheme int4/g32/sym -o @small -q").ok();
    refuse(&folder, "dynamic plan @small --data @text.txt", "no feed-forward part whose weights are floats");
    written(&about(1, 0.5, &both), &[0.1, 0.2]);
    refuse(&folder, "generate @small --prompt abc --heads @bad.safetensors", "the model has 0 of floats");
    refuse(
        &folder,
        "dynamic plan @llama --data @text.txt -o @t.safetensors",
        "`--output` takes the thresholds of one share",
    );
    let (model, data) = (bundled("model.onnx"), sample());
    refuse(&folder, &format!("dynamic plan {model} --data {data} -o @t.safetensors"), "only models of text");
    refuse(&folder, &format!("eval {model} --data {data} --heads @bad.safetensors"), "`--heads` is for models of text");
}

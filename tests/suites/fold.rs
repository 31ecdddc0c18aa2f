//! Scales that a recipe folds into weights: nothing changes but how well these are rounded.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use niwaki_conformance::checkpoints::{Tensor, bf16s, weights, write};
use niwaki_conformance::folder::{Folder, bundled};
use niwaki_conformance::llama::{letters, write_llama};
use niwaki_conformance::scene::{assert_equal, json, run};
use niwaki_conformance::trained::refuse;
use niwaki_conformance::transformer::{Family, Transformer};
use niwaki_tensors::{Checkpoint, Limits};
use serde_json::Value;

/// Channels that are far larger than others.
const OUTLIERS: [usize; 3] = [3, 17, 40];

fn recipe(folder: &Folder, name: &str, text: &str) {
    fs::write(folder.at(name), format!("version = 1\n{text}")).unwrap();
}

fn fold(more: &str) -> String {
    format!("[[fold]]\ntensors = \"*\"\n{more}\n")
}

fn quantize(more: &str) -> String {
    format!("[[quantize]]\ntensors = \"*proj.weight\"\n{more}\n")
}

/// Names, types, shapes and bytes of all tensors.
fn tensors(path: &Path) -> BTreeMap<String, (String, Vec<usize>, Vec<u8>)> {
    let checkpoint = Checkpoint::open(path, &Limits::default()).unwrap();
    let of = |t: niwaki_tensors::TensorView<'_>| (t.dtype().to_string(), t.shape().to_vec(), t.bytes().to_vec());
    checkpoint.tensors().map(|t| (t.name().to_owned(), of(t))).collect()
}

/// A folder with a model of two layers, a text, and statistics of its inputs.
fn tiny(family: Family) -> (Folder, Transformer) {
    let folder = Folder::new("fold");
    let model = Transformer { family, layers: vec![0, 1], idle: vec![] };
    model.write(&folder.path().join("model"), 2);
    // A text that is cut into windows; of encoders texts, line by line.
    let text = letters(200);
    let lines: Vec<&str> = (0..10).map(|at| &text[20 * at..20 * at + 20]).collect();
    let encoder = matches!(family, Family::Bert | Family::DistilBert);
    fs::write(folder.at("text.txt"), if encoder { lines.join("\n") } else { text.clone() }).unwrap();
    run(&folder, "calibrate @model --data @text.txt --gram -o @stats.safetensors");
    (folder, model)
}

/// A folder with a Llama some of whose inputs are 64 times as large as others, a text, and statistics.
fn outliers() -> Folder {
    let folder = Folder::new("fold-outliers");
    let path = folder.path().join("llama");
    write_llama(&path);
    let mut all = tensors(&path);
    let norms = all.iter_mut().filter(|(name, _)| name.ends_with("layernorm.weight"));
    for (seed, (_, (.., bytes))) in (1..).zip(norms) {
        let mut norm: Vec<f32> = weights(seed, 64).iter().map(|x| 0.5 + x).collect();
        OUTLIERS.iter().for_each(|at| norm[*at] *= 64.0);
        *bytes = bf16s(&norm);
    }
    let stored: Vec<Tensor<'_>> = all
        .iter()
        .map(|(name, (dtype, shape, bytes))| (name.as_str(), dtype.as_str(), shape.as_slice(), bytes.clone()))
        .collect();
    write(path.join("model.safetensors"), &stored);
    fs::write(folder.at("text.txt"), letters(700)).unwrap();
    fs::create_dir(folder.at("again")).unwrap();
    run(&folder, "calibrate @llama --data @text.txt --gram -o @stats.safetensors");
    folder
}

#[test]
fn powers_of_two_change_no_bit_of_the_outputs() {
    let rules =
        ["criterion = \"smoothquant\"", "criterion = \"smoothquant\"\nalpha = 0.8", "criterion = \"awq\"\nalpha = 0.9"];
    for (family, places) in [(Family::Llama, 8), (Family::Gemma3, 4), (Family::Bert, 2), (Family::DistilBert, 2)] {
        let (folder, model) = tiny(family);
        let before = model.output(&folder, "model");
        for rule in rules {
            recipe(&folder, "fold.toml", &fold(rule));
            run(&folder, "compress @model -r @fold.toml --stats @stats.safetensors --force -o @folded");
            let (own, folded) = (tensors(&folder.path().join("model")), tensors(&folder.path().join("folded")));
            let changed = own.iter().filter(|(name, of)| folded[*name] != **of).count();
            assert!(changed >= places, "{family:?} {rule}: {changed} tensors changed");
            assert!(model.output(&folder, "folded") == before, "{family:?} {rule}");
        }
        let plan = json(&folder, "plan @model -r @fold.toml --stats @stats.safetensors");
        assert_eq!(plan["folded"]["places"].as_array().map(Vec::len), Some(places), "{plan}");
        run(&folder, "verify @folded");
    }
}

#[test]
fn any_scales_keep_the_outputs_near() {
    let (folder, model) = tiny(Family::Llama);
    recipe(&folder, "fold.toml", &fold("criterion = \"awq\"\nalpha = 0.7\npower_of_two = false"));
    run(&folder, "compress @model -r @fold.toml --stats @stats.safetensors -o @folded");
    let floats = |bytes: &[u8]| -> Vec<f64> {
        bytes.as_chunks::<4>().0.iter().map(|four| f64::from(f32::from_le_bytes(*four))).collect()
    };
    let [own, folded] = ["model", "folded"].map(|name| floats(&model.output(&folder, name)));
    let far = own.iter().zip(&folded).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    let most = own.iter().fold(0.0f64, |most, x| most.max(x.abs()));
    // Two layers of seven products, sums of at most 24 terms, each off by three roundings of half a unit.
    let bound = 2.0 * 7.0 * 24.0 * 1.5 * f64::from(f32::EPSILON);
    assert!(far > 0.0 && far <= bound * most, "{far} of {most}");
}

#[test]
fn codes_of_large_inputs_are_better_with_scales() {
    let folder = outliers();
    let scheme = quantize("scheme = \"int4/g32/sym\"");
    recipe(&folder, "plain.toml", &scheme);
    let smooth = fold("criterion = \"smoothquant\"");
    for (name, rule) in [("awq", fold("criterion = \"awq\"")), ("smooth", smooth)] {
        recipe(&folder, &format!("{name}.toml"), &format!("{rule}{scheme}"));
    }
    let kl = |name: &str, stats: &str| {
        run(&folder, &format!("compress @llama -r @{name}.toml{stats} -o @{name}"));
        let found = json(&folder, &format!("eval @{name} --data @text.txt --against @llama"));
        found["kl"].as_f64().unwrap()
    };
    let stats = " --stats @stats.safetensors";
    let [plain, awq, smooth] = [kl("plain", ""), kl("awq", stats), kl("smooth", stats)];
    assert!(awq < plain && smooth < plain, "plain {plain}, awq {awq}, smoothquant {smooth}");
    // What the search found is less than what it began with, and it says so.
    let plan = json(&folder, &format!("plan @llama -r @awq.toml{stats}"));
    let places = plan["folded"]["places"].as_array().unwrap();
    assert_eq!(places.len(), 8, "{plan}");
    for place in places {
        let noise: Vec<f64> = place["noise"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
        assert!(noise[1] <= noise[0] && noise[0] > 0.0, "{place}");
    }
    let alpha = |maker: &str| {
        let named = |place: &&Value| place["makers"][0].as_str().unwrap().ends_with(maker);
        places.iter().find(named).unwrap()["alpha"].as_f64().unwrap()
    };
    assert!(alpha("input_layernorm.weight") > 0.0, "{plan}");
}

#[test]
fn later_steps_see_inputs_as_they_are_then() {
    let folder = outliers();
    let (fold, stats) = (fold("criterion = \"smoothquant\""), "--stats @stats.safetensors");
    recipe(&folder, "fold.toml", &fold);
    // What is known of a model with the scales in its file, which is calibrated on its own.
    run(&folder, &format!("compress @llama -r @fold.toml {stats} -o @folded"));
    run(&folder, "export @folded --to safetensors -o @again/llama");
    run(&folder, "calibrate @again/llama --data @text.txt --gram -o @again.safetensors");
    for fit in ["gptq", "gptq_order", "lsq"] {
        let rule = quantize(&format!("scheme = \"int3/g16/affine\"\nfit = \"{fit}\""));
        recipe(&folder, "one.toml", &format!("{fold}{rule}"));
        recipe(&folder, "two.toml", &rule);
        run(&folder, &format!("compress @llama -r @one.toml {stats} --force -o @one"));
        run(&folder, "compress @again/llama -r @two.toml --stats @again.safetensors --force -o @two");
        let [one, two] = ["one", "two"].map(|name| tensors(&folder.path().join(name)));
        assert!(one == two, "{fit}");
    }
}

#[test]
fn other_formats_threads_and_parts_have_the_same_scales() {
    let folder = outliers();
    let (fold, stats) = (fold("criterion = \"awq\""), "--stats @stats.safetensors");
    let rule = quantize("scheme = \"q8_0\"");
    recipe(&folder, "one.toml", &format!("{fold}{rule}"));
    recipe(&folder, "two.toml", &rule);
    recipe(&folder, "fold.toml", &fold.replace("\"awq\"", "\"awq\"\nalpha = 0.5"));
    recipe(&folder, "half.toml", &format!("{}{rule}", fold.replace("\"awq\"", "\"awq\"\nalpha = 0.5")));
    run(&folder, &format!("compress @llama -r @fold.toml {stats} -o @folded"));
    run(&folder, "export @folded --to safetensors -o @again/llama");
    run(&folder, "compress @again/llama -r @two.toml --to gguf -o @two.gguf");
    run(&folder, &format!("compress @llama -r @half.toml {stats} --to gguf -o @one.gguf"));
    assert_equal(&folder, "one.gguf", "two.gguf");
    for threads in [1, 3] {
        run(&folder, &format!("compress @llama -r @one.toml {stats} --threads {threads} -o @{threads}"));
        run(&folder, &format!("compress @llama -r @one.toml {stats} --part {}/2 -o @parts", threads.min(2)));
    }
    let [one, three] = ["1", "3"].map(|name| fs::read(folder.path().join(name).join("model.safetensors")).unwrap());
    assert!(one == three);
    run(&folder, "join @parts");
    assert!(tensors(&folder.path().join("parts")) == tensors(&folder.path().join("1")));
}

#[test]
fn a_plan_says_where_scales_go() {
    let (folder, _) = tiny(Family::Llama);
    let rules = "[[fold]]\ntensors = \"*.{q_proj,down_proj}.weight\"\ncriterion = \"smoothquant\"\nalpha = 0.75\n\
                 [[fold]]\ntensors = \"model.layers.1.mlp.down_proj.weight\"\ncriterion = \"awq\"\nalpha = 1\n";
    recipe(&folder, "fold.toml", rules);
    let line = "plan @model -r @fold.toml --stats @stats.safetensors";
    let plan = json(&folder, line);
    let places = plan["folded"]["places"].as_array().unwrap();
    let of = |place: &Value| (place["rule"].as_str().unwrap().to_owned(), place["alpha"].as_f64().unwrap());
    assert_eq!(places.len(), 4, "{plan}");
    assert_eq!(of(&places[1]), ("fold `*.{q_proj,down_proj}.weight` smoothquant".to_owned(), 0.75));
    assert_eq!(of(&places[3]), ("fold `model.layers.1.mlp.down_proj.weight` awq".to_owned(), 1.0));
    assert!(places.iter().all(|place| place["noise"].is_null()));
    let printed = run(&folder, line).out;
    assert!(printed.contains("folded: columns by smoothquant 0.75"), "{printed}");
    assert!(printed.contains("folded: rows by awq 1\n"), "{printed}");
    assert!(printed.ends_with("scales folded at 4 places, alpha 0.75 to 1\n"), "{printed}");
    let canonical = run(&folder, &format!("{line} --print-recipe")).out;
    assert!(canonical.contains("\n[[fold]]\ntensors = \"*.{q_proj,down_proj}.weight\"\ncriterion = \"smoothquant\"\n"));
}

#[test]
fn what_cannot_be_folded_is_refused() {
    let (folder, _) = tiny(Family::Llama);
    let stats = "--stats @stats.safetensors";
    let compress = |text: &str, flags: &str, what: &str| {
        recipe(&folder, "r.toml", text);
        refuse(&folder, &format!("compress {flags} -r @r.toml -o @no"), what);
        fs::remove_file(folder.at("r.toml")).unwrap();
    };
    let (awq, smooth) = (fold("criterion = \"awq\"\nalpha = 0.5"), fold("criterion = \"smoothquant\""));
    compress(&awq, "@model", "`[[fold]]` without statistics of the layers' inputs");
    compress(&awq.replace("0.5", "1.5"), "@model", "`alpha` is 1.5; expected a number from 0 to 1");
    compress(&awq.replace("awq", "awk"), "@model", "criterion `awk`; known: awq, smoothquant");
    let nowhere = |glob: &str| awq.replace("\"*\"", &format!("\"{glob}\""));
    for glob in ["*.norm.weight", "model.embed_tokens.weight", "*layernorm.weight"] {
        let what = format!("fold `{glob}` awq matches no tensor that it can act on");
        compress(&nowhere(glob), &format!("@model {stats}"), &what);
    }
    // Nothing is encoded, so nothing tells an exponent.
    compress(&fold("criterion = \"awq\""), &format!("@model {stats}"), "fold `*` awq matches no tensor");
    compress(&awq, &format!("@model {stats} --only *.q_proj.weight"), "fold `*` awq matches no tensor");
    let other = format!("{} {stats}", bundled("model.onnx"));
    compress(&awq, &other, "`[[fold]]` of what is no Hugging Face folder is not supported");
    compress(&awq, &other.replace(".onnx", ".safetensors"), "`[[fold]]` of what is no Hugging Face folder");
    recipe(&folder, "codes.toml", &quantize("scheme = \"int8/row/sym\""));
    run(&folder, "compress @model -r @codes.toml --to compressed-tensors -o @codes");
    compress(&awq, &format!("@codes {stats}"), "`[[fold]]` of a checkpoint that is compressed");
    // Statistics of another model, of fewer layers, and such that do not say how far inputs reach.
    Transformer { family: Family::Llama, layers: vec![0, 5], idle: vec![] }.write(&folder.path().join("other"), 1);
    compress(&awq, &format!("@other {stats}"), "statistics of another checkpoint");
    run(&folder, "calibrate @model --data @text.txt --imatrix @i.gguf -o @again.safetensors");
    compress(&smooth, "@model --stats @i.gguf", "it does not say how far inputs reach");
    let (gemma, _) = tiny(Family::Gemma3);
    recipe(&gemma, "r.toml", &nowhere("*.q_proj.weight"));
    refuse(&gemma, &format!("plan @model -r @r.toml {stats}"), "fold `*.q_proj.weight` awq matches no tensor");
}

#[test]
fn weights_that_scales_take_too_far_are_refused() {
    let folder = outliers();
    let path = folder.path().join("llama/model.safetensors");
    let mut all = tensors(&path);
    // As halves, and a column that an outlier's scale of 2 and more takes beyond these.
    for (name, (dtype, shape, bytes)) in &mut all {
        let mut values: Vec<f32> = weights(7, shape.iter().product());
        if name.ends_with("q_proj.weight") {
            values.iter_mut().skip(OUTLIERS[0]).step_by(64).for_each(|x| *x = 60000.0);
        }
        if name.ends_with("layernorm.weight") {
            values.iter_mut().enumerate().for_each(|(at, x)| *x = if OUTLIERS.contains(&at) { 64.0 } else { 1.0 });
        }
        *dtype = "F16".to_owned();
        *bytes = values.iter().flat_map(|x| half::f16::from_f32(*x).to_le_bytes()).collect();
    }
    let stored: Vec<Tensor<'_>> = all
        .iter()
        .map(|(name, (dtype, shape, bytes))| (name.as_str(), dtype.as_str(), shape.as_slice(), bytes.clone()))
        .collect();
    write(&path, &stored);
    run(&folder, "calibrate @llama --data @text.txt --force -o @stats.safetensors");
    recipe(&folder, "r.toml", &fold("criterion = \"awq\"\nalpha = 1"));
    let line = "compress @llama -r @r.toml --stats @stats.safetensors -o @no";
    refuse(&folder, line, "with its scales, beyond the largest F16");
}

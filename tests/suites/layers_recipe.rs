//! Blocks that a recipe takes out of a model: the same as `layers remove`, then `compress`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::path::Path;

use niwaki_conformance::folder::Folder;
use niwaki_conformance::residual::resnet;
use niwaki_conformance::scene::{attempt, json, run};
use niwaki_conformance::trained::refuse;
use niwaki_conformance::transformer::{Family, Transformer};
use niwaki_onnx::Model;
use niwaki_tensors::{Checkpoint, Limits};
use serde_json::Value;

/// A recipe that encodes matrices, and what else it says.
fn recipe(folder: &Folder, name: &str, more: &str) {
    let rule = "[[quantize]]\ntensors = \"*weight\"\nscheme = \"int4/g8/sym\"\nmin_dims = 2\n";
    std::fs::write(folder.at(name), format!("version = 1\n{more}\n{rule}")).unwrap();
}

/// A folder with a transformer of six layers in three files, a file of other weights beside it, and recipes.
fn folder(family: Family) -> Folder {
    let folder = Folder::new("layers-recipe");
    Transformer { family, layers: (0..6).collect(), idle: vec![] }.write(&folder.path().join("model"), 3);
    std::fs::write(folder.at("model/pytorch_model.bin"), "weights of all layers").unwrap();
    recipe(&folder, "plain.toml", "");
    recipe(&folder, "fewer.toml", "[[layers]]\nremove = [4, 1]\n");
    folder
}

/// Names, shapes and bytes of all tensors.
fn tensors(path: &Path) -> BTreeMap<String, (Vec<usize>, Vec<u8>)> {
    let checkpoint = Checkpoint::open(path, &Limits::default()).unwrap();
    checkpoint.tensors().map(|t| (t.name().to_owned(), (t.shape().to_vec(), t.bytes().to_vec()))).collect()
}

/// What a container says of itself, but for its recipe.
fn said(path: &Path) -> Value {
    let checkpoint = Checkpoint::open(path, &Limits::default()).unwrap();
    let mut said: Value = serde_json::from_str(checkpoint.metadata().get("niwaki").unwrap()).unwrap();
    let recipe = said["recipe"].take();
    assert!(recipe.is_string(), "{said}");
    said.as_object_mut().unwrap().remove("recipe_digest");
    said
}

#[test]
fn a_folder_becomes_what_removing_and_compressing_make_of_it() {
    for family in [Family::Llama, Family::Gemma3, Family::Bert, Family::DistilBert] {
        let folder = folder(family);
        run(&folder, "layers remove @model --blocks 1,4 -o @removed");
        run(&folder, "compress @removed -r @plain.toml -o @two");
        run(&folder, "compress @model -r @fewer.toml -o @one");
        let [one, two] = ["one", "two"].map(|name| folder.path().join(name));
        assert_eq!(tensors(&one), tensors(&two), "{family:?}");
        assert_eq!(said(&one), said(&two), "{family:?}: lineage and report");
        let names = |path: &Path| {
            let all = std::fs::read_dir(path).unwrap();
            let mut names: Vec<_> = all.map(|item| item.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(names(&one), names(&two));
        for name in names(&one).iter().filter(|name| *name != "model.safetensors") {
            assert!(std::fs::read(one.join(name)).unwrap() == std::fs::read(two.join(name)).unwrap(), "{name:?}");
        }
        assert_eq!(json(&folder, "verify @one")["ok"], true);
    }
}

#[test]
fn other_formats_have_fewer_layers_too() {
    let folder = folder(Family::Llama);
    for (name, more) in [("plain8.toml", ""), ("fewer8.toml", "[[layers]]\nremove = [1, 4]\n")] {
        let rule = "[[quantize]]\ntensors = \"*proj.weight\"\nscheme = \"int8/row/sym\"\n";
        std::fs::write(folder.at(name), format!("version = 1\n{more}{rule}")).unwrap();
    }
    run(&folder, "layers remove @model --blocks 1,4 -o @removed");
    run(&folder, "compress @removed -r @plain8.toml --to compressed-tensors -o @two");
    run(&folder, "compress @model -r @fewer8.toml --to compressed-tensors -o @one");
    for name in ["config.json", "model.safetensors"] {
        let read = |of: &str| std::fs::read(folder.path().join(of).join(name)).unwrap();
        assert!(read("one") == read("two"), "{name}");
    }
    // GGUF calls the model as its folder is called: the same name, so the same bytes.
    std::fs::create_dir(folder.at("again")).unwrap();
    run(&folder, "layers remove @model --blocks 1,4 -o @again/model");
    std::fs::write(folder.at("none.toml"), "version = 1\n").unwrap();
    std::fs::write(folder.at("less.toml"), "version = 1\n[[layers]]\nremove = [1, 4]\n").unwrap();
    run(&folder, "compress @again/model -r @none.toml --to gguf -o @two.gguf");
    run(&folder, "compress @model -r @less.toml --to gguf -o @one.gguf");
    assert!(std::fs::read(folder.at("one.gguf")).unwrap() == std::fs::read(folder.at("two.gguf")).unwrap());
}

#[test]
fn a_network_becomes_what_removing_and_compressing_make_of_it() {
    let folder = Folder::new("layers-recipe-onnx");
    resnet(&folder.path().join("net.onnx"), [1, 28], [3, 3], &[]);
    recipe(&folder, "plain.toml", "");
    recipe(&folder, "fewer.toml", "[[layers]]\nremove = [7, 4]\n");
    run(&folder, "layers remove @net.onnx --blocks 4,7 -o @removed.onnx");
    run(&folder, "compress @removed.onnx -r @plain.toml -o @two.safetensors");
    run(&folder, "compress @net.onnx -r @fewer.toml -o @one.safetensors");
    let [one, two] = ["one.safetensors", "two.safetensors"].map(|name| folder.path().join(name));
    assert_eq!(tensors(&one), tensors(&two));
    assert_eq!(said(&one), said(&two));
    run(&folder, "compress @removed.onnx -r @plain.toml --to onnx -o @two.onnx");
    run(&folder, "compress @net.onnx -r @fewer.toml --to onnx -o @one.onnx");
    // The file says the recipe that it was made by; all else is the same.
    let protos = ["one.onnx", "two.onnx"].map(|name| {
        let mut proto = Model::open(folder.at(name).as_ref(), &niwaki_onnx::Limits::default()).unwrap().into_proto();
        proto.metadata_props.retain(|entry| !entry.value().contains("[[quantize]]"));
        proto
    });
    assert!(protos[0].graph == protos[1].graph, "graphs");
    assert_eq!(protos[0].metadata_props, protos[1].metadata_props);
    assert!(protos[0] == protos[1]);
    // The first block is none that the paper's code lets go.
    recipe(&folder, "first.toml", "[[layers]]\nremove = [0]\n");
    refuse(&folder, "plan @net.onnx -r @first.toml", "block 0");
    recipe(&folder, "any.toml", "[[layers]]\nremove = [0]\nrule = \"any\"\n");
    assert_eq!(json(&folder, "plan @net.onnx -r @any.toml")["removed"]["blocks"], serde_json::json!([0]));
}

#[test]
fn a_patch_is_laid_over_the_whole_model_first() {
    let folder = folder(Family::Llama);
    run(&folder, "compress @model -r @plain.toml -o @far");
    run(&folder, "export @far --to safetensors -o @other");
    let extract = "signature extract --init @model --standard @model --robust @other --energy 1 -o @sig.safetensors";
    run(&folder, extract);
    run(&folder, "signature apply @model @sig.safetensors -o @patched");
    run(&folder, "layers remove @patched --blocks 1,4 -o @removed");
    run(&folder, "compress @removed -r @plain.toml -o @two");
    run(&folder, "compress @model -r @fewer.toml --patch @sig.safetensors -o @one");
    let [one, two] = ["one", "two"].map(|name| tensors(&folder.path().join(name)));
    let codes = |all: &BTreeMap<String, (Vec<usize>, Vec<u8>)>| -> Vec<_> {
        all.iter().filter(|(name, _)| name.ends_with("proj.weight.codes")).map(|(_, all)| all.clone()).collect()
    };
    assert_eq!(codes(&one).len(), 4 * 7);
    assert_eq!(codes(&one), codes(&two));
}

#[test]
fn a_plan_says_which_blocks_go() {
    let folder = folder(Family::Llama);
    let printed = run(&folder, "plan @model -r @fewer.toml").out;
    let whole = json(&folder, "plan @model -r @plain.toml");
    let fewer = json(&folder, "plan @model -r @fewer.toml");
    let bytes = whole["input_bytes"].as_u64().unwrap() - fewer["input_bytes"].as_u64().unwrap();
    assert_eq!(fewer["removed"], serde_json::json!({"blocks": [1, 4], "bytes": bytes}));
    assert!(whole.get("removed").is_none());
    assert!(printed.lines().last().unwrap().starts_with("without blocks 1, 4, "), "{printed}");
    assert!(!printed.contains("layers.4.") && printed.contains("layers.3."), "{printed}");
    let text = run(&folder, "plan @model -r @fewer.toml --print-recipe").out;
    assert!(text.contains("[[layers]]\nremove = [4, 1]\n"), "{text}");
}

#[test]
fn what_cannot_go_is_refused_and_nothing_is_written() {
    let folder = folder(Family::Llama);
    std::fs::create_dir(folder.at("bare")).unwrap();
    niwaki_conformance::checkpoints::write(
        folder.path().join("bare/model.safetensors"),
        &[("model.layers.0.weight", "F32", &[8, 8], vec![0; 256])],
    );
    let cases = [
        ("[[layers]]\nremove = [6]\n", "model", "no block 6"),
        ("[[layers]]\nremove = [2, 2]\n", "model", "block 2 is named twice"),
        ("[[layers]]\nremove = []\n", "model", "no block to remove"),
        ("[[layers]]\nremove = [0, 1, 2, 3, 4, 5]\n", "model", "6 of 6 blocks"),
        ("[[layers]]\nremove = [1]\nhalves = true\n", "model", "they are for ONNX models"),
        ("[[layers]]\nremove = [1]\n", "bare", "`[[layers]]` of what is no model"),
        ("[[layers]]\nremove = [1]\n", "bare/model.safetensors", "`[[layers]]` of what is no model"),
    ];
    for (more, model, expected) in cases {
        recipe(&folder, "wrong.toml", more);
        for verb in ["plan", "compress"] {
            let out = if verb == "plan" { "" } else { " -o @out" };
            let refused = attempt(&folder, &format!("{verb} @{model} -r @wrong.toml{out}"));
            let message = refused.error();
            assert!(message.contains(model) && message.contains(expected), "{message}");
        }
        assert!(!folder.path().join("out").exists());
    }
    run(&folder, "compress @model -r @plain.toml -o @small");
    refuse(&folder, "compress @small -r @fewer.toml -o @out", "`[[layers]]` of a checkpoint that is compressed");
}

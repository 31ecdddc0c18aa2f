//! Layers that go from transformers, and what the layers before them take over.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;

use niwaki_conformance::folder::Folder;
use niwaki_conformance::llama::letters;
use niwaki_conformance::scene::{attempt, json, run};
use niwaki_conformance::transformer::{Family, Transformer};
use niwaki_engine::eval::text::Windows;
use niwaki_model::{Run, Tensor, ValueId, Wanted};
use niwaki_tensors::{Checkpoint, Limits};
use serde_json::{Value, json};

/// A folder with a model `m` of so many layers, of which some add nothing, and a text.
fn scene(family: Family, layers: usize, idle: &[usize]) -> Folder {
    let folder = Folder::new("healing");
    std::fs::write(folder.path().join("text.txt"), letters(1600)).unwrap();
    Transformer { family, layers: (0..layers).collect(), idle: idle.to_vec() }.write(&folder.path().join("m"), 1);
    folder
}

fn tensor(folder: &Path, name: &str) -> Vec<u8> {
    Checkpoint::open(folder, &Limits::default()).unwrap().get(name).unwrap().bytes().to_vec()
}

/// The hidden states behind the last layer, over all windows of the text.
fn states(folder: &Folder, model: &str) -> Vec<f32> {
    let path = folder.path().join(model);
    let (decoder, _) = niwaki_engine::folder::decoder(&path, None).unwrap();
    let windows = Windows::open(&folder.path().join("text.txt"), &path, decoder.context()).unwrap();
    let mut states = Vec::new();
    for at in 0..windows.len() {
        let mut observe = |value: ValueId, tensor: &Tensor| {
            if decoder.hidden().last() == Some(&value) {
                states.extend_from_slice(tensor.get::<f32>().unwrap());
            }
        };
        let how = Run { observe: Some(&mut observe), ..Run::default() };
        decoder.observed(&mut decoder.cache(), &windows.get(at).unwrap(), Wanted::Last, how).unwrap();
    }
    states
}

/// The squares of what another model's last hidden states are apart from those of `m`, in relation to their lengths.
fn apart(folder: &Folder, other: &str) -> f64 {
    let (one, other, width) = (states(folder, "m"), states(folder, other), 16);
    assert_eq!(one.len(), other.len());
    let squares = |all: &mut dyn Iterator<Item = f32>| all.map(|x| f64::from(x).powi(2)).sum::<f64>();
    let each = one.chunks_exact(width).zip(other.chunks_exact(width));
    each.map(|(a, b)| squares(&mut a.iter().zip(b).map(|(a, b)| a - b)) / squares(&mut a.iter().copied())).sum()
}

#[test]
fn a_model_that_is_healed_is_nearer_to_the_whole_one() {
    let folder = scene(Family::Llama, 6, &[]);
    run(&folder, "layers remove @m --blocks 2,3,5 -o @cut");
    let said = json(&folder, "layers remove @m --blocks 2,3,5 --heal --data @text.txt -o @healed");
    let healed = said["healed"].as_array().unwrap();
    let of = |at: usize, key: &str| healed[at][key].clone();
    assert_eq!((of(0, "removed"), of(0, "block"), of(1, "removed")), (json!([2, 3]), json!(1), json!([5])));
    assert_eq!((of(1, "block"), of(1, "tensor")), (json!(4), json!("model.layers.4.mlp.down_proj.weight")));
    for one in healed {
        let explained = one["explained"].as_f64().unwrap();
        assert!(explained > 0.05 && explained <= 1.0, "{one}");
        assert_eq!(one["damping"], json!(0.01));
    }
    let (cut, found) = (apart(&folder, "cut"), apart(&folder, "healed"));
    assert!(found < 0.8 * cut, "{found} healed, {cut} not");
    // The last matrix of layer 1 is another one, all else keeps its bytes.
    let at = |model: &str, name: &str| tensor(&folder.path().join(model), name);
    let name = |layer: usize, what: &str| format!("model.layers.{layer}.mlp.{what}.weight");
    assert_ne!(at("healed", &name(1, "down_proj")), at("m", &name(1, "down_proj")));
    assert_eq!(at("healed", &name(1, "up_proj")), at("m", &name(1, "up_proj")));
    assert_eq!(at("healed", &name(0, "down_proj")), at("m", &name(0, "down_proj")));
    assert_ne!(at("healed", &name(2, "down_proj")), at("m", &name(4, "down_proj")), "layer 4 is now layer 2");
}

#[test]
fn what_is_said_to_be_explained_is_what_is_no_longer_missing() {
    let folder = scene(Family::Llama, 4, &[]);
    run(&folder, "layers remove @m --blocks 3 -o @cut");
    for damping in ["1e-9", "0.01", "1"] {
        let line =
            format!("layers remove @m --blocks 3 --heal --damping {damping} --data @text.txt -o @healed --force");
        let explained = json(&folder, &line)["healed"][0]["explained"].as_f64().unwrap();
        let left = apart(&folder, "healed") / apart(&folder, "cut");
        assert!((1.0 - explained - left).abs() < 1e-4, "{damping}: {explained} and {left}");
    }
}

#[test]
fn a_layer_that_adds_nothing_leaves_nothing_to_heal() {
    let folder = scene(Family::Llama, 4, &[2]);
    run(&folder, "layers remove @m --blocks 2 -o @cut");
    let said = json(&folder, "layers remove @m --count 1 --heal --data @text.txt -o @healed");
    assert_eq!((&said["removed"], &said["healed"][0]["explained"]), (&json!([2]), &json!(1.0)));
    let name = "model.layers.1.mlp.down_proj.weight";
    assert_eq!(tensor(&folder.path().join("healed"), name), tensor(&folder.path().join("cut"), name));
}

#[test]
fn any_number_of_threads_heals_to_the_same_bytes() {
    let folder = scene(Family::Llama, 4, &[]);
    let healed = |threads: usize| {
        let line = "layers remove @m --blocks 2 --heal --damping 0.1 --data @text.txt --limit 9 --force -o @healed";
        run(&folder, &format!("{line} --threads {threads}"));
        tensor(&folder.path().join("healed"), "model.layers.1.mlp.down_proj.weight")
    };
    assert_eq!(healed(1), healed(3));
}

#[test]
fn people_are_told_how_much_is_healed() {
    let folder = scene(Family::Llama, 4, &[]);
    let text = run(&folder, "layers remove @m --blocks 2 --heal --data @text.txt -o @healed").out;
    let line = text.lines().nth(2).unwrap();
    assert!(line.starts_with("block 1 does ") && line.ends_with(" % of what block 2 added (squares)"), "{line}");
}

#[test]
fn what_cannot_be_healed_is_said_and_nothing_is_written() {
    let folder = scene(Family::Llama, 3, &[]);
    for (name, family) in [("bert", Family::Bert), ("gemma", Family::Gemma3)] {
        Transformer { family, layers: vec![0, 1, 2], idle: vec![] }.write(&folder.path().join(name), 1);
    }
    let names = folder.names();
    let refusal = |line: &str| attempt(&folder, line).error().replace(&folder.at(""), "@");
    let cases = [
        ("@m --blocks 1 --heal -o @out", "`--heal` needs `--data DATA`"),
        ("@m --blocks 1 --damping 0.1 -o @out", "missing `--heal`"),
        ("@m --blocks 0 --heal --data @text.txt -o @out", "`@m`: healing: no layer stays before layer 0, which goes"),
        ("@bert --blocks 1 --heal --data @text.txt -o @out", "`@bert`: healing of an encoder; a decoder expected"),
        (
            "@gemma --blocks 1 --heal --data @text.txt -o @out",
            "`@gemma`: healing: what a layer adds is not what a matrix makes, but normalized: nothing linear is left to change",
        ),
    ];
    for (line, expected) in cases {
        assert_eq!(refusal(&format!("layers remove {line}")), expected, "{line}");
    }
    let damping: Value =
        attempt(&folder, "layers remove @m --blocks 1 --heal --damping=-1 --data @text.txt -o @out --json").json();
    assert!(damping["error"]["message"].as_str().unwrap().contains("damping"), "{damping}");
    assert_eq!(folder.names(), names);
}

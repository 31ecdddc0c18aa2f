//! Training by the command line, on the bundled sample of Fashion-MNIST.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::Path;

use niwaki_conformance::folder::{Folder, sample};
use niwaki_conformance::residual::network;
use niwaki_conformance::scene::{attempt, run};
use niwaki_tensors::{Checkpoint, Limits, Overwrite, write_file};
use serde_json::Value;

/// How the network is trained for two passes.
const HOW: &str =
    "--epochs 2 --batch 100 --init random --crop 2 --flip --mixup 0.2 --label-smoothing 0.1 --lr 0.05 --json";

/// A folder with the network.
fn scene(name: &str) -> Folder {
    let folder = Folder::new(name);
    network(&folder.path().join("net.onnx"), 1);
    folder
}

/// What `train` says of a training as `how` has it.
fn trained(folder: &Folder, how: &str) -> Value {
    serde_json::from_str(&run(folder, &format!("train @net.onnx --data {} {how}", sample())).out).unwrap()
}

fn contents(folder: &Folder, name: &str) -> Vec<u8> {
    fs::read(folder.at(name)).unwrap()
}

#[test]
fn any_number_of_threads_gives_the_same_weights_and_they_learn() {
    let folder = scene("train-threads");
    let said = trained(&folder, &format!("{HOW} --threads 1 -o @one.safetensors --eval-data {}", sample()));
    trained(&folder, &format!("{HOW} --threads 3 -o @two.safetensors"));
    assert!(contents(&folder, "one.safetensors") == contents(&folder, "two.safetensors"), "threads change the weights");
    let epochs = said["epochs"].as_array().unwrap();
    let loss = |at: usize| epochs[at]["loss"].as_f64().unwrap();
    assert!(epochs.len() == 2 && loss(1) < loss(0), "{said}");
    assert_eq!((said["steps"].as_u64(), said["tensors"].as_u64()), (Some(10), Some(11)));
    assert!(
        folder.names().iter().all(|name| !name.ends_with(".state")),
        "what a restart needs is gone: {:?}",
        folder.names()
    );
    // The weights are read back by `eval`, and do what training said.
    let measured = run(&folder, &format!("eval @net.onnx --weights @one.safetensors --data {} --json", sample())).out;
    let measured: Value = serde_json::from_str(&measured).unwrap();
    assert_eq!(measured["accuracy"], epochs[1]["eval_accuracy"]);
    let written = Checkpoint::open(Path::new(&folder.at("one.safetensors")), &Limits::default()).unwrap();
    let mean = written.get("bn.running_mean").unwrap();
    assert!(mean.f32s().unwrap().iter().any(|x| *x != 0.0), "running statistics run");
}

#[test]
fn an_interrupted_training_goes_on_to_the_same_bytes() {
    let folder = scene("train-restart");
    let said = trained(&folder, &format!("{HOW} -o @whole.safetensors"));
    let cut = folder.at("cut.safetensors");
    // Stopped in the second pass, after its third step: what stands there then is the state of that step.
    let state = format!("{cut}.state");
    let settings = niwaki_engine::train::Settings {
        epochs: 2,
        batch: 100,
        rate: 0.05,
        fresh: true,
        smoothing: 0.1,
        augment: niwaki_engine::dataset::Augment { crop: 2, flip: true, mixup: 0.2 },
        // As the command line has them, rounded to f32 there.
        save_every: Some(3),
        ..niwaki_engine::train::Settings::default()
    };
    let model = niwaki_engine::model::Model::open(folder.at("net.onnx").as_ref()).unwrap();
    let data = niwaki_engine::train::Lessons::open(sample().as_ref(), &model).unwrap();
    let task = niwaki_engine::train::Task::new(&model, &data, cut.as_ref());
    let mut steps = 0;
    let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        niwaki_engine::train::train(&task, &settings, &mut |at| {
            steps += u32::from(at.ended.is_none());
            assert!(steps < 9, "killed");
        })
    }));
    assert!(killed.is_err() && Path::new(&state).exists() && !Path::new(&cut).exists());
    // With other settings it is not gone on with.
    let line = format!("train @net.onnx --data {} {HOW} -o @cut.safetensors --warmup 1", sample());
    let refused = attempt(&folder, &line);
    assert!(refused.code == 2 && refused.out.contains("of another training: `warmup` was 0, is 1"), "{}", refused.out);
    let went_on = trained(&folder, &format!("{HOW} -o @cut.safetensors"));
    assert_eq!(went_on["resumed"], true);
    assert_eq!(went_on["epochs"], said["epochs"]);
    let (whole, cut) = (contents(&folder, "whole.safetensors"), contents(&folder, "cut.safetensors"));
    assert!(whole == cut, "an interruption changes the weights");
}

#[test]
fn less_memory_gives_the_same_bytes() {
    let folder = Folder::new("train-memory");
    network(&folder.path().join("net.onnx"), 6);
    let how = "--epochs 1 --batch 100 --init random --json";
    let whole = trained(&folder, &format!("{how} -o @most.safetensors"));
    let peak = whole["peak_bytes"].as_u64().unwrap();
    let limit = peak * 2 / 3;
    let cut = trained(&folder, &format!("{how} -o @least.safetensors --memory {limit}"));
    assert!(cut["segments"].as_u64().unwrap() > 1 && cut["peak_bytes"].as_u64().unwrap() <= limit, "{cut}");
    let (most, least) = (contents(&folder, "most.safetensors"), contents(&folder, "least.safetensors"));
    assert!(most == least, "memory changes the weights");
    let line = format!("train @net.onnx --data {} {how} -o @none.safetensors --memory 100000", sample());
    let refused = attempt(&folder, &line);
    assert!(refused.code == 2 && refused.out.contains("bytes at least, the limit is 100000"), "{}", refused.out);
}

#[test]
fn a_rewound_training_has_the_rates_and_the_weights_of_that_pass() {
    let folder = scene("train-rewind");
    let how = "--epochs 2 --batch 100 --crop 2 --flip --momentum 0 --lr 0.05 --json";
    trained(&folder, &format!("{how} --init random --keep-epoch 1 -o @first.safetensors"));
    let said = trained(&folder, &format!("{how} --rewind @first.epoch1.safetensors -o @again.safetensors"));
    // Without momentum nothing but weights and rates goes on: the second pass is the same.
    assert_eq!((said["epochs"].as_array().unwrap().len(), said["steps"].as_u64()), (1, Some(10)));
    assert!(contents(&folder, "first.safetensors") == contents(&folder, "again.safetensors"));
}

#[test]
fn frozen_weights_and_statistics_stay() {
    let folder = scene("train-frozen");
    trained(&folder, &format!("{HOW} -o @start.safetensors"));
    let more = "--weights @start.safetensors --teacher @start.safetensors --freeze stem* --norms frozen";
    trained(&folder, &format!("--epochs 1 --batch 100 --json {more} -o @out.safetensors"));
    let open = |name: &str| Checkpoint::open(Path::new(&folder.at(name)), &Limits::default()).unwrap();
    let (before, after) = (open("start.safetensors"), open("out.safetensors"));
    let same = |name: &str| before.get(name).unwrap().bytes() == after.get(name).unwrap().bytes();
    assert!(same("stem.weight") && same("bn.running_mean") && same("bnb1.running_var"));
    assert!(!same("one1.weight") && !same("bn.weight") && !same("fc.bias"));
}

#[test]
fn what_cannot_be_trained_is_said_in_one_line() {
    let folder = scene("train-refused");
    let refused = |data: &str, more: &str| {
        let line = format!("train @net.onnx --data {data} --epochs 2 --init random --json -o @out.safetensors {more}");
        let answer = attempt(&folder, line.trim_end());
        assert!(answer.code == 2 && !Path::new(&folder.at("out.safetensors")).exists(), "{}", answer.out);
        let said: Value = serde_json::from_str(&answer.out).unwrap();
        said["error"]["message"].as_str().unwrap().to_owned()
    };
    let said = refused(&sample(), "--batch 501");
    assert!(said.ends_with("batches of 501: the dataset has 500 images"), "{said}");
    let said = refused(&sample(), "--only nothing*");
    assert!(said.contains("`--only nothing*` matches no tensor that it can act on"), "{said}");
    let said = refused(&sample(), "--lr 1e30");
    let first = "is no finite number in step 2 of pass 1; the first node whose values are not all is `";
    assert!(said.contains(first), "{said}");
    // Images without labels.
    let images = vec![7u8; 200 * 28 * 28];
    let bare = [("images", niwaki_tensors::Dtype::U8, &[200, 1, 28, 28][..], images.as_slice())];
    write_file(folder.at("bare.safetensors").as_ref(), &bare, &[], Overwrite::Replace).unwrap();
    let said = refused("@bare.safetensors", "");
    assert!(said.ends_with("images without labels"), "{said}");
}

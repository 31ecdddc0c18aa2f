//! What a training refuses, and what it does not mix up when it goes on.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use niwaki_conformance::folder::{Folder, part_of_sample, repository};
use niwaki_conformance::scene::attempt;
use niwaki_conformance::trained::refuse;
use niwaki_engine::Error;
use niwaki_engine::dataset::{Augment, Dataset};
use niwaki_engine::model::Model;
use niwaki_engine::train::{Course, Lessons, Settings, Task, Trained, train};
use niwaki_tensors::{Checkpoint, Dtype, Limits, Overwrite, write_file};

fn fixture(name: &str) -> PathBuf {
    repository().join("tests/fixtures/fashion-cnn").join(name)
}

/// Images of the sample, from one on.
fn sample(folder: &Folder, name: &str, from: usize, count: usize) -> Lessons {
    let path = part_of_sample(folder, name, from..from + count);
    Lessons::Images(Dataset::open(path.as_ref()).unwrap())
}

fn settings() -> Settings {
    let augment = Augment { crop: 2, flip: true, mixup: 0.2 };
    Settings { epochs: 2, batch: 16, rate: 0.01, augment, ..Settings::default() }
}

struct Scene {
    folder: Folder,
    model: Model,
    data: Lessons,
}

impl Scene {
    fn new(name: &str) -> Self {
        let folder = Folder::new(name);
        let data = sample(&folder, "data.safetensors", 0, 40);
        Self { model: Model::open(&fixture("model.onnx")).unwrap(), data, folder }
    }

    fn task<'t>(&'t self, out: &'t Path) -> Task<'t> {
        Task::new(&self.model, &self.data, out)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.at(name).into()
    }

    fn floats(&self, file: &str, tensor: &str) -> Vec<u8> {
        let checkpoint = Checkpoint::open(self.at(file), &Limits::default()).unwrap();
        checkpoint.get(tensor).unwrap().bytes().to_vec()
    }
}

fn trained(task: &Task<'_>, settings: &Settings) -> Result<Trained, Error> {
    train(task, settings, &mut |_| {})
}

/// Ends a training after so many images, as if it were killed.
fn kill(task: &Task<'_>, settings: &Settings, after: u64) {
    let run = || train(task, settings, &mut |at| assert!(at.done < after, "killed"));
    assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
}

#[test]
fn a_killed_training_goes_on_and_ends_in_the_same_bytes() {
    let scene = Scene::new("train-killed");
    let settings = Settings { save_every: Some(1), keep: vec![0, 1], ..settings() };
    let (whole, out) = (scene.at("whole.safetensors"), scene.at("out.safetensors"));
    assert!(!trained(&scene.task(&whole), &settings).unwrap().resumed);
    for after in [1, 32, 40, 56] {
        kill(&scene.task(&out), &settings, after);
        let found = trained(&scene.task(&out), &settings).unwrap();
        assert!(found.resumed && found.epochs.len() == 2 && found.steps == 6);
        for (a, b) in [("whole", "out"), ("whole.epoch0", "out.epoch0"), ("whole.epoch1", "out.epoch1")] {
            let read = |name: &str| std::fs::read(scene.at(&format!("{name}.safetensors"))).unwrap();
            assert!(read(a) == read(b), "{b} after {after} images");
            std::fs::remove_file(scene.at(&format!("{b}.safetensors"))).unwrap();
        }
        assert!(!scene.at("out.safetensors.state").exists());
    }
}

#[test]
fn a_state_of_other_inputs_is_refused() {
    let scene = Scene::new("train-state");
    let out = scene.at("out.safetensors");
    let task = scene.task(&out);
    kill(&task, &settings(), 56);
    let state = std::fs::read(scene.at("out.safetensors.state")).unwrap();
    let other = sample(&scene.folder, "other.safetensors", 40, 40);
    let (weights, _) = Model::of_file(&fixture("model.onnx"), Some(fixture("model.safetensors").as_path())).unwrap();
    let mut fresh = weights;
    let zeros = scene.at("zeros.safetensors");
    write_file(&zeros, &[("fc2.bias", Dtype::F32, &[10], &[0; 40])], &[], Overwrite::Replace).unwrap();
    let opened = niwaki_engine::Opened::open(&zeros, &Limits::default()).unwrap();
    fresh.set_weights(&opened).unwrap();
    let refused = |task: &Task<'_>, settings: &Settings, key: &str| {
        let error = trained(task, settings).unwrap_err().to_string();
        assert!(error.contains(&format!("of another training: `{key}` was")), "{error}");
    };
    refused(&Task { data: &other, ..task }, &settings(), "data");
    refused(&Task { model: &fresh, ..task }, &settings(), "model");
    refused(&Task { teacher: Some(&scene.model), ..task }, &settings(), "teacher");
    refused(&Task { eval: Some(&other), ..task }, &settings(), "eval-data");
    refused(&task, &Settings { rate: 0.02, ..settings() }, "lr");
    refused(&task, &Settings { epochs: 3, ..settings() }, "epochs");
    assert!(std::fs::read(scene.at("out.safetensors.state")).unwrap() == state && !out.exists());
    assert!(trained(&task, &settings()).unwrap().resumed);
}

#[test]
fn weights_that_stay_are_those_that_were_trained_with() {
    let scene = Scene::new("train-frozen");
    let settings = Settings { epochs: 1, fresh: true, freeze: vec!["conv*".to_owned()], keep: vec![0], ..settings() };
    let out = scene.at("out.safetensors");
    trained(&scene.task(&out), &settings).unwrap();
    let of = |file: &str, tensor: &str| scene.floats(file, tensor);
    let first = of("out.epoch0.safetensors", "conv1.weight");
    assert_eq!(of("out.safetensors", "conv1.weight"), first);
    let file = Checkpoint::open(fixture("model.safetensors"), &Limits::default()).unwrap();
    assert_ne!(file.get("conv1.weight").unwrap().bytes(), first, "fresh weights are others than those of the file");
    assert_ne!(of("out.safetensors", "fc2.weight"), of("out.epoch0.safetensors", "fc2.weight"));
    // Those of a checkpoint that is gone back to are taken too.
    let (kept, again) = (scene.at("out.epoch0.safetensors"), scene.at("again.safetensors"));
    let task = Task { rewind: Some(&kept), ..scene.task(&again) };
    trained(&task, &Settings { fresh: false, keep: vec![], ..settings.clone() }).unwrap();
    assert_eq!(of("again.safetensors", "conv1.weight"), first);
    assert_eq!(of("again.safetensors", "fc2.weight"), of("out.safetensors", "fc2.weight"));
    let (last, late) = (scene.at("last.safetensors"), scene.at("late.safetensors"));
    trained(&scene.task(&last), &Settings { keep: vec![1], ..settings.clone() }).unwrap();
    let kept = scene.at("last.epoch1.safetensors");
    let error = trained(&Task { rewind: Some(&kept), ..scene.task(&late) }, &settings).unwrap_err().to_string();
    assert!(error.contains("weights of pass 1: a training of 1 is at its end"), "{error}");
}

#[test]
fn the_best_weights_are_written_also_after_an_interruption() {
    let scene = Scene::new("train-best");
    let eval = sample(&scene.folder, "eval.safetensors", 40, 60);
    // The rate is so high that later passes are worse.
    let settings =
        Settings { epochs: 4, rate: 0.3, course: Course::Constant, best: true, keep: vec![1, 2, 3, 4], ..settings() };
    let out = scene.at("out.safetensors");
    let task = Task { eval: Some(&eval), ..scene.task(&out) };
    kill(&task, &settings, 140);
    let found = trained(&task, &settings).unwrap();
    let accuracies: Vec<_> = found.epochs.iter().map(|epoch| epoch.eval_accuracy.unwrap()).collect();
    let most = accuracies.iter().copied().fold(0.0, f64::max);
    let first = accuracies.iter().position(|accuracy| *accuracy == most).unwrap() as u64 + 1;
    assert!(found.resumed && found.written_epoch == first && first < 4, "{accuracies:?}");
    let kept = scene.at(&format!("out.epoch{first}.safetensors"));
    assert!(std::fs::read(&out).unwrap() == std::fs::read(kept).unwrap());
    let error = trained(&Task { eval: None, ..task }, &settings).unwrap_err().to_string();
    assert!(error.contains("the best pass, without images"), "{error}");
}

#[test]
fn an_output_named_onnx_is_the_model_with_its_new_weights() {
    let scene = Scene::new("train-onnx");
    let settings = Settings { epochs: 1, keep: vec![1], ..settings() };
    let (model, weights) = (scene.at("out.onnx"), scene.at("out.epoch1.safetensors"));
    trained(&scene.task(&model), &settings).unwrap();
    let (found, truth) = (Model::open(&model).unwrap(), Checkpoint::open(&weights, &Limits::default()).unwrap());
    assert_eq!(found.graph().weights().count(), 8);
    for (value, tensor) in found.graph().weights() {
        assert!(truth.get(found.graph().name(value)).unwrap().bytes() == tensor.data().to_bytes());
    }
    let old = Model::open(&fixture("model.onnx")).unwrap();
    assert_eq!(found.graph().nodes().len(), old.graph().nodes().len());
    assert_eq!(found.graph().inputs()[0].dims, old.graph().inputs()[0].dims);
}

#[test]
fn files_that_are_there_stay() {
    let scene = Scene::new("train-kept");
    let (out, kept) = (scene.at("out.safetensors"), scene.at("out.epoch1.safetensors"));
    std::fs::write(&kept, b"mine").unwrap();
    let settings = Settings { keep: vec![1], ..settings() };
    let error = trained(&scene.task(&out), &settings).unwrap_err().to_string();
    assert!(error.contains("out.epoch1.safetensors") && error.contains("exists"), "{error}");
    assert_eq!(std::fs::read(&kept).unwrap(), b"mine");
    assert!(!scene.at("out.safetensors.state").exists());
    trained(&Task { overwrite: Overwrite::Replace, ..scene.task(&out) }, &settings).unwrap();
    assert_ne!(std::fs::read(&kept).unwrap(), b"mine");
}

#[test]
fn lines_that_mean_nothing_are_refused() {
    let scene = Scene::new("train-refused");
    let model = fixture("model.onnx").display().to_string();
    let line = |flags: &str| format!("train {model} --data @data.safetensors --batch 16 -o @out.safetensors {flags}");
    for (flags, what) in [
        ("--epochs 0", "`--epochs 0`: at least one pass is needed"),
        ("--epochs 1 --only nothing*", "`--only nothing*` matches no tensor"),
        ("--epochs 1 --only fc* --freeze typo", "`--freeze typo` matches no tensor"),
        ("--epochs 1 --freeze *", "F32 weights to train"),
        ("--epochs 1 --keep-epoch 2", "pass 2 is to be kept, of 1"),
        ("--epochs 1 --batch 41", "batches of 41: the dataset has 40 images"),
        ("--epochs 1 --label-smoothing 2", "expected a number from 0 to 1"),
        ("--epochs 4 --milestones 2", "`--milestones` means nothing without `--schedule step`"),
        ("--epochs 4 --schedule step --milestones 2,4", "`--milestones 4`: expected passes before the end, 4"),
    ] {
        let line = if flags.contains("--batch") { line(flags).replacen("--batch 16 ", "", 1) } else { line(flags) };
        refuse(&scene.folder, &line, what);
    }
    let small = attempt(&scene.folder, &line("--epochs 1 --memory 1KiB --json")).json();
    assert_eq!((small["error"]["blame"].as_str(), small["error"]["kind"].as_str()), (Some("limit"), Some("limit")));
    let far = attempt(&scene.folder, &line("--epochs 1 --lr 1e30 --json")).json();
    assert_eq!(far["error"]["kind"].as_str(), Some("diverged"));
    let message = far["error"]["message"].as_str().unwrap();
    assert!(message.contains("of pass 1; the first node whose values are not all is `"), "{message}");
}

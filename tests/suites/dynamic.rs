//! Networks that compute only the channels that an image needs: planned, trained, measured, run, exported, and refused, on the
//! bundled network.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "a test that is skipped says so")]

use std::fs;
use std::path::Path;
use std::process::Command;

use niwaki_conformance::folder::{Folder, bundled, part_of_sample, repository, sample};
use niwaki_conformance::scene::{attempt, json, run};
use niwaki_conformance::trained::refuse;
use niwaki_engine::Ratio;
use niwaki_engine::dataset::Dataset;
use niwaki_engine::dynamic::{Dynamic, HeadsFile, Network, Target, train};
use niwaki_engine::model::Model;
use niwaki_engine::train::{Lessons, Settings, Task};
use niwaki_model::{Executor, Run, Tensor};
use niwaki_tensors::{Checkpoint, Dtype, Limits, Overwrite, write_file};
use serde_json::Value;

/// The first 100 of the bundled images.
fn few(folder: &Folder) -> String {
    part_of_sample(folder, "few.safetensors", 0..100)
}

fn trains_on(folder: &Folder, data: &str, more: &str, out: &str) -> Value {
    let model = bundled("model.onnx");
    json(folder, &format!("dynamic train {model} --data {data} --batch 50 {more} -o @{out}"))
}

fn measured(folder: &Folder, heads: &str, more: &str) -> Value {
    let (model, data) = (bundled("model.onnx"), sample());
    json(folder, format!("dynamic eval {model} --heads @{heads} --data {data} {more}").trim_end())
}

fn number(of: &Value, key: &str) -> f64 {
    of[key].as_f64().unwrap_or_else(|| panic!("`{key}` of {of}"))
}

fn floats(path: &str, name: &str) -> Vec<f32> {
    let checkpoint = Checkpoint::open(path, &Limits::default()).unwrap();
    checkpoint.get(name).unwrap().f32s().unwrap().to_vec()
}

fn network(folder: &Folder, heads: &str) -> Network {
    let model = Model::open(bundled("model.onnx").as_ref()).unwrap();
    HeadsFile::open(folder.at(heads).as_ref()).unwrap().network(&model).unwrap()
}

/// What an executor makes of the first images, by bits; 0 has one sign.
fn outputs(executor: &Executor, images: usize) -> Vec<u32> {
    let data = Dataset::open(sample().as_ref()).unwrap();
    let [c, h, w] = data.shape();
    let mut all = vec![0.0; images * data.item_len()];
    data.batch(0..images, &mut all).unwrap();
    let input = Tensor::of([images, c, h, w], all).unwrap();
    let made = executor.run(vec![input], Run::default()).unwrap().outputs.remove(0);
    made.get::<f32>().unwrap().iter().map(|x| (x + 0.0).to_bits()).collect()
}

#[test]
fn a_plan_says_what_is_left_before_anything_is_trained() {
    let folder = Folder::new("dynamic-plan");
    let (model, data) = (bundled("model.onnx"), sample());
    let plan = |more: &str| json(&folder, &format!("dynamic plan {model} --data {data} {more}"));
    let said = plan("--macs 0.8 --threads 1");
    assert_eq!(said["table"], plan("--macs 0.8 --threads 3")["table"]);
    let rows = said["table"].as_array().unwrap();
    for key in ["channels", "share", "paper_share"] {
        let all: Vec<f64> = rows.iter().map(|row| number(row, key)).collect();
        assert!(all.windows(2).all(|pair| pair[0] >= pair[1]), "{key} falls with the mass: {all:?}");
        assert!(all[0] > all[all.len() - 1] + 0.05, "{key}: {all:?}");
    }
    // conv1 1 to 8 channels, conv2 8 to 16, of 28x28 and 14x14 places; 784 to 64 to 10.
    let convolutions = 28 * 28 * 9 * 8 + 14 * 14 * 9 * 8 * 16;
    assert_eq!(number(&rows[0], "paper_dense"), f64::from(convolutions));
    assert_eq!(number(&rows[0], "dense"), f64::from(convolutions + 784 * 64 + 64 * 10));
    assert_eq!(number(&rows[0], "heads"), f64::from(8 + 8 * 16));
    let picked = &said["picked"];
    assert!(number(picked, "share") <= 0.8, "{picked}");
    let next = plan(&format!("--mass {:.3}", number(picked, "mass") + 0.001));
    assert!(number(&next["table"][0], "share") > 0.8, "the largest that fits: {next}");
    let uniform = plan("--uniform --mass 0.5");
    assert!((number(&uniform["table"][0], "channels") - 0.5).abs() < 0.01, "{uniform}");
    let answer = attempt(&folder, &format!("dynamic plan {model} --data {data} --macs 0.05 -q"));
    assert_eq!(answer.code, 1);
    assert!(answer.out.contains("no masks leave 5.00 % of the MACs: the smallest leave"), "{}", answer.out);
}

#[test]
fn heads_learn_what_fires_and_masks_follow_the_image() {
    let folder = Folder::new("dynamic-train");
    let flags = "--mass 0.8 --epochs 8";
    let said = trains_on(&folder, &sample(), &format!("{flags} --eval-data {}", sample()), "h.safetensors");
    let file = fs::read(folder.at("h.safetensors")).unwrap();
    let found = measured(&folder, "h.safetensors", "");
    assert_eq!(said["epochs"][7]["eval_accuracy"], found["accuracy"], "what is measured is the gated network");
    assert!(number(&found, "accuracy") > 0.8, "{found}");
    let [right, fixed] = ["head_accuracy", "majority_by_channel"].map(|key| number(&found, key));
    assert!(right > fixed, "heads know no more than fixed masks: {found}");
    assert!(number(&found, "variation") > 0.02, "{found}");
    let macs = &found["macs"];
    assert!(number(macs, "share") < 0.95 && number(macs, "paper_share") < number(macs, "share"), "{found}");
    // No result hangs on threads, and measuring changes nothing.
    let without = |mut of: Value| {
        of["seconds"] = Value::Null;
        of["items_per_second"] = Value::Null;
        of
    };
    let [one, three] = ["--threads 1", "--threads 3"].map(|more| without(measured(&folder, "h.safetensors", more)));
    assert_eq!(one, three);
    assert!(fs::read(folder.at("h.safetensors")).unwrap() == file);
    // Heads that see nothing tell the same of all images.
    trains_on(&folder, &sample(), &format!("{flags} --fixed"), "fixed.safetensors");
    let fixed = measured(&folder, "fixed.safetensors", "");
    assert_eq!((number(&fixed, "variation"), number(&fixed, "head_accuracy") <= right), (0.0, true), "{fixed}");
    assert!(floats(&folder.at("fixed.safetensors"), "conv2.weight.head.weight").iter().all(|w| *w == 0.0));
}

#[test]
fn no_passes_leave_a_network_as_it_is() {
    let folder = Folder::new("dynamic-begin");
    trains_on(&folder, &few(&folder), "--mass 0.5 --epochs 0", "h.safetensors");
    let found = measured(&folder, "h.safetensors", "");
    let dense = json(&folder, &format!("eval {} --data {}", bundled("model.onnx"), sample()));
    assert_eq!(found["accuracy"], dense["accuracy"]);
    assert_eq!((number(&found, "active"), number(&found, "variation")), (1.0, 0.0));
    assert!(number(&found["macs"], "share") > 1.0, "heads cost something");
}

#[test]
fn bytes_do_not_hang_on_threads_but_on_what_is_learned() {
    let folder = Folder::new("dynamic-threads");
    let data = few(&folder);
    let of = |more: &str, out: &str| {
        trains_on(&folder, &data, &format!("--epochs 2 {more}"), out);
        fs::read(folder.at(out)).unwrap()
    };
    let one = of("--mass 0.7 --threads 1", "one.safetensors");
    assert!(one == of("--mass 0.7 --threads 3", "three.safetensors"));
    let others =
        ["--mass 0.9", "--uniform 0.7", "--mass 0.7 --joint", "--mass 0.7 --pool average", "--mass 0.7 --head-lr 0.2"];
    for (nth, more) in others.iter().enumerate() {
        assert!(one != of(more, &format!("{nth}.safetensors")), "{more}");
    }
}

#[test]
fn an_interrupted_training_goes_on_to_the_same_bytes() {
    let folder = Folder::new("dynamic-interrupted");
    let [whole, cut] = ["whole.safetensors", "cut.safetensors"].map(|name| folder.at(name));
    let model = Model::open(bundled("model.onnx").as_ref()).unwrap();
    let data = Lessons::open(few(&folder).as_ref(), &model).unwrap();
    let settings = Settings { epochs: 2, batch: 20, rate: 0.01, save_every: Some(3), ..Settings::default() };
    let how = Dynamic::new(Target::Mass(Ratio::new(0.7).unwrap()));
    train(&Task::new(&model, &data, whole.as_ref()), &settings, &how, &mut |_| {}).unwrap();
    // In the second half, heads move by their momentum alone: that has to come back too.
    let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        train(&Task::new(&model, &data, cut.as_ref()), &settings, &how, &mut |at| assert!(at.done < 160, "killed"))
    }));
    assert!(killed.is_err() && !Path::new(&cut).exists());
    let trained = train(&Task::new(&model, &data, cut.as_ref()), &settings, &how, &mut |_| {}).unwrap();
    assert!(trained.resumed && trained.stops.is_empty());
    assert!(fs::read(&whole).unwrap() == fs::read(&cut).unwrap(), "an interruption changes the weights");
}

#[test]
fn channels_that_are_skipped_change_no_bit() {
    let folder = Folder::new("dynamic-skip");
    for (flags, out) in [("--mass 0.7 --epochs 6", "h.safetensors"), ("--mass 0.5 --epochs 0", "all.safetensors")] {
        trains_on(&folder, &sample(), flags, out);
        let network = network(&folder, out);
        let (masked, skipping) = (network.gated().executor().unwrap(), network.skipping().unwrap());
        let skips = skipping.graph().nodes().iter().filter(|node| node.op.name() == "SkipConv").count();
        assert_eq!(skips, network.layers().count());
        for images in [1, 2, 20] {
            assert_eq!(outputs(&masked, images), outputs(&skipping, images), "{flags}, {images} images");
        }
    }
}

#[test]
fn an_exported_network_computes_what_was_measured() {
    let folder = Folder::new("dynamic-export");
    let (model, data) = (bundled("model.onnx"), sample());
    for pool in ["max", "average"] {
        trains_on(&folder, &sample(), &format!("--mass 0.7 --epochs 4 --pool {pool} --force"), "h.safetensors");
        let line = format!("dynamic export {model} --heads @./h.safetensors -o @q.onnx");
        let said = json(&folder, &format!("{line} --force"));
        assert_eq!(said["layers"], 2);
        let found = json(&folder, &format!("eval @./q.onnx --data {data}"));
        let needs = measured(&folder, "h.safetensors", "");
        assert_eq!((&found["accuracy"], &found["loss"]), (&needs["accuracy"], &needs["loss"]), "{pool}");
        let network = network(&folder, "h.safetensors");
        let exported = Model::open(folder.at("q.onnx").as_ref()).unwrap().executor().unwrap();
        assert_eq!(outputs(&network.gated().executor().unwrap(), 9), outputs(&exported, 9), "{pool}");
        refuse(&folder, &line, "exists");
    }
    same_in_python(&folder);
}

/// Runs the exported network in another engine, where there is one.
fn same_in_python(folder: &Folder) {
    let python = std::env::var("NIWAKI_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let there = Command::new(&python).args(["-c", "import numpy, onnxruntime"]).output();
    if !there.is_ok_and(|done| done.status.success()) {
        return println!("skipped: {python} with numpy and onnxruntime is not installed");
    }
    let script = repository().join("tests/scripts/check_onnx_accuracy.py");
    let (model, data) = (folder.at("q.onnx"), sample());
    let done = Command::new(&python).arg(script).args([&model, &data]).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let theirs: f64 = String::from_utf8_lossy(&done.stdout).trim().parse().unwrap();
    let ours = number(&measured(folder, "h.safetensors", ""), "accuracy");
    assert!((ours - theirs).abs() < 1e-9, "{ours} here, {theirs} there");
}

/// A copy of a file of heads in which one tensor is another.
fn changed(folder: &Folder, name: &str, numbers: &[f32], shape: &[usize], more: Option<(&str, &str)>) -> String {
    let checkpoint = Checkpoint::open(folder.at("h.safetensors"), &Limits::default()).unwrap();
    let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
    let tensors: Vec<(&str, Dtype, &[usize], &[u8])> = checkpoint
        .tensors()
        .map(|view| match view.name() == name {
            true => (name, Dtype::F32, shape, bytes.as_slice()),
            false => (view.name(), view.dtype(), view.shape(), view.bytes()),
        })
        .collect();
    let of = checkpoint.metadata();
    let replaced = of["niwaki.dynamic"].replace(more.map_or("", |more| more.0), more.map_or("", |more| more.1));
    let about = if more.is_some() { replaced.as_str() } else { of["niwaki.dynamic"] };
    let out = folder.at("changed.safetensors");
    let metadata = [("format", "pt"), ("niwaki.dynamic", about)];
    write_file(out.as_ref(), &tensors, &metadata, Overwrite::Replace).unwrap();
    out
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let folder = Folder::new("dynamic-refused");
    let (model, data) = (bundled("model.onnx"), sample());
    trains_on(&folder, &few(&folder), "--mass 0.9 --epochs 0", "h.safetensors");
    let good = folder.at("h.safetensors");
    let eval = |heads: &str| format!("dynamic eval {model} --heads {heads} --data {data}");
    refuse(&folder, &eval(&bundled("model.safetensors")), "no `niwaki.dynamic` in its metadata");
    let name = "conv2.weight.head.bias";
    let mut odd = floats(&good, name);
    odd[3] = f32::INFINITY;
    let bad = changed(&folder, name, &odd, &[16], None);
    refuse(&folder, &eval(&bad), "tensor `conv2.weight.head.bias`: number 3 is not finite");
    let bad = changed(&folder, name, &[1.0; 15], &[15], None);
    refuse(&folder, &eval(&bad), "tensor `conv2.weight.head.bias`: a bias [15] of a head [16, 8]");
    let name = "conv2.weight.head.weight";
    let bad = changed(&folder, name, &[1.0; 64], &[16, 4], None);
    refuse(&folder, &eval(&bad), "tensor `conv2.weight`: a head of [16, 4] channels, the model has [16, 8]");
    for (from, to, says) in [
        ("\"version\":1", "\"version\":2", "version 2, 1 expected"),
        ("{\"mass\":0.9}", "{\"mass\":1.5}", "its target: a share of 1.5 to keep"),
        ("\"joint\"", "\"joined\"", "unknown field `joined`"),
        ("[\"conv1.weight\",", "[", "heads of 1 layers, the model has 2"),
        ("[\"conv1.weight\",\"conv2.weight\"]", "[]", "heads of no layers"),
        ("\"conv1.weight\",\"conv2.weight\"", "\"conv2.weight\",\"conv1.weight\"", "a head of `conv2.weight`"),
        ("\"conv1.weight\"", "\"conv9.weight\"", "tensor `conv9.weight.head.weight`: is not there"),
    ] {
        refuse(&folder, &eval(&changed(&folder, "", &[], &[], Some((from, to)))), says);
    }
    let train = |more: &str| {
        format!("dynamic train {model} --data {data} --batch 50 -o @no.safetensors {more}").trim_end().to_owned()
    };
    refuse(&folder, &train("--mass 0"), "`--mass");
    refuse(&folder, &train("--mass 1.01"), "`--mass");
    refuse(&folder, &train("--mass 0.9 --uniform 0.5"), "`--uniform");
    refuse(&folder, &train(""), "--mass");
    refuse(&folder, &train("--mass 0.9 --head-lr 0"), "`--head-lr 0`");
    refuse(&folder, &format!("dynamic plan {model} --data {data} --macs 0"), "`--macs");
    assert!(!Path::new(&folder.at("no.safetensors")).exists());
    run(&folder, &eval(&good));
}

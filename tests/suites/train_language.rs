//! Decoders that learn text, and encoders that learn their teacher's vectors.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::Path;

use niwaki_conformance::folder::{Folder, bundled, repository};
use niwaki_conformance::llama::{letters, write_llama};
use niwaki_conformance::scene::{json, run};
use niwaki_conformance::trained::refuse;
use niwaki_conformance::transformer::{Family, Transformer, words};
use niwaki_engine::model::Model;
use niwaki_engine::train::{Lessons, Method, Settings, Task, train};
use niwaki_tensors::{Checkpoint, Limits};
use serde_json::Value;

/// A folder with a small Llama, and a text that says the same all over.
fn scene() -> Folder {
    let folder = Folder::new("train-language");
    write_llama(&folder.path().join("llama"));
    fs::write(folder.path().join("text.txt"), "abcdeXYZ0123".repeat(60)).unwrap();
    folder
}

fn number(found: &Value, key: &str) -> f64 {
    found[key].as_f64().unwrap_or_else(|| panic!("no {key}: {found}"))
}

/// How the Llama is trained.
const HOW: &str = "--data @text.txt --epochs 10 --batch 2 --lr 0.02";

#[test]
fn a_decoder_learns_a_text() {
    let folder = scene();
    let before = json(&folder, "eval @llama --data @text.txt");
    assert!(number(&before, "perplexity") > 32.0, "{before}");
    let said = json(&folder, &format!("train @llama {HOW} --eval-data @text.txt --threads 1 -o @one.safetensors"));
    // 5 windows of 128 tokens, two a step.
    assert_eq!((number(&said, "steps"), number(&said, "tensors")), (30.0, 20.0));
    let after = json(&folder, "eval @llama --weights @one.safetensors --data @text.txt");
    assert!(number(&after, "perplexity") < 2.0, "{after}");
    // What training measured is what `eval` finds.
    let last = &said["epochs"][9];
    assert_eq!((&last["eval_loss"], &last["eval_accuracy"]), (&after["loss"], &after["accuracy"]));
    // All weights of the folder are there, as single floats.
    let of = |path: String| Checkpoint::open(path, &Limits::default()).unwrap();
    let names = |checkpoint: &Checkpoint| {
        let mut all: Vec<String> = checkpoint.tensors().map(|t| t.name().to_owned()).collect();
        all.sort();
        all
    };
    let trained = of(folder.at("one.safetensors"));
    assert_eq!(names(&trained), names(&of(folder.at("llama/model.safetensors"))));
    assert!(trained.tensors().all(|t| t.dtype() == niwaki_tensors::Dtype::F32));
}

#[test]
fn threads_and_less_memory_change_no_bit() {
    let folder = scene();
    let how = HOW.replace("--epochs 10", "--epochs 2");
    run(&folder, &format!("train @llama {how} --threads 1 -o @one.safetensors"));
    run(&folder, &format!("train @llama {how} --threads 3 -o @three.safetensors"));
    let less = json(&folder, &format!("train @llama {how} --memory 1700KiB -o @less.safetensors"));
    let bytes = |name: &str| fs::read(folder.at(name)).unwrap();
    assert!(bytes("one.safetensors") == bytes("three.safetensors"), "threads change the weights");
    assert!(bytes("one.safetensors") == bytes("less.safetensors"), "less memory changes the weights");
    assert!(number(&less, "segments") > 1.0 && number(&less, "peak_bytes") <= 1700.0 * 1024.0, "{less}");
}

#[test]
fn an_interrupted_training_goes_on_to_the_same_bytes() {
    let folder = scene();
    let (model, _) = Model::of_folder(folder.at("llama").as_ref(), None::<&Path>).unwrap();
    let data = Lessons::open(folder.at("text.txt").as_ref(), &model).unwrap();
    let method = Method::Adam { betas: [0.9, 0.999], epsilon: 1e-8, decoupled: true };
    let settings = Settings { epochs: 2, batch: 1, rate: 1e-3, method, save_every: Some(2), ..Settings::default() };
    let (whole, cut) = (folder.at("whole.safetensors"), folder.at("cut.safetensors"));
    train(&Task::new(&model, &data, whole.as_ref()), &settings, &mut |_| {}).unwrap();
    let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        train(&Task::new(&model, &data, cut.as_ref()), &settings, &mut |at| assert!(at.done < 8, "killed")).map(|_| ())
    }));
    assert!(killed.is_err() && !Path::new(&cut).exists());
    assert!(train(&Task::new(&model, &data, cut.as_ref()), &settings, &mut |_| {}).unwrap().resumed);
    assert!(fs::read(whole).unwrap() == fs::read(cut).unwrap());
}

#[test]
fn norms_that_a_file_keeps_less_one_come_back_so() {
    let folder = Folder::new("train-gemma");
    Transformer { family: Family::Gemma3, layers: vec![0, 1], idle: Vec::new() }.write(&folder.path().join("gemma"), 1);
    fs::write(folder.path().join("text.txt"), "abcXYZ01".repeat(60)).unwrap();
    let how = "--data @text.txt --eval-data @text.txt --epochs 4 --batch 4 --lr 0.01 --keep-epoch 2";
    let said = json(&folder, &format!("train @gemma {how} -o @whole.safetensors"));
    let found = json(&folder, "eval @gemma --weights @whole.safetensors --data @text.txt");
    assert_eq!(said["epochs"][3]["eval_loss"], found["loss"]);
    assert!(number(&said["epochs"][3], "eval_loss") < number(&said["epochs"][0], "eval_loss"), "{said}");
    // Rewound to what was kept, they are what they were then, to a rounding of the sum with one.
    let rewound =
        "--data @text.txt --eval-data @text.txt --epochs 4 --batch 4 --lr 1e-30 --rewind @whole.epoch2.safetensors";
    let rewound = json(&folder, &format!("train @gemma {rewound} -o @rewound.safetensors"));
    let kept = number(&said["epochs"][1], "eval_loss");
    assert!((number(&rewound["epochs"][0], "eval_loss") - kept).abs() < 1e-5 * kept, "{rewound}");
}

/// A folder with a small BERT and its tokenizer, and lines of text.
fn encoder() -> Folder {
    let folder = Folder::new("train-encoder");
    Transformer { family: Family::Bert, layers: vec![0, 1], idle: Vec::new() }.write(&folder.path().join("bert"), 1);
    let all = letters(400);
    let lines: Vec<&str> = (0..40).map(|at| &all[at * 10..at * 10 + 3 + at % 7]).collect();
    fs::write(folder.path().join("lines.txt"), lines.join("\n")).unwrap();
    folder
}

#[test]
fn an_encoder_comes_back_to_its_teacher() {
    let folder = encoder();
    run(&folder, "compress @bert --scheme int2/row/sym -o @coarse");
    let before = json(&folder, "eval @bert --weights @coarse --against @bert --data @lines.txt");
    let how = "--data @lines.txt --eval-data @lines.txt --teacher @bert --epochs 10 --batch 8 --lr 0.01";
    let said = json(&folder, &format!("train @bert --weights @coarse {how} -o @near.safetensors"));
    let after = json(&folder, "eval @bert --weights @near.safetensors --against @bert --data @lines.txt");
    let measured = number(&said["epochs"][9], "eval_cosine");
    assert!((measured - number(&after, "cosine")).abs() < 1e-12, "{said} {after}");
    assert!(1.0 - measured < 0.3 * (1.0 - number(&before, "cosine")), "{before} {after}");
    // A model of fewer layers learns from the whole one.
    run(&folder, "layers remove @bert --blocks 1 -o @half");
    let half = how.replace("--epochs 10", "--epochs 3");
    let said = json(&folder, &format!("train @half {half} -o @half.safetensors"));
    assert!(number(&said["epochs"][2], "loss") < number(&said["epochs"][0], "loss"), "{said}");
    // The best pass by its cosine is what is written.
    let said = json(&folder, &format!("train @bert --weights @coarse {how} --best -o @best.safetensors"));
    let best = said["epochs"].as_array().unwrap().iter().map(|e| number(e, "eval_cosine")).fold(0.0, f64::max);
    let written = json(&folder, "eval @bert --weights @best.safetensors --against @bert --data @lines.txt");
    assert!((best - number(&written, "cosine")).abs() < 1e-12, "{said} {written}");
}

#[test]
fn an_encoder_learns_the_classes_of_texts() {
    let folder = Folder::new("train-classes");
    let golden = repository().join("tests/golden/hf/bert-classes");
    fs::create_dir(folder.path().join("bert")).unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs::copy(golden.join(name), folder.path().join("bert").join(name)).unwrap();
    }
    fs::write(folder.path().join("bert/tokenizer.json"), words().to_string()).unwrap();
    // What a text is of is what its second word says, and classes have names and numbers.
    let line = |at: usize| {
        let class = ["bad", "1", "good"][at % 3];
        format!("{class}\tw{} w{} w{}\n", 5 + at % 7, 20 + at % 3, 10 + at % 5)
    };
    fs::write(folder.path().join("texts.tsv"), (0..60).map(line).collect::<String>()).unwrap();
    let before = json(&folder, "eval @bert --data @texts.tsv");
    let how = "--data @texts.tsv --eval-data @texts.tsv --epochs 8 --batch 6 --lr 0.01";
    let said = json(&folder, &format!("train @bert {how} --threads 1 -o @one.safetensors"));
    let after = json(&folder, "eval @bert --weights @one.safetensors --data @texts.tsv --against @bert");
    assert!(number(&before, "accuracy") < 0.7 && number(&after, "accuracy") == 1.0, "{before} {after}");
    assert_eq!(said["epochs"][7]["eval_accuracy"], after["accuracy"]);
    assert!(number(&after, "agreement") < 0.7 && number(&after, "kl") > 0.1, "{after}");
    run(&folder, &format!("train @bert {how} --threads 3 -o @three.safetensors"));
    let bytes = |name: &str| fs::read(folder.at(name)).unwrap();
    assert!(bytes("one.safetensors") == bytes("three.safetensors"), "threads change the weights");
    // A class that nobody knows, and embeddings asked for.
    fs::write(folder.path().join("odd.tsv"), "good\tw5\nbest\tw6\n").unwrap();
    refuse(&folder, "train @bert --data @odd.tsv --epochs 1 -o @no.safetensors", "line 2 has no class of the model's");
    refuse(
        &folder,
        "eval @bert --data @texts.tsv -o @no.safetensors",
        "of texts with classes the accuracy is measured",
    );
}

#[test]
fn what_does_not_go_together_is_said_in_one_line() {
    let folder = scene();
    let other = encoder();
    fs::write(folder.path().join("short.txt"), "abc").unwrap();
    let train = "train @llama --epochs 1 -o @no.safetensors --data";
    let refuse_here = |line: &str, what: &str| refuse(&folder, line, what);
    refuse_here(&format!("{train} @text.txt --flip"), "of texts only the order changes");
    refuse_here(&format!("{train} @text.txt --batch 12"), "batches of 12: the dataset has 5 windows");
    refuse_here(&format!("{train} @short.txt"), "has 2 tokens");
    let sample = bundled("sample.safetensors");
    refuse_here(&format!("{train} {}", sample), "no tensor `tokens`");
    refuse_here(&format!("{train} @text.txt --only nothing"), "matches no tensor");
    refuse_here(&format!("{train} @text.txt --teacher @none"), "none");
    run(&folder, "dataset import text @text.txt --tokenizer @llama/tokenizer.json --length 200 -o @long.safetensors");
    refuse_here(&format!("{train} @long.safetensors"), "windows of 200 tokens: 2 to 128 expected");
    let cnn = bundled("model.onnx");
    refuse_here(&format!("train {} --epochs 1 --data @text.txt -o @no.safetensors", cnn), "text.txt");
    let alone = "train @bert --epochs 1 --data @lines.txt -o @no.safetensors";
    refuse(&other, alone, "an encoder without a teacher");
}

#[test]
fn forms_are_measured_on_as_many_texts_as_asked() {
    let folder = encoder();
    let fit = "--weights-only --widths 4,8 --teacher @bert --epochs 0 --batch 8 --lr 0.01";
    run(&folder, &format!("elastic train @bert --data @lines.txt {fit} -o @w.safetensors"));
    let of = |more: &str| {
        let how = "--weights @w.safetensors --data @lines.txt --form w8/row/sym";
        json(&folder, &format!("elastic eval @bert {how}{more}"))["forms"][0].clone()
    };
    let (all, some) = (of(""), of(" --limit 7"));
    assert_eq!((number(&all, "examples"), number(&some, "examples")), (40.0, 7.0), "{all} {some}");
    assert!(number(&some, "cosine") > 0.99 && some["cosine"] != all["cosine"], "{all} {some}");
}

//! Layers of transformers: ranked, and removed.
#![allow(clippy::print_stdout, reason = "a test that is skipped says so")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::path::Path;

use niwaki_conformance::checkpoints::{Tensor, write};
use niwaki_conformance::cli::Answer;
use niwaki_conformance::folder::{Folder, repository};
use niwaki_conformance::llama::letters;
use niwaki_conformance::scene::attempt;
use niwaki_conformance::transformer::{Family, Transformer};
use niwaki_tensors::{Checkpoint, Limits};
use serde_json::{Value, json};

const FAMILIES: [Family; 4] = [Family::Llama, Family::Gemma3, Family::Bert, Family::DistilBert];

fn model(family: Family, layers: &[usize], idle: &[usize]) -> Transformer {
    Transformer { family, layers: layers.to_vec(), idle: idle.to_vec() }
}

/// A folder with a text of 200 letters, which is six windows of 32 tokens.
fn scene() -> Folder {
    let folder = Folder::new("layers");
    std::fs::write(folder.path().join("text.txt"), letters(200)).unwrap();
    folder
}

fn run(folder: &Folder, line: &str) -> Answer {
    attempt(folder, line).ok()
}

/// What a verb says in JSON, but for the time it took.
fn said(folder: &Folder, line: &str) -> Value {
    let mut found = run(folder, &format!("{line} --json -q")).json();
    assert!(found["seconds"].take().is_number());
    found
}

/// Name, type, shape and bytes of all tensors.
fn tensors(path: &Path) -> BTreeMap<String, (Vec<usize>, Vec<u8>)> {
    let checkpoint = Checkpoint::open(path, &Limits::default()).unwrap();
    checkpoint.tensors().map(|t| (t.name().to_owned(), (t.shape().to_vec(), t.bytes().to_vec()))).collect()
}

fn config(folder: &Folder, name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(folder.path().join(name).join("config.json")).unwrap()).unwrap()
}

#[test]
fn a_model_without_layers_is_the_model_that_never_had_them() {
    for family in FAMILIES {
        let folder = scene();
        let kept = model(family, &[0, 2, 4], &[]);
        model(family, &[0, 1, 2, 3, 4], &[]).write(&folder.path().join("whole"), 1);
        kept.write(&folder.path().join("kept"), 1);
        let found = said(&folder, "layers remove @whole --blocks 3 1 -o @fewer");
        assert_eq!((&found["removed"], &found["kept"]), (&json!([1, 3]), &json!([0, 2, 4])), "{family:?}");
        assert_eq!(tensors(&folder.path().join("fewer")), tensors(&folder.path().join("kept")), "{family:?}");
        let (fewer, mut expected) = (config(&folder, "fewer"), kept.config());
        if family == Family::Gemma3 {
            // A model of layers 0 to 4 has windows in all: the sixth is the first without.
            expected["layer_types"] = json!(["sliding_attention", "sliding_attention", "sliding_attention"]);
        }
        assert_eq!(fewer, expected, "{family:?}");
        assert_eq!(kept.output(&folder, "fewer"), kept.output(&folder, "kept"), "{family:?}");
        // The bytes differ from those of another choice, so the comparison says something.
        run(&folder, "layers remove @whole --blocks 1,4 -o @other");
        assert_ne!(kept.output(&folder, "other"), kept.output(&folder, "kept"), "{family:?}");
    }
}

#[test]
fn a_block_that_adds_nothing_goes_first_and_is_not_missed() {
    for (family, layers) in [(Family::Llama, 4), (Family::Gemma3, 7)] {
        let folder = scene();
        let all: Vec<usize> = (0..layers).collect();
        let whole = model(family, &all, &[2]);
        whole.write(&folder.path().join("whole"), 1);
        for by in ["influence", "kl"] {
            let found = said(&folder, &format!("layers rank @whole --by {by} --data @text.txt"));
            assert_eq!((&found["order"][0], &found["blocks"][2]), (&json!(2), &json!({"block": 2, "score": 0.0})));
            assert_eq!((&found["windows"], &found["tokens"], &found["by"]), (&json!(6), &json!(192), &json!(by)));
            for block in found["blocks"].as_array().unwrap().iter().filter(|block| block["block"] != 2) {
                assert!(block["score"].as_f64().unwrap() > 1e-6, "{by}: {found}");
            }
            run(&folder, &format!("layers remove @whole --count 1 --by {by} --data @text.txt -o @{by}"));
            let kept = model(family, &all[..layers - 1], &[]);
            // Bit for bit; of Gemma, too, whose layer without a window has another number now.
            assert_eq!(kept.output(&folder, by), whole.output(&folder, "whole"), "{family:?} {by}");
        }
    }
}

#[test]
fn layers_of_gemma_keep_their_kind_of_attention() {
    let folder = scene();
    let whole = model(Family::Gemma3, &[0, 1, 2, 3, 4, 5, 6], &[1, 3]);
    whole.write(&folder.path().join("whole"), 1);
    run(&folder, "layers remove @whole --blocks 1,3 -o @fewer");
    let fewer = config(&folder, "fewer");
    let (all, some) = ("full_attention", "sliding_attention");
    assert_eq!(fewer["layer_types"], json!([some, some, some, all, some]));
    let kept = model(Family::Gemma3, &[0, 2, 4, 5, 6], &[]);
    assert_eq!(kept.output(&folder, "fewer"), whole.output(&folder, "whole"));
    // Without the list the rule of the family would give layer 3 a window, and the outputs another value.
    let mut without = fewer;
    without.as_object_mut().unwrap().remove("layer_types");
    std::fs::write(folder.path().join("fewer/config.json"), without.to_string()).unwrap();
    assert_ne!(kept.output(&folder, "fewer"), whole.output(&folder, "whole"));
}

#[test]
fn a_folder_of_several_files_stays_one() {
    let folder = scene();
    let at = |name: &str| folder.path().join(name);
    model(Family::Llama, &[0, 1, 2, 3, 4, 5], &[]).write(&at("whole"), 7);
    std::fs::write(at("whole/pytorch_model.bin"), "all layers").unwrap();
    std::fs::write(at("whole/notes.md"), "kept").unwrap();
    let answer = attempt(&folder, "layers remove @whole --blocks 1,2 -o @fewer");
    assert_eq!(answer.code, 0, "{answer:?}");
    assert_eq!(answer.err, "note: `pytorch_model.bin` was left out: weights of all blocks in another format\n");
    model(Family::Llama, &[0, 3, 4, 5], &[]).write(&at("kept"), 1);
    assert_eq!(tensors(&at("fewer")), tensors(&at("kept")));
    let text = |name: &str| std::fs::read_to_string(at(name)).unwrap();
    for same in ["notes.md", "tokenizer.json"] {
        assert_eq!(text(&format!("fewer/{same}")), text(&format!("whole/{same}")));
    }
    let index: Value = serde_json::from_str(&text("fewer/model.safetensors.index.json")).unwrap();
    let bytes: usize = tensors(&at("kept")).values().map(|(_, bytes)| bytes.len()).sum();
    assert_eq!(index["metadata"]["total_size"], json!(bytes));
    let files: std::collections::BTreeSet<&str> =
        index["weight_map"].as_object().unwrap().values().map(|file| file.as_str().unwrap()).collect();
    // A file of which nothing is left is not there.
    assert!(files.len() < 7 && !at("fewer/pytorch_model.bin").exists(), "{files:?}");
    for file in files {
        let checkpoint = Checkpoint::open(at("fewer").join(file), &Limits::default()).unwrap();
        assert_eq!(checkpoint.metadata().into_iter().collect::<Vec<_>>(), [("format", "pt")]);
    }
    assert_eq!(folder.names(), ["fewer", "kept", "text.txt", "whole"]);
}

/// Every file of a folder.
fn files(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let items = std::fs::read_dir(path).unwrap().map(|item| item.unwrap().path());
    items
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap()))
        .collect()
}

#[test]
fn any_number_of_threads_gives_the_same_scores_and_bytes() {
    let folder = scene();
    model(Family::Llama, &[0, 1, 2, 3], &[]).write(&folder.path().join("whole"), 3);
    let mut first = None;
    for threads in [1, 2, 5] {
        let line = format!("--data @text.txt --threads {threads}");
        let scores: Vec<Value> = ["influence", "kl", "random"]
            .iter()
            .map(|by| said(&folder, &format!("layers rank @whole --by {by} {line}")))
            .collect();
        run(&folder, &format!("layers remove @whole --count 2 --by kl -o @fewer{threads} {line}"));
        let found = (scores, files(&folder.path().join(format!("fewer{threads}"))));
        assert_eq!(first.get_or_insert_with(|| found.clone()), &found, "{threads}");
    }
}

#[test]
fn a_text_and_its_dataset_rank_alike_and_windows_can_be_few() {
    let folder = scene();
    model(Family::Llama, &[0, 1, 2], &[]).write(&folder.path().join("m"), 1);
    run(&folder, "dataset import text @text.txt --tokenizer @m/tokenizer.json --length 32 -o @t.safetensors -q");
    for by in ["influence", "kl"] {
        let found = said(&folder, &format!("layers rank @m --by {by} --data @text.txt"));
        assert_eq!(said(&folder, &format!("layers rank @m --by {by} --data @t.safetensors")), found);
        let few = said(&folder, &format!("layers rank @m --by {by} --data @text.txt --limit 2"));
        assert_eq!((&few["windows"], &few["tokens"]), (&json!(2), &json!(64)));
        assert_ne!(few["blocks"], found["blocks"]);
    }
}

#[test]
fn chance_needs_no_text_and_hangs_on_the_seed() {
    let folder = scene();
    model(Family::Bert, &[0, 1, 2, 3, 4, 5, 6, 7], &[]).write(&folder.path().join("m"), 1);
    let rank = |seed: u64| said(&folder, &format!("layers rank @m --by random --seed {seed}"));
    let (found, other) = (rank(1), rank(2));
    assert_eq!((&found, &found["seed"]), (&rank(1), &json!(1)));
    assert_ne!(found["order"], other["order"]);
    let removed = said(&folder, "layers remove @m --count 3 --by random --seed 1 -o @fewer");
    let mut first: Vec<u64> = found["order"].as_array().unwrap()[..3].iter().map(|b| b.as_u64().unwrap()).collect();
    first.sort_unstable();
    assert_eq!((&removed["removed"], &removed["by"]), (&json!(first), &json!("random")));
    // Encoders have influences, too; blocks are those of the weights.
    let found = said(&folder, "layers rank @m --by influence --data @text.txt");
    assert!(found["blocks"].as_array().unwrap().iter().all(|b| b["score"].as_f64().unwrap() > 1e-6), "{found}");
}

#[test]
fn an_output_that_exists_is_replaced_only_when_told_to() {
    let folder = scene();
    let at = |name: &str| folder.path().join(name);
    model(Family::Llama, &[0, 1, 2], &[]).write(&at("m"), 1);
    model(Family::Llama, &[7, 8], &[]).write(&at("out"), 3);
    std::fs::write(at("out/own.txt"), "stays").unwrap();
    let before = files(&at("out"));
    let refusal = attempt(&folder, "layers remove @m --blocks 0 -o @out");
    assert_eq!(refusal.error(), format!("`{}`: exists", folder.at("out")));
    assert_eq!(refusal.err.lines().last(), Some("hint: `--force` replaces it"));
    assert_eq!(files(&at("out")), before);
    run(&folder, "layers remove @m --blocks 0 -o @out --force --durable");
    run(&folder, "layers remove @m --blocks 0 -o @fresh");
    let (mut found, fresh) = (files(&at("out")), files(&at("fresh")));
    assert_eq!(found.remove("own.txt").as_deref(), Some(&b"stays"[..]));
    assert_eq!(found, fresh);
    assert_eq!(folder.names(), ["fresh", "m", "out", "text.txt"]);
}

#[test]
fn what_cannot_be_done_is_said_in_one_line_and_nothing_is_written() {
    let folder = scene();
    let at = |name: &str| folder.path().join(name);
    model(Family::Llama, &[0, 1, 2], &[]).write(&at("m"), 1);
    model(Family::Bert, &[0, 1], &[]).write(&at("bert"), 1);
    run(&folder, "compress @m --scheme int8/row/sym -o @small -q");
    let names = folder.names();
    let refusal = |line: &str| {
        let message = attempt(&folder, line).error().replace(&folder.at(""), "@");
        assert!(message.len() < 300, "{message}");
        message
    };
    let cases = [
        ("remove @m --blocks 3 -o @out", "`@m`: no block 3; there are 0 to 2"),
        ("remove @m --blocks 1,1 -o @out", "`@m`: block 1 is named twice"),
        ("remove @m --blocks 0,1,2 -o @out", "`@m`: 3 of 3 blocks to remove; at least one has to stay"),
        ("remove @m --count 0 --by random -o @out", "`@m`: no block to remove; expected one or more"),
        ("remove @m --blocks 1 --power 5 -o @out", "`--power` is for ONNX models"),
        (
            "rank @m --halves --by random",
            "`@m`: halves of the layers of a Hugging Face folder: no `config.json` describes such a model",
        ),
        (
            "rank @m --by hrank --data @text.txt",
            "`@m`: the criterion hrank on a Hugging Face folder is not supported by this version",
        ),
        ("remove @m -o @out", "missing `--count P` or `--blocks N`"),
        ("remove @m --count 1 --blocks 1 -o @out", "`--count` and `--blocks` exclude each other"),
        ("remove @m --blocks 1 --by kl -o @out", "`--by` means nothing with `--blocks`"),
        ("remove @m --count 1 -o @out", "`--by influence` needs `--data DATA`"),
        ("remove @m --count 1 --by kl -o @out", "`--by kl` needs `--data DATA`"),
        ("remove @m --blocks x -o @out", "`--blocks x`: expected a whole number in range"),
        ("remove @m --blocks 1 -o @m --force", "`@m`: is the input; the output is another folder"),
        ("remove @m --blocks 1 -o @no/out", "`@no/out`: is to be in a folder that does not exist"),
        ("remove @m --blocks 1 -o @text.txt --force", "`@text.txt`: is a file; the output is a folder"),
        ("remove @small --blocks 1 -o @out", "`@small`: is compressed (niwaki); layers are removed from plain weights"),
        (
            "remove @text.txt --blocks 1 -o @out",
            "`@text.txt`: is neither a Hugging Face folder nor an ONNX model: no blocks",
        ),
        ("rank @m --by influenza --data @text.txt", "no criterion `influenza`"),
        (
            "rank @m --by kl --data @text.txt --limit 0",
            "`@text.txt`: no window of text to look at; expected one or more",
        ),
        (
            "rank @bert --by kl --data @text.txt",
            "`@bert`: an encoder, which says nothing of the next token; `kl` needs a decoder",
        ),
    ];
    for (line, expected) in cases {
        assert_eq!(refusal(&format!("layers {line}")), expected, "{line}");
    }
    assert!(refusal("layers rank @none --by random").starts_with("`@none/config.json`: "));
    assert_eq!(folder.names(), names);
}

#[test]
fn more_than_can_go_is_an_answer_and_no_error() {
    let folder = scene();
    model(Family::Llama, &[0, 1, 2], &[]).write(&folder.path().join("m"), 1);
    for (flags, count) in [("--by random", 3), ("--by kl --data @text.txt", 9)] {
        let line = format!("layers remove @m --count {count} {flags} -o @out");
        let answer = attempt(&folder, &line);
        assert_eq!((answer.code, answer.out), (1, format!("{count} blocks to remove: 2 can go at most\n")));
        let json = attempt(&folder, &format!("{line} --json")).json();
        assert_eq!((&json["most"], &json["removed"]), (&json!(2), &Value::Null));
    }
    assert_eq!(folder.names(), ["m", "text.txt"]);
}

#[test]
fn hostile_folders_are_refused() {
    let folder = scene();
    let at = |name: &str| folder.path().join(name);
    let whole = model(Family::Llama, &[0, 1, 2], &[]);
    whole.write(&at("m"), 1);
    let with = |key: &str, value: Value| {
        let mut config = whole.config();
        config[key] = value;
        std::fs::write(at("m/config.json"), config.to_string()).unwrap();
        let answer = attempt(&folder, "layers remove @m --blocks 1 -o @out");
        let message = answer.error().replace(&folder.at(""), "@");
        assert_eq!(folder.names(), ["m", "text.txt"]);
        message
    };
    assert_eq!(
        with("num_hidden_layers", json!(2)),
        "`@m`: tensor `model.layers.2.input_layernorm.weight`: is of layer 2; `num_hidden_layers` is 2"
    );
    assert_eq!(with("num_hidden_layers", json!(4)), "`@m`: no weight of layer 3; `num_hidden_layers` is 4");
    for wrong in [json!(0), json!(-3), json!(100_000), json!("3"), json!(null), json!([3])] {
        assert!(with("num_hidden_layers", wrong.clone()).contains("num_hidden_layers"), "{wrong}");
    }
    assert!(with("architectures", json!(["MambaForCausalLM"])).contains("class `MambaForCausalLM` is not supported"));
    std::fs::write(at("m/config.json"), "{\"model_type\":").unwrap();
    assert!(attempt(&folder, "layers remove @m --blocks 1 -o @out").error().contains("no JSON"));
    std::fs::write(at("m/config.json"), whole.config().to_string()).unwrap();
    // Weights that are no numbers have no place in an order.
    let tensors = whole.tensors().into_iter().map(|(name, shape, mut bytes)| {
        if name == "model.layers.1.mlp.down_proj.weight" {
            bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes());
        }
        (name, shape, bytes)
    });
    let tensors: Vec<_> = tensors.collect();
    let stored: Vec<Tensor<'_>> =
        tensors.iter().map(|(name, shape, bytes)| (name.as_str(), "F32", shape.as_slice(), bytes.clone())).collect();
    write(at("m/model.safetensors"), &stored);
    let answer = attempt(&folder, "layers rank @m --by influence --data @text.txt");
    assert!(answer.error().ends_with("block 1 has the score NaN; expected a finite number"), "{answer:?}");
    std::fs::write(at("m/model.safetensors"), [0; 20]).unwrap();
    attempt(&folder, "layers remove @m --blocks 1 -o @out").error();
    assert_eq!(folder.names(), ["m", "text.txt"]);
}

#[test]
fn people_read_a_table_and_two_lines() {
    let folder = scene();
    model(Family::Llama, &[0, 1, 2], &[1]).write(&folder.path().join("m"), 1);
    let table = run(&folder, "layers rank @m --by influence --data @text.txt").out;
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!((lines[0], lines[1]), ("rank  block  influence", "   1      1   0.000000"));
    assert_eq!((lines.len(), lines[5]), (6, "the first goes first; measured on 192 tokens in 6 windows"));
    let text = run(&folder, "layers remove @m --count 1 --data @text.txt -o @out").out.replace(&folder.at(""), "@");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "removed block 1 of 3, chosen by influence");
    assert!(lines[1].contains(" weights became ") && lines[2].starts_with("wrote @out, "), "{text}");
}

/// `NIWAKI_PYTHON` names a Python with transformers.
#[test]
fn transformers_computes_the_same_of_a_model_without_layers() {
    let python = std::env::var("NIWAKI_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let script = repository().join("tests/scripts/hf_output.py");
    for family in FAMILIES {
        let folder = scene();
        model(family, &[0, 1, 2, 3, 4, 5, 6], &[]).write(&folder.path().join("whole"), 3);
        run(&folder, "layers remove @whole --blocks 1,4 -o @fewer");
        let kept = model(family, &[0, 2, 3, 5, 6], &[]);
        let found = kept.output(&folder, "fewer");
        let done = std::process::Command::new(&python)
            .arg(&script)
            .args([folder.at("fewer"), folder.at("in.safetensors"), folder.at("expected.safetensors")])
            .output();
        let Ok(done) = done else {
            println!("skipped: no {python}");
            return;
        };
        if done.status.code() == Some(3) {
            println!("skipped: {python} has no transformers");
            return;
        }
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let expected = tensors(&folder.path().join("expected.safetensors"))["output"].1.clone();
        let floats = |bytes: &[u8]| -> Vec<f32> {
            bytes.chunks_exact(4).map(|x| f32::from_le_bytes(x.try_into().unwrap())).collect()
        };
        let (found, expected) = (floats(&found), floats(&expected));
        assert_eq!(found.len(), expected.len());
        let largest = expected.iter().fold(0f32, |most, x| most.max(x.abs()));
        let apart = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        println!("{family:?}: {apart:e} apart, the largest is {largest}");
        // Sums in another order, of some hundred operations that each round by 2^-24.
        assert!(apart <= largest * 2f32.powi(-16), "{family:?}: {apart} apart, the largest is {largest}");
    }
}

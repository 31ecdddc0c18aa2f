//! Decoders in Hugging Face folders: perplexity, and text that goes on.
#![allow(clippy::print_stdout, reason = "a test that is skipped says so")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use niwaki_conformance::cli::{Answer, niwaki};
use niwaki_conformance::folder::Folder;
use niwaki_conformance::llama::write_llama;
use serde_json::Value;

/// A folder with a small Llama, and a text.
fn scene() -> Folder {
    let folder = Folder::new("language");
    write_llama(&folder.path().join("llama"));
    let letters = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    let mut state = 1u32;
    let text: String = (0..700)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            char::from(letters[(state >> 16) as usize % letters.len()])
        })
        .collect();
    std::fs::write(folder.path().join("text.txt"), text).unwrap();
    folder
}

/// A command on paths inside the folder: words that begin with `@` are paths in it.
fn attempt(folder: &Folder, line: &str) -> Answer {
    niwaki(line.split(' ').map(|word| word.strip_prefix('@').map_or(word.to_owned(), |name| folder.at(name))))
}

/// What `eval` finds, but for its speed.
fn eval(folder: &Folder, line: &str) -> Value {
    let mut found = attempt(folder, &format!("eval {line} --json -q")).ok().json();
    assert!(found["items_per_second"].take().as_f64().unwrap() > 0.0);
    found
}

fn number(found: &Value, key: &str) -> f64 {
    found[key].as_f64().unwrap_or_else(|| panic!("no {key}: {found}"))
}

#[test]
fn a_text_and_its_dataset_are_measured_alike() {
    let folder = scene();
    let found = eval(&folder, "@llama --data @text.txt");
    // The model sees 128 tokens at most; a text of 700 letters has five such windows.
    assert_eq!(found["examples"], 5);
    assert!(found["kl"].is_null() && found["agreement"].is_null() && found["cosine"].is_null(), "{found}");
    assert!((number(&found, "loss").exp() / number(&found, "perplexity") - 1.0).abs() < 1e-12);
    // Weights that were drawn at random know nothing: no better than half of guessing among 64.
    assert!(number(&found, "perplexity") > 32.0, "{found}");
    attempt(
        &folder,
        "dataset import text @text.txt --tokenizer @llama/tokenizer.json --length 128 -o @t.safetensors -q",
    )
    .ok();
    assert_eq!(eval(&folder, "@llama --data @t.safetensors"), found);
    assert_eq!(eval(&folder, "@llama --data @text.txt --threads 1"), found);
    assert_eq!(eval(&folder, "@llama --data @text.txt --threads 3"), found);
    assert_eq!(eval(&folder, "@llama --data @text.txt --limit 2")["examples"], 2);
}

#[test]
fn compressed_weights_take_the_place_of_the_models_own() {
    let folder = scene();
    let same = eval(&folder, "@llama --data @text.txt --limit 2 --against @llama");
    assert_eq!((number(&same, "kl"), number(&same, "agreement")), (0.0, 1.0));
    attempt(&folder, "compress @llama --scheme int4/g32/sym -o @small -q").ok();
    let far = eval(&folder, "@llama --weights @small --data @text.txt --limit 2 --against @llama");
    assert!(number(&far, "kl") > 1e-12 && number(&far, "cosine") < 1.0, "{far}");
    // A compressed folder is a model of its own.
    let own = eval(&folder, "@small --data @text.txt --limit 2");
    assert_eq!(own["loss"], far["loss"]);
    assert_ne!(own["loss"], same["loss"]);
    // So are its weights as another format has them.
    attempt(&folder, "compress @llama --scheme q8_0 --to gguf -o @l.gguf -q").ok();
    let close = eval(&folder, "@llama --weights @l.gguf --data @text.txt --limit 2 --against @llama");
    assert!(number(&close, "kl") < number(&far, "kl"), "{close} {far}");
}

#[test]
fn text_goes_on_the_same_way_every_time() {
    let folder = scene();
    let line = "generate @llama --prompt abc --max-tokens 20 --json -q";
    let mut found = attempt(&folder, line).ok().json();
    assert!(found["tokens_per_second"].take().is_number());
    assert_eq!((found["prompt"].as_str(), found["tokens"].as_u64()), (Some("abc"), Some(20)));
    assert_eq!(found["end"], "length");
    for threads in [1, 3] {
        let mut again = attempt(&folder, &format!("{line} --threads {threads}")).ok().json();
        again["tokens_per_second"].take();
        assert_eq!(again, found);
    }
    let text = attempt(&folder, "generate @llama --prompt abc --max-tokens 20").ok().out;
    assert_eq!(text, format!("abc{}\n", found["text"].as_str().unwrap()));
    // The context is 128 tokens.
    let long = attempt(&folder, "generate @llama --prompt abc --max-tokens 1000 --json").ok().json();
    assert_eq!(long["end"], "context");
}

#[test]
fn a_model_runs_on_named_tensors() {
    use niwaki_conformance::checkpoints::{Tensor, write};
    use niwaki_tensors::{Checkpoint, Limits};
    let folder = scene();
    let integers = |all: &[i64]| all.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let mut tensors: Vec<(String, &str, Vec<usize>, Vec<u8>)> = ["input_ids", "positions", "rows"]
        .iter()
        .zip([&[5i64, 6, 7][..], &[0, 1, 2], &[2]])
        .map(|(name, all)| ((*name).to_owned(), "I64", vec![all.len()], integers(all)))
        .collect();
    for layer in 0..2 {
        for part in ["key", "value"] {
            tensors.push((format!("cache.{layer}.{part}"), "F32", vec![0, 1, 32], Vec::new()));
        }
    }
    let stored: Vec<Tensor<'_>> = tensors
        .iter()
        .map(|(name, dtype, shape, bytes)| (name.as_str(), *dtype, shape.as_slice(), bytes.clone()))
        .collect();
    write(folder.path().join("in.safetensors"), &stored);
    attempt(&folder, "run @llama --input @in.safetensors -o @out.safetensors").ok();
    let out = Checkpoint::open(folder.at("out.safetensors"), &Limits::default()).unwrap();
    assert_eq!(out.get("logits").unwrap().shape(), [1, 64]);
    assert_eq!(out.get("cache.1.key.grown").unwrap().shape(), [3, 1, 32]);
}

#[test]
fn what_is_no_decoder_or_no_text_is_an_error() {
    let folder = scene();
    let refusal = |line: &str| {
        let message = attempt(&folder, line).error().replace(&folder.at(""), "@");
        assert!(!message.contains('\n') && message.len() < 2000, "{message}");
        message
    };
    std::fs::write(folder.path().join("short.txt"), "abcd").unwrap();
    assert_eq!(
        refusal("eval @llama --data @short.txt"),
        "`@short.txt`: has 3 tokens; expected at least 128, one window"
    );
    std::fs::write(folder.path().join("odd.txt"), b"ab\xff").unwrap();
    assert_eq!(refusal("eval @llama --data @odd.txt"), "`@odd.txt`: byte 2 is not UTF-8; expected a text in UTF-8");
    assert_eq!(
        refusal("generate @text.txt --prompt a"),
        "`@text.txt` is no folder; text needs a Hugging Face folder with a decoder"
    );
    let config = folder.path().join("llama/config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("\"hidden_size\":64", "\"hidden_size\":32")).unwrap();
    assert!(refusal("eval @llama --data @text.txt --limit 1").starts_with("`@llama`: weights that do not fit: "));
    std::fs::write(&config, text.replace("LlamaForCausalLM", "Unknown")).unwrap();
    assert!(refusal("generate @llama --prompt a").contains("model type `llama`, class `Unknown` is not supported"));
    std::fs::write(&config, &text[..20]).unwrap();
    assert!(refusal("generate @llama --prompt a").contains("no JSON"));
    std::fs::write(&config, &text).unwrap();
    std::fs::write(folder.path().join("llama/tokenizer.json"), "{}").unwrap();
    refusal("generate @llama --prompt a");
    std::fs::remove_file(folder.path().join("llama/tokenizer.json")).unwrap();
    assert!(refusal("generate @llama --prompt a").contains("does not exist"));
}

/// A folder that a variable names; says so where it names none.
fn named(variable: &str) -> Option<std::path::PathBuf> {
    let folder = std::env::var_os(variable).map(std::path::PathBuf::from).filter(|folder| folder.is_dir());
    if folder.is_none() {
        println!("skipped: {variable} names no folder");
    }
    folder
}

/// `NIWAKI_SMOLLM2` names a folder with the weights of SmolLM2-135M-Instruct as they come from its
/// Q4_1 file, `config.json` and `tokenizer.json` of `tests/scripts/smollm2_folder.py`, and texts.
#[test]
fn a_real_decoder_is_as_good_as_in_another_engine() {
    let Some(folder) = named("NIWAKI_SMOLLM2") else { return };
    // Of PyTorch, over four windows of 512 tokens from the beginning of each.
    for (text, expected) in [("moby-dick.txt", 59.8), ("state-of-the-union.txt", 27.2), ("python-tutorial.txt", 16.7)] {
        let text = folder.join(text);
        if !text.exists() {
            println!("skipped: no {}", text.display());
            continue;
        }
        let (folder, text) = (folder.to_string_lossy(), text.to_string_lossy());
        let found = niwaki(["eval", &folder, "--data", &text, "--limit", "4", "--json", "-q"]).ok().json();
        let perplexity = number(&found, "perplexity");
        println!("{text}: perplexity {perplexity:.3}, {:.2} windows a second", number(&found, "items_per_second"));
        // Figures are rounded to a tenth, which is less than half a percent of each.
        assert!((perplexity / expected - 1.0).abs() < 0.005, "{text}: {perplexity}, {expected} expected");
    }
}

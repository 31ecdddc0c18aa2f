//! Decoders and encoders in Hugging Face folders: perplexity, text that goes on, embeddings.
#![allow(clippy::print_stdout, reason = "a test that is skipped says so")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use niwaki_conformance::cli::niwaki;
use niwaki_conformance::folder::Folder;
use niwaki_conformance::llama::{letters, write_llama};
use niwaki_conformance::scene::attempt;
use serde_json::Value;

/// A folder with a small Llama, and a text.
fn scene() -> Folder {
    let folder = Folder::new("language");
    write_llama(&folder.path().join("llama"));
    std::fs::write(folder.path().join("text.txt"), letters(700)).unwrap();
    folder
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
fn windows_begin_with_what_the_tokenizer_puts_before_a_text() {
    use niwaki_tensors::{Checkpoint, Limits};
    let folder = scene();
    let bare = eval(&folder, "@llama --data @text.txt");
    let path = folder.path().join("llama/tokenizer.json");
    let mut tokenizer: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let begin = "<|end|>";
    let single =
        serde_json::json!([{"SpecialToken": {"id": begin, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]);
    tokenizer["post_processor"] = serde_json::json!({
        "type": "TemplateProcessing", "single": single, "pair": single,
        "special_tokens": {begin: {"id": begin, "ids": [0], "tokens": [begin]}},
    });
    std::fs::write(&path, tokenizer.to_string()).unwrap();
    let found = eval(&folder, "@llama --data @text.txt");
    assert_eq!(found["examples"], 5);
    assert_ne!(found["loss"], bare["loss"]);
    let import = "dataset import text @text.txt --tokenizer @llama/tokenizer.json --length 128 -o @t.safetensors -q";
    attempt(&folder, import).ok();
    assert_eq!(eval(&folder, "@llama --data @t.safetensors"), found);
    let dataset = Checkpoint::open(folder.at("t.safetensors"), &Limits::default()).unwrap();
    let tokens = dataset.get("tokens").unwrap();
    assert_eq!(tokens.shape(), [5, 128]);
    for window in tokens.bytes().chunks(8 * 128) {
        let zeros: Vec<usize> = (0..128).filter(|at| window[8 * at..8 * at + 8] == [0; 8]).collect();
        assert_eq!(zeros, [0]);
    }
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

/// A folder with the small BERT of the goldens and a tokenizer: `wN` is token N, between `w1` and `w2`.
fn encoder() -> Folder {
    let folder = Folder::new("encoder");
    let golden = niwaki_conformance::folder::repository().join("tests/golden/hf/bert");
    std::fs::create_dir(folder.path().join("bert")).unwrap();
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(golden.join(name), folder.path().join("bert").join(name)).unwrap();
    }
    let tokenizer = niwaki_conformance::transformer::words();
    std::fs::write(folder.path().join("bert/tokenizer.json"), tokenizer.to_string()).unwrap();
    let longest = vec!["w9"; 100].join(" ");
    let lines = format!("w5 w6 w7\n\nw8 w9 w10 w11 w12\n  \nw13\nw14 w15 w16\n{longest}\n");
    std::fs::write(folder.path().join("lines.txt"), lines).unwrap();
    folder
}

/// The embeddings in a file, one row each.
fn embeddings(folder: &Folder, name: &str) -> Vec<Vec<f32>> {
    use niwaki_tensors::{Checkpoint, Limits};
    let file = Checkpoint::open(folder.at(name), &Limits::default()).unwrap();
    let found = file.get("embeddings").unwrap();
    let mut all = vec![0.0; found.elements()];
    found.decode_f32(0..all.len(), &mut all).unwrap();
    all.chunks(found.shape()[1]).map(<[f32]>::to_vec).collect()
}

#[test]
fn an_encoder_embeds_the_lines_of_a_text() {
    use niwaki_conformance::checkpoints::write;
    let folder = encoder();
    let found = eval(&folder, "@bert --data @lines.txt -o @e.safetensors");
    assert_eq!(found["examples"], 5);
    assert!(found["cosine"].is_null() && found["perplexity"].is_null(), "{found}");
    let rows = embeddings(&folder, "e.safetensors");
    assert_eq!((rows.len(), rows[0].len()), (5, 16));
    for row in &rows {
        let length = row.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>();
        // Sixteen numbers, each rounded by 2^-24 of itself.
        assert!((length - 1.0).abs() < 2f64.powi(-22), "{length}");
    }
    // The same tokens as a dataset: what stands around the text is part of them.
    let tokens: Vec<u8> = [1i64, 5, 6, 7, 2, 1, 14, 15, 16, 2].iter().flat_map(|x| x.to_le_bytes()).collect();
    write(folder.path().join("t.safetensors"), &[("tokens", "I64", &[2, 5], tokens)]);
    eval(&folder, "@bert --data @t.safetensors -o @of-tokens.safetensors --threads 1");
    let of_tokens = embeddings(&folder, "of-tokens.safetensors");
    assert_eq!(of_tokens.len(), 2);
    // Which texts are run together decides how sums are made: as in the tests of the model, 2^-17 of the
    // largest number, which is below 1.
    let close =
        |a: &[f32], b: &[f32]| assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 2f32.powi(-17)), "{a:?} {b:?}");
    close(&of_tokens[0], &rows[0]);
    close(&of_tokens[1], &rows[3]);
    assert!(attempt(&folder, "eval @bert --data @lines.txt -o @e.safetensors").error().contains("exists"));
    attempt(&folder, "eval @bert --data @lines.txt -o @e.safetensors --force --limit 2").ok();
    let first = embeddings(&folder, "e.safetensors");
    assert_eq!(first.len(), 2);
    first.iter().zip(&rows).for_each(|(found, truth)| close(found, truth));
}

#[test]
fn embeddings_of_other_weights_are_compared() {
    let folder = encoder();
    let same = eval(&folder, "@bert --data @lines.txt --against @bert");
    for key in ["cosine", "cosine_min", "similarity_correlation"] {
        assert!((number(&same, key) - 1.0).abs() < 1e-12, "{same}");
    }
    attempt(&folder, "compress @bert --scheme int3/row/sym -o @small -q").ok();
    let far = eval(&folder, "@bert --weights @small --data @lines.txt --against @bert");
    assert!(number(&far, "cosine") < 1.0 - 1e-4, "{far}");
    assert!(number(&far, "cosine_min") < number(&far, "cosine"), "{far}");
    assert!(number(&far, "similarity_correlation") < 1.0, "{far}");
    attempt(&folder, "compress @bert --scheme int8/row/sym -o @large -q").ok();
    let near = eval(&folder, "@large --data @lines.txt --against @bert");
    assert!(number(&near, "cosine") > number(&far, "cosine"), "{near} {far}");
}

#[test]
fn what_an_encoder_cannot_embed_is_an_error() {
    let folder = encoder();
    let refusal = |line: &str| attempt(&folder, line).error().replace(&folder.at(""), "@");
    std::fs::write(folder.path().join("blank.txt"), " \n\n").unwrap();
    assert_eq!(refusal("eval @bert --data @blank.txt"), "`@blank.txt`: has blank lines only; expected a text a line");
    let scene = scene();
    let embeddings = "`--output` takes embeddings, which only encoders in Hugging Face folders make";
    assert_eq!(attempt(&scene, "eval @llama --data @text.txt -o @e.safetensors").error(), embeddings);
    assert!(refusal("generate @bert --prompt w5").contains("an encoder; a decoder expected"));
}

#[test]
fn a_model_is_seen_through_patches() {
    let folder = scene();
    attempt(&folder, "compress @llama --scheme int4/g32/sym -o @far -q").ok();
    attempt(&folder, "export @far --to safetensors -o @other -q").ok();
    let extract = "signature extract --init @llama --standard @llama --robust @other --energy 1 -o @sig.safetensors -q";
    attempt(&folder, extract).ok();
    let line = "@llama --data @text.txt --limit 1 --against @llama";
    let plain = eval(&folder, line);
    let none = eval(&folder, &format!("{line} --patch @sig.safetensors@0"));
    assert_eq!((number(&plain, "kl"), number(&none, "kl")), (0.0, 0.0));
    let patched = eval(&folder, &format!("{line} --patch @sig.safetensors@1"));
    assert!(number(&patched, "kl") > 1e-12, "{patched}");
    // A merged patch is the same as one that the model is seen through.
    attempt(&folder, "signature apply @llama @sig.safetensors --alpha 1 -o @merged -q").ok();
    let merged = eval(&folder, "@merged --data @text.txt --limit 1");
    assert!((number(&merged, "loss") - number(&patched, "loss")).abs() < 1e-3, "{merged} {patched}");
    let weights = "@llama --weights @llama --data @text.txt --limit 1 --patch @sig.safetensors@1";
    assert_eq!(eval(&folder, weights)["loss"], patched["loss"]);
    let text = |patch: &str| attempt(&folder, &format!("generate @llama --prompt abc --max-tokens 8{patch}")).ok().out;
    assert_eq!(text(" --patch @sig.safetensors@0"), text(""));
    assert!(attempt(&folder, "eval @llama --data @text.txt --bits 4").error().contains("this file has none"));
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

#[test]
fn outputs_of_an_encoder_are_called_as_transformers_calls_them() {
    use niwaki_tensors::{Checkpoint, Dtype, Limits, Overwrite, write_file};
    let folder = encoder();
    let integers = |all: [i64; 4]| all.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let inputs = [
        ("input_ids", integers([1, 5, 6, 2])),
        ("positions", integers([0, 1, 2, 3])),
        ("attention_mask", integers([1; 4])),
        ("token_type_ids", integers([0; 4])),
    ];
    let inputs: Vec<_> = inputs.iter().map(|(name, all)| (*name, Dtype::I64, &[1, 4][..], all.as_slice())).collect();
    write_file(folder.at("in.safetensors").as_ref(), &inputs, &[], Overwrite::Refuse).unwrap();
    attempt(&folder, "run @bert --input @in.safetensors -o @out.safetensors").ok();
    let floats = |file: &str, name: &str| {
        let file = Checkpoint::open(folder.at(file), &Limits::default()).unwrap();
        let view = file.get(name).unwrap();
        let all = view.bytes().chunks_exact(4).map(|x| f32::from_le_bytes(x.try_into().unwrap())).collect::<Vec<_>>();
        (view.shape().to_vec(), all)
    };
    let (shape, hidden) = floats("out.safetensors", "last_hidden_state");
    let width = shape[2];
    assert_eq!(shape[..2], [1, 4]);
    // tanh(W x + b) of the first token.
    let [weight, bias] =
        ["weight", "bias"].map(|part| floats("bert/model.safetensors", &format!("pooler.dense.{part}")).1);
    let (shape, pooled) = floats("out.safetensors", "pooler_output");
    assert_eq!(shape, [1, width]);
    for ((row, bias), found) in weight.chunks(width).zip(bias).zip(pooled) {
        let sum: f64 = row.iter().zip(&hidden).map(|(w, x)| f64::from(w * x)).sum();
        assert!(((sum + f64::from(bias)).tanh() - f64::from(found)).abs() < 1e-5, "{found}");
    }
    // What nothing else takes does not become a part of what is counted or trained.
    let found = attempt(&folder, "inspect @bert --json").ok().json();
    assert!(!found.to_string().contains("Tanh"), "{found}");
}

#[test]
fn a_folder_says_how_a_text_becomes_a_vector() {
    let folder = encoder();
    let eval = |out: &str| attempt(&folder, &format!("eval @bert --data @lines.txt -o @{out} -q"));
    eval("plain.safetensors").ok();
    let write = |name: &str, text: &str| {
        let path = folder.path().join("bert").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let module =
        |kind: &str, path: &str| format!(r#"{{"path":"{path}","type":"sentence_transformers.models.{kind}"}}"#);
    let modules = |kinds: &[(&str, &str)]| {
        let all: Vec<_> = kinds.iter().map(|(kind, path)| module(kind, path)).collect();
        write("modules.json", &format!("[{}]", all.join(",")));
    };
    let three = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")];
    modules(&three);
    write("1_Pooling/config.json", r#"{"pooling_mode_mean_tokens":true,"pooling_mode_cls_token":false}"#);
    eval("mean.safetensors").ok();
    assert_eq!(embeddings(&folder, "mean.safetensors"), embeddings(&folder, "plain.safetensors"));
    write("1_Pooling/config.json", r#"{"pooling_mode_mean_tokens":true,"pooling_mode_cls_token":true}"#);
    modules(&three[..2]);
    eval("both.safetensors").ok();
    let (mean, both) = (embeddings(&folder, "mean.safetensors"), embeddings(&folder, "both.safetensors"));
    let width = mean[0].len();
    for (mean, both) in mean.iter().zip(&both) {
        assert_eq!(both.len(), 2 * width);
        let length = both[width..].iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        assert!((length - 1.0).abs() > 1e-3, "not of length 1: {length}");
        let apart = mean.iter().zip(&both[width..]).map(|(a, b)| (f64::from(*a) - f64::from(*b) / length).abs());
        assert!(apart.fold(0.0, f64::max) < 1e-6);
    }
    attempt(&folder, "calibrate @bert --data @lines.txt -o @stats.safetensors -q").ok();
    let train = attempt(&folder, "train @bert --teacher @bert --data @lines.txt --epochs 1 -o @t.safetensors -q");
    assert!(train.error().contains("vectors that are not the means of tokens'"), "{train:?}");
    // The last line is cut to four tokens, and is then that of two words.
    write("sentence_bert_config.json", r#"{"max_seq_length":4}"#);
    std::fs::write(folder.path().join("lines.txt"), format!("{}\nw9 w9\n", vec!["w9"; 100].join(" "))).unwrap();
    eval("short.safetensors").ok();
    let short = embeddings(&folder, "short.safetensors");
    assert_eq!(short[0], short[1]);
    modules(&[("Transformer", ""), ("Pooling", "1_Pooling"), ("Dense", "2_Dense")]);
    let refused = eval("no.safetensors");
    assert!(refused.error().contains("a model of Transformer, Pooling, Dense is not supported"), "{refused:?}");
}

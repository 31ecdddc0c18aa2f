//! Tiny models in folders of Hugging Face, and what transformers computes with them:
//! `tests/scripts/hf_goldens.py` makes both.

#![allow(clippy::print_stdout, reason = "a test that is skipped says so")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};

use niwaki_model::hf::{self, Blueprint, Config};
use niwaki_model::{Decoder, Encoder, ErrorKind, Tensor, Text, Wanted};
use niwaki_tensors::{Checkpoint, Limits};

const DECODERS: [&str; 13] = [
    "gemma",
    "gemma2",
    "gemma3",
    "llama",
    "llama-bias",
    "llama-dynamic",
    "llama-linear",
    "llama-llama3",
    "llama-yarn",
    "mistral",
    "qwen2",
    "qwen2-window",
    "qwen3",
];
const ENCODERS: [&str; 6] = ["bert", "distilbert", "roberta", "bert-classes", "distilbert-classes", "roberta-classes"];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/hf").join(name)
}

fn decoder(folder: &Path) -> Decoder {
    match hf::open(folder).unwrap() {
        Blueprint::Decoder(graph) => Decoder::new(graph).unwrap(),
        Blueprint::Encoder(_) => panic!("an encoder"),
    }
}

/// The same, whose channels below a threshold do nothing.
fn skipping(folder: &Path, threshold: f32) -> Decoder {
    let Blueprint::Decoder(mut of) = hf::open(folder).unwrap() else { panic!("an encoder") };
    let parts = of.graph.feeds().len();
    assert_eq!(parts, of.hidden.len() - 1, "one of each layer");
    let macs = of.graph.linear_macs();
    assert!(of.graph.skip_channels(&vec![threshold; parts + 1]).is_err());
    of.graph.skip_channels(&vec![threshold; parts]).unwrap();
    assert_eq!(of.graph.there().len(), parts);
    assert!(of.graph.linear_macs() < macs && of.graph.feeds().is_empty());
    Decoder::new(of).unwrap()
}

fn floats(expected: &Checkpoint, name: &str) -> Vec<f32> {
    let view = expected.get(name).unwrap();
    let mut all = vec![0.0; view.elements()];
    view.decode_f32(0..all.len(), &mut all).unwrap();
    all
}

fn integers(expected: &Checkpoint, name: &str) -> Vec<u32> {
    let bytes = expected.get(name).unwrap().bytes();
    bytes.chunks_exact(8).map(|x| i64::from_le_bytes(x.try_into().unwrap()) as u32).collect()
}

fn expected(name: &str) -> Checkpoint {
    Checkpoint::open(golden(&format!("{name}.expected.safetensors")), &Limits::default()).unwrap()
}

/// How far single floats that are summed in another order may be apart, after some forty operations
/// of which each rounds by 2^-24 and none makes errors much larger: 2^-17 of the largest number.
fn close(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0f32, |most, x| most.max(x.abs()));
    let apart = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
    assert!(apart <= largest * 2f32.powi(-17), "{what}: {apart} apart, the largest is {largest}");
}

fn all(logits: &Tensor) -> Vec<f32> {
    logits.get::<f32>().unwrap().to_vec()
}

#[test]
fn channels_below_a_threshold_do_nothing_in_a_text_at_once_and_token_by_token() {
    // Angles of one hang on how long the text is.
    for name in DECODERS.into_iter().filter(|name| *name != "llama-dynamic") {
        let expected = expected(name);
        let (ids, logits) = (integers(&expected, "input_ids"), floats(&expected, "logits"));
        for threshold in [0.0, 0.02] {
            let decoder = skipping(&golden(name), threshold);
            let at_once = all(&decoder.forward(&mut decoder.cache(), &ids, Wanted::All).unwrap());
            let mut cache = decoder.cache();
            let each = ids.iter().flat_map(|id| all(&decoder.forward(&mut cache, &[*id], Wanted::Last).unwrap()));
            close(&each.collect::<Vec<_>>(), &at_once, name);
            match threshold {
                0.0 => close(&at_once, &logits, name),
                _ => assert_ne!(at_once, logits, "{name}"),
            }
        }
    }
}

#[test]
fn every_decoder_computes_what_transformers_does() {
    for name in DECODERS {
        let (decoder, expected) = (decoder(&golden(name)), expected(name));
        let (ids, logits) = (integers(&expected, "input_ids"), floats(&expected, "logits"));
        let mut cache = decoder.cache();
        close(&all(&decoder.forward(&mut cache, &ids, Wanted::All).unwrap()), &logits, name);
        assert_eq!(cache.len(), ids.len());
        let last = decoder.forward(&mut decoder.cache(), &ids, Wanted::Last).unwrap();
        assert_eq!(last.shape(), [1, decoder.vocabulary()]);
        close(&all(&last), &logits[logits.len() - decoder.vocabulary()..], name);
    }
}

#[test]
fn a_text_in_parts_is_the_same_text() {
    // The base of dynamic scaling depends on how long the text is at the time.
    for name in DECODERS.into_iter().filter(|name| *name != "llama-dynamic") {
        let (decoder, expected) = (decoder(&golden(name)), expected(name));
        let (ids, logits) = (integers(&expected, "input_ids"), floats(&expected, "logits"));
        for parts in [vec![1; ids.len()], vec![5, 1, 2, ids.len() - 8]] {
            let (mut cache, mut found, mut at) = (decoder.cache(), Vec::new(), 0);
            for part in parts {
                found.extend(all(&decoder.forward(&mut cache, &ids[at..at + part], Wanted::All).unwrap()));
                at += part;
            }
            close(&found, &logits, name);
        }
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    for name in ["llama", "mistral", "gemma3"] {
        let (decoder, ids) = (decoder(&golden(name)), integers(&expected(name), "input_ids"));
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut cache = decoder.cache();
                let mut found = all(&decoder.forward(&mut cache, &ids[..20], Wanted::All).unwrap());
                found.extend(all(&decoder.forward(&mut cache, &ids[20..21], Wanted::All).unwrap()));
                found.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
            })
        };
        let one = on(1);
        assert_eq!(one, on(2), "{name}");
        assert_eq!(one, on(5), "{name}");
    }
}

#[test]
fn channels_of_encoders_do_nothing_below_a_threshold() {
    for name in ENCODERS {
        let embed = |threshold: Option<f32>| {
            let Blueprint::Encoder(mut of) = hf::open(&golden(name)).unwrap() else { panic!("a decoder") };
            let parts = of.hidden.len() - 1;
            if let Some(threshold) = threshold {
                of.graph.skip_channels(&vec![threshold; parts]).unwrap();
            }
            let ids = integers(&expected(name), "input_ids");
            let encoder = Encoder::new(of).unwrap();
            [1, 5].map(|tokens| all(&encoder.forward(&[Text::from(&ids[..tokens])]).unwrap()))
        };
        let (plain, every, fewer) = (embed(None), embed(Some(0.0)), embed(Some(0.02)));
        for ((plain, every), fewer) in plain.iter().zip(&every).zip(&fewer) {
            close(every, plain, name);
            assert_ne!(fewer, plain, "{name}");
        }
    }
}

#[test]
fn every_encoder_computes_what_transformers_does() {
    for name in ENCODERS {
        let Blueprint::Encoder(graph) = hf::open(&golden(name)).unwrap() else { panic!("a decoder") };
        let (encoder, expected) = (Encoder::new(graph).unwrap(), expected(name));
        let (ids, mask) = (integers(&expected, "input_ids"), integers(&expected, "attention_mask"));
        let types = expected.get("token_type_ids").map(|_| integers(&expected, "token_type_ids"));
        let longest = 10;
        let texts: Vec<Text<'_>> = (0..3)
            .map(|text| {
                let part = text * longest..(text + 1) * longest;
                let tokens = mask[part.clone()].iter().sum::<u32>() as usize;
                let types = types.as_ref().map(|types| &types[part.start..part.start + tokens]);
                Text { tokens: &ids[part.start..part.start + tokens], types }
            })
            .collect();
        let (found, hidden) = (encoder.forward(&texts).unwrap(), floats(&expected, "last_hidden_state"));
        let width = hidden.len() / ids.len();
        assert_eq!(found.shape(), [3, longest, width]);
        let found = all(&found);
        for (at, text) in texts.iter().enumerate() {
            let part = at * longest * width..(at * longest + text.tokens.len()) * width;
            close(&found[part.clone()], &hidden[part], name);
        }
        close(&all(&encoder.embed(&texts).unwrap()), &floats(&expected, "embedding"), name);
        if name.ends_with("-classes") {
            assert_eq!(encoder.classes(), ["bad", "so-so", "good"]);
            close(&all(&encoder.scores(&texts).unwrap()), &floats(&expected, "scores"), name);
        } else {
            assert!(encoder.classes().is_empty() && encoder.scores(&texts).is_err());
        }
        // A text alone is as it is beside others.
        close(&all(&encoder.embed(&texts[1..2]).unwrap()), &floats(&expected, "embedding")[width..2 * width], name);
        assert!(encoder.forward(&[]).is_err());
        assert!(encoder.forward(&[Text::from(&[0u32; 65][..])]).is_err());
        assert!(encoder.forward(&[Text::from(&[40u32][..])]).is_err());
    }
}

#[test]
fn weights_stay_in_the_file() {
    for name in ["llama", "mistral", "qwen2"] {
        let Blueprint::Decoder(graph) = hf::open(&golden(name)).unwrap() else { panic!("an encoder") };
        for (value, tensor) in graph.graph.weights() {
            let name = graph.graph.name(value);
            assert_eq!(tensor.owned_bytes() == 0, tensor.rank() == 2, "{name} owns {}", tensor.owned_bytes());
        }
    }
}

#[test]
fn tokens_that_there_are_not_are_refused_and_leave_no_text() {
    let decoder = decoder(&golden("llama"));
    let mut cache = decoder.cache();
    decoder.forward(&mut cache, &[1, 2], Wanted::Last).unwrap();
    let error = decoder.forward(&mut cache, &[40], Wanted::Last).unwrap_err();
    assert_eq!(error.to_string(), "input `input_ids`: token 40, less than 40 expected");
    assert_eq!(cache.len(), 2);
    assert!(decoder.forward(&mut cache, &[], Wanted::Last).is_err());
}

/// A golden folder with another configuration.
fn changed(name: &str, key: &str, value: &serde_json::Value) -> Result<Blueprint, niwaki_model::Error> {
    let text = fs::read(golden(name).join("config.json")).unwrap();
    let mut json: serde_json::Value = serde_json::from_slice(&text).unwrap();
    if value.is_null() {
        json.as_object_mut().unwrap().remove(key);
    } else {
        json[key] = value.clone();
    }
    let config = Config::parse(json.to_string().as_bytes())?;
    let checkpoint = std::sync::Arc::new(Checkpoint::open(golden(name), &Limits::default()).unwrap());
    hf::build(&config, &|name| Ok(hf::stored(&checkpoint, name)?.map(Into::into)))
}

#[test]
fn every_weight_that_does_not_fit_is_named() {
    let error = changed("llama", "num_hidden_layers", &3.into()).unwrap_err();
    let ErrorKind::Weights(each) = error.kind() else { panic!("{error}") };
    assert_eq!(each.len(), 9);
    assert_eq!(each[0], "`model.layers.2.input_layernorm.weight` is missing, 16 expected");
    let error = changed("llama", "intermediate_size", &25.into()).unwrap_err().to_string();
    assert!(
        error.starts_with(
            "weights that do not fit: `model.layers.0.mlp.gate_proj.weight` is 24x16 F32, 25x16 of floats expected; "
        ),
        "{error}"
    );
    assert_eq!(error.matches("expected").count(), 6);
    let error = changed("bert", "hidden_size", &32.into()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Weights(_)), "{error}");
}

#[test]
fn configurations_that_mean_nothing_are_errors() {
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    let wrong = [
        ("llama", "hidden_size", "null", "`hidden_size` is nothing, a whole number expected"),
        ("llama", "hidden_size", "-1", "`hidden_size` is -1, a whole number from 1 to 2^24 expected"),
        ("llama", "num_hidden_layers", "16777216", "`num_hidden_layers` is 16777216, at most 1024 layers expected"),
        ("llama", "num_key_value_heads", "3", "`num_key_value_heads` is 3, a divisor of num_attention_heads expected"),
        ("llama", "head_dim", "5", "`head_dim` is 5, an even number of elements that turn expected"),
        (
            "llama",
            "rope_parameters",
            "{\"rope_type\": \"spiral\"}",
            "`rope_parameters.rope_type` is \"spiral\", default, linear, dynamic, llama3 or yarn expected",
        ),
        (
            "llama",
            "rope_parameters",
            "{\"rope_type\": \"linear\"}",
            "`rope_parameters.factor` is nothing, a positive number expected",
        ),
        ("llama", "rms_norm_eps", "\"small\"", "`rms_norm_eps` is \"small\", a positive number expected"),
        ("llama", "hidden_act", "\"sine\"", "`hidden_act` is \"sine\", silu, gelu, gelu_pytorch_tanh or relu expected"),
        (
            "gemma3",
            "layer_types",
            "[\"full_attention\"]",
            "`layer_types` is [\"full_attention\"], sliding_attention or full_attention for every layer expected",
        ),
        ("bert", "num_attention_heads", "5", "`num_attention_heads` is 5, a divisor of the width expected"),
    ];
    for (name, key, value, expected) in wrong {
        assert_eq!(changed(name, key, &json(value)).unwrap_err().to_string(), expected);
    }
    let error = changed("llama", "architectures", &json("[\"MambaForCausalLM\"]")).unwrap_err().to_string();
    assert!(
        error.starts_with(
            "model type `llama`, class `MambaForCausalLM` is not supported; supported are LlamaForCausalLM, "
        ),
        "{error}"
    );
    for text in [&b"{"[..], b"[]", b"", b"\xff", b"{\"architectures\": {}}", b"{\"model_type\": 1}"] {
        let config = Config::parse(text);
        assert!(config.and_then(|config| hf::build(&config, &|_| Ok(None))).is_err());
    }
}

#[test]
fn old_keys_say_the_same_as_new_ones() {
    let text = fs::read(golden("llama-llama3").join("config.json")).unwrap();
    let mut json: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let keys = json.as_object_mut().unwrap();
    let mut scaling = keys.remove("rope_parameters").unwrap();
    let base = scaling.as_object_mut().unwrap().remove("rope_theta").unwrap();
    keys.insert("rope_theta".to_owned(), base);
    keys.insert("rope_scaling".to_owned(), scaling);
    let config = Config::parse(json.to_string().as_bytes()).unwrap();
    let checkpoint = std::sync::Arc::new(Checkpoint::open(golden("llama-llama3"), &Limits::default()).unwrap());
    let Ok(Blueprint::Decoder(graph)) = hf::build(&config, &|name| Ok(hf::stored(&checkpoint, name)?.map(Into::into)))
    else {
        panic!("no decoder")
    };
    let (decoder, expected) = (Decoder::new(graph).unwrap(), expected("llama-llama3"));
    let found = decoder.forward(&mut decoder.cache(), &integers(&expected, "input_ids"), Wanted::All).unwrap();
    close(&all(&found), &floats(&expected, "logits"), "old keys");
}

/// A folder that a variable names; says so where it names none.
fn named(variable: &str) -> Option<PathBuf> {
    let folder = std::env::var_os(variable).map(PathBuf::from).filter(|folder| folder.is_dir());
    if folder.is_none() {
        println!("skipped: {variable} names no folder");
    }
    folder
}

/// `NIWAKI_MINILM` names the folder of all-MiniLM-L6-v2; `tests/scripts/minilm_golden.py` made what
/// is expected of it.
#[test]
fn a_real_encoder_makes_the_vectors_of_another_engine() {
    let Some(folder) = named("NIWAKI_MINILM") else { return };
    let Blueprint::Encoder(graph) = hf::open(&folder).unwrap() else { panic!("a decoder") };
    let encoder = Encoder::new(graph).unwrap();
    let path = golden("../minilm.safetensors");
    let expected = Checkpoint::open(path, &Limits::default()).unwrap();
    let ids = integers(&expected, "input_ids");
    let longest = expected.get("input_ids").unwrap().shape()[1];
    // Padding is 0, and nothing else is.
    let end = |text: &[u32]| text.iter().position(|id| *id == 0).unwrap_or(text.len());
    let texts: Vec<Text<'_>> = ids.chunks(longest).map(|text| Text::from(&text[..end(text)])).collect();
    let found = all(&encoder.embed(&texts).unwrap());
    let embeddings = floats(&expected, "embeddings");
    let apart = found.iter().zip(&embeddings).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    println!("largest difference {apart:e}");
    // Vectors of length 1; both engines round some hundred times by 2^-24.
    assert!(found.len() == embeddings.len() && apart < 2f32.powi(-17), "{apart}");
}

/// `NIWAKI_SMOLLM2` names a folder with the weights of SmolLM2-135M-Instruct as they come from its
/// Q4_1 file, the `config.json` of `tests/scripts/smollm2_folder.py`, and in `texts` windows of 512
/// tokens, as `dataset import text` makes them.
#[test]
fn a_real_decoder_predicts_as_well_as_in_another_engine() {
    let Some(folder) = named("NIWAKI_SMOLLM2") else { return };
    let decoder = decoder(&folder);
    // Of PyTorch, over the first four windows of each.
    for (text, perplexity) in [("moby-dick", 59.8), ("state-of-the-union", 27.2), ("python-tutorial", 16.7)] {
        let path = folder.join(format!("texts/{text}.safetensors"));
        let Ok(data) = Checkpoint::open(&path, &Limits::default()) else {
            println!("skipped: no {}", path.display());
            continue;
        };
        let start = std::time::Instant::now();
        let (mut loss, mut count) = (0.0, 0);
        for window in integers(&data, "tokens").chunks_exact(512).take(4) {
            let logits = decoder.forward(&mut decoder.cache(), &window[..511], Wanted::All).unwrap();
            let rows = logits.get::<f32>().unwrap().chunks(decoder.vocabulary());
            for (row, next) in rows.zip(&window[1..]) {
                let most = row.iter().fold(f32::MIN, |most, x| most.max(*x));
                let sum: f64 = row.iter().map(|x| f64::from(x - most).exp()).sum();
                loss += f64::from(most) + sum.ln() - f64::from(row[*next as usize]);
                count += 1;
            }
        }
        assert_eq!(count, 2044);
        let found = (loss / f64::from(count)).exp();
        println!("{text}: perplexity {found:.3}, {:.1} seconds", start.elapsed().as_secs_f64());
        // Figures are rounded to a tenth, which is less than half a percent of each.
        assert!((found / perplexity - 1.0).abs() < 0.005, "{text}: {found}, {perplexity} expected");
    }
}

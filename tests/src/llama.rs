//! A small Llama in a Hugging Face folder: two layers, a vocabulary of 64, weights of a seed.

use std::path::Path;

use serde_json::json;

use crate::checkpoints::{Tensor, bf16s, weights, write};

const HIDDEN: usize = 64;
const KEYS: usize = 32;
const INNER: usize = 256;
const VOCABULARY: usize = 64;
const LAYERS: usize = 2;

/// Writes the folder: BF16 weights, tied embeddings, a byte-level vocabulary.
///
/// # Panics
///
/// If it cannot be written.
pub fn write_llama(folder: &Path) {
    std::fs::create_dir_all(folder).expect("a folder that can be written");
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
        "hidden_size": HIDDEN, "intermediate_size": INNER, "num_hidden_layers": LAYERS,
        "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 128,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "vocab_size": VOCABULARY, "tie_word_embeddings": true,
        "torch_dtype": "bfloat16",
    });
    let text = |name: &str, json: &serde_json::Value| {
        std::fs::write(folder.join(name), format!("{json}\n")).expect("room for a file");
    };
    text("config.json", &config);
    text("tokenizer.json", &tokenizer());
    let mut tensors: Vec<(String, Vec<usize>)> = vec![
        ("model.embed_tokens.weight".to_owned(), vec![VOCABULARY, HIDDEN]),
        ("model.norm.weight".to_owned(), vec![HIDDEN]),
    ];
    for layer in 0..LAYERS {
        let parts: [(&str, Vec<usize>); 9] = [
            ("input_layernorm", vec![HIDDEN]),
            ("mlp.down_proj", vec![HIDDEN, INNER]),
            ("mlp.gate_proj", vec![INNER, HIDDEN]),
            ("mlp.up_proj", vec![INNER, HIDDEN]),
            ("post_attention_layernorm", vec![HIDDEN]),
            ("self_attn.k_proj", vec![KEYS, HIDDEN]),
            ("self_attn.o_proj", vec![HIDDEN, HIDDEN]),
            ("self_attn.q_proj", vec![HIDDEN, HIDDEN]),
            ("self_attn.v_proj", vec![KEYS, HIDDEN]),
        ];
        tensors.extend(parts.map(|(part, shape)| (format!("model.layers.{layer}.{part}.weight"), shape)));
    }
    let data = (1..).zip(&tensors).map(|(seed, (_, shape))| bf16s(&weights(seed, shape.iter().product())));
    let data: Vec<Vec<u8>> = data.collect();
    let stored: Vec<Tensor<'_>> = tensors
        .iter()
        .zip(data)
        .map(|((name, shape), bytes)| (name.as_str(), "BF16", shape.as_slice(), bytes))
        .collect();
    write(folder.join("model.safetensors"), &stored);
}

/// A byte-level tokenizer of 64 tokens: letters, digits, `ab` and an end.
pub fn tokenizer() -> serde_json::Value {
    let letters: Vec<char> = ('a'..='z').chain('A'..='Z').chain('0'..='9').collect();
    let mut vocabulary = serde_json::Map::new();
    vocabulary.insert("<|end|>".to_owned(), json!(0));
    for (id, letter) in (1..).zip(letters) {
        vocabulary.insert(letter.to_string(), json!(id));
    }
    vocabulary.insert("ab".to_owned(), json!(VOCABULARY - 1));
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "added_tokens": [{"id": 0, "content": "<|end|>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true}],
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": true}, byte_level]},
        "post_processor": byte_level,
        "decoder": byte_level,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocabulary, "merges": ["a b"]},
    })
}

/// A text of so many letters and digits that the tokenizer has, the same every time.
pub fn letters(count: usize) -> String {
    let letters = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    let mut state = 1u32;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(letters[(state >> 16) as usize % letters.len()])
    };
    (0..count).map(next).collect()
}

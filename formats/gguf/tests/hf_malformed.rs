//! Hugging Face folders that cannot be described as GGUF: whole messages.

#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod hf_made;

use hf_made::Made;
use serde_json::{Value as Json, json};

#[test]
fn configurations_that_do_not_do() {
    let said = |more: Json| Made::new("llama").config(more).refused();
    assert_eq!(said(json!({"hidden_size": null})), "`config.json` has no `hidden_size`");
    let whole = "a whole number from 1 is expected";
    assert_eq!(said(json!({"num_hidden_layers": 0})), format!("`num_hidden_layers` of `config.json` is `0`; {whole}"));
    assert_eq!(said(json!({"vocab_size": 1e20})), format!("`vocab_size` of `config.json` is `1e+20`; {whole}"));
    assert_eq!(said(json!({"hidden_size": [1]})), format!("`hidden_size` of `config.json` is `a list`; {whole}"));
    let text = said(json!({"rms_norm_eps": "small"}));
    assert_eq!(text, "`rms_norm_eps` of `config.json` is `\"small\"`; a number is expected");
    let text = said(json!({"hidden_act": "relu"}));
    assert_eq!(text, "`hidden_act` of `config.json` is `\"relu\"`; `silu` is expected");
    let text = said(json!({"rope_scaling": {"rope_type": "longrope"}}));
    let expected = "`default`, `linear`, `yarn` or `llama3` is expected";
    assert_eq!(text, format!("`rope_type` of `config.json` is `\"longrope\"`; {expected}"));
    let text = said(json!({"partial_rotary_factor": 0.5}));
    assert_eq!(text, "`partial_rotary_factor` of `config.json` is `0.5`; 1 is expected");
    assert_eq!(said(json!({"rope_scaling": {"type": "linear"}})), "`config.json` has no `factor`");
}

#[test]
fn tokenizers_that_do_not_do() {
    let mut made = Made::new("llama");
    made.tokenizer = None;
    let error = made.outcome().unwrap_err();
    assert_eq!(error.to_string(), "there is no `tokenizer.json`, and GGUF files hold the vocabulary");
    assert!(error.hint().unwrap().contains("tokenizer.json"));
    let said = |more: Json| Made::new("llama").tokenizer(more).refused();
    let text = said(json!({"model": {"type": "Unigram"}}));
    assert_eq!(text, "`model.type` of `tokenizer.json` is `\"Unigram\"`; `BPE` is expected");
    assert_eq!(said(json!({"model": {"type": "BPE", "merges": []}})), "`tokenizer.json` has no `model.vocab`");
    assert_eq!(said(json!({"model": {"vocab": {}}})), "`tokenizer.json` has no `model.merges`");
    let text = said(json!({"model": {"vocab": {"a": -1}, "merges": []}}));
    assert_eq!(text, "`model.vocab` of `tokenizer.json` is `-1`; a number for every token is expected");
    let text = said(json!({"model": {"vocab": {"a": 1, "b": 1}, "merges": []}}));
    assert_eq!(text, "two tokens of `tokenizer.json` have the number 1");
    let text = said(json!({"model": {"vocab": {"a": 99}, "merges": []}}));
    assert_eq!(text, "the tokenizer has 100 tokens, the model 8");
    let text = said(json!({"model": {"vocab": {}, "merges": [["a"]]}}));
    assert_eq!(text, "`model.merges` of `tokenizer.json` is `a list`; a list of pairs is expected");
}

#[test]
fn an_unknown_pre_tokenizer_is_named_or_overruled() {
    let mut made = Made::new("llama").tokenizer(json!({"pre_tokenizer": {"type": "Whitespace"}}));
    let error = made.outcome().unwrap_err();
    let said =
        "the pre-tokenizer of `tokenizer.json` is none that llama.cpp has a name for: `{\"type\":\"Whitespace\"}`";
    assert_eq!(error.to_string(), said);
    assert_eq!(error.hint(), Some("name one that llama.cpp knows and that splits texts in the same way"));
    made.settings.pre_tokenizer = Some("default".to_owned());
    assert_eq!(made.described().metadata.text("tokenizer.ggml.pre"), Some("default"));
}

#[test]
fn tensors_that_do_not_do() {
    let made = Made::new("llama");
    let text = made.clone().tensor("model.layers.0.mlp.experts.0.w1", &[1]).refused();
    assert_eq!(text, "tensor `model.layers.0.mlp.experts.0.w1` has no place in a GGUF file of architecture `llama`");
    let text = made.clone().tensor("model.layers.x.mlp.up_proj.weight", &[1]).refused();
    assert!(text.contains("has no place"), "{text}");
    let mut less = made.clone();
    less.tensors.remove(12);
    assert_eq!(less.refused(), "tensor `model.layers.1.self_attn.q_proj.weight` is missing from the folder");
    let text = made.clone().config(json!({"num_hidden_layers": u32::MAX})).refused();
    assert_eq!(text, "tensor `model.layers.2.input_layernorm.weight` is missing from the folder");
    let text = made.clone().tensor("model.embed_tokens.weight", &[9, 16]).refused();
    assert_eq!(text, "tensor `model.embed_tokens.weight` is 9x16; 8 by 16 is expected");
    let text = made.clone().tensor("model.layers.0.self_attn.k_proj.weight", &[16, 16]).refused();
    assert_eq!(text, "tensor `model.layers.0.self_attn.k_proj.weight` is 16x16; 8 by 16 is expected");
    let text = made.clone().tensor("model.layers.0.self_attn.q_proj.bias", &[14]).refused();
    assert_eq!(text, "tensor `model.layers.0.self_attn.q_proj.bias` is 14; 16 is expected");
    let mut odd = made.config(json!({"head_dim": 7}));
    for (name, shape) in &mut odd.tensors {
        match name.rsplit('.').nth(1).unwrap() {
            "q_proj" => *shape = vec![14, 16],
            "k_proj" | "v_proj" => *shape = vec![7, 16],
            _ => {}
        }
    }
    let said =
        "tensor `model.layers.0.self_attn.q_proj.weight` is 14x16; an even number of rows for each head is expected";
    assert_eq!(odd.refused(), said);
}

//! A small Hugging Face folder in memory.
#![allow(dead_code, reason = "every test binary uses its own part")]

use niwaki_gguf::Error;
use niwaki_gguf::hf::{Description, Folder, Outcome, Settings, SourceTensor, describe};
use niwaki_tensors::Blame;
use serde_json::{Value as Json, json};

/// A folder in memory.
#[derive(Clone)]
pub(crate) struct Made {
    pub(crate) config: Json,
    pub(crate) tokenizer: Option<Json>,
    pub(crate) tokenizer_config: Option<Json>,
    pub(crate) special_tokens_map: Option<Json>,
    pub(crate) generation_config: Option<Json>,
    pub(crate) chat_template: Option<String>,
    pub(crate) tensors: Vec<(String, Vec<usize>)>,
    pub(crate) settings: Settings,
}

/// Keys of the first are replaced by those of the second.
pub(crate) fn with(mut json: Json, more: Json) -> Json {
    for (key, value) in more.as_object().unwrap() {
        json[key] = value.clone();
    }
    json
}

pub(crate) fn byte_level() -> Json {
    json!({
        "added_tokens": [
            {"id": 0, "content": "<|end|>", "special": true},
            {"id": 5, "content": "<|tool|>", "special": false},
            {"id": 6, "content": "\u{2581}\u{2581}", "special": false},
        ],
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": true},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}]},
        "post_processor": {"type": "ByteLevel", "trim_offsets": false},
        "model": {"type": "BPE", "byte_fallback": false,
            "vocab": {"<|end|>": 0, "a": 1, "b": 2, "ab": 3, "abb": 4}, "merges": ["a b", "ab b"]},
    })
}

pub(crate) fn sentence_piece() -> Json {
    json!({
        "added_tokens": [
            {"id": 0, "content": "<unk>", "special": true},
            {"id": 1, "content": "<s>", "special": true},
            {"id": 2, "content": "</s>", "special": true},
        ],
        "post_processor": {"type": "TemplateProcessing", "single": [
            {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]},
        "model": {"type": "BPE", "byte_fallback": true, "unk_token": "<unk>",
            "vocab": {"<unk>": 0, "<s>": 1, "</s>": 2, "<0x0A>": 3, "\u{2581}a": 4, "\u{2581}ab": 5, "a": 6, "b": 7,
                "\u{2581}": 8},
            "merges": [["\u{2581}", "a"], ["\u{2581}a", "b"]]},
    })
}

impl Made {
    /// Two blocks of 16, two heads of queries and one of keys, eight tokens.
    pub(crate) fn new(model_type: &str) -> Self {
        let config = json!({
            "model_type": model_type, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
            "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 8, "max_position_embeddings": 512,
            "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": true, "bos_token_id": 0,
        });
        let mut tensors = vec![("model.embed_tokens.weight".to_owned(), vec![8, 16])];
        for block in 0..2 {
            let mut add = |name: &str, shape: &[usize]| {
                tensors.push((format!("model.layers.{block}.{name}"), shape.to_vec()));
            };
            add("input_layernorm.weight", &[16]);
            add("post_attention_layernorm.weight", &[16]);
            add("self_attn.q_proj.weight", &[16, 16]);
            add("self_attn.k_proj.weight", &[8, 16]);
            add("self_attn.v_proj.weight", &[8, 16]);
            add("self_attn.o_proj.weight", &[16, 16]);
            add("mlp.gate_proj.weight", &[24, 16]);
            add("mlp.up_proj.weight", &[24, 16]);
            add("mlp.down_proj.weight", &[16, 24]);
            if matches!(model_type, "qwen3" | "gemma3_text" | "gemma3") {
                add("self_attn.q_norm.weight", &[8]);
                add("self_attn.k_norm.weight", &[8]);
            }
            if matches!(model_type, "gemma2" | "gemma3_text" | "gemma3") {
                add("pre_feedforward_layernorm.weight", &[16]);
                add("post_feedforward_layernorm.weight", &[16]);
            }
        }
        tensors.push(("model.norm.weight".to_owned(), vec![16]));
        Self {
            config,
            tokenizer: Some(byte_level()),
            tokenizer_config: None,
            special_tokens_map: None,
            generation_config: None,
            chat_template: None,
            tensors,
            settings: Settings { name: Some("tiny".to_owned()), file_type: 7, pre_tokenizer: None },
        }
    }

    pub(crate) fn config(mut self, more: Json) -> Self {
        self.config = with(self.config, more);
        self
    }

    pub(crate) fn tokenizer(mut self, more: Json) -> Self {
        self.tokenizer = self.tokenizer.map(|old| with(old, more));
        self
    }

    pub(crate) fn tensor(mut self, name: &str, shape: &[usize]) -> Self {
        self.tensors.retain(|(old, _)| old != name);
        self.tensors.push((name.to_owned(), shape.to_vec()));
        self
    }

    pub(crate) fn outcome(&self) -> Result<Outcome, Error> {
        let folder = Folder {
            config: &self.config,
            tokenizer: self.tokenizer.as_ref(),
            tokenizer_config: self.tokenizer_config.as_ref(),
            special_tokens_map: self.special_tokens_map.as_ref(),
            generation_config: self.generation_config.as_ref(),
            chat_template: self.chat_template.as_deref(),
        };
        let tensors: Vec<_> = self.tensors.iter().map(|(name, shape)| SourceTensor { name, shape }).collect();
        describe(&folder, &tensors, &self.settings)
    }

    pub(crate) fn described(&self) -> Description {
        match self.outcome().unwrap() {
            Outcome::Known(description) => *description,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn refused(&self) -> String {
        let error = self.outcome().unwrap_err();
        assert_eq!(error.blame(), Blame::Input, "{error}");
        error.to_string()
    }
}

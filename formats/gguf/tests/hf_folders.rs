//! Small Hugging Face folders, described as GGUF.

#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod hf_made;

use hf_made::{Made, byte_level, sentence_piece, with};
use niwaki_gguf::hf::{Description, DropReason, Family, Fate, Outcome, Transform, names_back, unknown_metadata};
use niwaki_gguf::{Array, Entry, GgmlType, Layout, Metadata, Value, parse, verify};
use niwaki_tensors::Limits;
use serde_json::json;

/// What is described can be written, breaks no rule, and leads back to the names it came from.
fn checked(made: &Made) -> Description {
    let description = made.described();
    let mut entries = Vec::new();
    for ((hf, shape), fate) in made.tensors.iter().zip(&description.fates) {
        let Fate::Write { name, transform, float32 } = fate else { continue };
        entries.push(Entry { name: name.clone(), dims: shape.clone(), ggml_type: GgmlType::F32 });
        assert!(*float32 || shape.len() == 2, "{name}");
        let (back, undone) = names_back(&description.metadata, name).unwrap();
        assert_eq!(back, hf.replace("language_model.", ""));
        let rows = shape[0];
        let there_and_back = |row: usize| transform.source_row(undone.source_row(row, rows), rows);
        assert!((0..rows).all(|row| there_and_back(row) == row), "{name}");
        assert_eq!(undone.value(transform.value(0.25)), 0.25, "{name}");
    }
    let extra = description.extra.iter();
    entries.extend(extra.map(|x| Entry { name: x.name.clone(), dims: vec![x.values.len()], ggml_type: GgmlType::F32 }));
    let layout = Layout::new(&description.metadata, &entries).unwrap();
    let mut bytes = layout.header().to_vec();
    bytes.resize(layout.file_bytes() as usize, 0);
    let faults = verify(&parse(&bytes, &Limits::default()).unwrap(), &bytes);
    assert!(faults.is_empty(), "{faults:?}");
    description
}

fn write(name: &str, transform: Transform, float32: bool) -> Fate {
    Fate::Write { name: name.to_owned(), transform, float32 }
}

/// Keys without the tokenizer's lists, each as `key = value`.
fn keys(metadata: &Metadata) -> Vec<String> {
    let short = metadata.iter().filter(|(_, value)| value.as_array().is_none());
    let text = |value: &Value| match value {
        Value::Text(text) => text.clone(),
        Value::U32(n) => n.to_string(),
        Value::F32(x) => format!("{x:?}"),
        Value::Bool(yes) => yes.to_string(),
        other => format!("{other:?}"),
    };
    short.map(|(key, value)| format!("{key} = {}", text(value))).collect()
}

fn texts<'a>(metadata: &'a Metadata, key: &str) -> Vec<&'a str> {
    match metadata.get(key) {
        Some(Value::Array(Array::Text(texts))) => texts.iter().collect(),
        other => panic!("{key}: {other:?}"),
    }
}

#[test]
fn a_llama() {
    let description = checked(&Made::new("llama"));
    assert_eq!((description.family, description.warnings.len(), description.extra.len()), (Family::Llama, 0, 0));
    assert_eq!(
        keys(&description.metadata),
        [
            "general.architecture = llama",
            "general.type = model",
            "general.name = tiny",
            "llama.block_count = 2",
            "llama.context_length = 512",
            "llama.embedding_length = 16",
            "llama.feed_forward_length = 24",
            "llama.attention.head_count = 2",
            "llama.attention.head_count_kv = 1",
            "llama.rope.freq_base = 10000.0",
            "llama.attention.layer_norm_rms_epsilon = 1e-5",
            "general.file_type = 7",
            "llama.vocab_size = 8",
            "llama.rope.dimension_count = 8",
            "general.quantization_version = 2",
            "tokenizer.ggml.model = gpt2",
            "tokenizer.ggml.pre = smollm",
            "tokenizer.ggml.bos_token_id = 0",
            "tokenizer.ggml.add_bos_token = false",
            "tokenizer.ggml.add_eos_token = false",
        ]
    );
    assert_eq!(
        description.fates[..10],
        [
            write("token_embd.weight", Transform::None, false),
            write("blk.0.attn_norm.weight", Transform::None, true),
            write("blk.0.ffn_norm.weight", Transform::None, true),
            write("blk.0.attn_q.weight", Transform::PermuteRows { heads: 2 }, false),
            write("blk.0.attn_k.weight", Transform::PermuteRows { heads: 1 }, false),
            write("blk.0.attn_v.weight", Transform::None, false),
            write("blk.0.attn_output.weight", Transform::None, false),
            write("blk.0.ffn_gate.weight", Transform::None, false),
            write("blk.0.ffn_up.weight", Transform::None, false),
            write("blk.0.ffn_down.weight", Transform::None, false),
        ]
    );
    assert_eq!(description.fates[19], write("output_norm.weight", Transform::None, true));
}

#[test]
fn tensors_that_are_left_out_or_added() {
    let made = Made::new("llama")
        .tensor("lm_head.weight", &[8, 16])
        .tensor("model.layers.0.self_attn.rotary_emb.inv_freq", &[4])
        .tensor("model.layers.1.self_attn.q_proj.bias", &[16]);
    let fates = checked(&made).fates;
    assert_eq!(fates[20..22], [Fate::Drop(DropReason::Tied), Fate::Drop(DropReason::Computed)]);
    assert_eq!(fates[22], write("blk.1.attn_q.bias", Transform::PermuteRows { heads: 2 }, true));
    let untied = checked(&made.config(json!({"tie_word_embeddings": false})));
    assert_eq!(untied.fates[20], write("output.weight", Transform::None, false));
}

#[test]
fn the_other_families() {
    let qwen2 = checked(&Made::new("qwen2").tensor("model.layers.0.self_attn.k_proj.bias", &[8]));
    assert_eq!(qwen2.fates[20], write("blk.0.attn_k.bias", Transform::None, true));
    assert!(qwen2.fates.contains(&write("blk.1.attn_q.weight", Transform::None, false)));
    assert_eq!((qwen2.metadata.number("qwen2.block_count"), qwen2.metadata.get("qwen2.vocab_size")), (Some(2), None));
    let qwen3 = checked(&Made::new("qwen3").config(json!({"head_dim": 8})));
    assert!(qwen3.fates.contains(&write("blk.1.attn_q_norm.weight", Transform::None, true)));
    assert_eq!(qwen3.metadata.number("qwen3.attention.key_length"), Some(8));
    let mistral = checked(&Made::new("mistral").config(json!({"sliding_window": 128})));
    assert_eq!(mistral.family, Family::Llama);
    assert_eq!(mistral.warnings, ["`sliding_window` is set; llama.cpp looks at the whole context"]);
}

#[test]
fn gemmas() {
    let head = json!({"head_dim": 8, "hidden_act": "gelu_pytorch_tanh"});
    let gemma = checked(&Made::new("gemma").config(head.clone()).tensor("lm_head.weight", &[8, 16]));
    assert!(gemma.fates.contains(&write("blk.0.ffn_norm.weight", Transform::AddOne, true)));
    assert_eq!((gemma.metadata.get("gemma.rope.freq_base"), &gemma.fates[20]), (None, &Fate::Drop(DropReason::Tied)));
    let caps = json!({"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "sliding_window": 64,
        "query_pre_attn_scalar": 224});
    let made = Made::new("gemma2").config(with(head, caps));
    let gemma2 = checked(&made);
    assert_eq!(gemma2.metadata.get("gemma2.attn_logit_softcapping"), Some(&Value::F32(50.0)));
    assert_eq!(gemma2.metadata.number("gemma2.attention.sliding_window"), Some(64));
    let said = "`query_pre_attn_scalar` is 224; llama.cpp scales by the size of a head, 8";
    assert_eq!(gemma2.warnings, [said]);
    assert!(gemma2.fates.contains(&write("blk.0.post_attention_norm.weight", Transform::AddOne, true)));
    assert!(gemma2.fates.contains(&write("blk.1.post_ffw_norm.weight", Transform::AddOne, true)));
    let kinds = |kinds: [&str; 2]| made.clone().config(json!({"layer_types": kinds}));
    checked(&kinds(["sliding_attention", "full_attention"]));
    let said = kinds(["full_attention", "sliding_attention"]).refused();
    assert!(
        said.starts_with("`layer_types` of `config.json` is `a list`; `full_attention` for every second"),
        "{said}"
    );
    let said = made.config(json!({"final_logit_softcapping": null})).refused();
    assert_eq!(said, "`config.json` has no `final_logit_softcapping`");
}

#[test]
fn a_gemma_3_among_images() {
    let mut made = Made::new("gemma3").tensor("vision_tower.vision_model.embeddings.patch_embedding.weight", &[4, 4]);
    made.tensors.iter_mut().take(24).for_each(|(name, _)| *name = format!("language_model.{name}"));
    let text = with(
        made.config.clone(),
        json!({"head_dim": 8, "sliding_window": 32, "model_type": "gemma3_text", "rope_theta": null,
            "rope_local_base_freq": 10000, "rope_scaling": {"rope_type": "linear", "factor": 8.0}}),
    );
    made.config = json!({"model_type": "gemma3", "text_config": text, "bos_token_id": 0});
    made.tokenizer = Some(sentence_piece());
    made.config["text_config"]["vocab_size"] = json!(9);
    made = made.tensor("language_model.model.embed_tokens.weight", &[9, 16]);
    let described = checked(&made);
    let keys = keys(&described.metadata);
    for line in [
        "gemma3.rope.scaling.type = linear",
        "gemma3.rope.scaling.factor = 8.0",
        "gemma3.rope.freq_base = 1000000.0",
        "gemma3.rope.freq_base_swa = 10000.0",
        "gemma3.attention.sliding_window = 32",
        "tokenizer.ggml.add_space_prefix = false",
    ] {
        assert!(keys.iter().any(|key| key == line), "no {line} in {keys:?}");
    }
    assert!(described.fates.contains(&Fate::Drop(DropReason::NotText)));
    assert!(described.fates.contains(&write("blk.0.attn_q_norm.weight", Transform::AddOne, true)));
}

#[test]
fn rotary_scalings() {
    let yarn = json!({"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128,
        "beta_fast": 32, "attn_factor": 1.5}});
    let described = checked(&Made::new("qwen2").config(yarn));
    let keys = keys(&described.metadata);
    let at = keys.iter().position(|key| key == "qwen2.rope.scaling.type = yarn").unwrap();
    assert_eq!(
        keys[at + 1..at + 5],
        [
            "qwen2.rope.scaling.factor = 4.0",
            "qwen2.rope.scaling.original_context_length = 128",
            "qwen2.rope.scaling.yarn_attn_factor = 1.5",
            "qwen2.rope.scaling.yarn_beta_fast = 32.0",
        ]
    );
    // As newer configurations have it.
    let new = json!({"rope_theta": null, "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}});
    let described = checked(&Made::new("qwen3").config(new));
    assert_eq!(described.metadata.get("qwen3.rope.freq_base"), Some(&Value::F32(5e5)));
}

#[test]
fn factors_of_llama_3() {
    let scaling = json!({"rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", "factor": 32.0,
        "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}});
    let described = checked(&Made::new("llama").config(scaling));
    let [extra] = &described.extra[..] else { panic!("{:?}", described.extra) };
    assert_eq!((extra.name.as_str(), extra.values.len()), ("rope_freqs.weight", 4));
    // The same in double precision: waves of 6.28, 167, 4443 and 118143 positions.
    for (i, found) in extra.values.iter().enumerate() {
        let wave = std::f64::consts::TAU * 500_000f64.powf(2.0 * i as f64 / 8.0);
        let smooth = ((8192.0 / wave - 1.0) / 3.0).clamp(0.0, 1.0);
        let exact = 1.0 / ((1.0 - smooth) / 32.0 + smooth);
        // Ten roundings to f32, each of half a unit in 2^-23, of numbers that none is larger
        // than the result by more than the factor 32.
        assert!((f64::from(*found) / exact - 1.0).abs() < 32.0 * 10.0 * 2f64.powi(-24), "{i}: {found} {exact}");
    }
    assert_eq!((extra.values[0], extra.values[1], extra.values[3]), (1.0, 1.0, 32.0));
}

#[test]
fn tokens_of_bytes_as_characters() {
    let metadata = checked(&Made::new("llama")).metadata;
    assert_eq!(
        texts(&metadata, "tokenizer.ggml.tokens"),
        ["<|end|>", "a", "b", "ab", "abb", "<|tool|>", "  ", "[PAD7]"]
    );
    let types = Value::Array(Array::I32(vec![3, 1, 1, 1, 1, 3, 4, 5]));
    assert_eq!(metadata.get("tokenizer.ggml.token_type"), Some(&types));
    assert_eq!(texts(&metadata, "tokenizer.ggml.merges"), ["a b", "ab b"]);
    // Pairs may be lists, whose parts may hold spaces.
    let mut model = byte_level()["model"].clone();
    model["merges"] = json!([["a", "b"], [" a", "b"]]);
    let metadata = checked(&Made::new("llama").tokenizer(json!({"model": model}))).metadata;
    assert_eq!(texts(&metadata, "tokenizer.ggml.merges"), ["a b", "\u{120}a b"]);
}

#[test]
fn tokens_of_sentence_piece() {
    let mut made = Made::new("llama").config(json!({"vocab_size": 10})).tensor("model.embed_tokens.weight", &[10, 16]);
    made.tokenizer = Some(sentence_piece());
    made.tokenizer_config = Some(json!({"bos_token": {"content": "<s>"}, "eos_token": "</s>", "unk_token": "<unk>",
        "add_prefix_space": true}));
    let metadata = checked(&made).metadata;
    assert_eq!(
        (metadata.text("tokenizer.ggml.model"), metadata.text("tokenizer.ggml.pre")),
        (Some("llama"), Some("default"))
    );
    assert_eq!(texts(&metadata, "tokenizer.ggml.tokens")[3..6], ["<0x0A>", "\u{2581}a", "\u{2581}ab"]);
    let types = Value::Array(Array::I32(vec![3, 3, 3, 6, 1, 1, 1, 1, 1, 5]));
    assert_eq!(metadata.get("tokenizer.ggml.token_type"), Some(&types));
    // Minus the rank of the merge; then those that no merge makes, by number.
    let scores = vec![-1000.0, -1000.0, -1000.0, 0.0, -0.0, -1.0, -8.0, -9.0, -10.0, -10000.0];
    assert_eq!(metadata.get("tokenizer.ggml.scores"), Some(&Value::Array(Array::F32(scores))));
    assert_eq!(
        keys(&metadata)[keys(&metadata).len() - 5..],
        [
            "tokenizer.ggml.pre = default",
            "tokenizer.ggml.bos_token_id = 1",
            "tokenizer.ggml.eos_token_id = 2",
            "tokenizer.ggml.unknown_token_id = 0",
            "tokenizer.ggml.add_bos_token = true",
        ]
    );
    assert_eq!(
        (metadata.get("tokenizer.ggml.add_space_prefix"), metadata.get("tokenizer.ggml.merges")),
        (Some(&Value::Bool(true)), None)
    );
}

#[test]
fn templates() {
    let mut made = Made::new("llama");
    made.chat_template = Some("of a file".to_owned());
    assert_eq!(checked(&made).metadata.text("tokenizer.chat_template"), Some("of a file"));
    made.tokenizer_config = Some(json!({"chat_template": "of the configuration"}));
    assert_eq!(checked(&made).metadata.text("tokenizer.chat_template"), Some("of the configuration"));
    made.tokenizer_config = Some(json!({"chat_template": [
        {"name": "default", "template": "d"}, {"name": "tool use", "template": "t"}, {"name": "odd"}]}));
    let metadata = checked(&made).metadata;
    assert_eq!(metadata.text("tokenizer.chat_template"), Some("d"));
    assert_eq!(metadata.text("tokenizer.chat_template.tool_use"), Some("t"));
    assert_eq!(texts(&metadata, "tokenizer.chat_templates"), ["tool_use"]);
}

#[test]
fn special_tokens_and_sampling() {
    let mut made = Made::new("llama").tokenizer(json!({"post_processor": {"type": "Sequence", "processors": [
        {"type": "ByteLevel"},
        {"type": "TemplateProcessing", "single": [
            {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "<|end|>", "type_id": 0}}]}]}}));
    made.special_tokens_map = Some(json!({"eos_token": "<|tool|>", "pad_token": {"content": "<|end|>"}}));
    made.generation_config = Some(json!({"top_k": 20, "temperature": 0.5, "eos_token_id": [1, 2]}));
    let metadata = checked(&made).metadata;
    let id = |name: &str| metadata.number(&format!("tokenizer.ggml.{name}_token_id"));
    // What ends a text differs from what ends a turn.
    assert_eq!(
        (id("eos"), id("eot"), id("padding"), id("bos"), id("unknown")),
        (Some(0), Some(5), Some(0), Some(0), None)
    );
    assert_eq!(metadata.get("tokenizer.ggml.add_eos_token"), Some(&Value::Bool(true)));
    assert_eq!(metadata.get("general.sampling.top_k"), Some(&Value::I32(20)));
    assert_eq!(metadata.get("general.sampling.temp"), Some(&Value::F32(0.5)));
}

#[test]
fn models_of_other_kinds_are_told_apart() {
    let other = Outcome::Unknown { model_type: Some("mamba".to_owned()) };
    assert_eq!(Made::new("mamba").outcome().unwrap(), other);
    let mut made = Made::new("llama");
    made.config = json!([]);
    assert_eq!(made.outcome().unwrap(), Outcome::Unknown { model_type: None });
    let metadata = unknown_metadata(&made.settings);
    assert_eq!(metadata.text("general.architecture"), Some("unknown"));
    assert_eq!(names_back(&metadata, "token_embd.weight"), None);
}

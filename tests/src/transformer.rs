//! Folders with tiny transformers of any layers: a layer's weights hang on its number alone, so a model
//! of layers 0 and 2 has those of the same layers as one of 0 to 3.

use std::path::Path;

use niwaki_tensors::{Checkpoint, Limits};
use serde_json::{Value, json};

use crate::checkpoints::{Tensor, f32s, file, header, weights, write};
use crate::folder::Folder;
use crate::llama::tokenizer;
use crate::scene::attempt;

const HIDDEN: usize = 16;
const INNER: usize = 24;
const HEAD: usize = 8;
/// Tokens of the vocabulary.
pub const VOCABULARY: usize = 64;

/// A family of models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `LlamaForCausalLM`.
    Llama,
    /// `Gemma3ForCausalLM`: windows in some layers.
    Gemma3,
    /// `BertModel`.
    Bert,
    /// `DistilBertModel`.
    DistilBert,
}

/// A model to be written.
#[derive(Clone, Debug)]
pub struct Transformer {
    /// Its family.
    pub family: Family,
    /// The layers that it has, by the numbers that their weights hang on.
    pub layers: Vec<usize>,
    /// Of these, the ones that add nothing: what comes of attention and of the products after it is 0.
    pub idle: Vec<usize>,
}

impl Transformer {
    /// What stands before the number of a layer.
    pub fn prefix(&self) -> &'static str {
        match self.family {
            Family::Llama | Family::Gemma3 => "model.layers",
            Family::Bert => "encoder.layer",
            Family::DistilBert => "transformer.layer",
        }
    }

    /// What `config.json` says.
    pub fn config(&self) -> Value {
        let layers = self.layers.len();
        let decoder = |kind: &str, class: &str| {
            json!({"model_type": kind, "architectures": [class], "hidden_size": HIDDEN, "intermediate_size": INNER,
                "num_hidden_layers": layers, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": HEAD,
                "max_position_embeddings": 32, "rms_norm_eps": 1e-5, "vocab_size": VOCABULARY,
                "tie_word_embeddings": true, "torch_dtype": "float32"})
        };
        match self.family {
            Family::Llama => decoder("llama", "LlamaForCausalLM"),
            Family::Gemma3 => {
                let mut config = decoder("gemma3_text", "Gemma3ForCausalLM");
                let more = json!({"sliding_window": 4, "query_pre_attn_scalar": HEAD, "rope_theta": 1_000_000.0,
                    "rope_local_base_freq": 10_000.0, "hidden_activation": "gelu_pytorch_tanh"});
                if let (Some(config), Value::Object(more)) = (config.as_object_mut(), more) {
                    config.extend(more);
                }
                config
            }
            Family::Bert => json!({"model_type": "bert", "architectures": ["BertModel"], "hidden_size": HIDDEN,
                "intermediate_size": INNER, "num_hidden_layers": layers, "num_attention_heads": 2,
                "max_position_embeddings": 32, "type_vocab_size": 2, "vocab_size": VOCABULARY, "hidden_act": "gelu"}),
            Family::DistilBert => json!({"model_type": "distilbert", "architectures": ["DistilBertModel"],
                "dim": HIDDEN, "hidden_dim": INNER, "n_layers": layers, "n_heads": 2, "max_position_embeddings": 32,
                "vocab_size": VOCABULARY, "activation": "gelu"}),
        }
    }

    /// Names and shapes outside of layers.
    fn outside(&self) -> Vec<(&'static str, Vec<usize>)> {
        let norm = |name| (name, vec![HIDDEN]);
        match self.family {
            Family::Llama | Family::Gemma3 => {
                vec![("model.embed_tokens.weight", vec![VOCABULARY, HIDDEN]), norm("model.norm.weight")]
            }
            Family::Bert | Family::DistilBert => {
                let mut all = vec![
                    ("embeddings.word_embeddings.weight", vec![VOCABULARY, HIDDEN]),
                    ("embeddings.position_embeddings.weight", vec![32, HIDDEN]),
                    norm("embeddings.LayerNorm.weight"),
                    norm("embeddings.LayerNorm.bias"),
                ];
                if self.family == Family::Bert {
                    all.push(("embeddings.token_type_embeddings.weight", vec![2, HIDDEN]));
                }
                all
            }
        }
    }

    /// Names and shapes of a layer.
    fn inside(&self) -> Vec<(String, Vec<usize>)> {
        let (wide, one) = (vec![INNER, HIDDEN], vec![HIDDEN]);
        let narrow = vec![HIDDEN, INNER];
        let square = vec![HIDDEN, HIDDEN];
        let with_bias = |parts: &[(&str, &Vec<usize>)]| {
            let each = parts.iter().flat_map(|(part, shape)| {
                [(format!("{part}.weight"), (*shape).clone()), (format!("{part}.bias"), vec![shape[0]])]
            });
            each.collect::<Vec<_>>()
        };
        let of = |parts: &[(&str, &Vec<usize>)]| {
            parts.iter().map(|(part, shape)| (format!("{part}.weight"), (*shape).clone())).collect::<Vec<_>>()
        };
        match self.family {
            Family::Llama | Family::Gemma3 => {
                let keys = vec![HEAD, HIDDEN];
                let mut all = of(&[
                    ("input_layernorm", &one),
                    ("post_attention_layernorm", &one),
                    ("self_attn.q_proj", &square),
                    ("self_attn.k_proj", &keys),
                    ("self_attn.v_proj", &keys),
                    ("self_attn.o_proj", &square),
                    ("mlp.gate_proj", &wide),
                    ("mlp.up_proj", &wide),
                    ("mlp.down_proj", &narrow),
                ]);
                if self.family == Family::Gemma3 {
                    let head = vec![HEAD];
                    all.extend(of(&[
                        ("pre_feedforward_layernorm", &one),
                        ("post_feedforward_layernorm", &one),
                        ("self_attn.q_norm", &head),
                        ("self_attn.k_norm", &head),
                    ]));
                }
                all
            }
            Family::Bert => with_bias(&[
                ("attention.self.query", &square),
                ("attention.self.key", &square),
                ("attention.self.value", &square),
                ("attention.output.dense", &square),
                ("attention.output.LayerNorm", &one),
                ("intermediate.dense", &wide),
                ("output.dense", &narrow),
                ("output.LayerNorm", &one),
            ]),
            Family::DistilBert => with_bias(&[
                ("attention.q_lin", &square),
                ("attention.k_lin", &square),
                ("attention.v_lin", &square),
                ("attention.out_lin", &square),
                ("sa_layer_norm", &one),
                ("ffn.lin1", &wide),
                ("ffn.lin2", &narrow),
                ("output_layer_norm", &one),
            ]),
        }
    }

    /// All tensors: name, shape, bytes of single floats.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>, Vec<u8>)> {
        // Ten times as large as those of networks, so that no layer does next to nothing.
        let values = |seed: u64, shape: &[usize]| {
            weights(seed, shape.iter().product()).iter().map(|x| x * 10.0).collect::<Vec<f32>>()
        };
        let outside = self.outside().into_iter().zip(1u64..);
        let mut all: Vec<_> =
            outside.map(|((name, shape), seed)| (name.to_owned(), f32s(&values(seed, &shape)), shape)).collect();
        for (new, old) in self.layers.iter().enumerate() {
            for ((part, shape), seed) in self.inside().into_iter().zip(1000 * (*old as u64 + 1)..) {
                let mut values = values(seed, &shape);
                if self.idle.contains(old) && ["o_proj", "down_proj"].iter().any(|idle| part.contains(idle)) {
                    values.fill(0.0);
                }
                all.push((format!("{}.{new}.{part}", self.prefix()), f32s(&values), shape));
            }
        }
        all.into_iter().map(|(name, bytes, shape)| (name, shape, bytes)).collect()
    }

    /// Writes the folder: `config.json`, `tokenizer.json`, and the weights in one file, or in `files` with an
    /// index.
    ///
    /// # Panics
    ///
    /// If it cannot be written.
    pub fn write(&self, folder: &Path, files: usize) {
        std::fs::create_dir_all(folder).expect("a folder that can be written");
        let text = |name: &str, json: &Value| {
            std::fs::write(folder.join(name), format!("{json:#}\n")).expect("room for a file");
        };
        text("config.json", &self.config());
        text("tokenizer.json", &tokenizer());
        let tensors = self.tensors();
        let stored: Vec<Tensor<'_>> = tensors
            .iter()
            .map(|(name, shape, bytes)| (name.as_str(), "F32", shape.as_slice(), bytes.clone()))
            .collect();
        if files == 1 {
            write(folder.join("model.safetensors"), &stored);
            return;
        }
        let mut map = serde_json::Map::new();
        for (part, stored) in stored.chunks(stored.len().div_ceil(files)).enumerate() {
            let name = format!("model-{:05}-of-{files:05}.safetensors", part + 1);
            map.extend(stored.iter().map(|tensor| (tensor.0.to_owned(), json!(name))));
            // With the text that PyTorch's files have.
            let header = header(stored).replacen('{', "{\"__metadata__\":{\"format\":\"pt\"},", 1);
            let data: Vec<u8> = stored.iter().flat_map(|tensor| tensor.3.iter().copied()).collect();
            std::fs::write(folder.join(name), file(&header, &data)).expect("room for a file");
        }
        text("model.safetensors.index.json", &json!({"metadata": {"total_size": 1}, "weight_map": map}));
    }
}

impl Transformer {
    /// The bits of what the model in a folder makes of a text of 20 tokens: the logits, or the last hidden state.
    ///
    /// # Panics
    ///
    /// If it does not run.
    pub fn output(&self, folder: &Folder, name: &str) -> Vec<u8> {
        let integers = |all: &mut dyn Iterator<Item = i64>| all.flat_map(i64::to_le_bytes).collect::<Vec<u8>>();
        let tokens = integers(&mut (0..20).map(|at| at * at % 60 + 1));
        let positions = integers(&mut (0..20));
        let decoder = matches!(self.family, Family::Llama | Family::Gemma3);
        let shape: &[usize] = if decoder { &[20] } else { &[1, 20] };
        let mut inputs: Vec<Tensor<'_>> =
            vec![("input_ids", "I64", shape, tokens), ("positions", "I64", shape, positions.clone())];
        let caches: Vec<String> =
            (0..self.layers.len()).flat_map(|at| ["key", "value"].map(|part| format!("cache.{at}.{part}"))).collect();
        if decoder {
            inputs.push(("rows", "I64", shape, positions));
            inputs.extend(caches.iter().map(|cache| (cache.as_str(), "F32", &[0, 1, HEAD][..], Vec::new())));
        } else {
            inputs.push(("attention_mask", "I64", shape, integers(&mut std::iter::repeat_n(1, 20))));
            inputs.push(("token_type_ids", "I64", shape, integers(&mut std::iter::repeat_n(0, 20))));
        }
        write(folder.path().join("in.safetensors"), &inputs);
        attempt(folder, &format!("run @{name} --input @in.safetensors -o @out.safetensors --force")).ok();
        let out = Checkpoint::open(folder.path().join("out.safetensors"), &Limits::default());
        let out = out.expect("the outputs of a run");
        let named = out.get(if decoder { "logits" } else { "last_hidden_state" });
        named.expect("an output of that name").bytes().to_vec()
    }
}

/// A tokenizer of 40 words: `wN` is token N, and texts stand between `w1` and `w2`.
pub fn words() -> Value {
    let vocabulary: serde_json::Map<String, Value> = (0..40).map(|at| (format!("w{at}"), at.into())).collect();
    let special = |id: &str| json!({"SpecialToken": {"id": id, "type_id": 0}});
    let token = |id: &str, number: u32| json!({"id": id, "ids": [number], "tokens": [id]});
    let text = json!({"Sequence": {"id": "A", "type_id": 0}});
    json!({
        "version": "1.0", "truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
        "padding": null, "added_tokens": [], "normalizer": null, "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": {"type": "TemplateProcessing", "single": [special("w1"), text, special("w2")],
            "pair": [special("w1"), text, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"w1": token("w1", 1), "w2": token("w2", 2)}},
        "decoder": null, "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "w0"},
    })
}

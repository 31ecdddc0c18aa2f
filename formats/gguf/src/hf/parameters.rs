//! The numbers of a `config.json`, as keys.

use serde_json::Value as Json;

use super::Family;
use super::config::Config;
use super::names::Heads;
use super::rope::Rope;
use crate::error::Error;
use crate::value::{Metadata, Value};

/// The numbers of a model.
pub(crate) struct Parameters<'a> {
    pub(crate) family: Family,
    pub(crate) blocks: u32,
    pub(crate) hidden: u32,
    pub(crate) head_dim: u32,
    /// Tokens, where the file says so.
    pub(crate) vocab: Option<u32>,
    pub(crate) rope: Rope<'a>,
    context: u32,
    feed_forward: u32,
    queries: u32,
    keys: u32,
    /// Whether the size of a head stands in the file.
    head_dim_given: bool,
    epsilon: f32,
}

impl<'a> Parameters<'a> {
    pub(crate) fn new(family: Family, config: &Config<'a>) -> Result<Self, Error> {
        // What Gemma 3 leaves out are the defaults of its configuration class.
        let gemma3 = |otherwise: u32| (family == Family::Gemma3).then_some(otherwise);
        let need = |key: &str, otherwise: Option<u32>| config.require(key, config.count(key)?.or(otherwise));
        let hidden = need("hidden_size", None)?;
        let queries = need("num_attention_heads", gemma3(8))?;
        let given = config.count("head_dim")?.or(gemma3(256));
        check_activation(family, config)?;
        Ok(Self {
            family,
            blocks: need("num_hidden_layers", None)?,
            hidden,
            head_dim: given.unwrap_or(hidden / queries),
            vocab: config.count("vocab_size")?,
            rope: Rope::new(config)?,
            context: need("max_position_embeddings", gemma3(131_072))?,
            feed_forward: need("intermediate_size", None)?,
            queries,
            keys: config.count("num_key_value_heads")?.or(gemma3(4)).unwrap_or(queries),
            head_dim_given: given.is_some(),
            epsilon: config.number("rms_norm_eps")?.unwrap_or(1e-6),
        })
    }

    pub(crate) fn heads(&self) -> Heads {
        Heads { queries: self.queries as usize, keys: self.keys as usize }
    }

    /// Writes them.
    pub(crate) fn describe(
        &self,
        config: &Config<'_>,
        (file_type, vocab): (u32, u32),
        metadata: &mut Metadata,
    ) -> Result<(), Error> {
        let arch = self.family.architecture();
        let key = |name: &str| format!("{arch}.{name}");
        let counts = [
            ("block_count", self.blocks),
            ("context_length", self.context),
            ("embedding_length", self.hidden),
            ("feed_forward_length", self.feed_forward),
            ("attention.head_count", self.queries),
            ("attention.head_count_kv", self.keys),
        ];
        counts.into_iter().for_each(|(name, count)| metadata.set(&key(name), Value::U32(count)));
        // llama.cpp gives the first two Gemmas their frequencies itself.
        if !matches!(self.family, Family::Gemma | Family::Gemma2) {
            self.rope.describe(arch, config, metadata)?;
        }
        if self.family == Family::Gemma3 && self.rope.base.is_none() {
            metadata.set(&key("rope.freq_base"), Value::F32(1_000_000.0));
        }
        metadata.set(&key("attention.layer_norm_rms_epsilon"), Value::F32(self.epsilon));
        if self.head_dim_given {
            metadata.set(&key("attention.key_length"), Value::U32(self.head_dim));
            metadata.set(&key("attention.value_length"), Value::U32(self.head_dim));
        }
        metadata.set("general.file_type", Value::U32(file_type));
        if self.family == Family::Llama {
            metadata.set(&key("vocab_size"), Value::U32(vocab));
            metadata.set(&key("rope.dimension_count"), Value::U32(self.head_dim));
        }
        self.describe_gemma(config, metadata)
    }

    /// Soft caps, and the window of layers that look back only so far.
    fn describe_gemma(&self, config: &Config<'_>, metadata: &mut Metadata) -> Result<(), Error> {
        if !matches!(self.family, Family::Gemma2 | Family::Gemma3) {
            return Ok(());
        }
        let arch = self.family.architecture();
        for name in ["attn_logit_softcapping", "final_logit_softcapping"] {
            match config.number(name)? {
                Some(cap) => metadata.set(&format!("{arch}.{name}"), Value::F32(cap)),
                None if self.family == Family::Gemma2 => return Err(config.missing(name)),
                None => {}
            }
        }
        let windowless = config.get("sliding_window_pattern").and_then(Json::as_u64) == Some(1);
        if !(self.family == Family::Gemma3 && windowless) {
            let window = config.require("sliding_window", config.count("sliding_window")?)?;
            metadata.set(&format!("{arch}.attention.sliding_window"), Value::U32(window));
            self.check_windows(config)?;
        }
        Ok(())
    }

    /// llama.cpp tells by a layer's number whether it looks at the whole text: a model whose layers
    /// stand otherwise, as after the removal of some, would compute something else there.
    fn check_windows(&self, config: &Config<'_>) -> Result<(), Error> {
        let Some(kinds) = config.get("layer_types") else { return Ok(()) };
        let (every, expected) = match self.family {
            Family::Gemma2 => (2, "`full_attention` for every second layer and for no other, as llama.cpp has it"),
            _ => (6, "`full_attention` for every sixth layer and for no other, as llama.cpp has it"),
        };
        let fits = |(at, kind): (usize, &Json)| {
            kind.as_str().is_some_and(|kind| (kind == "full_attention") == ((at + 1) % every == 0))
        };
        match kinds.as_array() {
            Some(all) if all.iter().enumerate().all(fits) => Ok(()),
            _ => Err(config.refuse("layer_types", kinds, expected)),
        }
    }

    /// What engines will do otherwise than the file says.
    pub(crate) fn warnings(&self, config: &Config<'_>) -> Result<Vec<String>, Error> {
        let mut warnings = Vec::new();
        let gemma = matches!(self.family, Family::Gemma2 | Family::Gemma3);
        if let Some(scalar) = config.number("query_pre_attn_scalar")?.filter(|_| gemma) {
            let usual = [self.head_dim, self.hidden / self.queries].map(|n| n as f32);
            if !usual.contains(&scalar) {
                warnings.push(format!(
                    "`query_pre_attn_scalar` is {scalar}; llama.cpp scales by the size of a head, {}",
                    self.head_dim
                ));
            }
        }
        let windowed = match self.family {
            Family::Qwen2 | Family::Qwen3 => config.flag("use_sliding_window") == Some(true),
            Family::Llama => config.get("sliding_window").is_some(),
            Family::Gemma | Family::Gemma2 | Family::Gemma3 => false,
        };
        if windowed {
            warnings.push("`sliding_window` is set; llama.cpp looks at the whole context".to_owned());
        }
        Ok(warnings)
    }
}

/// Whether the feed-forward part is gated as llama.cpp does it.
fn check_activation(family: Family, config: &Config<'_>) -> Result<(), Error> {
    let gelu = matches!(family, Family::Gemma | Family::Gemma2 | Family::Gemma3);
    let key = if config.get("hidden_activation").is_some() { "hidden_activation" } else { "hidden_act" };
    match config.get(key) {
        // The first Gemma says `gelu` and means the approximation.
        Some(found) if gelu && !matches!(found.as_str(), Some("gelu_pytorch_tanh" | "gelu")) => {
            Err(config.refuse(key, found, "`gelu_pytorch_tanh`"))
        }
        Some(found) if !gelu && found.as_str() != Some("silu") => Err(config.refuse(key, found, "`silu`")),
        _ => Ok(()),
    }
}

//! `adapter_config.json`.

use std::collections::BTreeMap;
use std::path::Path;

use niwaki_tensors::{Limits, read_limited};
use serde::Deserialize;
use serde_json::Value as Json;

use super::patterns::{Pairs, Patterns};
use super::quoted;
use crate::error::{Error, ErrorKind};

/// What of the configuration decides the difference.
#[derive(Debug)]
pub(super) struct Config {
    rank: u64,
    alpha: f64,
    ranks: Patterns<u64>,
    alphas: Patterns<f64>,
    /// Whether alpha is divided by the root of the rank.
    stabilized: bool,
    /// Whether layers store their weight transposed.
    pub(super) transposed: bool,
    /// Whether biases of the base model were trained.
    pub(super) biases: bool,
    /// Ends of the names of modules that were trained whole.
    pub(super) whole: Vec<String>,
    /// The base model.
    pub(super) base_model: Option<String>,
}

/// The file. Keys that are not there have PEFT's defaults; keys that do not change what the
/// tensors mean are not read.
#[derive(Deserialize)]
struct Text {
    peft_type: Option<String>,
    r: Option<u64>,
    lora_alpha: Option<f64>,
    rank_pattern: Option<Pairs<u64>>,
    alpha_pattern: Option<Pairs<f64>>,
    use_rslora: Option<bool>,
    fan_in_fan_out: Option<bool>,
    bias: Option<String>,
    modules_to_save: Option<Vec<String>>,
    base_model_name_or_path: Option<String>,
    init_lora_weights: Option<Json>,
    #[serde(flatten)]
    others: BTreeMap<String, Json>,
}

/// PEFT's rank and alpha where none is given.
const DEFAULT: u32 = 8;

/// Keys that, where set, make of an adapter something else than `scaling * B A` on its modules.
const VARIANTS: [&str; 10] = [
    "use_dora",
    "use_qalora",
    "use_bdlora",
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
    "layer_replication",
    "target_parameters",
    "trainable_token_indices",
];

/// Beginnings of `init_lora_weights` under which PEFT changes the base model's weights when the
/// adapter is loaded; the factors are relative to those.
const CHANGED_BASE: [&str; 5] = ["pissa", "olora", "corda", "loftq", "lora_ga"];

impl Config {
    /// Reads the file.
    pub(super) fn read(path: &Path, limits: &Limits) -> Result<Self, Error> {
        Self::parse(&read_limited(path, limits)?).map_err(|e| e.at(path))
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let wrong = |why: String| Error::from(ErrorKind::Adapter { why });
        let text: Text = serde_json::from_slice(bytes).map_err(|e| wrong(cut(&e)))?;
        match text.peft_type.as_deref() {
            Some("LORA") => {}
            Some(other) => {
                let what = format!("an adapter of `peft_type` {}", quoted(other));
                return Err(Error::from(ErrorKind::Unsupported { what }).hinting("this version reads `LORA`"));
            }
            None => return Err(wrong("no `peft_type`".to_owned())),
        }
        check_variant(&text)?;
        let bias = text.bias.as_deref().unwrap_or("none");
        if !["none", "all", "lora_only"].contains(&bias) {
            return Err(wrong(format!("`bias` is {}; known: none, all, lora_only", quoted(bias))));
        }
        let ranks = text.rank_pattern.map_or(Vec::new(), |pairs| pairs.0);
        let alphas = text.alpha_pattern.map_or(Vec::new(), |pairs| pairs.0);
        let ranks = Patterns::new(ranks).map_err(|why| wrong(format!("`rank_pattern`: {why}")))?;
        let alphas = Patterns::new(alphas).map_err(|why| wrong(format!("`alpha_pattern`: {why}")))?;
        Ok(Self {
            rank: text.r.unwrap_or(DEFAULT.into()),
            alpha: text.lora_alpha.unwrap_or(DEFAULT.into()),
            ranks,
            alphas,
            stabilized: text.use_rslora.unwrap_or(false),
            transposed: text.fan_in_fan_out.unwrap_or(false),
            biases: bias != "none",
            whole: text.modules_to_save.unwrap_or_default(),
            base_model: text.base_model_name_or_path,
        })
    }

    /// Whether patterns are regular expressions.
    pub(super) fn has_expressions(&self) -> bool {
        self.ranks.has_expressions() || self.alphas.has_expressions()
    }

    /// The rank of a module.
    pub(super) fn rank(&self, module: &str) -> u64 {
        self.ranks.value(module).unwrap_or(self.rank)
    }

    /// What the product of a module's factors is multiplied by.
    pub(super) fn scaling(&self, module: &str) -> f64 {
        let (alpha, rank) = (self.alphas.value(module).unwrap_or(self.alpha), self.rank(module) as f64);
        alpha / if self.stabilized { rank.sqrt() } else { rank }
    }
}

/// Refuses what is no difference from the base model's weights.
fn check_variant(text: &Text) -> Result<(), Error> {
    let set = |key: &&str| text.others.get(*key).is_some_and(is_set);
    if let Some(key) = VARIANTS.iter().find(|key| set(key)) {
        return Err(ErrorKind::Unsupported { what: format!("an adapter with `{key}`") }.into());
    }
    let start = text.init_lora_weights.as_ref().and_then(Json::as_str).unwrap_or_default();
    if CHANGED_BASE.iter().any(|name| start.to_ascii_lowercase().starts_with(name)) {
        let what = format!("an adapter with `init_lora_weights` {}", quoted(start));
        let hint = "it is relative to other weights than the base model's; PEFT converts it where it is saved with \
                    `path_initial_model_for_weight_conversion`";
        return Err(Error::from(ErrorKind::Unsupported { what }).hinting(hint));
    }
    Ok(())
}

/// Whether Python takes the value for true.
fn is_set(value: &Json) -> bool {
    match value {
        Json::Null => false,
        Json::Bool(set) => *set,
        Json::Number(number) => number.as_f64() != Some(0.0),
        Json::String(text) => !text.is_empty(),
        Json::Array(items) => !items.is_empty(),
        Json::Object(items) => !items.is_empty(),
    }
}

/// A sentence of the parser, which may quote the file at length.
fn cut(error: &serde_json::Error) -> String {
    /// Characters at the end of it, with line and column.
    const END: usize = 60;
    let text = error.to_string();
    let all: Vec<char> = text.chars().flat_map(char::escape_debug).collect();
    if all.len() <= 4 * END {
        return all.into_iter().collect();
    }
    let (begin, end) = (all.iter().take(2 * END), all.iter().skip(all.len() - END));
    begin.chain(&['…']).chain(end).collect()
}

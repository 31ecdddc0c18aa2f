//! llama.cpp's mixes of block types, as recipes.
//!
//! Which tensor gets which type is what `llama_tensor_get_type_impl` of llama.cpp decides
//! (`src/llama-quant.cpp`, of the release that llama-cpp-python 0.3.36 carries), without an
//! importance matrix. Names are those of GGUF.

use std::collections::BTreeMap;

use niwaki_codes::{BlockType, Scheme};
use niwaki_quant::Fit;

use super::{Action, Recipe, Rule};

/// A mix by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix {
    name: &'static str,
    base: BlockType,
    number: u32,
}

/// What of a model decides types.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelFacts {
    /// Names of all its tensors.
    pub names: Vec<String>,
    /// `general.architecture`.
    pub architecture: String,
    /// Query heads for each key head.
    pub queries_per_key: u64,
    /// Experts of a layer; 0 for none.
    pub experts: u64,
}

macro_rules! mixes {
    ($($name:literal => $base:ident, $number:literal;)*) => {
        /// All mixes, with llama.cpp's numbers of them.
        const MIXES: &[Mix] = &[$(Mix { name: $name, base: BlockType::$base, number: $number }),*];
    };
}

mixes! {
    "q2_k" => Q2K, 10;
    "q3_k_s" => Q3K, 11; "q3_k_m" => Q3K, 12; "q3_k_l" => Q3K, 13;
    "q4_0" => Q4_0, 2; "q4_1" => Q4_1, 3; "q4_k_s" => Q4K, 14; "q4_k_m" => Q4K, 15;
    "q5_0" => Q5_0, 8; "q5_1" => Q5_1, 9; "q5_k_s" => Q5K, 16; "q5_k_m" => Q5K, 17;
    "q6_k" => Q6K, 18; "q8_0" => Q8_0, 7;
    "iq4_nl" => Iq4Nl, 25; "iq4_xs" => Iq4Xs, 30;
}

/// Tensors that llama.cpp does not quantize: what their names hold.
const KEPT: [&str; 18] = [
    "_norm.weight",
    "ffn_gate_inp.weight",
    "position_embd.weight",
    "token_types.weight",
    "altup",
    "laurel",
    "per_layer_model_proj",
    "ssm_conv1d",
    "shortconv.conv.weight",
    "time_mix_",
    "attn_rel_b.weight",
    ".position_embd",
    ".rel_pos",
    ".patch_embd",
    ".patch_merger",
    "indexer.k_proj.weight",
    "indexer.q_proj.weight",
    "sam.net_",
];

impl Mix {
    /// The mix of this name; `q3_k`, `q4_k` and `q5_k` are their `_m`.
    pub fn from_name(name: &str) -> Option<Self> {
        let name = match name {
            "q3_k" => "q3_k_m",
            "q4_k" => "q4_k_m",
            "q5_k" => "q5_k_m",
            other => other,
        };
        MIXES.iter().copied().find(|mix| mix.name == name)
    }

    /// The names of all mixes.
    pub fn names() -> impl Iterator<Item = &'static str> {
        MIXES.iter().map(|mix| mix.name)
    }

    /// The mix whose rules for a model these are.
    pub(crate) fn of_recipe(recipe: &Recipe, model: &ModelFacts) -> Option<Self> {
        let same = |mix: &Mix| mix.recipe(model).rules == recipe.rules && recipe.only.is_empty();
        MIXES.iter().copied().find(same)
    }

    /// llama.cpp's number of it: `general.file_type`.
    pub(crate) fn number(self) -> u32 {
        self.number
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.name
    }

    /// The rules for a model.
    pub fn recipe(self, model: &ModelFacts) -> Recipe {
        let mut rules = Vec::new();
        for (stem, kind) in [("attn_output", self.of_attention_output(model)), ("attn_k", self.of_keys(model))] {
            rules.extend(kind.map(|kind| quantize(&format!("blk.*.{stem}.weight"), kind)));
        }
        let values = ["attn_v", "attn_qkv", "attn_kv_b"];
        for stem in values {
            rules.extend(by_layer(model, stem, |layer, layers| self.of_values(model, layer, layers), self.base));
        }
        for stem in ["ffn_down", "ffn_down_exps"] {
            rules.extend(by_layer(model, stem, |layer, layers| self.of_ffn_down(layer, layers), self.base));
        }
        let head = |name: &&str| model.names.iter().any(|other| other == name);
        let head = ["output.weight", "token_embd.weight"].into_iter().find(head);
        rules.extend(head.filter(|_| self.base != BlockType::Q8_0).map(|head| quantize(head, BlockType::Q6K)));
        // Under `only` they may be left nothing to act on; the first rule says whether any is.
        rules.iter_mut().for_each(|rule| rule.optional = true);
        rules.insert(0, quantize("*weight", self.base));
        for part in KEPT.iter().filter(|part| model.names.iter().any(|name| name.contains(**part))) {
            rules.push(Rule { tensors: format!("*{part}*"), min_dims: 2, optional: true, action: Action::Keep });
        }
        Recipe { rules, ..Recipe::default() }
    }

    fn of_attention_output(self, model: &ModelFacts) -> Option<BlockType> {
        match (self.name, model.experts) {
            ("q2_k" | "q3_k_s" | "q3_k_m" | "q4_k_s" | "q4_k_m" | "iq4_nl" | "iq4_xs", 8) => Some(BlockType::Q5K),
            (_, 8) => None,
            ("q2_k", _) => Some(BlockType::Q3K),
            ("q3_k_m", _) => Some(BlockType::Q4K),
            ("q3_k_l", _) => Some(BlockType::Q5K),
            _ => None,
        }
    }

    fn of_keys(self, model: &ModelFacts) -> Option<BlockType> {
        (model.experts == 8).then_some(BlockType::Q8_0)
    }

    fn of_values(self, model: &ModelFacts, layer: usize, layers: usize) -> BlockType {
        let many = model.queries_per_key >= 4;
        let kind = match self.name {
            "q2_k" if many => BlockType::Q4K,
            "q2_k" => BlockType::Q3K,
            "q3_k_m" if layer < 2 => BlockType::Q5K,
            "q3_k_m" => BlockType::Q4K,
            "q3_k_l" => BlockType::Q5K,
            "iq4_nl" | "iq4_xs" if many => BlockType::Q5K,
            "q4_k_m" | "q5_k_m" if more_bits(layer, layers) => BlockType::Q6K,
            "q4_k_s" if layer < 4 => BlockType::Q5K,
            _ => self.base,
        };
        let largest = layers == 80 && (model.architecture == "qwen2" || model.queries_per_key > 1);
        match kind {
            _ if model.experts == 8 => BlockType::Q8_0,
            BlockType::Q3K | BlockType::Q4K if largest => BlockType::Q5K,
            kind => kind,
        }
    }

    fn of_ffn_down(self, layer: usize, layers: usize) -> BlockType {
        match self.name {
            "q2_k" => BlockType::Q3K,
            "q3_k_m" if layer < layers / 16 => BlockType::Q5K,
            "q3_k_m" => BlockType::Q4K,
            "q3_k_l" => BlockType::Q5K,
            "q4_k_m" | "q5_k_m" if more_bits(layer, layers) => BlockType::Q6K,
            "iq4_nl" | "iq4_xs" | "q4_k_s" if layer < layers / 8 => BlockType::Q5K,
            _ => self.base,
        }
    }
}

/// The layers that llama.cpp holds to be the more sensitive ones.
fn more_bits(layer: usize, layers: usize) -> bool {
    let eighth = layers / 8;
    layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2
}

/// The type that llama.cpp takes for rows that blocks do not fill.
pub(crate) fn fallback(kind: BlockType) -> Option<BlockType> {
    match kind {
        BlockType::Q2K | BlockType::Q3K => Some(BlockType::Q4_0),
        BlockType::Q4K => Some(BlockType::Q5_0),
        BlockType::Q5K => Some(BlockType::Q5_1),
        BlockType::Q6K => Some(BlockType::Q8_0),
        BlockType::Iq4Xs => Some(BlockType::Iq4Nl),
        _ => None,
    }
}

fn quantize(tensors: &str, kind: BlockType) -> Rule {
    let action = Action::Encode { scheme: Scheme::Block(kind), fit: Fit::MinMax, fallback: fallback(kind) };
    Rule { tensors: tensors.to_owned(), min_dims: 2, optional: false, action }
}

/// Rules for the layers whose type is not the base.
fn by_layer(model: &ModelFacts, stem: &str, kind: impl Fn(usize, usize) -> BlockType, base: BlockType) -> Vec<Rule> {
    let layer = |name: &String| -> Option<usize> {
        let (layer, rest) = name.strip_prefix("blk.")?.split_once('.')?;
        (rest.strip_suffix(".weight") == Some(stem)).then(|| layer.parse().ok())?
    };
    let mut layers: Vec<usize> = model.names.iter().filter_map(layer).collect();
    layers.sort_unstable();
    let mut kinds: BTreeMap<&str, (BlockType, Vec<String>)> = BTreeMap::new();
    for (nth, layer) in layers.iter().enumerate() {
        let kind = kind(nth, layers.len());
        if kind != base {
            kinds.entry(kind.name()).or_insert((kind, Vec::new())).1.push(layer.to_string());
        }
    }
    let rule = |(kind, some): (BlockType, Vec<String>)| {
        let which = match some.as_slice() {
            all if all.len() == layers.len() => "*".to_owned(),
            [one] => one.clone(),
            _ => format!("{{{}}}", some.join(",")),
        };
        quantize(&format!("blk.{which}.{stem}.weight"), kind)
    };
    kinds.into_values().map(rule).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(layers: usize) -> ModelFacts {
        let names = (0..layers).flat_map(|i| ["attn_v", "ffn_down"].map(|stem| format!("blk.{i}.{stem}.weight")));
        let names = names.chain(["token_embd.weight".to_owned()]).collect();
        ModelFacts { names, architecture: "llama".to_owned(), queries_per_key: 3, experts: 0 }
    }

    #[test]
    fn more_bits_go_to_the_first_the_last_and_every_third() {
        let some: Vec<usize> = (0..30).filter(|i| more_bits(*i, 30)).collect();
        assert_eq!(some, [0, 1, 2, 5, 8, 11, 14, 17, 20, 23, 26, 27, 28, 29]);
    }

    #[test]
    fn a_mix_is_a_recipe_that_reads_back() {
        let recipe = Mix::from_name("q4_k").unwrap().recipe(&model(30));
        let text = recipe.to_string();
        assert_eq!(Recipe::parse(&text).unwrap(), recipe);
        assert!(text.contains("blk.{0,1,2,5,8,11,14,17,20,23,26,27,28,29}.attn_v.weight"), "{text}");
        assert!(text.contains("tensors = \"token_embd.weight\""), "{text}");
        assert_eq!(Mix::of_recipe(&recipe, &model(30)).map(Mix::number), Some(15));
        assert_eq!(Mix::of_recipe(&recipe, &model(29)), None);
    }

    #[test]
    fn every_mix_has_rules_and_one_name() {
        let names: std::collections::BTreeSet<_> = Mix::names().collect();
        assert_eq!(names.len(), MIXES.len());
        for name in names {
            assert!(!Mix::from_name(name).unwrap().recipe(&model(4)).rules.is_empty());
        }
    }
}

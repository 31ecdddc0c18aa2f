//! The layers of a model by number: what their weights are called, and the same model without some.
//!
//! ```text
//! config.json, layers 0 1 2 3 --keeping [0, 2]--> config.json, layers 0 1
//! model.layers.2.mlp.up_proj.weight --renamed 1--> model.layers.1.mlp.up_proj.weight
//! ```
//!
//! What a family derives from the number of a layer is written out for those that stay, so that each
//! keeps its kind of attention.

use serde_json::Value;

use super::config::Config;
use super::family::{self, DecoderKind, Family};
use super::weights::Lookup;
use super::{Blueprint, build, decoder, encoder};
use crate::error::{Error, ErrorKind};

/// Layers at most: each costs memory before it is known whether there are weights for it.
const MOST_LAYERS: usize = 1024;

/// How many layers a model has, and what their weights are called.
#[derive(Clone, Debug)]
pub struct Layers {
    count: usize,
    /// The key of `config.json` that says how many there are.
    key: &'static str,
    /// What stands before the number of a layer: `model.layers.`
    prefixes: Vec<String>,
}

impl Layers {
    /// Those of a model.
    ///
    /// # Errors
    ///
    /// A family that is not supported; a number of layers that is missing, or none from 1 to 1024.
    pub fn of(config: &Config) -> Result<Self, Error> {
        let (key, prefixes) = match family::of(config)? {
            Family::Decoder(_) => (decoder::COUNT, vec![format!("{}.", decoder::LAYERS)]),
            Family::Encoder(kind) => (encoder::count_key(kind), encoder::prefixes(kind)),
        };
        let count = config.needs(key)?;
        if count > MOST_LAYERS {
            return Err(config.wrong(key, "at most 1024 layers"));
        }
        Ok(Self { count, key, prefixes })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The key of `config.json` that says how many there are.
    pub fn key(&self) -> &'static str {
        self.key
    }

    /// The layer that a weight belongs to, as its name says; it may be one that the model does not have.
    pub fn of_weight(&self, name: &str) -> Option<usize> {
        self.split(name).map(|(_, layer, _)| layer)
    }

    /// What the weight is called where its layer has the number `to`; none for a weight of no layer.
    pub fn renamed(&self, name: &str, to: usize) -> Option<String> {
        self.split(name).map(|(prefix, _, part)| format!("{prefix}{to}.{part}"))
    }

    /// What stands before the number, the number, and what stands behind it and a dot.
    fn split<'n>(&self, name: &'n str) -> Option<(&'n str, usize, &'n str)> {
        let behind = self.prefixes.iter().find_map(|prefix| name.strip_prefix(prefix.as_str()))?;
        let (number, part) = behind.split_once('.')?;
        let layer: usize = number.parse().ok()?;
        // As numbers are written: no sign, no zeros ahead.
        (layer.to_string() == number).then(|| (&name[..name.len() - behind.len()], layer, part))
    }
}

impl Config {
    /// What the model says of itself where only these layers are kept, in their order: their number,
    /// lists with an item a layer, and what each layer sees, where so far its number said that.
    ///
    /// # Errors
    ///
    /// Those of [`Layers::of`]; no layers, or such as are not in order or not there.
    pub fn keeping(&self, kept: &[usize]) -> Result<Self, Error> {
        let layers = Layers::of(self)?;
        let ordered = kept.windows(2).all(|pair| matches!(pair, [a, b] if a < b));
        if !ordered || kept.last().is_none_or(|last| *last >= layers.count) {
            let what = format!("layers {kept:?} to be kept of {}; some of them in order expected", layers.count);
            return Err(ErrorKind::Model(what).into());
        }
        let mut fewer = self.clone();
        for (key, value) in &mut fewer.keys {
            if let Value::Array(items) = value
                && items.len() == layers.count
                && !counts_no_layers(key)
            {
                let mut at = 0..;
                items.retain(|_| at.next().is_some_and(|at| kept.contains(&at)));
            }
        }
        fewer.keys.insert(layers.key.to_owned(), kept.len().into());
        if let Family::Decoder(kind) = family::of(self)? {
            if let Some(types) = decoder::implied_types(self, kind)? {
                let types = kept.iter().filter_map(|layer| types.get(*layer).copied()).collect::<Vec<_>>();
                fewer.keys.insert("layer_types".to_owned(), types.into());
            }
            let first = self.keys.get("max_window_layers").and_then(Value::as_u64);
            if let (DecoderKind::Qwen2 | DecoderKind::Qwen3, Some(first)) = (kind, first) {
                let before = kept.iter().filter(|layer| (**layer as u64) < first).count();
                fewer.keys.insert("max_window_layers".to_owned(), before.into());
            }
        }
        Ok(fewer)
    }

    /// The text of a `config.json` that says the same: indented, with a line feed at the end.
    pub fn to_text(&self) -> String {
        // Keys are texts, and the values were JSON: nothing that cannot be written.
        let text = serde_json::to_string_pretty(&self.keys).unwrap_or_default();
        text + "\n"
    }
}

/// Whether a list of `config.json` that happens to have an item a layer means something else.
fn counts_no_layers(key: &str) -> bool {
    key == "architectures" || ["_token_id", "_token_ids", "_tokens"].iter().any(|end| key.ends_with(end))
}

/// Builds a model with these of its layers only, of weights that are called as in the whole model.
///
/// # Errors
///
/// Those of [`build`] and of [`Config::keeping`].
pub fn build_keeping(config: &Config, kept: &[usize], lookup: Lookup<'_>) -> Result<Blueprint, Error> {
    let (layers, fewer) = (Layers::of(config)?, config.keeping(kept)?);
    build(&fewer, &|name| {
        let layer = layers.of_weight(name).and_then(|layer| kept.get(layer));
        match layer.and_then(|layer| layers.renamed(name, *layer)) {
            Some(name) => lookup(&name),
            None => lookup(name),
        }
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use serde_json::json;

    use super::*;

    fn config(value: &Value) -> Config {
        Config::parse(value.to_string().as_bytes()).unwrap()
    }

    fn keeping(value: &Value, kept: &[usize]) -> Value {
        serde_json::from_str(&config(value).keeping(kept).unwrap().to_text()).unwrap()
    }

    #[test]
    fn weights_of_layers_have_their_number_in_their_names() {
        let of = |kind: &str, key: &str| Layers::of(&config(&json!({"model_type": kind, key: 3}))).unwrap();
        let llama = of("llama", "num_hidden_layers");
        assert_eq!((llama.count(), llama.key()), (3, "num_hidden_layers"));
        assert_eq!(llama.of_weight("model.layers.12.mlp.up_proj.weight"), Some(12));
        assert_eq!(llama.renamed("model.layers.2.a.layers.2.b", 0).unwrap(), "model.layers.0.a.layers.2.b");
        for none in ["model.norm.weight", "model.layers.2", "model.layers.02.a", "model.layers.+2.a", "layers.2.a"] {
            assert_eq!((llama.of_weight(none), llama.renamed(none, 1)), (None, None), "{none}");
        }
        let bert = of("bert", "num_hidden_layers");
        assert_eq!(
            bert.renamed("bert.encoder.layer.1.output.dense.bias", 0).unwrap(),
            "bert.encoder.layer.0.output.dense.bias"
        );
        assert_eq!(bert.renamed("encoder.layer.1.output.dense.bias", 7).unwrap(), "encoder.layer.7.output.dense.bias");
        assert_eq!(bert.of_weight("roberta.encoder.layer.1.output.dense.bias"), None);
        let distil = of("distilbert", "n_layers");
        assert_eq!(distil.of_weight("distilbert.transformer.layer.2.ffn.lin1.weight"), Some(2));
    }

    #[test]
    fn lists_with_an_item_a_layer_are_shortened_and_others_are_not() {
        let whole = json!({"model_type": "llama", "num_hidden_layers": 3, "layer_types": ["a", "b", "c"],
            "architectures": ["LlamaForCausalLM"], "eos_token_id": [7, 8, 9], "other": [1, 2], "rms_norm_eps": 1e-5});
        let fewer = keeping(&whole, &[0, 2]);
        assert_eq!(fewer["layer_types"], json!(["a", "c"]));
        assert_eq!(fewer["num_hidden_layers"], 2);
        for same in ["architectures", "eos_token_id", "other", "rms_norm_eps", "model_type"] {
            assert_eq!(fewer[same], whole[same], "{same}");
        }
        assert!(config(&whole).keeping(&[0, 2]).unwrap().to_text().ends_with("}\n"));
    }

    #[test]
    fn what_a_layer_sees_by_its_number_is_written_out() {
        let gemma3 = json!({"model_type": "gemma3_text", "num_hidden_layers": 7, "sliding_window": 5});
        // Every sixth layer sees all: layer 5.
        let (all, some) = ("full_attention", "sliding_attention");
        assert_eq!(keeping(&gemma3, &[0, 5, 6])["layer_types"], json!([some, all, some]));
        let gemma2 = json!({"model_type": "gemma2", "num_hidden_layers": 4});
        assert_eq!(keeping(&gemma2, &[1, 2, 3])["layer_types"], json!([all, some, all]));
        let mut qwen2 =
            json!({"model_type": "qwen2", "num_hidden_layers": 4, "use_sliding_window": true, "max_window_layers": 2});
        let fewer = keeping(&qwen2, &[0, 2, 3]);
        assert_eq!((&fewer["layer_types"], &fewer["max_window_layers"]), (&json!([all, some, some]), &json!(1)));
        let fewer = keeping(&qwen2, &[2, 3]);
        assert_eq!((&fewer["layer_types"], &fewer["max_window_layers"]), (&json!([some, some]), &json!(0)));
        qwen2["use_sliding_window"] = false.into();
        assert_eq!(keeping(&qwen2, &[0, 3]).get("layer_types"), None);
        let mistral = json!({"model_type": "mistral", "num_hidden_layers": 4, "sliding_window": 5});
        assert_eq!(keeping(&mistral, &[0, 3]).get("layer_types"), None);
    }

    #[test]
    fn layers_that_are_not_there_are_not_kept() {
        let whole = config(&json!({"model_type": "llama", "num_hidden_layers": 3}));
        for wrong in [&[][..], &[3], &[1, 0], &[1, 1]] {
            assert!(whole.keeping(wrong).is_err(), "{wrong:?}");
        }
        for wrong in [json!(0), json!(1025), json!("3"), Value::Null] {
            assert!(Layers::of(&config(&json!({"model_type": "llama", "num_hidden_layers": wrong}))).is_err());
        }
        assert!(Layers::of(&config(&json!({"model_type": "mamba", "num_hidden_layers": 3}))).is_err());
    }
}

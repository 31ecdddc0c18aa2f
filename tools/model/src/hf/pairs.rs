//! Where the inputs of a model's products can be divided by scales, and what makes them, so that nothing else changes.
//!
//! ```text
//! decoders   norm --> queries, keys, values      norm --> gate, up      up --> down      values --> output
//! encoders   values --> output                                          first --> second, where relu is between
//! ```
//!
//! A gated product is linear in `up`, and what comes of attention in the values: whatever these are divided by, so is what
//! comes of them. A norm that is followed by products alone is as good as its weights.

use super::config::Config;
use super::family::{self, Family};
use super::{decoder, encoder};
use crate::error::Error;

/// Products that take the same inputs, and the weights that make these.
///
/// # Invariants
///
/// - each maker has a row, or where it is a vector an element, for each of `channels`
/// - each taker has as many columns as [`columns`](Self::columns)
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The weights whose rows are divided.
    pub makers: Vec<String>,
    /// The weights whose columns are multiplied.
    pub takers: Vec<String>,
    /// Channels that are made.
    pub channels: usize,
    /// Channels of a head: those that come to the takers together.
    pub head: usize,
    /// How often the takers have each head, once for each head of queries that looks at it.
    pub shared: usize,
}

impl Pair {
    /// Of vectors, or of matrices, whose rows are the columns of the takers.
    fn plain(makers: Vec<String>, takers: Vec<String>, channels: usize) -> Self {
        Self { makers, takers, channels, head: channels, shared: 1 }
    }

    /// Columns of the takers.
    pub fn columns(&self) -> usize {
        self.channels * self.shared
    }

    /// The channel that a column of the takers meets.
    pub fn channel(&self, column: usize) -> usize {
        let head = self.head.max(1);
        column / (head * self.shared.max(1)) * head + column % head
    }
}

/// Products whose inputs cannot be divided so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpaired {
    /// Their weights.
    pub takers: Vec<String>,
    /// Why not.
    pub why: &'static str,
}

/// All products of a model's layers, by what can be done about their inputs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pairs {
    /// Where they can be divided, layer by layer.
    pub found: Vec<Pair>,
    /// Where they cannot.
    pub unpaired: Vec<Unpaired>,
}

impl Pairs {
    /// Those of a model; `has` says whether there is a weight of a name.
    ///
    /// # Errors
    ///
    /// A family that is not supported, or a configuration without what it needs.
    pub fn of(config: &Config, has: &dyn Fn(&str) -> bool) -> Result<Self, Error> {
        match family::of(config)? {
            Family::Decoder(kind) => decoder::pairs(config, kind),
            Family::Encoder(kind) => encoder::pairs(config, kind, has),
        }
    }

    pub(super) fn pair(&mut self, makers: Vec<String>, takers: Vec<String>, channels: usize) {
        self.found.push(Pair::plain(makers, takers, channels));
    }

    pub(super) fn none(&mut self, takers: Vec<String>, why: &'static str) {
        self.unpaired.push(Unpaired { takers, why });
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pairs(value: &Value, has: bool) -> Pairs {
        Pairs::of(&Config::parse(value.to_string().as_bytes()).unwrap(), &|_| has).unwrap()
    }

    fn decoder(kind: &str) -> Value {
        json!({"model_type": kind, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 10, "attention_bias": true})
    }

    #[test]
    fn heads_that_are_shared_have_the_channels_of_one() {
        let pair = Pair { makers: vec![], takers: vec![], channels: 4, head: 2, shared: 3 };
        let all: Vec<usize> = (0..pair.columns()).map(|column| pair.channel(column)).collect();
        assert_eq!(all, [0, 1, 0, 1, 0, 1, 2, 3, 2, 3, 2, 3]);
        let plain = Pair::plain(vec![], vec![], 5);
        assert_eq!((0..5).map(|column| plain.channel(column)).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_layer_of_a_decoder_has_four() {
        let Pairs { found, unpaired } = pairs(&decoder("llama"), true);
        assert_eq!((found.len(), unpaired.len()), (8, 0));
        let name = |part: &str| format!("model.layers.1.{part}");
        let [attention, values, gated, down] = &found[4..] else { panic!("{found:?}") };
        assert_eq!(attention.makers, [name("input_layernorm.weight")]);
        assert_eq!(attention.takers, ["q", "k", "v"].map(|part| name(&format!("self_attn.{part}_proj.weight"))));
        assert_eq!(values.makers, ["weight", "bias"].map(|part| name(&format!("self_attn.v_proj.{part}"))));
        assert_eq!((values.channels, values.columns(), values.head), (16, 32, 8));
        assert_eq!(gated.takers, ["gate", "up"].map(|part| name(&format!("mlp.{part}_proj.weight"))));
        assert_eq!(
            (&down.makers, &down.takers),
            (&vec![name("mlp.up_proj.weight")], &vec![name("mlp.down_proj.weight")])
        );
        assert_eq!((gated.channels, down.channels), (16, 24));
    }

    #[test]
    fn norms_of_one_and_more_are_no_makers() {
        for kind in ["gemma", "gemma2", "gemma3_text"] {
            let Pairs { found, unpaired } = pairs(&decoder(kind), true);
            assert_eq!((found.len(), unpaired.len()), (4, 4), "{kind}");
            assert!(found.iter().flat_map(|pair| &pair.makers).all(|maker| !maker.contains("norm")), "{kind}");
            assert!(unpaired.iter().all(|of| of.why.contains("1 + w")), "{kind}");
        }
    }

    #[test]
    fn an_encoder_has_its_values_and_what_relu_lets_through() {
        let bert = |act: &str| {
            json!({"model_type": "bert", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1,
                "num_attention_heads": 2, "vocab_size": 10, "hidden_act": act})
        };
        let gelu = pairs(&bert("gelu"), false);
        assert_eq!(gelu.found.len(), 1);
        let pair = &gelu.found[0];
        let value = "encoder.layer.0.attention.self.value";
        assert_eq!(pair.makers, [format!("{value}.weight"), format!("{value}.bias")]);
        assert_eq!(
            (&pair.takers[0], pair.columns()),
            (&"encoder.layer.0.attention.output.dense.weight".to_owned(), 16)
        );
        assert_eq!(gelu.unpaired.len(), 3);
        let relu = pairs(&bert("relu"), true);
        assert_eq!((relu.found.len(), relu.unpaired.len()), (2, 2));
        assert_eq!(relu.found[1].takers, ["bert.encoder.layer.0.output.dense.weight"]);
        assert_eq!(relu.found[1].channels, 24);
    }

    #[test]
    fn models_of_other_families_have_none() {
        let config = Config::parse(br#"{"model_type": "mamba"}"#).unwrap();
        assert!(Pairs::of(&config, &|_| true).is_err());
    }
}

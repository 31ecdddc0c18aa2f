//! What makes the inputs of a decoder's products.

use super::{Facts, LAYERS};
use crate::error::Error;
use crate::hf::config::Config;
use crate::hf::family::DecoderKind;
use crate::hf::pairs::{Pair, Pairs};

/// Why nothing can be divided by way of Gemma's norms.
const RAISED: &str = "their norm multiplies by 1 + w, which dividing its w does not divide exactly";

/// What makes the inputs of products of its layers.
pub(in crate::hf) fn pairs(config: &Config, kind: DecoderKind) -> Result<Pairs, Error> {
    let Facts { hidden, inner, heads, kv_heads, head, biases, sees, .. } = Facts::new(config, kind)?;
    let mut pairs = Pairs::default();
    for layer in 0..sees.len() {
        let weight = |part: &str| format!("{LAYERS}.{layer}.{part}.weight");
        let made = |part: &str, bias: bool| {
            let bias = bias.then(|| format!("{LAYERS}.{layer}.{part}.bias"));
            [weight(part)].into_iter().chain(bias).collect::<Vec<_>>()
        };
        let products = |block: &str, parts: &[&str]| {
            parts.iter().map(|part| weight(&format!("{block}.{part}_proj"))).collect::<Vec<_>>()
        };
        let normed = |pairs: &mut Pairs, norm: &str, takers: Vec<String>| match kind.is_gemma() {
            true => pairs.none(takers, RAISED),
            false => pairs.pair(vec![weight(norm)], takers, hidden),
        };
        normed(&mut pairs, "input_layernorm", products("self_attn", &["q", "k", "v"]));
        let values = Pair {
            makers: made("self_attn.v_proj", biases[0]),
            takers: vec![weight("self_attn.o_proj")],
            channels: kv_heads.saturating_mul(head),
            head,
            shared: heads / kv_heads,
        };
        pairs.found.push(values);
        normed(&mut pairs, "post_attention_layernorm", products("mlp", &["gate", "up"]));
        pairs.pair(made("mlp.up_proj", biases[2]), vec![weight("mlp.down_proj")], inner);
    }
    Ok(pairs)
}

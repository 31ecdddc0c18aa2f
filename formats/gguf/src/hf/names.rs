//! What tensors are called on both sides, and what happens to them in between.

use super::transform::Transform;
use super::{DropReason, Family, Fate};

/// Tensors outside the blocks, without `.weight`.
const OUTSIDE: [(&str, &str); 3] =
    [("model.embed_tokens", "token_embd"), ("model.norm", "output_norm"), ("lm_head", "output")];

/// Tensors of a block that every family has, without `.weight` or `.bias`.
const INSIDE: [(&str, &str); 8] = [
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

/// Those of families with one norm before the attention and one before the feed-forward part.
const TWO_NORMS: [(&str, &str); 1] = [("post_attention_layernorm", "ffn_norm")];

/// Those of Gemma 2 and 3, with norms on both sides of both parts.
const FOUR_NORMS: [(&str, &str); 3] = [
    ("post_attention_layernorm", "post_attention_norm"),
    ("pre_feedforward_layernorm", "ffn_norm"),
    ("post_feedforward_layernorm", "post_ffw_norm"),
];

/// Those of families that norm queries and keys.
const HEAD_NORMS: [(&str, &str); 2] = [("self_attn.q_norm", "attn_q_norm"), ("self_attn.k_norm", "attn_k_norm")];

impl Family {
    /// The names of a block's tensors on both sides.
    fn inside(self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let norms: &[(&str, &str)] = match self {
            Self::Gemma2 | Self::Gemma3 => &FOUR_NORMS,
            Self::Llama | Self::Qwen2 | Self::Qwen3 | Self::Gemma => &TWO_NORMS,
        };
        let heads: &[(&str, &str)] = match self {
            Self::Qwen3 | Self::Gemma3 => &HEAD_NORMS,
            Self::Llama | Self::Qwen2 | Self::Gemma | Self::Gemma2 => &[],
        };
        INSIDE.iter().chain(norms).chain(heads).copied()
    }

    /// Whether norms are stored as differences from 1.
    fn norms_from_one(self) -> bool {
        matches!(self, Self::Gemma | Self::Gemma2 | Self::Gemma3)
    }

    /// Whether llama.cpp turns neighbours where Hugging Face turns halves.
    fn permutes(self) -> bool {
        self == Self::Llama
    }

    /// The GGUF names that a model of so many blocks must have.
    pub(crate) fn required(self, blocks: u32) -> impl Iterator<Item = String> {
        let outside = ["token_embd.weight".to_owned(), "output_norm.weight".to_owned()];
        let each = move |block| self.inside().map(move |(_, gguf)| format!("blk.{block}.{gguf}.weight"));
        outside.into_iter().chain((0..blocks).flat_map(each))
    }
}

/// Heads of queries, and of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heads {
    pub(crate) queries: usize,
    pub(crate) keys: usize,
}

/// The fate of a Hugging Face tensor; none where the family has no place for it.
pub(crate) fn fate(family: Family, heads: Heads, tied: bool, name: &str) -> Option<Fate> {
    // Models of several kinds of input keep the text model in a part of their own.
    let name = name.replace("language_model.", "");
    let name = if name.starts_with("model.model.") { name.replacen("model.", "", 1) } else { name };
    if name.ends_with(".rotary_emb.inv_freq") || name.ends_with(".attention.masked_bias") {
        return Some(Fate::Drop(DropReason::Computed));
    }
    if ["vision", "multi_modal_projector", "visual.", "audio"].iter().any(|part| name.contains(part)) {
        return Some(Fate::Drop(DropReason::NotText));
    }
    if name == "lm_head.weight" && (tied || family.norms_from_one()) {
        return Some(Fate::Drop(DropReason::Tied));
    }
    let (stem, suffix) = name.rsplit_once('.').filter(|(_, suffix)| matches!(*suffix, "weight" | "bias"))?;
    let written = |gguf: &str| format!("{gguf}.{suffix}");
    if let Some((_, gguf)) = OUTSIDE.iter().find(|(hf, _)| *hf == stem) {
        return Some(write(family, heads, written(gguf)));
    }
    let (block, inner) = stem.strip_prefix("model.layers.")?.split_once('.')?;
    let block: u32 = block.parse().ok()?;
    let (_, gguf) = family.inside().find(|(hf, _)| *hf == inner)?;
    Some(write(family, heads, format!("blk.{block}.{}", written(gguf))))
}

fn write(family: Family, heads: Heads, name: String) -> Fate {
    let transform = transform(family, heads, &name);
    let float32 = name.ends_with("norm.weight") || name.ends_with(".bias");
    Fate::Write { name, transform, float32 }
}

/// What happens to the tensor of this GGUF name on the way there.
fn transform(family: Family, heads: Heads, gguf: &str) -> Transform {
    let is = |part: &str| gguf.rsplit('.').nth(1) == Some(part);
    if family.permutes() && is("attn_q") {
        Transform::PermuteRows { heads: heads.queries }
    } else if family.permutes() && is("attn_k") {
        Transform::PermuteRows { heads: heads.keys }
    } else if family.norms_from_one() && gguf.ends_with("norm.weight") {
        Transform::AddOne
    } else {
        Transform::None
    }
}

/// The Hugging Face name of a GGUF tensor, and what happens to it on the way back.
pub(crate) fn back(family: Family, heads: Heads, gguf: &str) -> Option<(String, Transform)> {
    let (stem, suffix) = gguf.rsplit_once('.').filter(|(_, suffix)| matches!(*suffix, "weight" | "bias"))?;
    let back = match transform(family, heads, gguf) {
        Transform::PermuteRows { heads } => Transform::UnpermuteRows { heads },
        Transform::AddOne => Transform::SubtractOne,
        other => other,
    };
    if let Some((hf, _)) = OUTSIDE.iter().find(|(_, name)| *name == stem) {
        return Some((format!("{hf}.{suffix}"), back));
    }
    let (block, inner) = stem.strip_prefix("blk.")?.split_once('.')?;
    let block: u32 = block.parse().ok()?;
    let (hf, _) = family.inside().find(|(_, name)| *name == inner)?;
    Some((format!("model.layers.{block}.{hf}.{suffix}"), back))
}

//! The families of models that are supported, and how they differ.

use super::config::Config;
use crate::error::{Error, ErrorKind};

/// A family of models.
#[derive(Clone, Copy, Debug)]
pub(super) enum Family {
    Decoder(DecoderKind),
    Encoder(EncoderKind),
}

/// A family of decoders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DecoderKind {
    Llama,
    Mistral,
    Qwen2,
    Qwen3,
    Gemma,
    Gemma2,
    Gemma3,
}

/// A family of encoders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EncoderKind {
    Bert,
    Roberta,
    DistilBert,
}

/// What `model_type` is called, the class that is built, and the family.
const FAMILIES: &[(&str, &[&str], Family)] = &[
    ("llama", &["LlamaForCausalLM"], Family::Decoder(DecoderKind::Llama)),
    ("mistral", &["MistralForCausalLM"], Family::Decoder(DecoderKind::Mistral)),
    ("qwen2", &["Qwen2ForCausalLM"], Family::Decoder(DecoderKind::Qwen2)),
    ("qwen3", &["Qwen3ForCausalLM"], Family::Decoder(DecoderKind::Qwen3)),
    ("gemma", &["GemmaForCausalLM"], Family::Decoder(DecoderKind::Gemma)),
    ("gemma2", &["Gemma2ForCausalLM"], Family::Decoder(DecoderKind::Gemma2)),
    ("gemma3_text", &["Gemma3ForCausalLM"], Family::Decoder(DecoderKind::Gemma3)),
    ("bert", &["BertModel", "BertForMaskedLM", "BertForSequenceClassification"], Family::Encoder(EncoderKind::Bert)),
    (
        "roberta",
        &["RobertaModel", "RobertaForMaskedLM", "RobertaForSequenceClassification"],
        Family::Encoder(EncoderKind::Roberta),
    ),
    (
        "xlm-roberta",
        &["XLMRobertaModel", "XLMRobertaForMaskedLM", "XLMRobertaForSequenceClassification"],
        Family::Encoder(EncoderKind::Roberta),
    ),
    (
        "distilbert",
        &["DistilBertModel", "DistilBertForMaskedLM", "DistilBertForSequenceClassification"],
        Family::Encoder(EncoderKind::DistilBert),
    ),
];

/// The family of a model. Where no class is named, its type decides.
pub(super) fn of(config: &Config) -> Result<Family, Error> {
    let (kind, class) = (config.model_type(), config.architecture());
    let found = FAMILIES.iter().find(|(name, classes, _)| {
        if class.is_empty() { *name == kind } else { classes.contains(&class) && (kind.is_empty() || *name == kind) }
    });
    found.map(|(_, _, family)| *family).ok_or_else(|| {
        let supported = FAMILIES.iter().flat_map(|(_, classes, _)| classes.iter().copied()).collect();
        ErrorKind::Family { model_type: short(kind), class: short(class), supported }.into()
    })
}

fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(60).collect()
}

impl DecoderKind {
    /// Whether the model is one of Gemma's: norms that store how far they are from one, and
    /// embeddings that are scaled.
    pub(super) fn is_gemma(self) -> bool {
        matches!(self, Self::Gemma | Self::Gemma2 | Self::Gemma3)
    }

    /// Whether what attention and products give is normalized too.
    pub(super) fn norms_results(self) -> bool {
        matches!(self, Self::Gemma2 | Self::Gemma3)
    }

    /// Whether queries and keys are normalized.
    pub(super) fn norms_heads(self) -> bool {
        matches!(self, Self::Qwen3 | Self::Gemma3)
    }
}

//! What a Hugging Face folder becomes as a GGUF file, and the way back.
//!
//! Keys and names are those that llama.cpp's converter writes, so that its engines find what
//! they look for. Nothing here reads files or values: JSON trees, names and shapes in,
//! metadata and the fate of every tensor out.

mod config;
mod fault;
mod names;
mod parameters;
mod pre;
mod rope;
mod special;
mod tokenizer;
mod transform;

use serde_json::Value as Json;

use crate::error::Error;
use crate::value::{Metadata, Value};
use config::{Config, fault};
use names::Heads;
use parameters::Parameters;
use tokenizer::Tokenizer;

pub use fault::FolderFault;
pub use transform::Transform;

/// The quantization version of ggml's block types.
const QUANTIZATION_VERSION: u32 = 2;

/// The JSON files of a folder.
#[derive(Clone, Copy, Debug)]
pub struct Folder<'a> {
    /// `config.json`.
    pub config: &'a Json,
    /// `tokenizer.json`.
    pub tokenizer: Option<&'a Json>,
    /// `tokenizer_config.json`.
    pub tokenizer_config: Option<&'a Json>,
    /// `special_tokens_map.json`, asked where the one above says nothing.
    pub special_tokens_map: Option<&'a Json>,
    /// `generation_config.json`.
    pub generation_config: Option<&'a Json>,
    /// `chat_template.jinja`, used where `tokenizer_config.json` has no template.
    pub chat_template: Option<&'a str>,
}

/// A tensor of the folder.
#[derive(Clone, Copy, Debug)]
pub struct SourceTensor<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its shape.
    pub shape: &'a [usize],
}

/// What the caller decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The model's name; none is written where there is none.
    pub name: Option<String>,
    /// `general.file_type`, a number of llama.cpp for the mix of types.
    pub file_type: u32,
    /// One of llama.cpp's names of pre-tokenizers, instead of what `tokenizer.json` says.
    pub pre_tokenizer: Option<String>,
}

/// A family of models that llama.cpp runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Family {
    /// Llama, SmolLM and Mistral.
    Llama,
    /// Qwen 2 and 2.5.
    Qwen2,
    /// Qwen 3.
    Qwen3,
    /// Gemma.
    Gemma,
    /// Gemma 2.
    Gemma2,
    /// Gemma 3.
    Gemma3,
}

impl Family {
    const ALL: [Self; 6] = [Self::Llama, Self::Qwen2, Self::Qwen3, Self::Gemma, Self::Gemma2, Self::Gemma3];

    /// `general.architecture`.
    pub const fn architecture(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Gemma => "gemma",
            Self::Gemma2 => "gemma2",
            Self::Gemma3 => "gemma3",
        }
    }

    /// The family of a `model_type`.
    pub fn of_model_type(model_type: &str) -> Option<Self> {
        match model_type {
            "llama" | "mistral" => Some(Self::Llama),
            "qwen2" => Some(Self::Qwen2),
            "qwen3" => Some(Self::Qwen3),
            "gemma" => Some(Self::Gemma),
            "gemma2" => Some(Self::Gemma2),
            "gemma3" | "gemma3_text" => Some(Self::Gemma3),
            _ => None,
        }
    }

    /// The family of an architecture.
    pub fn of_architecture(architecture: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.architecture() == architecture)
    }
}

/// What a folder is.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// A model of a known family.
    Known(Box<Description>),
    /// Some other model: its tensors can be written under their own names, and no engine will
    /// run them.
    Unknown {
        /// What `config.json` says.
        model_type: Option<String>,
    },
}

/// A folder as a GGUF file.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Description {
    /// The family.
    pub family: Family,
    /// Keys and values, in order.
    pub metadata: Metadata,
    /// One for each tensor of the folder, in its order.
    pub fates: Vec<Fate>,
    /// Tensors that the folder does not have.
    pub extra: Vec<ExtraTensor>,
    /// What the file cannot say, and engines will therefore not do. One line each.
    pub warnings: Vec<String>,
}

/// What becomes of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is written.
    Write {
        /// Its new name.
        name: String,
        /// What happens to its values.
        transform: Transform,
        /// Whether engines expect it as F32: norms, biases, and whatever has one dimension.
        float32: bool,
    },
    /// It is left out.
    Drop(DropReason),
}

/// Why a tensor is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DropReason {
    /// Engines compute it.
    Computed,
    /// It is the embedding over again.
    Tied,
    /// It belongs to images or sound.
    NotText,
}

impl DropReason {
    /// Half a sentence.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Computed => "engines compute it",
            Self::Tied => "it is the embedding over again",
            Self::NotText => "it does not belong to the text model",
        }
    }
}

/// A tensor that is computed, F32.
#[derive(Clone, Debug, PartialEq)]
pub struct ExtraTensor {
    /// Its name.
    pub name: String,
    /// Its values: it has one dimension.
    pub values: Vec<f32>,
}

/// Describes a folder as a GGUF file.
///
/// # Errors
///
/// [`ErrorKind::Folder`](crate::ErrorKind::Folder): keys that are missing or not understood, no
/// vocabulary, an unknown pre-tokenizer, tensors that are missing, have no place, or another
/// shape than the keys say.
pub fn describe(folder: &Folder<'_>, tensors: &[SourceTensor<'_>], settings: &Settings) -> Result<Outcome, Error> {
    let config = Config::of_model(folder.config);
    let outer = Config::new("config.json", folder.config);
    let model_type = outer.text("model_type");
    let Some(family) = model_type.and_then(Family::of_model_type) else {
        return Ok(Outcome::Unknown { model_type: model_type.map(str::to_owned) });
    };
    let parameters = Parameters::new(family, &config)?;
    let tied = config.flag("tie_word_embeddings").unwrap_or(false);
    let fates = fates(&parameters, tied, tensors)?;
    let vocab = check_shapes(&parameters, tensors, &fates)?;
    let mut metadata = Metadata::new();
    general(folder, family, settings, &mut metadata);
    parameters.describe(&config, (settings.file_type, vocab), &mut metadata)?;
    metadata.set("general.quantization_version", Value::U32(QUANTIZATION_VERSION));
    let tokenizer = Tokenizer::new(folder.tokenizer.ok_or_else(|| fault(FolderFault::NoVocabulary))?)?;
    special::space_prefix(folder, tokenizer.model, family, &mut metadata);
    tokenizer.describe(vocab, settings.pre_tokenizer.as_deref(), &mut metadata)?;
    special::describe(folder, &tokenizer, &outer, (family, vocab), &mut metadata);
    let factors = parameters.rope.factors(parameters.head_dim)?;
    let extra = factors.map(|values| ExtraTensor { name: "rope_freqs.weight".to_owned(), values });
    let warnings = parameters.warnings(&config)?;
    Ok(Outcome::Known(Box::new(Description { family, metadata, fates, extra: extra.into_iter().collect(), warnings })))
}

/// What a file of an unknown architecture says of itself.
pub fn unknown_metadata(settings: &Settings) -> Metadata {
    let mut metadata = Metadata::new();
    metadata.set("general.architecture", Value::Text("unknown".to_owned()));
    if let Some(name) = &settings.name {
        metadata.set("general.name", Value::Text(name.clone()));
    }
    metadata.set("general.file_type", Value::U32(settings.file_type));
    metadata.set("general.quantization_version", Value::U32(QUANTIZATION_VERSION));
    metadata
}

/// The Hugging Face name of a tensor of a GGUF file of a known family, and what happens to it
/// on the way back; none where there is no such name.
pub fn names_back(metadata: &Metadata, gguf: &str) -> Option<(String, Transform)> {
    let arch = metadata.text("general.architecture")?;
    let family = Family::of_architecture(arch)?;
    let count = |key: &str| usize::try_from(metadata.number(&format!("{arch}.attention.{key}"))?).ok();
    let queries = count("head_count")?;
    names::back(family, Heads { queries, keys: count("head_count_kv").unwrap_or(queries) }, gguf)
}

/// Architecture, kind, name, and how the model is best sampled from.
fn general(folder: &Folder<'_>, family: Family, settings: &Settings, metadata: &mut Metadata) {
    let text = |text: &str| Value::Text(text.to_owned());
    metadata.set("general.architecture", text(family.architecture()));
    metadata.set("general.type", text("model"));
    let generation = Config::new("generation_config.json", folder.generation_config.unwrap_or(&Json::Null));
    if let Some(k) = generation.get("top_k").and_then(Json::as_i64).and_then(|k| i32::try_from(k).ok()) {
        metadata.set("general.sampling.top_k", Value::I32(k));
    }
    let names =
        [("top_p", "top_p"), ("min_p", "min_p"), ("temperature", "temp"), ("repetition_penalty", "penalty_repeat")];
    for (key, gguf) in names {
        if let Some(x) = generation.get(key).and_then(Json::as_f64) {
            metadata.set(&format!("general.sampling.{gguf}"), Value::F32(x as f32));
        }
    }
    if let Some(name) = &settings.name {
        metadata.set("general.name", text(name));
    }
}

/// The fate of every tensor; all that the family needs are there.
fn fates(parameters: &Parameters<'_>, tied: bool, tensors: &[SourceTensor<'_>]) -> Result<Vec<Fate>, Error> {
    let (family, heads) = (parameters.family, parameters.heads());
    let architecture = family.architecture();
    let mut fates = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let fate = names::fate(family, heads, tied, tensor.name);
        let mut fate = fate.ok_or_else(|| fault(FolderFault::NoPlace { architecture }).of(tensor.name))?;
        if let Fate::Write { float32, .. } = &mut fate {
            *float32 |= tensor.shape.len() < 2;
        }
        fates.push(fate);
    }
    let mut written: Vec<&str> = fates.iter().filter_map(Fate::name).collect();
    written.sort_unstable();
    match family.required(parameters.blocks).find(|name| written.binary_search(&name.as_str()).is_err()) {
        Some(name) => {
            let hf = names::back(family, heads, &name).map_or(name, |(hf, _)| hf);
            Err(fault(FolderFault::NoTensor).of(&hf))
        }
        None => Ok(fates),
    }
}

impl Fate {
    /// The name under which it is written.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Write { name, .. } => Some(name),
            Self::Drop(_) => None,
        }
    }
}

/// Whether embeddings and heads have the shapes that the keys say; the number of tokens.
fn check_shapes(parameters: &Parameters<'_>, tensors: &[SourceTensor<'_>], fates: &[Fate]) -> Result<u32, Error> {
    let (hidden, heads, head_dim) = (parameters.hidden, parameters.heads(), parameters.head_dim as usize);
    let mut vocab = None;
    for (tensor, fate) in tensors.iter().zip(fates) {
        let Fate::Write { name, transform, .. } = fate else { continue };
        let wrong =
            |expected: String| fault(FolderFault::Shape { found: tensor.shape.to_vec(), expected }).of(tensor.name);
        let (stem, suffix) = name.rsplit_once('.').unwrap_or_default();
        let part = stem.rsplit('.').next();
        let rows = match part {
            Some("token_embd" | "output") => parameters.vocab.map(|rows| rows as usize),
            Some("attn_q") => Some(heads.queries.saturating_mul(head_dim)),
            Some("attn_k" | "attn_v") => Some(heads.keys.saturating_mul(head_dim)),
            _ => continue,
        };
        let right = |n: usize| rows.is_none_or(|rows| rows == n);
        let fits = match (suffix, tensor.shape) {
            ("weight", &[n, cols]) => right(n) && cols == hidden as usize,
            ("bias", &[n]) => right(n),
            _ => false,
        };
        if !fits {
            let rows = rows.map_or("one row a token".to_owned(), |rows| rows.to_string());
            return Err(wrong(if suffix == "bias" { rows } else { format!("{rows} by {hidden}") }));
        }
        let rows = tensor.shape.first().copied().unwrap_or_default();
        if !transform.fits(rows) {
            return Err(wrong("an even number of rows for each head".to_owned()));
        }
        if name == "token_embd.weight" {
            vocab = u32::try_from(rows).ok();
        }
    }
    // That there is an embedding was seen before.
    vocab.ok_or_else(|| fault(FolderFault::NoTensor).of("model.embed_tokens.weight"))
}

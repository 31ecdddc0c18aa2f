//! The tensors of a GGUF file to be written: names, types, metadata.

use std::fs;
use std::path::Path;

use niwaki_codes::{Bits, BlockType, Scheme, Symmetry};
use niwaki_container::{Kind, Layout};
use niwaki_gguf::Metadata;
use niwaki_gguf::hf::{self, ExtraTensor, Fate, Folder, Outcome, Transform, describe, unknown_metadata};
use niwaki_quant::Fit;
use niwaki_tensors::{Dtype, Source as Place, is_float};
use serde_json::Value as Json;

use super::{Settings, Settled, even_codes};
use crate::block_rows;
use crate::error::{Blame, Error, ErrorKind};
use crate::layers::Fewer;
use crate::recipe::ModelFacts;
use crate::source::{Opened, Source, SourceTensor, ggml_of};

/// Bytes that a JSON file of a folder may have: the largest vocabularies are a tenth of it.
const JSON_BYTES: u64 = 1 << 28;

/// A GGUF file to be written.
#[derive(Debug)]
pub(crate) struct GgufSeats {
    /// Keys and values, without those that depend on the plan.
    pub(crate) metadata: Metadata,
    /// One for each tensor of the source.
    pub(crate) seats: Vec<Seat>,
    /// Tensors that the source does not have.
    pub(crate) extra: Vec<ExtraTensor>,
    /// The width that elastic codes get.
    bits: Option<Bits>,
}

/// What becomes of a tensor of the source.
#[derive(Debug)]
pub(crate) enum Seat {
    Tensor {
        name: String,
        transform: Transform,
        /// Whether engines expect it as F32.
        float32: bool,
    },
    Dropped(&'static str),
}

impl GgufSeats {
    /// The file, and what it cannot say.
    pub(super) fn new(source: &Source<'_>, settings: &Settings) -> Result<(Self, Vec<String>), Error> {
        let bits = settings.bits;
        let own = |tensor: &SourceTensor<'_>| Seat::Tensor {
            name: tensor.name().to_owned(),
            transform: Transform::None,
            float32: false,
        };
        let seats = || source.tensors().iter().map(own).collect();
        let artifact = match source.opened() {
            Opened::Gguf(gguf) => {
                let metadata = gguf.metadata().clone();
                return Ok((Self { metadata, seats: seats(), extra: Vec::new(), bits }, Vec::new()));
            }
            Opened::Tensors(artifact) => Some(&**artifact),
            Opened::Onnx(_) => None,
        };
        let path = source.opened().path();
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let settings = hf::Settings { name, file_type: 0, pre_tokenizer: settings.pre_tokenizer.clone() };
        let folder = match artifact.map(|artifact| artifact.checkpoint().source()) {
            Some(Place::Folder { folder, .. }) if folder.join("config.json").is_file() => Some(folder),
            _ => None,
        };
        let why = match folder {
            None if artifact.is_none() => "it is an ONNX model".to_owned(),
            None if artifact.is_some_and(|artifact| artifact.kind() == Kind::Container) => {
                "it is one file without a `config.json`".to_owned()
            }
            None => "it is a bare checkpoint".to_owned(),
            Some(folder) => match described(folder, source, &settings)? {
                Outcome::Known(known) => {
                    let seat = |fate: &Fate| match fate {
                        Fate::Write { name, transform, float32 } => {
                            Seat::Tensor { name: name.clone(), transform: *transform, float32: *float32 }
                        }
                        Fate::Drop(reason) => Seat::Dropped(reason.reason()),
                    };
                    let seats = known.fates.iter().map(seat).collect();
                    return Ok((Self { metadata: known.metadata, seats, extra: known.extra, bits }, known.warnings));
                }
                Outcome::Unknown { model_type: Some(kind) } => format!("`{kind}` is no family that is known here"),
                Outcome::Unknown { model_type: None } => "its `config.json` has no `model_type`".to_owned(),
            },
        };
        let warning = format!("architecture \"unknown\": {why}; tensors keep their names, and no engine will run it");
        let metadata = unknown_metadata(&settings);
        Ok((Self { metadata, seats: seats(), extra: Vec::new(), bits }, vec![warning]))
    }

    /// A tensor whose weights stand for themselves.
    pub(super) fn plain(&self, index: usize, tensor: &SourceTensor<'_>) -> Result<Settled, Error> {
        match self.seats.get(index) {
            _ if tensor.coding().is_some() => Ok(Settled::new(Layout::plain(Dtype::F32, *tensor.shape()), None)),
            Some(Seat::Tensor { float32: true, .. }) if tensor.is_float() => {
                Ok(Settled::new(Layout::plain(Dtype::F32, *tensor.shape()), None))
            }
            _ => elements(tensor),
        }
    }

    /// What decides the types of llama.cpp's mixes.
    pub(crate) fn facts(&self) -> ModelFacts {
        let architecture = self.metadata.text("general.architecture").unwrap_or_default().to_owned();
        let number = |key: &str| self.metadata.number(&format!("{architecture}.{key}"));
        let queries = number("attention.head_count").unwrap_or(1);
        let keys = number("attention.head_count_kv").unwrap_or(queries);
        let name = |seat: &Seat| match seat {
            Seat::Tensor { name, .. } => Some(name.clone()),
            Seat::Dropped(_) => None,
        };
        ModelFacts {
            names: self.seats.iter().filter_map(name).collect(),
            queries_per_key: queries.checked_div(keys).unwrap_or(1),
            experts: number("expert_count").unwrap_or(0),
            architecture,
        }
    }

    pub(super) fn settle(
        &self,
        index: usize,
        tensor: &SourceTensor<'_>,
        rule: Option<(Scheme, Fit)>,
    ) -> Result<Settled, Error> {
        let plain = |dtype| Layout::plain(dtype, *tensor.shape());
        let float32 = matches!(self.seats.get(index), Some(Seat::Tensor { float32: true, .. }));
        if float32 && tensor.is_float() {
            let note = rule.map(|(scheme, _)| format!("engines expect F32, not {scheme}"));
            tensor.check_decodes()?;
            return Ok(Settled::new(plain(Dtype::F32), note));
        }
        if let Some((scheme, _)) = rule {
            let Scheme::Block(kind) = scheme else {
                let near = block_for(Some(scheme), None);
                let error = Error::from(ErrorKind::Held { format: "GGUF", scheme: scheme.to_string() });
                return Err(error.hinting(format!("the nearest that it holds is `{near}`")));
            };
            return blocks(tensor, kind);
        }
        if let Some(kind) = tensor.opaque() {
            let settled = Settled::new(plain(tensor.dtype()), Some(format!("{kind} is carried as it is")));
            return Ok(Settled { bytes: Some(tensor.stored_bytes()), ..settled });
        }
        let Some(coding) = tensor.coding() else { return elements(tensor) };
        if let Some(Scheme::Block(kind)) = tensor.likeness() {
            return blocks(tensor, kind);
        }
        let kind = block_for(tensor.likeness(), self.bits.or(tensor.width()));
        let row = tensor.shape().dims().last().copied().unwrap_or(0);
        if tensor.shape().dims().len() < 2 {
            return Ok(Settled::new(plain(Dtype::F32), Some(format!("{coding} is decoded: it is no matrix"))));
        }
        if !row.is_multiple_of(kind.elements()) {
            let note = format!("{coding} is decoded: {kind} blocks of {} do not fill rows of {row}", kind.elements());
            return Ok(Settled::new(plain(Dtype::F16), Some(note)));
        }
        let Settled { layout, .. } = blocks(tensor, kind)?;
        Ok(Settled::new(layout, Some(format!("{coding} becomes {kind}"))))
    }
}

/// The blocks that come nearest: those that hold the same numbers where there are any.
pub(super) fn block_for(scheme: Option<Scheme>, width: Option<Bits>) -> BlockType {
    let Some(scheme) = scheme else { return BlockType::Q8_0 };
    let even = even_codes(scheme, width);
    match (even.bits.get(), even.symmetry) {
        (..=4, Symmetry::Symmetric) => BlockType::Q4_0,
        (..=4, Symmetry::Affine) => BlockType::Q4_1,
        (5, Symmetry::Symmetric) => BlockType::Q5_0,
        (5, Symmetry::Affine) => BlockType::Q5_1,
        _ => BlockType::Q8_0,
    }
}

fn blocks(tensor: &SourceTensor<'_>, kind: BlockType) -> Result<Settled, Error> {
    // Blocks run along the last dimension, whatever the others are.
    let row = tensor.shape().dims().last().copied().unwrap_or(0);
    block_rows::check(kind, row, Fit::MinMax, false, true)?;
    let layout = Layout { scheme: Some(Scheme::Block(kind)), ..Layout::plain(tensor.dtype(), *tensor.shape()) };
    Ok(Settled::new(layout, None))
}

/// Elements that stand for themselves, in the nearest type that ggml has.
fn elements(tensor: &SourceTensor<'_>) -> Result<Settled, Error> {
    let has = tensor.dtype();
    let dtype = match has {
        _ if ggml_of(has).is_some() => has,
        Dtype::F8_E4M3 | Dtype::F8_E5M2 => Dtype::F16,
        other if is_float(other) && tensor.is_float() => Dtype::F32,
        other => {
            let error = Error::from(ErrorKind::Held { format: "GGUF", scheme: format!("elements of type {other}") });
            return Err(error);
        }
    };
    let note = (dtype != has).then(|| format!("{has} is stored as {dtype}"));
    Ok(Settled::new(Layout::plain(dtype, *tensor.shape()), note))
}

/// What a Hugging Face folder is.
fn described(folder: &Path, source: &Source<'_>, settings: &hf::Settings) -> Result<Outcome, Error> {
    let config = match source.fewer().and_then(Fewer::config) {
        Some(text) => serde_json::from_str(text).ok(),
        None => json(folder, "config.json")?,
    };
    let config = config.unwrap_or(Json::Null);
    let [tokenizer, tokenizer_config, special_tokens_map, generation_config] =
        ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json"]
            .map(|name| json(folder, name));
    let (tokenizer, tokenizer_config) = (tokenizer?, tokenizer_config?);
    let (special_tokens_map, generation_config) = (special_tokens_map?, generation_config?);
    let chat_template = text(&folder.join("chat_template.jinja"))?;
    let described = describe(
        &Folder {
            config: &config,
            tokenizer: tokenizer.as_ref(),
            tokenizer_config: tokenizer_config.as_ref(),
            special_tokens_map: special_tokens_map.as_ref(),
            generation_config: generation_config.as_ref(),
            chat_template: chat_template.as_deref(),
        },
        &source
            .tensors()
            .iter()
            .map(|t| hf::SourceTensor { name: t.name(), shape: t.shape().dims() })
            .collect::<Vec<_>>(),
        settings,
    );
    described.map_err(|e| Error::from(e).at(folder))
}

fn text(path: &Path) -> Result<Option<String>, Error> {
    let wrong = |what: String| Error::from(ErrorKind::Below { what, blame: Blame::Input }).at(path);
    match fs::metadata(path) {
        Err(_) => return Ok(None),
        Ok(meta) if !meta.is_file() => return Ok(None),
        Ok(meta) if meta.len() > JSON_BYTES => {
            let what = format!("`{}`: has {} bytes, at most {JSON_BYTES} are read", path.display(), meta.len());
            return Err(wrong(what));
        }
        Ok(_) => {}
    }
    fs::read_to_string(path).map(Some).map_err(|e| crate::target::file_error(&e, path))
}

fn json(folder: &Path, name: &str) -> Result<Option<Json>, Error> {
    let path = folder.join(name);
    let Some(text) = text(&path)? else { return Ok(None) };
    serde_json::from_str(&text).map(Some).map_err(|e| {
        let what = format!("`{}`: is no JSON: {e}", path.display());
        Error::from(ErrorKind::Below { what, blame: Blame::Input }).at(&path)
    })
}

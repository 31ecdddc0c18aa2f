//! Where a plan leads: what the output's format holds, and under which names.

mod gguf;
mod onnx;
mod tool;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use niwaki_codes::{Bits, BlockType, Grouping, Scheme, Symmetry, Uniform};
use niwaki_container::Layout;
pub use niwaki_foreign::Activations;
use niwaki_quant::Fit;

use crate::block_rows::even;
use crate::error::{Error, ErrorKind};
use crate::recipe::{ModelFacts, nearest};
use crate::source::{Names, Source, SourceTensor};

pub(crate) use gguf::{GgufSeats, Seat};
pub(crate) use onnx::{Form, Node, OnnxSeats, inputs_first, names};
pub(crate) use tool::{Tool, as_float};

/// A format that is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Safetensors: a container of ours, or, as an export, plain floats.
    #[default]
    Safetensors,
    /// GGUF.
    Gguf,
    /// compressed-tensors.
    CompressedTensors,
    /// GPTQ.
    Gptq,
    /// AWQ, version `gemm`.
    Awq,
    /// MLX: affine, mxfp4.
    Mlx,
    /// FP8 with scales of squares, as DeepSeek's.
    Fp8,
    /// ONNX: a graph with its weights.
    Onnx,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Safetensors,
        Self::Gguf,
        Self::CompressedTensors,
        Self::Gptq,
        Self::Awq,
        Self::Mlx,
        Self::Fp8,
        Self::Onnx,
    ];

    /// The word for it on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Safetensors => "safetensors",
            Self::Gguf => "gguf",
            Self::CompressedTensors => "compressed-tensors",
            Self::Gptq => "gptq",
            Self::Awq => "awq",
            Self::Mlx => "mlx",
            Self::Fp8 => "fp8",
            Self::Onnx => "onnx",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        /// Formats of models, which are no checkpoints any more.
        const OF_MODELS: [&str; 2] = ["image", "c"];
        if let Some(format) = Self::ALL.into_iter().find(|format| format.name() == text) {
            return Ok(format);
        }
        let written = format!("this version writes {}", Self::ALL.map(Self::name).join(", "));
        if OF_MODELS.contains(&text) {
            let error = Error::from(ErrorKind::Usage { what: format!("format `{text}` is one of models") });
            return Err(error.hinting(format!("`export MODEL.onnx --to {text} --stats STATS` writes it")));
        }
        let error = Error::from(ErrorKind::Usage { what: format!("no format `{text}`") });
        Err(match nearest(text, Self::ALL.map(Self::name)) {
            Some(near) => error.hinting(format!("did you mean `{near}`?")),
            None => error.hinting(written),
        })
    }
}

/// What the caller decides of an output in a format of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What compressed-tensors engines do with inputs.
    pub activations: Activations,
    /// The width that codes of elastic tensors get; the widest that they serve for none. They
    /// are encoded from their widest form.
    pub bits: Option<Bits>,
    /// llama.cpp's name of the pre-tokenizer, where `tokenizer.json` is none that is known.
    pub pre_tokenizer: Option<String>,
    /// The ONNX model whose graph carries the weights, where the checkpoint is none itself.
    pub model: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { activations: Activations::Float, bits: None, pre_tokenizer: None, model: None }
    }
}

/// Where a plan leads: by default to a container of ours.
#[derive(Debug, Default)]
pub struct Destination {
    format: Format,
    pub(crate) seats: Seats,
    warnings: Vec<String>,
}

#[derive(Debug, Default)]
pub(crate) enum Seats {
    #[default]
    Ours,
    Gguf(Box<GgufSeats>),
    Onnx(Box<OnnxSeats>),
    Tool(Tool),
}

/// What a tensor becomes at its destination.
pub(crate) struct Settled {
    pub(crate) layout: Layout,
    pub(crate) note: Option<String>,
    /// Bytes that it takes, where these are not those of the layout.
    pub(crate) bytes: Option<u64>,
}

impl Settled {
    pub(crate) fn new(layout: Layout, note: Option<String>) -> Self {
        Self { layout, note, bytes: None }
    }
}

impl Destination {
    /// The destination of a source in `format`.
    ///
    /// # Errors
    ///
    /// For GGUF those of [`niwaki_gguf::hf::describe`] and of reading the folder's files; for ONNX a
    /// checkpoint without a graph, or with none of the weights of the one given.
    pub fn new(format: Format, source: &Source<'_>, settings: &Settings) -> Result<Self, Error> {
        if settings.bits.is_some() {
            // Whether all elastic tensors serve it.
            source.opened().source(settings.bits, Names::Own)?;
        }
        let (seats, warnings) = match format {
            Format::Safetensors => (Seats::Ours, Vec::new()),
            Format::Gguf => {
                let (gguf, warnings) = GgufSeats::new(source, settings)?;
                (Seats::Gguf(Box::new(gguf)), warnings)
            }
            Format::Onnx => {
                let (onnx, warnings) = OnnxSeats::new(source, settings)?;
                (Seats::Onnx(Box::new(onnx)), warnings)
            }
            _ => {
                let tool = Tool { format, activations: settings.activations, bits: settings.bits };
                let what =
                    "the input has no `config.json`: the output's says what codes mean, and nothing of the model";
                let warning = (!source.has_config()).then(|| what.to_owned());
                (Seats::Tool(tool), warning.into_iter().collect())
            }
        };
        Ok(Self { format, seats, warnings })
    }

    /// The format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Whether codes of all rows are laid out together.
    pub(crate) fn lays_out_whole_tensors(&self) -> bool {
        matches!(self.format, Format::Gptq | Format::Awq | Format::Onnx)
    }

    /// Whether the output holds what no checkpoint does, too.
    pub(crate) fn carries_all(&self) -> bool {
        matches!(&self.seats, Seats::Onnx(onnx) if onnx.apart.is_none())
    }

    /// Weights of a row of the transpose of tensor number `index`, where its codes are codes of that.
    pub(crate) fn across(&self, index: usize, coded: bool) -> Option<usize> {
        match &self.seats {
            Seats::Onnx(onnx) => onnx.across(index, coded),
            _ => None,
        }
    }

    /// What of a model decides the types of llama.cpp's mixes; none where the format is not
    /// GGUF.
    pub fn facts(&self) -> Option<ModelFacts> {
        match &self.seats {
            Seats::Gguf(gguf) => Some(gguf.facts()),
            _ => None,
        }
    }

    /// What the output cannot say, and engines will therefore not do. One line each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The name of tensor number `index` in the output, or why it is not there.
    pub(crate) fn name<'n>(&'n self, index: usize, own: &'n str) -> Result<&'n str, &'static str> {
        match &self.seats {
            Seats::Gguf(gguf) => match gguf.seats.get(index) {
                Some(Seat::Tensor { name, .. }) => Ok(name),
                Some(Seat::Dropped(why)) => Err(why),
                None => Ok(own),
            },
            Seats::Onnx(onnx) if onnx.weight(index).is_none() && onnx.apart.is_some() => {
                Err("the model has no weight of that name")
            }
            _ => Ok(own),
        }
    }

    /// How tensor number `index` is stored: as the rule says, or without one as it is, as far
    /// as the format can.
    ///
    /// # Errors
    ///
    /// A scheme that the format does not hold, naming the nearest that it does.
    pub(crate) fn settle(
        &self,
        index: usize,
        tensor: &SourceTensor<'_>,
        rule: Option<(Scheme, Fit)>,
    ) -> Result<Settled, Error> {
        if tensor.shape().elements() == 0 {
            return self.plain(index, tensor);
        }
        let settled = match &self.seats {
            Seats::Ours => ours(tensor, rule),
            Seats::Gguf(gguf) => gguf.settle(index, tensor, rule),
            Seats::Onnx(onnx) => onnx.settle(index, tensor, rule),
            Seats::Tool(tool) => tool.settle(tensor, rule),
        };
        settled.map_err(|e| e.of(tensor.name()))
    }

    /// How tensor number `index` is stored where its weights stand for themselves.
    pub(crate) fn plain(&self, index: usize, tensor: &SourceTensor<'_>) -> Result<Settled, Error> {
        let settled = match &self.seats {
            Seats::Gguf(gguf) => gguf.plain(index, tensor),
            Seats::Onnx(onnx) => onnx.plain(index, tensor),
            _ => Ok(Settled::new(Layout::plain(tensor.dtype(), *tensor.shape()), None)),
        };
        settled.map_err(|e| e.of(tensor.name()))
    }
}

/// In a container of ours, codes on a grid of ours stay what they are.
fn ours(tensor: &SourceTensor<'_>, rule: Option<(Scheme, Fit)>) -> Result<Settled, Error> {
    let plain = Layout::plain(tensor.dtype(), *tensor.shape());
    if let Some((scheme, _)) = rule {
        return Ok(Settled::new(Layout { scheme: Some(scheme), ..plain }, None));
    }
    match (tensor.coding(), tensor.likeness()) {
        (None, _) => Ok(Settled::new(plain, None)),
        (Some(_), Some(scheme)) => Ok(Settled::new(Layout { scheme: Some(scheme), ..plain }, None)),
        (Some(coding), None) => {
            tensor.check_decodes()?;
            Ok(Settled::new(plain, Some(format!("{coding} is decoded to {}", plain.dtype))))
        }
    }
}

/// Evenly spaced codes that come nearest to those of a scheme, elastic ones at `width`.
pub(crate) fn even_codes(scheme: Scheme, width: Option<Bits>) -> Uniform {
    match scheme {
        Scheme::Uniform(uniform) => uniform,
        Scheme::Elastic(e) => Uniform::new(width.unwrap_or(Bits::MAX), Grouping::Group(e.group), Symmetry::Affine),
        Scheme::Block(kind) => even(kind),
        // Small floats have eight bits, or scales that eight bits make up for.
        _ => even(BlockType::Q8_0),
    }
}

//! Recognising checkpoints whose tensors are codes already.
//!
//! Names alone prove nothing: a plain model may have a tensor called `scales`. Each format is
//! recognised by a group of tensors that only it has, with their types and, where two formats
//! share the names, by their shapes. `quantization_config` in a `config.json` beside the file
//! settles what is left, and names formats that have no signature here.

use std::fmt;

use serde_json::Value;

use crate::checkpoint::Checkpoint;
use crate::dtype::Dtype;
use crate::view::TensorView;

/// A format of quantized checkpoints that others write.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ForeignKind {
    /// F8 weights with scale tensors: `*_scale_inv`, `weight_scale`.
    Fp8,
    /// `qweight`, `qzeros`, `scales`, `g_idx`.
    Gptq,
    /// `qweight`, `qzeros`, `scales`, packed along the outputs.
    Awq,
    /// `weight_packed`, `weight_scale`, `weight_shape`, or I8 weights with `weight_scale`.
    CompressedTensors,
    /// `absmax`, `quant_map`, `quant_state`, or I8 weights with `SCB`.
    BitsAndBytes,
    /// `*_blocks` and `*_scales`.
    Mxfp4,
    /// U32 weights with `scales` and `biases`.
    Mlx,
    /// Another method that `config.json` names.
    Named(String),
}

impl fmt::Display for ForeignKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fp8 => "FP8 with scales",
            Self::Gptq => "GPTQ",
            Self::Awq => "AWQ",
            Self::CompressedTensors => "compressed-tensors",
            Self::BitsAndBytes => "bitsandbytes",
            Self::Mxfp4 => "MXFP4",
            Self::Mlx => "MLX",
            Self::Named(method) => method,
        })
    }
}

/// What shows that a checkpoint is quantized already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    kind: ForeignKind,
    tensor: String,
}

impl Foreign {
    /// The format.
    pub fn kind(&self) -> &ForeignKind {
        &self.kind
    }

    /// The first tensor that shows it.
    pub fn tensor(&self) -> &str {
        &self.tensor
    }

    /// What can be done.
    pub fn hint(&self) -> &'static str {
        "begin with the checkpoint that it was made from"
    }
}

impl Checkpoint {
    /// The format of quantized weights that this checkpoint is in, if it is in one that
    /// others write. It only tells; nothing is refused here.
    pub fn foreign(&self) -> Option<Foreign> {
        let config = self.config();
        let method = config.as_ref().and_then(method);
        for view in self.tensors() {
            if let Some(kind) = recognise(self, &view, method) {
                return Some(Foreign { kind, tensor: view.name().to_owned() });
            }
        }
        let code = self.tensors().find(is_code).filter(|_| method.is_some())?;
        Some(Foreign { kind: named(method?), tensor: code.name().to_owned() })
    }
}

/// The method that a `config.json` names.
fn method(config: &Value) -> Option<&str> {
    let places = [config.get("quantization_config"), config.get("compression_config")];
    let text_config = config.get("text_config").and_then(|text| text.get("quantization_config"));
    let found = places.into_iter().chain([text_config]).flatten().next()?;
    found.get("quant_method").and_then(Value::as_str)
}

fn named(method: &str) -> ForeignKind {
    match method {
        "fp8" | "fbgemm_fp8" => ForeignKind::Fp8,
        "gptq" => ForeignKind::Gptq,
        "awq" => ForeignKind::Awq,
        "compressed-tensors" => ForeignKind::CompressedTensors,
        "bitsandbytes" => ForeignKind::BitsAndBytes,
        "mxfp4" => ForeignKind::Mxfp4,
        other => ForeignKind::Named(other.to_owned()),
    }
}

/// Whether a tensor looks like packed codes: whole numbers, or F8, in two or more dimensions.
fn is_code(view: &TensorView<'_>) -> bool {
    let narrow = matches!(view.dtype(), Dtype::U8 | Dtype::I8 | Dtype::I32 | Dtype::U32 | Dtype::F4);
    view.shape().len() >= 2 && (narrow || is_fp8(view.dtype()))
}

fn is_fp8(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F8_E4M3 | Dtype::F8_E5M2 | Dtype::F8_E4M3FNUZ | Dtype::F8_E5M2FNUZ)
}

/// The format that this tensor, with its siblings, shows.
fn recognise(checkpoint: &Checkpoint, view: &TensorView<'_>, method: Option<&str>) -> Option<ForeignKind> {
    let name = view.name();
    let beside = |suffix: &str| checkpoint.get(&format!("{name}{suffix}"));
    let (module, leaf) = name.rsplit_once('.').map_or(("", name), |(module, leaf)| (module, leaf));
    let dot = if module.is_empty() { "" } else { "." };
    let sibling = |leaf: &str| checkpoint.get(&format!("{module}{dot}{leaf}"));
    let has = |leaf: &str| sibling(leaf).is_some();
    match (view.dtype(), leaf) {
        (Dtype::I32, "qweight") if has("qzeros") || has("g_idx") => {
            packed(view, sibling("scales")?, has("g_idx"), method)
        }
        (Dtype::I32 | Dtype::U8, "weight_packed") if has("weight_scale") => Some(ForeignKind::CompressedTensors),
        (Dtype::U8, "bitmask") if has("compressed") => Some(ForeignKind::CompressedTensors),
        (Dtype::I8, "weight") if has("weight_scale") => Some(ForeignKind::CompressedTensors),
        (Dtype::I8, "weight") if has("SCB") => Some(ForeignKind::BitsAndBytes),
        (Dtype::U8 | Dtype::I8, _) if beside(".absmax").is_some() && beside(".quant_map").is_some() => {
            Some(ForeignKind::BitsAndBytes)
        }
        (Dtype::U8, _) if leaf.ends_with("_blocks") => {
            let scales = checkpoint.get(&format!("{}_scales", name.strip_suffix("_blocks")?))?;
            (scales.dtype() == Dtype::U8).then_some(ForeignKind::Mxfp4)
        }
        (Dtype::U32, "weight") if has("scales") => Some(ForeignKind::Mlx),
        (dtype, _) if is_fp8(dtype) => {
            let scaled = beside("_scale_inv").is_some() || beside("_scale").is_some() || has("scale_weight");
            let compressed = method == Some("compressed-tensors");
            scaled.then_some(if compressed { ForeignKind::CompressedTensors } else { ForeignKind::Fp8 })
        }
        _ => None,
    }
}

/// GPTQ and AWQ share their names. GPTQ packs along the inputs, so `qweight` has a column for
/// each of `scales`; AWQ packs eight outputs into one.
fn packed(view: &TensorView<'_>, scales: TensorView<'_>, g_idx: bool, method: Option<&str>) -> Option<ForeignKind> {
    let (&[_, columns], &[_, outputs]) = (view.shape(), scales.shape()) else { return None };
    match method {
        Some("awq") => Some(ForeignKind::Awq),
        Some("gptq") => Some(ForeignKind::Gptq),
        _ if g_idx || columns == outputs => Some(ForeignKind::Gptq),
        _ if columns.checked_mul(8) == Some(outputs) => Some(ForeignKind::Awq),
        _ => None,
    }
}

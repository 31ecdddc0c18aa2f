//! Formats of other tools over safetensors: compressed-tensors, GPTQ, AWQ, MLX, FP8.

use std::num::NonZeroU32;

use niwaki_codes::floats::{Blocks, Float};
use niwaki_codes::{Bits, BlockType, Grouping, Scheme, Symmetry, Uniform};
use niwaki_container::Layout;
use niwaki_foreign::{Activations, Format as Stored, Outline, Part, float_parts};
use niwaki_quant::Fit;
use niwaki_tensors::{Dtype, byte_len};

use super::{Format, Settled, even_codes};
use crate::error::{Error, ErrorKind};
use crate::source::SourceTensor;

/// The squares of DeepSeek's FP8.
const SIDE: NonZeroU32 = NonZeroU32::MIN.saturating_add(127);

/// Attempts at a scheme that a format holds, each nearer than the one before.
const ATTEMPTS: usize = 4;

/// One of the tools.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tool {
    pub(crate) format: Format,
    pub(crate) activations: Activations,
    /// The width that elastic codes get.
    pub(crate) bits: Option<Bits>,
}

impl Tool {
    /// How codes of a scheme are laid out.
    fn stored(self, scheme: &Uniform) -> Stored {
        match self.format {
            // The first version cannot store a zero point of 0.
            Format::Gptq if scheme.symmetry == Symmetry::Affine => Stored::GptqV2,
            Format::Gptq => Stored::Gptq,
            Format::Awq => Stored::Awq,
            Format::Mlx => Stored::Mlx,
            Format::Fp8 => Stored::Fp8,
            _ if self.activations == Activations::Dynamic && scheme.bits == Bits::MAX => Stored::IntQuantized,
            _ => Stored::PackQuantized,
        }
    }

    /// The type of scales: that of the model, as engines load them.
    fn scales(self, dtype: Dtype) -> Dtype {
        match dtype {
            Dtype::F32 if !matches!(self.format, Format::Gptq | Format::Awq) => Dtype::F32,
            Dtype::BF16 => Dtype::BF16,
            _ => Dtype::F16,
        }
    }

    /// How small floats are laid out; none where the tool has none such.
    fn stored_float(self, float: Float) -> Option<Stored> {
        match (self.format, float) {
            (Format::CompressedTensors, Float::Fp8E4m3(_)) => Some(Stored::FloatQuantized),
            (Format::CompressedTensors, Float::Nvfp4) => Some(Stored::Nvfp4Packed),
            (Format::CompressedTensors, Float::Mxfp4) => Some(Stored::Mxfp4Packed),
            (Format::Mlx, Float::Mxfp4) => Some(Stored::MlxMxfp4),
            (Format::Fp8, Float::Fp8E4m3(_)) => Some(Stored::Fp8),
            _ => None,
        }
    }

    /// The stored tensors of small floats.
    pub(crate) fn floats(self, tensor: &SourceTensor<'_>, float: Float) -> Result<(Stored, Vec<Part>), Error> {
        let stored = self.stored_float(float).ok_or_else(|| {
            let error = self.held(float.to_string());
            match self.format {
                Format::CompressedTensors | Format::Fp8 => error.hinting("the nearest that it holds is `fp8_e4m3/row`"),
                Format::Mlx => error.hinting("the nearest that it holds is `mxfp4`"),
                _ => error.hinting("the nearest that it holds is `int4/g128/sym`"),
            }
        })?;
        Ok((stored, float_parts(stored, tensor.name(), float, tensor.shape().dims())?))
    }

    /// The stored tensors of a weight.
    ///
    /// # Errors
    ///
    /// Those of [`Outline::new`].
    pub(crate) fn outline(self, tensor: &SourceTensor<'_>, scheme: &Uniform) -> Result<Outline, niwaki_foreign::Error> {
        let scales = self.scales(tensor.dtype());
        Outline::new(self.stored(scheme), tensor.name(), scheme, tensor.matrix(), scales)
    }

    pub(super) fn settle(self, tensor: &SourceTensor<'_>, rule: Option<(Scheme, Fit)>) -> Result<Settled, Error> {
        let settled = match rule {
            Some((scheme, _)) => self.ruled(tensor, scheme)?,
            None => self.carried(tensor)?,
        };
        let of_parts = |parts: &[Part]| -> u64 { parts.iter().map(part_bytes).sum() };
        let bytes = match settled.layout.scheme {
            Some(Scheme::Uniform(uniform)) => Some(of_parts(self.outline(tensor, &uniform)?.parts())),
            Some(scheme) => {
                as_float(scheme).map(|float| self.floats(tensor, float)).transpose()?.map(|(_, p)| of_parts(&p))
            }
            None => None,
        };
        Ok(Settled { bytes, ..settled })
    }

    /// What the format does not hold.
    fn held(self, what: impl Into<String>) -> Error {
        ErrorKind::Held { format: self.format.name(), scheme: what.into() }.into()
    }

    /// As a rule says.
    fn ruled(self, tensor: &SourceTensor<'_>, scheme: Scheme) -> Result<Settled, Error> {
        if !is_matrix(tensor) {
            let what = format!("codes of a tensor that is no matrix called `….weight` ({})", tensor.shape());
            return Err(self.held(what).hinting("keep it"));
        }
        self.check_activations(scheme)?;
        if matches!(self.format, Format::Gptq | Format::Awq) && is_embedding(tensor.name()) {
            return Err(self.held("codes of embeddings, which its engines do not read").hinting("keep it"));
        }
        match scheme {
            _ if as_float(scheme).is_some() => {}
            _ if self.format == Format::Fp8 => {
                return Err(self.held(scheme.to_string()).hinting("the nearest that it holds is `fp8_e4m3/row`"));
            }
            Scheme::Uniform(_) => {}
            other => {
                let error = self.held(other.to_string());
                return Err(match self.nearest(tensor, even_codes(other, None)) {
                    Some(near) => error.hinting(format!("the nearest that it holds is `{}`", Scheme::Uniform(near))),
                    None => error,
                });
            }
        }
        Ok(Settled::new(coded(tensor, scheme), None))
    }

    /// Without a rule: codes in the nearest scheme, whatever else as it is.
    fn carried(self, tensor: &SourceTensor<'_>) -> Result<Settled, Error> {
        let plain = Layout::plain(tensor.dtype(), *tensor.shape());
        let Some(coding) = tensor.coding() else { return Ok(Settled::new(plain, None)) };
        tensor.check_decodes()?;
        if self.format != Format::Mlx && is_embedding(tensor.name()) {
            let note = format!("{coding} is decoded to {}: {} is for linear layers", plain.dtype, self.format);
            return Ok(Settled::new(plain, Some(note)));
        }
        let matrix = is_matrix(tensor);
        if let Some(scheme) = tensor.likeness()
            && let Some(float) = as_float(scheme)
            && matrix
            && self.floats(tensor, float).is_ok()
        {
            return Ok(Settled::new(coded(tensor, scheme), None));
        }
        let near = match self.format {
            Format::Fp8 => Some(Scheme::Float(Float::Fp8E4m3(Blocks::Square(SIDE)))),
            _ => {
                // Codes on no grid of ours have scales of their own making: rows are as good as any.
                let row = Uniform::new(Bits::MAX, Grouping::Row, Symmetry::Symmetric);
                let near = tensor.scheme().map_or(row, |scheme| even_codes(scheme, self.bits.or(tensor.width())));
                self.nearest(tensor, near).map(Scheme::Uniform)
            }
        };
        let Some(near) = near.filter(|_| matrix && !tensor.masked()) else {
            return Ok(Settled::new(plain, Some(format!("{coding} is decoded to {}", plain.dtype))));
        };
        let text = near.to_string();
        let note = (text != coding).then(|| format!("{coding} becomes {text}"));
        Ok(Settled::new(coded(tensor, near), note))
    }

    /// Refuses codes under which no engine quantizes inputs as they come.
    fn check_activations(self, scheme: Scheme) -> Result<(), Error> {
        let eight = match scheme {
            Scheme::Uniform(uniform) => uniform.bits == Bits::MAX,
            Scheme::Float(float) => matches!(float, Float::Fp8E4m3(_)),
            _ => false,
        };
        if self.activations == Activations::Float || eight {
            return Ok(());
        }
        let what = format!("activations that are quantized as they come beside {scheme}");
        Err(self.held(what).hinting("`int8/row/sym` and `fp8_e4m3/row` go with `--activations dynamic`"))
    }

    /// The nearest scheme that the format holds.
    fn nearest(self, tensor: &SourceTensor<'_>, mut scheme: Uniform) -> Option<Uniform> {
        for _ in 0..ATTEMPTS {
            let Err(error) = self.outline(tensor, &scheme) else { return Some(scheme) };
            let niwaki_foreign::ErrorKind::Scheme { nearest: Some(near), .. } = error.kind() else { return None };
            match near.parse() {
                Ok(Scheme::Uniform(near)) => scheme = near,
                _ => return None,
            }
        }
        None
    }
}

/// Whether a tensor is an embedding by its name: most engines do not expect codes of such.
fn is_embedding(name: &str) -> bool {
    ["embed", "wte", "wpe"].iter().any(|part| name.contains(part))
}

/// Whether a tensor is a matrix, and the weight of a module.
fn is_matrix(tensor: &SourceTensor<'_>) -> bool {
    let name = tensor.name();
    tensor.shape().dims().len() == 2 && (name == "weight" || name.ends_with(".weight"))
}

/// A tensor as codes.
fn coded(tensor: &SourceTensor<'_>, scheme: Scheme) -> Layout {
    Layout { scheme: Some(scheme), ..Layout::plain(tensor.dtype(), *tensor.shape()) }
}

/// Bytes of one stored tensor.
fn part_bytes(part: &Part) -> u64 {
    byte_len(part.dtype, part.shape.iter().product()).unwrap_or(0) as u64
}

/// Small floats of a scheme; MXFP4 goes by the name of ggml's blocks.
pub(crate) fn as_float(scheme: Scheme) -> Option<Float> {
    match scheme {
        Scheme::Float(float) => Some(float),
        Scheme::Block(BlockType::Mxfp4) => Some(Float::Mxfp4),
        _ => None,
    }
}

//! The formats by name.

use std::fmt;

/// How the codes of one quantized tensor are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Format {
    /// compressed-tensors: integer codes in words of 32 bits.
    PackQuantized,
    /// compressed-tensors: one I8 a weight.
    IntQuantized,
    /// compressed-tensors: one F8_E4M3 a weight.
    FloatQuantized,
    /// compressed-tensors: FP4 in groups of 16 with FP8 scales under one F32 scale.
    Nvfp4Packed,
    /// compressed-tensors: FP4 in groups of 32 with powers of two as scales.
    Mxfp4Packed,
    /// GPTQ whose zero points are stored less one.
    Gptq,
    /// GPTQ whose zero points are stored as they are.
    GptqV2,
    /// AWQ, version `gemm`.
    Awq,
    /// MLX: integer codes with scales and biases.
    Mlx,
    /// MLX: FP4 in groups of 32 with powers of two as scales.
    MlxMxfp4,
    /// MLX: FP4 in groups of 16 with FP8 scales.
    MlxNvfp4,
    /// F8_E4M3 with scales of a tensor, a row or a square, as DeepSeek's.
    Fp8,
    /// FP4 blocks and scales in tensors of their own, as gpt-oss has them.
    Mxfp4,
    /// bitsandbytes: normal quantiles in flat blocks.
    Nf4,
}

impl Format {
    /// The tool or family it belongs to, as `config.json` or people name it.
    pub fn family(self) -> &'static str {
        match self {
            Self::PackQuantized | Self::IntQuantized | Self::FloatQuantized | Self::Nvfp4Packed | Self::Mxfp4Packed => {
                "compressed-tensors"
            }
            Self::Gptq | Self::GptqV2 => "gptq",
            Self::Awq => "awq",
            Self::Mlx | Self::MlxMxfp4 | Self::MlxNvfp4 => "mlx",
            Self::Fp8 => "fp8",
            Self::Mxfp4 => "mxfp4",
            Self::Nf4 => "bitsandbytes",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PackQuantized => "compressed-tensors pack-quantized",
            Self::IntQuantized => "compressed-tensors int-quantized",
            Self::FloatQuantized => "compressed-tensors float-quantized",
            Self::Nvfp4Packed => "compressed-tensors nvfp4-pack-quantized",
            Self::Mxfp4Packed => "compressed-tensors mxfp4-pack-quantized",
            Self::Gptq => "GPTQ",
            Self::GptqV2 => "GPTQ v2",
            Self::Awq => "AWQ",
            Self::Mlx => "MLX affine",
            Self::MlxMxfp4 => "MLX mxfp4",
            Self::MlxNvfp4 => "MLX nvfp4",
            Self::Fp8 => "FP8 with scales",
            Self::Mxfp4 => "MXFP4",
            Self::Nf4 => "bitsandbytes NF4",
        })
    }
}

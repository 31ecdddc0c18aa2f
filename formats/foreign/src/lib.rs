//! How other tools lay quantized tensors out in safetensors and `config.json`, in and out.
//!
//! [`Imported`] finds the quantized tensors of a checkpoint and decodes them as their format
//! defines it; where their grid is one of [`niwaki_codes::Uniform`], their codes are taken
//! over as they are. It knows bytes, names and shapes; it chooses nothing.
//!
//! | format | read | written |
//! |---|---|---|
//! | compressed-tensors pack-quantized, 2 to 8 bits | yes | yes |
//! | compressed-tensors int-quantized, float-quantized | yes | yes |
//! | compressed-tensors nvfp4- and mxfp4-pack-quantized | yes | yes |
//! | GPTQ v1 and v2, 2, 3, 4, 8 bits | yes, any order of inputs | yes |
//! | AWQ `gemm`, 4 bits | yes | yes |
//! | MLX affine, 2 to 6 and 8 bits; mxfp4 | yes | yes |
//! | MLX nvfp4 | yes | no |
//! | FP8 with scales of tensors, rows, squares | yes | yes |
//! | MXFP4 blocks | yes | yes |
//! | bitsandbytes NF4 | yes | no |
//!
//! Hostile bytes neither panic nor cost more than a small multiple of their length.

mod awq;
mod compressed;
mod config;
mod error;
mod export;
mod format;
mod fp4;
mod fp8;
mod gptq;
mod imported;
mod inventory;
mod mlx;
mod nf4;
mod parts;
mod table;
mod uniform;
mod weights;

pub use error::{Error, ErrorKind};
pub use export::{
    Activations, Coded, Module, ModuleScheme, Outline, Part, Piece, Pieces, float_parts, quantization_config,
};
pub use format::Format;
pub use imported::{Imported, Logical};
pub use inventory::{Inventory, Stored};
pub use uniform::UniformRows;

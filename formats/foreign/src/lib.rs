//! How other tools lay quantized tensors out in safetensors and `config.json`, in and out.
//!
//! [`Imported`] finds the quantized tensors of a checkpoint and decodes them as their format
//! defines it; where their grid is one of [`niwaki_codes::Uniform`], their codes are taken
//! over as they are. It knows bytes, names and shapes; it chooses nothing.
//!
//! ```
//! use niwaki_codes::{Scheme, simd::Level};
//! use niwaki_foreign::{Format, Imported};
//! use niwaki_tensors::{Checkpoint, Dtype, Limits, Overwrite, write_file};
//!
//! let path = std::env::temp_dir().join(format!("niwaki-doc-foreign-{}.safetensors", std::process::id()));
//! let scales: Vec<u8> = [0.5f32, 2.0].iter().flat_map(|x| x.to_le_bytes()).collect();
//! let parts = [
//!     ("up.weight", Dtype::I8, &[2, 2][..], &[1, 254, 3, 4][..]),
//!     ("up.weight_scale", Dtype::F32, &[2, 1][..], &scales[..]),
//! ];
//! write_file(&path, &parts, &[], Overwrite::Replace)?;
//! let config = serde_json::json!({"quantization_config": {
//!     "quant_method": "compressed-tensors", "format": "int-quantized", "ignore": [],
//!     "config_groups": {"group_0": {"targets": ["Linear"], "format": "int-quantized", "weights": {
//!         "type": "int", "num_bits": 8, "strategy": "channel", "symmetric": true, "dynamic": false, "group_size": null
//!     }}}
//! }});
//!
//! let checkpoint = Checkpoint::open(&path, &Limits::default())?;
//! let imported = Imported::open(&checkpoint, Some(&config))?.unwrap();
//! let [up] = imported.tensors() else { panic!("one quantized tensor") };
//! assert_eq!((up.name(), up.format()), ("up.weight", Format::IntQuantized));
//! assert_eq!(Scheme::Uniform(up.uniform().unwrap()), "int8/row/sym".parse()?); // its codes can be taken over
//! let mut weights = [0.0; 4];
//! up.decode_rows(Level::best(), 0..2, &mut weights)?;
//! assert_eq!(weights, [0.5, -1.0, 6.0, 8.0]);
//! # std::fs::remove_file(&path).unwrap();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
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

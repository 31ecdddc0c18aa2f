//! Packed integer codes, bit-planes, masks and positions: what the bytes of a compressed
//! tensor mean, and how to decode them.
//!
//! This crate describes; it never chooses. Codes are chosen by `niwaki-quant`,
//! masks by `niwaki-prune`.
//!
//! Feature levels: nothing (`core` only, no allocator), `alloc`, `std` (run-time
//! choice of SIMD kernels).
#![cfg_attr(not(feature = "std"), no_std)]

#[cfg(feature = "alloc")]
extern crate alloc;

mod bits;
mod block;
mod dequantize;
mod elastic;
mod error;
pub mod floats;
pub mod half_floats;
mod kernels;
pub mod mask;
mod pack;
pub mod patch;
pub mod planes;
pub mod positions;
pub mod product;
mod rows;
mod scheme;
mod shape;
pub mod simd;
mod sparse;
mod support;
mod uniform;

pub use bits::{Bits, Widths};
pub use block::{BlockGrid, BlockType, BlockView, pack_blocks, unpack_blocks};
pub use dequantize::dequantize_run;
pub use elastic::{ElasticParts, ElasticSizes, ElasticView, elastic_levels, elastic_values_body};
pub use error::{Error, ErrorKind};
pub use floats::{Float, FloatSizes, FloatView};
#[cfg(feature = "alloc")]
pub use mask::Mask;
pub use mask::MaskView;
pub use pack::{pack_row, packed_bytes, unpack_row};
pub use patch::PatchKind;
pub use positions::PositionsView;
pub use scheme::{Elastic, GroupSize, Grouping, ScaleType, Scheme, Symmetry, Uniform};
pub use shape::Shape;
pub use sparse::SparseView;
pub use support::Support;
pub use uniform::UniformView;

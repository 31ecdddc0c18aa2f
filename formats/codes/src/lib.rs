//! Packed integer codes, bit-planes, masks and positions: what the bytes of a compressed
//! tensor mean, and how to decode them.
//!
//! ```
//! use niwaki_codes::{Scheme, UniformView, simd::Level};
//!
//! // A row of four codes of 4 bits, the first in the low half of a byte, in groups of two with an F16 scale each.
//! let Scheme::Uniform(scheme) = "int4/g2/sym".parse()? else { unreachable!() };
//! let codes = [0x9F, 0xA7];
//! let scales = [0x00, 0x38, 0x00, 0x40]; // 0.5 and 2
//! let view = UniformView::new(scheme, 1, 4, &codes, &scales, None)?;
//! view.check()?;
//!
//! let mut row = [0.0; 4];
//! view.dequantize_rows(Level::best(), 0..1, &mut row)?;
//! assert_eq!(row, [3.5, 0.5, -2.0, 4.0]);
//! # Ok::<(), niwaki_codes::Error>(())
//! ```
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

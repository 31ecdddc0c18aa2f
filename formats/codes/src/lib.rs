//! Packed integer codes, bit-planes and masks: what the bytes of a compressed
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
mod error;
pub mod mask;
mod scheme;
mod shape;
pub mod simd;

pub use bits::{Bits, Widths};
pub use error::{Error, ErrorKind};
#[cfg(feature = "alloc")]
pub use mask::Mask;
pub use mask::MaskView;
pub use scheme::{Elastic, GroupSize, Grouping, ScaleType, Scheme, Symmetry, Uniform};
pub use shape::Shape;

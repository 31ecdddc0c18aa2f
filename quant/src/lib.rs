//! Chooses codes.
//!
//! Weights come in as bytes of a file ([`Values`]), packed codes and their parameters
//! go out into the caller's buffers ([`encode_rows`], [`encode_block_rows`]), with what that lost
//! ([`Distortion`]). Which grid a group takes is the [`Fit`].
//!
//! ```
//! use niwaki_codes::{Scheme, UniformView, simd::Level};
//! use niwaki_quant::{Fit, UniformOut, Values, encode_rows};
//!
//! let Scheme::Uniform(scheme) = "int4/g32/sym".parse()? else { unreachable!() };
//! let weights: Vec<u8> = (0..64).flat_map(|i| (i as f32 - 40.0).to_le_bytes()).collect();
//! let (mut codes, mut scales) = ([0; 32], [0; 4]);
//! let out = UniformOut { codes: &mut codes, scales: &mut scales, zeros: &mut [] };
//! let lost = encode_rows(Level::best(), &scheme, Fit::Lsq, Values::F32(&weights), 64, out)?;
//! assert!(lost.max_abs <= 2.6);
//!
//! let mut decoded = [0.0; 64];
//! UniformView::new(scheme, 1, 64, &codes, &scales, None)?.dequantize_rows(Level::best(), 0..1, &mut decoded)?;
//! assert_eq!(decoded[40], 0.0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The same weights give the same bytes on every machine and SIMD level. Zero is on
//! every uniform grid, so what a mask zeroed stays zero.
//!
//! Feature levels: nothing (`core` only, no allocator), `alloc` (`fold`, `signature`, `observe`, `search`, the space of
//! `forms`),
//! `std` (run-time choice of SIMD kernels, decibels, `wdr`, `search::predictor`).
#![cfg_attr(not(feature = "std"), no_std)]

#[cfg(feature = "alloc")]
extern crate alloc;

mod batch;
mod blocks;
mod distortion;
#[cfg(feature = "alloc")]
pub mod draws;
mod elastic;
mod encode;
mod error;
pub mod fake_quant;
mod fit;
mod floats;
#[cfg(feature = "alloc")]
pub mod fold;
pub mod forms;
pub mod frozen;
#[cfg(feature = "std")]
mod gptq;
mod grid;
mod groups;
mod kernels;
#[cfg(feature = "alloc")]
mod lines;
#[cfg(feature = "alloc")]
pub mod observe;
mod range;
mod round;
#[cfg(feature = "alloc")]
pub mod search;
#[cfg(feature = "alloc")]
pub mod signature;
mod solver;
mod trials;
mod values;
#[cfg(feature = "std")]
pub mod wdr;
#[cfg(feature = "alloc")]
mod weighted;

pub use blocks::encode_block_rows;
pub use distortion::Distortion;
pub use elastic::{ElasticDistortion, ElasticOut, encode_elastic_rows};
pub use encode::{UniformOut, encode_rows, encode_with, quantize_run};
pub use error::{Error, ErrorKind};
pub use fit::Fit;
pub use floats::{FloatOut, encode_float_rows, float_bytes, largest, nvfp4_factor};
#[cfg(feature = "std")]
pub use gptq::{encode_gptq_columns, encode_gptq_rows};
pub use grid::GridPoint;
pub use solver::{Solver, Step, Sums};
pub use values::Values;
#[cfg(feature = "alloc")]
pub use weighted::encode_weighted_rows;

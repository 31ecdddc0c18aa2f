//! The device image: quantized weights and the order in which they are used, flat, to be read in
//! place from flash.
//!
//! ```text
//! header | steps, 64 bytes each | tensors, 32 bytes each | widths, 32 bytes each | codes and numbers of rows
//! ```
//!
//! ```
//! use niwaki_image::{Area, Draft, Image, Place, Step, Times, Window, Work};
//!
//! // The mean of four values: one step, which takes 2x2 codes and leaves one.
//! let (given, made) = (Area { at: 0, shape: [2, 2, 1] }, Area { at: 4, shape: [1, 1, 1] });
//! let window = Window { kernel: [2, 2], stride: [2, 2], dilation: [1, 1], before: [0, 0] };
//! let work = Work::AveragePool { window, times: Times { multiplier: 1 << 30, shift: 32 } };
//! let step = Step { input: given, input_zero: 0, output: made, output_zero: 0, low: -128, high: 127, work };
//! let place = |area| Place { area, zero: 0, scale: 0.5 };
//! let draft = Draft { arena: 5, input: place(given), output: place(made), steps: vec![step], tensors: vec![],
//!     widths: vec![] };
//!
//! let bytes = draft.write()?;
//! let image = Image::parse(&bytes)?;
//! assert_eq!((image.arena(), image.steps().count()), (5, 1));
//! assert!(Image::parse(&bytes[..100]).is_err());
//! # Ok::<(), niwaki_image::Error>(())
//! ```
//!
//! [`Image::parse`] checks everything once: lengths, places in the arena, sums that could overflow. It
//! takes time proportional to the length of the image. What it accepts, `niwaki-micro` runs without
//! another check that could fail, but for an arena that is too small.
//!
//! No allocator, no unsafe code, no path that panics; `FORMAT.md` of `niwaki-container`, *Device images*, is the layout.
//!
//! Feature levels: nothing (reading), `alloc` (writing), `std`.
#![cfg_attr(not(feature = "std"), no_std)]
#![forbid(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;

mod check;
mod checksum;
mod error;
mod fields;
mod image;
mod layer;
mod step;
mod tensor;
#[cfg(feature = "alloc")]
mod write;

pub use error::{Error, ErrorKind, Spot};
pub use image::{Image, Place};
pub use step::{Area, Onto, Step, Times, Window, Work};
pub use tensor::{Kind, Row, Tensor};
#[cfg(feature = "alloc")]
pub use write::{Draft, DraftTensor, seal};

/// The largest factor of what is added or rescaled, with 16 bits after the point: 64 steps of the output in one of its own.
pub const MOST_TIMES: i32 = 1 << 22;

/// The largest entry of a table of exponentials, and its first.
pub const ONE: u32 = 1 << 20;

/// The most values that a softmax may have: their sum stays below `2^32`.
pub const MOST_CLASSES: u64 = 1 << 11;

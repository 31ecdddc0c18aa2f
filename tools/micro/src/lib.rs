//! Runs device images in integers.
//!
//! ```
//! fn classify(bytes: &[u8], pixels: &[i8]) -> Option<usize> {
//!     let image = niwaki_micro::Image::parse(bytes).ok()?; // once
//!     let mut arena = [0i8; 16 * 1024];
//!     let scores = niwaki_micro::run(&image, pixels, &mut arena).ok()?;
//!     niwaki_micro::largest(scores)
//! }
//!
//! // `niwaki export MODEL.onnx --to image` makes such bytes. These: the largest of each channel of 1x2 pixels.
//! # use niwaki_image::{Area, Draft, Place, Step, Window, Work};
//! # let (given, made) = (Area { at: 0, shape: [1, 2, 3] }, Area { at: 6, shape: [1, 1, 3] });
//! # let window = Window { kernel: [1, 2], stride: [1, 1], dilation: [1, 1], before: [0, 0] };
//! # let step = Step { input: given, input_zero: 0, output: made, output_zero: 0, low: -128, high: 127,
//! #                   work: Work::MaxPool(window) };
//! # let place = |area| Place { area, zero: 0, scale: 1.0 };
//! # let draft = Draft { arena: 9, input: place(given), output: place(made), steps: vec![step], tensors: vec![], widths: vec![] };
//! # let bytes = draft.write().unwrap();
//! assert_eq!(classify(&bytes, &[1, 9, 3, 4, 5, 8]), Some(1)); // 4, 9, 8
//! ```
//!
//! All that is stored is codes of 8 bits; sums have 32. The same image gives the same codes on every machine: there are no
//! floats. The C runtime in `c/` is the same arithmetic, and is compared with this crate bit for bit.
//!
//! # Arithmetic
//!
//! ```text
//! times(x, m, s)    (x m + 2^(s-1)) >> s, in 64 bits: halves go up                     31 <= s <= 62
//! convolution       q = clamp(zero + times(bias + Σ w x, m, s))
//! onto codes a      q = clamp(zero + ((times16(bias + Σ w x, m, s) + (a - za) ma + 2^15) >> 16))
//!                   where times16 keeps 16 more bits: shift s - 16, held within ±2^30
//! add, rescale      q = clamp(zero + (((x - zx) mx [+ (a - za) ma] + 2^15) >> 16))
//! mean              q = clamp(zero + times(Σ (x - zx), m, s))
//! softmax           q = clamp((256 e + Σ e / 2) / Σ e - 128), e of the table at max - x; divisions round down
//! ```
//!
//! `w` is a code of a weight with its sign; of elastic codes of `b` bits it is the odd number `2 q + 1 - 2^b`. Weights that
//! a sparse tensor leaves out are 0. `>>` rounds towards minus infinity. Under a window's places beside the image are zeros, that is codes `zx`; the largest
//! under a window is that of the image alone. `bias` holds `-zx Σ w` already.
//!
//! No allocator, no unsafe code, no path that panics: `tests/no_std_probe` looks for one in what the compiler made.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod c;
mod conv;
mod elementwise;
mod factor;
mod narrow;
mod pool;
mod run;
mod taps;

pub use niwaki_image::{Image, Place};
pub use run::{Error, largest, run};

//! Chooses masks, and blocks to remove: patterns, budgets, selection by magnitude, by search or with an update of what
//! stays, scores of layers, channels that an input needs.
//!
//! ```
//! use niwaki_codes::simd::Level;
//! use niwaki_prune::{Pattern, Ratio, magnitude_mask};
//!
//! let half = Pattern::Keep(Ratio::new(0.5)?);
//! let mask = magnitude_mask(Level::best(), &half, 2, 2, &[0.1, -3.0, 2.0, 0.0])?;
//! assert_eq!(mask.bytes(), [0b10, 0b01]);
//! # Ok::<(), niwaki_prune::Error>(())
//! ```
//!
//! How many weights are kept follows from the sizes alone, so a plan knows it before
//! any data moves. Which ones are kept depends on the weights alone: any thread count,
//! any order of pieces and any SIMD level give the same mask.
//!
//! This crate decides about slices that it is handed; it knows no files and starts no
//! threads.
//!
//! Feature levels: nothing (`core` only: patterns, marking by a known rule, and channels),
//! `alloc` (selection, of weights and of blocks), `std` (run-time choice of SIMD kernels, the influence
//! of blocks).
#![cfg_attr(not(feature = "std"), no_std)]

#[cfg(feature = "alloc")]
extern crate alloc;

#[cfg(feature = "alloc")]
mod block;
#[cfg(feature = "alloc")]
mod budget;
pub mod dynamic;
mod error;
#[cfg(feature = "alloc")]
pub mod jackpot;
pub mod layers;
mod magnitude;
#[cfg(feature = "alloc")]
mod overlap;
mod pattern;
mod rule;
#[cfg(feature = "alloc")]
mod select;
#[cfg(feature = "alloc")]
pub mod sparsegpt;

#[cfg(feature = "alloc")]
pub use block::Block;
#[cfg(feature = "alloc")]
pub use budget::{Budget, Budgets};
pub use error::{Error, ErrorKind};
#[cfg(feature = "alloc")]
pub use overlap::Overlap;
pub use pattern::{NofM, Pattern, Ratio};
pub use rule::{Rule, Tally};
#[cfg(feature = "alloc")]
pub use select::{Counts, Pass, Step, magnitude_mask, mask_of_count};

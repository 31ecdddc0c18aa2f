//! What computes: the processor alone, or a CUDA device beside it.
//!
//! ```text
//! compress    uniform codes by group or row, fits min_max and clip (clip by group)   -> device
//!             all else, and weights that no code holds                               -> processor
//! calibrate   ranges, histograms, Gram matrices                                      -> device
//!             the model itself, means, second moments                                -> processor
//! ```
//!
//! Both give the same bytes: codes are the same, and sums have one order.

#[cfg_attr(feature = "cuda", path = "device/cuda.rs")]
#[cfg_attr(not(feature = "cuda"), path = "device/none.rs")]
mod card;

pub use card::Device;

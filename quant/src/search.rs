//! Which widths the tensors of a network get under a budget: exactly, where losses add up ([`allocate`]); by a genetic
//! search ([`genetic`]) over what a predictor expects (`predictor`), where they do not.

pub mod allocate;
pub mod genetic;
#[cfg(feature = "std")]
mod kendall;
#[cfg(feature = "std")]
pub mod predictor;

#[cfg(feature = "std")]
pub use kendall::kendall;

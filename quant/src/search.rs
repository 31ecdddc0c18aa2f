//! Which widths the tensors of a network get under a budget.

pub mod allocate;
pub mod genetic;

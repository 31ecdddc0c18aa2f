//! The loops that take the time.

pub(crate) mod conv;
pub(crate) mod lanes;
pub(crate) mod math;
pub(crate) mod mm;
pub(crate) mod parts;
pub(crate) mod product;
mod vector;
pub(crate) mod weights;

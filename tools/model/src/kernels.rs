//! The loops that take the time.

pub(crate) mod conv;
pub(crate) mod lanes;
pub(crate) mod math;
pub(crate) mod mm;
pub(crate) mod parts;
mod vector;
pub(crate) mod weights;

//! Differences of weights, made small.

pub mod low_rank;

//! Signatures: files of differences of weights.

pub mod signing;

//! Robust weight signatures: small vectors of weights that change what a network does.

pub mod arrival;
pub mod combine;
pub mod extract;
pub mod low_rank;

//! Signatures: differences of weights as files.

pub mod peft;

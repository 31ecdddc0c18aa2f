//! Containers made from a seed: decoding, golden files, faults, slices, hostile bytes.
#![allow(clippy::unwrap_used, reason = "all of it is a test")]

mod decoding;
mod golden;
mod hostile;
mod made;
mod operands;
#[cfg(target_os = "linux")]
mod pages;
mod records;
mod slicing;
mod verifying;

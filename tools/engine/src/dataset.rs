//! Data that models are trained, measured and calibrated on.
//!
//! A dataset is one safetensors file. [`Dataset`] reads images with labels, [`Tokens`] text;
//! both by memory map, batch by batch. [`import()`] makes such files of what is found elsewhere,
//! [`corrupt()`] makes a worse copy of one, as CIFAR-10-C is of CIFAR-10.
//!
//! | key of the metadata | means |
//! |---|---|
//! | `scale`, `mean`, `std` | a model sees `(pixel * scale - mean) / std`; a list has one number, or one a channel |
//! | `layout` | `nchw` |
//! | `classes` | names, with commas between |
//! | `corruption`, `severity`, `seed` | what [`corrupt()`] did |
//! | `vocabulary` | how many different tokens there may be |
//!
//! Whatever is random is drawn by splitmix64 in streams of the seed and the item's number, and
//! what is computed takes no function of the system's mathematical library: the same input and
//! seed give the same bytes on every machine, for any number of threads.

mod augment;
pub mod corrupt;
mod draws;
mod elementary;
mod fault;
mod images;
pub mod import;
mod order;
mod preprocessing;
mod resize;
mod tokens;
mod write;

pub use augment::Augment;
pub use corrupt::{Corruption, Severity, corrupt};
pub(crate) use draws::normals;
pub use fault::DataFault;
pub use images::Dataset;
pub use import::{Imported, Request, import};
pub use order::shuffled;
pub use preprocessing::Preprocessing;
pub use resize::Filter;
pub use tokens::Tokens;

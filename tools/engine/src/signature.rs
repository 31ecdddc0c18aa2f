//! Robust weight signatures: small vectors of weights that are added to a checkpoint, and taken
//! off again bit for bit.
//!
//! ```text
//! init, standard, robust --extract--> signature --apply--> checkpoint + undo record
//!                                               --remove-> checkpoint as it was
//! ```
//!
//! A signature is a container of ours: its tensors are differences, under the names of the
//! tensors that they belong to, in whatever scheme; the metadata key `signature` says the rest
//! ([`About`]).

mod about;
mod adapter;
mod bound;
mod combine;
mod extract;
mod identity;
mod merge;
mod opened;
mod overlay;
pub mod peft;
mod recalibrate;
pub mod signing;
mod temperature;
mod units;
mod write;

pub use about::{About, Architecture, Method};
pub use adapter::{Exported, ExportedTensor, export_peft, import};
pub use combine::{How, combine, similarity};
pub use extract::{Checkpoints, Extracted, Extraction, LayerReport, Layers, Norms, extract};
pub(crate) use identity::{digests as tensor_digests, of_tensor as tensor_digest};
pub use merge::{Application, Applied, Listed, ListedPatch, TensorApplied, apply, list, remove};
pub use opened::{Patch, Signature, parse_alpha, path_and_alpha};
pub(crate) use overlay::Seals;
pub use overlay::overlaid;
pub use recalibrate::recalibrated;
pub use temperature::{Temperature, temperature};
pub(crate) use units::Units;
pub use write::Encoding;

//! The niwaki container: logical tensors over safetensors, digests, lineage.
//!
//! A container is an ordinary safetensors file. One logical tensor is stored in several
//! physical ones ([`Layout::parts`]), which stand in an order that makes every narrower
//! width a prefix of the file ([`Placement`]), and the metadata key `niwaki` says what
//! they mean ([`Meta`]). `FORMAT.md` beside this crate has it byte by byte.

mod artifact;
mod digest;
mod error;
mod meta;
mod order;
mod parts;
mod slice;
mod tensor;
mod verify;

pub use artifact::{Artifact, Kind};
pub use digest::{ContentHasher, Digest, PieceHash, checkpoint_digest, stored_digest, tensor_digest};
pub use error::{Error, ErrorKind};
pub use meta::{Lineage, META_KEY, Meta, TensorMeta, VERSION, canonical, parse_meta};
pub use niwaki_tensors::Blame;
pub use order::{Entry, Placement, Slot};
pub use parts::{Layout, Part, PartSpec, matrix};
pub use slice::{Sliced, slice};
pub use tensor::{Decoder, Tensor};
pub use verify::{DigestOf, Fault, FaultKind, Verification, verify};

//! The niwaki container: logical tensors over safetensors, digests, lineage.
//!
//! A container is an ordinary safetensors file. One logical tensor is stored in several
//! physical ones ([`Layout::parts`]), which stand in an order that makes every narrower
//! width a prefix of the file ([`Placement`]), and the metadata key `niwaki` says what
//! they mean ([`Meta`]). `FORMAT.md` beside this crate has it byte by byte.

mod digest;
mod error;
mod meta;
mod order;
mod parts;

pub use digest::{ContentHasher, Digest, PieceHash, checkpoint_digest, stored_digest, tensor_digest};
pub use error::{Blame, Error, ErrorKind};
pub use meta::{Lineage, META_KEY, Meta, TensorMeta, VERSION, canonical, parse_meta};
pub use order::{ALIGNMENT, Entry, PAD_PREFIX, Placement, Slot};
pub use parts::{Layout, Part, PartSpec, is_float, matrix};

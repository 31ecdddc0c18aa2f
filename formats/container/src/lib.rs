//! The niwaki container: logical tensors over safetensors, digests, lineage.
//!
//! A container is an ordinary safetensors file. One logical tensor is stored in several
//! physical ones ([`Layout::parts`]), which stand in an order that makes every narrower
//! width a prefix of the file ([`Placement`]), and the metadata key `niwaki` says what
//! they mean ([`Meta`]). `FORMAT.md` in this crate's package has it byte by byte.
//!
//! ```
//! use niwaki_codes::{Bits, simd::Level};
//! use niwaki_container::{Artifact, verify};
//! use niwaki_tensors::Limits;
//!
//! let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/example.safetensors");
//! let artifact = Artifact::open(golden.as_ref(), &Limits::default())?;
//! let mut row = [0.0; 4];
//! artifact.get("e").unwrap().dequantize_rows(Level::best(), Some(Bits::new(2)?), 0..1, &mut row)?;
//! assert_eq!(row, [-0.75, -0.25, 0.25, 0.75]);
//! assert!(verify(&artifact, 1).faults.is_empty());
//! # Ok::<(), niwaki_container::Error>(())
//! ```
//!
//! What it promises:
//!
//! - An open [`Artifact`] is complete: every part of every tensor is there, in the type and
//!   shape that its scheme asks for. Contents are checked by [`verify`], and decoding is safe
//!   without it.
//! - Hostile bytes neither panic nor cost more than a small multiple of the file's length.
//! - What a width needs is a prefix of the data, so opening at a width touches that prefix
//!   only, and [`slice()`] is a new header and one copy.
//! - No global state, no printing, no thread that the caller did not ask for.
//!
//! What it does not do: it does not choose codes, and it does not encode.

mod artifact;
mod correction;
mod digest;
mod error;
mod kept;
mod meta;
mod operand;
mod order;
mod overlay;
mod parts;
mod record;
mod slice;
mod tensor;
mod verify;

pub use artifact::{Artifact, Kind};
pub use correction::{apply_correction, encode_correction};
pub use digest::{ContentHasher, Digest, PieceHash, checkpoint_digest, stored_digest, tensor_digest};
pub use error::{Error, ErrorKind};
pub use meta::{Lineage, META_KEY, Meta, TensorMeta, VERSION, canonical, parse_meta};
pub use niwaki_tensors::Blame;
pub use operand::{Floats, Operand, RowScratch, RowSizes};
pub use order::{Entry, Placement, Slot};
pub use overlay::{OverlaidDecoder, Overlay};
pub use parts::{Kept, Layout, Part, PartSpec, ToldBy, matrix};
pub use record::{
    Patch, SIDECAR_KEY, Sidecar, State, Undo, chunks, encode_chunk, header_blob, patch_blob, sidecar_meta, undo_blob,
};
pub use slice::{Sliced, slice};
pub use tensor::{Decoder, Tensor};
pub use verify::{DigestOf, Fault, FaultKind, Verification, verify};

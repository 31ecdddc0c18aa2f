//! Safetensors checkpoints by memory map: reading, sharded indexes, a deterministic
//! streaming writer.
//!
//! ```
//! use niwaki_tensors::{Checkpoint, Dtype, Limits, Overwrite, write_file};
//!
//! let path = std::env::temp_dir().join(format!("niwaki-doc-{}.safetensors", std::process::id()));
//! let bytes: Vec<u8> = [1.0f32, -2.5].iter().flat_map(|x| x.to_le_bytes()).collect();
//! write_file(&path, &[("w", Dtype::F32, &[2], &bytes)], &[("format", "pt")], Overwrite::Replace)?;
//!
//! let checkpoint = Checkpoint::open(&path, &Limits::default())?;
//! let w = checkpoint.get("w").unwrap();
//! let mut values = [0.0; 2];
//! w.decode_f32(0..2, &mut values)?;
//! assert_eq!((w.shape(), values), (&[2][..], [1.0, -2.5]));
//! # std::fs::remove_file(&path).unwrap();
//! # Ok::<(), niwaki_tensors::Error>(())
//! ```
//!
//! What it promises:
//!
//! - The `safetensors` crate decides what a valid file is. What it refuses is refused here, in
//!   words that name tensor, type, shape and bytes. What it accepts is accepted here, unless
//!   a name or key stands twice, or one of the [`Limits`] is passed.
//! - Hostile bytes neither panic nor cost more than a small multiple of the header's length.
//! - Opening reads headers only, and nothing is copied: a [`TensorView`] borrows the map.
//! - Files are written to a sibling and renamed. Until that moment an old file of the name
//!   is untouched.
//!
//! What it does not do: it does not read PyTorch pickles, and does not know what quantized
//! tensors mean. [`Checkpoint::foreign`] recognises such checkpoints, so that nobody takes
//! their codes for weights.

mod backing;
mod checkpoint;
mod decode;
mod dtype;
mod error;
mod folder;
mod foreign;
mod header;
mod index;
mod json;
mod layout;
mod limits;
mod mapped;
mod mmap;
mod output;
mod partial;
mod placed;
mod shard;
mod view;
mod writer;

pub use checkpoint::{Checkpoint, Source, read_limited};
pub use decode::{as_f32, decode_f32};
pub use dtype::{ALL_DTYPES, Dtype, byte_len, decodes_to_f32, is_float, parse_dtype};
pub use error::{Access, Blame, Error, ErrorKind, Fault, OneLine};
pub use foreign::{Foreign, ForeignKind};
pub use header::{Header, HeaderEntry, parse_header, parse_header_alone};
pub use index::{INDEX_NAME, Index, parse_index, write_index};
pub use layout::{ALIGNMENT, Entry, Layout, PAD_PREFIX, RESERVED_PREFIX, is_pad, is_reserved, metadata_len};
pub use limits::{Limit, Limits};
pub use mapped::MappedFile;
pub use mmap::Advice;
pub use output::{Overwrite, check_output, copy_file, partial_path, write_small};
pub use partial::PartialFile;
pub use placed::{Place, PlacedFile, Places};
pub use shard::Shard;
pub use view::TensorView;
pub use writer::{Writer, write_file};

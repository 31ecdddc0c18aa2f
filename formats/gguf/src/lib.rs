//! GGUF files by memory map: reading, a deterministic streaming writer, and what a Hugging
//! Face folder becomes.
//!
//! ```
//! use niwaki_gguf::{Entry, GgmlType, Gguf, Layout, Metadata, Value, Writer};
//! use niwaki_tensors::{Limits, Overwrite};
//!
//! let path = std::env::temp_dir().join(format!("niwaki-doc-{}.gguf", std::process::id()));
//! let mut metadata = Metadata::new();
//! metadata.set("general.architecture", Value::Text("llama".to_owned()));
//! let entry = Entry { name: "w".to_owned(), dims: vec![1, 2], ggml_type: GgmlType::F32 };
//! let writer = Writer::create(&path, Layout::new(&metadata, &[entry])?, Overwrite::Replace)?;
//! writer.write_at(0, 0, &[0, 0, 128, 63, 0, 0, 0, 64])?;
//! writer.finish(false)?;
//!
//! let gguf = Gguf::open(&path, &Limits::default())?;
//! let w = gguf.get("w").unwrap();
//! assert_eq!((w.dims(), w.ggml_type()?, w.bytes()?.len()), (&[1, 2][..], GgmlType::F32, 8));
//! assert_eq!(gguf.metadata().text("general.architecture"), Some("llama"));
//! assert!(gguf.verify().is_empty());
//! # std::fs::remove_file(&path).unwrap();
//! # Ok::<(), niwaki_gguf::Error>(())
//! ```
//!
//! What it promises:
//!
//! - Dimensions stand as in PyTorch and safetensors: the last is a row. The file has them in
//!   the other order.
//! - Hostile bytes neither panic nor cost more than a small multiple of the file's length.
//! - Opening checks every rule that reading relies on; [`verify()`] lists the others, among them
//!   what llama.cpp refuses and we tolerate.
//! - The same metadata and tensors give the same bytes. Files are written to a sibling and
//!   renamed.
//!
//! What it does not do: it does not know what the blocks of a type mean.

mod error;
mod ggml;
mod gguf;
mod header;
pub mod hf;
mod layout;
mod scan;
mod value;
mod verify;
mod writer;

pub use error::{Error, ErrorKind};
pub use ggml::{GgmlType, is_retired};
pub use gguf::{Gguf, TensorView};
pub use header::{Header, KEY_BYTES, MOST_ALIGNMENT, MOST_DIMS, NAME_BYTES, TensorInfo, parse};
pub use layout::{Entry, Layout};
pub use value::{Array, Metadata, Texts, Value, ValueType};
pub use verify::{Fault, verify};
pub use writer::Writer;

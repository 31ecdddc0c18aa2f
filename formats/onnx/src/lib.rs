//! ONNX models by memory map: reading, external data, building, a deterministic streaming
//! writer.
//!
//! ```
//! use niwaki_onnx::build::{Dim, graph, initializer, model, node, value};
//! use niwaki_onnx::{DataType, Limits, Model, SaveOptions, save};
//!
//! let bytes: Vec<u8> = [1.0f32, 2.0].iter().flat_map(|x| x.to_le_bytes()).collect();
//! let graph = graph(
//!     "small",
//!     vec![node("Add", &["x", "w"], &["y"], vec![])],
//!     vec![value("x", DataType::Float, &[Dim::Named("n"), Dim::Known(2)])],
//!     vec![value("y", DataType::Float, &[Dim::Named("n"), Dim::Known(2)])],
//!     vec![initializer("w", DataType::Float, &[2], bytes)],
//! );
//! let path = std::env::temp_dir().join(format!("niwaki-doc-{}.onnx", std::process::id()));
//! save(&model(17, graph), &path, &SaveOptions { overwrite: true, ..SaveOptions::default() })?;
//!
//! let model = Model::open(&path, &Limits::default())?;
//! let w = model.tensor(&model.graph().initializer[0])?;
//! assert_eq!((model.opset(""), w.dtype, w.dims), (Some(17), DataType::Float, vec![2]));
//! # std::fs::remove_file(&path).unwrap();
//! # Ok::<(), niwaki_onnx::Error>(())
//! ```
//!
//! What it promises:
//!
//! - The whole schema is read and written, so what a model holds is kept. Fields that are newer
//!   than the schema are lost.
//! - Opening maps the file. A tensor in `raw_data` or in external data is a piece of a map;
//!   other tensors are converted to the same bytes.
//! - Hostile bytes do not panic, and messages nested deeper than 100 are refused. External data
//!   is read from files inside the model's folder only, links resolved.
//! - The same message gives the same bytes. Files are written to a sibling and renamed.
//!
//! What it does not do: it does not interpret graphs, and does not check that nodes fit each
//! other. Memory for the message is bounded by the file's length times the size of the smallest
//! message in memory, some hundred bytes for each two of a hostile file: lower
//! [`Limits::file_bytes`] for strangers' files.

pub mod attribute;
pub mod build;
mod data;
mod data_type;
pub mod edit;
mod error;
mod external;
mod limits;
mod mmap;
mod model;
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::too_many_lines, reason = "generated code")]
#[rustfmt::skip]
pub mod proto;
mod save;
mod sparse;
mod tensor;
mod typed;
mod wire;

pub use attribute::Attributes;
pub use bytes::Bytes;
pub use data::{parse_optional, parse_sequence, parse_tensor};
pub use data_type::{ALL_DATA_TYPES, DataType};
pub use error::{Access, Blame, Error, ErrorKind};
pub use limits::{Limits, MOST_BYTES};
pub use model::{Initializer, Model, ModelFile};
pub use save::{SaveOptions, save};
pub use tensor::{Tensor, strings, tensor};

//! Fuzz targets as plain functions over bytes, and their libFuzzer programs.
//!
//! One target for each parser of bytes that somebody else wrote. A target must not
//! panic, whatever the bytes, nor take more than a small multiple of their length; it
//! also checks what the parser promises about what it accepts, and says whether the bytes
//! were accepted: seeds named `bad-...` are not, all others are.
//!
//! `fuzz_targets/` holds the programs (feature `libfuzzer`), `corpus/` the seeds, and
//! `tests/replay.rs` runs seeds and mutations of them on a stable compiler.
//!
//! ```text
//! cargo test -p niwaki-fuzz
//! cargo check -p niwaki-fuzz --features libfuzzer --bins
//! ```

mod codes;
mod container;
mod dataset;
mod device;
mod foreign;
mod gguf;
mod gguf_folder;
mod hf_config;
mod masks;
pub mod mutate;
mod onnx;
mod script;
mod signature;
mod tensors;
mod text;
mod training;

pub use codes::{block_view, elastic_view, float_view, mask_view, positions_view, sparse_view, uniform_view};
pub use container::container_meta;
pub use dataset::{dataset_file, idx_file, picture_file};
pub use device::device_image;
pub use foreign::foreign_checkpoint;
pub use gguf::gguf_header;
pub use gguf_folder::gguf_folder;
pub use hf_config::hf_config;
pub use masks::{elastic_file, heads_file, imatrix_dat, mask_file, stats_file};
pub use onnx::onnx_model;
pub use signature::{correction_stream, signature_about, undo_record};
pub use tensors::{safetensors_header, safetensors_index};
pub use text::{public_key_pem, recipe_text, report_answer, scheme_text};
pub use training::training_state;

/// A function over bytes, under the name of its program and of its folder of seeds.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The name.
    pub name: &'static str,
    /// The function: whether the bytes are accepted.
    pub run: fn(&[u8]) -> bool,
}

/// All targets by name.
pub const TARGETS: &[Target] = &[
    Target { name: "block_view", run: block_view },
    Target { name: "container_meta", run: container_meta },
    Target { name: "correction_stream", run: correction_stream },
    Target { name: "dataset_file", run: dataset_file },
    Target { name: "device_image", run: device_image },
    Target { name: "elastic_file", run: elastic_file },
    Target { name: "elastic_view", run: elastic_view },
    Target { name: "float_view", run: float_view },
    Target { name: "foreign_checkpoint", run: foreign_checkpoint },
    Target { name: "gguf_folder", run: gguf_folder },
    Target { name: "gguf_header", run: gguf_header },
    Target { name: "heads_file", run: heads_file },
    Target { name: "hf_config", run: hf_config },
    Target { name: "idx_file", run: idx_file },
    Target { name: "imatrix_dat", run: imatrix_dat },
    Target { name: "mask_file", run: mask_file },
    Target { name: "mask_view", run: mask_view },
    Target { name: "onnx_model", run: onnx_model },
    Target { name: "picture_file", run: picture_file },
    Target { name: "positions_view", run: positions_view },
    Target { name: "public_key_pem", run: public_key_pem },
    Target { name: "recipe_text", run: recipe_text },
    Target { name: "report_answer", run: report_answer },
    Target { name: "safetensors_header", run: safetensors_header },
    Target { name: "safetensors_index", run: safetensors_index },
    Target { name: "scheme_text", run: scheme_text },
    Target { name: "signature_about", run: signature_about },
    Target { name: "sparse_view", run: sparse_view },
    Target { name: "stats_file", run: stats_file },
    Target { name: "training_state", run: training_state },
    Target { name: "undo_record", run: undo_record },
    Target { name: "uniform_view", run: uniform_view },
];

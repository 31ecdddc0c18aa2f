//! Checkpoints as ONNX models.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use niwaki_onnx::build::{graph, initializer, model};
use niwaki_onnx::proto::TensorProto;
use niwaki_onnx::{DataType, SaveOptions, save};
use niwaki_tensors::{Checkpoint, Dtype, Limits};

/// The tensors of a safetensors file of F32 and I64, as initializers in the order of the file.
///
/// # Panics
///
/// If it cannot be read, or has other types.
pub fn initializers(from: &str) -> Vec<TensorProto> {
    let checkpoint = Checkpoint::open(std::path::Path::new(from), &Limits::default()).unwrap();
    let tensor = |t: niwaki_tensors::TensorView<'_>| {
        let dtype = match t.dtype() {
            Dtype::F32 => DataType::Float,
            Dtype::I64 => DataType::Int64,
            other => panic!("`{}` is {other}", t.name()),
        };
        initializer(t.name(), dtype, t.shape(), t.bytes().to_vec())
    };
    checkpoint.tensors().map(tensor).collect()
}

/// Writes a model that is nothing but these initializers; those of `external` bytes and more go to
/// a file beside it.
///
/// # Panics
///
/// If it cannot be written.
pub fn write_onnx(to: &str, initializers: Vec<TensorProto>, external: Option<u64>) {
    let options = SaveOptions { overwrite: true, external, folder: None };
    save(&model(17, graph("weights", vec![], vec![], vec![], initializers)), to.as_ref(), &options).unwrap();
}

//! What is inside a file: names, types, shapes, sizes, schemes.

use std::path::Path;

use niwaki_container::{Artifact, Kind};
use niwaki_tensors::Limits;
use serde::Serialize;

use crate::error::Error;

/// What a file holds.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    /// `safetensors` for a plain checkpoint, `niwaki` for one of ours.
    pub kind: &'static str,
    /// Weights of all tensors.
    pub parameters: u64,
    /// Bytes of all tensors as stored.
    pub bytes: u64,
    /// Multiply-accumulates for one example; models only.
    pub macs: Option<u64>,
    /// The tensors in order.
    pub tensors: Vec<TensorInspection>,
}

/// One logical tensor.
#[derive(Clone, Debug, Serialize)]
pub struct TensorInspection {
    /// Its name.
    pub name: String,
    /// Element type of the source.
    pub dtype: String,
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// Bytes as stored.
    pub bytes: u64,
    /// Scheme of its codes; none for weights in the source's type.
    pub scheme: Option<String>,
    /// Whether only some of its weights are stored.
    pub masked: bool,
    /// Widths that can be read of elastic codes.
    pub widths: Vec<u32>,
}

/// Looks into the file, or folder of shards, at `path`.
///
/// # Errors
///
/// Those of opening it.
pub fn inspect(path: &Path) -> Result<Inspection, Error> {
    let artifact = Artifact::open(path, &Limits::default())?;
    let tensors: Vec<_> = artifact
        .tensors()
        .map(|t| TensorInspection {
            name: t.name().to_owned(),
            dtype: t.dtype().to_string(),
            shape: t.shape().dims().to_vec(),
            bytes: t.bytes(),
            scheme: t.scheme().map(|s| s.to_string()),
            masked: t.masked(),
            widths: t.widths().into_iter().flat_map(|w| w.iter()).map(|bits| bits.get()).collect(),
        })
        .collect();
    Ok(Inspection {
        kind: match artifact.kind() {
            Kind::Container => "niwaki",
            Kind::Plain => "safetensors",
        },
        parameters: artifact.tensors().map(|t| t.shape().elements() as u64).sum(),
        bytes: tensors.iter().map(|t| t.bytes).sum(),
        macs: None,
        tensors,
    })
}

//! What is inside a file: names, types, shapes, sizes, schemes.

mod model;

use niwaki_container::{Artifact, Kind};
use serde::Serialize;

use crate::error::Error;
use crate::source::{Names, Opened, Origin, Source};
use model::Macs;
pub(crate) use model::example;
pub use model::{Graph, Value};
pub use niwaki_model::dims_text;

/// What a file holds.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    /// `safetensors` for a plain checkpoint, `niwaki` for one of ours, `gguf`, `onnx`, or the
    /// tool whose layout it has.
    pub kind: String,
    /// Weights of all tensors.
    pub parameters: u64,
    /// Bytes of all tensors as stored.
    pub bytes: u64,
    /// Multiply-accumulates for one example; models only.
    pub macs: Option<u64>,
    /// The tensors in order.
    pub tensors: Vec<TensorInspection>,
    /// What the example is: one token, or inputs and their shapes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub macs_for: Option<String>,
    /// Why there is no number for a model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub macs_unknown: Option<String>,
    /// The graph of a model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub graph: Option<Graph>,
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

/// Looks into an open checkpoint.
///
/// Safetensors in the layout of a tool that is not read here are listed as they are stored. Models, ONNX
/// files and Hugging Face folders, have a graph; one that cannot be run is no error.
///
/// # Errors
///
/// Those of [`Opened::source`] for GGUF and ONNX.
pub fn inspect(opened: &Opened) -> Result<Inspection, Error> {
    let artifact = opened.artifact();
    let source = match (opened.source(None, Names::Own), artifact) {
        (Ok(source), _) => Some(source),
        (Err(error), None) => return Err(error),
        (Err(_), Some(_)) => None,
    };
    let tensors = tensors(artifact, source.as_ref());
    let foreign = || artifact.and_then(|a| a.checkpoint().foreign()).map(|foreign| foreign.kind().to_string());
    let kind = match source.as_ref().map(|source| source.origin().clone()) {
        Some(Origin::Plain) => "safetensors".to_owned(),
        Some(Origin::Niwaki) => "niwaki".to_owned(),
        Some(Origin::Gguf) => "gguf".to_owned(),
        Some(Origin::Onnx) => "onnx".to_owned(),
        Some(Origin::Foreign(family)) => family.to_owned(),
        None => foreign().unwrap_or_else(|| "safetensors".to_owned()),
    };
    let (graph, macs) = model(opened, source.as_ref());
    let (macs, macs_for, macs_unknown) = match macs {
        Some(Macs::Known(macs, example)) => (Some(macs), Some(example), None),
        Some(Macs::Unknown(why)) => (None, None, Some(why)),
        None => (None, None, None),
    };
    Ok(Inspection {
        kind,
        parameters: tensors.iter().map(|t| t.shape.iter().map(|dim| *dim as u64).product::<u64>()).sum(),
        bytes: tensors.iter().map(|t| t.bytes).sum(),
        macs,
        tensors,
        macs_for,
        macs_unknown,
        graph,
    })
}

/// The logical tensors; those of a layout that is not read as they are stored.
fn tensors(artifact: Option<&Artifact>, source: Option<&Source<'_>>) -> Vec<TensorInspection> {
    let ours = artifact.filter(|artifact| artifact.kind() == Kind::Container);
    match (ours, source) {
        (None, Some(source)) => source
            .tensors()
            .iter()
            .map(|t| TensorInspection {
                name: t.name().to_owned(),
                dtype: t.coding().unwrap_or_else(|| t.dtype().to_string()),
                shape: t.shape().dims().to_vec(),
                bytes: t.stored_bytes(),
                scheme: t.scheme().map(|s| s.to_string()),
                masked: false,
                widths: Vec::new(),
            })
            .collect(),
        _ => artifact
            .iter()
            .flat_map(|artifact| artifact.tensors())
            .map(|t| TensorInspection {
                name: t.name().to_owned(),
                dtype: t.dtype().to_string(),
                shape: t.shape().dims().to_vec(),
                bytes: t.bytes(),
                scheme: t.scheme().map(|s| s.to_string()),
                masked: t.masked(),
                widths: t.widths().into_iter().flat_map(|w| w.iter()).map(|bits| bits.get()).collect(),
            })
            .collect(),
    }
}

/// The graph of a model, and its multiplications; nothing for what is none.
fn model(opened: &Opened, source: Option<&Source<'_>>) -> (Option<Graph>, Option<Macs>) {
    match opened {
        Opened::Onnx(onnx) => {
            let (graph, macs) = model::of_onnx(onnx);
            (Some(graph), Some(macs))
        }
        Opened::Tensors(_) => match model::of_folder(opened.path(), source) {
            Some((graph, macs)) => (graph, Some(macs)),
            None => (None, None),
        },
        Opened::Gguf(_) => (None, None),
    }
}

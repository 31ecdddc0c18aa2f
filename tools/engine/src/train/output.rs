//! Where the weights of a training go: safetensors, or the model's own graph with them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use niwaki_model::{Dtype, Graph, Tensor};
use niwaki_onnx::proto::tensor_proto::DataLocation;
use niwaki_onnx::proto::{ModelProto, TensorProto};
use niwaki_onnx::{DataType, Limits, SaveOptions, build, save};
use niwaki_tensors::{Overwrite, write_file};

use super::inputs;
use crate::error::{Error, ErrorKind};
use crate::model::{Model, is_onnx};

/// Bytes from which on weights stand beside a model that had some there.
const LARGE: u64 = 1024;

/// Writes the weights of a model, as they are after a pass where one is named: into its graph where the output is named
/// `.onnx`, else as a checkpoint of all floats under their names, with `more` in its metadata.
pub(crate) fn write(
    model: &Model,
    epoch: Option<u64>,
    more: Option<(&str, &str)>,
    (path, overwrite): (&Path, Overwrite),
) -> Result<(), Error> {
    if is_onnx(path) {
        return Filled::of(model)?.save(path, overwrite);
    }
    let graph = model.graph();
    let mut all = Vec::new();
    for (value, tensor) in graph.weights().filter(|(_, tensor)| inputs::written(tensor)) {
        let tensor = inputs::shifted(model, value, tensor.clone(), -1.0);
        all.push((graph.name(value), tensor.shape().to_vec(), tensor.dtype(), tensor.data().to_bytes()));
    }
    let tensors: Vec<_> =
        all.iter().map(|(name, shape, dtype, bytes)| (*name, *dtype, shape.as_slice(), bytes.as_slice())).collect();
    let epoch = epoch.map(|epoch| epoch.to_string());
    let metadata: Vec<(&str, &str)> = [("format", "pt")]
        .into_iter()
        .chain(epoch.as_deref().map(|epoch| (inputs::EPOCH, epoch)))
        .chain(more)
        .collect();
    Ok(write_file(path, &tensors, &metadata, overwrite)?)
}

/// The floats of a graph that train, by name.
fn floats(graph: &Graph) -> BTreeMap<&str, &Tensor> {
    graph.weights().filter(|(_, t)| t.dtype() == Dtype::F32).map(|(value, t)| (graph.name(value), t)).collect()
}

/// Refuses a model that is in no ONNX file.
pub(crate) fn check_onnx(model: &Model) -> Result<(), Error> {
    match model.language() {
        None => Ok(()),
        Some(_) => {
            let what = "a Hugging Face folder: only the graph of an ONNX file can be written as ONNX".to_owned();
            Err(Error::from(ErrorKind::Unlike { what }).at(model.path()))
        }
    }
}

/// The file of a model with other weights.
pub(crate) struct Filled {
    pub(crate) proto: ModelProto,
    /// Bytes from which on weights stand beside it, where some do.
    external: Option<u64>,
    folder: Option<PathBuf>,
}

impl Filled {
    /// That of an ONNX model, with the weights of its graph.
    ///
    /// # Errors
    ///
    /// Weights that are no plain initializers; those of reading.
    pub(crate) fn of(model: &Model) -> Result<Self, Error> {
        let mut filled = Self::as_it_is(model.path())?;
        let mut weights = floats(model.graph());
        for initializer in filled.proto.graph.iter_mut().flat_map(|graph| &mut graph.initializer) {
            let Some(tensor) = weights.remove(initializer.name()) else { continue };
            let name = initializer.name().to_owned();
            *initializer = build::initializer(&name, DataType::Float, tensor.shape(), tensor.data().to_bytes());
        }
        if let Some((name, _)) = weights.pop_first() {
            let what = format!("weight `{name}`, which is no plain initializer, in an output that is ONNX");
            let error = Error::from(ErrorKind::Unsupported { what }).at(model.path());
            return Err(error.hinting("an output that ends in `.safetensors` holds it"));
        }
        Ok(filled)
    }

    /// The same, where the file is of an opset that has what is to be put in.
    ///
    /// # Errors
    ///
    /// Those of [`of`](Self::of); a Hugging Face folder; an opset before `needs`, which `what` needs.
    pub(crate) fn of_opset(model: &Model, needs: i64, what: &str) -> Result<Self, Error> {
        check_onnx(model)?;
        let filled = Self::of(model)?;
        let plain = |domain: &str| domain.is_empty() || domain == "ai.onnx";
        let import = filled.proto.opset_import.iter().find(|import| plain(import.domain()));
        let opset = import.map_or(0, |import| import.version());
        if opset >= needs {
            return Ok(filled);
        }
        let what = format!("a model of opset {opset}: {what} need {needs}");
        let e = Error::from(ErrorKind::Unlike { what }).at(model.path());
        Err(e.hinting("export the model with a later opset"))
    }

    /// That of an ONNX model, with its own weights.
    ///
    /// # Errors
    ///
    /// Those of reading.
    pub(crate) fn as_it_is(path: &Path) -> Result<Self, Error> {
        let proto = niwaki_onnx::Model::open(path, &Limits::default())?.into_proto();
        let outside = |tensor: &TensorProto| tensor.data_location() == DataLocation::External;
        let external = proto.graph.iter().flat_map(|graph| &graph.initializer).any(outside).then_some(LARGE);
        Ok(Self { proto, external, folder: path.parent().map(Path::to_owned) })
    }

    /// Writes it.
    ///
    /// # Errors
    ///
    /// Those of writing.
    pub(crate) fn save(self, path: &Path, overwrite: Overwrite) -> Result<(), Error> {
        let Self { proto, external, folder } = self;
        Ok(save(&proto, path, &SaveOptions { overwrite: overwrite == Overwrite::Replace, external, folder })?)
    }
}

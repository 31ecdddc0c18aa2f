//! Writing models: to a sibling, piece by piece, and renamed.

mod output;
mod pieces;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind};
use crate::external::External;
use crate::limits::{Limits, MOST_BYTES};
use crate::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto};
use crate::tensor::is_external;
use output::Output;
use pieces::Pieces;

/// How a model is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SaveOptions {
    /// Whether files that exist are replaced.
    pub overwrite: bool,
    /// Initializers of at least so many bytes go to `NAME.onnx.data` beside the model; none do
    /// where nothing stands here. They begin at multiples of 64 bytes, those of 64 KiB and more
    /// at multiples of 4096, so that they can be mapped.
    pub external: Option<u64>,
    /// The folder in which external data of the message lies. Such data is copied: into the
    /// model, or into the new file of external data.
    pub folder: Option<PathBuf>,
}

/// The file of external data of a model: `NAME.onnx.data`.
fn data_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().map_or_else(OsString::new, OsString::from);
    name.push(".data");
    path.with_file_name(name)
}

/// Writes a model. At most one initializer at a time is held in memory beside the message, and
/// the same message and options give the same bytes.
///
/// The files may be those that the message was read from: its maps keep the old ones.
///
/// # Errors
///
/// Files that exist and may not be replaced, a model of more than 2 GiB without its external
/// data, external data that is not found or belongs to no initializer of the graph, tensors
/// that cannot be read, and whatever the system refuses. Old files are then as they were; only
/// where the very last rename fails has the file of external data already been replaced.
pub fn save(model: &ModelProto, path: &Path, options: &SaveOptions) -> Result<(), Error> {
    let graph = model.graph.as_ref().ok_or(ErrorKind::NoGraph)?;
    inner_external(model, graph)?;
    let limits = Limits { file_bytes: u64::MAX, external_bytes: u64::MAX, ..Limits::default() };
    let external = External::new(options.folder.clone(), limits);
    let data = data_path(path);
    let location = data.file_name().and_then(|name| name.to_str());
    let pieces = Pieces::new(graph, &external, options.external, location.unwrap_or_default())?;
    let outside = pieces.outside();
    if outside && location.is_none() {
        return Err(Error::from(ErrorKind::FileNameUtf8).at(path));
    }
    let plan = pieces::frame(model, graph, &pieces);
    if plan.total > MOST_BYTES {
        return Err(Error::from(ErrorKind::TooLarge { has: plan.total }).at(path));
    }
    let mut file = Output::create(path, options.overwrite)?;
    let beside = match outside {
        true => {
            let mut beside = Output::create(&data, options.overwrite)?;
            pieces.write_outside(&mut beside)?;
            Some(beside)
        }
        false => None,
    };
    file.write(&plan.before)?;
    pieces.write_inside(&mut file)?;
    file.write(&plan.after)?;
    file.flush()?;
    if let Some(beside) = beside {
        beside.finish()?;
    }
    file.finish()
}

/// Refuses external data of anything but the graph's initializers: nothing else is copied.
fn inner_external(model: &ModelProto, graph: &GraphProto) -> Result<(), Error> {
    graph.node.iter().try_for_each(in_node)?;
    graph.sparse_initializer.iter().try_for_each(in_sparse)?;
    let functions = &model.functions;
    functions.iter().flat_map(|f| &f.node).try_for_each(in_node)?;
    functions.iter().flat_map(|f| &f.attribute_proto).try_for_each(in_attribute)?;
    let training = &model.training_info;
    training.iter().flat_map(|t| [&t.initialization, &t.algorithm]).flatten().try_for_each(in_graph)
}

fn in_graph(graph: &GraphProto) -> Result<(), Error> {
    graph.initializer.iter().try_for_each(in_tensor)?;
    graph.sparse_initializer.iter().try_for_each(in_sparse)?;
    graph.node.iter().try_for_each(in_node)
}

fn in_node(node: &NodeProto) -> Result<(), Error> {
    node.attribute.iter().try_for_each(in_attribute)
}

fn in_attribute(attribute: &AttributeProto) -> Result<(), Error> {
    attribute.t.iter().chain(&attribute.tensors).try_for_each(in_tensor)?;
    attribute.sparse_tensor.iter().chain(&attribute.sparse_tensors).try_for_each(in_sparse)?;
    attribute.g.iter().chain(&attribute.graphs).try_for_each(in_graph)
}

fn in_sparse(sparse: &SparseTensorProto) -> Result<(), Error> {
    sparse.values.iter().chain(&sparse.indices).try_for_each(in_tensor)
}

fn in_tensor(tensor: &TensorProto) -> Result<(), Error> {
    match is_external(tensor)? {
        true => Err(Error::from(ErrorKind::InnerExternal).of(tensor.name())),
        false => Ok(()),
    }
}

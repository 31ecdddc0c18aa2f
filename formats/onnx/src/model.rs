//! A model: the message, checked as far as reading its tensors asks for.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;
use prost::Message;

use crate::error::{Error, ErrorKind};
use crate::external::{External, Mapped};
use crate::limits::Limits;
use crate::proto::{GraphProto, ModelProto, SparseTensorProto, TensorProto, Version};
use crate::tensor::{Tensor, read};
use crate::{sparse, wire};

/// An ONNX model.
///
/// # Invariants
///
/// It has a graph, imports at least one operator set, and no two initializers share a name.
#[derive(Debug)]
pub struct Model {
    proto: ModelProto,
    file: Option<(PathBuf, Mapped)>,
    bytes: Bytes,
    limits: Limits,
    external: External,
}

/// One of the files that a model is read from.
#[derive(Clone, Debug)]
pub struct ModelFile {
    /// Where it is.
    pub path: PathBuf,
    /// All its bytes, mapped.
    pub bytes: Bytes,
    /// When it was last written, as the system said at opening.
    pub modified: Option<SystemTime>,
}

/// An initializer of the graph.
#[derive(Clone, Copy, Debug)]
pub enum Initializer<'a> {
    /// With all its elements.
    Dense(&'a TensorProto),
    /// With those that are not zero.
    Sparse(&'a SparseTensorProto),
}

impl<'a> Initializer<'a> {
    /// Its name.
    pub fn name(&self) -> &'a str {
        match self {
            Self::Dense(proto) => proto.name(),
            Self::Sparse(proto) => proto.values.as_ref().map_or("", |values| values.name()),
        }
    }
}

impl Model {
    /// Opens a model by memory map. External data is looked for in the file's folder, when its
    /// tensors are read.
    ///
    /// The file must stay as it is for as long as anything that was read from it lives: another
    /// process that writes to it changes the numbers, one that shortens it ends this process.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, is larger than [`Limits::file_bytes`], is no model, has no
    /// graph or operator set, or an initializer without a name of its own.
    pub fn open(path: &Path, limits: &Limits) -> Result<Self, Error> {
        let mapped = Mapped::open(path, "file_bytes", limits.file_bytes)?;
        Self::new(mapped.bytes.clone(), Some((path.to_owned(), mapped)), limits).map_err(|e| e.at(path))
    }

    /// Reads a model from bytes. It is in no folder, so external data is an error.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open), the file's apart.
    pub fn parse(bytes: Bytes, limits: &Limits) -> Result<Self, Error> {
        let has = bytes.len() as u64;
        if has > limits.file_bytes {
            return Err(ErrorKind::Limit { limit: "file_bytes", max: limits.file_bytes, has }.into());
        }
        Self::new(bytes, None, limits)
    }

    fn new(bytes: Bytes, file: Option<(PathBuf, Mapped)>, limits: &Limits) -> Result<Self, Error> {
        let proto = ModelProto::decode(bytes.clone()).map_err(|error| {
            let says = wire::one_line(&error);
            match wire::ir_version(&bytes) {
                Some(found) if found > Version::IrVersion as i64 => {
                    ErrorKind::NewerVersion { found, known: Version::IrVersion as i64, says }
                }
                _ => ErrorKind::Protobuf { message: "ModelProto", says },
            }
        })?;
        check(&proto)?;
        let folder = file.as_ref().map(|(path, _)| path.parent().unwrap_or(Path::new("")).to_owned());
        let external = External::new(folder, *limits);
        Ok(Self { proto, file, bytes, limits: *limits, external })
    }

    /// The message.
    pub fn proto(&self) -> &ModelProto {
        &self.proto
    }

    /// The message, to be changed. What points into the file goes on doing so.
    pub fn into_proto(self) -> ModelProto {
        self.proto
    }

    /// The file it was opened from.
    pub fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(|(path, _)| &**path)
    }

    /// The files that it was read from: its own, and those of external data of the tensors that
    /// were read so far, by path with links resolved.
    pub fn files(&self) -> Vec<ModelFile> {
        let all = self.file.iter().cloned().chain(self.external.files());
        all.map(|(path, map)| ModelFile { path, bytes: map.bytes, modified: map.modified }).collect()
    }

    /// Whether these files still have the lengths and the times of change that they had when
    /// they were opened.
    ///
    /// # Errors
    ///
    /// The first that has not.
    pub fn ensure_unchanged(&self) -> Result<(), Error> {
        let mut all = self.file.iter().cloned().chain(self.external.files());
        all.try_for_each(|(path, map)| map.ensure_unchanged(&path))
    }

    /// The bytes it was read from.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The graph.
    pub fn graph(&self) -> &GraphProto {
        const NONE: &GraphProto = &GraphProto {
            node: Vec::new(),
            name: None,
            initializer: Vec::new(),
            sparse_initializer: Vec::new(),
            doc_string: None,
            input: Vec::new(),
            output: Vec::new(),
            value_info: Vec::new(),
            quantization_annotation: Vec::new(),
            metadata_props: Vec::new(),
        };
        // Opening saw that there is one.
        self.proto.graph.as_ref().unwrap_or(NONE)
    }

    /// The graph, to be changed. What points into the file goes on doing so; names of initializers are to stay their own.
    pub fn graph_mut(&mut self) -> &mut GraphProto {
        self.proto.graph.get_or_insert_default()
    }

    /// The version of the operators of a domain. The domain of ONNX itself is spelled `` or
    /// `ai.onnx`.
    pub fn opset(&self, domain: &str) -> Option<i64> {
        let plain = |domain: &str| if domain == "ai.onnx" { String::new() } else { domain.to_owned() };
        let import = self.proto.opset_import.iter().find(|import| plain(import.domain()) == plain(domain));
        import.map(|import| import.version())
    }

    /// The initializers in the order of the file, those with all their elements first.
    pub fn initializers(&self) -> impl Iterator<Item = Initializer<'_>> {
        let graph = self.graph();
        let dense = graph.initializer.iter().map(Initializer::Dense);
        dense.chain(graph.sparse_initializer.iter().map(Initializer::Sparse))
    }

    /// Reads a tensor of this model: an initializer, or an attribute of a node. What lies in
    /// `raw_data` or outside is not copied.
    ///
    /// # Errors
    ///
    /// Those of [`tensor`](crate::tensor()).
    pub fn tensor(&self, proto: &TensorProto) -> Result<Tensor, Error> {
        read(proto, &self.external, &self.limits).map_err(|e| e.at_if(self.path()))
    }

    /// Reads a sparse tensor of this model, and writes it out with all its zeros.
    ///
    /// # Errors
    ///
    /// Those of [`tensor`](Self::tensor), positions outside the dimensions or out of order, and
    /// more bytes than [`Limits::expanded_bytes`].
    pub fn sparse_tensor(&self, proto: &SparseTensorProto) -> Result<Tensor, Error> {
        sparse::expand(proto, &self.external, &self.limits).map_err(|e| e.at_if(self.path()))
    }

    /// Reads an initializer of either kind.
    ///
    /// # Errors
    ///
    /// Those of [`tensor`](Self::tensor) and [`sparse_tensor`](Self::sparse_tensor).
    pub fn read(&self, initializer: Initializer<'_>) -> Result<Tensor, Error> {
        match initializer {
            Initializer::Dense(proto) => self.tensor(proto),
            Initializer::Sparse(proto) => self.sparse_tensor(proto),
        }
    }

    /// Where a tensor's bytes stand in the model's own file; nothing for those that were
    /// converted, or lie outside.
    pub fn file_range(&self, tensor: &Tensor) -> Option<Range<usize>> {
        let (file, part) = (self.bytes.as_ptr_range(), tensor.bytes.as_ptr_range());
        let begin = (part.start as usize).checked_sub(file.start as usize)?;
        let end = begin.checked_add(tensor.bytes.len()).filter(|end| *end <= self.bytes.len())?;
        (!tensor.bytes.is_empty()).then_some(begin..end)
    }
}

fn check(proto: &ModelProto) -> Result<(), Error> {
    let graph = proto.graph.as_ref().ok_or(ErrorKind::NoGraph)?;
    if proto.opset_import.is_empty() {
        return Err(ErrorKind::NoOpset.into());
    }
    let dense = graph.initializer.iter().map(Initializer::Dense);
    let mut names = BTreeSet::new();
    for (index, initializer) in dense.chain(graph.sparse_initializer.iter().map(Initializer::Sparse)).enumerate() {
        let name = initializer.name();
        if name.is_empty() {
            return Err(ErrorKind::NoName { index }.into());
        }
        if !names.insert(name) {
            return Err(Error::from(ErrorKind::Twice).of(name));
        }
    }
    Ok(())
}

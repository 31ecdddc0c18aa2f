//! What is read: a checkpoint of whatever format, as tensors that decode to floats.
//!
//! ```text
//! path --open--> Opened --source--> Source: SourceTensor, SourceTensor, …
//! ```
//!
//! A tensor may be stored as floats, as codes of ours, as blocks of ggml or in the layout of
//! another tool. Whoever encodes it anew asks for values; whoever can hold its codes as they
//! are asks for those.

mod codes;
mod decode;
mod made;
mod onnx;
mod tensor;

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::SystemTime;

use niwaki_codes::{Bits, BlockType, Shape};
use niwaki_container::{Artifact, Kind};
use niwaki_foreign::Imported;
use niwaki_gguf::{GgmlType, Gguf, hf};
use niwaki_tensors::{Dtype, Limits};

use crate::error::{Blame, Error, ErrorKind};
use crate::fold::Folded;
use crate::layers::Fewer;
use crate::signature::Seals;

pub(crate) use codes::Coded;
pub(crate) use made::{Numbers, Weights};
pub use onnx::Onnx;
pub(crate) use onnx::{of_onnx, to_onnx};
pub use tensor::SourceTensor;
pub(crate) use tensor::Storage;
use tensor::{Form, Watched};

/// A checkpoint that is open: every header read and checked.
#[derive(Debug)]
pub enum Opened {
    /// Safetensors: plain, ours, or of another tool.
    Tensors(Box<Artifact>),
    /// GGUF.
    Gguf(Box<Gguf>),
    /// ONNX: its initializers.
    Onnx(Box<Onnx>),
}

/// What kind of checkpoint it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Safetensors of plain tensors.
    Plain,
    /// A container of ours.
    Niwaki,
    /// GGUF.
    Gguf,
    /// Initializers of an ONNX model.
    Onnx,
    /// Quantized tensors in the layout of another tool, by its name.
    Foreign(&'static str),
}

/// By which names tensors of a GGUF file go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// Those of the file.
    Own,
    /// Those of Hugging Face, with rows and values as they are there, where the file is of a
    /// family that has such names.
    HuggingFace,
}

/// The tensors of a checkpoint.
#[derive(Debug)]
pub struct Source<'a> {
    opened: &'a Opened,
    origin: Origin,
    tensors: Vec<SourceTensor<'a>>,
    /// Tensors that mean nothing outside of the checkpoint's format.
    left_out: Vec<(&'a str, &'static str)>,
    /// Patches that it is seen through.
    seals: Seals,
    /// The model without some of its blocks that it is.
    fewer: Option<&'a Fewer>,
    /// The scales that are folded into its weights.
    folded: Option<&'a Folded>,
}

impl Opened {
    /// Opens a `.safetensors` file, an index, a folder that holds either, a GGUF file, or an
    /// ONNX model, whose initializers are its tensors.
    ///
    /// # Errors
    ///
    /// Those of [`Artifact::open`], [`Gguf::open`] and [`Onnx::open`].
    pub fn open(path: &Path, limits: &Limits) -> Result<Self, Error> {
        if is_gguf(path) {
            return Ok(Self::Gguf(Box::new(Gguf::open(path, limits)?)));
        }
        if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx")) {
            return Ok(Self::Onnx(Box::new(Onnx::open(path, limits)?)));
        }
        Ok(Self::Tensors(Box::new(Artifact::open(path, limits)?)))
    }

    /// The path that was opened.
    pub fn path(&self) -> &Path {
        match self {
            Self::Tensors(artifact) => artifact.checkpoint().path(),
            Self::Gguf(gguf) => gguf.path(),
            Self::Onnx(onnx) => onnx.path(),
        }
    }

    /// The safetensors checkpoint, where it is one.
    pub fn artifact(&self) -> Option<&Artifact> {
        match self {
            Self::Tensors(artifact) => Some(artifact),
            Self::Gguf(_) | Self::Onnx(_) => None,
        }
    }

    /// Length of each file, and when it was last written.
    pub(crate) fn files(&self) -> Vec<(u64, Option<SystemTime>)> {
        match self {
            Self::Tensors(artifact) => {
                artifact.checkpoint().shards().iter().map(|shard| (shard.file_bytes(), shard.modified())).collect()
            }
            Self::Gguf(gguf) => vec![(gguf.bytes().len() as u64, gguf.modified())],
            Self::Onnx(onnx) => onnx.stamps(),
        }
    }

    /// Bytes of all its files.
    pub fn file_bytes(&self) -> u64 {
        self.files().iter().map(|(bytes, _)| bytes).sum()
    }

    /// Its tensors; elastic ones are read at `bits`, by default at their widest.
    ///
    /// # Errors
    ///
    /// Layouts of other tools that contradict themselves or are not read here, a width that a
    /// tensor does not serve, and a width asked of a file without elastic tensors.
    pub fn source(&self, bits: Option<Bits>, names: Names) -> Result<Source<'_>, Error> {
        let (origin, tensors, left_out) = match self {
            Self::Tensors(artifact) => safetensors(artifact, bits)?,
            Self::Gguf(gguf) => {
                let (tensors, left_out) = blocks(gguf, names)?;
                (Origin::Gguf, tensors, left_out)
            }
            Self::Onnx(onnx) => (Origin::Onnx, initializers(onnx), onnx.left_out()),
        };
        if bits.is_some() && !tensors.iter().any(SourceTensor::is_elastic) {
            let what = "`--bits` chooses a width of elastic tensors; this file has none".to_owned();
            return Err(ErrorKind::Usage { what }.into());
        }
        Ok(Source { opened: self, origin, tensors, left_out, seals: Vec::new(), fewer: None, folded: None })
    }
}

/// Whether the file at `path` is GGUF by its name or its first bytes.
fn is_gguf(path: &Path) -> bool {
    let named = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf"));
    let begins = || {
        let mut magic = [0; 4];
        File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok_and(|()| magic == *b"GGUF")
    };
    path.is_file() && (named || begins())
}

impl<'a> Source<'a> {
    /// The checkpoint.
    pub fn opened(&self) -> &'a Opened {
        self.opened
    }

    /// The same checkpoint with other tensors, seen through the patches of those seals.
    pub(crate) fn with_tensors(&self, tensors: Vec<SourceTensor<'a>>, seals: Seals) -> Self {
        let (origin, left_out) = (self.origin.clone(), self.left_out.clone());
        Self { opened: self.opened, origin, tensors, left_out, seals, fewer: self.fewer, folded: self.folded }
    }

    /// The same checkpoint with fewer tensors: of a model without some of its blocks, as it would be in a file.
    pub(crate) fn fewer_tensors(self, opened: &'a Opened, tensors: Vec<SourceTensor<'a>>, fewer: &'a Fewer) -> Self {
        Self { opened, tensors, fewer: Some(fewer), ..self }
    }

    /// The model without some of its blocks that it is of.
    pub(crate) fn fewer(&self) -> Option<&'a Fewer> {
        self.fewer
    }

    /// The same checkpoint with scales folded into these of its tensors.
    pub(crate) fn folding(self, tensors: Vec<SourceTensor<'a>>, folded: &'a Folded) -> Self {
        Self { tensors, folded: Some(folded), ..self }
    }

    /// The scales that are folded into its weights.
    pub(crate) fn folded(&self) -> Option<&'a Folded> {
        self.folded
    }

    /// The patches that it is seen through.
    pub(crate) fn seals(&self) -> &Seals {
        &self.seals
    }

    /// Tensors that are computed from those of this checkpoint, and are none of it.
    pub(crate) fn of_made(&self, tensors: Vec<SourceTensor<'a>>) -> Self {
        Self { origin: Origin::Plain, tensors, left_out: Vec::new(), seals: Vec::new(), ..*self }
    }

    /// The tensor of this name.
    pub fn get(&self, name: &str) -> Option<&SourceTensor<'a>> {
        self.tensors.iter().find(|tensor| tensor.name() == name)
    }

    /// What kind of checkpoint it is.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Its tensors, in the order of the file.
    pub fn tensors(&self) -> &[SourceTensor<'a>] {
        &self.tensors
    }

    /// Tensors that mean nothing outside of the checkpoint's format, and why.
    pub fn left_out(&self) -> &[(&'a str, &'static str)] {
        &self.left_out
    }

    /// Whether a `config.json` stands beside its files.
    pub(crate) fn has_config(&self) -> bool {
        let folder = |artifact: &'a Artifact| artifact.checkpoint().shards().first()?.path().parent();
        self.opened.artifact().and_then(folder).is_some_and(|folder| folder.join("config.json").is_file())
    }

    /// Refuses a file that is a part of a model only.
    ///
    /// # Errors
    ///
    /// A GGUF file that says it is one of several.
    pub(crate) fn check_complete(&self) -> Result<(), Error> {
        let Opened::Gguf(gguf) = self.opened else { return Ok(()) };
        match gguf.metadata().number("split.count") {
            Some(parts) if parts > 1 => {
                let error =
                    Error::from(ErrorKind::Unsupported { what: format!("one of {parts} parts of a GGUF model") });
                Err(error.at(gguf.path()).hinting("`llama-gguf-split --merge` makes one file of them"))
            }
            _ => Ok(()),
        }
    }

    /// Texts of the files' own metadata.
    pub(crate) fn texts(&self) -> Vec<(String, String)> {
        if self.tensors.iter().any(SourceTensor::is_made) {
            return Vec::new();
        }
        let own = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        match self.opened {
            Opened::Tensors(artifact) if artifact.kind() == Kind::Container => {
                let ours = artifact.metas().iter().flat_map(|meta| &meta.source_metadata);
                let all: std::collections::BTreeMap<_, _> = ours.collect();
                all.into_iter().map(|(key, value)| (key.clone(), value.clone())).collect()
            }
            Opened::Tensors(artifact) => artifact.checkpoint().metadata().into_iter().map(own).collect(),
            // What these say means something in their formats only.
            Opened::Gguf(_) | Opened::Onnx(_) => Vec::new(),
        }
    }
}

type Found<'a> = (Origin, Vec<SourceTensor<'a>>, LeftOut<'a>);

/// Tensors that are left out, and why.
type LeftOut<'a> = Vec<(&'a str, &'static str)>;

fn safetensors(artifact: &Artifact, bits: Option<Bits>) -> Result<Found<'_>, Error> {
    let checkpoint = artifact.checkpoint();
    if artifact.kind() == Kind::Container {
        let ours = artifact.tensors().map(|tensor| SourceTensor::ours(artifact, tensor, bits));
        return Ok((Origin::Niwaki, ours.collect::<Result<_, _>>()?, Vec::new()));
    }
    let plain = |name: &str| {
        let tensor = artifact.get(name)?;
        Some(SourceTensor::plain(artifact, tensor))
    };
    let imported = match Imported::open(checkpoint, checkpoint.config().as_ref()) {
        Ok(imported) => imported,
        Err(error) => return Err(Error::from(error).at(checkpoint.path())),
    };
    let Some(imported) = imported else {
        if let Some(foreign) = checkpoint.foreign() {
            let error = Error::from(ErrorKind::AlreadyQuantized { format: foreign.kind().to_string() });
            return Err(error.of(foreign.tensor()).at(checkpoint.path()).hinting(foreign.hint()));
        }
        let tensors = artifact.tensors().map(|tensor| SourceTensor::plain(artifact, tensor));
        return Ok((Origin::Plain, tensors.collect(), Vec::new()));
    };
    // In the order of the file: a quantized tensor stands where its codes do.
    let place = |name: &str| artifact.tensors().position(|tensor| tensor.name() == name);
    let mut all = Vec::new();
    for logical in imported.tensors() {
        let first = logical.parts().first().map_or("", |part| part.name());
        all.push((place(first), SourceTensor::foreign(checkpoint, logical)?));
    }
    let family = imported.tensors().first().map_or("", |logical| logical.format().family());
    for name in imported.plain() {
        all.extend(plain(name).map(|tensor| (place(name), tensor)));
    }
    all.sort_by_key(|(place, _)| *place);
    let why = "it says how inputs of codes are quantized";
    let left_out = imported.activations().iter().map(|name| (*name, why)).collect();
    Ok((Origin::Foreign(family), all.into_iter().map(|(_, tensor)| tensor).collect(), left_out))
}

/// The tensors of an ONNX model.
fn initializers(onnx: &Onnx) -> Vec<SourceTensor<'_>> {
    let all = onnx.tensors().iter();
    all.map(|t| SourceTensor::new(t.name.clone(), t.dtype, t.shape, Form::Plain(&t.bytes), Watched::Onnx(onnx)))
        .collect()
}

/// The tensors of a GGUF file.
fn blocks(gguf: &Gguf, names: Names) -> Result<(Vec<SourceTensor<'_>>, LeftOut<'_>), Error> {
    let back = |name: &str| match names {
        Names::Own => None,
        Names::HuggingFace => hf::names_back(gguf.metadata(), name),
    };
    // Either all tensors have a name there, or none is renamed.
    let all = gguf.tensors().all(|view| back(view.name()).is_some() || view.name() == COMPUTED);
    let (mut tensors, mut left_out) = (Vec::new(), Vec::new());
    for view in gguf.tensors() {
        let renamed = back(view.name()).filter(|_| all);
        if all && names == Names::HuggingFace && renamed.is_none() {
            left_out.push((view.name(), "models of Hugging Face compute it"));
            continue;
        }
        let shape = Shape::new(view.dims()).map_err(|e| Error::below(e, Blame::Input).of(view.name()))?;
        let bytes = view.bytes()?;
        let kind = view.ggml_type()?;
        let form = match (dtype_of(kind), BlockType::from_name(&kind.name().to_lowercase())) {
            (Some(_), _) => Form::Plain(bytes),
            (None, Some(block)) => Form::Block(block, bytes),
            (None, None) => Form::Opaque(kind, bytes),
        };
        let (name, transform) = renamed.unwrap_or_else(|| (view.name().to_owned(), hf::Transform::None));
        if !transform.fits(view.dims().first().copied().unwrap_or(0)) {
            let what = format!("{shape} rows cannot be divided among the heads that the metadata names");
            return Err(Error::from(ErrorKind::Below { what, blame: Blame::Input }).of(view.name()).at(gguf.path()));
        }
        let dtype = dtype_of(kind).unwrap_or(Dtype::F32);
        tensors.push(SourceTensor::new(name, dtype, shape, form, Watched::Gguf(gguf)).under(transform));
    }
    Ok((tensors, left_out))
}

/// A tensor that llama.cpp's files have and models of Hugging Face compute.
const COMPUTED: &str = "rope_freqs.weight";

/// Types of elements that stand for themselves, ours and ggml's.
const ELEMENTS: [(Dtype, GgmlType); 8] = [
    (Dtype::F32, GgmlType::F32),
    (Dtype::F16, GgmlType::F16),
    (Dtype::BF16, GgmlType::BF16),
    (Dtype::F64, GgmlType::F64),
    (Dtype::I8, GgmlType::I8),
    (Dtype::I16, GgmlType::I16),
    (Dtype::I32, GgmlType::I32),
    (Dtype::I64, GgmlType::I64),
];

/// Our type of ggml's elements; none for blocks.
fn dtype_of(kind: GgmlType) -> Option<Dtype> {
    ELEMENTS.iter().find(|(_, ggml)| *ggml == kind).map(|(dtype, _)| *dtype)
}

/// ggml's type of our elements.
pub(crate) fn ggml_of(dtype: Dtype) -> Option<GgmlType> {
    ELEMENTS.iter().find(|(ours, _)| *ours == dtype).map(|(_, ggml)| *ggml)
}

//! One tensor that is read.

use std::ops::Range;
use std::sync::OnceLock;

use niwaki_codes::floats::Float;
use niwaki_codes::{Bits, BlockType, Grouping, Scheme, Shape, Uniform};
use niwaki_container::{Artifact, Decoder, Layout, Part, Tensor, matrix};
use niwaki_foreign::Logical;
use niwaki_gguf::hf::Transform;
use niwaki_gguf::{GgmlType, Gguf};
use niwaki_tensors::{Checkpoint, Dtype, Shard, decodes_to_f32};

use super::made::Made;
use super::onnx::Onnx;
use crate::error::{Blame, Error, ErrorKind};

/// One tensor of a [`Source`](super::Source).
#[derive(Clone)]
pub struct SourceTensor<'a> {
    pub(super) name: String,
    pub(super) dtype: Dtype,
    pub(super) shape: Shape,
    pub(super) form: Form<'a>,
    pub(super) transform: Transform,
    file: Watched<'a>,
    scheme: OnceLock<Option<Scheme>>,
}

/// How its weights are stored.
#[derive(Clone)]
pub(super) enum Form<'a> {
    /// Elements that stand for themselves.
    Plain(&'a [u8]),
    /// Blocks of ggml.
    Block(BlockType, &'a [u8]),
    /// Blocks of ggml that are not decoded here.
    Opaque(GgmlType, &'a [u8]),
    /// A compressed tensor of ours.
    Ours(Box<Decoder<'a>>),
    /// A quantized tensor of another tool.
    Foreign(Box<Logical<'a>>),
    /// Weights that are computed as they are read.
    Made(Made<'a>),
}

/// How a tensor is stored.
pub(crate) enum Storage<'a> {
    /// Elements that stand for themselves.
    Elements(&'a [u8]),
    /// Blocks of ggml.
    Block(BlockType, &'a [u8]),
    /// A compressed tensor of ours.
    Ours(Tensor<'a>),
    /// A quantized tensor of another tool.
    Foreign(Box<Logical<'a>>),
    /// Something else, in words.
    Other(String),
}

/// The files that must not change while the tensor is read.
#[derive(Clone, Copy)]
pub(super) enum Watched<'a> {
    Shard(&'a Shard),
    Checkpoint(&'a Checkpoint),
    Gguf(&'a Gguf),
    Onnx(&'a Onnx),
    /// Those of the tensors that it is computed from.
    Beneath,
}

impl<'a> SourceTensor<'a> {
    pub(super) fn new(name: String, dtype: Dtype, shape: Shape, form: Form<'a>, file: Watched<'a>) -> Self {
        Self { name, dtype, shape, form, transform: Transform::None, file, scheme: OnceLock::new() }
    }

    /// A tensor of plain safetensors.
    pub(super) fn plain(artifact: &'a Artifact, tensor: Tensor<'a>) -> Self {
        let form = Form::Plain(tensor.part(Part::Whole).unwrap_or_default());
        Self::of(artifact, tensor, form)
    }

    /// A tensor of a container of ours, an elastic one at `bits`.
    pub(super) fn ours(artifact: &'a Artifact, tensor: Tensor<'a>, bits: Option<Bits>) -> Result<Self, Error> {
        let form = match tensor.part(Part::Whole) {
            Some(bytes) => Form::Plain(bytes),
            None => Form::Ours(Box::new(tensor.at(bits)?)),
        };
        Ok(Self::of(artifact, tensor, form))
    }

    fn of(artifact: &'a Artifact, tensor: Tensor<'a>, form: Form<'a>) -> Self {
        let checkpoint = artifact.checkpoint();
        let file = checkpoint.shards().get(tensor.shard()).map_or(Watched::Checkpoint(checkpoint), Watched::Shard);
        Self::new(tensor.name().to_owned(), tensor.dtype(), *tensor.shape(), form, file)
    }

    /// A quantized tensor of another tool.
    pub(super) fn foreign(checkpoint: &'a Checkpoint, logical: &Logical<'a>) -> Result<Self, Error> {
        let name = logical.name().to_owned();
        let shape = Shape::new(logical.shape()).map_err(|e| Error::below(e, Blame::Input).of(&name))?;
        let form = Form::Foreign(Box::new(logical.clone()));
        Ok(Self::new(name, logical.dtype(), shape, form, Watched::Checkpoint(checkpoint)))
    }

    /// The same tensor with rows or values changed as it is read.
    pub(crate) fn under(mut self, transform: Transform) -> Self {
        self.transform = transform;
        self
    }

    /// The same tensor under another name.
    pub(crate) fn called(mut self, name: String) -> Self {
        self.name = name;
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The type that its weights had before they were quantized, as far as the file tells.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Its dimensions.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Rows and columns as encoders see them.
    pub fn matrix(&self) -> (usize, usize) {
        matrix(&self.shape)
    }

    /// How its weights are stored, in a word; none where they stand for themselves.
    pub fn coding(&self) -> Option<String> {
        match &self.form {
            Form::Plain(_) => None,
            Form::Block(kind, _) => Some(kind.to_string()),
            Form::Opaque(kind, _) => Some(kind.to_string()),
            Form::Ours(decoder) => Some(decoder.tensor().layout().scheme_text()),
            Form::Foreign(logical) => Some(logical.format().to_string()),
            Form::Made(made) => made.base.as_ref().and_then(|base| base.coding()),
        }
    }

    /// Whether only the weights that a mask keeps are stored.
    pub fn masked(&self) -> bool {
        match &self.form {
            Form::Ours(decoder) => decoder.tensor().masked(),
            Form::Made(made) => made.base.as_ref().is_some_and(|base| base.masked()),
            _ => false,
        }
    }

    /// Whether it serves several widths.
    pub(super) fn is_elastic(&self) -> bool {
        match &self.form {
            Form::Ours(decoder) => decoder.tensor().widths().is_some(),
            Form::Made(made) => made.base.as_ref().is_some_and(|base| base.is_elastic()),
            _ => false,
        }
    }

    /// The width at which an elastic tensor is read.
    pub(crate) fn width(&self) -> Option<Bits> {
        match &self.form {
            Form::Ours(decoder) => decoder.width(),
            Form::Made(made) => made.base.as_ref()?.width(),
            _ => None,
        }
    }

    /// Whether it decodes to floats.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] for blocks that are not decoded here.
    pub(crate) fn check_decodes(&self) -> Result<(), Error> {
        match &self.form {
            Form::Opaque(kind, _) => {
                let error = Error::from(ErrorKind::Unsupported { what: format!("decoding {kind} blocks") });
                Err(error.of(&self.name).hinting("`--to gguf` carries them as they are"))
            }
            _ => Ok(()),
        }
    }

    /// Whether its elements are floats, or codes for such.
    pub(crate) fn is_float(&self) -> bool {
        match &self.form {
            Form::Plain(_) => decodes_to_f32(self.dtype),
            _ => true,
        }
    }

    /// The type of blocks that nothing here decodes.
    pub(crate) fn opaque(&self) -> Option<GgmlType> {
        match &self.form {
            Form::Opaque(kind, _) => Some(*kind),
            _ => None,
        }
    }

    /// The scheme whose codes mean the same numbers; none for weights that stand for
    /// themselves, and for codes on no grid of ours.
    pub fn scheme(&self) -> Option<Scheme> {
        *self.scheme.get_or_init(|| match &self.form {
            _ if matches!(self.transform, Transform::AddOne | Transform::SubtractOne) => None,
            // Rows of a vector are its elements, and those stand inside of groups.
            _ if self.transform != Transform::None && self.shape.dims().len() < 2 => None,
            Form::Plain(_) | Form::Opaque(..) | Form::Made(_) => None,
            Form::Block(kind, _) => Some(Scheme::Block(*kind)),
            Form::Ours(decoder) if decoder.tensor().masked() => None,
            Form::Ours(decoder) => decoder.tensor().scheme(),
            Form::Foreign(logical) => logical.uniform().filter(|u| self.stacks(logical, u)).map(Scheme::Uniform),
        })
    }

    /// The scheme that is nearest to how it is stored: [`scheme`](Self::scheme), or that of
    /// small floats of another tool, which are encoded anew.
    pub(crate) fn likeness(&self) -> Option<Scheme> {
        if let Form::Made(made) = &self.form {
            return made.base.as_ref()?.likeness();
        }
        let floats = || match &self.form {
            Form::Foreign(logical) => logical.float(),
            _ => None,
        };
        self.scheme().or_else(|| match floats()? {
            Float::Mxfp4 => Some(Scheme::Block(BlockType::Mxfp4)),
            float => Some(Scheme::Float(float)),
        })
    }

    /// Whether rows of the matrices of a stack, one after the other, are the rows of ours.
    fn stacks(&self, logical: &Logical<'_>, uniform: &Uniform) -> bool {
        let divides = match uniform.grouping {
            Grouping::Group(group) => logical.cols().is_multiple_of(group.get()),
            Grouping::Row | Grouping::Tensor => false,
        };
        self.matrix() == (logical.rows(), logical.cols())
            || divides && (logical.cols() * uniform.bits.get() as usize).is_multiple_of(8)
    }

    /// Whether its bytes or codes can be taken over as `layout` has them.
    pub fn takes_over(&self, layout: &Layout) -> bool {
        if layout.is_plain() {
            return matches!(self.form, Form::Plain(_))
                && self.transform == Transform::None
                && layout.dtype == self.dtype;
        }
        layout.kept.is_none() && layout.scheme.is_some() && self.scheme() == layout.scheme && !self.is_elastic()
    }

    /// How it is stored, for those who change it in place.
    pub(crate) fn storage(&self) -> Storage<'a> {
        match &self.form {
            Form::Plain(bytes) => Storage::Elements(bytes),
            Form::Block(kind, bytes) => Storage::Block(*kind, bytes),
            Form::Ours(decoder) => Storage::Ours(decoder.tensor()),
            Form::Foreign(logical) => Storage::Foreign(logical.clone()),
            Form::Opaque(kind, _) => Storage::Other(format!("{kind} blocks")),
            Form::Made(_) => Storage::Other("computed weights".to_owned()),
        }
    }

    /// The bytes of weights that stand for themselves, where nothing changes them.
    pub(crate) fn elements(&self) -> Option<&'a [u8]> {
        match self.form {
            Form::Plain(bytes) if self.transform == Transform::None => Some(bytes),
            _ => None,
        }
    }

    /// Its stored bytes, part by part.
    pub(crate) fn stored(&self) -> Vec<&'a [u8]> {
        match &self.form {
            Form::Plain(bytes) | Form::Block(_, bytes) | Form::Opaque(_, bytes) => vec![bytes],
            Form::Ours(decoder) => decoder.tensor().parts().map(|(_, bytes)| bytes).collect(),
            Form::Foreign(logical) => logical.parts().iter().map(|part| part.bytes()).collect(),
            Form::Made(made) => made.base.as_ref().map(|base| base.stored()).unwrap_or_default(),
        }
    }

    /// Bytes of all its parts.
    pub fn stored_bytes(&self) -> u64 {
        self.stored().iter().map(|bytes| bytes.len() as u64).sum()
    }

    /// A range of its stored bytes, its parts one after the other.
    pub(crate) fn stored_range<'b>(&'b self, range: Range<usize>, buffer: &'b mut Vec<u8>) -> &'b [u8] {
        let parts = self.stored();
        if let [only] = parts[..] {
            return only.get(range).unwrap_or_default();
        }
        buffer.clear();
        let mut before = 0;
        for part in parts {
            let at = |byte: usize| byte.saturating_sub(before).min(part.len());
            buffer.extend_from_slice(part.get(at(range.start)..at(range.end)).unwrap_or_default());
            before += part.len();
        }
        buffer
    }

    /// Whether its files are as they were when they were opened.
    ///
    /// # Errors
    ///
    /// Those of [`niwaki_tensors::MappedFile::ensure_unchanged`].
    pub(crate) fn ensure_unchanged(&self) -> Result<(), Error> {
        match self.file {
            Watched::Shard(shard) => Ok(shard.ensure_unchanged()?),
            Watched::Checkpoint(checkpoint) => Ok(checkpoint.ensure_unchanged()?),
            Watched::Gguf(gguf) => Ok(gguf.ensure_unchanged()?),
            Watched::Onnx(onnx) => Ok(onnx.model().ensure_unchanged()?),
            Watched::Beneath => match &self.form {
                Form::Made(made) => made.weights.ensure_unchanged(),
                _ => Ok(()),
            },
        }
    }
}

impl std::fmt::Debug for SourceTensor<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let coding = self.coding().unwrap_or_else(|| self.dtype.to_string());
        write!(f, "{} ({coding}, {})", self.name, self.shape)
    }
}

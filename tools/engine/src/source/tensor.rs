//! One tensor that is read.

use std::ops::Range;
use std::sync::OnceLock;

use niwaki_codes::floats::Float;
use niwaki_codes::simd::Level;
use niwaki_codes::{Bits, BlockType, BlockView, Grouping, Scheme, Shape, Uniform};
use niwaki_container::{Artifact, Decoder, Layout, Part, Tensor, matrix};
use niwaki_foreign::Logical;
use niwaki_gguf::hf::Transform;
use niwaki_gguf::{GgmlType, Gguf};
use niwaki_quant::Values;
use niwaki_tensors::{Checkpoint, Dtype, Shard, byte_len, decode_f32, decodes_to_f32};

use super::codes::decode_listed;
use crate::error::{Blame, Error, ErrorKind};

/// One tensor of a [`Source`](super::Source).
#[derive(Clone)]
pub struct SourceTensor<'a> {
    pub(super) name: String,
    dtype: Dtype,
    shape: Shape,
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
}

/// The files that must not change while the tensor is read.
#[derive(Clone, Copy)]
pub(super) enum Watched<'a> {
    Shard(&'a Shard),
    Checkpoint(&'a Checkpoint),
    Gguf(&'a Gguf),
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
        }
    }

    /// Whether only the weights that a mask keeps are stored.
    pub fn masked(&self) -> bool {
        matches!(&self.form, Form::Ours(decoder) if decoder.tensor().masked())
    }

    /// Whether it serves several widths.
    pub(super) fn is_elastic(&self) -> bool {
        matches!(&self.form, Form::Ours(decoder) if decoder.tensor().widths().is_some())
    }

    /// The width at which an elastic tensor is read.
    pub(crate) fn width(&self) -> Option<Bits> {
        match &self.form {
            Form::Ours(decoder) => decoder.width(),
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
            Form::Plain(_) | Form::Opaque(..) => None,
            Form::Block(kind, _) => Some(Scheme::Block(*kind)),
            Form::Ours(decoder) if decoder.tensor().masked() => None,
            Form::Ours(decoder) => decoder.tensor().scheme(),
            Form::Foreign(logical) => logical.uniform().filter(|u| self.stacks(logical, u)).map(Scheme::Uniform),
        })
    }

    /// The scheme that is nearest to how it is stored: [`scheme`](Self::scheme), or that of
    /// small floats of another tool, which are encoded anew.
    pub(crate) fn likeness(&self) -> Option<Scheme> {
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
        }
    }

    /// The elements `range`, as encoders take them.
    ///
    /// # Errors
    ///
    /// Those of decoding.
    pub(crate) fn values<'b>(&'b self, range: Range<usize>, decoded: &'b mut Vec<f32>) -> Result<Values<'b>, Error> {
        if let Some(bytes) = self.elements() {
            let size = self.dtype.bitsize() / 8;
            let slice = || bytes.get(range.start * size..range.end * size).unwrap_or_default();
            match self.dtype {
                Dtype::F32 => return Ok(Values::F32(slice())),
                Dtype::F16 => return Ok(Values::F16(slice())),
                Dtype::BF16 => return Ok(Values::Bf16(slice())),
                _ => {}
            }
        }
        decoded.resize(range.len(), 0.0);
        self.decode(range, decoded)?;
        Ok(Values::F32(bytemuck::cast_slice(decoded)))
    }

    /// Decodes the elements `range`.
    ///
    /// # Errors
    ///
    /// Elements that are no floats, and blocks that are not decoded here.
    pub(crate) fn decode(&self, range: Range<usize>, out: &mut [f32]) -> Result<(), Error> {
        if range.is_empty() {
            return Ok(());
        }
        let (rows, cols) = self.matrix();
        match self.transform {
            Transform::None => self.decode_stored(range, out),
            Transform::PermuteRows { .. } | Transform::UnpermuteRows { .. } => {
                // In the places of a bias, each element is a row.
                let (rows, cols) = if self.shape.dims().len() < 2 { (self.shape.elements(), 1) } else { (rows, cols) };
                let mut at = range.start;
                let mut rest = out;
                while at < range.end {
                    let (row, col) = (at / cols, at % cols);
                    let len = (cols - col).min(range.end - at);
                    let from = self.transform.source_row(row, rows) * cols + col;
                    let run = rest.split_off_mut(..len).unwrap_or_default();
                    self.decode_stored(from..from + len, run)?;
                    at += len;
                }
                Ok(())
            }
            transform => {
                self.decode_stored(range, out)?;
                out.iter_mut().for_each(|x| *x = transform.value(*x));
                Ok(())
            }
        }
    }

    fn decode_stored(&self, range: Range<usize>, out: &mut [f32]) -> Result<(), Error> {
        let level = Level::best();
        let wrong = |e: Error| e.of(&self.name);
        match &self.form {
            Form::Plain(bytes) => {
                let first = byte_len(self.dtype, range.start).unwrap_or(usize::MAX);
                let last = byte_len(self.dtype, range.end).unwrap_or(usize::MAX);
                let bytes = bytes.get(first..last).unwrap_or_default();
                decode_f32(self.dtype, bytes, out).map_err(|e| wrong(e.into()))
            }
            Form::Block(kind, bytes) => {
                let each = kind.elements();
                let whole = range.start / each..range.end.div_ceil(each);
                let bytes = bytes.get(whole.start * kind.bytes()..whole.end * kind.bytes()).unwrap_or_default();
                let count = whole.len() * each;
                let view =
                    BlockView::new(*kind, 1, count, bytes).map_err(|e| Error::below(e, Blame::Input).of(&self.name))?;
                whole_rows(range, whole.start * each, count, out, |out| {
                    view.dequantize_rows(level, 0..1, out).map_err(|e| Error::below(e, Blame::Input).of(&self.name))
                })
            }
            Form::Opaque(..) => self.check_decodes(),
            Form::Ours(decoder) => {
                let (_, cols) = self.matrix();
                let rows = range.start / cols..range.end.div_ceil(cols);
                if decode_listed(decoder, rows.clone(), &range, out)? {
                    return Ok(());
                }
                whole_rows(range, rows.start * cols, rows.len() * cols, out, |out| {
                    Ok(decoder.dequantize_rows(level, rows.clone(), out)?)
                })
            }
            Form::Foreign(logical) => {
                let cols = logical.cols();
                let rows = range.start / cols..range.end.div_ceil(cols);
                whole_rows(range, rows.start * cols, rows.len() * cols, out, |out| {
                    logical.decode_rows(level, rows.clone(), out).map_err(|e| Error::from(e).of(&self.name))
                })
            }
        }
    }
}

/// Decodes whole rows and hands out the part of them that was asked for.
fn whole_rows(
    asked: Range<usize>,
    first: usize,
    count: usize,
    out: &mut [f32],
    decode: impl FnOnce(&mut [f32]) -> Result<(), Error>,
) -> Result<(), Error> {
    if asked == (first..first + count) {
        return decode(out);
    }
    let mut all = vec![0.0; count];
    decode(&mut all)?;
    out.copy_from_slice(&all[asked.start - first..asked.end - first]);
    Ok(())
}

impl std::fmt::Debug for SourceTensor<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let coding = self.coding().unwrap_or_else(|| self.dtype.to_string());
        write!(f, "{} ({coding}, {})", self.name, self.shape)
    }
}

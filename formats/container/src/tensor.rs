//! One logical tensor, and its weights as floats.

use std::ops::Range;

use niwaki_codes::mask::scatter;
use niwaki_codes::simd::Level;
use niwaki_codes::{
    Bits, BlockView, ElasticParts, ElasticView, FloatView, MaskView, Scheme, Shape, SparseView, UniformView, Widths,
};
use niwaki_tensors::Dtype;
use niwaki_tensors::{decode_f32, decodes_to_f32};

use crate::artifact::{Artifact, Stored, bytes};
use crate::error::{Error, ErrorKind};
use crate::meta::TensorMeta;
use crate::parts::{Layout, Part};

/// Weights of a masked row that are decoded at a time, on the stack: whole bytes of mask.
const BLOCK: usize = 512;

/// Rows between two remembered counts of kept weights.
const STRIDE: usize = 16;

/// One logical tensor of an [`Artifact`].
#[derive(Clone, Copy)]
pub struct Tensor<'a> {
    artifact: &'a Artifact,
    stored: &'a Stored,
}

impl<'a> Tensor<'a> {
    pub(crate) fn new(artifact: &'a Artifact, stored: &'a Stored) -> Self {
        Self { artifact, stored }
    }

    /// Its name.
    pub fn name(&self) -> &'a str {
        &self.stored.name
    }

    /// How it is stored.
    pub fn layout(&self) -> &'a Layout {
        &self.stored.layout
    }

    /// The shape of the source.
    pub fn shape(&self) -> &'a Shape {
        &self.layout().shape
    }

    /// The type of the source.
    pub fn dtype(&self) -> Dtype {
        self.layout().dtype
    }

    /// What its codes mean; none for weights in the source's type.
    pub fn scheme(&self) -> Option<Scheme> {
        self.layout().scheme
    }

    /// Whether only the weights that a mask keeps are stored.
    pub fn masked(&self) -> bool {
        self.layout().kept.is_some()
    }

    /// The widths that it serves, where it is elastic.
    pub fn widths(&self) -> Option<Widths> {
        self.layout().elastic().map(|elastic| elastic.widths)
    }

    /// Rows and columns: the first dimension by the rest, one row for fewer than two
    /// dimensions.
    pub fn matrix(&self) -> (usize, usize) {
        self.layout().matrix()
    }

    /// Bytes of all its parts.
    pub fn bytes(&self) -> u64 {
        self.stored.parts.iter().map(|(spec, _)| spec.bytes as u64).sum()
    }

    /// Index of its file among the checkpoint's shards.
    pub fn shard(&self) -> usize {
        self.stored.shard
    }

    /// Its parts, in the order of [`Layout::parts`].
    pub fn parts(&self) -> impl Iterator<Item = (Part, &'a [u8])> + Clone + use<'a> {
        let (artifact, stored) = (self.artifact, self.stored);
        stored.parts.iter().map(move |(spec, index)| {
            let shard = artifact.shard(stored.shard);
            let part = shard.and_then(|shard| Some(bytes(shard, shard.entries().get(*index)?)));
            (spec.part, part.unwrap_or_default())
        })
    }

    /// The bytes of one part.
    pub fn part(&self, part: Part) -> Option<&'a [u8]> {
        self.parts().find(|(other, _)| *other == part).map(|(_, bytes)| bytes)
    }

    /// What the metadata says of it; none in a plain checkpoint.
    pub fn meta(&self) -> Option<&'a TensorMeta> {
        self.artifact.metas().get(self.stored.shard)?.tensors.get(self.name())
    }

    /// Its weights as floats, an elastic one at `width`: the widest served for `None`.
    ///
    /// A tensor that is not elastic has one form, and `width` is ignored. A masked one is
    /// counted here once, so keep the decoder where many blocks of rows are decoded.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Codes`] for a width that is not served, which lists those that are;
    /// [`ErrorKind::NoFloats`] for a type that is no float; [`ErrorKind::KeptCount`] for a
    /// mask that keeps another number of weights than the metadata says.
    pub fn at(&self, width: Option<Bits>) -> Result<Decoder<'a>, Error> {
        self.decoder(width).map_err(|error| error.in_tensor(self.name()))
    }

    /// Decodes whole rows into `out`; see [`at`](Self::at) for `width` and for decoding
    /// many blocks of rows.
    ///
    /// # Errors
    ///
    /// Those of [`at`](Self::at) and of [`Decoder::dequantize_rows`].
    pub fn dequantize_rows(
        &self,
        level: Level,
        width: Option<Bits>,
        rows: Range<usize>,
        out: &mut [f32],
    ) -> Result<(), Error> {
        self.at(width)?.dequantize_rows(level, rows, out)
    }

    fn decoder(&self, width: Option<Bits>) -> Result<Decoder<'a>, Error> {
        if !decodes_to_f32(self.dtype()) {
            return Err(ErrorKind::NoFloats(self.dtype()).into());
        }
        let width = self.layout().elastic().map(|elastic| width.unwrap_or(elastic.widths.widest()));
        let (view, before) = match self.layout().kept {
            None => (self.full(width)?, Vec::new()),
            Some(kept) => {
                let (mask, before) = self.counted(kept)?;
                (self.masked_view(mask, kept, width)?, before)
            }
        };
        Ok(Decoder { tensor: *self, view, width, before })
    }

    fn full(&self, width: Option<Bits>) -> Result<View<'a>, Error> {
        let (rows, cols) = self.matrix();
        Ok(match self.scheme() {
            None => View::Plain(self.need(Part::Whole)),
            Some(Scheme::Uniform(scheme)) => {
                let (codes, scales) = (self.need(Part::Codes), self.need(Part::Scales));
                View::Uniform(UniformView::new(scheme, rows, cols, codes, scales, self.part(Part::Zeros))?)
            }
            Some(Scheme::Elastic(scheme)) => {
                let width = width.unwrap_or(scheme.widths.widest());
                scheme.widths.up_to(width)?;
                View::Elastic(ElasticView::new(scheme, rows, cols, self.elastic_parts())?, width)
            }
            Some(Scheme::Block(kind)) => View::Blocks(BlockView::new(kind, rows, cols, self.need(Part::Codes))?),
            Some(Scheme::Float(float)) => {
                let (codes, scales) = (self.need(Part::Codes), self.need(Part::Scales));
                View::Floats(FloatView::new(float, rows, cols, codes, scales, self.part(Part::Factor))?)
            }
            Some(other) => return Err(ErrorKind::Unsupported(other.to_string()).into()),
        })
    }

    fn masked_view(&self, mask: MaskView<'a>, kept: usize, width: Option<Bits>) -> Result<View<'a>, Error> {
        Ok(match self.scheme() {
            None => View::Kept(mask, self.need(Part::Values)),
            Some(Scheme::Uniform(scheme)) => {
                let (codes, scales) = (self.need(Part::Codes), self.need(Part::Scales));
                View::Sparse(SparseView::uniform(mask, scheme, codes, scales, self.part(Part::Zeros))?)
            }
            Some(Scheme::Elastic(scheme)) => {
                let view = ElasticView::new(scheme, 1, kept, self.elastic_parts())?;
                View::Sparse(SparseView::elastic(mask, view, width.unwrap_or(scheme.widths.widest()))?)
            }
            Some(other) => return Err(ErrorKind::Unsupported(other.to_string()).into()),
        })
    }

    /// The mask, and how many weights it keeps before every [`STRIDE`]th row.
    fn counted(&self, says: usize) -> Result<(MaskView<'a>, Vec<usize>), Error> {
        let (rows, cols) = self.matrix();
        let mask = MaskView::new(rows, cols, self.need(Part::Mask))?;
        let mut before = Vec::new();
        let mut has = 0;
        for start in (0..rows).step_by(STRIDE) {
            before.push(has);
            has += mask.kept_in_rows(start..(start + STRIDE).min(rows)).unwrap_or(0);
        }
        if has == says { Ok((mask, before)) } else { Err(ErrorKind::KeptCount { says, has }.into()) }
    }

    fn need(&self, part: Part) -> &'a [u8] {
        self.part(part).unwrap_or_default()
    }

    fn elastic_parts(&self) -> ElasticParts<'a> {
        let mut parts = ElasticParts::default();
        for (part, bytes) in self.parts() {
            match part {
                Part::Base => parts.base = bytes,
                Part::Fix(bits) => set(&mut parts.fixes, bits.get() as usize, bytes),
                Part::Plane(number) => set(&mut parts.planes, usize::from(number), bytes),
                _ => (),
            }
        }
        parts
    }
}

impl std::fmt::Debug for Tensor<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({} {}, {})", self.name(), self.dtype(), self.shape(), self.layout().scheme_text())
    }
}

/// The weights of one [`Tensor`] as floats, at one width.
#[derive(Clone, Debug)]
pub struct Decoder<'a> {
    tensor: Tensor<'a>,
    view: View<'a>,
    width: Option<Bits>,
    before: Vec<usize>,
}

#[derive(Clone, Copy, Debug)]
enum View<'a> {
    /// As they were.
    Plain(&'a [u8]),
    /// The kept ones as they were.
    Kept(MaskView<'a>, &'a [u8]),
    Uniform(UniformView<'a>),
    Blocks(BlockView<'a>),
    Floats(FloatView<'a>),
    Elastic(ElasticView<'a>, Bits),
    Sparse(SparseView<'a>),
}

impl<'a> Decoder<'a> {
    /// The tensor that it decodes.
    pub fn tensor(&self) -> Tensor<'a> {
        self.tensor
    }

    /// The width that it decodes an elastic tensor at.
    pub fn width(&self) -> Option<Bits> {
        self.width
    }

    /// Decodes whole rows into `out`, row by row; weights that a mask drops are zero.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Codes`] for rows that are not there or an `out` of another length.
    pub fn dequantize_rows(&self, level: Level, rows: Range<usize>, out: &mut [f32]) -> Result<(), Error> {
        self.decode(level, rows, out).map_err(|error| error.in_tensor(self.tensor.name()))
    }

    /// Reads every part and refuses what no encoder writes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Codes`] for bits past the end of a row or stream, zero points outside
    /// the width, codes that are NaN, and parameters that are not finite.
    pub fn check(&self) -> Result<(), Error> {
        let checked = match &self.view {
            View::Plain(_) => Ok(()),
            View::Kept(mask, _) => mask.check(),
            View::Uniform(view) => view.check(),
            View::Blocks(view) => view.check(),
            View::Floats(view) => view.check(),
            View::Elastic(view, _) => view.check(),
            View::Sparse(view) => view.check(),
        };
        checked.map_err(|error| Error::from(error).in_tensor(self.tensor.name()))
    }

    fn decode(&self, level: Level, rows: Range<usize>, out: &mut [f32]) -> Result<(), Error> {
        let (all, cols) = self.tensor.matrix();
        if rows.start > rows.end || rows.end > all {
            return Err(niwaki_codes::Error::from(niwaki_codes::ErrorKind::Range { needs: rows.end, has: all }).into());
        }
        let needs = rows.len().saturating_mul(cols);
        if out.len() != needs {
            let kind = niwaki_codes::ErrorKind::Range { needs, has: out.len() };
            return Err(niwaki_codes::Error::from(kind).into());
        }
        match &self.view {
            View::Plain(bytes) => {
                let dtype = self.tensor.dtype();
                let bytes = elements(bytes, dtype, rows.start.saturating_mul(cols), out.len());
                decode_f32(dtype, bytes, out)?;
            }
            View::Kept(mask, values) => self.kept(level, (mask, values), rows, out)?,
            View::Uniform(view) => view.dequantize_rows(level, rows, out)?,
            View::Blocks(view) => view.dequantize_rows(level, rows, out)?,
            View::Floats(view) => view.dequantize_rows(level, rows, out)?,
            View::Elastic(view, width) => view.dequantize_rows(level, *width, rows, out)?,
            View::Sparse(view) => {
                let before = self.kept_before(&view.mask(), rows.start);
                view.dequantize_rows(level, rows, before, out)?;
            }
        }
        Ok(())
    }

    /// How many weights the mask keeps before `row`.
    fn kept_before(&self, mask: &MaskView<'_>, row: usize) -> usize {
        let start = row / STRIDE * STRIDE;
        let before = self.before.get(row / STRIDE).copied().unwrap_or(0);
        before + mask.kept_in_rows(start..row).unwrap_or(0)
    }

    fn kept(
        &self,
        level: Level,
        (mask, values): (&MaskView<'_>, &[u8]),
        rows: Range<usize>,
        out: &mut [f32],
    ) -> Result<(), Error> {
        let (dtype, cols) = (self.tensor.dtype(), mask.cols().max(1));
        let mut next = self.kept_before(mask, rows.start);
        for (row, out) in rows.zip(out.chunks_mut(cols)) {
            let bits = mask.row(row).unwrap_or_default();
            for (out, bits) in out.chunks_mut(BLOCK).zip(bits.chunks(BLOCK / 8)) {
                let count = MaskView::new(1, out.len(), bits)?.kept();
                let mut buffer = [0.0; BLOCK];
                let Some(kept) = buffer.get_mut(..count) else { continue };
                decode_f32(dtype, elements(values, dtype, next, count), kept)?;
                next += scatter(level, bits, kept, out)?;
            }
        }
        Ok(())
    }
}

fn set<'a>(parts: &mut [Option<&'a [u8]>], index: usize, bytes: &'a [u8]) {
    if let Some(part) = parts.get_mut(index) {
        *part = Some(bytes);
    }
}

/// The bytes of `count` elements from element `first` on; nothing past the end.
fn elements(bytes: &[u8], dtype: Dtype, first: usize, count: usize) -> &[u8] {
    let size = dtype.bitsize() / 8;
    let start = first.saturating_mul(size);
    bytes.get(start..start.saturating_add(count.saturating_mul(size))).unwrap_or_default()
}

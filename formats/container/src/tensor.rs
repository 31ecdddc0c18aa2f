//! One logical tensor, and its weights as floats.

use std::ops::Range;

use niwaki_codes::simd::Level;
use niwaki_codes::{
    Bits, BlockView, ElasticParts, ElasticView, FloatView, Scheme, Shape, SparseView, UniformView, Widths,
};
use niwaki_tensors::Dtype;
use niwaki_tensors::{decode_f32, decodes_to_f32};

use crate::artifact::{Artifact, Stored, bytes};
use crate::error::{Error, ErrorKind};
use crate::kept::{Counted, KeptForm, KeptView, elements};
use crate::meta::TensorMeta;
use crate::parts::{Kept, Layout, Part};

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

    /// Whether only those weights are stored that a mask keeps, or a list of positions.
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
    /// mask that keeps another number of weights than the metadata says,
    /// [`ErrorKind::Codes`] for another number of positions.
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
        let view = match self.layout().kept {
            None => self.full(width)?,
            Some(kept) => View::Kept(self.kept(kept, width)?),
        };
        Ok(Decoder { tensor: *self, view, width })
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

    fn kept(&self, kept: Kept, width: Option<Bits>) -> Result<KeptView<'a>, Error> {
        let support = kept.support(self.matrix(), self.need(kept.part()))?;
        let counted = Counted::new(support, kept.weights)?;
        let form = match self.scheme() {
            None => KeptForm::Values(self.dtype(), self.need(Part::Values)),
            Some(Scheme::Uniform(scheme)) => {
                let (codes, scales) = (self.need(Part::Codes), self.need(Part::Scales));
                KeptForm::Codes(Box::new(SparseView::uniform(support, scheme, codes, scales, self.part(Part::Zeros))?))
            }
            Some(Scheme::Elastic(scheme)) => {
                let view = ElasticView::new(scheme, 1, kept.weights, self.elastic_parts())?;
                let width = width.unwrap_or(scheme.widths.widest());
                KeptForm::Codes(Box::new(SparseView::elastic(support, view, width)?))
            }
            Some(other) => return Err(ErrorKind::Unsupported(other.to_string()).into()),
        };
        Ok(KeptView { counted, form })
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
    pub(crate) view: View<'a>,
    width: Option<Bits>,
}

#[derive(Clone, Debug)]
pub(crate) enum View<'a> {
    /// As they were.
    Plain(&'a [u8]),
    /// Some of them, as they were or as codes.
    Kept(KeptView<'a>),
    Uniform(UniformView<'a>),
    Blocks(BlockView<'a>),
    Floats(FloatView<'a>),
    Elastic(ElasticView<'a>, Bits),
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

    /// Decodes whole rows into `out`, row by row; weights that are not kept are zero.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Codes`] for rows that are not there or an `out` of another length.
    pub fn dequantize_rows(&self, level: Level, rows: Range<usize>, out: &mut [f32]) -> Result<(), Error> {
        self.decode(level, rows, out).map_err(|error| error.in_tensor(self.tensor.name()))
    }

    /// Hands out the kept weights of whole rows in runs, their flat indices in the tensor in
    /// order and their values, where not all weights are stored; says whether that is so, and
    /// hands out nothing where it is not. Where positions tell the places this costs by kept
    /// weights, not by weights.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Codes`] for rows that are not there.
    pub fn visit_kept(
        &self,
        level: Level,
        rows: Range<usize>,
        take: impl FnMut(&[usize], &[f32]),
    ) -> Result<bool, Error> {
        let View::Kept(view) = &self.view else { return Ok(false) };
        let visited = self.there(&rows).and_then(|_| view.visit_rows(level, rows, take));
        visited.map(|()| true).map_err(|error| error.in_tensor(self.tensor.name()))
    }

    /// Reads every part and refuses what no encoder writes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Codes`] for bits past the end of a row or stream, positions that do not
    /// ascend, zero points outside the width, codes that are NaN, and parameters that are not
    /// finite.
    pub fn check(&self) -> Result<(), Error> {
        let checked = match &self.view {
            View::Plain(_) => Ok(()),
            View::Kept(view) => view.check(),
            View::Uniform(view) => view.check(),
            View::Blocks(view) => view.check(),
            View::Floats(view) => view.check(),
            View::Elastic(view, _) => view.check(),
        };
        checked.map_err(|error| Error::from(error).in_tensor(self.tensor.name()))
    }

    fn decode(&self, level: Level, rows: Range<usize>, out: &mut [f32]) -> Result<(), Error> {
        let (_, cols) = self.tensor.matrix();
        let needs = self.there(&rows)?;
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
            View::Kept(view) => view.dequantize_rows(level, rows, out)?,
            View::Uniform(view) => view.dequantize_rows(level, rows, out)?,
            View::Blocks(view) => view.dequantize_rows(level, rows, out)?,
            View::Floats(view) => view.dequantize_rows(level, rows, out)?,
            View::Elastic(view, width) => view.dequantize_rows(level, *width, rows, out)?,
        }
        Ok(())
    }

    fn there(&self, rows: &Range<usize>) -> Result<usize, Error> {
        let (has, cols) = self.tensor.matrix();
        if rows.start > rows.end || rows.end > has {
            return Err(niwaki_codes::Error::from(niwaki_codes::ErrorKind::Range { needs: rows.end, has }).into());
        }
        Ok(rows.len().saturating_mul(cols))
    }
}

fn set<'a>(parts: &mut [Option<&'a [u8]>], index: usize, bytes: &'a [u8]) {
    if let Some(part) = parts.get_mut(index) {
        *part = Some(bytes);
    }
}

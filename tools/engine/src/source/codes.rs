//! Codes of a tensor that is read, as they are stored.

use std::borrow::Cow;
use std::ops::Range;

use niwaki_codes::simd::Level;
use niwaki_codes::{Bits, BlockType, Elastic, Grouping, Scheme, Symmetry, Uniform};
use niwaki_container::{Decoder, Part, ToldBy};
use niwaki_foreign::UniformRows;
use niwaki_gguf::hf::Transform;
use niwaki_model::{Codes, Packed, Planes};

use super::tensor::{Form, SourceTensor};
use crate::error::{Blame, Error};

/// Codes of whole rows, as they are stored.
pub(crate) enum Coded<'b> {
    /// Blocks of ggml.
    Blocks(BlockType, Cow<'b, [u8]>),
    /// Evenly spaced codes with their parameters.
    Uniform(Uniform, UniformRows),
}

/// Decodes the elements `range`, which stand in `rows`, where positions tell which of a tensor's
/// weights are kept; says whether that is so. Lays out no more than is asked for: rows of such a
/// tensor may be far longer than its file.
pub(super) fn decode_listed(
    decoder: &Decoder<'_>,
    rows: Range<usize>,
    range: &Range<usize>,
    out: &mut [f32],
) -> Result<bool, Error> {
    if decoder.tensor().layout().kept.is_none_or(|kept| kept.told_by != ToldBy::Positions) {
        return Ok(false);
    }
    out.fill(0.0);
    Ok(decoder.visit_kept(Level::best(), rows, |places, values| {
        for (place, value) in places.iter().zip(values) {
            if let Some(out) = place.checked_sub(range.start).and_then(|at| out.get_mut(at)) {
                *out = *value;
            }
        }
    })?)
}

impl<'a> SourceTensor<'a> {
    /// Codes of whole rows where [`scheme`](Self::scheme) has them.
    ///
    /// # Errors
    ///
    /// Those of reading them.
    pub(crate) fn codes(&self, rows: Range<usize>) -> Result<Option<Coded<'a>>, Error> {
        let (all, _) = self.matrix();
        match self.transform {
            Transform::None => self.stored_codes(rows),
            Transform::PermuteRows { .. } | Transform::UnpermuteRows { .. } => {
                let mut gathered = None;
                for row in rows {
                    let from = self.transform.source_row(row, all);
                    let Some(row) = self.stored_codes(from..from + 1)? else { return Ok(None) };
                    gathered = Some(match gathered {
                        None => row,
                        Some(before) => Coded::followed_by(before, row),
                    });
                }
                Ok(gathered)
            }
            _ => Ok(None),
        }
    }

    /// The codes of a matrix, to be multiplied as they are; none where it is stored otherwise.
    ///
    /// # Errors
    ///
    /// Those of [`codes`](Self::codes).
    pub(crate) fn packed(&self) -> Result<Option<Packed>, Error> {
        let (rows, cols) = self.matrix();
        if self.shape().dims().len() != 2 {
            return Ok(None);
        }
        let wrong = |e| Error::below(e, Blame::Input).of(self.name());
        let codes = match self.elastic_codes() {
            Some(codes) => codes,
            None => match self.codes(0..rows)? {
                Some(Coded::Blocks(kind, codes)) => Codes::of_blocks(kind, codes.into_owned()).map_err(wrong)?,
                Some(Coded::Uniform(scheme, UniformRows { codes, scales, zeros })) => {
                    let zeros = (scheme.symmetry == Symmetry::Affine).then_some(zeros);
                    Codes::Uniform { scheme, codes, scales, zeros }
                }
                None => return Ok(None),
            },
        };
        Ok(Some(Packed::new(rows, cols, codes).map_err(wrong)?))
    }

    /// The planes of elastic codes that the width it is read at takes.
    fn elastic_codes(&self) -> Option<Codes> {
        let (Form::Ours(decoder), Some(Scheme::Elastic(scheme)), Transform::None) =
            (&self.form, self.scheme(), self.transform)
        else {
            return None;
        };
        let (tensor, width) = (decoder.tensor(), decoder.width()?);
        let scheme = Elastic { widths: scheme.widths.up_to(width).ok()?, ..scheme };
        let part = |part: Part| tensor.part(part).map(<[u8]>::to_vec);
        let fix = |bits: usize| Bits::new(bits as u32).ok().filter(|bits| scheme.has_fix(*bits));
        Some(Codes::Elastic(Box::new(Planes {
            scheme,
            width,
            base: part(Part::Base)?,
            fixes: std::array::from_fn(|bits| part(Part::Fix(fix(bits)?))),
            planes: std::array::from_fn(|number| {
                scheme.has_plane(number).then(|| part(Part::Plane(number as u8))).flatten()
            }),
        })))
    }

    fn stored_codes(&self, rows: Range<usize>) -> Result<Option<Coded<'a>>, Error> {
        let (all, cols) = self.matrix();
        let blocks = |kind: BlockType, bytes: &'a [u8]| {
            let each = cols / kind.elements() * kind.bytes();
            let some = bytes.get(rows.start * each..rows.end * each).unwrap_or_default();
            Ok(Some(Coded::Blocks(kind, Cow::Borrowed(some))))
        };
        match (&self.form, self.scheme()) {
            (Form::Block(kind, bytes), Some(_)) => blocks(*kind, bytes),
            (Form::Ours(decoder), Some(Scheme::Block(kind))) => {
                blocks(kind, decoder.tensor().part(Part::Codes).unwrap_or_default())
            }
            (Form::Ours(decoder), Some(Scheme::Uniform(uniform))) => {
                let part = |part, range: Range<usize>| {
                    let bytes = decoder.tensor().part(part).unwrap_or_default();
                    bytes.get(range).unwrap_or_default().to_vec()
                };
                let (size, row) = (uniform.scale_type().bytes(), uniform.row_bytes(cols));
                let groups = match uniform.grouping {
                    Grouping::Tensor => 0..1,
                    Grouping::Row => rows.clone(),
                    Grouping::Group(g) => rows.start * cols.div_ceil(g.get())..rows.end * cols.div_ceil(g.get()),
                };
                let codes = part(Part::Codes, rows.start * row..rows.end * row);
                let scales = part(Part::Scales, groups.start * size..groups.end * size);
                let zeros = part(Part::Zeros, groups);
                Ok(Some(Coded::Uniform(uniform, UniformRows { codes, scales, zeros })))
            }
            (Form::Foreign(logical), Some(Scheme::Uniform(uniform))) => {
                let stack = logical.rows() / all.max(1);
                let rows = rows.start * stack..rows.end * stack;
                let coded = logical.uniform_rows(Level::best(), &uniform, rows);
                Ok(Some(Coded::Uniform(uniform, coded.map_err(|e| Error::from(e).of(&self.name))?)))
            }
            _ => Ok(None),
        }
    }
}

impl Coded<'_> {
    /// These rows and then those.
    fn followed_by(self, next: Self) -> Self {
        match (self, next) {
            (Self::Blocks(kind, mut bytes), Self::Blocks(_, more)) => {
                bytes.to_mut().extend_from_slice(&more);
                Self::Blocks(kind, bytes)
            }
            (Self::Uniform(uniform, mut rows), Self::Uniform(_, more)) => {
                rows.codes.extend(more.codes);
                if uniform.grouping != Grouping::Tensor {
                    rows.scales.extend(more.scales);
                    rows.zeros.extend(more.zeros);
                }
                Self::Uniform(uniform, rows)
            }
            (first, _) => first,
        }
    }
}

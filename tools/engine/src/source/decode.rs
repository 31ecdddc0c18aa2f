//! The weights of a tensor that is read, as floats.

use std::ops::Range;

use niwaki_codes::BlockView;
use niwaki_codes::simd::Level;
use niwaki_container::ToldBy;
use niwaki_gguf::hf::Transform;
use niwaki_quant::Values;
use niwaki_tensors::{Dtype, byte_len, decode_f32};

use super::codes::decode_listed;
use super::tensor::{Form, SourceTensor};
use crate::error::{Blame, Error};

/// Flat indices of weights, and the weights.
pub(crate) type Listed = (Vec<usize>, Vec<f32>);

impl SourceTensor<'_> {
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

    /// The flat indices and values of the weights that are stored of some rows, where positions tell
    /// which these are.
    ///
    /// # Errors
    ///
    /// Those of decoding.
    pub(crate) fn listed(&self, rows: Range<usize>) -> Result<Option<Listed>, Error> {
        let Form::Ours(decoder) = &self.form else { return Ok(None) };
        let kept = decoder.tensor().layout().kept;
        if self.transform != Transform::None || kept.is_none_or(|kept| kept.told_by != ToldBy::Positions) {
            return Ok(None);
        }
        let (mut places, mut weights) = (Vec::new(), Vec::new());
        decoder.visit_kept(Level::best(), rows, |at, values| {
            places.extend_from_slice(at);
            weights.extend_from_slice(values);
        })?;
        Ok(Some((places, weights)))
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
            Form::Made(made) => made.weights.decode(range, out),
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

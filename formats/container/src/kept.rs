//! Tensors of which only some weights are stored: where those stand, and their floats.

use std::ops::Range;

use niwaki_codes::mask::scatter;
use niwaki_codes::simd::Level;
use niwaki_codes::{MaskView, SparseView, Support};
use niwaki_tensors::{Dtype, as_f32, decode_f32};

use crate::error::{Error, ErrorKind};

/// Kept weights that are decoded at a time, on the stack: whole bytes of mask, and no less than
/// a run of [`Support::visit_rows`].
const BLOCK: usize = 512;

/// Rows between two remembered counts of what a mask keeps.
const STRIDE: usize = 16;

/// Kept weights between two remembered counts of positions, if they were spread evenly.
const KEPT_STRIDE: usize = 64;

/// The places of kept weights, with how many stand before some of the rows.
#[derive(Clone, Debug)]
pub(crate) struct Counted<'a> {
    support: Support<'a>,
    /// Rows between two counts.
    stride: usize,
    before: Vec<usize>,
}

impl<'a> Counted<'a> {
    /// Counts the kept weights, of which the metadata `says` how many they are.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::KeptCount`] for a mask that keeps another number.
    pub(crate) fn new(support: Support<'a>, says: usize) -> Result<Self, Error> {
        let rows = support.rows();
        let stride = match support.mask() {
            Some(_) => STRIDE,
            // A few bytes of positions may belong to any number of rows.
            None => rows.div_ceil(says / KEPT_STRIDE + 1).max(STRIDE),
        };
        let (mut before, mut has) = (Vec::new(), 0);
        for start in (0..rows).step_by(stride) {
            before.push(has);
            has += support.kept_in_rows(start..start.saturating_add(stride).min(rows), has).unwrap_or(0);
        }
        // As many positions as there should be were seen when their view was made.
        if has != says && support.mask().is_some() {
            return Err(ErrorKind::KeptCount { says, has }.into());
        }
        Ok(Self { support, stride, before })
    }

    /// How many weights are kept before `row`.
    pub(crate) fn before(&self, row: usize) -> usize {
        let start = row / self.stride * self.stride;
        let before = self.before.get(row / self.stride).copied().unwrap_or(0);
        before + self.support.kept_in_rows(start..row, before).unwrap_or(0)
    }
}

/// What is stored of the kept weights.
#[derive(Clone, Debug)]
pub(crate) enum KeptForm<'a> {
    /// They themselves, in the type of the source.
    Values(Dtype, &'a [u8]),
    /// Their codes.
    Codes(Box<SparseView<'a>>),
}

/// The kept weights of one tensor.
#[derive(Clone, Debug)]
pub(crate) struct KeptView<'a> {
    pub(crate) counted: Counted<'a>,
    pub(crate) form: KeptForm<'a>,
}

impl KeptView<'_> {
    /// Reads every part and refuses what no encoder writes.
    pub(crate) fn check(&self) -> Result<(), niwaki_codes::Error> {
        match &self.form {
            KeptForm::Values(..) => self.counted.support.check(),
            KeptForm::Codes(view) => view.check(),
        }
    }

    /// Decodes whole rows that are there into `out`, which has their length.
    pub(crate) fn dequantize_rows(&self, level: Level, rows: Range<usize>, out: &mut [f32]) -> Result<(), Error> {
        let (support, before) = (self.counted.support, self.counted.before(rows.start));
        match (&self.form, support.mask()) {
            (KeptForm::Codes(view), _) => view.dequantize_rows(level, rows, before, out).map(|_| ())?,
            (KeptForm::Values(..), Some(mask)) => {
                let mut next = before;
                for (row, out) in rows.zip(out.chunks_mut(mask.cols().max(1))) {
                    next += self.dequantize_cols(level, (row, 0), next, out)?;
                }
            }
            (KeptForm::Values(..), None) => {
                let first = rows.start.saturating_mul(support.cols());
                out.fill(0.0);
                self.visit_rows(level, rows, |places, values| {
                    for (place, value) in places.iter().zip(values) {
                        if let Some(out) = out.get_mut(place.saturating_sub(first)) {
                            *out = *value;
                        }
                    }
                })?;
            }
        }
        Ok(())
    }

    /// Decodes the columns from `first`, a multiple of eight, on of a row whose places a mask tells,
    /// where `before` weights are kept before them; says how many of these are.
    pub(crate) fn dequantize_cols(
        &self,
        level: Level,
        (row, first): (usize, usize),
        before: usize,
        out: &mut [f32],
    ) -> Result<usize, Error> {
        let bits = self.counted.support.mask().and_then(|mask| mask.row(row)).and_then(|bits| bits.get(first / 8..));
        let (mut next, mut room) = (before, [0.0; BLOCK + 16]);
        for (out, bits) in out.chunks_mut(BLOCK).zip(bits.unwrap_or_default().chunks(BLOCK / 8)) {
            let bits = bits.get(..out.len().div_ceil(8)).unwrap_or(bits);
            let count = MaskView::new(1, out.len(), bits)?.kept();
            next += scatter(level, bits, self.values(level, row, (next, count), &mut room)?, out)?;
        }
        Ok(next - before)
    }

    /// `count` kept weights from number `next` on, of which all that have a row's scale are of `row`: where
    /// they stand as they are, or decoded. There is room for them and for sixteen more.
    pub(crate) fn values<'b>(
        &'b self,
        level: Level,
        row: usize,
        (next, count): (usize, usize),
        room: &'b mut [f32],
    ) -> Result<&'b [f32], Error> {
        match &self.form {
            KeptForm::Codes(view) => Ok(view.values(level, row, (next, count), room)?),
            KeptForm::Values(dtype, values) => {
                let values = elements(values, *dtype, next, count);
                if let Some(values) = as_f32(*dtype, values).filter(|values| values.len() == count) {
                    return Ok(values);
                }
                let room = room.get_mut(..count).unwrap_or_default();
                decode_f32(*dtype, values, room)?;
                Ok(room)
            }
        }
    }

    /// Which weights are kept.
    pub(crate) fn support(&self) -> Support<'_> {
        self.counted.support
    }

    /// Hands out the kept weights of whole rows in runs: flat indices and values.
    pub(crate) fn visit_rows(
        &self,
        level: Level,
        rows: Range<usize>,
        mut take: impl FnMut(&[usize], &[f32]),
    ) -> Result<(), Error> {
        let before = self.counted.before(rows.start);
        match &self.form {
            KeptForm::Codes(view) => view.visit_rows(level, rows, before, take).map(|_| ())?,
            KeptForm::Values(dtype, values) => {
                self.counted.support.visit_rows(rows, before, |next, places| {
                    let mut buffer = [0.0; BLOCK];
                    let kept = buffer.get_mut(..places.len()).unwrap_or_default();
                    decode_f32(*dtype, elements(values, *dtype, next, kept.len()), kept)?;
                    take(places, kept);
                    Ok::<(), Error>(())
                })?;
            }
        }
        Ok(())
    }
}

/// The bytes of `count` elements from element `first` on; nothing past the end.
pub(crate) fn elements(bytes: &[u8], dtype: Dtype, first: usize, count: usize) -> &[u8] {
    let size = dtype.bitsize() / 8;
    let start = first.saturating_mul(size);
    bytes.get(start..start.saturating_add(count.saturating_mul(size))).unwrap_or_default()
}

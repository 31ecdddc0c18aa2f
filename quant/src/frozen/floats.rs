//! Small floats.

use niwaki_codes::floats::{Blocks, E2M1, E4M3, Float, NF4};
use niwaki_codes::simd::Level;
use niwaki_codes::{Bits, stamp};

use super::blocks::E2M1_ORDER;
use super::ranked::{ASCENDING, Ranked};
use super::stream::{Grids, recode_packed};
use super::whole_rows;
use crate::Error;
use crate::error::exactly;
use crate::floats::float_bytes;

/// The codes of E4M3 from the least value to the greatest, without -0 and NaN.
const E4M3_ORDER: [u8; 253] = {
    let mut order = [0; 253];
    let mut at = 0;
    while at < 253 {
        order[at] = if at < 126 { 0xFE - at as u8 } else { at as u8 - 126 };
        at += 1;
    }
    order
};

/// The parts of small floats, of which the codes may change.
#[derive(Debug)]
pub struct FloatCodes<'a> {
    /// Codes, row by row.
    pub codes: &'a mut [u8],
    /// Scales of the rows; one for all of a tensor.
    pub scales: &'a [u8],
    /// The F32 factor of NVFP4; empty of others.
    pub factor: &'a [u8],
}

/// Moves the codes of whole rows of `cols` weights to the nearest of each target, and says how
/// many moved. Rows of squares come in multiples of a side, or are the last.
///
/// # Errors
///
/// [`crate::ErrorKind::NotFinite`] for a target that is an infinity or NaN,
/// [`crate::ErrorKind::Length`] for targets that are not whole rows or a part of another length.
pub fn recode_float_rows(
    level: Level,
    float: Float,
    cols: usize,
    parts: FloatCodes<'_>,
    targets: &[f32],
) -> Result<usize, Error> {
    let rows = whole_rows(level, cols, targets)?;
    let (codes, scales) = float_bytes(float, rows, cols);
    exactly("codes", codes, parts.codes.len())?;
    exactly("scales", scales, parts.scales.len())?;
    exactly("factor", if float.has_factor() { 4 } else { 0 }, parts.factor.len())?;
    let factor = parts.factor.first_chunk().map_or(1.0, |bytes| f32::from_le_bytes(*bytes));
    let wide = float.scale_shape(rows, cols).1;
    let (high, size) = match float {
        Float::Fp8E4m3(Blocks::Tensor) => (usize::MAX, usize::MAX),
        Float::Fp8E4m3(Blocks::Square(side)) => (side.get() as usize, side.get() as usize),
        Float::Mxfp4 => (1, 32),
        Float::Nvfp4 => (1, 16),
        Float::Nf4(group) => (1, group.get()),
        _ => (1, usize::MAX),
    };
    let (bits, table, order): (_, &[f32], &[u8]) = match float {
        Float::Fp8E4m3(_) => (Bits::MAX, &E4M3, &E4M3_ORDER),
        Float::Nf4(_) => (Bits::new(4).unwrap_or(Bits::MAX), &NF4, &ASCENDING),
        _ => (Bits::new(4).unwrap_or(Bits::MAX), &E2M1, &E2M1_ORDER),
    };
    let scale = |group| float.scale(parts.scales, factor, group);
    let mut spans = Spans { scale, first: 0, size, table, order, held: None, ranked: Ranked::EMPTY };
    let mut moved = 0;
    let all = parts.codes.chunks_mut(float.row_bytes(cols).max(1)).zip(targets.chunks(cols.max(1)));
    for (row, (codes, targets)) in all.enumerate() {
        spans.first = row / high * wide;
        moved += recode_packed(level, (bits, codes), &mut spans, 0, targets)?;
    }
    Ok(moved)
}

/// What the codes of a row that share a scale stand for.
struct Spans<'a, S> {
    /// What values are multiplied by, by the number of the scale.
    scale: S,
    /// The first scale of the row.
    first: usize,
    /// Codes that share one.
    size: usize,
    table: &'a [f32],
    order: &'a [u8],
    /// The bits of the scale that values are ranked under.
    held: Option<u32>,
    ranked: Ranked,
}

impl<S: Fn(usize) -> f32> Grids for Spans<'_, S> {
    fn turn_to(&mut self, level: Level, at: usize) -> usize {
        let scale = (self.scale)(self.first + at / self.size);
        if self.held != Some(scale.to_bits()) {
            self.held = Some(scale.to_bits());
            let mut values = [0.0; 256];
            let values = &mut values[..self.table.len()];
            scaled(level, self.table, scale, values);
            self.ranked.set(level, values, self.order);
        }
        self.size - at % self.size
    }

    fn recode(&self, _: Level, targets: &[f32], codes: &mut [u8]) -> usize {
        self.ranked.recode(targets, codes)
    }
}

stamp! {
    fn scaled = scaled_body(table: &[f32], scale: f32, out: &mut [f32]) -> ();
}

#[inline(always)]
fn scaled_body(table: &[f32], scale: f32, out: &mut [f32]) {
    for (value, out) in table.iter().zip(out) {
        *out = value * scale;
    }
}

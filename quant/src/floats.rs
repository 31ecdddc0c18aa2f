//! Codes and scales of small floats.
//!
//! With `a` the largest magnitude of the weights that share a scale, and `A` that of the tensor:
//!
//! ```text
//! fp8_e4m3    scale = a / 448; a tensor's is A / 448
//! mxfp4       scale = 2^(floor(log2 a) - 2)
//! nvfp4       scale = e4m3(a / 6 * F), F = 448 * 6 / A; weights are scale / F apart
//! nf4         scale = a
//! ```
//!
//! and each code is the nearest to `x / scale`, ties to even, saturating. Weights that are all
//! zero take scale 1, of MXFP4 2^-127.
//!
//! Whence: FP8 and NVFP4 as compressed-tensors 0.20 computes them (`calculate_qparams`,
//! `generate_gparam`); MXFP4 by [ocp-mx, 6.3], where magnitudes from 6 to below 8 times the
//! scale saturate; NF4 by [qlora, 3].
//!
//! Codes are row by row: FP8 a byte each, the others two a byte, the first in the low nibble, a
//! row of an odd length padded. Scales are row by row: F32, e8m0 of MXFP4, e4m3 of NVFP4.

use core::ops::Range;

use niwaki_codes::floats::{
    Blocks, E2M1, E2M1_MAX, E4M3_MAX, Float, NF4, e4m3_to_f32, e8m0_floor, e8m0_to_f32, encode_e2m1, encode_e4m3,
    encode_nf4, f32_to_e4m3,
};
use niwaki_codes::simd::Level;

use crate::distortion::Distortion;
use crate::error::exactly;
use crate::{Error, ErrorKind, Values};

/// Weights that are decoded at a time; even, so that nibbles do not fall apart.
const CHUNK: usize = 512;

/// Where codes and scales go.
#[derive(Debug)]
pub struct FloatOut<'a> {
    /// Codes of the rows.
    pub codes: &'a mut [u8],
    /// Scales of the rows; one for all of a tensor.
    pub scales: &'a mut [u8],
}

/// Bytes of the codes and of the scales of `rows` by `cols` weights, `usize::MAX` of each where
/// a count does not fit.
///
/// The F32 factor of NVFP4 is not among them: see [`nvfp4_factor`].
pub fn float_bytes(float: Float, rows: usize, cols: usize) -> (usize, usize) {
    float.sizes(rows, cols).map_or((usize::MAX, usize::MAX), |sizes| (sizes.codes, sizes.scales))
}

/// The largest magnitude of finite weights.
///
/// # Errors
///
/// [`ErrorKind::NotFinite`] for the first that is not.
pub fn largest(level: Level, values: Values<'_>) -> Result<f32, Error> {
    let mut buffer = [0.0; CHUNK];
    let mut most = 0.0f32;
    for at in (0..values.len()).step_by(CHUNK) {
        let n = CHUNK.min(values.len() - at);
        values.slice(at..at + n).decode(level, &mut buffer[..n]);
        most = most.max(magnitude(&buffer[..n]).map_err(|e| e.offset(at, 0))?);
    }
    Ok(most)
}

fn magnitude(x: &[f32]) -> Result<f32, Error> {
    let most = x.iter().map(|x| x.to_bits() & 0x7FFF_FFFF).max().unwrap_or(0);
    if most < 0x7F80_0000 {
        return Ok(f32::from_bits(most));
    }
    let index = x.iter().position(|x| !x.is_finite()).unwrap_or(0);
    Err(ErrorKind::NotFinite { index }.into())
}

/// The factor under which NVFP4 scales of a tensor of this largest magnitude fill e4m3: what
/// compressed-tensors stores as `weight_global_scale`.
pub fn nvfp4_factor(largest: f32) -> f32 {
    let factor = E4M3_MAX * E2M1_MAX / largest;
    if factor.is_finite() { factor } else { 1.0 }
}

/// Encodes whole rows of `cols` weights. `largest` is that of the whole tensor, which
/// `fp8_e4m3/tensor` and `nvfp4` need; others do not look at it. Rows of squares come in
/// multiples of a side, or are the last.
///
/// # Errors
///
/// [`ErrorKind::NotFinite`] for a weight that is not; [`ErrorKind::Length`] for values that are
/// not whole rows, or buffers of other lengths than [`float_bytes`] says.
pub fn encode_float_rows(
    level: Level,
    float: Float,
    values: Values<'_>,
    cols: usize,
    largest: f32,
    out: FloatOut<'_>,
) -> Result<Distortion, Error> {
    let rows = values.len().checked_div(cols).unwrap_or(0);
    exactly("values", rows * cols, values.len())?;
    let (codes, scales) = float_bytes(float, rows, cols);
    exactly("codes", codes, out.codes.len())?;
    exactly("scales", scales, out.scales.len())?;
    let factor = nvfp4_factor(largest);
    let mut work = Work { level, float, values, cols, factor, out, total: Distortion::default() };
    if let Float::Fp8E4m3(Blocks::Tensor) = float {
        // Weights are looked at, for the largest may be another tensor's.
        work.largest(0..rows, 0..cols)?;
        let scale = work.store(0, largest);
        work.encode(0..rows, 0..cols, scale);
        return Ok(work.total);
    }
    let (high, wide) = match float {
        Float::Fp8E4m3(Blocks::Square(side)) => (side.get() as usize, side.get() as usize),
        Float::Mxfp4 => (1, 32),
        Float::Nvfp4 => (1, 16),
        Float::Nf4(group) => (1, group.get()),
        _ => (1, cols.max(1)),
    };
    let mut group = 0;
    for row in (0..rows).step_by(high) {
        if high == 1 && wide <= CHUNK {
            work.groups(row, wide, group)?;
            group += cols.div_ceil(wide);
            continue;
        }
        for col in (0..cols).step_by(wide) {
            let (lines, span) = (row..(row + high).min(rows), col..(col + wide).min(cols));
            let most = work.largest(lines.clone(), span.clone())?;
            let scale = work.store(group, most);
            work.encode(lines, span, scale);
            group += 1;
        }
    }
    Ok(work.total)
}

/// One call of [`encode_float_rows`].
struct Work<'a> {
    level: Level,
    float: Float,
    values: Values<'a>,
    cols: usize,
    factor: f32,
    out: FloatOut<'a>,
    total: Distortion,
}

impl Work<'_> {
    /// The largest magnitude of a block.
    fn largest(&self, rows: Range<usize>, cols: Range<usize>) -> Result<f32, Error> {
        let mut most = 0.0f32;
        for row in rows {
            let start = row * self.cols;
            let line = self.values.slice(start + cols.start..start + cols.end);
            most = most.max(largest(self.level, line).map_err(|e| e.offset(start + cols.start, 0))?);
        }
        Ok(most)
    }

    /// Stores the scale of weights up to `most`, and gives what the codes are multiplied by.
    fn store(&mut self, group: usize, most: f32) -> f32 {
        let byte = |scales: &mut [u8], code: u8| {
            if let Some(to) = scales.get_mut(group) {
                *to = code;
            }
        };
        match self.float {
            Float::Mxfp4 => {
                let code = e8m0_floor(most).saturating_sub(2);
                byte(self.out.scales, code);
                e8m0_to_f32(code)
            }
            Float::Nvfp4 => {
                let code = f32_to_e4m3(most / E2M1_MAX * self.factor);
                byte(self.out.scales, code);
                e4m3_to_f32(code) / self.factor
            }
            _ => {
                let scale = if matches!(self.float, Float::Nf4(_)) { most } else { most / E4M3_MAX };
                let scale = if scale > 0.0 { scale } else { 1.0 };
                if let Some(to) = self.out.scales.as_chunks_mut::<4>().0.get_mut(group) {
                    *to = scale.to_le_bytes();
                }
                scale
            }
        }
    }

    /// Encodes a row in groups of `wide`, several at a time; the first has the scale `group`.
    fn groups(&mut self, row: usize, wide: usize, mut group: usize) -> Result<(), Error> {
        let (mut x, mut y, mut codes) = ([0.0; CHUNK], [0.0; CHUNK], [0; CHUNK]);
        let batch = CHUNK / wide * wide;
        for from in (0..self.cols).step_by(batch) {
            let n = batch.min(self.cols - from);
            let at = row * self.cols + from;
            self.values.slice(at..at + n).decode(self.level, &mut x[..n]);
            let spans = x[..n].chunks(wide).zip(codes[..n].chunks_mut(wide)).zip(y.chunks_mut(wide));
            for (nth, ((x, codes), y)) in spans.enumerate() {
                let most = magnitude(x).map_err(|e| e.offset(at + nth * wide, 0))?;
                let scale = self.store(group, most);
                self.codes(x, scale, codes);
                self.levels(codes, scale, y);
                group += 1;
            }
            self.total.merge(&Distortion::between(&x[..n], &y[..n]));
            self.put(row, from, &codes[..n]);
        }
        Ok(())
    }

    /// Encodes a block under its scale.
    fn encode(&mut self, rows: Range<usize>, cols: Range<usize>, scale: f32) {
        let (mut x, mut y, mut codes) = ([0.0; CHUNK], [0.0; CHUNK], [0; CHUNK]);
        for row in rows {
            for from in cols.clone().step_by(CHUNK) {
                let n = CHUNK.min(cols.end - from);
                let at = row * self.cols + from;
                self.values.slice(at..at + n).decode(self.level, &mut x[..n]);
                self.codes(&x[..n], scale, &mut codes[..n]);
                self.levels(&codes[..n], scale, &mut y);
                self.total.merge(&Distortion::between(&x[..n], &y[..n]));
                self.put(row, from, &codes[..n]);
            }
        }
    }

    fn codes(&self, x: &[f32], scale: f32, codes: &mut [u8]) {
        // Weights too small for their scale have none: NVFP4 scales may be 0.
        if scale == 0.0 {
            return codes.fill(0);
        }
        match self.float {
            Float::Fp8E4m3(_) => encode_e4m3(self.level, x, scale, codes),
            Float::Nf4(_) => encode_nf4(self.level, x, scale, codes),
            _ => encode_e2m1(self.level, x, scale, codes),
        }
    }

    /// What codes decode to.
    fn levels(&self, codes: &[u8], scale: f32, y: &mut [f32]) {
        let pairs = y.iter_mut().zip(codes);
        match self.float {
            Float::Fp8E4m3(_) => pairs.for_each(|(y, code)| *y = e4m3_to_f32(*code) * scale),
            Float::Nf4(_) => pairs.for_each(|(y, code)| *y = NF4[usize::from(code & 15)] * scale),
            _ => pairs.for_each(|(y, code)| *y = E2M1[usize::from(code & 15)] * scale),
        }
    }

    /// Writes codes from column `from` of a row on.
    fn put(&mut self, row: usize, from: usize, codes: &[u8]) {
        if let Float::Fp8E4m3(_) = self.float {
            let at = row * self.cols + from;
            self.out.codes[at..at + codes.len()].copy_from_slice(codes);
            return;
        }
        let start = row * self.cols.div_ceil(2);
        if from.is_multiple_of(2) {
            let line = &mut self.out.codes[start + from / 2..];
            for (to, pair) in line.iter_mut().zip(codes.chunks(2)) {
                *to = pair[0] | pair.get(1).map_or(0, |high| high << 4);
            }
            return;
        }
        for (col, code) in (from..).zip(codes) {
            let to = &mut self.out.codes[start + col / 2];
            // The low nibble comes first and clears what was there.
            *to = if col.is_multiple_of(2) { *code } else { *to & 15 | code << 4 };
        }
    }
}

#[cfg(all(test, feature = "std"))]
mod tests;

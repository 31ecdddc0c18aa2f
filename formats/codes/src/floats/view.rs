//! A borrowed tensor of small floats.

use core::ops::Range;

use super::{Blocks, Float, NF4, e4m3, e4m3_to_f32, e8m0_to_f32};
use crate::rows::{check_cols, check_rows};
use crate::simd::Level;
use crate::{Error, ErrorKind, stamp};

/// Bytes of the parts of a tensor of small floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FloatSizes {
    /// Of the codes of one row.
    pub row: usize,
    /// Of all codes.
    pub codes: usize,
    /// Of all scales.
    pub scales: usize,
    /// Of the factor: 4 where there is one, else 0.
    pub factor: usize,
}

impl Float {
    /// Rows and columns of the scales of `rows` by `cols` weights, one scale each.
    pub fn scale_shape(self, rows: usize, cols: usize) -> (usize, usize) {
        match self {
            Self::Fp8E4m3(Blocks::Tensor) => (1, 1),
            Self::Fp8E4m3(Blocks::Row) => (rows, 1),
            Self::Fp8E4m3(Blocks::Square(side)) => {
                let side = (side.get() as usize).max(1);
                (rows.div_ceil(side), cols.div_ceil(side))
            }
            Self::Mxfp4 => (rows, cols.div_ceil(32)),
            Self::Nvfp4 => (rows, cols.div_ceil(16)),
            Self::Nf4(group) => (rows, cols.div_ceil(group.get())),
        }
    }

    /// Bytes of one scale.
    pub const fn scale_bytes(self) -> usize {
        match self {
            Self::Fp8E4m3(_) | Self::Nf4(_) => 4,
            Self::Mxfp4 | Self::Nvfp4 => 1,
        }
    }

    /// Bytes of the codes of one row of `cols` weights: two weights a byte but for FP8.
    pub const fn row_bytes(self, cols: usize) -> usize {
        match self {
            Self::Fp8E4m3(_) => cols,
            Self::Mxfp4 | Self::Nvfp4 | Self::Nf4(_) => cols.div_ceil(2),
        }
    }

    /// What the codes under scale `group` of all are multiplied by: of NVFP4 the quotient of the
    /// scale and `factor`, which others do not look at. 0 past the last scale.
    #[inline(always)]
    pub fn scale(self, scales: &[u8], factor: f32, group: usize) -> f32 {
        let byte = scales.get(group).copied();
        match self {
            Self::Mxfp4 => byte.map_or(0.0, e8m0_to_f32),
            Self::Nvfp4 => byte.map_or(0.0, e4m3_to_f32) / factor,
            Self::Fp8E4m3(_) | Self::Nf4(_) => {
                scales.as_chunks().0.get(group).map_or(0.0, |bytes| f32::from_le_bytes(*bytes))
            }
        }
    }

    /// Whether one F32 for the whole tensor stands above the scales.
    pub const fn has_factor(self) -> bool {
        matches!(self, Self::Nvfp4)
    }

    /// Bytes of the parts of `rows` by `cols` weights.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Overflow`] where a count does not fit into `usize`.
    pub fn sizes(self, rows: usize, cols: usize) -> Result<FloatSizes, Error> {
        let times = |a: usize, b: usize| a.checked_mul(b).ok_or(ErrorKind::Overflow);
        times(rows, cols)?;
        let (high, wide) = self.scale_shape(rows, cols);
        let row = self.row_bytes(cols);
        let (codes, scales) = (times(rows, row)?, times(times(high, wide)?, self.scale_bytes())?);
        Ok(FloatSizes { row, codes, scales, factor: if self.has_factor() { 4 } else { 0 } })
    }
}

/// The parts of one tensor of [`Float`] codes, borrowed.
///
/// ```text
/// codes     FP8 a byte each; others two a byte, the first in the low nibble, rows padded
/// scales    row by row: F32 of FP8 and NF4, e8m0 of MXFP4, e4m3 of NVFP4
/// factor    one F32 of NVFP4
///
/// x = level(code) * scale          NVFP4: level(code) * (scale / factor)
/// ```
///
/// # Invariants
///
/// - the parts have the lengths that [`Float::sizes`] says
///
/// Opening costs nothing; [`check`](Self::check) reads the parts and refuses contents
/// that no encoder writes. Decoding is safe without it.
///
/// # Examples
///
/// ```
/// use niwaki_codes::{FloatView, simd::Level};
///
/// // 1.5, -0.5 and 6 in e2m1, under the scale 1 (e4m3) and the factor 2.
/// let factor = 2.0f32.to_le_bytes();
/// let view = FloatView::new("nvfp4".parse()?, 1, 3, &[0x93, 0x07], &[0x38], Some(&factor))?;
/// view.check()?;
/// let mut row = [0.0; 3];
/// view.dequantize_rows(Level::best(), 0..1, &mut row)?;
/// assert_eq!(row, [0.75, -0.25, 3.0]);
/// # Ok::<(), niwaki_codes::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct FloatView<'a> {
    float: Float,
    rows: usize,
    cols: usize,
    row_bytes: usize,
    codes: &'a [u8],
    scales: &'a [u8],
    factor: f32,
}

impl<'a> FloatView<'a> {
    /// A view of `rows` by `cols` weights over codes, scales and, for NVFP4, the factor.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::PartLength`] for a part of another length (a missing factor has none; one
    /// that the floats do not have needs none), [`ErrorKind::Overflow`] where a count does
    /// not fit into `usize`.
    pub fn new(
        float: Float,
        rows: usize,
        cols: usize,
        codes: &'a [u8],
        scales: &'a [u8],
        factor: Option<&'a [u8]>,
    ) -> Result<Self, Error> {
        let sizes = float.sizes(rows, cols)?;
        let factor = factor.unwrap_or(&[]);
        part("codes", sizes.codes, codes.len())?;
        part("scales", sizes.scales, scales.len())?;
        part("factor", sizes.factor, factor.len())?;
        let factor = factor.first_chunk().map_or(1.0, |bytes| f32::from_le_bytes(*bytes));
        Ok(Self { float, rows, cols, row_bytes: sizes.row, codes, scales, factor })
    }

    /// What the codes mean.
    pub fn float(&self) -> Float {
        self.float
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Weights of one row.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The codes of one row; none past the last row.
    pub fn row_codes(&self, row: usize) -> &'a [u8] {
        let start = row.saturating_mul(self.row_bytes);
        self.codes.get(start..start.saturating_add(self.row_bytes)).unwrap_or(&[])
    }

    /// Weights of a row that share a scale; the last ones may be fewer.
    pub fn run(&self) -> usize {
        match self.float {
            Float::Fp8E4m3(Blocks::Tensor | Blocks::Row) => self.cols.max(1),
            Float::Fp8E4m3(Blocks::Square(side)) => (side.get() as usize).max(1),
            Float::Mxfp4 => 32,
            Float::Nvfp4 => 16,
            Float::Nf4(group) => group.get().max(1),
        }
    }

    /// What run `at` of a row is multiplied by, the factor applied; 0 past the last scale.
    pub fn scale(&self, row: usize, at: usize) -> f32 {
        self.scale_of(self.line(row).saturating_add(at))
    }

    /// Reads every part and refuses what no encoder writes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::StrayBits`] past the end of a row, [`ErrorKind::NotANumber`] for an e4m3
    /// code that is NaN, [`ErrorKind::Factor`] for one that is not finite or not above 0,
    /// [`ErrorKind::Scale`] for an infinity or NaN, with the number of the scale.
    pub fn check(&self) -> Result<(), Error> {
        // Rows without a byte may be usize::MAX many, but then there are no codes.
        let mut rows = self.codes.chunks(self.row_bytes.max(1));
        if let Float::Fp8E4m3(_) = self.float {
            let nan = |row: &[u8]| row.iter().fold(false, |nan, code| nan | (code & 0x7F == 0x7F));
            if let Some(row) = rows.position(nan) {
                return Err(ErrorKind::NotANumber { part: "codes", row }.into());
            }
        } else if !self.cols.is_multiple_of(2)
            && let Some(row) = rows.position(|row| row.last().is_some_and(|byte| byte >> 4 != 0))
        {
            return Err(ErrorKind::StrayBits { part: "codes", row }.into());
        }
        if !(self.factor.is_finite() && self.factor > 0.0) {
            return Err(ErrorKind::Factor.into());
        }
        let groups = self.scales.len() / self.float.scale_bytes();
        match (0..groups).find(|group| !self.scale_of(*group).is_finite()) {
            Some(group) => Err(ErrorKind::Scale { group }.into()),
            None => Ok(()),
        }
    }

    /// Decodes whole rows into `out`, row by row.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Range`] for rows that are not there or an `out` of another length.
    pub fn dequantize_rows(&self, level: Level, rows: Range<usize>, out: &mut [f32]) -> Result<(), Error> {
        check_rows(&rows, (self.rows, self.cols), out.len())?;
        // Rows without columns may be usize::MAX many; chunks of nothing are none.
        for (row, out) in rows.zip(out.chunks_mut(self.cols.max(1))) {
            decode_cols(level, self, (row, 0), out);
        }
        Ok(())
    }

    /// Decodes the columns `first..first + out.len()` of one row.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Range`] for a row or columns that are not there, and for an odd `first`.
    pub fn dequantize_cols(&self, level: Level, row: usize, first: usize, out: &mut [f32]) -> Result<(), Error> {
        check_cols((row, first, 2), (self.rows, self.cols), out.len())?;
        decode_cols(level, self, (row, first), out);
        Ok(())
    }

    /// The number of the first scale of a row.
    #[inline(always)]
    fn line(&self, row: usize) -> usize {
        match self.float {
            Float::Fp8E4m3(Blocks::Tensor) => 0,
            Float::Fp8E4m3(Blocks::Square(side)) => {
                let side = (side.get() as usize).max(1);
                (row / side).saturating_mul(self.cols.div_ceil(side))
            }
            other => row.saturating_mul(other.scale_shape(1, self.cols).1),
        }
    }

    /// Scale `group` of all, the factor applied.
    #[inline(always)]
    fn scale_of(&self, group: usize) -> f32 {
        self.float.scale(self.scales, self.factor, group)
    }
}

fn part(part: &'static str, needs: usize, has: usize) -> Result<(), Error> {
    if needs == has { Ok(()) } else { Err(ErrorKind::PartLength { part, needs, has }.into()) }
}

/// Weights whose levels are found before they are scaled: whole bytes, and in the first cache.
const TILE: usize = 1024;

stamp! {
    /// Decodes a row from a column on, the first of a byte; lengths were checked by the view.
    fn decode_cols = decode_cols_body(view: &FloatView<'_>, at: (usize, usize), out: &mut [f32]) -> ();
}

#[inline(always)]
fn decode_cols_body(view: &FloatView<'_>, (row, first): (usize, usize), out: &mut [f32]) {
    let (codes, run) = (view.row_codes(row), view.run());
    let mut group = view.line(row).saturating_add(first / run);
    let (mut left, mut scale) = (run - first % run, view.scale_of(group));
    for (tile, out) in out.chunks_mut(TILE).enumerate() {
        let column = tile.saturating_mul(TILE).saturating_add(first);
        match view.float {
            Float::Fp8E4m3(_) => {
                let codes = codes.get(column..).unwrap_or(&[]);
                codes.iter().zip(out.iter_mut()).for_each(|(code, x)| *x = e4m3(*code));
            }
            Float::Mxfp4 | Float::Nvfp4 => nibbles(codes.get(column / 2..).unwrap_or(&[]), out, e2m1),
            Float::Nf4(_) => {
                nibbles(codes.get(column / 2..).unwrap_or(&[]), out, |code| NF4[usize::from(code & 15)]);
            }
        }
        let mut rest = out;
        while !rest.is_empty() {
            if left == 0 {
                group = group.saturating_add(1);
                (left, scale) = (run, view.scale_of(group));
            }
            let n = left.min(rest.len());
            let Some((some, after)) = rest.split_at_mut_checked(n) else { return };
            some.iter_mut().for_each(|x| *x *= scale);
            (rest, left) = (after, left - n);
        }
    }
}

/// The levels of codes that lie two in a byte.
#[inline(always)]
fn nibbles(bytes: &[u8], out: &mut [f32], level: impl Fn(u8) -> f32) {
    let (pairs, last) = out.as_chunks_mut::<2>();
    let odd = bytes.get(pairs.len());
    for ([low, high], byte) in pairs.iter_mut().zip(bytes) {
        (*low, *high) = (level(byte & 15), level(byte >> 4));
    }
    for (x, byte) in last.iter_mut().zip(odd) {
        *x = level(byte & 15);
    }
}

/// The value of an e2m1, without a look into a table, so that it vectorizes.
#[inline(always)]
fn e2m1(code: u8) -> f32 {
    let (sign, low) = ((u32::from(code) & 8) << 28, u32::from(code) & 7);
    let subnormal = (low as f32 / 2.0).to_bits();
    let normal = (low << 22) + (126 << 23);
    f32::from_bits(sign | if low < 2 { subnormal } else { normal })
}

#[cfg(all(test, feature = "std"))]
mod tests;

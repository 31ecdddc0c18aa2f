//! A borrowed tensor of evenly spaced codes.

use core::ops::Range;

use crate::half_floats::{f16_to_f32, read_f32_body, widen_f16_body};
use crate::pack::padding_is_clear;
use crate::rows::{check_cols, check_rows};
use crate::simd::Level;
use crate::{Error, ErrorKind, Grouping, ScaleType, Symmetry, Uniform, dequantize};

/// The parts of one tensor of [`Uniform`] codes, borrowed.
///
/// # Invariants
///
/// - the parts have the lengths that scheme, rows and columns ask for
/// - zero points are there exactly where the scheme is affine
///
/// Opening costs nothing; [`check`](Self::check) reads the parts and refuses contents
/// that no encoder writes. Decoding is safe without it.
///
/// # Examples
///
/// ```
/// use niwaki_codes::{Scheme, UniformView, simd::Level};
///
/// let Scheme::Uniform(scheme) = "int4/row/sym".parse()? else { unreachable!() };
/// let scale = 0.5f32.to_le_bytes();
/// let view = UniformView::new(scheme, 1, 3, &[0x91, 0x0F], &scale, None)?;
/// view.check()?;
/// let mut row = [0.0; 3];
/// view.dequantize_rows(Level::best(), 0..1, &mut row)?;
/// assert_eq!(row, [-3.5, 0.5, 3.5]);
/// # Ok::<(), niwaki_codes::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct UniformView<'a> {
    parts: Parts<'a>,
}

/// The fields of a view, for the kernels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts<'a> {
    pub(crate) scheme: Uniform,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    codes: &'a [u8],
    pub(crate) scales: &'a [u8],
    zeros: Option<&'a [u8]>,
}

/// The codes that decode to 0: one for all, or one a group.
enum Middles<'a> {
    Half(u8),
    Zeros(&'a [u8]),
}

impl<'a> UniformView<'a> {
    /// A view of `rows` by `cols` weights over packed `codes`, little-endian `scales`
    /// and, for affine schemes, one zero point a group.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::PartLength`] for a part of another length (a missing part has
    /// none; a part that the scheme does not have needs none), [`ErrorKind::Overflow`]
    /// where the element count does not fit into `usize`.
    pub fn new(
        scheme: Uniform,
        rows: usize,
        cols: usize,
        codes: &'a [u8],
        scales: &'a [u8],
        zeros: Option<&'a [u8]>,
    ) -> Result<Self, Error> {
        let groups = scheme.groups(rows, cols);
        let bytes = rows.checked_mul(scheme.row_bytes(cols)).ok_or(ErrorKind::Overflow)?;
        rows.checked_mul(cols).ok_or(ErrorKind::Overflow)?;
        part("codes", bytes, codes.len())?;
        part("scales", groups.saturating_mul(scheme.scale_type().bytes()), scales.len())?;
        let needs = if scheme.symmetry == Symmetry::Affine { groups } else { 0 };
        part("zeros", needs, zeros.map_or(0, <[u8]>::len))?;
        Ok(Self { parts: Parts { scheme, rows, cols, codes, scales, zeros } })
    }

    /// What the codes mean.
    pub fn scheme(&self) -> Uniform {
        self.parts.scheme
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.parts.rows
    }

    /// Weights of one row.
    pub fn cols(&self) -> usize {
        self.parts.cols
    }

    /// The packed codes of one row; none past the last row.
    pub fn row_codes(&self, row: usize) -> &'a [u8] {
        self.parts.row(row)
    }

    /// Scale and middle code of group `at` of a row: `x = scale * (code - middle)`.
    /// Past the end, `(0, 0)`.
    pub fn grid(&self, row: usize, at: usize) -> (f32, u8) {
        self.parts.grid(row, at)
    }

    /// The fields, for kernels.
    pub(crate) fn parts(&self) -> &Parts<'a> {
        &self.parts
    }

    /// Reads every part and refuses what no encoder writes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::StrayBits`] past the end of a row, [`ErrorKind::ZeroPoint`] outside
    /// the width, [`ErrorKind::Scale`] for an infinity or NaN.
    pub fn check(&self) -> Result<(), Error> {
        let Parts { scheme, rows, cols, zeros, .. } = self.parts;
        // Rows without padding have nothing to look at, and there may be usize::MAX of them without a byte.
        let mut padded = if cols % 8 == 0 { 0..0 } else { 0..rows };
        if let Some(row) = padded.find(|row| !padding_is_clear(cols, scheme.bits, self.parts.row(*row))) {
            return Err(ErrorKind::StrayBits { part: "codes", row }.into());
        }
        let mut points = zeros.unwrap_or(&[]).iter().enumerate();
        if let Some((group, zero)) = points.find(|(_, zero)| u32::from(**zero) >= scheme.bits.levels()) {
            return Err(ErrorKind::ZeroPoint { group, zero: *zero, bits: scheme.bits }.into());
        }
        let groups = 0..scheme.groups(rows, cols);
        match groups.into_iter().find(|group| !self.parts.scale(*group).is_finite()) {
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
        check_rows(&rows, (self.parts.rows, self.parts.cols), out.len())?;
        dequantize::rows(level, &self.parts, rows, out);
        Ok(())
    }

    /// Decodes the columns `first..first + out.len()` of one row, `first` a multiple of eight.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Range`] for a row or columns that are not there, and for another `first`.
    pub fn dequantize_cols(&self, level: Level, row: usize, first: usize, out: &mut [f32]) -> Result<(), Error> {
        check_cols((row, first, 8), (self.parts.rows, self.parts.cols), out.len())?;
        dequantize::columns(level, &self.parts, row, first, out);
        Ok(())
    }
}

impl<'a> Parts<'a> {
    /// Weights that share a grid inside one row.
    #[inline(always)]
    pub(crate) fn run(&self) -> usize {
        match self.scheme.grouping {
            Grouping::Group(g) => g.get(),
            Grouping::Tensor | Grouping::Row => self.cols.max(1),
        }
    }

    #[inline(always)]
    pub(crate) fn row(&self, row: usize) -> &'a [u8] {
        let bytes = self.scheme.row_bytes(self.cols);
        let start = row.saturating_mul(bytes);
        self.codes.get(start..start.saturating_add(bytes)).unwrap_or(&[])
    }

    /// The index of group `at` of a row.
    #[inline(always)]
    pub(crate) fn group(&self, row: usize, at: usize) -> usize {
        match self.scheme.grouping {
            Grouping::Tensor => 0,
            Grouping::Row => row,
            Grouping::Group(g) => row.saturating_mul(self.cols.div_ceil(g.get())).saturating_add(at),
        }
    }

    #[inline(always)]
    pub(crate) fn grid(&self, row: usize, at: usize) -> (f32, u8) {
        let group = self.group(row, at);
        let middle = match self.middles() {
            Middles::Half(half) => half,
            Middles::Zeros(zeros) => zeros.get(group).copied().unwrap_or(0),
        };
        (self.scale(group), middle)
    }

    #[inline(always)]
    fn middles(&self) -> Middles<'a> {
        match (self.scheme.symmetry, self.zeros) {
            (Symmetry::Affine, zeros) => Middles::Zeros(zeros.unwrap_or(&[])),
            (Symmetry::Symmetric, _) => Middles::Half(self.scheme.bits.half() as u8),
        }
    }

    /// The scales of the groups from `first` on; 0 past the last.
    #[inline(always)]
    pub(crate) fn scales_from(&self, first: usize, out: &mut [f32]) {
        let bytes = self.scheme.scale_type().bytes();
        let from = self.scales.get(first.saturating_mul(bytes)..).unwrap_or(&[]);
        if let Some(past) = out.get_mut(from.len() / bytes..) {
            past.fill(0.0);
        }
        match self.scheme.scale_type() {
            ScaleType::F16 => widen_f16_body(from, out),
            ScaleType::F32 => read_f32_body(from, out),
        }
    }

    /// The middle codes of the groups from `first` on.
    #[inline(always)]
    pub(crate) fn middles_from(&self, first: usize, out: &mut [i32]) {
        match self.middles() {
            Middles::Half(half) => out.fill(half.into()),
            Middles::Zeros(zeros) => {
                let from = zeros.get(first..).unwrap_or(&[]);
                out.iter_mut().zip(from).for_each(|(to, zero)| *to = (*zero).into());
            }
        }
    }

    #[inline(always)]
    pub(crate) fn scale(&self, group: usize) -> f32 {
        match self.scheme.scale_type() {
            ScaleType::F16 => self.scales.as_chunks().0.get(group).map_or(0.0, |b| f16_to_f32(u16::from_le_bytes(*b))),
            ScaleType::F32 => self.scales.as_chunks().0.get(group).map_or(0.0, |b| f32::from_le_bytes(*b)),
        }
    }
}

fn part(part: &'static str, needs: usize, has: usize) -> Result<(), Error> {
    if needs == has { Ok(()) } else { Err(ErrorKind::PartLength { part, needs, has }.into()) }
}

#[cfg(all(test, feature = "std"))]
mod tests;

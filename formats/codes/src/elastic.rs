//! A borrowed tensor of elastic codes: bit-planes that serve several widths.
//!
//! One code of `W` bits a weight, `W` the widest width served. Width `b` is its top
//! `b` bits, so it needs the first `b` planes and nothing of the others.
//!
//! ```text
//! base    per group two F16: middle m, half h     |h| is half the range of the group
//! fixB    per group one byte: shift l in the low nibble, gain g in the high one
//! planeN  one bit a weight; plane 7 is the most significant bit of the code
//! ```
//!
//! Code `q` of width `b` stands for this weight. All in `f32`, each operation rounded
//! by itself, in this order:
//!
//! ```text
//! H = |h|    u = 2q + 1 - 2^b    cell = H * 2^(1-b)
//! A = m + cell * ((l - 8) / 32)        width 8 has no fix: A = m, B = H
//! B = H + cell * ((g - 8) / 16)
//! flat    c0 = A            c1 = B * 2^-b            c2 = 0                 c3 = 0
//! curved  c0 = A - m * 0.5  c1 = (B * 0.75) * 2^-b   c2 = (m * 0.5) * 4^-b  c3 = (B * 0.25) * 8^-b
//! x = c0 + u * (c1 + u * (c2 + u * c3))
//! ```
//!
//! The sign bit of `h` chooses: clear is flat, set is curved. Flat cells are even.
//! Curved ones are narrow in the middle, where most weights are, and wide at the ends;
//! and the middle leans towards zero. With `t = u / 2^b`, between -1 and 1:
//!
//! ```text
//! flat    x = A + B t
//! curved  x = A - m/2 (1 - t^2) + B (3/4 t + 1/4 t^3)
//! ```

mod decode;

#[cfg(test)]
mod tests;

use core::ops::Range;

#[cfg(target_arch = "x86_64")]
pub(crate) use decode::NO_FIX;
pub use decode::{elastic_levels, elastic_values_body};

use crate::half_floats::f16_to_f32;
use crate::rows::{check_cols, check_rows, rows_there};
use crate::simd::Level;
use crate::{Bits, Elastic, Error, ErrorKind};

/// Bytes of each part of an elastic tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ElasticSizes {
    /// Bytes of `.base`.
    pub base: usize,
    /// Bytes of each `.fixB`.
    pub fix: usize,
    /// Bytes of each `.planeN`.
    pub plane: usize,
}

impl Elastic {
    /// Groups of one row of `cols` weights; the last one may be short.
    pub const fn groups(&self, cols: usize) -> usize {
        cols.div_ceil(self.group.get())
    }

    /// Whether width `bits` has a `.fixB` part.
    pub const fn has_fix(&self, bits: Bits) -> bool {
        self.widths.contains(bits) && bits.get() < 8
    }

    /// Whether there is a plane of this number; 7 is the most significant.
    pub const fn has_plane(&self, number: usize) -> bool {
        number < 8 && number + self.widths.widest().get() as usize >= 8
    }

    /// The sizes of the parts of a tensor of `rows` by `cols`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Overflow`] where a count does not fit into `usize`.
    pub fn parts(&self, rows: usize, cols: usize) -> Result<ElasticSizes, Error> {
        let times = |a: usize, b: usize| a.checked_mul(b).ok_or(ErrorKind::Overflow);
        times(rows, cols)?;
        let fix = times(rows, self.groups(cols))?;
        Ok(ElasticSizes { base: times(fix, 4)?, fix, plane: times(rows, cols.div_ceil(8))? })
    }
}

/// The bytes of the parts of an elastic tensor.
#[derive(Clone, Copy, Debug, Default)]
pub struct ElasticParts<'a> {
    /// `.base`: middle and half of each group.
    pub base: &'a [u8],
    /// `.fixB` at index B, for the widths served below 8.
    pub fixes: [Option<&'a [u8]>; 9],
    /// `.planeN` at index N, for N from 7 down to 8 less the widest width.
    pub planes: [Option<&'a [u8]>; 8],
}

/// One tensor of [`Elastic`] codes, borrowed.
///
/// # Invariants
///
/// - the parts have the lengths that scheme, rows and columns ask for
/// - there are no parts that the served widths do not use
///
/// Opening costs nothing; [`check`](Self::check) reads the parts and refuses contents
/// that no encoder writes. Decoding is safe without it.
///
/// # Examples
///
/// ```
/// use niwaki_codes::{Bits, ElasticParts, ElasticView, Scheme, simd::Level};
///
/// let Scheme::Elastic(scheme) = "elastic/g4/2".parse()? else { unreachable!() };
/// let base = [0, 0, 0x00, 0x3C]; // middle 0, half 1: flat cells from -1 to 1
/// let mut parts = ElasticParts { base: &base, ..ElasticParts::default() };
/// parts.fixes[2] = Some(&[0x88]);
/// parts.planes[7] = Some(&[0b1100]);
/// parts.planes[6] = Some(&[0b1010]);
/// let view = ElasticView::new(scheme, 1, 4, parts)?;
/// view.check()?;
/// let mut row = [0.0; 4];
/// view.dequantize_rows(Level::best(), Bits::MIN, 0..1, &mut row)?;
/// assert_eq!(row, [-0.75, -0.25, 0.25, 0.75]);
/// # Ok::<(), niwaki_codes::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ElasticView<'a> {
    scheme: Elastic,
    rows: usize,
    cols: usize,
    parts: ElasticParts<'a>,
}

const FIXES: [&str; 9] = ["fix0", "fix1", "fix2", "fix3", "fix4", "fix5", "fix6", "fix7", "fix8"];
const PLANES: [&str; 8] = ["plane0", "plane1", "plane2", "plane3", "plane4", "plane5", "plane6", "plane7"];

impl<'a> ElasticView<'a> {
    /// A view of `rows` by `cols` weights.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::PartLength`] for a part of another length (a missing part has
    /// none; a part that the widths do not use needs none), [`ErrorKind::Overflow`]
    /// where a count does not fit into `usize`.
    pub fn new(scheme: Elastic, rows: usize, cols: usize, parts: ElasticParts<'a>) -> Result<Self, Error> {
        let sizes = scheme.parts(rows, cols)?;
        part("base", sizes.base, Some(parts.base))?;
        for (width, (name, bytes)) in (0..).zip(FIXES.into_iter().zip(parts.fixes)) {
            let used = Bits::new(width).is_ok_and(|bits| scheme.has_fix(bits));
            part(name, if used { sizes.fix } else { 0 }, bytes)?;
        }
        for (number, (name, bytes)) in PLANES.into_iter().zip(parts.planes).enumerate() {
            part(name, if scheme.has_plane(number) { sizes.plane } else { 0 }, bytes)?;
        }
        Ok(Self { scheme, rows, cols, parts })
    }

    /// What the codes mean.
    pub fn scheme(&self) -> Elastic {
        self.scheme
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Weights of one row.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The parts.
    pub fn parts(&self) -> &ElasticParts<'a> {
        &self.parts
    }

    /// Reads every part and refuses what no encoder writes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::StrayBits`] past the end of a row of a plane, [`ErrorKind::Scale`]
    /// where middle or half is an infinity or NaN.
    pub fn check(&self) -> Result<(), Error> {
        let width = self.cols.div_ceil(8);
        let used = self.cols % 8;
        for (part, plane) in PLANES.into_iter().zip(self.parts.planes) {
            let rows = plane.unwrap_or(&[]).chunks_exact(width.max(1));
            let stray = |row: &[u8]| used != 0 && row.last().is_some_and(|last| last >> used != 0);
            if let Some(row) = rows.into_iter().position(stray) {
                return Err(ErrorKind::StrayBits { part, row }.into());
            }
        }
        let mut halves = self.parts.base.as_chunks::<4>().0.iter();
        let finite = |[a, b, c, d]: [u8; 4]| {
            f16_to_f32(u16::from_le_bytes([a, b])).is_finite() && f16_to_f32(u16::from_le_bytes([c, d])).is_finite()
        };
        match halves.position(|pair| !finite(*pair)) {
            Some(group) => Err(ErrorKind::Scale { group }.into()),
            None => Ok(()),
        }
    }

    /// The polynomial of group `at` of a row at `width`: code `q` stands for
    /// `c0 + u * (c1 + u * (c2 + u * c3))`, where `u = 2 * q + 1 - 2^width`. None where
    /// the width is not served or there is no such group.
    pub fn levels(&self, width: Bits, row: usize, at: usize) -> Option<[f32; 4]> {
        let groups = self.scheme.groups(self.cols);
        let there = self.scheme.widths.contains(width) && row < self.rows && at < groups;
        there.then(|| self.cubic(width, row.saturating_mul(groups).saturating_add(at)))
    }

    /// Decodes whole rows at `width` into `out`, row by row.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Width`] for a width that is not served, [`ErrorKind::Range`] for
    /// rows that are not there or an `out` of another length.
    pub fn dequantize_rows(&self, level: Level, width: Bits, rows: Range<usize>, out: &mut [f32]) -> Result<(), Error> {
        self.serves(width)?;
        check_rows(&rows, (self.rows, self.cols), out.len())?;
        for (row, out) in rows.zip(out.chunks_exact_mut(self.cols.max(1))) {
            self.decode(level, width, row, 0, out);
        }
        Ok(())
    }

    /// Decodes the columns `from..from + out.len()` of one row at `width`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Width`] for a width that is not served, [`ErrorKind::Range`] for
    /// a row or columns that are not there.
    pub fn dequantize_cols(
        &self,
        level: Level,
        width: Bits,
        row: usize,
        from: usize,
        out: &mut [f32],
    ) -> Result<(), Error> {
        self.serves(width)?;
        check_cols((row, from, 1), (self.rows, self.cols), out.len())?;
        self.decode(level, width, row, from, out);
        Ok(())
    }

    /// The codes of one row at `width`, one a byte.
    ///
    /// # Errors
    ///
    /// As [`dequantize_rows`](Self::dequantize_rows).
    pub fn codes_row(&self, level: Level, width: Bits, row: usize, out: &mut [u8]) -> Result<(), Error> {
        self.serves(width)?;
        rows_there(&(row..row.saturating_add(1)), self.rows)?;
        if out.len() != self.cols {
            return Err(ErrorKind::Range { needs: self.cols, has: out.len() }.into());
        }
        self.merge(level, width, row, 0, out);
        Ok(())
    }

    fn serves(&self, width: Bits) -> Result<(), Error> {
        self.scheme.widths.up_to(width).map(|_| ())
    }
}

fn part(part: &'static str, needs: usize, bytes: Option<&[u8]>) -> Result<(), Error> {
    let has = bytes.map_or(0, <[u8]>::len);
    if needs == has { Ok(()) } else { Err(ErrorKind::PartLength { part, needs, has }.into()) }
}

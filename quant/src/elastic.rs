//! Elastic codes: one code a weight that serves every width by its top bits.
//!
//! Whence: nested codes whose levels are fitted again at each width. What they stand
//! for is written at `niwaki_codes::ElasticView`; this module chooses them.
//!
//! - `min_max`: flat cells over the range of the group, codes by floor.
//! - `clip`: range and curve searched against the sum of relative errors of all widths.
//! - `lsq`: a wider search.
//!
//! All of them fit shift and gain of each width by least squares on the chosen codes.

mod block;
mod fix;
mod group;
mod kernel;
mod ruler;
mod search;
mod trial;

#[cfg(test)]
mod tests;

use core::ops::Range;

use niwaki_codes::simd::Level;
use niwaki_codes::{Bits, Elastic, planes};

use crate::distortion::{Distortion, LANES, TILE};
use crate::error::exactly;
use crate::{Error, ErrorKind, Fit, Values};
use block::{DEPTH, Unit};
use group::Encoder;

/// Where the parts of encoded elastic rows go.
#[derive(Debug, Default)]
pub struct ElasticOut<'a> {
    /// `.base`: four bytes a group.
    pub base: &'a mut [u8],
    /// `.fixB` at index B for the widths served below 8: one byte a group.
    pub fixes: [Option<&'a mut [u8]>; 9],
    /// `.planeN` at index N, from 7 down to 8 less the widest width.
    pub planes: [Option<&'a mut [u8]>; 8],
}

/// What each width served lost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ElasticDistortion {
    widths: [Option<Distortion>; 9],
}

impl ElasticDistortion {
    /// What a width lost; none if it is not served.
    pub fn at(&self, width: Bits) -> Option<Distortion> {
        self.widths.get(width.get() as usize).copied().flatten()
    }

    /// Adds the sums of the part that follows.
    pub fn merge(&mut self, next: &Self) {
        for (to, from) in self.widths.iter_mut().zip(&next.widths) {
            if let Some(from) = from {
                to.get_or_insert_default().merge(from);
            }
        }
    }
}

/// Encodes whole rows of `cols` weights.
///
/// A piece of a long row counts as a row of its own if it starts at a group and at a
/// whole byte of a plane.
///
/// # Errors
///
/// [`ErrorKind::NotFinite`] for an infinity or NaN, [`ErrorKind::RangeOverflow`] for a
/// group beyond F16, [`ErrorKind::Length`] for values that are not whole rows or a
/// buffer of another length.
///
/// # Examples
///
/// ```
/// use niwaki_codes::{Bits, ElasticParts, ElasticView, Scheme, simd::Level};
/// use niwaki_quant::{ElasticOut, Fit, Values, encode_elastic_rows};
///
/// let Scheme::Elastic(scheme) = "elastic/g32/2,4".parse()? else { unreachable!() };
/// let weights: Vec<u8> = (0..32).flat_map(|i| (i as f32).to_le_bytes()).collect();
/// let (mut base, mut fix2, mut fix4) = ([0; 4], [0], [0]);
/// let mut planes = [[0; 4]; 4];
/// let mut out = ElasticOut { base: &mut base, ..ElasticOut::default() };
/// out.fixes[2] = Some(&mut fix2);
/// out.fixes[4] = Some(&mut fix4);
/// for (n, plane) in (4..8).zip(&mut planes) {
///     out.planes[n] = Some(plane);
/// }
/// let lost = encode_elastic_rows(Level::best(), &scheme, Fit::MinMax, Values::F32(&weights), 32, out)?;
///
/// let (two, four) = (lost.at(Bits::new(2)?).unwrap(), lost.at(Bits::new(4)?).unwrap());
/// assert!(two.max_abs <= 4.0 && four.max_abs <= 1.0);
/// assert!(lost.at(Bits::new(3)?).is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn encode_elastic_rows(
    level: Level,
    scheme: &Elastic,
    fit: Fit,
    values: Values<'_>,
    cols: usize,
    mut out: ElasticOut<'_>,
) -> Result<ElasticDistortion, Error> {
    let rows = values.len().checked_div(cols).unwrap_or(0);
    exactly("values", rows * cols, values.len())?;
    fits(scheme, rows, cols, &out)?;
    let mut encoder = Encoder::new(level, scheme, fit);
    let mut sink = Sink::new(level, scheme, &mut out, cols);
    let groups = scheme.groups(cols);
    let (mut at, mut group) = (0, 0);
    while at < values.len() {
        let (n, unit) = next(scheme, &values, cols, at, group..rows * groups);
        encoder.unit(&unit, &mut sink).map_err(|e| e.offset(at, group))?;
        (at, group) = (at + n, group + unit.groups());
    }
    sink.finish();
    Ok(encoder.finish())
}

/// The unit that starts with group `groups.start` at weight `at`, and its weights.
fn next<'a>(scheme: &Elastic, values: &Values<'a>, cols: usize, at: usize, groups: Range<usize>) -> (usize, Unit<'a>) {
    let size = scheme.group.get();
    let (row, mut col) = (at / cols * cols, at % cols);
    if size > DEPTH {
        let n = size.min(cols - col);
        return (n, Unit::Large(values.slice(row + col..row + col + n)));
    }
    let (mut sizes, mut end) = ([0; LANES], at);
    for n in sizes.iter_mut().take(groups.len()) {
        let short = size.min(cols - col);
        *n = short as u32;
        end += short;
        col = if col + short == cols { 0 } else { col + short };
    }
    (end - at, Unit::Groups(values.slice(at..end), sizes))
}

/// Refuses buffers of another length.
fn fits(scheme: &Elastic, rows: usize, cols: usize, out: &ElasticOut<'_>) -> Result<(), Error> {
    let length = |bytes: &Option<&mut [u8]>| bytes.as_ref().map_or(0, |bytes| bytes.len());
    // Rows times columns is the length of a slice, so only groups of base pairs could overflow.
    let sizes = scheme.parts(rows, cols).map_err(|_| ErrorKind::Length {
        buffer: "base",
        needs: usize::MAX,
        has: out.base.len(),
    })?;
    exactly("base", sizes.base, out.base.len())?;
    for (width, fix) in (0..).zip(&out.fixes) {
        let used = Bits::new(width).is_ok_and(|bits| scheme.has_fix(bits));
        exactly("fix", if used { sizes.fix } else { 0 }, length(fix))?;
    }
    for (number, plane) in out.planes.iter().enumerate() {
        exactly("plane", if scheme.has_plane(number) { sizes.plane } else { 0 }, length(plane))?;
    }
    Ok(())
}

/// Writes the parts of the rows.
struct Sink<'a, 'b> {
    level: Level,
    scheme: &'a Elastic,
    out: &'a mut ElasticOut<'b>,
    /// The next group.
    group: usize,
    /// The next byte of each plane.
    byte: usize,
    /// Weights of a row, and those of this one that are still to come. Rows of whole
    /// bytes follow each other without a seam, so they count as one.
    cols: usize,
    left: usize,
    /// Codes that wait for the end of a byte.
    waiting: [u8; TILE],
    held: usize,
}

impl<'a, 'b> Sink<'a, 'b> {
    fn new(level: Level, scheme: &'a Elastic, out: &'a mut ElasticOut<'b>, cols: usize) -> Self {
        let cols = if cols.is_multiple_of(8) { usize::MAX } else { cols };
        Self { level, scheme, out, group: 0, byte: 0, cols, left: cols, waiting: [0; TILE], held: 0 }
    }

    /// Writes the parameters of the next group.
    fn group(&mut self, middle: u16, half: u16, fixes: &[u8; 9]) {
        let at = 4 * self.group;
        self.out.base[at..at + 2].copy_from_slice(&middle.to_le_bytes());
        self.out.base[at + 2..at + 4].copy_from_slice(&half.to_le_bytes());
        for (to, fix) in self.out.fixes.iter_mut().zip(fixes) {
            if let Some(to) = to.as_mut().and_then(|to| to.get_mut(self.group)) {
                *to = *fix;
            }
        }
        self.group += 1;
    }

    /// Appends codes.
    fn codes(&mut self, mut codes: &[u8]) {
        while !codes.is_empty() {
            let n = codes.len().min(TILE - self.held).min(self.left);
            let (now, later) = codes.split_at(n);
            codes = later;
            self.left -= n;
            if self.held == 0 && n.is_multiple_of(8) {
                // Whole bytes need not wait.
                self.byte += split(self.level, self.scheme, self.out, self.byte, now);
            } else {
                self.waiting[self.held..self.held + n].copy_from_slice(now);
                self.held += n;
            }
            if self.left == 0 || self.held == TILE {
                self.flush();
            }
            if self.left == 0 {
                self.left = self.cols;
            }
        }
    }

    /// Writes the codes that wait; a full tile ends on a whole byte.
    fn flush(&mut self) {
        self.byte += split(self.level, self.scheme, self.out, self.byte, &self.waiting[..self.held]);
        self.held = 0;
    }

    fn finish(mut self) {
        self.flush();
    }
}

/// Writes codes as planes from byte `at` of each; returns how many bytes that were.
fn split(level: Level, scheme: &Elastic, out: &mut ElasticOut<'_>, at: usize, codes: &[u8]) -> usize {
    let bytes = codes.len().div_ceil(8);
    let widest = scheme.widths.widest().get() as usize;
    for (number, plane) in out.planes.iter_mut().enumerate() {
        let Some(plane) = plane.as_mut().filter(|_| number + widest >= 8) else { continue };
        let to = plane.get_mut(at..at + bytes).unwrap_or(&mut []);
        let split = planes::split(level, (number + widest - 8) as u32, codes, to);
        debug_assert!(split.is_ok(), "the planes were measured before");
    }
    bytes
}

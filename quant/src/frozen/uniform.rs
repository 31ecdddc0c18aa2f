//! Evenly spaced codes.

use niwaki_codes::simd::Level;
use niwaki_codes::{Grouping, Symmetry, Uniform, UniformView};

use super::line::Line;
use super::stream::{Grids, recode_packed};
use super::{finite, whole_rows};
use crate::error::exactly;
use crate::{Error, ErrorKind};

/// The parts of evenly spaced codes, of which the codes may change.
#[derive(Debug)]
pub struct UniformCodes<'a> {
    /// Packed codes.
    pub codes: &'a mut [u8],
    /// Little-endian scales, one a group.
    pub scales: &'a [u8],
    /// Zero points, one a group; empty on a symmetric grid.
    pub zeros: &'a [u8],
}

/// Moves the codes of whole rows of `cols` weights to the nearest of each target, and says how
/// many moved. Rows of a `tensor` grouping have the one scale of the tensor.
///
/// A piece of a long row counts as a row of its own if it starts at a group and its codes start
/// at a byte; so does one of the kept weights of a masked tensor, but under a scale a row, which
/// is [`recode_kept`].
///
/// # Errors
///
/// [`ErrorKind::NotFinite`] for a target that is an infinity or NaN, [`ErrorKind::Length`] for
/// targets that are not whole rows or a part of another length.
pub fn recode_rows(
    level: Level,
    scheme: &Uniform,
    cols: usize,
    parts: UniformCodes<'_>,
    targets: &[f32],
) -> Result<usize, Error> {
    let rows = whole_rows(level, cols, targets)?;
    let row_bytes = scheme.row_bytes(cols);
    exactly("codes", rows * row_bytes, parts.codes.len())?;
    let view = grids(scheme, scheme.groups(rows, cols), &parts)?;
    let (step, size) = match scheme.grouping {
        Grouping::Tensor => (0, usize::MAX),
        Grouping::Row => (1, usize::MAX),
        Grouping::Group(g) => (cols.div_ceil(g.get()), g.get()),
    };
    let mut moved = 0;
    let all = parts.codes.chunks_mut(row_bytes.max(1)).zip(targets.chunks(cols.max(1)));
    for (row, (codes, targets)) in all.enumerate() {
        let mut groups = Groups { view, first: row * step, size, line: line(&view, 0) };
        moved += recode_packed(level, (scheme.bits, codes), &mut groups, 0, targets)?;
    }
    Ok(moved)
}

/// Moves codes of the kept weights of a masked tensor, one stream over all rows, and says how
/// many moved.
///
/// `kept` is how many weights each of some rows keeps, and `first` the number of the first of
/// them in the stream `codes`. Scales (and zero points) are those of these rows where there is one
/// a row, else those of the whole stream.
///
/// # Errors
///
/// As [`recode_rows`]; `codes` may be longer than the rows need.
pub fn recode_kept(
    level: Level,
    scheme: &Uniform,
    kept: &[usize],
    first: usize,
    parts: UniformCodes<'_>,
    targets: &[f32],
) -> Result<usize, Error> {
    let total = kept.iter().fold(0, |total: usize, n| total.saturating_add(*n));
    exactly("targets", total, targets.len())?;
    finite(level, targets)?;
    let end = first.saturating_add(total);
    let groups = match scheme.grouping {
        Grouping::Row => kept.len(),
        // A stream that goes on has more groups.
        _ => scheme.groups(1, end).max(parts.scales.len() / scheme.scale_type().bytes()),
    };
    let view = grids(scheme, groups, &parts)?;
    let (line, stream) = (line(&view, 0), (scheme.bits, parts.codes));
    match scheme.grouping {
        Grouping::Row => {
            let mut rows = Rows { view, kept, row: 0, begun: first, line };
            recode_packed(level, stream, &mut rows, first, targets)
        }
        Grouping::Tensor => {
            recode_packed(level, stream, &mut Groups { view, first: 0, size: usize::MAX, line }, first, targets)
        }
        Grouping::Group(g) => {
            recode_packed(level, stream, &mut Groups { view, first: 0, size: g.get(), line }, first, targets)
        }
    }
}

/// The grids of groups as those of as many rows without codes.
fn grids<'a>(scheme: &Uniform, groups: usize, parts: &UniformCodes<'a>) -> Result<UniformView<'a>, Error> {
    let affine = usize::from(scheme.symmetry == Symmetry::Affine);
    exactly("scales", groups.saturating_mul(scheme.scale_type().bytes()), parts.scales.len())?;
    exactly("zeros", groups * affine, parts.zeros.len())?;
    let mut rows = *scheme;
    rows.grouping = Grouping::Row;
    let refused = ErrorKind::Length { buffer: "scales", needs: groups, has: parts.scales.len() };
    UniformView::new(rows, groups, 0, &[], parts.scales, Some(parts.zeros)).map_err(|_| refused.into())
}

fn line(view: &UniformView<'_>, group: usize) -> Line {
    let (scale, middle) = view.grid(group, 0);
    Line { scale, middle, base: 0.0, top: (view.scheme().bits.levels() - 1) as u8 }
}

/// Groups of one size, that of code 0 being `first`.
struct Groups<'a> {
    view: UniformView<'a>,
    first: usize,
    size: usize,
    line: Line,
}

impl Grids for Groups<'_> {
    fn turn_to(&mut self, _: Level, at: usize) -> usize {
        self.line = line(&self.view, self.first + at / self.size);
        self.size - at % self.size
    }

    fn recode(&self, level: Level, targets: &[f32], codes: &mut [u8]) -> usize {
        self.line.recode(level, targets, codes)
    }
}

/// One group for the kept weights of each row.
struct Rows<'a> {
    view: UniformView<'a>,
    kept: &'a [usize],
    /// The row that is turned to, and the number of its first code.
    row: usize,
    begun: usize,
    line: Line,
}

impl Grids for Rows<'_> {
    fn turn_to(&mut self, _: Level, at: usize) -> usize {
        while let Some(kept) = self.kept.get(self.row) {
            let end = self.begun + kept;
            if at < end {
                self.line = line(&self.view, self.row);
                return end - at;
            }
            (self.row, self.begun) = (self.row + 1, end);
        }
        usize::MAX
    }

    fn recode(&self, level: Level, targets: &[f32], codes: &mut [u8]) -> usize {
        self.line.recode(level, targets, codes)
    }
}

//! Encoding of rows in groups small enough for one tile.
//!
//! Groups lie in a tile at multiples of sixteen, filled up with zeros: a zero always
//! takes the zero point and decodes to itself, so it changes no sum.

use core::ops::Range;

use niwaki_codes::simd::Level;
use niwaki_codes::{ScaleType, Symmetry, Uniform, half_floats::f32_to_f16, pack_row, packed_bytes};

use crate::distortion::{Distortion, LANES, TILE};
use crate::encode::UniformOut;
use crate::grid::{Extent, Grid, GridPoint, NOT_FINITE, Ruler, key};
use crate::search::{MAX_GROUP, search};
use crate::{Error, ErrorKind, Fit, Values, range, round};

/// Groups of a tile at most.
const GROUPS: usize = TILE / LANES;

/// One tile and all that is known of its groups.
#[repr(C, align(64))]
pub(crate) struct Bench {
    x: [f32; TILE],
    codes: [u8; TILE],
    extents: [Extent; GROUPS],
    points: [GridPoint; GROUPS],
    rulers: [Ruler; GROUPS],
    scheme: Uniform,
    grid: Grid,
    fit: Fit,
    group: usize,
    padded: usize,
}

impl Bench {
    /// A bench for groups of `group` weights; None if they are too large for it.
    pub(crate) fn new(scheme: &Uniform, fit: Fit, group: usize) -> Option<Self> {
        (group <= MAX_GROUP).then(|| Self {
            x: [0.0; TILE],
            codes: [0; TILE],
            extents: [Extent::default(); GROUPS],
            points: [GridPoint::default(); GROUPS],
            rulers: [Ruler::default(); GROUPS],
            scheme: *scheme,
            grid: Grid::of(scheme),
            fit,
            group,
            padded: group.next_multiple_of(LANES),
        })
    }

    /// Encodes one row. Places in errors count from the start of the row.
    pub(crate) fn encode_row(
        &mut self,
        level: Level,
        row: Values<'_>,
        mut out: UniformOut<'_>,
    ) -> Result<Distortion, Error> {
        let mut total = Distortion::default();
        // A multiple of eight groups ends on a whole byte of codes.
        let most = (8 * (MAX_GROUP / self.padded)).min(GROUPS);
        let groups = row.len().div_ceil(self.group);
        for first in (0..groups).step_by(most) {
            let n = most.min(groups - first);
            let span = first * self.group..((first + n) * self.group).min(row.len());
            self.load(level, row.slice(span.clone()));
            self.choose(level, n).map_err(|e| e.offset(span.start, first))?;
            let tally = round::quantize(level, &self.x, self.padded, &self.rulers[..n], &mut self.codes);
            total.merge(&tally.total(span.len()));
            self.store(level, first..first + n, span, &mut out)?;
        }
        Ok(total)
    }

    /// Widens weights to the tile, each group filled up with zeros.
    fn load(&mut self, level: Level, values: Values<'_>) {
        if self.padded == self.group {
            values.decode(level, &mut self.x);
            let n = values.len();
            self.x[n..n.next_multiple_of(self.padded)].fill(0.0);
            return;
        }
        for (i, to) in self.x.chunks_exact_mut(self.padded).enumerate().take(values.len().div_ceil(self.group)) {
            to.fill(0.0);
            values.slice(i * self.group..(i + 1) * self.group).decode(level, to);
        }
    }

    /// Finds the grids of the first `n` groups of the tile.
    fn choose(&mut self, level: Level, n: usize) -> Result<(), Error> {
        let extents = &mut self.extents[..n];
        range::extents(level, &self.x, self.padded, extents);
        if let Some(group) = extents.iter().position(|e| e.key >= NOT_FINITE) {
            let from = group * self.padded;
            let bad = self.x[from..from + self.group].iter().position(|x| key(*x) >= NOT_FINITE);
            return Err(ErrorKind::NotFinite { index: group * self.group + bad.unwrap_or(0) }.into());
        }
        let points = &mut self.points[..n];
        points.iter_mut().zip(&*extents).for_each(|(to, extent)| *to = self.grid.min_max(*extent));
        if let Some(group) = points.iter().position(|p| !p.scale.is_finite()) {
            return Err(ErrorKind::ScaleOverflow { group }.into());
        }
        if self.fit != Fit::MinMax {
            search(level, self.grid, self.fit, &self.x, (self.group, self.padded), extents, points);
        }
        self.rulers.iter_mut().zip(&*points).for_each(|(to, point)| *to = self.grid.ruler(*point));
        Ok(())
    }

    /// Writes codes, scales and zero points of `groups`, which hold the weights `span`.
    fn store(
        &mut self,
        level: Level,
        groups: Range<usize>,
        span: Range<usize>,
        out: &mut UniformOut<'_>,
    ) -> Result<(), Error> {
        if self.padded != self.group {
            for i in 1..groups.len() {
                self.codes.copy_within(i * self.padded..i * self.padded + self.group, i * self.group);
            }
        }
        let bits = self.scheme.bits;
        let from = packed_bytes(span.start, bits);
        let to = &mut out.codes[from..from + packed_bytes(span.len(), bits)];
        pack_row(level, bits, &self.codes[..span.len()], to).map_err(|_| ErrorKind::WholeTensor)?;
        for (point, group) in self.points.iter().zip(groups) {
            put(&self.scheme, *point, group, out.scales, out.zeros);
        }
        Ok(())
    }
}

/// Writes the parameters of one group.
#[inline(always)]
pub(crate) fn put(scheme: &Uniform, point: GridPoint, group: usize, scales: &mut [u8], zeros: &mut [u8]) {
    match scheme.scale_type() {
        ScaleType::F16 => scales[2 * group..2 * group + 2].copy_from_slice(&f32_to_f16(point.scale).to_le_bytes()),
        ScaleType::F32 => scales[4 * group..4 * group + 4].copy_from_slice(&point.scale.to_le_bytes()),
    }
    if scheme.symmetry == Symmetry::Affine {
        zeros[group] = point.zero;
    }
}

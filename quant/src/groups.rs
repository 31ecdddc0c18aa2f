//! Encoding of rows in groups small enough for one tile.
//!
//! Groups lie in a tile at multiples of sixteen, filled up with zeros: a zero always
//! takes the zero point and decodes to itself, so it changes no sum.

use core::ops::Range;

use niwaki_codes::simd::Level;
use niwaki_codes::{ScaleType, Symmetry, Uniform, half_floats::f32_to_f16, pack_row, packed_bytes};

use crate::batch::{Batch, Fault, GROUPS, finish, min_max};
use crate::distortion::{Distortion, LANES, TILE, Tally};
use crate::encode::UniformOut;
use crate::grid::{Grid, GridPoint, NOT_FINITE, key};
use crate::kernels::{packed_groups, prefetch};
use crate::range::Spans;
use crate::round::Ahead;
use crate::trials::search;
use crate::{Error, ErrorKind, Fit, Values, round};

/// One tile and all that is known of its groups.
#[repr(C, align(64))]
pub(crate) struct Bench {
    x: [f32; TILE],
    codes: [u8; TILE],
    spans: Spans,
    batch: Batch,
    scheme: Uniform,
    grid: Grid,
    fit: Fit,
    group: usize,
    padded: usize,
}

impl Bench {
    /// A bench for groups of `group` weights, 512 at most.
    #[inline(always)]
    pub(crate) fn new(scheme: &Uniform, fit: Fit, group: usize) -> Self {
        Self {
            x: [0.0; TILE],
            codes: [0; TILE],
            spans: Spans::EMPTY,
            batch: Batch::EMPTY,
            scheme: *scheme,
            grid: Grid::of(scheme),
            fit,
            group,
            padded: group.next_multiple_of(LANES),
        }
    }

    /// Encodes the weights `row` as one row. Places in errors count from the start of the row.
    pub(crate) fn encode_row(
        &mut self,
        level: Level,
        values: Values<'_>,
        row: Range<usize>,
        mut out: UniformOut<'_>,
    ) -> Result<Distortion, Error> {
        let mut total = Distortion::default();
        // A multiple of eight groups ends on a whole byte of codes; half a tile and the
        // weights that come next stay in a first-level cache together.
        let most = (8 * (TILE / 16 / self.padded).max(1)).min(GROUPS);
        let groups = row.len().div_ceil(self.group);
        for first in (0..groups).step_by(most) {
            let n = most.min(groups - first);
            let span = first * self.group..((first + n) * self.group).min(row.len());
            let end = row.start + span.end;
            let mut ahead = values.ahead(end);
            self.load(level, values.slice(row.start + span.start..end), n, &mut ahead);
            self.choose(level, n).map_err(|e| e.offset(span.start, first))?;
            self.parameters(level, first..first + n, &mut out);
            let bits = self.scheme.bits;
            let from = packed_bytes(span.start, bits);
            let to = &mut out.codes[from..from + packed_bytes(span.len(), bits)];
            let tally = self.quantize(level, (n, span.len()), ahead, to);
            total.merge(&tally.total(span.len()));
        }
        Ok(total)
    }

    /// Widens the weights of `n` groups to the tile, each filled up with zeros.
    fn load(&mut self, level: Level, values: Values<'_>, n: usize, ahead: &mut Ahead<'_>) {
        if self.padded == self.group {
            let (head, tail) = self.x.split_at_mut(values.len());
            values.decode(level, head);
            tail[..n * self.padded - values.len()].fill(0.0);
        } else {
            for (i, x) in self.x.chunks_exact_mut(self.padded).enumerate().take(n) {
                let group = values.slice(i * self.group..(i + 1) * self.group);
                let (head, tail) = x.split_at_mut(group.len());
                group.decode(level, head);
                tail.fill(0.0);
            }
        }
        // A quarter of the next tile while this one is spanned, the rest as it is quantized:
        // memory is asked at an even pace.
        ahead.begun = n * self.padded / 4;
        for at in (0..ahead.begun * ahead.size).step_by(64) {
            prefetch(ahead.bytes, at);
        }
        let (x, layout) = (&self.x[..n * self.padded], (n, self.padded));
        self.spans.extents(level, x, layout, self.grid.symmetry, &mut self.batch);
    }

    /// Finds the grids of the first `n` groups of the tile.
    fn choose(&mut self, level: Level, n: usize) -> Result<(), Error> {
        match min_max(level, self.grid, n, &mut self.batch) {
            Ok(()) => {}
            Err(Fault::Scale(group)) => return Err(ErrorKind::ScaleOverflow { group }.into()),
            Err(Fault::Weights(group)) => {
                let from = group * self.padded;
                let bad = self.x[from..from + self.group].iter().position(|x| key(*x) >= NOT_FINITE);
                return Err(ErrorKind::NotFinite { index: group * self.group + bad.unwrap_or(0) }.into());
            }
        }
        if self.fit != Fit::MinMax {
            search(level, self.grid, self.fit, &self.x, (n, self.group, self.padded), &mut self.batch);
        }
        Ok(())
    }

    /// Writes the scales and zero points of `groups`.
    fn parameters(&mut self, level: Level, groups: Range<usize>, out: &mut UniformOut<'_>) {
        let size = self.grid.scales.bytes();
        let zeros = match self.grid.symmetry {
            Symmetry::Symmetric => 0..0,
            Symmetry::Affine => groups.clone(),
        };
        let scales = &mut out.scales[groups.start * size..groups.end * size];
        finish(level, self.grid, groups.len(), &mut self.batch, scales, &mut out.zeros[zeros]);
    }

    /// Quantizes `n` groups that hold `count` weights, and packs their codes.
    fn quantize(&mut self, level: Level, (n, count): (usize, usize), ahead: Ahead<'_>, to: &mut [u8]) -> Tally {
        let (bits, batch) = (self.scheme.bits, &self.batch);
        if self.padded == self.group {
            let layout = (count, self.group, bits.get());
            if let Some(tally) = packed_groups(level, &self.x, layout, batch, ahead, to) {
                return tally;
            }
        }
        let tally = round::groups(level, &self.x, (n, self.padded), batch, ahead, &mut self.codes);
        if self.padded != self.group {
            for i in 1..n {
                self.codes.copy_within(i * self.padded..i * self.padded + self.group, i * self.group);
            }
        }
        let packed = pack_row(level, bits, &self.codes[..count], to);
        debug_assert!(packed.is_ok(), "the caller measured the row");
        tally
    }
}

/// Writes the parameters of one group.
pub(crate) fn put(scheme: &Uniform, point: GridPoint, group: usize, scales: &mut [u8], zeros: &mut [u8]) {
    match scheme.scale_type() {
        ScaleType::F16 => scales[2 * group..2 * group + 2].copy_from_slice(&f32_to_f16(point.scale).to_le_bytes()),
        ScaleType::F32 => scales[4 * group..4 * group + 4].copy_from_slice(&point.scale.to_le_bytes()),
    }
    if scheme.symmetry == Symmetry::Affine {
        zeros[group] = point.zero;
    }
}

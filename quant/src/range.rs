//! What groups span.
//!
//! Ends of ranges are found as integers. Of the bits of floats, rotated left by one,
//! the largest is that of the largest magnitude. Of the bits themselves, the largest
//! signed integer is that of the greatest float above 0, and the largest unsigned one,
//! from the sign bit up, that of the least float below 0.

use niwaki_codes::simd::Level;
use niwaki_codes::{Symmetry, stamp};

use crate::batch::{Batch, GROUPS};
use crate::distortion::LANES;
use crate::grid::{Extent, key};
use crate::kernels::{maxima, spans};

/// Running maxima of one group.
pub(crate) type Lanes = [u32; LANES];

/// The bits of -0.0: where the search for the least float below 0 starts.
pub(crate) const BELOW: u32 = 0x8000_0000;

/// Running maxima of the groups of one tile.
#[repr(C, align(64))]
pub(crate) struct Spans {
    /// Keys on a symmetric grid, else the ends above 0.
    first: [Lanes; GROUPS],
    /// The ends below 0 of an affine grid.
    below: [Lanes; GROUPS],
}

impl Spans {
    pub(crate) const EMPTY: Self = Self { first: [[0; LANES]; GROUPS], below: [[BELOW; LANES]; GROUPS] };

    /// The extents of the first `n` groups of `group` weights (a multiple of 16);
    /// groups past them span nothing.
    pub(crate) fn extents(
        &mut self,
        level: Level,
        x: &[f32],
        (n, group): (usize, usize),
        symmetry: Symmetry,
        batch: &mut Batch,
    ) {
        spans(level, symmetry, x, group, &mut self.first[..n], &mut self.below[..n]);
        maxima(level, &self.first[..n], &mut batch.key[..n]);
        batch.key[n..].fill(0);
        if symmetry == Symmetry::Affine {
            let mut below = [BELOW; GROUPS];
            maxima(level, &self.below[..n], &mut below[..n]);
            ends(level, &below, batch);
        }
    }
}

stamp! {
    fn ends = ends_body(below: &[u32; GROUPS], batch: &mut Batch) -> ();
}

/// From bits to ends and the key of the larger one.
#[inline(always)]
fn ends_body(below: &[u32; GROUPS], batch: &mut Batch) {
    for (i, below) in below.iter().enumerate() {
        batch.low[i] = f32::from_bits(*below);
        batch.high[i] = f32::from_bits(batch.key[i]);
        batch.key[i] = key(batch.low[i]).max(key(batch.high[i]));
    }
}

/// The extent of whole vectors of weights.
pub(crate) fn extent(level: Level, x: &[f32], symmetry: Symmetry) -> Extent {
    let (mut first, mut below) = ([[0; LANES]], [[BELOW; LANES]]);
    spans(level, symmetry, x, x.len(), &mut first, &mut below);
    let (mut high, mut low) = ([0], [BELOW]);
    maxima(level, &first, &mut high);
    maxima(level, &below, &mut low);
    match symmetry {
        Symmetry::Symmetric => Extent { key: high[0], low: 0.0, high: 0.0 },
        Symmetry::Affine => {
            let (low, high) = (f32::from_bits(low[0]), f32::from_bits(high[0]));
            Extent { key: key(low).max(key(high)), low, high }
        }
    }
}

impl Extent {
    /// The extent of both.
    pub(crate) fn with(&self, other: &Self) -> Self {
        Self {
            key: self.key.max(other.key),
            low: if other.low < self.low { other.low } else { self.low },
            high: if other.high > self.high { other.high } else { self.high },
        }
    }
}

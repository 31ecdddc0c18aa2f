//! What groups span.

use niwaki_codes::stamp;

use crate::distortion::{LANES, TILE};
use crate::grid::{Extent, key};

stamp! {
    /// The extent of each group of `group` weights (a multiple of 16).
    pub(crate) fn extents = extents_body(x: &[f32; TILE], group: usize, extents: &mut [Extent]) -> ();
}

#[inline(always)]
fn extents_body(x: &[f32; TILE], group: usize, extents: &mut [Extent]) {
    for (x, extent) in x.chunks_exact(group).zip(extents) {
        *extent = extent_of(x);
    }
}

/// The extent of whole vectors of weights.
#[inline(always)]
pub(crate) fn extent_of(x: &[f32]) -> Extent {
    let (mut keys, mut low, mut high) = ([0; LANES], [0.0; LANES], [0.0; LANES]);
    for x in x.as_chunks::<LANES>().0 {
        for i in 0..LANES {
            keys[i] = key(x[i]).max(keys[i]);
            low[i] = if x[i] < low[i] { x[i] } else { low[i] };
            high[i] = if x[i] > high[i] { x[i] } else { high[i] };
        }
    }
    let mut all = Extent::default();
    for i in 0..LANES {
        all = all.with(&Extent { key: keys[i], low: low[i], high: high[i] });
    }
    all
}

impl Extent {
    /// The extent of both.
    #[inline(always)]
    pub(crate) fn with(&self, other: &Self) -> Self {
        Self {
            key: self.key.max(other.key),
            low: if other.low < self.low { other.low } else { self.low },
            high: if other.high > self.high { other.high } else { self.high },
        }
    }
}

//! From weights to codes on given grids, with what that loses.

use niwaki_codes::simd::Level;
use niwaki_codes::stamp;

use crate::batch::{Batch, GROUPS};
use crate::distortion::{LANES, TILE, Tally};
use crate::grid::{ROUNDER, Ruler};
use crate::kernels::{self, prefetch};

/// The bytes that the next tile comes from, and how many make a weight: brought near
/// while this tile is computed, so that memory never waits.
#[derive(Clone, Copy)]
pub(crate) struct Ahead<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) size: usize,
    /// How many weights were fetched before.
    pub(crate) begun: usize,
}

/// Quantizes the first groups of a tile, each on its grid of a batch, one code a byte.
/// `layout` is how many there are and their length (a multiple of 16).
pub(crate) fn groups(
    level: Level,
    x: &[f32; TILE],
    (n, group): (usize, usize),
    batch: &Batch,
    ahead: Ahead<'_>,
    codes: &mut [u8; TILE],
) -> Tally {
    kernels::packed_groups(level, x, (n * group, group, 8), batch, ahead, codes)
        .unwrap_or_else(|| plain_groups(level, x, (n, group), batch, ahead, codes))
}

stamp! {
    fn plain_groups = groups_body(
        x: &[f32; TILE], layout: (usize, usize), batch: &Batch, ahead: Ahead<'_>, codes: &mut [u8; TILE],
    ) -> Tally;
}

stamp! {
    /// Quantizes whole vectors of weights on one grid.
    pub(crate) fn run = run_body(x: &[f32], ruler: Ruler, codes: &mut [u8]) -> Tally;
}

#[inline(always)]
fn groups_body(
    x: &[f32; TILE],
    layout: (usize, usize),
    batch: &Batch,
    ahead: Ahead<'_>,
    codes: &mut [u8; TILE],
) -> Tally {
    match layout {
        (n, 32) => groups_of::<32>(x, (n, 32), batch, ahead, codes),
        (n, 64) => groups_of::<64>(x, (n, 64), batch, ahead, codes),
        (n, 128) => groups_of::<128>(x, (n, 128), batch, ahead, codes),
        _ => groups_of::<0>(x, layout, batch, ahead, codes),
    }
}

/// Groups of `G` weights, a number that the loops below are unrolled for; 0 for any.
#[inline(always)]
fn groups_of<const G: usize>(
    x: &[f32; TILE],
    (n, group): (usize, usize),
    batch: &Batch,
    ahead: Ahead<'_>,
    codes: &mut [u8; TILE],
) -> Tally {
    let group = if G == 0 { group } else { G };
    let mut tally = Tally::default();
    let tiles = x.chunks_exact(group).zip(codes.chunks_exact_mut(group));
    for (i, (x, codes)) in tiles.enumerate().take(n.min(GROUPS)) {
        for at in (0..group).step_by(LANES) {
            prefetch(ahead.bytes, (ahead.begun + i * group + at) * ahead.size);
        }
        let ruler = Ruler {
            scale: batch.scale[i],
            inverse: batch.inverse[i],
            low: batch.bottom[i],
            high: batch.top[i],
            shift: batch.shift[i],
        };
        quantize(x, ruler, codes, &mut tally);
    }
    tally
}

#[inline(always)]
fn run_body(x: &[f32], ruler: Ruler, codes: &mut [u8]) -> Tally {
    let mut tally = Tally::default();
    quantize(x, ruler, codes, &mut tally);
    tally
}

#[inline(always)]
fn quantize(x: &[f32], ruler: Ruler, codes: &mut [u8], tally: &mut Tally) {
    for (x, codes) in x.as_chunks::<LANES>().0.iter().zip(codes.as_chunks_mut::<LANES>().0) {
        // Loops, since closures of `map` are not always inlined and then lose the level.
        let (mut rounded, mut decoded) = ([0.0; LANES], [0.0; LANES]);
        for i in 0..LANES {
            rounded[i] = ruler.rounded(x[i]);
            decoded[i] = (rounded[i] - ROUNDER) * ruler.scale;
        }
        for i in 0..LANES {
            codes[i] = rounded[i].to_bits().wrapping_add(ruler.shift) as u8;
        }
        tally.add(x, &decoded);
    }
}

//! Kernels that need more than a plain loop.
//!
//! The scalar function is the definition; the others give the same integers.

use niwaki_codes::Symmetry;
use niwaki_codes::simd::Level;

use crate::batch::Batch;
use crate::distortion::{LANES, TILE, Tally};
use crate::grid::key;
use crate::range::{BELOW, Lanes};
use crate::round::Ahead;

#[cfg(target_arch = "x86_64")]
mod x86_64;

/// Running maxima of groups of `group` weights: of keys in `first` on a symmetric grid,
/// else of the ends above and below 0.
pub(crate) fn spans(
    level: Level,
    symmetry: Symmetry,
    x: &[f32],
    group: usize,
    first: &mut [Lanes],
    below: &mut [Lanes],
) {
    match (level, symmetry) {
        (Level::Scalar, Symmetry::Symmetric) => plain_keys(x, group, first),
        (Level::Scalar, Symmetry::Affine) => plain_ends(x, group, first, below),
        #[cfg(target_arch = "x86_64")]
        (Level::Avx2(proof), Symmetry::Symmetric) => x86_64::spans_avx2::<false>(proof, x, group, first, below),
        #[cfg(target_arch = "x86_64")]
        (Level::Avx2(proof), Symmetry::Affine) => x86_64::spans_avx2::<true>(proof, x, group, first, below),
        #[cfg(target_arch = "x86_64")]
        (Level::Avx512(proof), Symmetry::Symmetric) => x86_64::spans_avx512::<false>(proof, x, group, first, below),
        #[cfg(target_arch = "x86_64")]
        (Level::Avx512(proof), Symmetry::Affine) => x86_64::spans_avx512::<true>(proof, x, group, first, below),
    }
}

fn plain_keys(x: &[f32], group: usize, first: &mut [Lanes]) {
    for (x, first) in x.chunks_exact(group).zip(first) {
        *first = [0; LANES];
        for x in x.as_chunks::<LANES>().0 {
            for (all, x) in first.iter_mut().zip(x) {
                *all = key(*x).max(*all);
            }
        }
    }
}

fn plain_ends(x: &[f32], group: usize, first: &mut [Lanes], below: &mut [Lanes]) {
    for (x, (high, low)) in x.chunks_exact(group).zip(first.iter_mut().zip(below)) {
        (*high, *low) = ([0; LANES], [BELOW; LANES]);
        for x in x.as_chunks::<LANES>().0 {
            for (x, (high, low)) in x.iter().zip(high.iter_mut().zip(low.iter_mut())) {
                *high = (x.to_bits() as i32).max(*high as i32) as u32;
                *low = x.to_bits().max(*low);
            }
        }
    }
}

/// The largest number of each row.
pub(crate) fn maxima(level: Level, rows: &[[u32; LANES]], out: &mut [u32]) {
    match level {
        Level::Scalar => scalar_maxima(rows, out),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2(proof) => x86_64::maxima_avx2(proof, rows, out),
        #[cfg(target_arch = "x86_64")]
        Level::Avx512(proof) => x86_64::maxima_avx512(proof, rows, out),
    }
}

/// Quantizes the first `count` weights of a tile, in groups of `group`, and packs their
/// codes at `bits` each, where a kernel of its own does that; else does nothing.
pub(crate) fn packed_groups(
    level: Level,
    x: &[f32; TILE],
    (count, group, bits): (usize, usize, u32),
    batch: &Batch,
    ahead: Ahead<'_>,
    to: &mut [u8],
) -> Option<Tally> {
    match (level, group, bits) {
        #[cfg(target_arch = "x86_64")]
        (Level::Avx512(proof), 32, 4) => Some(x86_64::groups_avx512::<32, 4>(proof, x, count, batch, ahead, to)),
        #[cfg(target_arch = "x86_64")]
        (Level::Avx512(proof), 64, 4) => Some(x86_64::groups_avx512::<64, 4>(proof, x, count, batch, ahead, to)),
        #[cfg(target_arch = "x86_64")]
        (Level::Avx512(proof), 128, 4) => Some(x86_64::groups_avx512::<128, 4>(proof, x, count, batch, ahead, to)),
        #[cfg(target_arch = "x86_64")]
        (Level::Avx512(proof), 32, 8) => Some(x86_64::groups_avx512::<32, 8>(proof, x, count, batch, ahead, to)),
        #[cfg(target_arch = "x86_64")]
        (Level::Avx512(proof), 64, 8) => Some(x86_64::groups_avx512::<64, 8>(proof, x, count, batch, ahead, to)),
        #[cfg(target_arch = "x86_64")]
        (Level::Avx512(proof), 128, 8) => Some(x86_64::groups_avx512::<128, 8>(proof, x, count, batch, ahead, to)),
        _ => None,
    }
}

/// Asks for the memory `at` bytes into `ahead` to be brought near; past the end, too.
#[inline(always)]
pub(crate) fn prefetch(ahead: &[u8], at: usize) {
    #[cfg(target_arch = "x86_64")]
    x86_64::prefetch(ahead.as_ptr().wrapping_add(at));
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (ahead, at);
}

fn scalar_maxima(rows: &[[u32; LANES]], out: &mut [u32]) {
    for (row, out) in rows.iter().zip(out) {
        *out = row.iter().copied().fold(0, u32::max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_spans_groups_alike() {
        let x: [f32; 640] = core::array::from_fn(|i| ((i * 7919 % 1009) as f32 - 400.0) * 0.01);
        for symmetry in [Symmetry::Symmetric, Symmetry::Affine] {
            for group in [16, 32, 64, 80, 128, 640] {
                for level in Level::all() {
                    let n = 640 / group;
                    let (mut first, mut below) = ([[9; LANES]; 41], [[9; LANES]; 41]);
                    spans(level, symmetry, &x, group, &mut first[..n], &mut below[..n]);
                    for (i, x) in x.chunks(group).enumerate() {
                        let top = *first[i].iter().max().unwrap();
                        let bottom = *below[i].iter().max().unwrap();
                        match symmetry {
                            Symmetry::Symmetric => assert_eq!(Some(top), x.iter().map(|x| key(*x)).max()),
                            Symmetry::Affine => {
                                assert_eq!(f32::from_bits(top), x.iter().copied().fold(0.0, f32::max));
                                assert_eq!(f32::from_bits(bottom), x.iter().copied().fold(0.0, f32::min));
                            }
                        }
                    }
                    assert_eq!(first[n], [9; LANES]);
                }
            }
        }
    }

    #[test]
    fn every_level_finds_the_maximum_in_every_place() {
        for at in 0..LANES {
            let mut rows = [[0x7FFF_FFFF; LANES]; 35];
            for (i, row) in rows.iter_mut().enumerate() {
                row[(at + i) % LANES] = u32::MAX - i as u32;
            }
            for level in Level::all() {
                for n in [0, 1, 15, 16, 17, 35] {
                    let mut out = [7; 35];
                    maxima(level, &rows[..n], &mut out[..n]);
                    let want = (0..35).map(|i| if i < n { u32::MAX - i as u32 } else { 7 });
                    assert!(out.into_iter().eq(want), "{level:?} {n}");
                }
            }
        }
    }
}

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

/// The least and the greatest weight of up to eight blocks of 32; of two zeros, either.
pub(crate) fn block_ends(level: Level, x: &[[f32; 32]], low: &mut [f32; 8], high: &mut [f32; 8]) {
    match level {
        Level::Scalar => plain_block_ends(x, low, high),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2(proof) => x86_64::block_ends_avx2(proof, x, low, high),
        #[cfg(target_arch = "x86_64")]
        Level::Avx512(proof) => x86_64::block_ends_avx512(proof, x, low, high),
    }
}

fn plain_block_ends(x: &[[f32; 32]], low: &mut [f32; 8], high: &mut [f32; 8]) {
    for (x, (low, high)) in x.iter().zip(low.iter_mut().zip(high)) {
        let (mut least, mut most) = ([x[0]; LANES], [x[0]; LANES]);
        for x in x.as_chunks::<LANES>().0 {
            for (x, (least, most)) in x.iter().zip(least.iter_mut().zip(&mut most)) {
                *least = if x < least { *x } else { *least };
                *most = if x > most { *x } else { *most };
            }
        }
        *low = least.into_iter().fold(least[0], |a, b| if b < a { b } else { a });
        *high = most.into_iter().fold(most[0], |a, b| if b > a { b } else { a });
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

/// Widens little-endian IEEE halves; stops at the shorter side.
pub(crate) fn widen_f16(level: Level, from: &[u8], to: &mut [f32]) {
    match level {
        Level::Scalar => niwaki_codes::half_floats::widen_f16(level, from, to),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2(proof) => x86_64::widen_f16_avx2(proof, from, to),
        #[cfg(target_arch = "x86_64")]
        Level::Avx512(proof) => x86_64::widen_f16_avx512(proof, from, to),
    }
}

/// Little-endian bytes as the floats that they are, where they are aligned as such.
pub(crate) fn floats(bytes: &[u8]) -> Option<&[f32]> {
    // SAFETY: every four bytes are a float.
    let (before, floats, _) = unsafe { bytes.align_to() };
    (cfg!(target_endian = "little") && before.is_empty()).then_some(floats)
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
    fn every_level_finds_the_ends_of_blocks_in_every_place() {
        for at in 0..32 {
            let mut x = [[0.5; 32]; 8];
            for (i, x) in x.iter_mut().enumerate() {
                x[(at + i) % 32] = -1.0 - i as f32;
                x[(at + 5 * i + 7) % 32] = 1.0 + i as f32;
            }
            for level in Level::all() {
                for n in [0, 1, 7, 8] {
                    let (mut low, mut high) = ([9.0; 8], [9.0; 8]);
                    block_ends(level, &x[..n], &mut low, &mut high);
                    for i in 0..8 {
                        let want = if i < n { (-1.0 - i as f32, 1.0 + i as f32) } else { (9.0, 9.0) };
                        assert_eq!((low[i], high[i]), want, "{level:?} {n}");
                    }
                }
            }
        }
    }

    #[test]
    fn every_level_widens_every_half_alike() {
        for level in Level::all() {
            for n in [0, 1, 7, 8, 9, 4096] {
                for first in (0..=u16::MAX).step_by(4096) {
                    let mut bytes = [0xA5; 8192];
                    for (bytes, i) in bytes.as_chunks_mut().0.iter_mut().zip(first..=u16::MAX) {
                        *bytes = i.to_le_bytes();
                    }
                    let mut out = [9.0; 4096];
                    widen_f16(level, &bytes[..2 * n], &mut out);
                    for (out, bytes) in out[..n].iter().zip(bytes.as_chunks().0) {
                        let want = niwaki_codes::half_floats::f16_to_f32(u16::from_le_bytes(*bytes));
                        assert!(out.to_bits() == want.to_bits() || out.is_nan() && want.is_nan(), "{level:?} {want}");
                    }
                    assert!(out[n..].iter().all(|x| *x == 9.0));
                }
            }
        }
    }

    #[test]
    fn floats_are_seen_where_they_are_aligned() {
        let floats = [1.0f32, -2.0];
        let bytes = floats.map(f32::to_le_bytes);
        let bytes = bytes.as_flattened();
        let at = bytes.as_ptr().align_offset(4);
        for start in 0..4 {
            let seen = super::floats(&bytes[start..]);
            if cfg!(target_endian = "little") && start == at {
                assert_eq!(
                    seen.and_then(|seen| seen.first()),
                    bytes[start..].first_chunk().map(|b| f32::from_le_bytes(*b)).as_ref()
                );
            } else {
                assert_eq!(seen, None);
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

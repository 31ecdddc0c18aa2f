//! Kernels that need more than a plain loop.
//!
//! The scalar function is the definition; the others give the same integers.

use niwaki_codes::simd::Level;

use crate::batch::Batch;
use crate::distortion::{LANES, TILE, Tally};
use crate::round::Ahead;

#[cfg(target_arch = "x86_64")]
mod x86_64;

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

/// `round::groups` where a kernel of its own is faster than the plain loop.
pub(crate) fn groups(
    level: Level,
    x: &[f32; TILE],
    layout: (usize, usize),
    batch: &Batch,
    ahead: Ahead<'_>,
    codes: &mut [u8; TILE],
) -> Option<Tally> {
    match (level, layout) {
        #[cfg(target_arch = "x86_64")]
        (Level::Avx512(proof), (n, 32)) => Some(x86_64::groups_avx512::<32>(proof, x, n, batch, ahead, codes)),
        #[cfg(target_arch = "x86_64")]
        (Level::Avx512(proof), (n, 64)) => Some(x86_64::groups_avx512::<64>(proof, x, n, batch, ahead, codes)),
        #[cfg(target_arch = "x86_64")]
        (Level::Avx512(proof), (n, 128)) => Some(x86_64::groups_avx512::<128>(proof, x, n, batch, ahead, codes)),
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

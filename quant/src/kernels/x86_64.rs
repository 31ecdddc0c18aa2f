//! AVX2 and AVX-512.

use core::arch::x86_64::*;

use niwaki_codes::half_floats::f16_to_f32;
use niwaki_codes::simd::{Avx2, Avx512};

use crate::batch::{Batch, GROUPS};
use crate::distortion::{LANES, TILE, Tally};
use crate::grid::ROUNDER;
use crate::range::{BELOW, Lanes};
use crate::round::Ahead;

/// Running maxima of groups; `ENDS` for affine grids.
pub(super) fn spans_avx2<const ENDS: bool>(_: Avx2, x: &[f32], group: usize, first: &mut [Lanes], below: &mut [Lanes]) {
    // SAFETY: an `Avx2` is only made by `Avx2::detect`, which saw the feature.
    unsafe { avx2_spans::<ENDS>(x, group, first, below) }
}

/// Running maxima of groups; `ENDS` for affine grids.
pub(super) fn spans_avx512<const ENDS: bool>(
    _: Avx512,
    x: &[f32],
    group: usize,
    first: &mut [Lanes],
    below: &mut [Lanes],
) {
    // SAFETY: an `Avx512` is only made by `Avx512::detect`, which saw the feature.
    unsafe {
        match group {
            32 => avx512_spans::<ENDS, 32>(x, 32, first, below),
            64 => avx512_spans::<ENDS, 64>(x, 64, first, below),
            _ => avx512_spans::<ENDS, 0>(x, group, first, below),
        }
    }
}

#[target_feature(enable = "avx2")]
fn avx2_spans<const ENDS: bool>(x: &[f32], group: usize, first: &mut [Lanes], below: &mut [Lanes]) {
    for (x, (first, below)) in x.chunks_exact(group).zip(first.iter_mut().zip(below)) {
        let mut high = [_mm256_setzero_si256(); 2];
        let mut low = [_mm256_set1_epi32(BELOW as i32); 2];
        for x in x.as_chunks::<LANES>().0 {
            for k in 0..2 {
                // SAFETY: sixteen floats are two vectors of eight.
                let x = unsafe { _mm256_loadu_si256(x.as_ptr().add(8 * k).cast()) };
                if ENDS {
                    (high[k], low[k]) = (_mm256_max_epi32(high[k], x), _mm256_max_epu32(low[k], x));
                } else {
                    let key = _mm256_or_si256(_mm256_slli_epi32::<1>(x), _mm256_srli_epi32::<31>(x));
                    high[k] = _mm256_max_epu32(high[k], key);
                }
            }
        }
        for k in 0..2 {
            // SAFETY: sixteen numbers are two vectors of eight.
            unsafe {
                _mm256_storeu_si256(first.as_mut_ptr().add(8 * k).cast(), high[k]);
                _mm256_storeu_si256(below.as_mut_ptr().add(8 * k).cast(), low[k]);
            }
        }
    }
}

/// Groups of `G` weights, a number that the inner loop is unrolled for; 0 for any.
#[target_feature(enable = "avx512f")]
fn avx512_spans<const ENDS: bool, const G: usize>(x: &[f32], group: usize, first: &mut [Lanes], below: &mut [Lanes]) {
    let group = if G == 0 { group } else { G };
    for (x, (first, below)) in x.chunks_exact(group).zip(first.iter_mut().zip(below)) {
        let (mut high, mut low) = (_mm512_setzero_si512(), _mm512_set1_epi32(BELOW as i32));
        for x in x.as_chunks::<LANES>().0 {
            // SAFETY: sixteen floats are one vector.
            let x = unsafe { _mm512_loadu_si512(x.as_ptr().cast()) };
            if ENDS {
                (high, low) = (_mm512_max_epi32(high, x), _mm512_max_epu32(low, x));
            } else {
                high = _mm512_max_epu32(high, _mm512_rol_epi32::<1>(x));
            }
        }
        // SAFETY: sixteen numbers are one vector.
        unsafe {
            _mm512_storeu_si512(first.as_mut_ptr().cast(), high);
            if ENDS {
                _mm512_storeu_si512(below.as_mut_ptr().cast(), low);
            }
        }
    }
}

/// Widens halves.
pub(super) fn widen_f16_avx2(_: Avx2, from: &[u8], to: &mut [f32]) {
    // SAFETY: an `Avx2` is only made by `Avx2::detect`, which saw the features.
    unsafe { f16c_widen(from, to) }
}

/// Widens halves.
pub(super) fn widen_f16_avx512(_: Avx512, from: &[u8], to: &mut [f32]) {
    // SAFETY: an `Avx512` is only made by `Avx512::detect`, which saw those of `Avx2`, too.
    unsafe { f16c_widen(from, to) }
}

#[target_feature(enable = "avx,f16c")]
fn f16c_widen(from: &[u8], to: &mut [f32]) {
    let (many, from) = from.as_chunks::<16>();
    let (outs, to) = to.split_at_mut((8 * many.len()).min(to.len() / 8 * 8));
    for (from, to) in many.iter().zip(outs.as_chunks_mut::<8>().0) {
        // SAFETY: sixteen bytes are one vector, and there is room for eight floats.
        unsafe { _mm256_storeu_ps(to.as_mut_ptr(), _mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().cast()))) };
    }
    let rest = many.get(outs.len() / 8..).unwrap_or(&[]).as_flattened();
    let rest = rest.as_chunks::<2>().0.iter().chain(from.as_chunks::<2>().0);
    for (from, to) in rest.zip(to) {
        *to = f16_to_f32(u16::from_le_bytes(*from));
    }
}

/// The ends of up to eight blocks of 32 weights.
pub(super) fn block_ends_avx2(_: Avx2, x: &[[f32; 32]], low: &mut [f32; 8], high: &mut [f32; 8]) {
    // SAFETY: an `Avx2` is only made by `Avx2::detect`, which saw the feature.
    unsafe { avx2_block_ends(x, low, high) }
}

/// The ends of up to eight blocks of 32 weights.
pub(super) fn block_ends_avx512(_: Avx512, x: &[[f32; 32]], low: &mut [f32; 8], high: &mut [f32; 8]) {
    // SAFETY: an `Avx512` is only made by `Avx512::detect`, which saw those of `Avx2`, too.
    unsafe { avx2_block_ends(x, low, high) }
}

#[target_feature(enable = "avx2")]
fn avx2_block_ends(x: &[[f32; 32]], low: &mut [f32; 8], high: &mut [f32; 8]) {
    if let Some(x) = x.first_chunk() {
        // SAFETY: there is room for eight numbers each.
        unsafe {
            _mm256_storeu_ps(low.as_mut_ptr(), avx2_ends_of_8::<false>(x));
            _mm256_storeu_ps(high.as_mut_ptr(), avx2_ends_of_8::<true>(x));
        }
        return;
    }
    for (x, (low, high)) in x.iter().zip(low.iter_mut().zip(high)) {
        let same = [*x; 8];
        *low = _mm256_cvtss_f32(avx2_ends_of_8::<false>(&same));
        *high = _mm256_cvtss_f32(avx2_ends_of_8::<true>(&same));
    }
}

/// The smaller or the larger numbers.
#[inline]
#[target_feature(enable = "avx2")]
fn avx2_end<const HIGH: bool>(a: __m256, b: __m256) -> __m256 {
    if HIGH { _mm256_max_ps(a, b) } else { _mm256_min_ps(a, b) }
}

/// The ends of eight blocks at once: pairs of vectors are shuffled so that one maximum
/// halves both.
#[inline]
#[target_feature(enable = "avx2")]
fn avx2_ends_of_8<const HIGH: bool>(x: &[[f32; 32]; 8]) -> __m256 {
    let eighths = |block: usize| {
        // SAFETY: 32 floats are four vectors of eight.
        let v = |k: usize| unsafe { _mm256_loadu_ps(x[block].as_ptr().add(8 * k)) };
        avx2_end::<HIGH>(avx2_end::<HIGH>(v(0), v(1)), avx2_end::<HIGH>(v(2), v(3)))
    };
    let halves = |a, b| avx2_end::<HIGH>(_mm256_permute2f128_ps::<0x20>(a, b), _mm256_permute2f128_ps::<0x31>(a, b));
    let pairs = |a, b| avx2_end::<HIGH>(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
    let (a, b) = (halves(eighths(0), eighths(4)), halves(eighths(1), eighths(5)));
    let (c, d) = (halves(eighths(2), eighths(6)), halves(eighths(3), eighths(7)));
    let (a, b) = (pairs(a, c), pairs(b, d));
    // Numbers now stand for blocks 0, 2, 0, 2, 4, .. and 1, 3, 1, 3, 5, ..
    pairs(a, b)
}

/// The largest number of each row.
pub(super) fn maxima_avx2(_: Avx2, rows: &[[u32; LANES]], out: &mut [u32]) {
    // SAFETY: an `Avx2` is only made by `Avx2::detect`, which saw the feature.
    unsafe { avx2_maxima(rows, out) }
}

/// The largest number of each row.
pub(super) fn maxima_avx512(_: Avx512, rows: &[[u32; LANES]], out: &mut [u32]) {
    // SAFETY: an `Avx512` is only made by `Avx512::detect`, which saw the feature.
    unsafe { avx512_maxima(rows, out) }
}

/// Asks for a line of memory.
#[inline(always)]
pub(super) fn prefetch(at: *const u8) {
    // SAFETY: SSE is part of the baseline, and a prefetch of any address is harmless.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) }
}

#[target_feature(enable = "avx2")]
fn avx2_maxima(rows: &[[u32; LANES]], out: &mut [u32]) {
    for (row, out) in rows.iter().zip(out) {
        let at = row.as_ptr().cast::<__m256i>();
        // SAFETY: a row is two vectors of eight numbers.
        let (a, b) = unsafe { (_mm256_loadu_si256(at), _mm256_loadu_si256(at.add(1))) };
        let eight = _mm256_max_epu32(a, b);
        let four = _mm_max_epu32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256::<1>(eight));
        let two = _mm_max_epu32(four, _mm_shuffle_epi32::<0b01_00_11_10>(four));
        let one = _mm_max_epu32(two, _mm_shuffle_epi32::<0b10_11_00_01>(two));
        *out = _mm_cvtsi128_si32(one) as u32;
    }
}

#[target_feature(enable = "avx512f")]
fn avx512_maxima(rows: &[[u32; LANES]], out: &mut [u32]) {
    let (many, rows) = rows.as_chunks::<16>();
    let (outs, out) = out.split_at_mut(16 * many.len());
    for (rows, out) in many.iter().zip(outs.as_chunks_mut::<16>().0) {
        // SAFETY: there is room for sixteen numbers.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), avx512_maxima_of_16(rows)) };
    }
    for (row, out) in rows.iter().zip(out) {
        // SAFETY: a row is one vector of sixteen numbers.
        *out = _mm512_reduce_max_epu32(unsafe { _mm512_loadu_si512(row.as_ptr().cast()) });
    }
}

/// The largest numbers of sixteen rows at once: in four steps, pairs of vectors are
/// shuffled so that one maximum halves both.
#[target_feature(enable = "avx512f")]
fn avx512_maxima_of_16(rows: &[[u32; LANES]; 16]) -> __m512i {
    // SAFETY: a row is one vector of sixteen numbers.
    let row = |i: usize| unsafe { _mm512_loadu_si512(rows[i].as_ptr().cast()) };
    let mut eight = [_mm512_setzero_si512(); 8];
    for (i, v) in eight.iter_mut().enumerate() {
        let (a, b) = (row(i), row(i + 8));
        *v = _mm512_max_epu32(_mm512_shuffle_i64x2::<0x44>(a, b), _mm512_shuffle_i64x2::<0xEE>(a, b));
    }
    let mut four = [_mm512_setzero_si512(); 4];
    for (i, v) in four.iter_mut().enumerate() {
        let (a, b) = (eight[i], eight[i + 4]);
        *v = _mm512_max_epu32(_mm512_shuffle_i64x2::<0x88>(a, b), _mm512_shuffle_i64x2::<0xDD>(a, b));
    }
    let two = |a, b| _mm512_max_epu32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let (a, b) = (two(four[0], four[1]), two(four[2], four[3]));
    let one = _mm512_max_epu32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
    // Quarters now hold rows 0.., 8.., 4.. and 12..
    _mm512_shuffle_i64x2::<0b11_01_10_00>(one, one)
}

/// Quantizes groups of `G` weights and packs the first `count` codes, `B` bits each: 4,
/// or 8 for a byte a code.
pub(super) fn groups_avx512<const G: usize, const B: usize>(
    _: Avx512,
    x: &[f32; TILE],
    count: usize,
    batch: &Batch,
    ahead: Ahead<'_>,
    to: &mut [u8],
) -> Tally {
    // SAFETY: an `Avx512` is only made by `Avx512::detect`, which saw the features.
    unsafe { avx512_groups::<G, B>(x, count, batch, ahead, to) }
}

/// Sixteen running sums of squares and maxima.
#[derive(Clone, Copy)]
struct Sums {
    signal: __m512,
    noise: __m512,
    max_abs: __m512,
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn avx512_groups<const G: usize, const B: usize>(
    x: &[f32; TILE],
    count: usize,
    batch: &Batch,
    ahead: Ahead<'_>,
    to: &mut [u8],
) -> Tally {
    let zero = _mm512_setzero_ps();
    let mut sums = Sums { signal: zero, noise: zero, max_abs: zero };
    let n = count.div_ceil(G);
    // Past the last group the tile holds what an earlier one left: no part of the sums.
    let quads = x.as_chunks::<64>().0.iter().zip(to.chunks_mut(8 * B)).enumerate();
    for (i, (x, to)) in quads.take(count.div_ceil(64)) {
        let mut c = [_mm512_setzero_si512(); 4];
        for (k, c) in c.iter_mut().enumerate() {
            let at = i * 64 + k * LANES;
            if k < 3 {
                prefetch(ahead.bytes.as_ptr().wrapping_add((ahead.begun + i * 48 + k * LANES) * ahead.size));
            }
            let group = at / G;
            if group < n && group < GROUPS {
                // SAFETY: four vectors of sixteen weights make the 64 of the chunk.
                let x = unsafe { _mm512_loadu_ps(x.as_ptr().add(k * LANES)) };
                *c = avx512_quantize(x, batch, group, &mut sums);
            }
        }
        let words = _mm512_packus_epi16(_mm512_packus_epi32(c[0], c[1]), _mm512_packus_epi32(c[2], c[3]));
        let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        // Where the next tile's codes go: a line must be owned before it is written.
        prefetch(to.as_ptr().wrapping_add(count * B / 8));
        avx512_pack::<B>(_mm512_permutexvar_epi32(order, words), count - i * 64, to);
    }
    let mut tally = Tally::default();
    // SAFETY: each field of a tally holds sixteen floats.
    unsafe {
        _mm512_storeu_ps(tally.signal.as_mut_ptr(), sums.signal);
        _mm512_storeu_ps(tally.noise.as_mut_ptr(), sums.noise);
        _mm512_storeu_ps(tally.max_abs.as_mut_ptr(), sums.max_abs);
    }
    tally
}

/// Writes the first `left` of 64 codes, and no more than `to` has room for.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn avx512_pack<const B: usize>(codes: __m512i, left: usize, to: &mut [u8]) {
    let low = |n: usize| if n < 64 { (1u64 << n) - 1 } else { u64::MAX };
    let codes = _mm512_maskz_mov_epi8(low(left), codes);
    // SAFETY: the masks let only the bytes of `to` be written, 64 or 32 at most.
    unsafe {
        if B == 8 {
            _mm512_mask_storeu_epi8(to.as_mut_ptr().cast(), low(to.len()), codes);
        } else {
            // Pairs of codes: the even one, and sixteen times the odd one.
            let pairs = _mm512_maddubs_epi16(codes, _mm512_set1_epi16(0x1001));
            let packed = _mm512_cvtepi16_epi8(pairs);
            _mm256_mask_storeu_epi8(to.as_mut_ptr().cast(), low(to.len()) as u32, packed);
        }
    }
}

/// One vector of codes, as in `round::quantize`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
fn avx512_quantize(x: __m512, batch: &Batch, group: usize, sums: &mut Sums) -> __m512i {
    let rounder = _mm512_set1_ps(ROUNDER);
    let t = _mm512_mul_ps(x, _mm512_set1_ps(batch.inverse[group]));
    let t = _mm512_max_ps(t, _mm512_set1_ps(batch.bottom[group]));
    let t = _mm512_min_ps(t, _mm512_set1_ps(batch.top[group]));
    let rounded = _mm512_add_ps(t, rounder);
    let decoded = _mm512_mul_ps(_mm512_sub_ps(rounded, rounder), _mm512_set1_ps(batch.scale[group]));
    let error = _mm512_sub_ps(x, decoded);
    sums.signal = _mm512_add_ps(sums.signal, _mm512_mul_ps(x, x));
    sums.noise = _mm512_add_ps(sums.noise, _mm512_mul_ps(error, error));
    // The larger magnitude of the two, without its sign.
    sums.max_abs = _mm512_range_ps::<0b1011>(sums.max_abs, error);
    _mm512_add_epi32(_mm512_castps_si512(rounded), _mm512_set1_epi32(batch.shift[group] as i32))
}

//! AVX-512: any width unpacked by one byte shuffle and one shift.

use core::arch::x86_64::*;

use crate::simd::Avx512;

/// Codes of one vector.
const LANES: usize = 16;

/// Decodes runs of `run` codes (a multiple of 8), each on its grid, from the first
/// code of `codes` on. Stops where codes, grids or `out` end.
pub(crate) fn runs<const B: usize>(_: Avx512, codes: &[u8], run: usize, grids: (&[f32], &[i32]), out: &mut [f32]) {
    // SAFETY: an `Avx512` is only made by `Avx512::detect`, which saw the features.
    unsafe { avx512_runs::<B>(codes, run, grids, out) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn avx512_runs<const B: usize>(mut codes: &[u8], run: usize, (scales, middles): (&[f32], &[i32]), mut out: &mut [f32]) {
    for (scale, middle) in scales.iter().zip(middles) {
        let n = run.min(out.len());
        let bytes = crate::pack::packed_bytes_of::<B>(n);
        let (Some((head, tail)), Some((to, rest))) =
            (codes.split_at_checked(bytes), core::mem::take(&mut out).split_at_mut_checked(n))
        else {
            break;
        };
        one_run::<B>(head, _mm512_set1_ps(*scale), _mm512_set1_epi32(*middle), to);
        (codes, out) = (tail, rest);
    }
}

/// Decodes `out.len()` codes of exactly as many bytes as they need.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn one_run<const B: usize>(codes: &[u8], scale: __m512, middle: __m512i, out: &mut [f32]) {
    let (places, shifts) = const { (place(B), shift(B)) };
    // SAFETY: the tables hold 64 bytes.
    let (place, shift) =
        unsafe { (_mm512_loadu_si512(places.as_ptr().cast()), _mm512_loadu_si512(shifts.as_ptr().cast())) };
    let (whole, rest) = out.as_chunks_mut::<LANES>();
    let done = whole.len() * 2 * B;
    // Sixteen codes are 2 B bytes.
    for (to, from) in whole.iter_mut().zip(codes.chunks_exact(2 * B)) {
        // SAFETY: the mask lets only the 2 B bytes of the chunk be read; there is room for
        // sixteen floats.
        unsafe {
            let bytes = _mm_maskz_loadu_epi8(low_bits(2 * B), from.as_ptr().cast());
            _mm512_storeu_ps(to.as_mut_ptr(), decode::<B>(bytes, place, shift, scale, middle));
        }
    }
    if let (Some(last), false) = (codes.get(done..), rest.is_empty()) {
        // SAFETY: the mask lets only the bytes of `last`, 15 at most, be read, and only
        // the floats of `rest`, 15 at most, be written.
        unsafe {
            let bytes = _mm_maskz_loadu_epi8(low_bits(last.len()), last.as_ptr().cast());
            let x = decode::<B>(bytes, place, shift, scale, middle);
            _mm512_mask_storeu_ps(rest.as_mut_ptr(), low_bits(rest.len()), x);
        }
    }
}

/// Sixteen codes from the low bytes of a vector.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn decode<const B: usize>(bytes: __m128i, place: __m512i, shift: __m512i, scale: __m512, middle: __m512i) -> __m512 {
    let words = _mm512_shuffle_epi8(_mm512_broadcast_i32x4(bytes), place);
    let moved = _mm512_srlv_epi32(words, shift);
    let codes = _mm512_and_si512(moved, _mm512_set1_epi32((1 << B) - 1));
    _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(codes, middle)), scale)
}

/// A mask of the `n` lowest bits, 16 at most.
#[inline(always)]
fn low_bits(n: usize) -> u16 {
    ((1u32 << n.min(16)) - 1) as u16
}

/// Each lane takes the two bytes, of the sixteen, in which its code begins and ends.
const fn place(bits: usize) -> [u8; 64] {
    /// A byte that the shuffle makes zero.
    const NONE: u8 = 0x80;
    let mut table = [NONE; 64];
    let mut lane = 0;
    while lane < LANES {
        let byte = lane * bits / 8;
        table[4 * lane] = byte as u8;
        if byte < 15 {
            table[4 * lane + 1] = byte as u8 + 1;
        }
        lane += 1;
    }
    table
}

/// The bit, of those two bytes, at which each code begins.
const fn shift(bits: usize) -> [u32; LANES] {
    let mut table = [0; LANES];
    let mut lane = 0;
    while lane < LANES {
        table[lane] = (lane * bits % 8) as u32;
        lane += 1;
    }
    table
}

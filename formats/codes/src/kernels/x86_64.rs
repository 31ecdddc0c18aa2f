//! AVX-512: any width unpacked by one byte permutation and one multishift.

use core::arch::x86_64::*;

use crate::simd::Avx512;

/// Codes of one vector.
const LANES: usize = 16;

/// Decodes runs of `run` codes (a multiple of 8), each on its grid, from the first
/// code of `codes` on. Stops where codes, grids or `out` end. `far` says that `out` is
/// too large for a cache: it is then written past them where its address allows.
pub(crate) fn runs<const B: usize>(
    _: Avx512,
    codes: &[u8],
    run: usize,
    grids: (&[f32], &[i32]),
    far: bool,
    out: &mut [f32],
) {
    // SAFETY: an `Avx512` is only made by `Avx512::detect`, which saw the features.
    unsafe { avx512_runs::<B>(codes, run, grids, far, out) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi")]
fn avx512_runs<const B: usize>(
    mut codes: &[u8],
    run: usize,
    (scales, middles): (&[f32], &[i32]),
    far: bool,
    mut out: &mut [f32],
) {
    let store = Store::of(far, out.as_ptr());
    for (scale, middle) in scales.iter().zip(middles) {
        let n = run.min(out.len());
        let bytes = crate::pack::packed_bytes_of::<B>(n);
        let (Some((head, tail)), Some((to, rest))) =
            (codes.split_at_checked(bytes), core::mem::take(&mut out).split_at_mut_checked(n))
        else {
            break;
        };
        one_run::<B>(head, _mm512_set1_ps(*scale), _mm512_set1_epi32(*middle), store, to);
        (codes, out) = (tail, rest);
    }
    if !matches!(store, Store::Near) {
        _mm_sfence();
    }
}

/// Decodes `out.len()` codes of exactly as many bytes as they need.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi")]
fn one_run<const B: usize>(codes: &[u8], scale: __m512, middle: __m512i, store: Store, out: &mut [f32]) {
    let (places, shifts) = const { (place(B), shift(B)) };
    // SAFETY: the tables hold 64 bytes.
    let (place, shift) =
        unsafe { (_mm512_loadu_si512(places.as_ptr().cast()), _mm512_loadu_si512(shifts.as_ptr().cast())) };
    let (whole, rest) = out.as_chunks_mut::<LANES>();
    let done = whole.len() * 2 * B;
    // Sixteen codes are 2 B bytes.
    for (to, from) in whole.iter_mut().zip(codes.chunks_exact(2 * B)) {
        // SAFETY: the mask lets only the 2 B bytes of the chunk be read.
        let bytes = unsafe { _mm_maskz_loadu_epi8(low_bits(2 * B), from.as_ptr().cast()) };
        store.put(to, decode::<B>(bytes, place, shift, scale, middle));
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
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn decode<const B: usize>(bytes: __m128i, place: __m512i, shift: __m512i, scale: __m512, middle: __m512i) -> __m512 {
    let pairs = _mm512_permutexvar_epi8(place, _mm512_castsi128_si512(bytes));
    let moved = _mm512_multishift_epi64_epi8(shift, pairs);
    let codes = _mm512_and_si512(moved, _mm512_set1_epi32((1 << B) - 1));
    _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(codes, middle)), scale)
}

/// A mask of the `n` lowest bits, 16 at most.
#[inline(always)]
fn low_bits(n: usize) -> u16 {
    ((1u32 << n.min(16)) - 1) as u16
}

/// Each eight bytes take the three in which codes `2j` and `2j + 1` begin and end.
const fn place(bits: usize) -> [u8; 64] {
    let mut table = [0; 64];
    let mut i = 0;
    while i < 64 {
        let byte = (i / 8) * 2 * bits / 8 + i % 8;
        table[i] = if byte < 16 { byte as u8 } else { 15 };
        i += 1;
    }
    table
}

/// The bit, of those eight bytes, at which each code begins: the low byte of a lane.
const fn shift(bits: usize) -> [u8; 64] {
    let mut table = [0; 64];
    let mut i = 0;
    while i < 64 {
        let first = (i / 8) * 2 * bits % 8;
        table[i] = (first + if i % 8 < 4 { 0 } else { bits }) as u8;
        i += 1;
    }
    table
}

/// How vectors are written.
#[derive(Clone, Copy)]
enum Store {
    /// Into the caches.
    Near,
    /// Past the caches, whole lines of 64 bytes.
    Lines,
    /// Past the caches, in quarters of 16 bytes.
    Quarters,
}

impl Store {
    fn of(far: bool, out: *const f32) -> Self {
        match out as usize % 64 {
            0 if far => Self::Lines,
            16 | 32 | 48 if far => Self::Quarters,
            _ => Self::Near,
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn put(self, to: &mut [f32; LANES], x: __m512) {
        let at = to.as_mut_ptr();
        // SAFETY: there is room for sixteen floats, and the address was seen to be
        // aligned where the instruction asks for that.
        unsafe {
            match self {
                Self::Lines if (at as usize).is_multiple_of(64) => _mm512_stream_ps(at, x),
                Self::Quarters if (at as usize).is_multiple_of(16) => {
                    _mm_stream_ps(at, _mm512_extractf32x4_ps::<0>(x));
                    _mm_stream_ps(at.add(4), _mm512_extractf32x4_ps::<1>(x));
                    _mm_stream_ps(at.add(8), _mm512_extractf32x4_ps::<2>(x));
                    _mm_stream_ps(at.add(12), _mm512_extractf32x4_ps::<3>(x));
                }
                _ => _mm512_storeu_ps(at, x),
            }
        }
    }
}

//! Blocks of Q4_0, Q8_0 and Q4_K, 32 columns at a time.

use core::arch::x86_64::*;

use super::{LANES, floats, half, signed, stored, whole};
use crate::block::{part, six_bits};
use crate::product::inputs::{BLOCK, Inputs, Kind, Rounded};
use crate::product::{SUMS, total};
use crate::simd::Avx2;
use crate::{BlockType, BlockView};

/// Whether there is a kernel for these blocks and the form of these inputs.
pub(in crate::product) fn can(view: &BlockView<'_>, x: &Inputs<'_>) -> bool {
    matches!(view.block_type(), BlockType::Q4_0 | BlockType::Q8_0 | BlockType::Q4K)
        && matches!(x.kind, Kind::Plain(_) | Kind::Rounded(Rounded { eights: false, .. }))
}

/// The types that there are kernels for.
const Q4_0: u8 = 0;
const Q8_0: u8 = 1;
const Q4_K: u8 = 2;

/// The product of a row with inputs in a form that [`can`] be taken.
pub(in crate::product) fn product(_: Avx2, view: &BlockView<'_>, row: usize, x: &Inputs<'_>) -> f32 {
    let codes = view.row_codes(row);
    // SAFETY: an `Avx2` is only made by `Avx2::detect`, which saw the features.
    let sums = unsafe {
        match (x.kind, view.block_type()) {
            (Kind::Rounded(x), BlockType::Q4_0) => rounded::<Q4_0>(codes, x),
            (Kind::Rounded(x), BlockType::Q8_0) => rounded::<Q8_0>(codes, x),
            (Kind::Rounded(x), _) => rounded::<Q4_K>(codes, x),
            (Kind::Plain(x) | Kind::Turned(x, _), BlockType::Q4_0) => plain::<Q4_0>(codes, x),
            (Kind::Plain(x) | Kind::Turned(x, _), BlockType::Q8_0) => plain::<Q8_0>(codes, x),
            (Kind::Plain(x) | Kind::Turned(x, _), _) => plain::<Q4_K>(codes, x),
        }
    };
    total(sums)
}

/// Scales and minima of a block of Q4_K.
type Head = [[f32; 8]; 2];

#[target_feature(enable = "avx2,fma,f16c,bmi2")]
fn rounded<const K: u8>(codes: &[u8], x: Rounded<'_>) -> [f32; SUMS] {
    let (scales, sums) = (x.scales.as_chunks::<LANES>().0, x.sums.as_chunks::<LANES>().0);
    let inputs = x.codes.as_chunks::<BLOCK>().0.iter().zip(scales.iter().zip(sums));
    let (mut all, mut next, mut head) = (_mm256_setzero_ps(), _mm256_setzero_ps(), [[0.0; 8]; 2]);
    for (at, (x, (t, n))) in inputs.take(count::<K>(codes)).enumerate() {
        let (numbers, (scale, least)) = (numbers::<K>(codes, at), grid::<K>(codes, at, &mut head));
        // Products of bytes have a sign on one side only, and fit into 16 bits by twos.
        let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(numbers), _mm256_sign_epi8(signed(x), numbers));
        let part = _mm256_cvtepi32_ps(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
        let t = floats(t);
        let mut part = _mm256_mul_ps(_mm256_mul_ps(_mm256_set1_ps(scale), t), part);
        if K == Q4_K {
            // SAFETY: there are eight numbers.
            let n = _mm256_cvtepi32_ps(unsafe { _mm256_loadu_si256(n.as_ptr().cast()) });
            part = _mm256_sub_ps(part, _mm256_mul_ps(_mm256_mul_ps(_mm256_set1_ps(least), t), n));
        }
        // The two halves of sums by turns.
        (all, next) = (next, _mm256_add_ps(all, part));
    }
    stored(if count::<K>(codes).is_multiple_of(2) { [all, next] } else { [next, all] })
}

#[target_feature(enable = "avx2,fma,f16c,bmi2")]
fn plain<const K: u8>(codes: &[u8], x: &[f32]) -> [f32; SUMS] {
    let (mut all, mut next, mut head) = (_mm256_setzero_ps(), _mm256_setzero_ps(), [[0.0; 8]; 2]);
    for (at, x) in x.as_chunks::<BLOCK>().0.iter().enumerate() {
        let (numbers, (scale, least)) = (numbers::<K>(codes, at), grid::<K>(codes, at, &mut head));
        let (low, high) = (_mm256_castsi256_si128(numbers), _mm256_extracti128_si256::<1>(numbers));
        let [a, b, c, d] = [floats(x), floats(&x[LANES..]), floats(&x[2 * LANES..]), floats(&x[3 * LANES..])];
        let one = _mm256_fmadd_ps(wide(high), c, _mm256_mul_ps(wide(low), a));
        let two = _mm256_mul_ps(wide(_mm_srli_si128::<8>(low)), b);
        let two = _mm256_fmadd_ps(wide(_mm_srli_si128::<8>(high)), d, two);
        let mut sum = _mm256_fmadd_ps(_mm256_set1_ps(scale), _mm256_add_ps(one, two), all);
        if K == Q4_K {
            let ofs = _mm256_add_ps(_mm256_add_ps(a, b), _mm256_add_ps(c, d));
            sum = _mm256_fnmadd_ps(_mm256_set1_ps(least), ofs, sum);
        }
        (all, next) = (next, sum);
    }
    stored([all, next])
}

/// Runs of 32 columns in a row.
const fn count<const K: u8>(codes: &[u8]) -> usize {
    match K {
        Q4_0 => codes.len() / 18,
        Q8_0 => codes.len() / 34,
        _ => codes.len() / 144 * 8,
    }
}

/// The numbers of 32 columns.
#[inline]
#[target_feature(enable = "avx2")]
fn numbers<const K: u8>(codes: &[u8], at: usize) -> __m256i {
    let low = _mm256_set1_epi8(15);
    match K {
        Q4_0 => {
            let run = half(codes.get(at * 18 + 2..).unwrap_or(&[]));
            let both = _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16::<4>(run), run), low);
            _mm256_sub_epi8(both, _mm256_set1_epi8(8))
        }
        Q8_0 => whole(codes.get(at * 34 + 2..).unwrap_or(&[])),
        _ => {
            let sub = at % 8;
            let run = whole(codes.get(at / 8 * 144 + 16 + sub / 2 * 32..).unwrap_or(&[]));
            let run = if sub.is_multiple_of(2) { run } else { _mm256_srli_epi16::<4>(run) };
            _mm256_and_si256(run, low)
        }
    }
}

/// Their scale and their minimum; the head of a block of Q4_K is read with its first columns.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn grid<const K: u8>(codes: &[u8], at: usize, head: &mut Head) -> (f32, f32) {
    match K {
        Q4_0 => (f16(codes, at * 18), 0.0),
        Q8_0 => (f16(codes, at * 34), 0.0),
        _ => {
            if at.is_multiple_of(8) {
                *head = self::head(codes.get(at / 8 * 144..).unwrap_or(&[]));
            }
            (head[0][at % 8], head[1][at % 8])
        }
    }
}

/// Scales and minima of a block of Q4_K.
#[target_feature(enable = "avx2,f16c")]
fn head(block: &[u8]) -> Head {
    let (scales, minima) = six_bits(part(block, 4));
    let (scales, minima) = (u64::from_le_bytes(scales) as i64, u64::from_le_bytes(minima) as i64);
    let times = |numbers: i64, d: f32| {
        let mut to = [0.0; 8];
        let numbers = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(numbers)));
        // SAFETY: there are eight floats.
        unsafe { _mm256_storeu_ps(to.as_mut_ptr(), _mm256_mul_ps(_mm256_set1_ps(d), numbers)) }
        to
    };
    [times(scales, f16(block, 0)), times(minima, f16(block, 2))]
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn f16(block: &[u8], at: usize) -> f32 {
    let half = i32::from(u16::from_le_bytes(*part(block, at)));
    _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(half)))
}

/// The lowest eight numbers as floats.
#[inline]
#[target_feature(enable = "avx2")]
fn wide(numbers: __m128i) -> __m256 {
    _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(numbers))
}

//! Blocks of Q4_0, Q8_0 and Q4_K, 64 columns at a time: codes and scales are opened in registers.
//!
//! ```text
//! Q4_0    s a a a a ..  s b b b b ..    scale and 16 bytes: columns 0 to 15 in low nibbles, 16 to 31 in high ones
//! Q8_0    s a a a a ..  s b b b b ..    scale and 32 bytes
//! Q4_K    d m, 12 bytes of scales and minima, then for 64 columns 32 bytes: first 32 in low nibbles, then high ones
//! ```

use core::arch::x86_64::*;

use super::LANES;
use super::stretch::{floats, load, signed, stored, totals, whole};
use crate::product::inputs::{Inputs, Kind, Rounded};
use crate::simd::Vnni;
use crate::{BlockType, BlockView};

/// Columns that a kernel takes at a time.
const CHUNK: usize = 64;

/// Rows that are multiplied at a time, so that inputs are read once for all of them.
const ROWS: usize = 4;

/// Whether there is a kernel for these blocks and the form of these inputs.
pub(in crate::product) fn can(view: &BlockView<'_>, x: &Inputs<'_>) -> bool {
    matches!(view.block_type(), BlockType::Q4_0 | BlockType::Q8_0 | BlockType::Q4K)
        && matches!(x.kind, Kind::Plain(_) | Kind::Rounded(Rounded { eights: false, .. }))
}

/// The products of rows from `row` on with inputs in a form that [`can`] be taken.
pub(in crate::product) fn products(proof: Vnni, view: &BlockView<'_>, mut row: usize, x: &Inputs<'_>, out: &mut [f32]) {
    let (fours, rest) = out.as_chunks_mut::<ROWS>();
    for four in fours {
        *four = some_rows(proof, view, row, x);
        row += ROWS;
    }
    for (at, one) in rest.as_chunks_mut::<1>().0.iter_mut().enumerate() {
        *one = some_rows(proof, view, row + at, x);
    }
}

/// The types that there are kernels for.
const Q4_0: u8 = 0;
const Q8_0: u8 = 1;
const Q4_K: u8 = 2;

/// The products of `R` rows.
fn some_rows<const R: usize>(_: Vnni, view: &BlockView<'_>, row: usize, x: &Inputs<'_>) -> [f32; R] {
    let rows = core::array::from_fn(|nth| view.row_codes(row + nth));
    // SAFETY: a `Vnni` is only made by `Vnni::detect`, which saw the features.
    unsafe {
        match (x.kind, view.block_type()) {
            (Kind::Rounded(x), BlockType::Q4_0) => rounded::<Q4_0, R>(rows, x),
            (Kind::Rounded(x), BlockType::Q8_0) => rounded::<Q8_0, R>(rows, x),
            (Kind::Rounded(x), _) => rounded::<Q4_K, R>(rows, x),
            (Kind::Plain(x) | Kind::Turned(x, _), BlockType::Q4_0) => plain::<Q4_0, R>(rows, x),
            (Kind::Plain(x) | Kind::Turned(x, _), BlockType::Q8_0) => plain::<Q8_0, R>(rows, x),
            (Kind::Plain(x) | Kind::Turned(x, _), _) => plain::<Q4_K, R>(rows, x),
        }
    }
}

/// Bytes of 64 columns; of Q4_K a quarter of a block, in which scales come first.
const fn bytes(kind: u8) -> usize {
    if kind == Q8_0 { 68 } else { 36 }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi")]
fn rounded<const K: u8, const R: usize>(rows: [&[u8]; R], x: Rounded<'_>) -> [f32; R] {
    let (scales, sums) = x.lanes(0);
    let chunks = rows.first().map_or(0, |row| row.len().div_ceil(bytes(K)));
    let x = x.codes.as_chunks::<CHUNK>().0.iter().zip(scales.iter().zip(sums)).take(chunks);
    let middle = _mm512_set1_epi32(match K {
        Q4_0 => -8,
        Q8_0 => -128,
        _ => 0,
    });
    let (mut all, mut heads) = ([_mm512_setzero_ps(); R], [_mm512_setzero_ps(); R]);
    for (at, (x, (t, n))) in x.enumerate() {
        let (x, t, n) = (signed(x), load(t), whole(n));
        let start = _mm512_mullo_epi32(middle, n);
        for nth in 0..R {
            if K == Q4_K && at % 4 == 0 {
                heads[nth] = head(rows[nth], at / 4);
            }
            let (codes, scale) = match K {
                Q4_0 => open_q4_0(rows[nth], at),
                Q8_0 => open_q8_0(rows[nth], at),
                _ => (open_q4_k(rows[nth], at), spread(heads[nth], 2 * (at % 4))),
            };
            let part = _mm512_cvtepi32_ps(_mm512_dpbusd_epi32(start, codes, x));
            let mut part = _mm512_mul_ps(_mm512_mul_ps(scale, t), part);
            if K == Q4_K {
                let least = _mm512_mul_ps(spread(heads[nth], 8 + 2 * (at % 4)), t);
                part = _mm512_sub_ps(part, _mm512_mul_ps(least, _mm512_cvtepi32_ps(n)));
            }
            all[nth] = _mm512_add_ps(all[nth], part);
        }
    }
    totals(&all.map(|all| stored(all)))
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi")]
fn plain<const K: u8, const R: usize>(rows: [&[u8]; R], x: &[f32]) -> [f32; R] {
    let numbers: [f32; LANES] = core::array::from_fn(|code| code as f32 - if K == Q4_0 { 8.0 } else { 0.0 });
    let numbers = load(&numbers);
    let (mut all, mut heads) = ([_mm512_setzero_ps(); R], [[0.0; LANES]; R]);
    for (at, x) in x.chunks(CHUNK).enumerate() {
        let x = floats(x);
        for nth in 0..R {
            let row = rows[nth];
            match K {
                Q4_K => {
                    if at % 4 == 0 {
                        heads[nth] = stored(head(row, at / 4));
                    }
                    let first = 2 * (at % 4);
                    let grid = |sub: usize| (heads[nth][first + sub], heads[nth][8 + first + sub]);
                    let (one, two) = (grid(0), grid(1));
                    let one = _mm512_fmsub_ps(numbers, _mm512_set1_ps(one.0), _mm512_set1_ps(one.1));
                    let two = _mm512_fmsub_ps(numbers, _mm512_set1_ps(two.0), _mm512_set1_ps(two.1));
                    let run = quarter(row, at);
                    let (low, high) = (widened(run, 0), widened(run, LANES));
                    let first = _mm512_mul_ps(_mm512_permutexvar_ps(low, one), x[0]);
                    let second = _mm512_mul_ps(_mm512_permutexvar_ps(high, one), x[1]);
                    let (low, high) = (_mm512_srli_epi32::<4>(low), _mm512_srli_epi32::<4>(high));
                    let first = _mm512_fmadd_ps(_mm512_permutexvar_ps(low, two), x[2], first);
                    let second = _mm512_fmadd_ps(_mm512_permutexvar_ps(high, two), x[3], second);
                    all[nth] = _mm512_add_ps(all[nth], _mm512_add_ps(first, second));
                }
                _ => {
                    let [a, b, c, d] = if K == Q4_0 { values_q4_0(row, at, numbers) } else { values_q8_0(row, at) };
                    let one = _mm512_fmadd_ps(b, x[1], _mm512_mul_ps(a, x[0]));
                    let two = _mm512_fmadd_ps(d, x[3], _mm512_mul_ps(c, x[2]));
                    let half = bytes(K) / 2;
                    all[nth] = _mm512_fmadd_ps(scale(row, 2 * at * half), one, all[nth]);
                    all[nth] = _mm512_fmadd_ps(scale(row, (2 * at + 1) * half), two, all[nth]);
                }
            }
        }
    }
    totals(&all.map(|all| stored(all)))
}

/// The bytes of a row from `first` on, at most 64; zeros after the last.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn from(row: &[u8], first: usize) -> __m512i {
    let bytes = row.get(first..).unwrap_or(&[]);
    match bytes.first_chunk::<64>() {
        // SAFETY: there are 64 bytes.
        Some(bytes) => unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) },
        None => {
            let some = (1u64 << bytes.len()) - 1;
            // SAFETY: the mask lets only bytes be read that are there.
            unsafe { _mm512_maskz_loadu_epi8(some, bytes.as_ptr().cast()) }
        }
    }
}

/// The scale at a place of a row, in every lane; zero past its end.
#[inline]
#[target_feature(enable = "avx512f")]
fn scale(row: &[u8], at: usize) -> __m512 {
    _mm512_cvtph_ps(_mm256_set1_epi16(half(row, at)))
}

#[inline(always)]
fn half(row: &[u8], at: usize) -> i16 {
    row.get(at..).and_then(|bytes| bytes.first_chunk()).map_or(0, |bytes| i16::from_le_bytes(*bytes))
}

/// Two blocks: codes in their order, and the scale of each lane of four.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn open_q4_0(row: &[u8], at: usize) -> (__m512i, __m512) {
    const PLACES: [u8; CHUNK] = {
        let (mut places, mut at) = ([0; CHUNK], 0);
        while at < CHUNK {
            places[at] = (2 + at / 32 * 18 + at % 16) as u8;
            at += 1;
        }
        places
    };
    let all = from(row, at * bytes(Q4_0));
    // SAFETY: there are 64 bytes.
    let places = unsafe { _mm512_loadu_si512(PLACES.as_ptr().cast()) };
    let nibbles = _mm512_srlv_epi64(_mm512_permutexvar_epi8(places, all), _mm512_setr_epi64(0, 0, 4, 4, 0, 0, 4, 4));
    let codes = _mm512_and_si512(nibbles, _mm512_set1_epi8(15));
    let scales = _mm512_permutexvar_epi16(_mm512_set_epi64(0, 0, 0, 0, NINES, NINES, 0, 0), all);
    (codes, _mm512_cvtph_ps(_mm512_castsi512_si256(scales)))
}

/// The number of the word that is the second scale of two blocks of Q4_0, four times.
const NINES: i64 = 0x0009_0009_0009_0009;

/// Two blocks: codes plus 128 in their order, and the scale of each lane of four.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn open_q8_0(row: &[u8], at: usize) -> (__m512i, __m512) {
    let first = at * bytes(Q8_0);
    let (one, two) = (thirty_two(row, first + 2), thirty_two(row, first + 36));
    let codes = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(one), two);
    let scales = _mm256_set_m128i(_mm_set1_epi16(half(row, first + 34)), _mm_set1_epi16(half(row, first)));
    (_mm512_xor_si512(codes, _mm512_set1_epi8(i8::MIN)), _mm512_cvtph_ps(scales))
}

/// The 32 bytes of 64 columns of Q4_K.
#[inline(always)]
fn quarter(row: &[u8], at: usize) -> &[u8; 32] {
    let first = at / 4 * 144 + 16 + at % 4 * 32;
    row.get(first..).and_then(|bytes| bytes.first_chunk()).unwrap_or(&[0; 32])
}

/// A quarter of a block: codes in their order.
#[inline]
#[target_feature(enable = "avx512f")]
fn open_q4_k(row: &[u8], at: usize) -> __m512i {
    // SAFETY: there are 32 bytes.
    let run = unsafe { _mm256_loadu_si256(quarter(row, at).as_ptr().cast()) };
    let both = _mm512_broadcast_i64x4(run);
    _mm512_and_si512(_mm512_srlv_epi64(both, _mm512_setr_epi64(0, 0, 0, 0, 4, 4, 4, 4)), _mm512_set1_epi8(15))
}

/// The eight scales of a block of Q4_K and then its eight minima.
#[inline]
#[target_feature(enable = "avx512f")]
fn head(row: &[u8], at: usize) -> __m512 {
    let block: &[u8; 16] = row.get(at * 144..).and_then(|bytes| bytes.first_chunk()).unwrap_or(&[0; 16]);
    let [_, low, mid, high] = *block.as_chunks::<4>().0 else { return _mm512_setzero_ps() };
    let (low, mid, high) = (u32::from_le_bytes(low), u32::from_le_bytes(mid), u32::from_le_bytes(high));
    // Six bits each: of the first four as they are, of the last four in a nibble and two bits elsewhere.
    let join = |six: u32, four: u32| {
        let last = four & 0x0F0F_0F0F | (six >> 6 & 0x0303_0303) << 4;
        (u64::from(last) << 32 | u64::from(six & 0x3F3F_3F3F)) as i64
    };
    let numbers = _mm_set_epi64x(join(mid, high >> 4), join(low, high));
    let halves = _mm256_set_m128i(_mm_set1_epi16(half(block, 2)), _mm_set1_epi16(half(block, 0)));
    _mm512_mul_ps(_mm512_cvtph_ps(halves), _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(numbers)))
}

/// Lanes `first` and the one after it, eight times each.
#[inline]
#[target_feature(enable = "avx512f")]
fn spread(head: __m512, first: usize) -> __m512 {
    let second = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
    _mm512_permutexvar_ps(_mm512_add_epi32(second, _mm512_set1_epi32(first as i32)), head)
}

/// Sixteen bytes from `first` on, each in the lowest byte of a lane.
#[inline]
#[target_feature(enable = "avx512f")]
fn widened(run: &[u8; 32], first: usize) -> __m512i {
    let bytes: &[u8; LANES] = run[first..].first_chunk().unwrap_or(&[0; LANES]);
    // SAFETY: there are sixteen bytes.
    _mm512_cvtepu8_epi32(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
}

/// The numbers of two blocks, sixteen columns each.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn values_q4_0(row: &[u8], at: usize, numbers: __m512) -> [__m512; 4] {
    const PLACES: [u8; CHUNK] = {
        let (mut places, mut at) = ([0; CHUNK], 0);
        while at < CHUNK {
            places[at] = (2 + at % 2 * 18 + at / 4) as u8;
            at += 1;
        }
        places
    };
    // SAFETY: there are 64 bytes.
    let places = unsafe { _mm512_loadu_si512(PLACES.as_ptr().cast()) };
    // Lane l: byte l of the first block, then byte l of the second.
    let both = _mm512_permutexvar_epi8(places, from(row, at * bytes(Q4_0)));
    // The lowest four bits of each lane choose.
    [
        _mm512_permutexvar_ps(both, numbers),
        _mm512_permutexvar_ps(_mm512_srli_epi32::<4>(both), numbers),
        _mm512_permutexvar_ps(_mm512_srli_epi32::<8>(both), numbers),
        _mm512_permutexvar_ps(_mm512_srli_epi32::<12>(both), numbers),
    ]
}

/// The numbers of two blocks, sixteen columns each.
#[inline]
#[target_feature(enable = "avx512f")]
fn values_q8_0(row: &[u8], at: usize) -> [__m512; 4] {
    let first = at * bytes(Q8_0) + 2;
    let (one, two) = (thirty_two(row, first), thirty_two(row, first + 34));
    [
        number(_mm256_castsi256_si128(one)),
        number(_mm256_extracti128_si256::<1>(one)),
        number(_mm256_castsi256_si128(two)),
        number(_mm256_extracti128_si256::<1>(two)),
    ]
}

/// 32 bytes of a row; zeros past its end.
#[inline]
#[target_feature(enable = "avx512f")]
fn thirty_two(row: &[u8], first: usize) -> __m256i {
    let bytes: &[u8; 32] = row.get(first..).and_then(|bytes| bytes.first_chunk()).unwrap_or(&[0; 32]);
    // SAFETY: there are 32 bytes.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn number(bytes: __m128i) -> __m512 {
    _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes))
}

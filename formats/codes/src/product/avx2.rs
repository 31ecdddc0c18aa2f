//! AVX2: codes of any width, 32 or 64 columns at a time.

pub(super) mod blocks;

use core::arch::x86_64::*;

use super::inputs::{BLOCK, Inputs, Kind, Rounded};
use super::{CHUNK, SUMS, lanes_fit, run, total};
use crate::dequantize::{GRIDS, grids};
use crate::simd::{Avx2, Level};
use crate::uniform::Parts;

/// Lanes of a vector: the sums of a row are in two.
const LANES: usize = 8;

/// Whether there is a kernel for these rows and the form of these inputs.
pub(super) fn can(parts: &Parts<'_>, x: &Inputs<'_>) -> bool {
    let form = match x.kind {
        Kind::Plain(_) => true,
        Kind::Turned(..) => false,
        Kind::Rounded(Rounded { eights, .. }) => eights == (parts.scheme.bits.get() == 4),
    };
    form && lanes_fit(parts)
}

/// The product of a row with inputs in a form that [`can`] be taken.
pub(super) fn product(proof: Avx2, parts: &Parts<'_>, row: usize, x: &Inputs<'_>) -> f32 {
    let (run, bits) = (run(parts), parts.scheme.bits.get());
    let (mut scales, mut middles) = ([0.0; GRIDS], [0; GRIDS]);
    let mut sums = [0.0; SUMS];
    // A multiple of a chunk, for a group is one of 32 columns.
    let columns = run.saturating_mul(GRIDS);
    for (at, first) in (0..parts.cols).step_by(columns).enumerate() {
        let count = (parts.cols - first).min(columns);
        let groups = count.div_ceil(run);
        grids(Level::Avx2(proof), parts, (row, at * GRIDS), &mut scales[..groups], &mut middles[..groups]);
        let codes = parts.row(row).get(first / 8 * bits as usize..).unwrap_or(&[]);
        let some = Groups { codes, first, count, run, scales: &scales, middles: &middles };
        // SAFETY: an `Avx2` is only made by `Avx2::detect`, which saw the features.
        unsafe { some.add(bits, x, &mut sums) }
    }
    total(sums)
}

/// Groups of a row.
struct Groups<'s> {
    codes: &'s [u8],
    /// The column of the first code, a multiple of a chunk; how many there are; and how many a group has.
    first: usize,
    count: usize,
    run: usize,
    scales: &'s [f32; GRIDS],
    middles: &'s [i32; GRIDS],
}

impl Groups<'_> {
    #[target_feature(enable = "avx2,fma,f16c,bmi2")]
    fn add(&self, bits: u32, x: &Inputs<'_>, sums: &mut [f32; SUMS]) {
        match (x.kind, bits) {
            (Kind::Rounded(x), 2) => self.fours::<2>(x, sums),
            (Kind::Rounded(x), 3) => self.fours::<3>(x, sums),
            (Kind::Rounded(x), 4) => self.eights(x, sums),
            (Kind::Rounded(x), 5) => self.fours::<5>(x, sums),
            (Kind::Rounded(x), 6) => self.fours::<6>(x, sums),
            (Kind::Rounded(x), 7) => self.fours::<7>(x, sums),
            (Kind::Rounded(x), _) => self.fours::<8>(x, sums),
            (Kind::Plain(x) | Kind::Turned(x, _), 2) => self.plain::<2>(x, sums),
            (Kind::Plain(x) | Kind::Turned(x, _), 3) => self.plain::<3>(x, sums),
            (Kind::Plain(x) | Kind::Turned(x, _), 4) => self.plain::<4>(x, sums),
            (Kind::Plain(x) | Kind::Turned(x, _), 5) => self.plain::<5>(x, sums),
            (Kind::Plain(x) | Kind::Turned(x, _), 6) => self.plain::<6>(x, sums),
            (Kind::Plain(x) | Kind::Turned(x, _), 7) => self.plain::<7>(x, sums),
            (Kind::Plain(x) | Kind::Turned(x, _), _) => self.plain::<8>(x, sums),
        }
    }

    /// Scale and middle of the group of a column, counted from the first one here.
    #[inline(always)]
    fn grid(&self, column: usize) -> (f32, i32) {
        let group = (column / self.run).min(GRIDS - 1);
        (self.scales[group], self.middles[group])
    }

    /// Codes of 4 bits and rounded inputs, 64 columns at a time: half a chunk.
    #[target_feature(enable = "avx2,fma,f16c,bmi2")]
    fn eights(&self, x: Rounded<'_>, sums: &mut [f32; SUMS]) {
        let (low, ones) = (_mm256_set1_epi8(15), _mm256_set1_epi16(1));
        let (scales, x_sums) = x.lanes(self.first);
        let x = x.codes.get(self.first..).unwrap_or(&[]).as_chunks::<CHUNK>().0;
        let mut all = load_sums(sums);
        for (at, (x, (t, n))) in x.iter().zip(scales.iter().zip(x_sums)).enumerate() {
            if at * CHUNK >= self.count {
                break;
            }
            for half in 0..2 {
                let column = at * CHUNK + half * CHUNK / 2;
                let codes = whole(self.codes.get(column / 2..).unwrap_or(&[]));
                let (even, odd) = (_mm256_and_si256(codes, low), _mm256_and_si256(_mm256_srli_epi16::<4>(codes), low));
                let even = _mm256_maddubs_epi16(even, signed(&x[half * BLOCK..]));
                let odd = _mm256_maddubs_epi16(odd, signed(&x[CHUNK / 2 + half * BLOCK..]));
                let part = _mm256_madd_epi16(_mm256_add_epi16(even, odd), ones);
                let (one, two) = (self.grid(column), self.grid(column + BLOCK));
                let scale = _mm256_set_m128(_mm_set1_ps(two.0), _mm_set1_ps(one.0));
                let middle = _mm256_set_m128i(_mm_set1_epi32(two.1), _mm_set1_epi32(one.1));
                all[half] = add_lanes(all[half], (scale, middle), lanes(t, n, half), part);
            }
        }
        *sums = stored(all);
    }

    /// Codes of another width and rounded inputs, 32 columns at a time.
    #[target_feature(enable = "avx2,fma,f16c,bmi2")]
    fn fours<const B: usize>(&self, x: Rounded<'_>, sums: &mut [f32; SUMS]) {
        let ones = _mm256_set1_epi16(1);
        let (scales, x_sums) = x.lanes(self.first);
        let x = x.codes.get(self.first..).unwrap_or(&[]).as_chunks::<{ 2 * BLOCK }>().0;
        // Products of bytes have a sign on one side only, and fit into 16 bits by twos up to 7 bits.
        let lift = if B == 8 { 128 } else { 0 };
        let mut all = load_sums(sums);
        for (at, (x, (t, n))) in x.iter().zip(scales.iter().zip(x_sums)).enumerate() {
            for half in 0..2 {
                let column = at * 2 * BLOCK + half * BLOCK;
                if column >= self.count {
                    break;
                }
                let codes = open::<B>(self.codes.get(column / 8 * B..).unwrap_or(&[]));
                let x = signed(&x[half * BLOCK..]);
                let pairs = match B {
                    8 => {
                        let codes = _mm256_xor_si256(codes, _mm256_set1_epi8(i8::MIN));
                        _mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(x, codes))
                    }
                    _ => _mm256_maddubs_epi16(codes, x),
                };
                let (scale, middle) = self.grid(column);
                let grid = (_mm256_set1_ps(scale), _mm256_set1_epi32(middle - lift));
                all[half] = add_lanes(all[half], grid, lanes(t, n, half), _mm256_madd_epi16(pairs, ones));
            }
        }
        *sums = stored(all);
    }

    /// Codes and floats, 32 columns at a time.
    #[target_feature(enable = "avx2,fma,f16c,bmi2")]
    fn plain<const B: usize>(&self, x: &[f32], sums: &mut [f32; SUMS]) {
        let mut all = load_sums(sums);
        let x = x.get(self.first..).unwrap_or(&[]);
        for (at, x) in x.get(..self.count).unwrap_or(x).chunks(BLOCK).enumerate() {
            let column = at * BLOCK;
            let (scale, middle) = self.grid(column);
            let (scale, middle) = (_mm256_set1_ps(scale), _mm256_set1_epi32(middle));
            let codes = open::<B>(self.codes.get(column / 8 * B..).unwrap_or(&[]));
            let (low, high) = (_mm256_castsi256_si128(codes), _mm256_extracti128_si256::<1>(codes));
            let mut padded = [0.0; BLOCK];
            let x: &[f32; BLOCK] = match x.first_chunk() {
                Some(x) => x,
                None => {
                    padded.iter_mut().zip(x).for_each(|(to, from)| *to = *from);
                    &padded
                }
            };
            let one = _mm256_mul_ps(wide(low, middle), floats(&x[..]));
            let two = _mm256_mul_ps(wide(_mm_srli_si128::<8>(low), middle), floats(&x[LANES..]));
            let one = _mm256_fmadd_ps(wide(high, middle), floats(&x[2 * LANES..]), one);
            let two = _mm256_fmadd_ps(wide(_mm_srli_si128::<8>(high), middle), floats(&x[3 * LANES..]), two);
            all[at % 2] = _mm256_fmadd_ps(scale, _mm256_add_ps(one, two), all[at % 2]);
        }
        *sums = stored(all);
    }
}

/// Scales and sums of a half of the lanes.
#[inline]
#[target_feature(enable = "avx2")]
fn lanes(scales: &[f32; SUMS], sums: &[i32; SUMS], half: usize) -> (__m256, __m256i) {
    let sums: &[i32; LANES] = sums[half * LANES..].first_chunk().unwrap_or(&[0; LANES]);
    // SAFETY: there are eight numbers.
    (floats(&scales[half * LANES..]), unsafe { _mm256_loadu_si256(sums.as_ptr().cast()) })
}

/// Adds the exact sums of lanes, less what the middles add to them.
#[inline]
#[target_feature(enable = "avx2")]
fn add_lanes(all: __m256, (scale, middle): (__m256, __m256i), (t, n): (__m256, __m256i), part: __m256i) -> __m256 {
    let part = _mm256_sub_epi32(part, _mm256_mullo_epi32(middle, n));
    _mm256_add_ps(all, _mm256_mul_ps(_mm256_mul_ps(scale, t), _mm256_cvtepi32_ps(part)))
}

/// The lowest eight codes, less the middle, as floats.
#[inline]
#[target_feature(enable = "avx2")]
fn wide(codes: __m128i, middle: __m256i) -> __m256 {
    _mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_cvtepu8_epi32(codes), middle))
}

/// 32 codes, a byte each; zeros past the last.
#[inline]
#[target_feature(enable = "avx2,bmi2")]
fn open<const B: usize>(bytes: &[u8]) -> __m256i {
    match B {
        4 => {
            let bytes = half(bytes);
            let (low, high) = (bytes, _mm_srli_epi16::<4>(bytes));
            let both = _mm256_set_m128i(_mm_unpackhi_epi8(low, high), _mm_unpacklo_epi8(low, high));
            _mm256_and_si256(both, _mm256_set1_epi8(15))
        }
        8 => whole(bytes),
        _ => {
            let mask = u64::from_le_bytes([((1u32 << B) - 1) as u8; 8]);
            let eight = |at: usize| {
                let from = bytes.get(at * B..).unwrap_or(&[]);
                let word = match from.first_chunk() {
                    Some(word) => u64::from_le_bytes(*word),
                    None => {
                        let mut word = [0; 8];
                        word.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
                        u64::from_le_bytes(word)
                    }
                };
                _pdep_u64(word, mask) as i64
            };
            _mm256_setr_epi64x(eight(0), eight(1), eight(2), eight(3))
        }
    }
}

/// 32 bytes, zeros after the last.
#[inline]
#[target_feature(enable = "avx2")]
fn whole(bytes: &[u8]) -> __m256i {
    let mut padded = [0; 32];
    let bytes: &[u8; 32] = match bytes.first_chunk() {
        Some(bytes) => bytes,
        None => {
            padded.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            &padded
        }
    };
    // SAFETY: there are 32 bytes.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// 16 bytes, zeros after the last.
#[inline]
#[target_feature(enable = "avx2")]
fn half(bytes: &[u8]) -> __m128i {
    match bytes.first_chunk::<16>() {
        // SAFETY: there are 16 bytes.
        Some(bytes) => unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) },
        None => _mm256_castsi256_si128(whole(bytes)),
    }
}

/// 32 codes of inputs.
#[inline]
#[target_feature(enable = "avx2")]
fn signed(codes: &[i8]) -> __m256i {
    let codes: &[i8; 32] = codes.first_chunk().unwrap_or(&[0; 32]);
    // SAFETY: there are 32 bytes.
    unsafe { _mm256_loadu_si256(codes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn floats(x: &[f32]) -> __m256 {
    let x: &[f32; LANES] = x.first_chunk().unwrap_or(&[0.0; LANES]);
    // SAFETY: there are eight floats.
    unsafe { _mm256_loadu_ps(x.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_sums(sums: &[f32; SUMS]) -> [__m256; 2] {
    [floats(&sums[..]), floats(&sums[LANES..])]
}

#[inline]
#[target_feature(enable = "avx2")]
fn stored(all: [__m256; 2]) -> [f32; SUMS] {
    let mut sums = [0.0; SUMS];
    for (to, from) in sums.as_chunks_mut::<LANES>().0.iter_mut().zip(all) {
        // SAFETY: there are eight floats.
        unsafe { _mm256_storeu_ps(to.as_mut_ptr(), from) }
    }
    sums
}

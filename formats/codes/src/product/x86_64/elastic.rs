//! Elastic codes and floats, 64 columns at a time: planes are joined to codes in registers, and codes
//! choose their level from a table of the group, or its cubic is computed.
//!
//! ```text
//! plane 7   1 0 1 1 ..  64 bits, a mask of bytes
//! plane 6   0 0 1 0 ..                             codes = 2 * plane 7 + plane 6
//! ```

use core::arch::x86_64::*;

use super::LANES;
use super::stretch::{load, store, totals};
use crate::elastic::NO_FIX;
use crate::product::SUMS;
use crate::simd::{Level, Vnni};
use crate::{Bits, ElasticView};

/// Columns that the kernel takes at a time.
const CHUNK: usize = 64;

/// Groups whose levels are found together.
const GROUPS: usize = 16;

/// Whether groups begin and end with chunks.
pub(in crate::product) fn fits(view: &ElasticView<'_>) -> bool {
    let group = view.scheme().group.get();
    group.is_multiple_of(CHUNK) || group >= view.cols()
}

/// The products of rows from `row` on, whose groups fit, at a width that is served.
pub(in crate::product) fn products(
    proof: Vnni,
    (view, width): (&ElasticView<'_>, Bits),
    row: usize,
    x: &[f32],
    out: &mut [f32],
) {
    // Cubics take more registers than tables.
    match width.get() {
        2..=4 => by::<4>(proof, (view, width), row, x, out),
        5 => by::<2>(proof, (view, width), row, x, out),
        _ => by::<1>(proof, (view, width), row, x, out),
    }
}

/// The same, so many rows at a time.
fn by<const R: usize>(
    proof: Vnni,
    (view, width): (&ElasticView<'_>, Bits),
    mut row: usize,
    x: &[f32],
    out: &mut [f32],
) {
    let (some, rest) = out.as_chunks_mut::<R>();
    for some in some {
        *some = some_rows(proof, (view, width), row, x);
        row += R;
    }
    for (at, one) in rest.as_chunks_mut::<1>().0.iter_mut().enumerate() {
        *one = some_rows(proof, (view, width), row + at, x);
    }
}

/// The cubics of some groups of each of some rows: their first coefficients, their second ones, and so on.
type Levels<const R: usize> = [[[f32; GROUPS]; 4]; R];

fn some_rows<const R: usize>(proof: Vnni, (view, width): (&ElasticView<'_>, Bits), row: usize, x: &[f32]) -> [f32; R] {
    let level = Level::Avx512(proof.avx512());
    let (chunks, rest) = x.as_chunks::<CHUNK>();
    let (group, groups) = (view.scheme().group.get(), view.scheme().groups(view.cols()));
    let each = (group / CHUNK).max(1).min(chunks.len().max(1));
    let planes = view.planes_of(width, row..row + R);
    let (mut levels, mut sums) = ([[[0.0; GROUPS]; 4]; R], [[0.0; SUMS]; R]);
    for (nth, x) in chunks.chunks(GROUPS.saturating_mul(each)).enumerate() {
        for (at, levels) in levels.iter_mut().enumerate() {
            // SAFETY: a `Vnni` is only made by `Vnni::detect`, which saw the features.
            unsafe { cubics(view, width, (row + at) * groups + nth * GROUPS, levels) }
        }
        let some = Groups { planes, levels: &levels, first: nth * GROUPS * each, each };
        // SAFETY: as above.
        unsafe { some.add(width, x, &mut sums) }
    }
    for (nth, sums) in sums.iter_mut().enumerate() {
        let mut weights = [0.0; CHUNK];
        let Some(weights) = weights.get_mut(..rest.len()) else { continue };
        view.decode(level, width, row + nth, chunks.len() * CHUNK, weights);
        for (at, (w, x)) in weights.iter().zip(rest).enumerate() {
            sums[at % SUMS] += w * x;
        }
    }
    // SAFETY: as above.
    unsafe { totals(&sums) }
}

/// Some groups of some rows.
struct Groups<'a, const R: usize> {
    /// The planes of all rows, the most significant first.
    planes: [&'a [u8]; 8],
    levels: &'a Levels<R>,
    /// The first chunk of the first group.
    first: usize,
    /// Chunks of a group.
    each: usize,
}

impl<const R: usize> Groups<'_, R> {
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi")]
    fn add(&self, width: Bits, x: &[[f32; CHUNK]], sums: &mut [[f32; SUMS]; R]) {
        match width.get() {
            2 => self.of::<2>(x, sums),
            3 => self.of::<3>(x, sums),
            4 => self.of::<4>(x, sums),
            5 => self.of::<5>(x, sums),
            6 => self.of::<6>(x, sums),
            7 => self.of::<7>(x, sums),
            _ => self.of::<8>(x, sums),
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi")]
    fn of<const B: usize>(&self, x: &[[f32; CHUNK]], sums: &mut [[f32; SUMS]; R]) {
        // Byte 4 l + j of the codes in order is that of column 16 j + l.
        let order: [i8; CHUNK] = core::array::from_fn(|at| (at % 4 * LANES + at / 4) as i8);
        // SAFETY: there are 64 bytes.
        let order = unsafe { _mm512_loadu_si512(order.as_ptr().cast()) };
        // The places of the first chunk in the first row; the next rows have theirs as far behind each other.
        let (first, apart) = (self.first * 8, self.planes.first().map_or(0, |plane| plane.len() / R));
        if self.planes.iter().take(B).any(|plane| plane.len() != apart * R) || first + x.len() * 8 > apart {
            return;
        }
        let mut from = [core::ptr::null::<u8>(); B];
        from.iter_mut().zip(self.planes).for_each(|(from, plane)| *from = plane.as_ptr().wrapping_add(first));
        // Not known to be zero: bits that cannot meet would be joined in two steps, and not added in one.
        let none = core::hint::black_box(_mm512_setzero_si512());
        // Closures that are handed on would lose the instruction set.
        let (mut all, mut values) = ([_mm512_setzero_ps(); R], [Values([_mm512_setzero_ps(); 4]); R]);
        for (all, sums) in all.iter_mut().zip(sums.iter()) {
            *all = load(sums);
        }
        for (nth, group) in x.chunks(self.each).enumerate().take(GROUPS) {
            for (values, levels) in values.iter_mut().zip(self.levels) {
                let [c0, c1, c2, c3] = levels;
                *values = Values::of::<B>([c0[nth], c1[nth], c2[nth], c3[nth]]);
            }
            for (at, x) in group.iter().enumerate() {
                let place = (nth * self.each + at) * 8;
                for (row, (all, values)) in all.iter_mut().zip(&values).enumerate() {
                    let mut codes = none;
                    for (plane, from) in from.iter().enumerate() {
                        // SAFETY: chunk `place / 8` of `x` has eight bytes in each row of each plane: all of
                        // them end before `apart`, as was seen above.
                        let bits = unsafe { from.add(row * apart + place).cast::<u64>().read_unaligned() }.to_le();
                        let one = _mm512_set1_epi8((1u32 << (B - 1 - plane)) as i8);
                        codes = _mm512_mask_add_epi8(codes, bits, codes, one);
                    }
                    let codes = _mm512_permutexvar_epi8(order, codes);
                    *all = values.add::<B>(codes, x, *all);
                }
            }
        }
        for (all, sums) in all.iter().zip(sums) {
            store(sums, *all);
        }
    }
}

/// The cubics of sixteen groups from a flat index on, as `elastic_levels` has them: each operation rounded by itself.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn cubics(view: &ElasticView<'_>, width: Bits, group: usize, to: &mut [[f32; GROUPS]; 4]) {
    let (bases, fixes) = view.parameters(width, group);
    let some = |count: usize| u16::MAX.checked_shr(GROUPS.saturating_sub(count) as u32).unwrap_or(0);
    let none = _mm_set1_epi8(NO_FIX as i8);
    // SAFETY: the masks let only elements of the slices be read.
    let (pairs, fixes) = unsafe {
        (
            _mm512_maskz_loadu_epi32(some(bases.len()), bases.as_ptr().cast()),
            _mm_mask_loadu_epi8(none, some(fixes.len()), fixes.as_ptr().cast()),
        )
    };
    let half = |lanes: __m512i| _mm512_cvtph_ps(_mm512_cvtepi32_epi16(lanes));
    let high = _mm512_srli_epi32::<16>(pairs);
    let (m, h) = (half(pairs), half(_mm512_and_si512(high, _mm512_set1_epi32(0x7FFF))));
    let curved = _mm512_test_epi32_mask(high, _mm512_set1_epi32(0x8000));
    let fixes = _mm512_cvtepu8_epi32(fixes);
    let (eight, of) = (_mm512_set1_ps(8.0), |x: f32| _mm512_set1_ps(x));
    let shift = _mm512_cvtepi32_ps(_mm512_and_si512(fixes, _mm512_set1_epi32(15)));
    let shift = _mm512_mul_ps(_mm512_sub_ps(shift, eight), of(1.0 / 32.0));
    let gain = _mm512_cvtepi32_ps(_mm512_srli_epi32::<4>(fixes));
    let gain = _mm512_mul_ps(_mm512_sub_ps(gain, eight), of(1.0 / 16.0));
    // 2^-b, by its exponent.
    let small = f32::from_bits((127 - width.get()) << 23);
    let cell = _mm512_mul_ps(h, of(2.0 * small));
    let (a, b) = (_mm512_add_ps(m, _mm512_mul_ps(cell, shift)), _mm512_add_ps(h, _mm512_mul_ps(cell, gain)));
    let lean = _mm512_maskz_mul_ps(curved, m, of(0.5));
    let straight = _mm512_mask_mov_ps(of(1.0), curved, of(0.75));
    let cube = _mm512_maskz_mov_ps(curved, of(0.25));
    let [c0, c1, c2, c3] = to;
    store(c0, _mm512_sub_ps(a, lean));
    store(c1, _mm512_mul_ps(_mm512_mul_ps(b, straight), of(small)));
    store(c2, _mm512_mul_ps(lean, of(small * small)));
    store(c3, _mm512_mul_ps(_mm512_mul_ps(b, cube), of(small * small * small)));
}

/// What the codes of a group stand for: a table, or above five bits a cubic.
#[derive(Clone, Copy)]
struct Values([__m512; 4]);

impl Values {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn of<const B: usize>(levels: [f32; 4]) -> Self {
        let [c0, c1, c2, c3] = levels;
        let cubic = [_mm512_set1_ps(c0), _mm512_set1_ps(c1), _mm512_set1_ps(c2), _mm512_set1_ps(c3)];
        if B > 5 {
            return Self(cubic);
        }
        let numbers: [f32; LANES] = core::array::from_fn(|code| (2 * code as i32 + 1 - (1 << B)) as f32);
        let low = value(cubic, load(&numbers));
        if B < 5 {
            return Self([low; 4]);
        }
        let high = value(cubic, _mm512_add_ps(load(&numbers), _mm512_set1_ps(2.0 * LANES as f32)));
        Self([low, high, low, high])
    }

    /// Adds the products of 64 columns; those of column `16 j + l` are byte `j` of lane `l`.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn add<const B: usize>(&self, codes: __m512i, x: &[f32; CHUNK], all: __m512) -> __m512 {
        let [a, b, c, d] = x.as_chunks::<LANES>().0 else { return all };
        let one = _mm512_mul_ps(self.at::<B>(codes), load(a));
        let two = _mm512_mul_ps(self.at::<B>(_mm512_srli_epi32::<8>(codes)), load(b));
        let one = _mm512_fmadd_ps(self.at::<B>(_mm512_srli_epi32::<16>(codes)), load(c), one);
        let two = _mm512_fmadd_ps(self.at::<B>(_mm512_srli_epi32::<24>(codes)), load(d), two);
        _mm512_add_ps(all, _mm512_add_ps(one, two))
    }

    /// The values of the codes that are the lowest bytes of lanes.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn at<const B: usize>(&self, codes: __m512i) -> __m512 {
        let Self([low, high, ..]) = *self;
        match B {
            // The lowest bits of each lane choose.
            2..=4 => _mm512_permutexvar_ps(codes, low),
            5 => _mm512_permutex2var_ps(low, codes, high),
            _ => {
                let code = _mm512_cvtepi32_ps(_mm512_and_si512(codes, _mm512_set1_epi32(0xFF)));
                let low = _mm512_set1_ps((1 - (1i32 << B)) as f32);
                value(self.0, _mm512_fmadd_ps(code, _mm512_set1_ps(2.0), low))
            }
        }
    }
}

/// The cubic at `u`, which is `2 code + 1 - 2^width`.
#[inline]
#[target_feature(enable = "avx512f")]
fn value([c0, c1, c2, c3]: [__m512; 4], u: __m512) -> __m512 {
    _mm512_fmadd_ps(_mm512_fmadd_ps(_mm512_fmadd_ps(c3, u, c2), u, c1), u, c0)
}

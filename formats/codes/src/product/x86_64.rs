//! AVX-512 with VNNI and VBMI: codes of any width in three instructions for 64 columns.

use core::arch::x86_64::*;

use super::inputs::{Inputs, Kind, Rounded};
use super::{CHUNK, SUMS, run, total};
use crate::dequantize::{GRIDS, grids};
use crate::simd::{Level, Vnni};
use crate::uniform::Parts;

/// Lanes of a vector: a sum each.
const LANES: usize = SUMS;

/// Columns that a kernel takes at a time.
fn chunk(parts: &Parts<'_>) -> usize {
    if parts.scheme.bits.get() == 4 { CHUNK } else { CHUNK / 2 }
}

/// Whether there is a kernel for these rows and the form of these inputs.
pub(super) fn can(parts: &Parts<'_>, x: &Inputs<'_>) -> bool {
    let four = parts.scheme.bits.get() == 4;
    let form = match x.kind {
        Kind::Plain(_) => !four && run(parts).is_multiple_of(CHUNK / 2),
        Kind::Turned(..) => four,
        Kind::Rounded(Rounded { eights, .. }) => eights == four,
    };
    form && fits(parts)
}

/// Whether the groups of a chunk begin and end with it, and with blocks of inputs.
pub(super) fn fits(parts: &Parts<'_>) -> bool {
    let (chunk, run) = (chunk(parts), run(parts));
    run.is_multiple_of(chunk) || (chunk.is_multiple_of(run) && run.is_multiple_of(32))
}

/// Rows that are multiplied at a time, so that inputs are read once for all of them.
const ROWS: usize = 4;

/// The products of rows from `row` on with inputs in a form that [`can`] be taken.
pub(super) fn products(proof: Vnni, parts: &Parts<'_>, mut row: usize, x: &Inputs<'_>, out: &mut [f32]) {
    let level = Level::Avx512(proof.avx512());
    let mut grids = [const { Grids([0.0; GRIDS + LANES], [0; GRIDS + LANES]) }; ROWS];
    let (fours, rest) = out.as_chunks_mut::<ROWS>();
    for four in fours {
        some_rows(level, parts, row, x, (four, &mut grids));
        row += ROWS;
    }
    let [grid, ..] = &mut grids;
    for (at, one) in rest.as_chunks_mut::<1>().0.iter_mut().enumerate() {
        some_rows(level, parts, row + at, x, (one, core::array::from_mut(grid)));
    }
}

/// The products of `R` rows; the grids may hold anything.
fn some_rows<const R: usize>(
    level: Level,
    parts: &Parts<'_>,
    row: usize,
    x: &Inputs<'_>,
    (out, all_grids): (&mut [f32; R], &mut [Grids; R]),
) {
    let bits = parts.scheme.bits.get();
    let (chunk, run) = (chunk(parts), run(parts));
    let bytes = chunk / 8 * bits as usize;
    // As many chunks as the grids are for.
    let chunks = run.saturating_mul(GRIDS) / chunk;
    let mut sums = [[0.0; SUMS]; R];
    for at in 0..parts.cols.div_ceil(chunk).div_ceil(chunks) {
        let mut codes: [&[u8]; R] = [&[]; R];
        for (nth, (codes, Grids(scales, middles))) in codes.iter_mut().zip(&mut *all_grids).enumerate() {
            let all = parts.row(row + nth);
            let first = at * chunks.saturating_mul(bytes);
            let end = first.saturating_add(chunks.saturating_mul(bytes)).min(all.len());
            *codes = all.get(first..end).unwrap_or(&[]);
            let count = (codes.len() / bytes + 1).saturating_mul(chunk).div_ceil(run).min(GRIDS);
            grids(level, parts, (row + nth, at * GRIDS), &mut scales[..count], &mut middles[..count]);
        }
        let stretch = Stretch { codes, first: at * chunks * chunk, chunk, run, grids: all_grids };
        // SAFETY: a `Vnni` is only made by `Vnni::detect`, which saw the features.
        unsafe { stretch.add(bits, x, &mut sums) }
    }
    *out = sums.map(total);
}

/// Scales and middles of groups, and room for some more that are read and not used.
struct Grids([f32; GRIDS + LANES], [i32; GRIDS + LANES]);

/// Whole chunks of rows, or what is left of them, and the grids of their groups.
struct Stretch<'s, const R: usize> {
    /// As long for each.
    codes: [&'s [u8]; R],
    /// The column of the first code, a multiple of a chunk.
    first: usize,
    /// Columns of a chunk and of a group.
    chunk: usize,
    run: usize,
    grids: &'s [Grids; R],
}

/// Scales and middles of the lanes of rows, for as many chunks as they are the same.
struct Turn<const R: usize> {
    /// The group of each lane, counted from the first one's.
    places: __m512i,
    /// The first group of the chunks that come next, and how many groups further those after them begin.
    next: usize,
    step: usize,
    /// Chunks that the grids are for, and those of them that are left.
    span: usize,
    left: usize,
    grids: [(__m512, __m512i); R],
}

/// Rounded inputs of a chunk.
#[derive(Clone, Copy)]
struct Lanes {
    scale: __m512,
    sum: __m512i,
}

impl<const R: usize> Stretch<'_, R> {
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi")]
    fn add(&self, bits: u32, x: &Inputs<'_>, sums: &mut [[f32; SUMS]; R]) {
        match (x.kind, bits) {
            (Kind::Turned(x, ofs), _) => self.turned(x, ofs, sums),
            (Kind::Rounded(x), 4) => self.eights(x, sums),
            (Kind::Rounded(x), 2) => self.fours::<2>(x, sums),
            (Kind::Rounded(x), 3) => self.fours::<3>(x, sums),
            (Kind::Rounded(x), 5) => self.fours::<5>(x, sums),
            (Kind::Rounded(x), 6) => self.fours::<6>(x, sums),
            (Kind::Rounded(x), 7) => self.fours::<7>(x, sums),
            (Kind::Rounded(x), _) => self.fours::<8>(x, sums),
            (Kind::Plain(x), 2) => self.plain::<2>(x, sums),
            (Kind::Plain(x), 3) => self.plain::<3>(x, sums),
            (Kind::Plain(x), 5) => self.plain::<5>(x, sums),
            (Kind::Plain(x), 6) => self.plain::<6>(x, sums),
            (Kind::Plain(x), 7) => self.plain::<7>(x, sums),
            (Kind::Plain(x), _) => self.plain::<8>(x, sums),
        }
    }

    /// Before the first chunk.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn turn(&self) -> Turn<R> {
        let places: [i32; LANES] = core::array::from_fn(|lane| (lane * self.chunk / LANES / self.run) as i32);
        let grids = [(_mm512_setzero_ps(), _mm512_setzero_si512()); R];
        let (step, span) = ((self.chunk / self.run).max(1), (self.run / self.chunk).max(1));
        Turn { places: whole(&places), next: 0, step, span, left: 0, grids }
    }

    /// Goes on to the grids of the next chunk.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn go_on(&self, turn: &mut Turn<R>) {
        if turn.left == 0 {
            let first = turn.next.min(GRIDS);
            for (grid, Grids(scales, middles)) in turn.grids.iter_mut().zip(self.grids) {
                let (scales, middles) = (&scales[first..][..LANES], &middles[first..][..LANES]);
                // SAFETY: both slices have sixteen elements.
                let (scales, middles) =
                    unsafe { (_mm512_loadu_ps(scales.as_ptr()), _mm512_loadu_si512(middles.as_ptr().cast())) };
                let places = turn.places;
                *grid = (_mm512_permutexvar_ps(places, scales), _mm512_permutexvar_epi32(places, middles));
            }
            (turn.next, turn.left) = (turn.next + turn.step, turn.span);
        }
        turn.left -= 1;
    }

    /// Chunk `at` of a row, of at most 64 bytes; zeros after the last.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn bytes(&self, row: usize, at: usize, chunk: usize) -> __m512i {
        let from = self.codes[row].get(at * chunk..).unwrap_or(&[]);
        _mm_prefetch::<_MM_HINT_T0>(from.as_ptr().wrapping_add(AHEAD).cast());
        // SAFETY: the masks let only bytes of the slice be read, which has as many.
        unsafe {
            if from.len() >= chunk {
                return _mm512_maskz_loadu_epi8(u64::MAX >> (64 - chunk), from.as_ptr().cast());
            }
            _mm512_maskz_loadu_epi8((1 << from.len()) - 1, from.as_ptr().cast())
        }
    }

    /// Chunks of so many bytes.
    #[inline(always)]
    fn chunks(&self, chunk: usize) -> usize {
        self.codes.first().map_or(0, |codes| codes.len().div_ceil(chunk))
    }

    /// Codes of 4 bits and rounded inputs, 128 columns at a time.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi")]
    fn eights(&self, x: Rounded<'_>, sums: &mut [[f32; SUMS]; R]) {
        let x_codes = x.codes.get(self.first..).unwrap_or(&[]).as_chunks::<64>().0.as_chunks::<2>().0;
        let (x_scales, x_sums) = x.lanes(self.first);
        let x = x_codes.iter().zip(x_scales.iter().zip(x_sums)).take(self.chunks(64));
        let low = _mm512_set1_epi8(15);
        let mut all = sums.map(|sums| load(&sums));
        let mut turn = self.turn();
        for (at, ([even, odd], (t, n))) in x.enumerate() {
            self.go_on(&mut turn);
            let (x_even, x_odd, lanes) = (signed(even), signed(odd), Lanes { scale: load(t), sum: whole(n) });
            for (row, (all, grid)) in all.iter_mut().zip(turn.grids).enumerate() {
                let codes = self.bytes(row, at, 64);
                let (even, odd) = (_mm512_and_si512(codes, low), _mm512_and_si512(_mm512_srli_epi16::<4>(codes), low));
                let part = _mm512_dpbusd_epi32(_mm512_setzero_si512(), even, x_even);
                let part = _mm512_dpbusd_epi32(part, odd, x_odd);
                *all = add_lanes(*all, grid, lanes, part);
            }
        }
        *sums = all.map(|all| stored(all));
    }

    /// Codes of another width and rounded inputs, 64 columns at a time.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi")]
    fn fours<const B: usize>(&self, x: Rounded<'_>, sums: &mut [[f32; SUMS]; R]) {
        let x_codes = x.codes.get(self.first..).unwrap_or(&[]).as_chunks::<64>().0;
        let (x_scales, x_sums) = x.lanes(self.first);
        let x = x_codes.iter().zip(x_scales.iter().zip(x_sums)).take(self.chunks(8 * B));
        let open = Open::of::<B>();
        let mut all = sums.map(|sums| load(&sums));
        let mut turn = self.turn();
        for (at, (x, (t, n))) in x.enumerate() {
            self.go_on(&mut turn);
            let (x, lanes) = (signed(x), Lanes { scale: load(t), sum: whole(n) });
            for (row, (all, grid)) in all.iter_mut().zip(turn.grids).enumerate() {
                let codes = open.codes::<B>(self.bytes(row, at, 8 * B));
                let part = _mm512_dpbusd_epi32(_mm512_setzero_si512(), codes, x);
                *all = add_lanes(*all, grid, lanes, part);
            }
        }
        *sums = all.map(|all| stored(all));
    }

    /// Codes of 4 bits and floats, 128 columns at a time.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi")]
    fn turned(&self, x: &[f32], ofs: &[f32], sums: &mut [[f32; SUMS]; R]) {
        let x = x.get(self.first..).unwrap_or(&[]).as_chunks::<LANES>().0.as_chunks::<8>().0;
        let ofs = ofs.get(self.first / 8..).unwrap_or(&[]).as_chunks::<LANES>().0;
        let x = x.iter().zip(ofs).take(self.chunks(64));
        let numbers: [f32; LANES] = core::array::from_fn(|code| code as f32);
        let numbers = load(&numbers);
        let mut all = sums.map(|sums| load(&sums));
        let mut turn = self.turn();
        for (at, (x, n)) in x.enumerate() {
            self.go_on(&mut turn);
            let n = load(n);
            let mut codes: [__m512i; R] = core::array::from_fn(|row| self.bytes(row, at, 64));
            let mut parts = [_mm512_setzero_ps(); R];
            for (part, (_, middle)) in parts.iter_mut().zip(turn.grids) {
                *part = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(middle), n, *part);
            }
            for x in x {
                let x = load(x);
                for row in 0..R {
                    // The lowest four bits of each lane choose a number.
                    parts[row] = _mm512_fmadd_ps(_mm512_permutexvar_ps(codes[row], numbers), x, parts[row]);
                    codes[row] = _mm512_srli_epi32::<4>(codes[row]);
                }
            }
            for ((all, (scale, _)), part) in all.iter_mut().zip(turn.grids).zip(parts) {
                *all = _mm512_fmadd_ps(scale, part, *all);
            }
        }
        *sums = all.map(|all| stored(all));
    }

    /// Codes of another width and floats, 64 columns at a time, all of one group.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi")]
    fn plain<const B: usize>(&self, x: &[f32], sums: &mut [[f32; SUMS]; R]) {
        let open = Open::of::<B>();
        let mut all = sums.map(|sums| load(&sums));
        let x = x.get(self.first..).unwrap_or(&[]).chunks(64).take(self.chunks(8 * B));
        let mut turn = self.turn();
        for (at, x) in x.enumerate() {
            self.go_on(&mut turn);
            let [a, b, c, d] = floats(x);
            for (row, (all, (scale, middle))) in all.iter_mut().zip(turn.grids).enumerate() {
                let codes = open.codes::<B>(self.bytes(row, at, 8 * B));
                let one = _mm512_mul_ps(wide(_mm512_castsi512_si128(codes), middle), a);
                let two = _mm512_mul_ps(wide(_mm512_extracti32x4_epi32::<1>(codes), middle), b);
                let one = _mm512_fmadd_ps(wide(_mm512_extracti32x4_epi32::<2>(codes), middle), c, one);
                let two = _mm512_fmadd_ps(wide(_mm512_extracti32x4_epi32::<3>(codes), middle), d, two);
                *all = _mm512_fmadd_ps(scale, _mm512_add_ps(one, two), *all);
            }
        }
        *sums = all.map(|all| stored(all));
    }
}

/// Adds the exact sums of lanes, less what the middles add to them.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn add_lanes(all: __m512, (scale, middle): (__m512, __m512i), x: Lanes, part: __m512i) -> __m512 {
    let part = _mm512_sub_epi32(part, _mm512_mullo_epi32(middle, x.sum));
    let both = _mm512_mul_ps(scale, x.scale);
    _mm512_add_ps(all, _mm512_mul_ps(both, _mm512_cvtepi32_ps(part)))
}

/// Sixteen codes, less the middle, as floats.
#[inline]
#[target_feature(enable = "avx512f")]
fn wide(codes: __m128i, middle: __m512i) -> __m512 {
    _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_cvtepu8_epi32(codes), middle))
}

/// How 64 codes become 64 bytes.
struct Open {
    /// The eight bytes from the first of each eight codes on.
    words: __m512i,
    /// Where each code of eight begins.
    begins: __m512i,
    mask: __m512i,
}

impl Open {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn of<const B: usize>() -> Self {
        let words: [u8; 64] = core::array::from_fn(|at| (at / 8 * B + at % 8).min(63) as u8);
        let begins: [u8; 64] = core::array::from_fn(|at| (at % 8 * B) as u8);
        // SAFETY: there are 64 bytes each.
        let [words, begins] = [words, begins].map(|table| unsafe { _mm512_loadu_si512(table.as_ptr().cast()) });
        Self { words, begins, mask: _mm512_set1_epi8(((1u32 << B) - 1) as i8) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    fn codes<const B: usize>(&self, bytes: __m512i) -> __m512i {
        if B == 8 {
            return bytes;
        }
        let words = _mm512_permutexvar_epi8(self.words, bytes);
        _mm512_and_si512(_mm512_multishift_epi64_epi8(self.begins, words), self.mask)
    }
}

/// Bytes ahead of those that are read now that are fetched already: rows follow each other.
const AHEAD: usize = 2048;

/// Codes of inputs.
#[inline]
#[target_feature(enable = "avx512f")]
fn signed(from: &[i8; 64]) -> __m512i {
    // SAFETY: there are 64 bytes.
    unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
}

/// Up to 64 floats, zeros after them.
#[inline]
#[target_feature(enable = "avx512f")]
fn floats(x: &[f32]) -> [__m512; 4] {
    if let Some([a, b, c, d]) = x.as_chunks().0.first_chunk() {
        return [load(a), load(b), load(c), load(d)];
    }
    let mut whole = [[0.0; LANES]; 4];
    whole.as_flattened_mut().iter_mut().zip(x).for_each(|(to, from)| *to = *from);
    let [a, b, c, d] = &whole;
    [load(a), load(b), load(c), load(d)]
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(from: &[f32; LANES]) -> __m512 {
    // SAFETY: there are sixteen floats.
    unsafe { _mm512_loadu_ps(from.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn whole(from: &[i32; LANES]) -> __m512i {
    // SAFETY: there are sixteen numbers.
    unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn stored(sums: __m512) -> [f32; LANES] {
    let mut to = [0.0; LANES];
    // SAFETY: there are sixteen floats.
    unsafe { _mm512_storeu_ps(to.as_mut_ptr(), sums) }
    to
}

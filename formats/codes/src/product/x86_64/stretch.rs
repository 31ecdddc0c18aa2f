//! Chunks of some rows, one after the other.

use core::arch::x86_64::*;

use super::{LANES, Plan};
use crate::product::SUMS;
use crate::product::inputs::{Inputs, Kind, Rounded};

/// Whole chunks of rows, or what is left of them, and the grids of their groups.
pub(super) struct Stretch<'s, const R: usize> {
    pub(super) plan: &'s Plan,
    /// As long for each.
    pub(super) codes: [&'s [u8]; R],
    /// The column of the first code, a multiple of a chunk.
    pub(super) first: usize,
    /// Scales and middles of the groups of each row, and [`LANES`] more that are read and not used.
    pub(super) grids: [(&'s [f32], &'s [i32]); R],
}

/// Scales and middles of the lanes of rows, for as many chunks as they are the same.
struct Turn<const R: usize> {
    /// The group of each lane, counted from the first one's.
    places: __m512i,
    /// The first group of the chunks that come next.
    next: usize,
    /// Chunks that the grids are still for.
    left: usize,
    scales: [__m512; R],
    /// Not looked at on symmetric grids.
    middles: [__m512i; R],
}

/// Rounded inputs of a chunk.
#[derive(Clone, Copy)]
struct Lanes {
    scale: __m512,
    sum: __m512i,
}

/// Calls a kernel for the grids of a plan: symmetric ones, whose middle is one number, or affine ones.
macro_rules! for_grids {
    ($self:ident.$kernel:ident::<$($bits:literal,)? _>($($arg:expr),*)) => {
        if $self.plan.half.is_some() { $self.$kernel::<$($bits,)? true>($($arg),*) } else { $self.$kernel::<$($bits,)? false>($($arg),*) }
    };
}

impl<const R: usize> Stretch<'_, R> {
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi")]
    pub(super) fn add(&self, x: &Inputs<'_>, sums: &mut [[f32; SUMS]; R]) {
        match (x.kind, self.plan.bits) {
            (Kind::Turned(x, ofs), _) => for_grids!(self.turned::<_>(x, ofs, sums)),
            (Kind::Rounded(x), 4) => for_grids!(self.eights::<_>(x, sums)),
            (Kind::Rounded(x), 2) => for_grids!(self.fours::<2, _>(x, sums)),
            (Kind::Rounded(x), 3) => for_grids!(self.fours::<3, _>(x, sums)),
            (Kind::Rounded(x), 5) => for_grids!(self.fours::<5, _>(x, sums)),
            (Kind::Rounded(x), 6) => for_grids!(self.fours::<6, _>(x, sums)),
            (Kind::Rounded(x), 7) => for_grids!(self.fours::<7, _>(x, sums)),
            (Kind::Rounded(x), _) => for_grids!(self.fours::<8, _>(x, sums)),
            (Kind::Plain(x), 2) => for_grids!(self.plain::<2, _>(x, sums)),
            (Kind::Plain(x), 3) => for_grids!(self.plain::<3, _>(x, sums)),
            (Kind::Plain(x), 5) => for_grids!(self.plain::<5, _>(x, sums)),
            (Kind::Plain(x), 6) => for_grids!(self.plain::<6, _>(x, sums)),
            (Kind::Plain(x), 7) => for_grids!(self.plain::<7, _>(x, sums)),
            (Kind::Plain(x), _) => for_grids!(self.plain::<8, _>(x, sums)),
        }
    }

    /// Before the first chunk.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn turn(&self) -> Turn<R> {
        let (scales, middles) = ([_mm512_setzero_ps(); R], [_mm512_setzero_si512(); R]);
        Turn { places: whole(&self.plan.places), next: 0, left: 0, scales, middles }
    }

    /// Goes on to the grids of the next chunk.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn go_on<const SYM: bool>(&self, turn: &mut Turn<R>) {
        if turn.left == 0 {
            for (nth, (scales, middles)) in self.grids.iter().enumerate() {
                let first = turn.next.min(scales.len().min(middles.len()) - LANES);
                // SAFETY: there are sixteen elements from there on.
                unsafe {
                    let scales = _mm512_loadu_ps(scales.as_ptr().add(first));
                    turn.scales[nth] = _mm512_permutexvar_ps(turn.places, scales);
                    if !SYM {
                        let middles = _mm512_loadu_si512(middles.as_ptr().add(first).cast());
                        turn.middles[nth] = _mm512_permutexvar_epi32(turn.places, middles);
                    }
                }
            }
            (turn.next, turn.left) = (turn.next + self.plan.step, self.plan.span);
        }
        turn.left -= 1;
    }

    /// Chunk `at` of each row, of at most 64 bytes; zeros after the last.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn bytes(&self, at: usize, chunk: usize) -> [__m512i; R] {
        let first = at * chunk;
        let left = self.codes.iter().map(|codes| codes.len()).min().unwrap_or(0).saturating_sub(first);
        let from: [*const i8; R] = core::array::from_fn(|row| self.codes[row].as_ptr().wrapping_add(first).cast());
        from.iter().for_each(|from| _mm_prefetch::<_MM_HINT_T1>(from.wrapping_add(self.plan.ahead)));
        // SAFETY: what is read is there: a whole chunk, or as many bytes as are left.
        unsafe {
            match left {
                64.. if chunk == 64 => from.map(|from| _mm512_loadu_si512(from.cast())),
                _ => {
                    let mask = u64::MAX.checked_shr(64 - left.min(chunk) as u32).unwrap_or(0);
                    from.map(|from| _mm512_maskz_loadu_epi8(mask, from))
                }
            }
        }
    }

    /// Chunks of so many bytes.
    #[inline(always)]
    fn chunks(&self, chunk: usize) -> usize {
        self.codes.first().map_or(0, |codes| codes.len().div_ceil(chunk))
    }

    /// Codes of 4 bits and rounded inputs, 128 columns at a time.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi")]
    fn eights<const SYM: bool>(&self, x: Rounded<'_>, sums: &mut [[f32; SUMS]; R]) {
        let x_codes = x.codes.get(self.first..).unwrap_or(&[]).as_chunks::<64>().0.as_chunks::<2>().0;
        let (x_scales, x_sums) = x.lanes(self.first);
        let x = x_codes.iter().zip(x_scales.iter().zip(x_sums)).take(self.chunks(64));
        let low = _mm512_set1_epi8(15);
        let mut all = sums.map(|sums| load(&sums));
        let mut turn = self.turn();
        for (at, ([even, odd], (t, n))) in x.enumerate() {
            self.go_on::<SYM>(&mut turn);
            let (x_even, x_odd, lanes) = (signed(even), signed(odd), Lanes { scale: load(t), sum: whole(n) });
            let start = self.start::<SYM>(lanes);
            for (row, codes) in self.bytes(at, 64).into_iter().enumerate() {
                let (even, odd) = (_mm512_and_si512(codes, low), _mm512_and_si512(_mm512_srli_epi16::<4>(codes), low));
                let part = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(start, even, x_even), odd, x_odd);
                all[row] = add_lanes::<SYM>(all[row], (turn.scales[row], turn.middles[row]), lanes, part);
            }
        }
        *sums = all.map(|all| stored(all));
    }

    /// Codes of another width and rounded inputs, 64 columns at a time.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi")]
    fn fours<const B: usize, const SYM: bool>(&self, x: Rounded<'_>, sums: &mut [[f32; SUMS]; R]) {
        let x_codes = x.codes.get(self.first..).unwrap_or(&[]).as_chunks::<64>().0;
        let (x_scales, x_sums) = x.lanes(self.first);
        let x = x_codes.iter().zip(x_scales.iter().zip(x_sums)).take(self.chunks(8 * B));
        let open = Open::of::<B>();
        let mut all = sums.map(|sums| load(&sums));
        let mut turn = self.turn();
        for (at, (x, (t, n))) in x.enumerate() {
            self.go_on::<SYM>(&mut turn);
            let (x, lanes) = (signed(x), Lanes { scale: load(t), sum: whole(n) });
            let start = self.start::<SYM>(lanes);
            for (row, codes) in self.bytes(at, 8 * B).into_iter().enumerate() {
                let part = _mm512_dpbusd_epi32(start, open.codes::<B>(codes), x);
                all[row] = add_lanes::<SYM>(all[row], (turn.scales[row], turn.middles[row]), lanes, part);
            }
        }
        *sums = all.map(|all| stored(all));
    }

    /// What the middles of symmetric grids add to the sums of lanes: the same for every row.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq")]
    fn start<const SYM: bool>(&self, x: Lanes) -> __m512i {
        match self.plan.half {
            Some(half) if SYM => _mm512_mullo_epi32(_mm512_set1_epi32(-half), x.sum),
            _ => _mm512_setzero_si512(),
        }
    }

    /// Codes of 4 bits and floats, 128 columns at a time.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi")]
    fn turned<const SYM: bool>(&self, x: &[f32], ofs: &[f32], sums: &mut [[f32; SUMS]; R]) {
        let x = x.get(self.first..).unwrap_or(&[]).as_chunks::<LANES>().0.as_chunks::<8>().0;
        let ofs = ofs.get(self.first / 8..).unwrap_or(&[]).as_chunks::<LANES>().0;
        let x = x.iter().zip(ofs).take(self.chunks(64));
        let half = self.plan.half.unwrap_or(0);
        let numbers: [f32; LANES] = core::array::from_fn(|code| (code as i32 - half) as f32);
        let numbers = load(&numbers);
        let mut all = sums.map(|sums| load(&sums));
        let mut turn = self.turn();
        for (at, (x, n)) in x.enumerate() {
            self.go_on::<SYM>(&mut turn);
            let mut codes = self.bytes(at, 64);
            let mut parts = [_mm512_setzero_ps(); R];
            if !SYM {
                let n = load(n);
                parts = turn.middles.map(|middle| _mm512_fnmadd_ps(_mm512_cvtepi32_ps(middle), n, parts[0]));
            }
            for x in x {
                let x = load(x);
                for row in 0..R {
                    // The lowest four bits of each lane choose a number.
                    parts[row] = _mm512_fmadd_ps(_mm512_permutexvar_ps(codes[row], numbers), x, parts[row]);
                    codes[row] = _mm512_srli_epi32::<4>(codes[row]);
                }
            }
            for row in 0..R {
                all[row] = _mm512_fmadd_ps(turn.scales[row], parts[row], all[row]);
            }
        }
        *sums = all.map(|all| stored(all));
    }

    /// Codes of another width and floats, 64 columns at a time, all of one group.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi")]
    fn plain<const B: usize, const SYM: bool>(&self, x: &[f32], sums: &mut [[f32; SUMS]; R]) {
        let open = Open::of::<B>();
        let mut all = sums.map(|sums| load(&sums));
        let x = x.get(self.first..).unwrap_or(&[]).chunks(64).take(self.chunks(8 * B));
        // The differences of codes and half of them fit into a byte.
        let half = _mm512_set1_epi8(self.plan.half.unwrap_or(0) as i8);
        let mut turn = self.turn();
        for (at, x) in x.enumerate() {
            self.go_on::<SYM>(&mut turn);
            let [a, b, c, d] = floats(x);
            for (row, codes) in self.bytes(at, 8 * B).into_iter().enumerate() {
                let (codes, middle) = (_mm512_sub_epi8(open.codes::<B>(codes), half), turn.middles[row]);
                let one = _mm512_mul_ps(wide::<SYM>(_mm512_castsi512_si128(codes), middle), a);
                let two = _mm512_mul_ps(wide::<SYM>(_mm512_extracti32x4_epi32::<1>(codes), middle), b);
                let one = _mm512_fmadd_ps(wide::<SYM>(_mm512_extracti32x4_epi32::<2>(codes), middle), c, one);
                let two = _mm512_fmadd_ps(wide::<SYM>(_mm512_extracti32x4_epi32::<3>(codes), middle), d, two);
                all[row] = _mm512_fmadd_ps(turn.scales[row], _mm512_add_ps(one, two), all[row]);
            }
        }
        *sums = all.map(|all| stored(all));
    }
}

/// Adds the exact sums of lanes, less what the middles of affine grids add to them.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn add_lanes<const SYM: bool>(all: __m512, (scale, middle): (__m512, __m512i), x: Lanes, part: __m512i) -> __m512 {
    let part = if SYM { part } else { _mm512_sub_epi32(part, _mm512_mullo_epi32(middle, x.sum)) };
    let both = _mm512_mul_ps(scale, x.scale);
    _mm512_add_ps(all, _mm512_mul_ps(both, _mm512_cvtepi32_ps(part)))
}

/// Sixteen codes as floats, on affine grids less the middle.
#[inline]
#[target_feature(enable = "avx512f")]
fn wide<const SYM: bool>(codes: __m128i, middle: __m512i) -> __m512 {
    match SYM {
        true => _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(codes)),
        false => _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_cvtepu8_epi32(codes), middle)),
    }
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

/// Codes of inputs.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn signed(from: &[i8; 64]) -> __m512i {
    // SAFETY: there are 64 bytes.
    unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
}

/// Up to 64 floats, zeros after them.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn floats(x: &[f32]) -> [__m512; 4] {
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
pub(super) fn load(from: &[f32; LANES]) -> __m512 {
    // SAFETY: there are sixteen floats.
    unsafe { _mm512_loadu_ps(from.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn whole(from: &[i32; LANES]) -> __m512i {
    // SAFETY: there are sixteen numbers.
    unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn stored(sums: __m512) -> [f32; LANES] {
    let mut to = [0.0; LANES];
    store(&mut to, sums);
    to
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn store(to: &mut [f32; LANES], sums: __m512) {
    // SAFETY: there are sixteen floats.
    unsafe { _mm512_storeu_ps(to.as_mut_ptr(), sums) }
}

/// The sixteen sums of each row, added up in the order of [`total`](crate::product::total).
#[target_feature(enable = "avx512f,avx512dq")]
pub(super) fn totals<const R: usize>(sums: &[[f32; SUMS]; R]) -> [f32; R] {
    let total = |sums: &[f32; SUMS]| {
        let all = load(sums);
        let eight = _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps::<1>(all));
        let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
    };
    sums.each_ref().map(total)
}

/// Widens little-endian IEEE halves, of which there are as many as there is room for, or fewer.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) fn halves(from: &[u8], to: &mut [f32]) {
    for (from, to) in from.chunks(2 * LANES).zip(to.chunks_mut(LANES)) {
        let some = |count: usize| u16::MAX.checked_shr(LANES.saturating_sub(count) as u32).unwrap_or(0);
        // SAFETY: the masks let only elements of the slices be read and written, which have as many.
        unsafe {
            let halves = _mm256_maskz_loadu_epi16(some(from.len() / 2), from.as_ptr().cast());
            _mm512_mask_storeu_ps(to.as_mut_ptr(), some(to.len()), _mm512_cvtph_ps(halves));
        }
    }
}

//! [`gather`](super::gather) and [`scatter`](super::scatter) by vector permutations.
//!
//! Cells of four bytes go 16 (AVX-512) or 8 (AVX2) at a time, cells of two bytes 16 at
//! a time on AVX-512. Everything else, and the ends of rows, takes the scalar way.

use core::arch::x86_64::*;

use super::Cell;
use super::cells::{gather_scalar, scatter_scalar};
use crate::simd::Level;

/// Gathers by vector where this level has a way for such cells, and says whether it did.
pub(super) fn gather<T: Cell>(level: Level, bits: &[u8], values: &[T], out: &mut [T]) -> bool {
    match (level, size_of::<T>()) {
        // SAFETY: an `Avx512` is only made by `Avx512::detect`, which saw these features; T has 4 bytes.
        (Level::Avx512(_), 4) => unsafe { gather_by_16::<T, 4>(bits, values, out) },
        // SAFETY: as above; T has 2 bytes.
        (Level::Avx512(_), 2) => unsafe { gather_by_16::<T, 2>(bits, values, out) },
        // SAFETY: an `Avx2` is only made by `Avx2::detect`, which saw these features; T has 4 bytes.
        (Level::Avx2(_), 4) => unsafe { gather_by_8(bits, values, out) },
        _ => return false,
    }
    true
}

/// Scatters by vector where this level has a way for such cells, and says whether it did.
pub(super) fn scatter<T: Cell>(level: Level, bits: &[u8], kept: &[T], out: &mut [T]) -> bool {
    match (level, size_of::<T>()) {
        // SAFETY: an `Avx512` is only made by `Avx512::detect`, which saw these features; T has 4 bytes.
        (Level::Avx512(_), 4) => unsafe { scatter_by_16::<T, 4>(bits, kept, out) },
        // SAFETY: as above; T has 2 bytes.
        (Level::Avx512(_), 2) => unsafe { scatter_by_16::<T, 2>(bits, kept, out) },
        // SAFETY: an `Avx2` is only made by `Avx2::detect`, which saw these features; T has 4 bytes.
        (Level::Avx2(_), 4) => unsafe { scatter_by_8(bits, kept, out) },
        _ => return false,
    }
    true
}

/// # Safety
///
/// The CPU has these features, and a `T` has `SIZE` bytes, 2 or 4.
#[target_feature(enable = "avx2,bmi2,popcnt,avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn gather_by_16<T: Cell, const SIZE: usize>(bits: &[u8], values: &[T], out: &mut [T]) {
    let (blocks, _) = values.as_chunks::<16>();
    let mut at = 0;
    for (block, pair) in blocks.iter().zip(bits.as_chunks::<2>().0) {
        let keep = u16::from_le_bytes(*pair);
        let end = at + keep.count_ones() as usize;
        let Some(room) = out.get_mut(at..end) else { return };
        // SAFETY: the features and SIZE are this function's own conditions; both slices have at most 16 cells.
        unsafe { store::<T, SIZE>(room, _mm512_maskz_compress_epi32(keep, load::<T, SIZE>(block))) };
        at = end;
    }
    let done = blocks.len() * 16;
    if let (Some(bits), Some(values), Some(out)) = (bits.get(done / 8..), values.get(done..), out.get_mut(at..)) {
        gather_scalar(bits, values, out);
    }
}

/// # Safety
///
/// The CPU has these features, and a `T` has `SIZE` bytes, 2 or 4.
#[target_feature(enable = "avx2,bmi2,popcnt,avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn scatter_by_16<T: Cell, const SIZE: usize>(bits: &[u8], kept: &[T], out: &mut [T]) {
    let (blocks, rest) = out.as_chunks_mut::<16>();
    let done = blocks.len() * 16;
    let mut at = 0;
    for (block, pair) in blocks.iter_mut().zip(bits.as_chunks::<2>().0) {
        let keep = u16::from_le_bytes(*pair);
        let end = at + keep.count_ones() as usize;
        let Some(next) = kept.get(at..end) else { return };
        // SAFETY: the features and SIZE are this function's own conditions; both slices have at most 16 cells.
        unsafe { store::<T, SIZE>(block, _mm512_maskz_expand_epi32(keep, load::<T, SIZE>(next))) };
        at = end;
    }
    if let (Some(bits), Some(kept)) = (bits.get(done / 8..), kept.get(at..)) {
        scatter_scalar(bits, kept, rest);
    }
}

/// The cells in 32-bit lanes, zeros behind them.
///
/// # Safety
///
/// The CPU has these features, a `T` has `SIZE` bytes, 2 or 4, and there are at most 16 cells.
#[inline]
#[target_feature(enable = "avx2,bmi2,popcnt,avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn load<T: Cell, const SIZE: usize>(cells: &[T]) -> __m512i {
    let lanes = _bzhi_u32(0xffff, cells.len() as u32) as u16;
    if SIZE == 2 {
        // SAFETY: reads one 2-byte lane for each cell, no other.
        _mm512_cvtepu16_epi32(unsafe { _mm256_maskz_loadu_epi16(lanes, cells.as_ptr().cast()) })
    } else {
        // SAFETY: reads one 4-byte lane for each cell, no other.
        unsafe { _mm512_maskz_loadu_epi32(lanes, cells.as_ptr().cast()) }
    }
}

/// Fills the cells from 32-bit lanes.
///
/// # Safety
///
/// As of [`load`].
#[inline]
#[target_feature(enable = "avx2,bmi2,popcnt,avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn store<T: Cell, const SIZE: usize>(cells: &mut [T], lanes: __m512i) {
    let written = _bzhi_u32(0xffff, cells.len() as u32) as u16;
    if SIZE == 2 {
        // SAFETY: writes one 2-byte lane for each cell, no other; any bits are a value of a `Cell`.
        unsafe { _mm256_mask_storeu_epi16(cells.as_mut_ptr().cast(), written, _mm512_cvtepi32_epi16(lanes)) };
    } else {
        // SAFETY: writes one 4-byte lane for each cell, no other; any bits are a value of a `Cell`.
        unsafe { _mm512_mask_storeu_epi32(cells.as_mut_ptr().cast(), written, lanes) };
    }
}

/// Byte i of the result is i: the lanes in order.
const LANES: u64 = 0x0706_0504_0302_0100;

/// One byte for each bit, 0xff where it is set.
#[inline]
#[target_feature(enable = "avx2,bmi2,popcnt")]
fn spread(bits: u8) -> u64 {
    _pdep_u64(u64::from(bits), 0x0101_0101_0101_0101) * 0xff
}

/// The eight bytes as lane numbers or lane masks of 32 bits.
#[inline]
#[target_feature(enable = "avx2,bmi2,popcnt")]
fn widen(bytes: u64) -> __m256i {
    _mm256_cvtepi8_epi32(_mm_cvtsi64_si128(bytes as i64))
}

/// # Safety
///
/// The CPU has these features, and a `T` has 4 bytes.
#[target_feature(enable = "avx2,bmi2,popcnt")]
unsafe fn gather_by_8<T: Cell>(bits: &[u8], values: &[T], out: &mut [T]) {
    let (mut done, mut at) = (0, 0);
    for (block, keep) in values.as_chunks::<8>().0.iter().zip(bits) {
        let Some(room) = out.get_mut(at..).and_then(|out| out.first_chunk_mut::<8>()) else { break };
        let order = widen(_pext_u64(LANES, spread(*keep)));
        // SAFETY: a block is eight cells of 4 bytes.
        let packed = _mm256_permutevar8x32_epi32(unsafe { _mm256_loadu_si256(block.as_ptr().cast()) }, order);
        // SAFETY: the room is eight cells of 4 bytes; any bits are a value of a `Cell`. What this
        // writes past the kept is written again, for `out` ends with the last of them.
        unsafe { _mm256_storeu_si256(room.as_mut_ptr().cast(), packed) };
        at += keep.count_ones() as usize;
        done += 8;
    }
    if let (Some(bits), Some(values), Some(out)) = (bits.get(done / 8..), values.get(done..), out.get_mut(at..)) {
        gather_scalar(bits, values, out);
    }
}

/// # Safety
///
/// The CPU has these features, and a `T` has 4 bytes.
#[target_feature(enable = "avx2,bmi2,popcnt")]
unsafe fn scatter_by_8<T: Cell>(bits: &[u8], kept: &[T], out: &mut [T]) {
    let (mut done, mut at) = (0, 0);
    for (block, keep) in out.as_chunks_mut::<8>().0.iter_mut().zip(bits) {
        let Some(next) = kept.get(at..).and_then(|kept| kept.first_chunk::<8>()) else { break };
        let lanes = spread(*keep);
        let rank = widen(_pdep_u64(LANES, lanes));
        // SAFETY: the next kept are eight cells of 4 bytes.
        let placed = _mm256_permutevar8x32_epi32(unsafe { _mm256_loadu_si256(next.as_ptr().cast()) }, rank);
        // SAFETY: a block is eight cells of 4 bytes; any bits are a value of a `Cell`.
        unsafe { _mm256_storeu_si256(block.as_mut_ptr().cast(), _mm256_and_si256(placed, widen(lanes))) };
        at += keep.count_ones() as usize;
        done += 8;
    }
    if let (Some(bits), Some(kept), Some(out)) = (bits.get(done / 8..), kept.get(at..), out.get_mut(done..)) {
        scatter_scalar(bits, kept, out);
    }
}

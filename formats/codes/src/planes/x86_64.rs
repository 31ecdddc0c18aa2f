//! Planes with AVX2 and AVX-512: whole blocks, the rest is left to the scalar code.
//! Each function returns how many plane bytes it did.

use core::arch::x86_64::*;

use crate::simd::{Avx2, Avx512};

pub(super) fn split_avx2(_: Avx2, bit: u32, codes: &[u8], out: &mut [u8]) -> usize {
    // SAFETY: an `Avx2` is only made by `Avx2::detect`, which saw the feature.
    unsafe { split_32(bit, codes, out) }
}

pub(super) fn split_avx512(_: Avx512, bit: u32, codes: &[u8], out: &mut [u8]) -> usize {
    // SAFETY: an `Avx512` is only made by `Avx512::detect`, which saw the features.
    unsafe { split_64(bit, codes, out) }
}

pub(super) fn merge_avx2<const B: usize>(_: Avx2, planes: &[&[u8]; B], out: &mut [u8]) -> usize {
    // SAFETY: an `Avx2` is only made by `Avx2::detect`, which saw the feature.
    unsafe { merge_32(planes, out) }
}

pub(super) fn merge_avx512<const B: usize>(_: Avx512, planes: &[&[u8]; B], out: &mut [u8]) -> usize {
    // SAFETY: an `Avx512` is only made by `Avx512::detect`, which saw the features.
    unsafe { merge_64(planes, out) }
}

#[target_feature(enable = "avx2")]
fn split_32(bit: u32, codes: &[u8], out: &mut [u8]) -> usize {
    // Shifting 64-bit lanes brings the bit to the top of each byte; what comes in from
    // the neighbour stays below it.
    let up = _mm_cvtsi32_si128(7 - bit as i32);
    let (blocks, to) = (codes.as_chunks::<32>().0, out.as_chunks_mut::<4>().0);
    let done = 4 * blocks.len().min(to.len());
    for (block, to) in blocks.iter().zip(to) {
        // SAFETY: the block has the 32 bytes that are read.
        let codes = unsafe { _mm256_loadu_si256(block.as_ptr().cast()) };
        *to = _mm256_movemask_epi8(_mm256_sll_epi64(codes, up)).to_le_bytes();
    }
    done
}

#[target_feature(enable = "avx512f,avx512bw")]
fn split_64(bit: u32, codes: &[u8], out: &mut [u8]) -> usize {
    let one = _mm512_set1_epi8((1u8 << bit) as i8);
    let (blocks, to) = (codes.as_chunks::<64>().0, out.as_chunks_mut::<8>().0);
    let done = 8 * blocks.len().min(to.len());
    for (block, to) in blocks.iter().zip(to) {
        // SAFETY: the block has the 64 bytes that are read.
        let codes = unsafe { _mm512_loadu_si512(block.as_ptr().cast()) };
        *to = _mm512_test_epi8_mask(codes, one).to_le_bytes();
    }
    done
}

#[target_feature(enable = "avx2")]
fn merge_32<const B: usize>(planes: &[&[u8]; B], out: &mut [u8]) -> usize {
    // Byte i of a lane looks at bit i % 8 of plane byte i / 8.
    let place = _mm256_setr_epi64x(0, 0x0101_0101_0101_0101, 0x0202_0202_0202_0202, 0x0303_0303_0303_0303);
    let bits = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
    let planes = planes.map(|plane| plane.as_chunks::<4>().0);
    let blocks = out.as_chunks_mut::<32>().0;
    let done = planes.iter().fold(blocks.len(), |n, plane| n.min(plane.len()));
    for (at, block) in blocks.iter_mut().enumerate().take(done) {
        let mut codes = _mm256_setzero_si256();
        for plane in &planes {
            let Some(four) = plane.get(at) else { break };
            let four = _mm256_set1_epi32(i32::from_le_bytes(*four));
            let kept = _mm256_and_si256(_mm256_shuffle_epi8(four, place), bits);
            // Twice the codes so far, and 1 more where the bit is set.
            let set = _mm256_cmpeq_epi8(kept, bits);
            codes = _mm256_sub_epi8(_mm256_add_epi8(codes, codes), set);
        }
        // SAFETY: the block has the 32 bytes that are written.
        unsafe { _mm256_storeu_si256(block.as_mut_ptr().cast(), codes) };
    }
    4 * done
}

#[target_feature(enable = "avx512f,avx512bw")]
fn merge_64<const B: usize>(planes: &[&[u8]; B], out: &mut [u8]) -> usize {
    let planes = planes.map(|plane| plane.as_chunks::<8>().0);
    let blocks = out.as_chunks_mut::<64>().0;
    let done = planes.iter().fold(blocks.len(), |n, plane| n.min(plane.len()));
    for (at, block) in blocks.iter_mut().enumerate().take(done) {
        let mut codes = _mm512_setzero_si512();
        for (i, plane) in planes.iter().enumerate() {
            let Some(eight) = plane.get(at) else { break };
            let bit = _mm512_set1_epi8((1u8 << (B - 1 - i)) as i8);
            codes = _mm512_mask_add_epi8(codes, u64::from_le_bytes(*eight), codes, bit);
        }
        // SAFETY: the block has the 64 bytes that are written.
        unsafe { _mm512_storeu_si512(block.as_mut_ptr().cast(), codes) };
    }
    8 * done
}

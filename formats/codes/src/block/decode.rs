//! From blocks to floats, each product and sum rounded by itself in ggml's order.
//!
//! A run of 16 bytes is *half-split*: the low nibble of byte `j` is code `j`, the high
//! one code `j + 16`.

use crate::half_floats::f16_to_f32;
use crate::{BlockType, stamp};

/// What a code of [`BlockType::Iq4Nl`] and [`BlockType::Iq4Xs`] stands for, before scaling.
pub(super) const UNEVEN: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// Twice the value of each E2M1 float.
pub(super) const E2M1: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

stamp! {
    /// Decodes consecutive blocks; stops at the shorter side.
    pub(super) fn blocks = blocks_body(kind: BlockType, from: &[u8], to: &mut [f32]) -> ();
}

#[inline(always)]
fn blocks_body(kind: BlockType, from: &[u8], to: &mut [f32]) {
    match kind {
        BlockType::Q4_0 => each::<18, 32>(from, to, q4_0),
        BlockType::Q4_1 => each::<20, 32>(from, to, q4_1),
        BlockType::Q5_0 => each::<22, 32>(from, to, q5_0),
        BlockType::Q5_1 => each::<24, 32>(from, to, q5_1),
        BlockType::Q8_0 => each::<34, 32>(from, to, q8_0),
        BlockType::Q2K => each::<84, 256>(from, to, q2_k),
        BlockType::Q3K => each::<110, 256>(from, to, q3_k),
        BlockType::Q4K => each::<144, 256>(from, to, q4_k),
        BlockType::Q5K => each::<176, 256>(from, to, q5_k),
        BlockType::Q6K => each::<210, 256>(from, to, q6_k),
        BlockType::Iq4Nl => each::<18, 32>(from, to, iq4_nl),
        BlockType::Iq4Xs => each::<136, 256>(from, to, iq4_xs),
        BlockType::Mxfp4 => each::<17, 32>(from, to, mxfp4),
    }
}

#[inline(always)]
fn each<const B: usize, const N: usize>(from: &[u8], to: &mut [f32], decode: impl Fn(&[u8; B], &mut [f32; N])) {
    for (block, out) in from.as_chunks::<B>().0.iter().zip(to.as_chunks_mut::<N>().0) {
        decode(block, out);
    }
}

/// The bytes of a block from `at` on; there are as many.
#[inline(always)]
fn part<const N: usize>(block: &[u8], at: usize) -> &[u8; N] {
    block.get(at..).and_then(|rest| rest.first_chunk()).unwrap_or(const { &[0; N] })
}

#[inline(always)]
fn half(block: &[u8], at: usize) -> f32 {
    f16_to_f32(u16::from_le_bytes(*part(block, at)))
}

/// The codes of a half-split run.
#[inline(always)]
fn nibbles(run: &[u8; 16]) -> [u8; 32] {
    let mut codes = [0; 32];
    for (j, byte) in run.iter().enumerate() {
        codes[j] = byte & 15;
        codes[j + 16] = byte >> 4;
    }
    codes
}

/// Those with bit `j` of `high` as the fifth bit of code `j`.
#[inline(always)]
fn five_bits(run: &[u8; 16], high: &[u8; 4]) -> [u8; 32] {
    let (mut codes, high) = (nibbles(run), u32::from_le_bytes(*high));
    for (j, code) in codes.iter_mut().enumerate() {
        *code |= (high >> j & 1) as u8 * 16;
    }
    codes
}

/// `d * (code - middle)`.
#[inline(always)]
fn around(d: f32, middle: i32, codes: &[u8], out: &mut [f32]) {
    for (code, x) in codes.iter().zip(out) {
        *x = d * (i32::from(*code) - middle) as f32;
    }
}

/// `d * code + m`.
#[inline(always)]
fn above(d: f32, m: f32, codes: &[u8], out: &mut [f32]) {
    for (code, x) in codes.iter().zip(out) {
        *x = d * f32::from(*code) + m;
    }
}

/// `d * table[code]` for codes below 16, chosen bit by bit: without a memory access a
/// code, so that it vectorizes.
#[inline(always)]
fn by_table(d: f32, table: &[i8; 16], codes: &[u8; 32], out: &mut [f32]) {
    let mut values = [0; 32];
    for (code, value) in codes.iter().zip(&mut values) {
        let bit = |k: u8| if code & 1 << k == 0 { 0 } else { -1i8 };
        let mut left = *table;
        for (k, n) in [(0, 8), (1, 4), (2, 2), (3, 1)] {
            for i in 0..n {
                left[i] = left[2 * i] ^ (bit(k) & (left[2 * i] ^ left[2 * i + 1]));
            }
        }
        *value = left[0];
    }
    for (value, x) in values.iter().zip(out) {
        *x = d * f32::from(*value);
    }
}

#[inline(always)]
fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    around(half(block, 0), 8, &nibbles(part(block, 2)), out);
}

#[inline(always)]
fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    above(half(block, 0), half(block, 2), &nibbles(part(block, 4)), out);
}

#[inline(always)]
fn q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    around(half(block, 0), 16, &five_bits(part(block, 6), part(block, 2)), out);
}

#[inline(always)]
fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    above(half(block, 0), half(block, 2), &five_bits(part(block, 8), part(block, 4)), out);
}

#[inline(always)]
fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let (d, codes): (_, &[u8; 32]) = (half(block, 0), part(block, 2));
    for (code, x) in codes.iter().zip(out) {
        *x = d * f32::from(*code as i8);
    }
}

#[inline(always)]
fn iq4_nl(block: &[u8; 18], out: &mut [f32; 32]) {
    by_table(half(block, 0), &UNEVEN, &nibbles(part(block, 2)), out);
}

#[inline(always)]
fn mxfp4(block: &[u8; 17], out: &mut [f32; 32]) {
    let [power] = *part(block, 0);
    by_table(half_power(power), &E2M1, &nibbles(part(block, 1)), out);
}

/// Half of an E8M0: 2^(e - 128), for the table holds doubled values.
#[inline(always)]
pub(super) const fn half_power(e: u8) -> f32 {
    // The two smallest are subnormal.
    f32::from_bits(if e < 2 { 0x0020_0000 << e } else { (e as u32 - 1) << 23 })
}

/// Scale and minimum `j` of the eight of Q4_K and Q5_K, six bits each.
#[inline(always)]
fn six_bits(bytes: &[u8; 12]) -> ([u8; 8], [u8; 8]) {
    let (mut scales, mut minima) = ([0; 8], [0; 8]);
    for j in 0..4 {
        let (low, mid, high) = (bytes[j], bytes[j + 4], bytes[j + 8]);
        (scales[j], minima[j]) = (low & 63, mid & 63);
        (scales[j + 4], minima[j + 4]) = (high & 15 | low >> 6 << 4, high >> 4 | mid >> 6 << 4);
    }
    (scales, minima)
}

#[inline(always)]
fn q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    let (d, dmin) = (half(block, 0), half(block, 2));
    let (scales, minima) = six_bits(part(block, 4));
    let runs: &[u8; 128] = part(block, 16);
    for ((j, out), run) in out.as_chunks_mut::<32>().0.iter_mut().enumerate().zip(twice(runs)) {
        let (d, m) = (d * f32::from(scales[j & 7]), dmin * f32::from(minima[j & 7]));
        for (byte, x) in run.iter().zip(out) {
            *x = d * f32::from(byte >> (4 * (j & 1)) & 15) - m;
        }
    }
}

#[inline(always)]
fn q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
    let (d, dmin) = (half(block, 0), half(block, 2));
    let (scales, minima) = six_bits(part(block, 4));
    let (high, runs): (&[u8; 32], &[u8; 128]) = (part(block, 16), part(block, 48));
    for ((j, out), run) in out.as_chunks_mut::<32>().0.iter_mut().enumerate().zip(twice(runs)) {
        let (d, m) = (d * f32::from(scales[j & 7]), dmin * f32::from(minima[j & 7]));
        for ((byte, high), x) in run.iter().zip(high).zip(out) {
            let code = byte >> (4 * (j & 1)) & 15 | (high >> (j & 7) & 1) << 4;
            *x = d * f32::from(code) - m;
        }
    }
}

/// Each run of 32 bytes for its low and its high nibbles.
#[inline(always)]
fn twice(runs: &[u8; 128]) -> impl Iterator<Item = &[u8; 32]> {
    runs.as_chunks::<32>().0.iter().flat_map(|run| [run, run])
}

/// Runs of 32 bytes that hold four codes a byte, each with the number of its codes in it.
#[inline(always)]
fn quarters(runs: &[u8; 64]) -> impl Iterator<Item = (usize, &[u8; 32])> {
    runs.as_chunks::<32>().0.iter().flat_map(|run| [(0, run), (1, run), (2, run), (3, run)])
}

#[inline(always)]
fn q2_k(block: &[u8; 84], out: &mut [f32; 256]) {
    let (d, dmin) = (half(block, 80), half(block, 82));
    let (scales, runs): (&[u8; 16], &[u8; 64]) = (part(block, 0), part(block, 16));
    for ((out, (k, run)), scales) in
        out.as_chunks_mut::<32>().0.iter_mut().zip(quarters(runs)).zip(scales.as_chunks::<2>().0)
    {
        let halves = out.as_chunks_mut::<16>().0.iter_mut().zip(run.as_chunks::<16>().0).zip(scales);
        for ((out, run), scale) in halves {
            let (d, m) = (d * f32::from(scale & 15), dmin * f32::from(scale >> 4));
            for (byte, x) in run.iter().zip(out) {
                *x = d * f32::from(byte >> (2 * k) & 3) - m;
            }
        }
    }
}

#[inline(always)]
fn q3_k(block: &[u8; 110], out: &mut [f32; 256]) {
    let d = half(block, 108);
    let (high, runs): (&[u8; 32], &[u8; 64]) = (part(block, 0), part(block, 32));
    let scales = q3_k_scales(part(block, 96));
    let runs = quarters(runs).zip(scales.as_chunks::<2>().0).enumerate();
    for (out, (j, ((k, run), scales))) in out.as_chunks_mut::<32>().0.iter_mut().zip(runs) {
        let halves = run.as_chunks::<16>().0.iter().zip(high.as_chunks::<16>().0).zip(scales);
        for (out, ((run, high), scale)) in out.as_chunks_mut::<16>().0.iter_mut().zip(halves) {
            let d = d * f32::from(*scale);
            for ((byte, high), x) in run.iter().zip(high).zip(out) {
                let code = byte >> (2 * k) & 3 | (high >> (j & 7) & 1) << 2;
                *x = d * (i32::from(code) - 4) as f32;
            }
        }
    }
}

/// The sixteen scales of Q3_K: low nibbles in eight bytes, then two bits each in four.
#[inline(always)]
fn q3_k_scales(bytes: &[u8; 12]) -> [i8; 16] {
    let mut scales = [0; 16];
    for (j, scale) in scales.iter_mut().enumerate() {
        let (low, high) = (bytes[j % 8] >> (4 * (j / 8)) & 15, bytes[8 + j % 4] >> (2 * (j / 4)) & 3);
        *scale = (low | high << 4) as i8 - 32;
    }
    scales
}

#[inline(always)]
fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let d = half(block, 208);
    let (low, high): (&[u8; 128], &[u8; 64]) = (part(block, 0), part(block, 128));
    let scales: &[u8; 16] = part(block, 192);
    let parts = low.as_chunks::<64>().0.iter().zip(high.as_chunks::<32>().0).zip(scales.as_chunks::<8>().0);
    for (out, ((low, high), scales)) in out.as_chunks_mut::<128>().0.iter_mut().zip(parts) {
        for (k, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            // Quarters 0 and 2 share 32 bytes, 1 and 3 the next.
            let low: &[u8; 32] = part(low, 32 * (k & 1));
            let mut codes = [0; 32];
            for ((code, low), high) in codes.iter_mut().zip(low).zip(high) {
                *code = low >> (4 * ((k / 2) & 1)) & 15 | (high >> (2 * (k & 3)) & 3) << 4;
            }
            let scales: &[u8; 2] = part(scales, 2 * k);
            for ((codes, out), scale) in codes.as_chunks::<16>().0.iter().zip(out.as_chunks_mut::<16>().0).zip(scales) {
                around(d * f32::from(*scale as i8), 32, codes, out);
            }
        }
    }
}

#[inline(always)]
fn iq4_xs(block: &[u8; 136], out: &mut [f32; 256]) {
    let (d, high) = (half(block, 0), u16::from_le_bytes(*part(block, 2)));
    let (low, runs): (&[u8; 4], &[u8; 128]) = (part(block, 4), part(block, 8));
    for ((j, out), run) in out.as_chunks_mut::<32>().0.iter_mut().enumerate().zip(runs.as_chunks::<16>().0) {
        let low = low[j / 2 % 4] >> (4 * (j % 2)) & 15;
        let scale = i32::from(low) + i32::from(high >> (2 * (j & 7)) & 3) * 16 - 32;
        by_table(d * scale as f32, &UNEVEN, &nibbles(run), out);
    }
}

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

/// Decodes block after block with one of the functions below. A macro, because a function
/// that is handed over would be compiled without the level's instructions.
macro_rules! each {
    ($decode:ident: $from:ident [$bytes:literal] to $to:ident [$weights:literal]) => {
        for (block, out) in $from.as_chunks::<$bytes>().0.iter().zip($to.as_chunks_mut::<$weights>().0) {
            $decode(block, out);
        }
    };
}

stamp! {
    /// Decodes consecutive blocks; stops at the shorter side.
    pub(super) fn blocks = blocks_body(kind: BlockType, from: &[u8], to: &mut [f32]) -> ();
}

#[inline(always)]
fn blocks_body(kind: BlockType, from: &[u8], to: &mut [f32]) {
    match kind {
        BlockType::Q4_0 => each!(q4_0: from [18] to to [32]),
        BlockType::Q4_1 => each!(q4_1: from [20] to to [32]),
        BlockType::Q5_0 => each!(q5_0: from [22] to to [32]),
        BlockType::Q5_1 => each!(q5_1: from [24] to to [32]),
        BlockType::Q8_0 => each!(q8_0: from [34] to to [32]),
        BlockType::Q2K => each!(q2_k: from [84] to to [256]),
        BlockType::Q3K => each!(q3_k: from [110] to to [256]),
        BlockType::Q4K => each!(q4_k: from [144] to to [256]),
        BlockType::Q5K => each!(q5_k: from [176] to to [256]),
        BlockType::Q6K => each!(q6_k: from [210] to to [256]),
        BlockType::Iq4Nl => each!(iq4_nl: from [18] to to [32]),
        BlockType::Iq4Xs => each!(iq4_xs: from [136] to to [256]),
        BlockType::Mxfp4 => each!(mxfp4: from [17] to to [32]),
    }
}

/// The bytes of a block from `at` on; there are as many.
#[inline(always)]
pub(crate) fn part<const N: usize>(block: &[u8], at: usize) -> &[u8; N] {
    block.get(at..).and_then(|rest| rest.first_chunk()).unwrap_or(const { &[0; N] })
}

#[inline(always)]
pub(super) fn half(block: &[u8], at: usize) -> f32 {
    f16_to_f32(u16::from_le_bytes(*part(block, at)))
}

/// The codes of a half-split run.
#[inline(always)]
fn nibbles(run: &[u8; 16]) -> [u8; 32] {
    const LOW: u128 = u128::from_le_bytes([15; 16]);
    let (word, mut codes) = (u128::from_le_bytes(*run), [0; 32]);
    codes[..16].copy_from_slice(&(word & LOW).to_le_bytes());
    codes[16..].copy_from_slice(&(word >> 4 & LOW).to_le_bytes());
    in_memory(&mut codes);
    codes
}

/// Keeps the compiler from looking through codes to the bytes that they come from: it
/// would take several blocks at once, and gather a byte of each at a time.
#[inline(always)]
fn in_memory(codes: &mut [u8; 32]) {
    core::hint::black_box(codes);
}

/// Code `j` with bit `j` of `high` as its fifth bit.
#[inline(always)]
fn fifth(code: u8, high: u32, j: usize) -> i32 {
    i32::from(code) | ((high >> j & 1) << 4) as i32
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

/// `d * table[code]` for the codes of a half-split run, chosen bit by bit: without a memory access a
/// code, so that it vectorizes.
#[inline(always)]
fn by_table(d: f32, table: &[i8; 16], run: &[u8; 16], out: &mut [f32]) {
    let (mut codes, mut values) = ([0; 32], [0; 32]);
    codes[..16].copy_from_slice(run);
    codes[16..].copy_from_slice(run);
    for ((j, code), value) in codes.iter().enumerate().zip(&mut values) {
        let code = if j < 16 { code & 15 } else { code >> 4 };
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
    let (d, high, codes) = (half(block, 0), u32::from_le_bytes(*part(block, 2)), nibbles(part(block, 6)));
    for ((j, code), x) in codes.iter().enumerate().zip(out) {
        *x = d * (fifth(*code, high, j) - 16) as f32;
    }
}

#[inline(always)]
fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let (d, m, high) = (half(block, 0), half(block, 2), u32::from_le_bytes(*part(block, 4)));
    let codes = nibbles(part(block, 8));
    for ((j, code), x) in codes.iter().enumerate().zip(out) {
        *x = d * fifth(*code, high, j) as f32 + m;
    }
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
    by_table(half(block, 0), &UNEVEN, part(block, 2), out);
}

#[inline(always)]
fn mxfp4(block: &[u8; 17], out: &mut [f32; 32]) {
    let [power] = *part(block, 0);
    by_table(half_power(power), &E2M1, part(block, 1), out);
}

/// Half of an E8M0: 2^(e - 128), for the table holds doubled values.
#[inline(always)]
pub(super) const fn half_power(e: u8) -> f32 {
    // The two smallest are subnormal.
    f32::from_bits(if e < 2 { 0x0020_0000 << e } else { (e as u32 - 1) << 23 })
}

/// Scale and minimum `j` of the eight of Q4_K and Q5_K, six bits each.
#[inline(always)]
pub(crate) fn six_bits(bytes: &[u8; 12]) -> ([u8; 8], [u8; 8]) {
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
    for (j, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let run: &[u8; 32] = part(block, 16 + 32 * (j / 2 % 4));
        let (d, m) = (d * f32::from(scales[j % 8]), dmin * f32::from(minima[j % 8]));
        for (byte, x) in run.iter().zip(out) {
            *x = d * f32::from(byte >> (4 * (j % 2)) & 15) - m;
        }
    }
}

#[inline(always)]
fn q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
    let (d, dmin) = (half(block, 0), half(block, 2));
    let (scales, minima) = six_bits(part(block, 4));
    let high: &[u8; 32] = part(block, 16);
    for (j, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let run: &[u8; 32] = part(block, 48 + 32 * (j / 2 % 4));
        let (d, m) = (d * f32::from(scales[j % 8]), dmin * f32::from(minima[j % 8]));
        for ((byte, high), x) in run.iter().zip(high).zip(out) {
            let code = byte >> (4 * (j % 2)) & 15 | (high >> (j % 8) & 1) << 4;
            *x = d * f32::from(code) - m;
        }
    }
}

/// Codes of two bits: 32 bytes hold four times 32 of them, lowest bits first.
#[inline(always)]
fn two_bits(runs: &[u8; 64]) -> [[[u8; 32]; 4]; 2] {
    let mut codes = [[[0; 32]; 4]; 2];
    for (codes, run) in codes.iter_mut().zip(runs.as_chunks::<32>().0) {
        let [q0, q1, q2, q3] = codes;
        for (i, byte) in run.iter().enumerate() {
            q0[i] = byte & 3;
            q1[i] = byte >> 2 & 3;
            q2[i] = byte >> 4 & 3;
            q3[i] = byte >> 6;
        }
    }
    codes
}

#[inline(always)]
fn q2_k(block: &[u8; 84], out: &mut [f32; 256]) {
    let (d, dmin) = (half(block, 80), half(block, 82));
    let (scales, codes): (&[u8; 16], _) = (part(block, 0), two_bits(part(block, 16)));
    let codes = codes.as_flattened().as_flattened();
    for ((codes, out), scale) in codes.as_chunks::<16>().0.iter().zip(out.as_chunks_mut::<16>().0).zip(scales) {
        let (d, m) = (d * f32::from(scale & 15), dmin * f32::from(scale >> 4));
        for (code, x) in codes.iter().zip(out) {
            *x = d * f32::from(*code) - m;
        }
    }
}

#[inline(always)]
fn q3_k(block: &[u8; 110], out: &mut [f32; 256]) {
    let d = half(block, 108);
    let (scales, mut codes) = (q3_k_scales(part(block, 96)), two_bits(part(block, 32)));
    let high: &[u8; 32] = part(block, 0);
    for (j, codes) in codes.as_flattened_mut().iter_mut().enumerate() {
        for (code, high) in codes.iter_mut().zip(high) {
            *code |= (high >> (j % 8) & 1) << 2;
        }
    }
    let codes = codes.as_flattened().as_flattened();
    for ((codes, out), scale) in codes.as_chunks::<16>().0.iter().zip(out.as_chunks_mut::<16>().0).zip(scales) {
        around(d * f32::from(scale), 4, codes, out);
    }
}

/// The sixteen scales of Q3_K: low nibbles in eight bytes, then two bits each in four.
#[inline(always)]
pub(super) fn q3_k_scales(bytes: &[u8; 12]) -> [i8; 16] {
    let mut scales = [0; 16];
    for (j, scale) in scales.iter_mut().enumerate() {
        let (low, high) = (bytes[j % 8] >> (4 * (j / 8)) & 15, bytes[8 + j % 4] >> (2 * (j / 4)) & 3);
        *scale = (low | high << 4) as i8 - 32;
    }
    scales
}

#[inline(always)]
fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let (d, scales): (_, &[u8; 16]) = (half(block, 208), part(block, 192));
    let mut codes = [[[0; 32]; 4]; 2];
    for (half, codes) in codes.iter_mut().enumerate() {
        let (low, next): (&[u8; 32], &[u8; 32]) = (part(block, 64 * half), part(block, 64 * half + 32));
        let high: &[u8; 32] = part(block, 128 + 32 * half);
        let [q0, q1, q2, q3] = codes;
        for i in 0..32 {
            q0[i] = low[i] & 15 | (high[i] & 3) << 4;
            q1[i] = next[i] & 15 | (high[i] >> 2 & 3) << 4;
            q2[i] = low[i] >> 4 | (high[i] >> 4 & 3) << 4;
            q3[i] = next[i] >> 4 | high[i] >> 6 << 4;
        }
    }
    let codes = codes.as_flattened().as_flattened();
    for ((codes, out), scale) in codes.as_chunks::<16>().0.iter().zip(out.as_chunks_mut::<16>().0).zip(scales) {
        around(d * f32::from(*scale as i8), 32, codes, out);
    }
}

#[inline(always)]
fn iq4_xs(block: &[u8; 136], out: &mut [f32; 256]) {
    let (d, high) = (half(block, 0), u16::from_le_bytes(*part(block, 2)));
    let (low, runs): (&[u8; 4], &[u8; 128]) = (part(block, 4), part(block, 8));
    for ((j, out), run) in out.as_chunks_mut::<32>().0.iter_mut().enumerate().zip(runs.as_chunks::<16>().0) {
        let low = low[j / 2 % 4] >> (4 * (j % 2)) & 15;
        let scale = i32::from(low) + i32::from(high >> (2 * (j & 7)) & 3) * 16 - 32;
        by_table(d * scale as f32, &UNEVEN, run, out);
    }
}

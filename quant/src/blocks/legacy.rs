//! Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0: one scale for 32 weights, from their range, as ggml's
//! reference rounds.
//!
//! Codes are rounded with the scale before F16 rounds it. The types without a minimum
//! divide the weight of largest magnitude by -8 or -16, sign and all, so that it lands on
//! the end of the codes that reaches further.

use niwaki_codes::half_floats::f32_to_f16;
use niwaki_codes::simd::Level;
use niwaki_codes::{Symmetry, stamp};

use crate::distortion::LANES;
use crate::kernels::{maxima, spans};

/// Weights of one block.
const BLOCK: usize = 32;

/// Blocks whose scales are found together.
const MANY: usize = 64;

/// From 0 to 2^22, adding it leaves the nearest whole number in the low bits.
const WHOLE: f32 = 8_388_608.0;

/// Just below one half: with it, halves are rounded away from zero and nothing else is.
const BELOW_HALF: f32 = 0.5 - f32::EPSILON / 4.0;

/// Blocks of F16 scale and 16 bytes, half-split.
pub(super) fn q4_0(level: Level, x: &[f32], out: &mut [u8]) {
    for (x, out) in x.as_chunks::<BLOCK>().0.chunks(MANY).zip(out.chunks_mut(18 * MANY)) {
        q4_0_codes(level, x, &Steps::signed(level, x, -8.0), out);
    }
}

/// Blocks of F16 scale, F16 minimum and 16 bytes, half-split.
pub(super) fn q4_1(level: Level, x: &[f32], out: &mut [u8]) {
    for (x, out) in x.as_chunks::<BLOCK>().0.chunks(MANY).zip(out.chunks_mut(20 * MANY)) {
        q4_1_codes(level, x, &Steps::ranged(level, x, 15.0), out);
    }
}

/// Blocks of F16 scale, 32 high bits and 16 bytes, half-split.
pub(super) fn q5_0(level: Level, x: &[f32], out: &mut [u8]) {
    for (x, out) in x.as_chunks::<BLOCK>().0.chunks(MANY).zip(out.chunks_mut(22 * MANY)) {
        q5_0_codes(level, x, &Steps::signed(level, x, -16.0), out);
    }
}

/// Blocks of F16 scale, F16 minimum, 32 high bits and 16 bytes, half-split.
pub(super) fn q5_1(level: Level, x: &[f32], out: &mut [u8]) {
    for (x, out) in x.as_chunks::<BLOCK>().0.chunks(MANY).zip(out.chunks_mut(24 * MANY)) {
        q5_1_codes(level, x, &Steps::ranged(level, x, 31.0), out);
    }
}

/// Blocks of F16 scale and 32 signed bytes.
pub(super) fn q8_0(level: Level, x: &[f32], out: &mut [u8]) {
    for (x, out) in x.as_chunks::<BLOCK>().0.chunks(MANY).zip(out.chunks_mut(34 * MANY)) {
        q8_0_codes(level, x, &Steps::unsigned(level, x, 127.0), out);
    }
}

stamp! {
    fn q4_0_codes = q4_0_body(x: &[[f32; BLOCK]], steps: &Steps, out: &mut [u8]) -> ();
}

stamp! {
    fn q4_1_codes = q4_1_body(x: &[[f32; BLOCK]], steps: &Steps, out: &mut [u8]) -> ();
}

stamp! {
    fn q5_0_codes = q5_0_body(x: &[[f32; BLOCK]], steps: &Steps, out: &mut [u8]) -> ();
}

stamp! {
    fn q5_1_codes = q5_1_body(x: &[[f32; BLOCK]], steps: &Steps, out: &mut [u8]) -> ();
}

stamp! {
    fn q8_0_codes = q8_0_body(x: &[[f32; BLOCK]], steps: &Steps, out: &mut [u8]) -> ();
}

#[inline(always)]
fn q4_0_body(x: &[[f32; BLOCK]], steps: &Steps, out: &mut [u8]) {
    for (i, (x, out)) in x.iter().zip(out.as_chunks_mut::<18>().0).enumerate().take(MANY) {
        let codes = codes(x, 0.0, steps.inverse[i], 8.5, 15);
        out[..2].copy_from_slice(&steps.half[i].to_le_bytes());
        half_split(&codes, &mut out[2..]);
    }
}

#[inline(always)]
fn q4_1_body(x: &[[f32; BLOCK]], steps: &Steps, out: &mut [u8]) {
    for (i, (x, out)) in x.iter().zip(out.as_chunks_mut::<20>().0).enumerate().take(MANY) {
        let codes = codes(x, steps.low[i], steps.inverse[i], 0.5, 15);
        out[..2].copy_from_slice(&steps.half[i].to_le_bytes());
        out[2..4].copy_from_slice(&f32_to_f16(steps.low[i]).to_le_bytes());
        half_split(&codes, &mut out[4..]);
    }
}

#[inline(always)]
fn q5_0_body(x: &[[f32; BLOCK]], steps: &Steps, out: &mut [u8]) {
    for (i, (x, out)) in x.iter().zip(out.as_chunks_mut::<22>().0).enumerate().take(MANY) {
        let codes = codes(x, 0.0, steps.inverse[i], 16.5, 31);
        out[..2].copy_from_slice(&steps.half[i].to_le_bytes());
        half_split(&codes, &mut out[6..]);
        out[2..6].copy_from_slice(&fifth_bits(&codes));
    }
}

#[inline(always)]
fn q5_1_body(x: &[[f32; BLOCK]], steps: &Steps, out: &mut [u8]) {
    for (i, (x, out)) in x.iter().zip(out.as_chunks_mut::<24>().0).enumerate().take(MANY) {
        let codes = codes(x, steps.low[i], steps.inverse[i], 0.5, 31);
        out[..2].copy_from_slice(&steps.half[i].to_le_bytes());
        out[2..4].copy_from_slice(&f32_to_f16(steps.low[i]).to_le_bytes());
        half_split(&codes, &mut out[8..]);
        out[4..8].copy_from_slice(&fifth_bits(&codes));
    }
}

#[inline(always)]
fn q8_0_body(x: &[[f32; BLOCK]], steps: &Steps, out: &mut [u8]) {
    for (i, (x, out)) in x.iter().zip(out.as_chunks_mut::<34>().0).enumerate().take(MANY) {
        let inverse = steps.inverse[i];
        out[..2].copy_from_slice(&steps.half[i].to_le_bytes());
        for (x, code) in x.iter().zip(&mut out[2..]) {
            let x = x * inverse;
            let size = whole(x.abs() + BELOW_HALF) as i32;
            // All ones for a negative weight: then it negates.
            let sign = x.to_bits() as i32 >> 31;
            *code = (size ^ sign).wrapping_sub(sign) as u8;
        }
    }
}

/// The steps of up to [`MANY`] blocks.
struct Steps {
    /// The smallest weights, where codes count from them.
    low: [f32; MANY],
    inverse: [f32; MANY],
    half: [u16; MANY],
}

impl Steps {
    /// From the largest magnitude.
    fn unsigned(level: Level, x: &[[f32; BLOCK]], by: f32) -> Self {
        let (low, high) = ends(level, x);
        let mut most = [0.0; MANY];
        for (most, (low, high)) in most.iter_mut().zip(low.iter().zip(&high)) {
            *most = if -low > *high { -low } else { *high };
        }
        divided(level, &most, by)
    }

    /// From the weight of largest magnitude, the first of such.
    fn signed(level: Level, x: &[[f32; BLOCK]], by: f32) -> Self {
        let (low, high) = ends(level, x);
        let mut most = [0.0; MANY];
        for (most, (low, high)) in most.iter_mut().zip(low.iter().zip(&high)) {
            *most = if -low > *high { *low } else { *high };
        }
        for (x, (most, low)) in x.iter().zip(most.iter_mut().zip(&low)) {
            if -low == *most && *most != 0.0 {
                *most = x.iter().copied().find(|x| x.abs() == -low).unwrap_or(*most);
            }
        }
        divided(level, &most, by)
    }

    /// From the range, which need not hold 0.
    fn ranged(level: Level, x: &[[f32; BLOCK]], by: f32) -> Self {
        let (mut low, mut high) = ends(level, x);
        for (x, (low, high)) in x.iter().zip(low.iter_mut().zip(&mut high)) {
            // Of two zeros the first is the smaller one.
            if *low == 0.0 {
                *low = x.iter().copied().reduce(|a, b| if b < a { b } else { a }).unwrap_or(0.0);
            }
            if *high == 0.0 {
                *high = x.iter().copied().reduce(|a, b| if b > a { b } else { a }).unwrap_or(0.0);
            }
        }
        let mut range = [0.0; MANY];
        for (range, (low, high)) in range.iter_mut().zip(low.iter().zip(&high)) {
            *range = high - low;
        }
        Self { low, ..divided(level, &range, by) }
    }
}

/// The smallest and largest weights of blocks, and of 0.
fn ends(level: Level, x: &[[f32; BLOCK]]) -> ([f32; MANY], [f32; MANY]) {
    let (mut above, mut below) = ([[0; LANES]; MANY], [[0; LANES]; MANY]);
    let n = x.len().min(MANY);
    spans(level, Symmetry::Affine, x.as_flattened(), BLOCK, &mut above[..n], &mut below[..n]);
    let (mut high, mut low) = ([0; MANY], [0; MANY]);
    maxima(level, &above[..n], &mut high[..n]);
    maxima(level, &below[..n], &mut low[..n]);
    (low.map(f32::from_bits), high.map(f32::from_bits))
}

stamp! {
    fn divided = divided_body(range: &[f32; MANY], by: f32) -> Steps;
}

#[inline(always)]
fn divided_body(range: &[f32; MANY], by: f32) -> Steps {
    let mut steps = Steps { low: [0.0; MANY], inverse: [0.0; MANY], half: [0; MANY] };
    for ((range, inverse), half) in range.iter().zip(&mut steps.inverse).zip(&mut steps.half) {
        let d = range / by;
        *inverse = if d != 0.0 { 1.0 / d } else { 0.0 };
        *half = f32_to_f16(d);
    }
    steps
}

/// A number from 0 to 2^22 without its fraction; anything for others.
#[inline(always)]
fn whole(x: f32) -> u32 {
    let near = x + WHOLE;
    near.to_bits().wrapping_sub(WHOLE.to_bits()).wrapping_sub(u32::from(near - WHOLE > x))
}

/// `(x - low) * inverse + offset` without its fraction, and `top` at most.
#[inline(always)]
fn codes(x: &[f32; BLOCK], low: f32, inverse: f32, offset: f32, top: u32) -> [u8; BLOCK] {
    let mut codes = [0; BLOCK];
    for (x, code) in x.iter().zip(&mut codes) {
        *code = whole((x - low) * inverse + offset).min(top) as u8;
    }
    codes
}

/// The low four bits of codes, those 16 apart in one byte.
#[inline(always)]
fn half_split(codes: &[u8; BLOCK], out: &mut [u8]) {
    let (low, high) = codes.split_at(BLOCK / 2);
    for ((byte, low), high) in out.iter_mut().zip(low).zip(high) {
        *byte = low & 15 | high << 4;
    }
}

/// Bit 4 of every code.
#[inline(always)]
fn fifth_bits(codes: &[u8; BLOCK]) -> [u8; 4] {
    let mut bits = [0; 4];
    // Else the compiler takes the words apart that it could load.
    core::hint::black_box(codes);
    for (bits, codes) in bits.iter_mut().zip(codes.as_chunks::<8>().0) {
        let fifth = u64::from_le_bytes(*codes) >> 4 & 0x0101_0101_0101_0101;
        // Brings the bit of byte `i` to bit `56 + i`, and no two to one place.
        *bits = (fifth.wrapping_mul(0x0102_0408_1020_4080) >> 56) as u8;
    }
    bits
}

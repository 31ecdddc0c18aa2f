//! Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0: one scale for 32 weights, from their range, as ggml's
//! reference rounds.
//!
//! Codes are rounded with the scale before F16 rounds it. The types without a minimum
//! divide the weight of largest magnitude by -8 or -16, sign and all, so that it lands on
//! the end of the codes that reaches further.

use niwaki_codes::half_floats::f32_to_f16;
use niwaki_codes::stamp;

/// Weights of one block.
const BLOCK: usize = 32;

/// Blocks whose scales are found together.
const MANY: usize = 64;

/// From 0 to 2^22, adding it leaves the nearest whole number in the low bits.
const WHOLE: f32 = 8_388_608.0;

/// Just below one half: with it, halves are rounded away from zero and nothing else is.
const BELOW_HALF: f32 = 0.5 - f32::EPSILON / 4.0;

stamp! {
    /// Blocks of F16 scale and 16 bytes, half-split.
    pub(super) fn q4_0 = q4_0_body(x: &[f32], out: &mut [u8]) -> ();
}

stamp! {
    /// Blocks of F16 scale, F16 minimum and 16 bytes, half-split.
    pub(super) fn q4_1 = q4_1_body(x: &[f32], out: &mut [u8]) -> ();
}

stamp! {
    /// Blocks of F16 scale, 32 high bits and 16 bytes, half-split.
    pub(super) fn q5_0 = q5_0_body(x: &[f32], out: &mut [u8]) -> ();
}

stamp! {
    /// Blocks of F16 scale, F16 minimum, 32 high bits and 16 bytes, half-split.
    pub(super) fn q5_1 = q5_1_body(x: &[f32], out: &mut [u8]) -> ();
}

stamp! {
    /// Blocks of F16 scale and 32 signed bytes.
    pub(super) fn q8_0 = q8_0_body(x: &[f32], out: &mut [u8]) -> ();
}

#[inline(always)]
fn q4_0_body(x: &[f32], out: &mut [u8]) {
    many::<18>(x, out, |x, out| {
        let steps = signed_steps(x, -8.0);
        for (i, (x, out)) in x.iter().zip(out).enumerate() {
            let codes = codes(x, 0.0, steps.inverse[i], 8.5, 15);
            out[..2].copy_from_slice(&steps.half[i].to_le_bytes());
            out[2..].copy_from_slice(&half_split(&codes));
        }
    });
}

#[inline(always)]
fn q5_0_body(x: &[f32], out: &mut [u8]) {
    many::<22>(x, out, |x, out| {
        let steps = signed_steps(x, -16.0);
        for (i, (x, out)) in x.iter().zip(out).enumerate() {
            let codes = codes(x, 0.0, steps.inverse[i], 16.5, 31);
            out[..2].copy_from_slice(&steps.half[i].to_le_bytes());
            out[2..6].copy_from_slice(&fifth_bits(&codes));
            out[6..].copy_from_slice(&half_split(&codes));
        }
    });
}

#[inline(always)]
fn q4_1_body(x: &[f32], out: &mut [u8]) {
    many::<20>(x, out, |x, out| {
        let (steps, low) = ranged_steps(x, 15.0);
        for (i, (x, out)) in x.iter().zip(out).enumerate() {
            let codes = codes(x, low[i], steps.inverse[i], 0.5, 15);
            out[..2].copy_from_slice(&steps.half[i].to_le_bytes());
            out[2..4].copy_from_slice(&f32_to_f16(low[i]).to_le_bytes());
            out[4..].copy_from_slice(&half_split(&codes));
        }
    });
}

#[inline(always)]
fn q5_1_body(x: &[f32], out: &mut [u8]) {
    many::<24>(x, out, |x, out| {
        let (steps, low) = ranged_steps(x, 31.0);
        for (i, (x, out)) in x.iter().zip(out).enumerate() {
            let codes = codes(x, low[i], steps.inverse[i], 0.5, 31);
            out[..2].copy_from_slice(&steps.half[i].to_le_bytes());
            out[2..4].copy_from_slice(&f32_to_f16(low[i]).to_le_bytes());
            out[4..8].copy_from_slice(&fifth_bits(&codes));
            out[8..].copy_from_slice(&half_split(&codes));
        }
    });
}

#[inline(always)]
fn q8_0_body(x: &[f32], out: &mut [u8]) {
    many::<34>(x, out, |x, out| {
        let mut steps = Steps { divided: [0.0; MANY], inverse: [0.0; MANY], half: [0; MANY] };
        for (x, d) in x.iter().zip(&mut steps.divided) {
            let (low, high) = ends(x);
            *d = if -low > high { low.abs() } else { high.abs() };
        }
        steps.finish(127.0);
        for (i, (x, out)) in x.iter().zip(out).enumerate() {
            out[..2].copy_from_slice(&steps.half[i].to_le_bytes());
            for (x, code) in x.iter().zip(&mut out[2..]) {
                let x = x * steps.inverse[i];
                // The sign bit moves the half to the weight's side of zero.
                let nudge = f32::from_bits(BELOW_HALF.to_bits() | x.to_bits() & 0x8000_0000);
                *code = (x + nudge) as i32 as u8;
            }
        }
    });
}

/// Hands out whole blocks, [`MANY`] at a time.
#[inline(always)]
fn many<const B: usize>(x: &[f32], out: &mut [u8], encode: impl Fn(&[[f32; BLOCK]], &mut [[u8; B]])) {
    let (x, out) = (x.as_chunks::<BLOCK>().0, out.as_chunks_mut::<B>().0);
    for (x, out) in x.chunks(MANY).zip(out.chunks_mut(MANY)) {
        encode(x, out);
    }
}

/// The smallest and the largest weight.
#[inline(always)]
fn ends(x: &[f32; BLOCK]) -> (f32, f32) {
    let less = |a: f32, b: f32| if b < a { b } else { a };
    let more = |a: f32, b: f32| if b > a { b } else { a };
    let a: [[f32; 16]; 2] =
        [core::array::from_fn(|i| less(x[i], x[i + 16])), core::array::from_fn(|i| more(x[i], x[i + 16]))];
    let b: [[f32; 8]; 2] =
        [core::array::from_fn(|i| less(a[0][i], a[0][i + 8])), core::array::from_fn(|i| more(a[1][i], a[1][i + 8]))];
    let c: [[f32; 4]; 2] =
        [core::array::from_fn(|i| less(b[0][i], b[0][i + 4])), core::array::from_fn(|i| more(b[1][i], b[1][i + 4]))];
    let low = less(less(c[0][0], c[0][2]), less(c[0][1], c[0][3]));
    let high = more(more(c[1][0], c[1][2]), more(c[1][1], c[1][3]));
    (low, high)
}

/// The steps of up to [`MANY`] blocks.
struct Steps {
    /// First what is divided, then the step.
    divided: [f32; MANY],
    inverse: [f32; MANY],
    half: [u16; MANY],
}

impl Steps {
    #[inline(always)]
    fn finish(&mut self, by: f32) {
        for ((d, inverse), half) in self.divided.iter_mut().zip(&mut self.inverse).zip(&mut self.half) {
            *d /= by;
            *inverse = if *d != 0.0 { 1.0 / *d } else { 0.0 };
            *half = f32_to_f16(*d);
        }
    }
}

/// Steps from the weight of largest magnitude, the first of such.
#[inline(always)]
fn signed_steps(x: &[[f32; BLOCK]], by: f32) -> Steps {
    let mut steps = Steps { divided: [0.0; MANY], inverse: [0.0; MANY], half: [0; MANY] };
    for (x, d) in x.iter().zip(&mut steps.divided) {
        let (low, high) = ends(x);
        *d = if -low > high { low } else { high };
        if -low == high {
            *d = x.iter().copied().find(|x| x.abs() == high).unwrap_or(0.0);
            // Zeros of either sign count as positive.
            *d = if high == 0.0 { 0.0 } else { *d };
        }
    }
    steps.finish(by);
    steps
}

/// Steps from the range, and the smallest weights.
#[inline(always)]
fn ranged_steps(x: &[[f32; BLOCK]], by: f32) -> (Steps, [f32; MANY]) {
    let mut steps = Steps { divided: [0.0; MANY], inverse: [0.0; MANY], half: [0; MANY] };
    let mut lows = [0.0; MANY];
    for ((x, d), low) in x.iter().zip(&mut steps.divided).zip(&mut lows) {
        let (least, most) = ends(x);
        (*d, *low) = (most - least, least);
        if least == 0.0 {
            // The sign is that of the first zero.
            *low = x.iter().copied().find(|x| *x == 0.0).unwrap_or(least);
        }
    }
    steps.finish(by);
    (steps, lows)
}

/// `(x - low) * inverse + offset` without its fraction, and `top` at most.
#[inline(always)]
fn codes(x: &[f32; BLOCK], low: f32, inverse: f32, offset: f32, top: u32) -> [u8; BLOCK] {
    core::array::from_fn(|j| {
        let v = (x[j] - low) * inverse + offset;
        let near = v + WHOLE;
        let code = near.to_bits().wrapping_sub(WHOLE.to_bits()).wrapping_sub(u32::from(near - WHOLE > v));
        code.min(top) as u8
    })
}

/// The low four bits of codes, those 16 apart in one byte.
#[inline(always)]
fn half_split(codes: &[u8; BLOCK]) -> [u8; BLOCK / 2] {
    core::array::from_fn(|j| codes[j] & 15 | codes[j + BLOCK / 2] << 4)
}

/// Bit 4 of every code.
#[inline(always)]
fn fifth_bits(codes: &[u8; BLOCK]) -> [u8; 4] {
    let mut bits = [0; BLOCK];
    for (j, code) in codes.iter().enumerate() {
        bits[j] = (u32::from(*code) >> 4 & 1) << j;
    }
    bits.iter().fold(0, |all, bit| all | bit).to_le_bytes()
}

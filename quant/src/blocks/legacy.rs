//! Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0: one scale for 32 weights, from their range, as ggml's
//! reference rounds.
//!
//! Codes are rounded with the scale before F16 rounds it. The types without a minimum
//! divide the weight of largest magnitude by -8 or -16, sign and all, so that it lands on
//! the end of the codes that reaches further.
//!
//! A run of blocks takes three passes: the ends of all blocks, their scales side by side, then
//! codes together with what they lose.
#![allow(clippy::needless_range_loop, reason = "lanes of several arrays")]

use niwaki_codes::half_floats::{f16_to_f32, f32_to_f16};
use niwaki_codes::simd::Level;
use niwaki_codes::stamp;

use super::RUN;
use super::lanes::{choose, max, min};
use crate::distortion::{LANES, Tally};
use crate::kernels::{block_ends, prefetch};
use crate::round::Ahead;

/// Weights of one block.
const BLOCK: usize = 32;

/// Blocks of one run.
const MANY: usize = RUN / BLOCK;

/// One number of each block.
type Each<T = f32> = [T; MANY];

/// From 0 to 2^22, adding it leaves the nearest whole number in the low bits.
const WHOLE: f32 = 8_388_608.0;

/// Just below one half: with it, halves are rounded away from zero and nothing else is.
const BELOW_HALF: f32 = 0.5 - f32::EPSILON / 4.0;

/// Encodes a run and says what that loses. Of weights that are not finite, the signal is
/// not, either, and the blocks are of no use.
pub(super) type Encoder = fn(Level, &[f32], Ahead<'_>, &mut [u8]) -> Tally;

/// Blocks of F16 scale and 16 bytes, half-split.
pub(super) fn q4_0(level: Level, x: &[f32], ahead: Ahead<'_>, out: &mut [u8]) -> Tally {
    let x = x.as_chunks().0;
    let (low, high) = ends(level, x, ahead);
    let steps = steps(level, &farthest(level, x, &low, &high), -8.0, 8.5, 15.5);
    q4_0_codes(level, x, &steps, later(ahead, x), out)
}

/// Blocks of F16 scale, F16 minimum and 16 bytes, half-split.
pub(super) fn q4_1(level: Level, x: &[f32], ahead: Ahead<'_>, out: &mut [u8]) -> Tally {
    let x = x.as_chunks().0;
    let (mut low, mut high) = ends(level, x, ahead);
    first_zeros(level, x, &mut low, &mut high);
    let steps = ranged(level, &low, &high, 15.0);
    q4_1_codes(level, x, &steps, later(ahead, x), out)
}

/// Blocks of F16 scale, 32 high bits and 16 bytes, half-split.
pub(super) fn q5_0(level: Level, x: &[f32], ahead: Ahead<'_>, out: &mut [u8]) -> Tally {
    let x = x.as_chunks().0;
    let (low, high) = ends(level, x, ahead);
    let steps = steps(level, &farthest(level, x, &low, &high), -16.0, 16.5, 31.5);
    q5_0_codes(level, x, &steps, later(ahead, x), out)
}

/// Blocks of F16 scale, F16 minimum, 32 high bits and 16 bytes, half-split.
pub(super) fn q5_1(level: Level, x: &[f32], ahead: Ahead<'_>, out: &mut [u8]) -> Tally {
    let x = x.as_chunks().0;
    let (mut low, mut high) = ends(level, x, ahead);
    first_zeros(level, x, &mut low, &mut high);
    let steps = ranged(level, &low, &high, 31.0);
    q5_1_codes(level, x, &steps, later(ahead, x), out)
}

/// Blocks of F16 scale and 32 signed bytes.
pub(super) fn q8_0(level: Level, x: &[f32], ahead: Ahead<'_>, out: &mut [u8]) -> Tally {
    let x = x.as_chunks().0;
    let (low, high) = ends(level, x, ahead);
    let steps = steps(level, &sizes(level, &low, &high), 127.0, 0.0, 0.0);
    q8_0_codes(level, x, &steps, later(ahead, x), out)
}

stamp! {
    fn sizes = sizes_body(low: &Each, high: &Each) -> Each;
}

stamp! {
    fn either = either_body(low: &Each, high: &Each) -> (Each, bool);
}

stamp! {
    fn any_zero = any_zero_body(low: &Each, high: &Each) -> bool;
}

stamp! {
    fn steps = steps_body(range: &Each, by: f32, offset: f32, top: f32) -> Steps;
}

stamp! {
    fn ranged = ranged_body(low: &Each, high: &Each, top: f32) -> Steps;
}

stamp! {
    fn q4_0_codes = q4_0_body(x: &[[f32; BLOCK]], steps: &Steps, ahead: Ahead<'_>, out: &mut [u8]) -> Tally;
}

stamp! {
    fn q4_1_codes = q4_1_body(x: &[[f32; BLOCK]], steps: &Steps, ahead: Ahead<'_>, out: &mut [u8]) -> Tally;
}

stamp! {
    fn q5_0_codes = q5_0_body(x: &[[f32; BLOCK]], steps: &Steps, ahead: Ahead<'_>, out: &mut [u8]) -> Tally;
}

stamp! {
    fn q5_1_codes = q5_1_body(x: &[[f32; BLOCK]], steps: &Steps, ahead: Ahead<'_>, out: &mut [u8]) -> Tally;
}

stamp! {
    fn q8_0_codes = q8_0_body(x: &[[f32; BLOCK]], steps: &Steps, ahead: Ahead<'_>, out: &mut [u8]) -> Tally;
}

/// The second half of what comes next: the first is fetched as ends are found.
fn later<'a>(ahead: Ahead<'a>, x: &[[f32; BLOCK]]) -> Ahead<'a> {
    Ahead { begun: x.len() * BLOCK / 2, ..ahead }
}

#[inline(always)]
fn fetch(ahead: Ahead<'_>, block: usize) {
    prefetch(ahead.bytes, (ahead.begun + block * BLOCK / 2) * ahead.size);
}

/// The smallest and largest weights of blocks.
fn ends(level: Level, x: &[[f32; BLOCK]], ahead: Ahead<'_>) -> (Each, Each) {
    let (mut low, mut high) = ([0.0; MANY], [0.0; MANY]);
    let ends = low.as_chunks_mut::<8>().0.iter_mut().zip(high.as_chunks_mut::<8>().0);
    for (i, (x, (low, high))) in x.chunks(8).zip(ends).enumerate() {
        (8 * i..8 * i + 8).for_each(|block| fetch(ahead, block));
        block_ends(level, x, low, high);
    }
    (low, high)
}

/// The largest magnitudes.
#[inline(always)]
fn sizes_body(low: &Each, high: &Each) -> Each {
    let mut sizes = [0.0; MANY];
    for i in 0..MANY {
        // Where that is -0.0 it becomes 0.
        sizes[i] = max(-low[i], high[i]) + 0.0;
    }
    sizes
}

/// The weights of largest magnitude, the first of such.
fn farthest(level: Level, x: &[[f32; BLOCK]], low: &Each, high: &Each) -> Each {
    let (mut most, tied) = either(level, low, high);
    if tied {
        for (i, x) in x.iter().enumerate().take(MANY) {
            if -low[i] == high[i] && most[i] != 0.0 {
                most[i] = x.iter().copied().find(|x| x.abs() == high[i]).unwrap_or(most[i]);
            }
        }
    }
    most
}

/// Of each two ends the farther one, and whether any are equally far from 0.
#[inline(always)]
fn either_body(low: &Each, high: &Each) -> (Each, bool) {
    let (mut most, mut tied) = ([0.0; MANY], 0);
    for i in 0..MANY {
        // Where that is -0.0 it becomes 0.
        most[i] = choose(-low[i] > high[i], low[i], high[i]) + 0.0;
        tied |= u32::from(-low[i] == high[i]);
    }
    (most, tied != 0)
}

/// Sets ends that are zero to the first zero of their block: of two zeros that is the
/// smaller and the larger one.
fn first_zeros(level: Level, x: &[[f32; BLOCK]], low: &mut Each, high: &mut Each) {
    if !any_zero(level, low, high) {
        return;
    }
    for (i, x) in x.iter().enumerate().take(MANY) {
        if low[i] == 0.0 || high[i] == 0.0 {
            let zero = x.iter().copied().find(|x| *x == 0.0).unwrap_or(0.0);
            low[i] = if low[i] == 0.0 { zero } else { low[i] };
            high[i] = if high[i] == 0.0 { zero } else { high[i] };
        }
    }
}

#[inline(always)]
fn any_zero_body(low: &Each, high: &Each) -> bool {
    let mut any = 0;
    for i in 0..MANY {
        any |= u32::from(low[i] == 0.0) | u32::from(high[i] == 0.0);
    }
    any != 0
}

/// The steps of the blocks of a run.
struct Steps {
    inverse: Each,
    /// What is added before a number of steps is rounded down.
    offset: Each,
    /// The step as it is stored, and what that decodes to.
    half: Each<u16>,
    step: Each,
    /// What codes count from, the same as it is stored, and what that decodes to.
    low: Each,
    low_half: Each<u16>,
    base: Each,
}

#[inline(always)]
fn steps_body(range: &Each, by: f32, offset: f32, top: f32) -> Steps {
    let zero = [0.0; MANY];
    let (half, low_half) = ([0; MANY], [0; MANY]);
    let mut steps = Steps { inverse: zero, offset: zero, half, step: zero, low: zero, low_half, base: zero };
    for i in 0..MANY {
        let d = range[i] / by;
        let inverse = choose(d != 0.0, 1.0 / d, 0.0);
        // A step so small has no inverse: then all codes are the largest one.
        let tiny = inverse.abs() == f32::INFINITY;
        steps.inverse[i] = choose(tiny, 0.0, inverse);
        steps.offset[i] = choose(tiny, top, offset);
        steps.half[i] = f32_to_f16(d);
        steps.step[i] = f16_to_f32(steps.half[i]);
    }
    steps
}

/// The steps from the smallest weights to the largest.
#[inline(always)]
fn ranged_body(low: &Each, high: &Each, top: f32) -> Steps {
    let mut range = [0.0; MANY];
    for i in 0..MANY {
        range[i] = high[i] - low[i];
    }
    let mut steps = steps_body(&range, top, 0.5, top + 0.5);
    steps.low = *low;
    for i in 0..MANY {
        steps.low_half[i] = f32_to_f16(low[i]);
        steps.base[i] = f16_to_f32(steps.low_half[i]);
    }
    steps
}

#[inline(always)]
fn q4_0_body(x: &[[f32; BLOCK]], steps: &Steps, ahead: Ahead<'_>, out: &mut [u8]) -> Tally {
    codes::<18, 15, false>(x, steps, ahead, out)
}

#[inline(always)]
fn q4_1_body(x: &[[f32; BLOCK]], steps: &Steps, ahead: Ahead<'_>, out: &mut [u8]) -> Tally {
    codes::<20, 15, true>(x, steps, ahead, out)
}

#[inline(always)]
fn q5_0_body(x: &[[f32; BLOCK]], steps: &Steps, ahead: Ahead<'_>, out: &mut [u8]) -> Tally {
    codes::<22, 31, false>(x, steps, ahead, out)
}

#[inline(always)]
fn q5_1_body(x: &[[f32; BLOCK]], steps: &Steps, ahead: Ahead<'_>, out: &mut [u8]) -> Tally {
    codes::<24, 31, true>(x, steps, ahead, out)
}

/// Blocks of `BYTES` bytes with codes up to `TOP`, 15 or 31, that count from the smallest
/// weight where they are `RANGED`, else from the middle of the codes.
#[inline(always)]
fn codes<const BYTES: usize, const TOP: u16, const RANGED: bool>(
    x: &[[f32; BLOCK]],
    steps: &Steps,
    ahead: Ahead<'_>,
    out: &mut [u8],
) -> Tally {
    let top = f32::from(TOP) + 0.5;
    let middle = f32::from(if RANGED { 0 } else { TOP / 2 + 1 });
    let mut tally = Tally::default();
    for (i, (x, out)) in x.iter().zip(out.as_chunks_mut::<BYTES>().0).enumerate().take(MANY) {
        fetch(ahead, i);
        out[..2].copy_from_slice(&steps.half[i].to_le_bytes());
        if RANGED {
            out[2..4].copy_from_slice(&steps.low_half[i].to_le_bytes());
        }
        let code = |x: f32| {
            let above = if RANGED { x - steps.low[i] } else { x };
            whole(min(above * steps.inverse[i] + steps.offset[i], top))
        };
        let value = |code: f32| {
            let y = (code - (WHOLE + middle)) * steps.step[i];
            if RANGED { y + steps.base[i] } else { y }
        };
        let mut fifth = 0;
        for j in 0..LANES {
            let (a, b) = (x[j], x[j + LANES]);
            let (first, second) = (code(a), code(b));
            let bits = (first.to_bits(), second.to_bits());
            let low = if TOP > 15 { bits.0 & 15 } else { bits.0 };
            out[BYTES - LANES + j] = (low | bits.1 << 4) as u8;
            fifth |= (bits.0 >> 4 & 1) << j | (bits.1 >> 4 & 1) << (j + LANES);
            add(&mut tally, j, a, value(first));
            add(&mut tally, j, b, value(second));
        }
        if TOP > 15 {
            out[BYTES - LANES - 4..BYTES - LANES].copy_from_slice(&fifth.to_le_bytes());
        }
    }
    tally
}

#[inline(always)]
fn q8_0_body(x: &[[f32; BLOCK]], steps: &Steps, ahead: Ahead<'_>, out: &mut [u8]) -> Tally {
    let mut tally = Tally::default();
    for (i, (x, out)) in x.iter().zip(out.as_chunks_mut::<34>().0).enumerate().take(MANY) {
        fetch(ahead, i);
        out[..2].copy_from_slice(&steps.half[i].to_le_bytes());
        for j in 0..LANES {
            let (a, b) = (x[j], x[j + LANES]);
            let (first, second) = (away(a * steps.inverse[i]), away(b * steps.inverse[i]));
            out[2 + j] = (first + 1.5 * WHOLE).to_bits() as u8;
            out[2 + LANES + j] = (second + 1.5 * WHOLE).to_bits() as u8;
            add(&mut tally, j, a, first * steps.step[i]);
            add(&mut tally, j, b, second * steps.step[i]);
        }
    }
    tally
}

/// A number from 0 to 2^22 without its fraction, plus [`WHOLE`].
#[inline(always)]
fn whole(x: f32) -> f32 {
    let near = x + WHOLE;
    f32::from_bits(near.to_bits().wrapping_sub(u32::from(near - WHOLE > x)))
}

/// To the nearest whole number, halves away from zero.
#[inline(always)]
fn away(x: f32) -> f32 {
    (whole(x.abs() + BELOW_HALF) - WHOLE).copysign(x)
}

/// Adds a weight `x` that decodes to `y` to one lane.
#[inline(always)]
fn add(tally: &mut Tally, lane: usize, x: f32, y: f32) {
    let error = x - y;
    tally.signal[lane] += x * x;
    tally.noise[lane] += error * error;
    tally.max_abs[lane] = max(error.abs(), tally.max_abs[lane]);
}

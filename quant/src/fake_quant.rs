//! Fake quantization with a learned step and offset: values go onto a grid and stay floats (Esser et al., *Learned Step
//! Size Quantization*, 2020; Bhalgat et al., *LSQ+*, 2020; Xu et al., *EQ-Net*, 2023, section 3.1).
//!
//! ```text
//! v  = (x - offset) / step
//! q  = rne(clamp(v, low, high))            low..high: -2^(b-1)..2^(b-1)-1, or 0..2^b-1
//! x' = step * q + offset
//! ```
//!
//! and back, `inside` being 1 where `low <= v <= high`, else 0:
//!
//! ```text
//! dx'/dx = inside      dx'/dstep = q - v inside      dx'/doffset = 1 - inside
//! ```

use niwaki_codes::{Bits, stamp};

use crate::grid::ROUNDER;

/// Lanes in which sums are taken: their order is that of the values, on every machine.
const LANES: usize = 16;

/// Values whose sums are taken in f32.
const RUN: usize = 1024;

/// A grid with a learned step and offset.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Learned {
    step: f32,
    offset: f32,
    low: f32,
    high: f32,
}

/// What a loss changes with, by a grid: the sums over values of `g (q - v inside)` and `g (1 - inside)`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Slopes {
    /// With the step.
    pub step: f64,
    /// With the offset.
    pub offset: f64,
}

impl core::ops::AddAssign for Slopes {
    fn add_assign(&mut self, more: Self) {
        self.step += more.step;
        self.offset += more.offset;
    }
}

/// The least and the largest code of so many bits, with a sign or without.
pub fn code_range(bits: Bits, signed: bool) -> (f32, f32) {
    let (levels, half) = (bits.levels() as f32, bits.half() as f32);
    if signed { (-half, half - 1.0) } else { (0.0, levels - 1.0) }
}

impl Learned {
    /// The grid of that step, of which the magnitude counts and which is never 0, and offset.
    pub fn new(bits: Bits, signed: bool, step: f32, offset: f32) -> Self {
        let (low, high) = code_range(bits, signed);
        Self { step: step.abs().max(f32::MIN_POSITIVE), offset, low, high }
    }

    /// The distance between neighbours.
    pub fn step(&self) -> f32 {
        self.step
    }

    /// What code 0 stands for.
    pub fn offset(&self) -> f32 {
        self.offset
    }

    /// The least and the largest code.
    pub fn codes(&self) -> (f32, f32) {
        (self.low, self.high)
    }

    /// The grid nearby on which 0 lies, as machines of integers need it, and the code of 0: `x' = step (q - zero)`. A zero
    /// that its codes do not hold becomes the nearest one that they do.
    pub fn with_zero(&self) -> (Self, i32) {
        let zero = round((-self.offset / self.step).clamp(self.low, self.high));
        (Self { offset: -self.step * zero, ..*self }, zero as i32)
    }
}

#[inline(always)]
fn round(x: f32) -> f32 {
    x + ROUNDER - ROUNDER
}

/// The code of a value before it is rounded, within the codes; NaN stays NaN.
#[inline(always)]
fn clamped(v: f32, low: f32, high: f32) -> f32 {
    let v = if low > v { low } else { v };
    if high < v { high } else { v }
}

stamp! {
    /// Puts values onto a grid. `out` is as long as `x`; NaN stays NaN.
    pub fn fake_quantize = fake_quantize_body(grid: Learned, x: &[f32], out: &mut [f32]) -> ();
}

#[inline(always)]
fn fake_quantize_body(grid: Learned, x: &[f32], out: &mut [f32]) {
    let Learned { step, offset, low, high } = grid;
    for (x, out) in x.iter().zip(out) {
        *out = round(clamped((x - offset) / step, low, high)) * step + offset;
    }
}

/// The codes of values on a grid, those with a sign as they are; those without as the bits of a byte.
pub fn codes(grid: Learned, x: &[f32]) -> impl Iterator<Item = i8> {
    let Learned { step, offset, low, high } = grid;
    x.iter().map(move |x| round(clamped((x - offset) / step, low, high)) as i32 as i8)
}

stamp! {
    /// Takes gradients of what [`fake_quantize`] made of `x` back: `gradients` become those of `x`.
    pub fn fake_quantize_back = back_body(grid: Learned, x: &[f32], gradients: &mut [f32]) -> Slopes;
}

#[inline(always)]
fn back_body(grid: Learned, x: &[f32], gradients: &mut [f32]) -> Slopes {
    let mut all = Slopes::default();
    for (x, gradients) in x.chunks(RUN).zip(gradients.chunks_mut(RUN)) {
        let (mut step, mut offset) = ([0.0; LANES], [0.0; LANES]);
        let (lanes, rest) = x.as_chunks::<LANES>();
        let (of_lanes, of_rest) = gradients.as_chunks_mut::<LANES>();
        for (x, g) in lanes.iter().zip(of_lanes) {
            for at in 0..LANES {
                let one = back_one(grid, x[at], g[at]);
                step[at] += one.0;
                offset[at] += one.1;
                g[at] = one.2;
            }
        }
        for (at, (x, g)) in rest.iter().zip(of_rest).enumerate() {
            let one = back_one(grid, *x, *g);
            step[at] += one.0;
            offset[at] += one.1;
            *g = one.2;
        }
        all.step += f64::from(step.iter().sum::<f32>());
        all.offset += f64::from(offset.iter().sum::<f32>());
    }
    all
}

/// What one value says of the step and of the offset, and its own gradient.
#[inline(always)]
fn back_one(grid: Learned, x: f32, g: f32) -> (f32, f32, f32) {
    let Learned { step, offset, low, high } = grid;
    let v = (x - offset) / step;
    let q = round(clamped(v, low, high));
    let inside = low <= v && v <= high;
    let (own, beyond) = if inside { (g, 0.0) } else { (0.0, g) };
    let apart = if inside { q - v } else { q };
    (g * apart, beyond, own)
}

/// Shrunken ranges that [`fit`] tries, the whole one first; each is a hundredth less.
pub const TRIES: usize = 80;

/// What a grid is fitted to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    /// The least value.
    pub low: f32,
    /// The largest one.
    pub high: f32,
}

impl Span {
    /// That of values; of none, nothing.
    pub fn of(x: &[f32]) -> Self {
        let ends = x.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), x| (x.min(low), x.max(high)));
        if ends.0 <= ends.1 { Self { low: ends.0, high: ends.1 } } else { Self { low: 0.0, high: 0.0 } }
    }
}

/// The grid to begin with: of shrunken ranges the one whose mean error to the power 2.4 is least on `x`, values out of
/// `span` (EQ-Net's code; papers on LSQ+ name the power). With `affine` the offset is free, else 0; of codes without a sign
/// it is 0.
pub fn fit(
    level: niwaki_codes::simd::Level,
    (bits, signed, affine): (Bits, bool, bool),
    span: Span,
    x: &[f32],
) -> Learned {
    let (low, high) = code_range(bits, signed);
    let most = span.high.max(-span.low);
    let mut best: Option<(f64, Learned)> = None;
    for nth in 0..TRIES {
        let shrunk = 1.0 - 0.01 * nth as f32;
        let (step, offset) = match (affine, signed) {
            (true, true) => {
                let (least, largest) = (shrunk * span.low, shrunk * span.high);
                let step = (largest - least) / (high - low);
                (step, least - step * low)
            }
            (true, false) => (shrunk * (span.high - span.low.min(0.0)) / (high - low), 0.0),
            (false, true) => (shrunk * 2.0 * most / (high - low), 0.0),
            (false, false) => (shrunk * most / (high - low), 0.0),
        };
        let grid = Learned { step: step.max(f32::MIN_POSITIVE), offset, low, high };
        let error = error_of(level, grid, x);
        if best.is_none_or(|(least, _)| error < least) {
            best = Some((error, grid));
        }
    }
    best.map_or(Learned { step: 1.0, offset: 0.0, low, high }, |(_, grid)| grid)
}

stamp! {
    /// The sum of errors to the power 2.4.
    fn error_of = error_body(grid: Learned, x: &[f32]) -> f64;
}

#[inline(always)]
fn error_body(grid: Learned, x: &[f32]) -> f64 {
    let mut all = 0.0;
    for x in x.chunks(RUN) {
        let mut sums = [0.0; LANES];
        let (lanes, rest) = x.as_chunks::<LANES>();
        for x in lanes {
            for at in 0..LANES {
                sums[at] += error_one(grid, x[at]);
            }
        }
        for (at, x) in rest.iter().enumerate() {
            sums[at] += error_one(grid, *x);
        }
        all += f64::from(sums.iter().sum::<f32>());
    }
    all * f64::from(power(grid.step)) / f64::from(power(1.0))
}

/// The error of one value, in units of the step, so that tiny weights have errors too.
#[inline(always)]
fn error_one(grid: Learned, x: f32) -> f32 {
    let Learned { step, offset, low, high } = grid;
    let v = (x - offset) / step;
    power(v - round(clamped(v, low, high)))
}

/// |x| to the power 2.4, within 5 parts of 100,000: x^2 times 2^(0.4 log2 |x|), both by polynomials (least squares at
/// Chebyshev's points).
#[inline(always)]
fn power(x: f32) -> f32 {
    let x = x.abs().max(f32::MIN_POSITIVE);
    let bits = x.to_bits();
    let exponent = (bits >> 23) as i32 - 127;
    let m = f32::from_bits(bits & 0x007F_FFFF | 0x3F80_0000);
    let log =
        ((((0.043_928_63 * m - 0.409_475_6) * m + 1.610_177_6) * m - 3.520_218_8) * m + 5.069_756_3) * m - 2.794_153_7;
    let y = 0.4 * (exponent as f32 + log);
    // Of values in question y is within -51 and 51.
    let whole = (y + 64.0) as i32 - 64;
    let f = y - whole as f32;
    let scale = f32::from_bits(((whole + 127) as u32) << 23);
    let root = (((0.013_683_98 * f + 0.051_717_74) * f + 0.241_621_32) * f + 0.692_969_55) * f + 1.000_003_6;
    x * x * (root * scale)
}

#[cfg(test)]
mod tests;

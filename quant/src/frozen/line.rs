//! Evenly spaced values.
#![allow(clippy::needless_range_loop, reason = "lanes of several arrays")]

use niwaki_codes::simd::Level;
use niwaki_codes::stamp;

use super::ranked::{ASCENDING, Ranked};
use crate::distortion::LANES;
use crate::grid::ROUNDER;

/// Code `q` stands for `scale * (q - middle) + base`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Line {
    pub(super) scale: f32,
    pub(super) middle: u8,
    pub(super) base: f32,
    /// The largest code, 3 or more.
    pub(super) top: u8,
}

/// Steps are at least this part of the largest value: 8 units in its last place or more, so that
/// rounding leaves values apart, and the quotient in [`nearest`] off by less than one code.
const STEP: f32 = 1.0 / (1 << 20) as f32;

impl Line {
    #[inline(always)]
    fn value(&self, code: u8) -> f32 {
        self.scale * (i32::from(code) - i32::from(self.middle)) as f32 + self.base
    }

    /// Moves codes to their targets; says how many moved.
    pub(super) fn recode(&self, level: Level, targets: &[f32], codes: &mut [u8]) -> usize {
        if self.scale == 0.0 {
            // All codes stand for the same.
            return 0;
        }
        let (low, high) = (self.value(0), self.value(self.top));
        let most = if low.abs() > high.abs() { low.abs() } else { high.abs() };
        if most.is_finite() && self.scale.abs() >= most * STEP && low != high {
            return steps(level, Ruler::new(self, low, high), targets, codes);
        }
        let mut values = [0.0; 256];
        values.iter_mut().zip(0..=self.top).for_each(|(to, code)| *to = self.value(code));
        let mut ranked = Ranked::EMPTY;
        ranked.set(level, &values[..=usize::from(self.top)], &ASCENDING);
        ranked.recode(targets, codes)
    }
}

/// A line turned so that values rise with codes.
#[derive(Clone, Copy)]
struct Ruler {
    /// 1, or -1 where values fall.
    sign: f32,
    scale: f32,
    base: f32,
    middle: f32,
    /// The ends of the values.
    low: f32,
    high: f32,
    /// The least and the greatest code that has two neighbours, less the middle.
    first: f32,
    last: f32,
}

impl Ruler {
    fn new(line: &Line, low: f32, high: f32) -> Self {
        let sign = 1f32.copysign(line.scale);
        let middle = f32::from(line.middle);
        Self {
            sign,
            scale: line.scale.abs(),
            base: sign * line.base,
            middle,
            low: sign * low,
            high: sign * high,
            first: 1.0 - middle,
            last: f32::from(line.top) - 1.0 - middle,
        }
    }
}

stamp! {
    fn steps = steps_body(ruler: Ruler, targets: &[f32], codes: &mut [u8]) -> usize;
}

#[inline(always)]
fn steps_body(ruler: Ruler, targets: &[f32], codes: &mut [u8]) -> usize {
    let (x, x_rest) = targets.as_chunks::<LANES>();
    let (whole, rest) = codes.as_chunks_mut::<LANES>();
    let mut moved = 0;
    for (x, codes) in x.iter().zip(whole) {
        moved += lanes(ruler, x, codes);
    }
    // Lanes past the end are as any other, and are not written back.
    let (mut x, mut last) = ([0.0; LANES], [0; LANES]);
    x.iter_mut().zip(x_rest).for_each(|(to, from)| *to = *from);
    last.iter_mut().zip(&*rest).for_each(|(to, from)| *to = *from);
    lanes(ruler, &x, &mut last);
    for (to, from) in rest.iter_mut().zip(last) {
        moved += usize::from(*to != from);
        *to = from;
    }
    moved
}

#[inline(always)]
fn lanes(ruler: Ruler, targets: &[f32; LANES], codes: &mut [u8; LANES]) -> usize {
    let mut next = [0; LANES];
    for i in 0..LANES {
        next[i] = nearest(ruler, targets[i], codes[i]);
    }
    let mut moved = 0;
    for i in 0..LANES {
        moved += u8::from(codes[i] != next[i]);
    }
    *codes = next;
    usize::from(moved)
}

/// The nearest code: one division, then a look at both neighbours.
#[inline(always)]
fn nearest(ruler: Ruler, target: f32, present: u8) -> u8 {
    let x = ruler.sign * target;
    let x = if x > ruler.low { x } else { ruler.low };
    let x = if x < ruler.high { x } else { ruler.high };
    let place = ((x - ruler.base) / ruler.scale + ROUNDER) - ROUNDER;
    let place = if place > ruler.first { place } else { ruler.first };
    let place = if place < ruler.last { place } else { ruler.last };
    let value = |place: f32| f64::from(ruler.scale * place + ruler.base);
    let (below, here, above) = (value(place - 1.0), value(place), value(place + 1.0));
    // Twice the weight against sums of two neighbours, which f64 holds exactly: the values of F16
    // parameters are whole numbers of 2^-24 below 2^30, others have no base.
    let (twice, under, over) = (2.0 * f64::from(x), below + here, here + above);
    let down = if twice <= under { 1.0 } else { 0.0 };
    let up = if twice > over { 1.0 } else { 0.0 };
    let least = (place - down) + up;
    // Between two codes at the same distance, the present one is kept.
    let tied = (twice == under) | (twice == over);
    let kept = if tied & (f32::from(present) - ruler.middle == least + 1.0) { 1.0 } else { 0.0 };
    (((least + kept) + ruler.middle) + ROUNDER).to_bits() as u8
}

//! Base pairs as they are stored, and the scales that they stand for.

use niwaki_codes::half_floats::{f16_to_f32, f32_to_f16};
use niwaki_codes::simd::Level;
use niwaki_codes::stamp;

use super::block::Line;
use super::kernel::within;
use crate::distortion::LANES;

/// Base pairs of sixteen groups. The sign bit of a half says that cells are curved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bases {
    pub(super) middle: [u16; LANES],
    pub(super) half: [u16; LANES],
}

/// The sign bit of a half.
pub(super) const CURVED: u16 = 0x8000;

/// The scale of each lane: a position `t` from -1 to 1 stands for
/// `middle + half * (t * (straight + cube * t^2) - lean * (1 - t^2))`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rulers {
    pub(super) middle: Line,
    pub(super) half: Line,
    /// One over the half; 0 for a group without a range, whose weights are all the middle.
    pub(super) over: Line,
    pub(super) straight: Line,
    pub(super) cube: Line,
    pub(super) lean: Line,
}

impl Bases {
    pub(super) const ZERO: Self = Self { middle: [0; LANES], half: [0; LANES] };

    /// Flat pairs that cover `low..=high`.
    pub(super) fn covering(level: Level, low: &Line, high: &Line) -> Self {
        covering(level, low, high)
    }

    /// Pairs nearest to `low..=high`, with the sign bits of `curve`.
    pub(super) fn nearest(level: Level, low: &Line, high: &Line, curve: &[u16; LANES]) -> Self {
        nearest(level, low, high, curve)
    }

    /// The scales that the pairs stand for.
    pub(super) fn rulers(&self, level: Level) -> Rulers {
        rulers(level, self)
    }

    /// Whether F16 holds the pair of lane `i`.
    pub(super) fn is_finite(&self, i: usize) -> bool {
        f16_to_f32(self.middle[i]).is_finite() && f16_to_f32(self.half[i]).is_finite()
    }
}

stamp! {
    fn covering = covering_body(low: &Line, high: &Line) -> Bases;
}

stamp! {
    fn nearest = nearest_body(low: &Line, high: &Line, curve: &[u16; LANES]) -> Bases;
}

stamp! {
    fn rulers = rulers_body(bases: &Bases) -> Rulers;
}

#[inline(always)]
fn covering_body(low: &Line, high: &Line) -> Bases {
    let mut all = Bases::ZERO;
    for i in 0..LANES {
        let middle = f32_to_f16(low[i] * 0.5 + high[i] * 0.5);
        let m = f16_to_f32(middle);
        let (above, below) = (high[i] - m, m - low[i]);
        let reach = if above > below { above } else { below };
        let half = f32_to_f16(reach);
        all.middle[i] = middle;
        all.half[i] = half + u16::from(f16_to_f32(half) < reach);
    }
    all
}

#[inline(always)]
fn nearest_body(low: &Line, high: &Line, curve: &[u16; LANES]) -> Bases {
    let mut all = Bases::ZERO;
    for i in 0..LANES {
        all.middle[i] = f32_to_f16(low[i] * 0.5 + high[i] * 0.5);
        all.half[i] = f32_to_f16(high[i] * 0.5 - low[i] * 0.5) | curve[i];
    }
    all
}

#[inline(always)]
fn rulers_body(bases: &Bases) -> Rulers {
    let zero = [0.0; LANES];
    let mut all = Rulers { middle: zero, half: zero, over: zero, straight: zero, cube: zero, lean: zero };
    for i in 0..LANES {
        let (m, h) = (f16_to_f32(bases.middle[i]), f16_to_f32(bases.half[i] & !CURVED));
        let over = if h > 0.0 { 1.0 / h } else { 0.0 };
        let curved = bases.half[i] & CURVED != 0;
        all.middle[i] = m;
        all.half[i] = h;
        all.over[i] = over;
        all.straight[i] = if curved { 0.75 } else { 1.0 };
        all.cube[i] = if curved { 0.25 } else { 0.0 };
        all.lean[i] = if curved { m * 0.5 * over } else { 0.0 };
    }
    all
}

impl Rulers {
    /// Whether any lane is curved.
    #[inline(always)]
    pub(super) fn curved(&self) -> bool {
        self.cube.iter().any(|cube| *cube > 0.0)
    }

    /// Where `t` lies on the scale of lane `i`, in halves from the middle.
    #[inline(always)]
    pub(super) fn bend(&self, i: usize, t: f32) -> f32 {
        let tt = t * t;
        t * (self.straight[i] + self.cube[i] * tt) - self.lean[i] * (1.0 - tt)
    }

    /// The slope of [`bend`](Self::bend).
    #[inline(always)]
    pub(super) fn slope(&self, i: usize, t: f32) -> f32 {
        self.straight[i] + 3.0 * self.cube[i] * (t * t) + 2.0 * self.lean[i] * t
    }

    /// The inverse of [`bend`](Self::bend) for `s` in -1..=1, by Newton's method. The
    /// lean lies within a quarter, where the scale rises.
    #[inline(always)]
    pub(super) fn unbend(&self, i: usize, s: f32) -> f32 {
        let near = s + self.lean[i] * (1.0 - s * s);
        let third = self.cube[i] * 1.333_333_4;
        let mut t = near * (1.0 + third - third * (near * near));
        for _ in 0..3 {
            t -= (self.bend(i, t) - s) / self.slope(i, t);
        }
        within(t, -1.0, 1.0)
    }
}

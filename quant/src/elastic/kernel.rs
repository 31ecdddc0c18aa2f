//! The loops over the weights of a block.

use niwaki_codes::{Widths, stamp};

use super::block::{Block, Line};
use super::ruler::Rulers;
use crate::distortion::LANES;

/// Sums of a least-squares line through the levels of one width: `r` is the weight
/// less what does not move, `y` the position that the gain multiplies.
#[derive(Clone, Copy)]
pub(super) struct Sums {
    pub(super) r: Line,
    pub(super) y: Line,
    pub(super) ry: Line,
    pub(super) yy: Line,
}

impl Sums {
    pub(super) const ZERO: Self = Self { r: [0.0; LANES], y: [0.0; LANES], ry: [0.0; LANES], yy: [0.0; LANES] };
}

/// What each lane spans.
#[derive(Clone, Copy)]
pub(super) struct Extent {
    pub(super) low: Line,
    pub(super) high: Line,
    /// The bits of the largest magnitude; at least [`INFINITE`] if one is not finite.
    pub(super) largest: [u32; LANES],
}

/// The bits of infinity.
pub(super) const INFINITE: u32 = 0x7F80_0000;

impl Extent {
    pub(super) const EMPTY: Self =
        Self { low: [f32::INFINITY; LANES], high: [f32::NEG_INFINITY; LANES], largest: [0; LANES] };

    /// What all lanes span, in each of them.
    pub(super) fn join(&mut self) {
        let (mut low, mut high, mut largest) = (self.low[0], self.high[0], 0);
        for i in 0..LANES {
            low = if self.low[i] < low { self.low[i] } else { low };
            high = if self.high[i] > high { self.high[i] } else { high };
            largest = self.largest[i].max(largest);
        }
        *self = Self { low: [low; LANES], high: [high; LANES], largest: [largest; LANES] };
    }
}

/// What each lane loses at one width. `levels` are the four numbers of `ElasticView::levels`.
#[derive(Clone, Copy)]
pub(super) struct Lost {
    pub(super) levels: [Line; 4],
    pub(super) noise: Line,
    pub(super) max_abs: Line,
}

impl Lost {
    pub(super) const ZERO: Self = Self { levels: [[0.0; LANES]; 4], noise: [0.0; LANES], max_abs: [0.0; LANES] };
}

stamp! {
    /// Widens the extent to what the block spans.
    pub(super) fn extent = extent_body(block: &Block, extent: &mut Extent) -> ();
}

stamp! {
    /// Fills in the codes of the block, of `bits` bits.
    pub(super) fn codes = codes_body(block: &mut Block, rulers: &Rulers, bits: u32) -> ();
}

stamp! {
    /// Adds the sums of each width.
    pub(super) fn sums = sums_body(block: &Block, rulers: &Rulers, widths: Widths, all: &mut [Sums; 9]) -> ();
}

stamp! {
    /// Adds the squares of the weights, and what each width loses.
    pub(super) fn lost = lost_body(block: &Block, widths: Widths, signal: &mut Line, all: &mut [Lost; 9]) -> ();
}

#[inline(always)]
fn extent_body(block: &Block, extent: &mut Extent) {
    let Extent { mut low, mut high, mut largest } = *extent;
    for x in block.x.iter().take(block.depth) {
        for i in 0..LANES {
            low[i] = if x[i] < low[i] { x[i] } else { low[i] };
            high[i] = if x[i] > high[i] { x[i] } else { high[i] };
            largest[i] = (x[i].to_bits() & 0x7FFF_FFFF).max(largest[i]);
        }
    }
    *extent = Extent { low, high, largest };
}

#[inline(always)]
fn codes_body(block: &mut Block, rulers: &Rulers, bits: u32) {
    if rulers.curved() {
        codes_of::<true>(block, rulers, bits);
    } else {
        codes_of::<false>(block, rulers, bits);
    }
}

#[inline(always)]
fn codes_of<const CURVED: bool>(block: &mut Block, rulers: &Rulers, bits: u32) {
    let cells = (1u32 << (bits - 1)) as f32;
    for (x, codes) in block.x.iter().zip(&mut block.codes).take(block.depth) {
        for i in 0..LANES {
            let s = within((x[i] - rulers.middle[i]) * rulers.over[i], -1.0, 1.0);
            let t = if CURVED { rulers.unbend(i, s) } else { s };
            codes[i] = floor(within(t * cells + cells, 0.0, 2.0 * cells - 0.5));
        }
    }
}

/// The whole part of a number from 0 to 255.
#[inline(always)]
fn floor(w: f32) -> u8 {
    // Adding 2^23 leaves the nearest whole number in the low bits.
    const ROUNDER: f32 = 8_388_608.0;
    let near = w + ROUNDER;
    let above = near - ROUNDER > w;
    near.to_bits().wrapping_sub(u32::from(above)) as u8
}

#[inline(always)]
pub(super) fn within(x: f32, low: f32, high: f32) -> f32 {
    let x = if x > low { x } else { low };
    if x < high { x } else { high }
}

#[inline(always)]
fn sums_body(block: &Block, rulers: &Rulers, widths: Widths, all: &mut [Sums; 9]) {
    let widest = widths.widest().get();
    for width in widths.iter() {
        let b = width.get();
        if rulers.curved() {
            sums_of::<true>(block, rulers, b, widest - b, &mut all[b as usize]);
        } else {
            sums_of::<false>(block, rulers, b, widest - b, &mut all[b as usize]);
        }
    }
}

#[inline(always)]
fn sums_of<const CURVED: bool>(block: &Block, rulers: &Rulers, bits: u32, drop: u32, to: &mut Sums) {
    let low = 1 - (1i32 << bits);
    let small = 1.0 / (1u32 << bits) as f32;
    let mut sums = *to;
    let mut add = |x: &Line, codes: &[u8; LANES], keep: &[bool; LANES]| {
        for i in 0..LANES {
            let t = (2 * i32::from(codes[i] >> drop) + low) as f32 * small;
            let tt = t * t;
            let y = if CURVED { t * (rulers.straight[i] + rulers.cube[i] * tt) } else { t };
            let r = x[i] - rulers.middle[i];
            let r = if CURVED { r + rulers.lean[i] * rulers.half[i] * (1.0 - tt) } else { r };
            let (r, y) = if keep[i] { (r, y) } else { (0.0, 0.0) };
            sums.r[i] += r;
            sums.y[i] += y;
            sums.ry[i] += r * y;
            sums.yy[i] += y * y;
        }
    };
    for (x, codes) in block.x.iter().zip(&block.codes).take(block.full) {
        add(x, codes, &[true; LANES]);
    }
    for at in block.full..block.depth {
        add(&block.x[at], &block.codes[at], &block.kept(at));
    }
    *to = sums;
}

#[inline(always)]
fn lost_body(block: &Block, widths: Widths, signal: &mut Line, all: &mut [Lost; 9]) {
    let mut squares = *signal;
    let mut add = |x: &Line, keep: &[bool; LANES]| {
        for i in 0..LANES {
            squares[i] += if keep[i] { x[i] * x[i] } else { 0.0 };
        }
    };
    for x in block.x.iter().take(block.full) {
        add(x, &[true; LANES]);
    }
    for at in block.full..block.depth {
        add(&block.x[at], &block.kept(at));
    }
    *signal = squares;
    let widest = widths.widest().get();
    for width in widths.iter() {
        let (b, lost) = (width.get(), &mut all[width.get() as usize]);
        // Without a square and a cube the same floats come out of less.
        let curved = lost.levels[3].iter().any(|c3| *c3 != 0.0);
        if curved {
            lost_of::<true>(block, b, widest - b, lost);
        } else {
            lost_of::<false>(block, b, widest - b, lost);
        }
    }
}

#[inline(always)]
fn lost_of<const CURVED: bool>(block: &Block, bits: u32, drop: u32, to: &mut Lost) {
    let low = 1 - (1i32 << bits);
    let Lost { levels: [c0, c1, c2, c3], mut noise, mut max_abs } = *to;
    let mut add = |x: &Line, codes: &[u8; LANES], keep: &[bool; LANES]| {
        for i in 0..LANES {
            let u = (2 * i32::from(codes[i] >> drop) + low) as f32;
            let rise = if CURVED { c1[i] + u * (c2[i] + u * c3[i]) } else { c1[i] };
            let error = x[i] - (c0[i] + u * rise);
            let error = if keep[i] { error } else { 0.0 };
            noise[i] += error * error;
            let size = error.abs();
            max_abs[i] = if size > max_abs[i] { size } else { max_abs[i] };
        }
    };
    for (x, codes) in block.x.iter().zip(&block.codes).take(block.full) {
        add(x, codes, &[true; LANES]);
    }
    for at in block.full..block.depth {
        add(&block.x[at], &block.codes[at], &block.kept(at));
    }
    (to.noise, to.max_abs) = (noise, max_abs);
}

impl Block {
    /// Which lanes have a weight in a line.
    #[inline(always)]
    pub(super) fn kept(&self, line: usize) -> [bool; LANES] {
        let mut kept = [false; LANES];
        for (kept, count) in kept.iter_mut().zip(&self.count) {
            *kept = (line as u32) < *count;
        }
        kept
    }
}

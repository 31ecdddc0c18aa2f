//! The loops over the weights of one group.
//!
//! Sums run in sixteen lanes, as everywhere in this crate. A last vector that is not
//! full is filled up with the middle of the group, and what it adds is dropped.

use niwaki_codes::{Widths, stamp};

use crate::distortion::{LANES, fold};

/// Middle and half of a group as they are stored, and how its cells are spaced.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Ruler {
    pub(super) middle: f32,
    pub(super) half: f32,
    pub(super) curved: bool,
}

/// Sums of a least-squares line through the levels of one width: `r` is the weight
/// less what does not move, `y` the position that the gain multiplies.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums {
    pub(super) r: f32,
    pub(super) y: f32,
    pub(super) ry: f32,
    pub(super) yy: f32,
}

impl Sums {
    pub(super) fn add(&mut self, next: &Self) {
        self.r += next.r;
        self.y += next.y;
        self.ry += next.ry;
        self.yy += next.yy;
    }
}

/// What some weights span.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Extent {
    pub(super) low: f32,
    pub(super) high: f32,
    /// The bits of the largest magnitude; at least [`INFINITE`] if one is not finite.
    pub(super) largest: u32,
}

/// The bits of infinity.
pub(super) const INFINITE: u32 = 0x7F80_0000;

impl Extent {
    /// The extent of both.
    pub(super) fn with(&self, next: &Self) -> Self {
        Self {
            low: if next.low < self.low { next.low } else { self.low },
            high: if next.high > self.high { next.high } else { self.high },
            largest: self.largest.max(next.largest),
        }
    }
}

/// Lanes that sum what each width lost.
#[derive(Clone, Copy)]
pub(super) struct Lanes {
    pub(super) signal: [f32; LANES],
    pub(super) noise: [[f32; LANES]; 9],
    pub(super) max_abs: [[f32; LANES]; 9],
}

impl Lanes {
    pub(super) const ZERO: Self = Self { signal: [0.0; LANES], noise: [[0.0; LANES]; 9], max_abs: [[0.0; LANES]; 9] };
}

stamp! {
    /// What `x` spans; 0 to 0 for none.
    pub(super) fn extent = extent_body(x: &[f32]) -> Extent;
}

stamp! {
    /// The codes of `x`, of `bits` bits.
    pub(super) fn codes = codes_body(x: &[f32], ruler: &Ruler, bits: u32, codes: &mut [u8]) -> ();
}

stamp! {
    /// The sums of each width over `x` and its codes.
    pub(super) fn sums = sums_body(x: &[f32], ruler: &Ruler, codes: &[u8], widths: Widths) -> [Sums; 9];
}

stamp! {
    /// Adds what each width loses on `x`; `levels` are those of `ElasticView::levels`.
    pub(super) fn lost = lost_body(x: &[f32], codes: &[u8], levels: &[[f32; 4]; 9], widths: Widths, lanes: &mut Lanes)
        -> ();
}

#[inline(always)]
fn extent_body(x: &[f32]) -> Extent {
    let first = x.first().copied().unwrap_or(0.0);
    let (mut low, mut high, mut largest) = ([first; LANES], [first; LANES], [0; LANES]);
    let mut add = |x: &[f32; LANES]| {
        for i in 0..LANES {
            low[i] = if x[i] < low[i] { x[i] } else { low[i] };
            high[i] = if x[i] > high[i] { x[i] } else { high[i] };
            largest[i] = (x[i].to_bits() & 0x7FFF_FFFF).max(largest[i]);
        }
    };
    let (full, rest) = x.as_chunks::<LANES>();
    full.iter().for_each(&mut add);
    let mut last = [first; LANES];
    last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    add(&last);
    let mut all = Extent { low: first, high: first, largest: 0 };
    for i in 0..LANES {
        all = all.with(&Extent { low: low[i], high: high[i], largest: largest[i] });
    }
    all
}

#[inline(always)]
fn codes_body(x: &[f32], ruler: &Ruler, bits: u32, codes: &mut [u8]) {
    if ruler.curved {
        codes_of::<true>(x, ruler, bits, codes);
    } else {
        codes_of::<false>(x, ruler, bits, codes);
    }
}

#[inline(always)]
fn codes_of<const CURVED: bool>(x: &[f32], ruler: &Ruler, bits: u32, codes: &mut [u8]) {
    let cells = (1u32 << (bits - 1)) as f32;
    // Of a group without a range every weight is the middle.
    let over = if ruler.half > 0.0 { 1.0 / ruler.half } else { 0.0 };
    let lean = ruler.middle * 0.5 * over;
    let code = |x: f32| {
        let s = within((x - ruler.middle) * over, -1.0, 1.0);
        let t = if CURVED { unbend(s, lean) } else { s };
        floor(within(t * cells + cells, 0.0, 2.0 * cells - 0.5))
    };
    let (full, rest) = x.as_chunks::<LANES>();
    let (to, last) = codes.as_chunks_mut::<LANES>();
    for (x, to) in full.iter().zip(to) {
        *to = x.map(code);
    }
    last.iter_mut().zip(rest).for_each(|(to, x)| *to = code(*x));
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
fn within(x: f32, low: f32, high: f32) -> f32 {
    let x = if x > low { x } else { low };
    if x < high { x } else { high }
}

/// Solves `s = 3/4 t + 1/4 t^3 - lean (1 - t^2)` for `t` in -1..=1, by Newton's method.
/// `lean` lies within a quarter, where the right side rises.
#[inline(always)]
pub(super) fn unbend(s: f32, lean: f32) -> f32 {
    let near = s + lean * (1.0 - s * s);
    let mut t = near * (1.333_333_4 - 0.333_333_34 * (near * near));
    for _ in 0..3 {
        let tt = t * t;
        let gone = t * (0.75 + 0.25 * tt) - lean * (1.0 - tt) - s;
        t -= gone / (0.75 + 0.75 * tt + 2.0 * lean * t);
    }
    within(t, -1.0, 1.0)
}

#[inline(always)]
fn sums_body(x: &[f32], ruler: &Ruler, codes: &[u8], widths: Widths) -> [Sums; 9] {
    let widest = widths.widest().get();
    let mut all = [Sums::default(); 9];
    for width in widths.iter() {
        let b = width.get();
        all[b as usize] = if ruler.curved {
            sums_of::<true>(x, ruler, codes, b, widest - b)
        } else {
            sums_of::<false>(x, ruler, codes, b, widest - b)
        };
    }
    all
}

#[inline(always)]
fn sums_of<const CURVED: bool>(x: &[f32], ruler: &Ruler, codes: &[u8], bits: u32, drop: u32) -> Sums {
    let low = 1 - (1i32 << bits);
    let small = 1.0 / (1u32 << bits) as f32;
    let lean = ruler.middle * 0.5;
    let mut sums = [[0.0; LANES]; 4];
    let mut add = |x: &[f32; LANES], codes: &[u8; LANES], n: usize| {
        for i in 0..LANES {
            let t = (2 * i32::from(codes[i] >> drop) + low) as f32 * small;
            let tt = t * t;
            let y = if CURVED { t * (0.75 + 0.25 * tt) } else { t };
            let r = x[i] - ruler.middle;
            let r = if CURVED { r + lean * (1.0 - tt) } else { r };
            let (r, y) = if i < n { (r, y) } else { (0.0, 0.0) };
            sums[0][i] += r;
            sums[1][i] += y;
            sums[2][i] += r * y;
            sums[3][i] += y * y;
        }
    };
    for_vectors(x, codes, |x, codes, n| add(x, codes, n));
    Sums { r: fold(sums[0]), y: fold(sums[1]), ry: fold(sums[2]), yy: fold(sums[3]) }
}

/// Whole vectors with `LANES`, then the rest, filled up, with their count.
#[inline(always)]
fn for_vectors(x: &[f32], codes: &[u8], mut f: impl FnMut(&[f32; LANES], &[u8; LANES], usize)) {
    let ((full, rest), (codes, last)) = (x.as_chunks::<LANES>(), codes.as_chunks::<LANES>());
    for (x, codes) in full.iter().zip(codes) {
        f(x, codes, LANES);
    }
    if !rest.is_empty() {
        let (mut x, mut codes) = ([0.0; LANES], [0; LANES]);
        x.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        codes.iter_mut().zip(last).for_each(|(to, from)| *to = *from);
        f(&x, &codes, rest.len());
    }
}

#[inline(always)]
fn lost_body(x: &[f32], codes: &[u8], levels: &[[f32; 4]; 9], widths: Widths, lanes: &mut Lanes) {
    let mut signal = lanes.signal;
    for_vectors(x, codes, |x, _, n| {
        for i in 0..LANES {
            signal[i] += if i < n { x[i] * x[i] } else { 0.0 };
        }
    });
    lanes.signal = signal;
    let widest = widths.widest().get();
    for width in widths.iter() {
        let b = width.get() as usize;
        let [c0, c1, c2, c3] = levels[b];
        let (low, drop) = (1 - (1i32 << b), widest - width.get());
        let (mut noise, mut max_abs) = (lanes.noise[b], lanes.max_abs[b]);
        for_vectors(x, codes, |x, codes, n| {
            for i in 0..LANES {
                let u = (2 * i32::from(codes[i] >> drop) + low) as f32;
                let error = x[i] - (c0 + u * (c1 + u * (c2 + u * c3)));
                let error = if i < n { error } else { 0.0 };
                noise[i] += error * error;
                let size = error.abs();
                max_abs[i] = if size > max_abs[i] { size } else { max_abs[i] };
            }
        });
        (lanes.noise[b], lanes.max_abs[b]) = (noise, max_abs);
    }
}

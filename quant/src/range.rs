//! Widening weights to a tile, and what their groups span.
//!
//! Ends of ranges are found as integers. Of the bits of a float, rotated left by one,
//! the largest is that of the largest magnitude. Of the bits themselves, the largest
//! signed integer is that of the greatest float above 0, and the largest unsigned one,
//! from the sign bit up, that of the least float below 0.

use niwaki_codes::half_floats::{bf16_to_f32, f16_to_f32};
use niwaki_codes::simd::Level;
use niwaki_codes::{Symmetry, stamp};

use crate::Values;
use crate::batch::{Batch, GROUPS};
use crate::distortion::LANES;
use crate::grid::{Extent, key};
use crate::kernels::maxima;

/// Running maxima of one group.
type Lanes = [u32; LANES];

/// The bits of -0.0: where the search for the least float below 0 starts.
const BELOW: u32 = 0x8000_0000;

/// Running maxima of the groups of one tile.
#[repr(C, align(64))]
#[derive(Clone)]
pub(crate) struct Spans {
    /// Keys on a symmetric grid, else the ends above 0.
    first: [Lanes; GROUPS],
    /// The ends below 0 of an affine grid.
    below: [Lanes; GROUPS],
}

impl Spans {
    pub(crate) const EMPTY: Self = Self { first: [[0; LANES]; GROUPS], below: [[0; LANES]; GROUPS] };

    /// Widens weights to `x` from group `at` on, in groups of `padded` (a multiple of
    /// 16), fills the last one up with zeros, and takes the maxima of each.
    #[inline(always)]
    pub(crate) fn widen(
        &mut self,
        level: Level,
        values: Values<'_>,
        (at, padded): (usize, usize),
        symmetry: Symmetry,
        x: &mut [f32],
    ) {
        let (first, below) = (&mut self.first[at..], &mut self.below[at..]);
        match values {
            Values::F32(bytes) => widen_f32(level, bytes, padded, symmetry, x, first, below),
            Values::F16(bytes) => widen_f16(level, bytes, padded, symmetry, x, first, below),
            Values::Bf16(bytes) => widen_bf16(level, bytes, padded, symmetry, x, first, below),
        }
    }

    /// The extents of the first `n` groups; groups past them span nothing.
    pub(crate) fn extents(&self, level: Level, n: usize, symmetry: Symmetry, batch: &mut Batch) {
        maxima(level, &self.first[..n], &mut batch.key[..n]);
        batch.key[n..].fill(0);
        if symmetry == Symmetry::Affine {
            let mut below = [BELOW; GROUPS];
            maxima(level, &self.below[..n], &mut below[..n]);
            ends(level, &below, batch);
        }
    }
}

stamp! {
    fn ends = ends_body(below: &[u32; GROUPS], batch: &mut Batch) -> ();
}

/// From bits to ends and the key of the larger one.
#[inline(always)]
fn ends_body(below: &[u32; GROUPS], batch: &mut Batch) {
    for (i, below) in below.iter().enumerate() {
        batch.low[i] = f32::from_bits(*below);
        batch.high[i] = f32::from_bits(batch.key[i]);
        batch.key[i] = key(batch.low[i]).max(key(batch.high[i]));
    }
}

stamp! {
    fn widen_f32 = widen_f32_body(
        bytes: &[u8], padded: usize, symmetry: Symmetry, x: &mut [f32], first: &mut [Lanes], below: &mut [Lanes],
    ) -> ();
}

stamp! {
    fn widen_f16 = widen_f16_body(
        bytes: &[u8], padded: usize, symmetry: Symmetry, x: &mut [f32], first: &mut [Lanes], below: &mut [Lanes],
    ) -> ();
}

stamp! {
    fn widen_bf16 = widen_bf16_body(
        bytes: &[u8], padded: usize, symmetry: Symmetry, x: &mut [f32], first: &mut [Lanes], below: &mut [Lanes],
    ) -> ();
}

#[inline(always)]
fn widen_f32_body(
    bytes: &[u8],
    padded: usize,
    symmetry: Symmetry,
    x: &mut [f32],
    first: &mut [Lanes],
    below: &mut [Lanes],
) {
    let one = |b: &[u8; 4]| f32::from_le_bytes(*b);
    match symmetry {
        Symmetry::Symmetric => widen::<4, false>(bytes, padded, one, x, first, below),
        Symmetry::Affine => widen::<4, true>(bytes, padded, one, x, first, below),
    }
}

#[inline(always)]
fn widen_f16_body(
    bytes: &[u8],
    padded: usize,
    symmetry: Symmetry,
    x: &mut [f32],
    first: &mut [Lanes],
    below: &mut [Lanes],
) {
    let one = |b: &[u8; 2]| f16_to_f32(u16::from_le_bytes(*b));
    match symmetry {
        Symmetry::Symmetric => widen::<2, false>(bytes, padded, one, x, first, below),
        Symmetry::Affine => widen::<2, true>(bytes, padded, one, x, first, below),
    }
}

#[inline(always)]
fn widen_bf16_body(
    bytes: &[u8],
    padded: usize,
    symmetry: Symmetry,
    x: &mut [f32],
    first: &mut [Lanes],
    below: &mut [Lanes],
) {
    let one = |b: &[u8; 2]| bf16_to_f32(u16::from_le_bytes(*b));
    match symmetry {
        Symmetry::Symmetric => widen::<2, false>(bytes, padded, one, x, first, below),
        Symmetry::Affine => widen::<2, true>(bytes, padded, one, x, first, below),
    }
}

/// `SIZE` bytes a weight; `ENDS` for affine grids.
#[inline(always)]
fn widen<const SIZE: usize, const ENDS: bool>(
    bytes: &[u8],
    padded: usize,
    one: impl Fn(&[u8; SIZE]) -> f32 + Copy,
    x: &mut [f32],
    first: &mut [Lanes],
    below: &mut [Lanes],
) {
    // Whole groups of the usual lengths, unrolled; then what is left.
    let done = match padded {
        32 => widen_whole::<SIZE, ENDS, 2>(bytes, one, x, first, below),
        64 => widen_whole::<SIZE, ENDS, 4>(bytes, one, x, first, below),
        128 => widen_whole::<SIZE, ENDS, 8>(bytes, one, x, first, below),
        _ => 0,
    };
    let (bytes, x) = (&bytes[done * padded * SIZE..], &mut x[done * padded..]);
    let (first, below) = (&mut first[done..], &mut below[done..]);
    let groups = bytes.chunks(padded * SIZE).zip(x.chunks_exact_mut(padded));
    for ((bytes, x), (first, below)) in groups.zip(first.iter_mut().zip(below)) {
        let (mut high, mut low) = ([0; LANES], [BELOW; LANES]);
        let whole = bytes.len() / (LANES * SIZE);
        let (x, tail) = x.as_chunks_mut::<LANES>().0.split_at_mut(whole);
        for (bytes, x) in bytes.chunks_exact(LANES * SIZE).zip(x) {
            let (bytes, _) = bytes.as_chunks::<SIZE>();
            for (x, bytes) in x.iter_mut().zip(bytes) {
                *x = one(bytes);
            }
            span::<ENDS>(x, &mut high, &mut low);
        }
        if let [last, rest @ ..] = tail {
            rest.fill([0.0; LANES]);
            last.fill(0.0);
            let (bytes, _) = bytes[whole * LANES * SIZE..].as_chunks::<SIZE>();
            last.iter_mut().zip(bytes).for_each(|(x, bytes)| *x = one(bytes));
            span::<ENDS>(last, &mut high, &mut low);
        }
        *first = high;
        if ENDS {
            *below = low;
        }
    }
}

/// Whole groups of `V` vectors; how many there were.
#[inline(always)]
fn widen_whole<const SIZE: usize, const ENDS: bool, const V: usize>(
    bytes: &[u8],
    one: impl Fn(&[u8; SIZE]) -> f32,
    x: &mut [f32],
    first: &mut [Lanes],
    below: &mut [Lanes],
) -> usize {
    let (x, _) = x.as_chunks_mut::<LANES>();
    let (x, _) = x.as_chunks_mut::<V>();
    let groups = bytes.chunks_exact(V * LANES * SIZE).zip(x);
    let n = groups.len();
    for ((bytes, x), (first, below)) in groups.zip(first.iter_mut().zip(below)) {
        let (mut high, mut low) = ([0; LANES], [BELOW; LANES]);
        for (bytes, x) in bytes.chunks_exact(LANES * SIZE).zip(x) {
            let (bytes, _) = bytes.as_chunks::<SIZE>();
            for (x, bytes) in x.iter_mut().zip(bytes) {
                *x = one(bytes);
            }
            span::<ENDS>(x, &mut high, &mut low);
        }
        *first = high;
        if ENDS {
            *below = low;
        }
    }
    n
}

#[inline(always)]
fn span<const ENDS: bool>(x: &[f32; LANES], high: &mut Lanes, low: &mut Lanes) {
    for i in 0..LANES {
        if ENDS {
            high[i] = (x[i].to_bits() as i32).max(high[i] as i32) as u32;
            low[i] = x[i].to_bits().max(low[i]);
        } else {
            high[i] = key(x[i]).max(high[i]);
        }
    }
}

/// The extent of whole vectors of weights, running.
#[derive(Clone, Copy)]
pub(crate) struct Running {
    key: Lanes,
    high: Lanes,
    low: Lanes,
}

impl Running {
    pub(crate) const EMPTY: Self = Self { key: [0; LANES], high: [0; LANES], low: [BELOW; LANES] };

    /// The extent so far.
    pub(crate) fn extent(&self) -> Extent {
        let all = |v: &Lanes| v.iter().copied().fold(0, u32::max);
        Extent { key: all(&self.key), low: f32::from_bits(all(&self.low)), high: f32::from_bits(all(&self.high)) }
    }
}

stamp! {
    /// Takes whole vectors of weights into a running extent.
    pub(crate) fn extend = extend_body(x: &[f32], running: &mut Running) -> ();
}

#[inline(always)]
fn extend_body(x: &[f32], running: &mut Running) {
    let mut all = *running;
    for x in x.as_chunks::<LANES>().0 {
        span::<false>(x, &mut all.key, &mut [0; LANES]);
        span::<true>(x, &mut all.high, &mut all.low);
    }
    *running = all;
}

impl Extent {
    /// The extent of both.
    pub(crate) fn with(&self, other: &Self) -> Self {
        Self {
            key: self.key.max(other.key),
            low: if other.low < self.low { other.low } else { self.low },
            high: if other.high > self.high { other.high } else { self.high },
        }
    }
}

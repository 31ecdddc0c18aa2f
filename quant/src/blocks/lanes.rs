//! Sixteen sub-blocks side by side: what is done to one is done to all of them, in the
//! same order at every level, and no sum runs across lanes.
#![allow(clippy::needless_range_loop, reason = "lanes of several arrays")]

use niwaki_codes::half_floats::{f16_to_f32, f32_to_f16};

pub(super) use crate::distortion::LANES;
use crate::grid::{ROUNDER, from_key, key};

/// One number of each sub-block.
pub(super) type Lanes = [f32; LANES];

/// Weights of a block with scales of its sub-blocks.
pub(super) const SUPER: usize = 256;

/// Weights from here on are beyond every scale, and their squares may be beyond `f32`.
const BEYOND: f32 = 1e9;

/// The smallest F16 above 0.
const LEAST_HALF: f32 = 1.0 / (1 << 24) as f32;

/// Weights below this are zero in every type.
const NOTHING: f32 = 1e-30;

#[inline(always)]
pub(super) fn min(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

#[inline(always)]
pub(super) fn max(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// One of two numbers by a mask of bits: a choice that is no branch, so that it vectorizes.
#[inline(always)]
pub(super) fn choose(first: bool, a: f32, b: f32) -> f32 {
    let mask = u32::from(first).wrapping_neg();
    f32::from_bits(a.to_bits() & mask | b.to_bits() & !mask)
}

/// To nearest, ties to even, below 2^22.
#[inline(always)]
pub(super) fn round(x: f32) -> f32 {
    (x + ROUNDER) - ROUNDER
}

/// The nearest whole number from `low` to `high`.
#[inline(always)]
pub(super) fn whole(x: f32, low: f32, high: f32) -> f32 {
    min(max(x + ROUNDER, ROUNDER + low), ROUNDER + high) - ROUNDER
}

/// The lowest eight bits of [`whole`], which is a code as it is or in two's complement.
#[inline(always)]
pub(super) fn whole_bits(x: f32, low: f32, high: f32) -> u8 {
    min(max(x + ROUNDER, ROUNDER + low), ROUNDER + high).to_bits() as u8
}

/// The lowest eight bits of a whole number.
#[inline(always)]
pub(super) fn bits(x: f32) -> u8 {
    (x + ROUNDER).to_bits() as u8
}

/// The inverse, or 0 of what is too near to 0.
#[inline(always)]
pub(super) fn inverse(x: f32) -> f32 {
    choose(x.abs() > NOTHING, 1.0 / x, 0.0)
}

/// The nearest F16.
#[inline(always)]
pub(super) fn half(x: f32) -> f32 {
    f16_to_f32(f32_to_f16(x))
}

/// Runs of `N` weights, a multiple of 16, as columns; 0 where there are less than sixteen.
#[inline(always)]
pub(super) fn columns<const N: usize>(x: &[f32]) -> [Lanes; N] {
    let mut columns = [[0.0; LANES]; N];
    for (part, columns) in columns.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        for (run, row) in x.as_chunks::<N>().0.iter().zip(&mut *columns) {
            *row = run.as_chunks().0[part];
        }
        transpose(columns);
    }
    columns
}

/// A riffle, first the first of each half, moves the highest bit of every place to the
/// lowest. Four of them swap row and column, in whole vectors.
#[inline(always)]
fn transpose(square: &mut [Lanes; LANES]) {
    let mut other = [[0.0; LANES]; LANES];
    for _ in 0..2 {
        riffle(square, &mut other);
        riffle(&other, square);
    }
}

#[inline(always)]
fn riffle(from: &[Lanes; LANES], to: &mut [Lanes; LANES]) {
    let (first, second) = from.split_at(LANES / 2);
    for (to, (first, second)) in to.as_chunks_mut::<2>().0.iter_mut().zip(first.iter().zip(second)) {
        for i in 0..LANES {
            to[i / 8][i % 8 * 2] = first[i];
            to[i / 8][i % 8 * 2 + 1] = second[i];
        }
    }
}

/// The sum of each run of `each` lanes (1, 8 or all 16), in all of its lanes.
#[inline(always)]
pub(super) fn total(each: usize, v: &Lanes) -> Lanes {
    let mut sums = [0.0; 2];
    for (sum, v) in sums.iter_mut().zip(v.as_chunks::<8>().0) {
        *sum = ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
    }
    match each {
        LANES => [sums[0] + sums[1]; LANES],
        8 => spread(sums),
        _ => *v,
    }
}

/// Of each run of `each` lanes (1, 8 or all 16), the number of largest magnitude, in all of
/// its lanes.
#[inline(always)]
pub(super) fn farthest(each: usize, v: &Lanes) -> Lanes {
    let mut most = [0; 2];
    for (most, v) in most.iter_mut().zip(v.as_chunks::<8>().0) {
        for v in v {
            *most = key(*v).max(*most);
        }
    }
    match each {
        LANES => [from_key(most[0].max(most[1])); LANES],
        8 => spread([from_key(most[0]), from_key(most[1])]),
        _ => *v,
    }
}

/// A number for each half of the lanes.
#[inline(always)]
fn spread(of: [f32; 2]) -> Lanes {
    let mut all = [of[0]; LANES];
    for lane in LANES / 2..LANES {
        all[lane] = of[1];
    }
    all
}

/// As [`unit`], of what whole steps multiply: never rounded to 0, where fewer steps do.
#[inline(always)]
pub(super) fn unit_of_steps(wanted: f32, farthest: f32) -> f32 {
    let least = choose(wanted != 0.0, LEAST_HALF.copysign(wanted), 0.0);
    unit(choose(wanted.abs() > LEAST_HALF, wanted, least), farthest)
}

/// A unit as F16, or an infinity where a weight is beyond every unit.
#[inline(always)]
pub(super) fn unit(wanted: f32, farthest: f32) -> f32 {
    if farthest.abs() < BEYOND { half(wanted) } else { f32::INFINITY }
}

/// Keeps the compiler from spreading codes over registers, to pack them a byte at a time.
#[inline(always)]
pub(super) fn in_memory<const N: usize>(codes: &mut [u8; N]) {
    core::hint::black_box(codes);
}

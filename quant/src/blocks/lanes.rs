//! Sixteen sub-blocks side by side: what is done to one is done to all of them, in the
//! same order at every level, and no sum runs across lanes.
#![allow(clippy::needless_range_loop, reason = "lanes of several arrays")]

use niwaki_codes::half_floats::{f16_to_f32, f32_to_f16};

pub(super) use crate::distortion::LANES;
use crate::grid::ROUNDER;

/// One number of each sub-block.
pub(super) type Lanes = [f32; LANES];

/// Weights of a block with scales of its sub-blocks.
pub(super) const SUPER: usize = 256;

/// Weights from here on are beyond every scale, and their squares may be beyond `f32`.
const BEYOND: f32 = 1e9;

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

/// The inverse, or 0 of what is too near to 0.
#[inline(always)]
pub(super) fn inverse(x: f32) -> f32 {
    if x.abs() > NOTHING { 1.0 / x } else { 0.0 }
}

/// The nearest F16.
#[inline(always)]
pub(super) fn half(x: f32) -> f32 {
    f16_to_f32(f32_to_f16(x))
}

/// Runs of `N` weights as columns; 0 where there are less than sixteen.
#[inline(always)]
pub(super) fn columns<const N: usize>(x: &[f32]) -> [Lanes; N] {
    let mut columns = [[0.0; LANES]; N];
    for (lane, run) in x.as_chunks::<N>().0.iter().enumerate().take(LANES) {
        for i in 0..N {
            columns[i][lane] = run[i];
        }
    }
    columns
}

/// The sum of each run of `each` lanes, in all of its lanes.
#[inline(always)]
pub(super) fn total(each: usize, v: &Lanes) -> Lanes {
    let mut sums = [0.0; LANES];
    for start in (0..LANES).step_by(each) {
        let mut sum = 0.0;
        for lane in start..start + each {
            sum += v[lane];
        }
        for lane in start..start + each {
            sums[lane] = sum;
        }
    }
    sums
}

/// Of each run of `each` lanes the number of largest magnitude, in all of its lanes.
#[inline(always)]
pub(super) fn farthest(each: usize, v: &Lanes) -> Lanes {
    let mut all = [0.0; LANES];
    for start in (0..LANES).step_by(each) {
        let mut most = 0.0f32;
        for lane in start..start + each {
            most = if v[lane].abs() > most.abs() { v[lane] } else { most };
        }
        for lane in start..start + each {
            all[lane] = most;
        }
    }
    all
}

/// A unit as F16, or an infinity where a weight is beyond every unit.
#[inline(always)]
pub(super) fn unit(wanted: f32, farthest: f32) -> f32 {
    if farthest.abs() < BEYOND { half(wanted) } else { f32::INFINITY }
}

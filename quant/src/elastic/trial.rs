//! What a range would lose, without encoding it.
//!
//! The position `t` of a weight on a candidate's scale, -1 to 1, gives its code of
//! eight bits and how far it lies from the middle of that cell. The middles of wider
//! cells follow bit by bit: each bit of the code says on which side of the next middle
//! it lies. All widths are tried; those not served weigh nothing.
//!
//! Widths up to 3 take the error to the level exactly and allow for shift and gain.
//! Wider ones take it as the distance in `t` times the slope, and allow for a shift
//! only: their cells are too small for the curve to matter.

use niwaki_codes::stamp;

use super::block::{Block, DEPTH, Line};
use super::kernel::within;
use super::ruler::Rulers;
use crate::distortion::LANES;
use crate::grid::ROUNDER;

/// The widest width whose levels are taken exactly.
const EXACT: usize = 3;

/// Where the weights of a block lie.
#[repr(C, align(64))]
pub(super) struct Trial {
    /// Positions on the curved scale from which the search starts, and one over the slope there.
    start: [Line; DEPTH],
    over: [Line; DEPTH],
    /// On a candidate's scale: the weight less the middle in halves, its position,
    /// what is lost at the ends of the scale, and the slope.
    z: [Line; DEPTH],
    t: [Line; DEPTH],
    rest: [Line; DEPTH],
    slope: [Line; DEPTH],
    /// The code of eight bits in the lowest bits, and how far a position is from the
    /// middle of its cell.
    code: [[u32; LANES]; DEPTH],
    far: [Line; DEPTH],
}

impl Trial {
    pub(super) const EMPTY: Self = {
        let lines = [[0.0; LANES]; DEPTH];
        let code = [[0; LANES]; DEPTH];
        Self { start: lines, over: lines, z: lines, t: lines, rest: lines, slope: lines, code, far: lines }
    };
}

/// Sums over the errors of one width: `e` the error, `y` what the gain multiplies.
#[derive(Clone, Copy)]
pub(super) struct Errors {
    pub(super) e: Line,
    pub(super) ee: Line,
    pub(super) y: Line,
    pub(super) yy: Line,
    pub(super) ey: Line,
}

impl Errors {
    pub(super) const ZERO: Self =
        Self { e: [0.0; LANES], ee: [0.0; LANES], y: [0.0; LANES], yy: [0.0; LANES], ey: [0.0; LANES] };
}

stamp! {
    /// Places the weights of a block on the curved scales from which the search starts.
    pub(super) fn place = place_body(block: &Block, rulers: &Rulers, trial: &mut Trial) -> ();
}

stamp! {
    /// Adds the errors of each width on other scales nearby, in units of their halves.
    pub(super) fn errors = errors_body(block: &Block, rulers: &Rulers, trial: &mut Trial, all: &mut [Errors; 9]) -> ();
}

stamp! {
    /// The weighted sum over the widths of the squared errors over `n` weights that
    /// shift and gain leave.
    pub(super) fn loss = loss_body(rulers: &Rulers, all: &[Errors; 9], n: &Line, weights: &[f32; 9]) -> Line;
}

#[inline(always)]
fn place_body(block: &Block, rulers: &Rulers, trial: &mut Trial) {
    let lines = trial.start.iter_mut().zip(&mut trial.over);
    for ((start, over), x) in lines.zip(&block.x).take(block.depth) {
        for i in 0..LANES {
            let t = rulers.unbend(i, (x[i] - rulers.middle[i]) * rulers.over[i]);
            start[i] = t;
            over[i] = 1.0 / rulers.slope(i, t);
        }
    }
}

#[inline(always)]
fn errors_body(block: &Block, rulers: &Rulers, trial: &mut Trial, all: &mut [Errors; 9]) {
    if rulers.curved() {
        move_to::<true>(block, rulers, trial);
    } else {
        move_to::<false>(block, rulers, trial);
    }
    for b in (2..=8).rev() {
        if b > EXACT {
            nearby(block, trial, b as u32, &mut all[b]);
        } else {
            exact(block, rulers, trial, b as u32, &mut all[b]);
        }
    }
}

/// Places the weights on a candidate's scale: two steps of Newton's method with the
/// slopes of the start, which are close enough. A flat scale is its own position.
/// Lanes without a weight lose nothing.
#[inline(always)]
fn move_to<const BENT: bool>(block: &Block, rulers: &Rulers, trial: &mut Trial) {
    for at in 0..block.depth.min(DEPTH) {
        let (x, start, over) = (&block.x[at], &trial.start[at], &trial.over[at]);
        for i in 0..LANES {
            let z = (x[i] - rulers.middle[i]) * rulers.over[i];
            let mut t = z;
            if BENT {
                t = start[i];
                t -= (rulers.bend(i, t) - z) * over[i];
                t -= (rulers.bend(i, t) - z) * over[i];
                t = if rulers.cube[i] > 0.0 { t } else { z };
            }
            let free = t;
            // The last position still falls into the last cell of 256.
            let t = within(t, -1.0, 0.998);
            let rise = if BENT { rulers.slope(i, t) } else { 1.0 };
            let end = (free - t) * rise;
            let keep = (at as u32) < block.count[i];
            trial.z[at][i] = z;
            trial.t[at][i] = t;
            trial.rest[at][i] = if keep { end } else { 0.0 };
            trial.slope[at][i] = if keep { rise } else { 0.0 };
        }
        for i in 0..LANES {
            let place = trial.t[at][i] * 128.0 - 0.5;
            let rounded = place + ROUNDER;
            trial.code[at][i] = rounded.to_bits();
            trial.far[at][i] = (place - (rounded - ROUNDER)) * 0.007_812_5;
        }
    }
}

/// How far a weight is from the middle of its cell of `bits` bits, from how far it is
/// from that of half the width. In the lower half of a cell it lies below the middle.
#[inline(always)]
fn widen(far: f32, code: u32, bits: u32) -> f32 {
    let step = (0.5 / (1u32 << bits) as f32).to_bits();
    far + f32::from_bits(step | (!(code << (24 + bits)) & 0x8000_0000))
}

#[inline(always)]
fn nearby(block: &Block, trial: &mut Trial, bits: u32, to: &mut Errors) {
    let Errors { mut e, mut ee, .. } = *to;
    for at in 0..block.depth.min(DEPTH) {
        let (rest, slope, code) = (&trial.rest[at], &trial.slope[at], &trial.code[at]);
        let mut far = trial.far[at];
        for i in 0..LANES {
            far[i] = if bits == 8 { far[i] } else { widen(far[i], code[i], bits) };
            let error = rest[i] + far[i] * slope[i];
            e[i] += error;
            ee[i] += error * error;
        }
        trial.far[at] = far;
    }
    (to.e, to.ee) = (e, ee);
}

#[inline(always)]
fn exact(block: &Block, rulers: &Rulers, trial: &mut Trial, bits: u32, to: &mut Errors) {
    let Errors { mut e, mut ee, mut y, mut yy, mut ey } = *to;
    for at in 0..block.depth.min(DEPTH) {
        let (z, t, code) = (&trial.z[at], &trial.t[at], &trial.code[at]);
        let mut far = trial.far[at];
        for i in 0..LANES {
            far[i] = widen(far[i], code[i], bits);
            let t = t[i] - far[i];
            let tt = t * t;
            let level = t * (rulers.straight[i] + rulers.cube[i] * tt);
            let error = z[i] - (level - rulers.lean[i] * (1.0 - tt));
            let keep = (at as u32) < block.count[i];
            let (error, level) = if keep { (error, level) } else { (0.0, 0.0) };
            e[i] += error;
            ee[i] += error * error;
            y[i] += level;
            yy[i] += level * level;
            ey[i] += error * level;
        }
        trial.far[at] = far;
    }
    *to = Errors { e, ee, y, yy, ey };
}

#[inline(always)]
fn loss_body(rulers: &Rulers, all: &[Errors; 9], n: &Line, weights: &[f32; 9]) -> Line {
    let mut loss = [0.0; LANES];
    for b in 2..=8 {
        let Errors { e, ee, y, yy, ey } = &all[b];
        let weight = weights[b] * (1u32 << (2 * b)) as f32;
        for i in 0..LANES {
            let over = 1.0 / n[i];
            let shifted = ee[i] - e[i] * e[i] * over;
            let spread = yy[i] - y[i] * y[i] * over;
            let slope = ey[i] - e[i] * y[i] * over;
            // Levels that are all one, but for rounding, have no gain.
            let gained = if spread > 1e-5 * yy[i] { slope * slope / spread } else { 0.0 };
            let left = if b == 8 { ee[i] } else { shifted - gained };
            loss[i] += within(left, 0.0, f32::MAX) * (weight * rulers.half[i] * rulers.half[i]);
        }
    }
    loss
}

//! The range and curve that serve all widths best, found by trial.
//!
//! Whence: with 64 weights in a group the error on a given grid is a matter of luck,
//! by about a tenth up or down at each width. A quantizer of one width takes the best
//! of many grids; so does this one, for the sum over the widths served of the error
//! relative to what that width loses at best, `4^-b`.
//!
//! Candidates widen the range at both ends: first by amounts spread evenly over 0 to
//! [`REACH`] of it (a sequence of low discrepancy), then near the best of those.
//! Curved cells are tried where the middle lies within half of the half. The flat
//! pair of `min_max` is a candidate too.
//!
//! Departures: the narrowest widths weigh more, since nothing but the range moves
//! their few boundaries; measured on normal weights and on trained ones.

use niwaki_codes::Widths;
use niwaki_codes::simd::Level;

use super::block::{Block, Line, Unit};
use super::kernel::Extent;
use super::ruler::{Bases, CURVED, Rulers};
use super::trial::{self, Errors, Trial};
use crate::Fit;
use crate::distortion::LANES;

/// By how much of itself a range is widened at one end, at most.
const REACH: f32 = 0.04;

/// How far the second round strays from the best of the first.
const NEAR: f32 = 0.005;

/// What a relative error of each width weighs.
const WEIGHTS: [f32; 9] = [0.0, 0.0, 8.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0];

/// Room for the trials of one unit, kept from unit to unit.
pub(super) struct Room {
    trial: Trial,
}

impl Room {
    pub(super) const EMPTY: Self = Self { trial: Trial::EMPTY };
}

/// The best candidate of each lane so far.
struct Best {
    loss: Line,
    bases: Bases,
    /// By how much of the range it goes beyond either end.
    wider: [Line; 2],
}

/// One search.
struct Search<'a, 'b> {
    level: Level,
    weights: [f32; 9],
    unit: &'a Unit<'b>,
    extent: &'a Extent,
    /// Curved scales on which weights are placed first.
    start: Rulers,
    best: Best,
}

/// The best of the candidates for each group.
pub(super) fn search(
    (level, fit, widths): (Level, Fit, Widths),
    unit: &Unit<'_>,
    block: &mut Block,
    extent: &Extent,
    plain: &Bases,
    room: &mut Room,
) -> Bases {
    let (first, second) = if fit == Fit::Lsq { (16, 16) } else { (6, 5) };
    let start = curve(level, plain);
    if unit.is_small() {
        trial::place(level, block, &start, &mut room.trial);
    }
    let best = Best { loss: [f32::INFINITY; LANES], bases: *plain, wider: [[0.0; LANES]; 2] };
    let mut weights = [0.0; 9];
    for width in widths.iter() {
        weights[width.get() as usize] = WEIGHTS[width.get() as usize];
    }
    let mut search = Search { level, weights, unit, extent, start, best };
    search.attempt(block, room, plain, &[[0.0; LANES]; 2]);
    for i in 0..first {
        // One in four is flat: enough to tell which of the two suits the group.
        let (sign, at) = if i % 4 == 3 { (0, i / 4) } else { (CURVED, i - i / 4) };
        let wider = spread(at).map(|u| [u * REACH; LANES]);
        search.widen(block, room, wider, [sign; LANES]);
    }
    let (from, signs) = (search.best.wider, search.best.bases.half.map(|half| half & CURVED));
    for i in 0..second {
        let stray = spread(i).map(|u| (2.0 * u - 1.0) * NEAR);
        let wider = [from[0].map(|w| w + stray[0]), from[1].map(|w| w + stray[1])];
        search.widen(block, room, wider, signs);
    }
    search.best.bases
}

/// The same pairs with curved cells; where those would lean too far, far enough.
fn curve(level: Level, plain: &Bases) -> Rulers {
    let mut rulers = Bases { half: plain.half.map(|half| half | CURVED), ..*plain }.rulers(level);
    for lean in &mut rulers.lean {
        *lean = lean.clamp(-0.25, 0.25);
    }
    rulers
}

/// Point `i` of a sequence that fills the unit square evenly.
fn spread(i: usize) -> [f32; 2] {
    // Multiples of 1/p and 1/p^2 for p^3 = p + 1, in 32-bit fractions.
    let fraction = |step: u32| {
        let bits = (i as u32).wrapping_mul(step).wrapping_add(1 << 31);
        (bits >> 8) as f32 / 16_777_216.0
    };
    [fraction(3_242_174_889), fraction(2_447_445_414)]
}

impl Search<'_, '_> {
    /// Tries the range widened by parts of itself.
    fn widen(&mut self, block: &mut Block, room: &mut Room, wider: [Line; 2], signs: [u16; LANES]) {
        let (mut low, mut high) = (self.extent.low, self.extent.high);
        for i in 0..LANES {
            let range = high[i] - low[i];
            low[i] -= range * wider[0][i];
            high[i] += range * wider[1][i];
        }
        self.attempt(block, room, &Bases::nearest(self.level, &low, &high, &signs), &wider);
    }

    /// Takes candidates where they lose less than all before.
    fn attempt(&mut self, block: &mut Block, room: &mut Room, bases: &Bases, wider: &[Line; 2]) {
        let rulers = bases.rulers(self.level);
        let mut all = [Errors::ZERO; 9];
        let small = self.unit.is_small();
        self.unit.each(self.level, block, true, |block| {
            if !small {
                trial::place(self.level, block, &self.start, &mut room.trial);
            }
            trial::errors(self.level, block, &rulers, &mut room.trial, &mut all);
        });
        for Errors { e, ee, y, yy, ey } in &mut all {
            [e, ee, y, yy, ey].into_iter().for_each(|line| self.unit.join(line));
        }
        let loss = trial::loss(self.level, &rulers, &all, &self.unit.weights(), &self.weights);
        for i in 0..LANES {
            // An infinite half has an infinite loss; a curve that leans too far is not tried.
            let leans = rulers.lean[i].abs() <= 0.25 && rulers.half[i] > 0.0;
            if leans && loss[i] < self.best.loss[i] {
                self.best.loss[i] = loss[i];
                (self.best.bases.middle[i], self.best.bases.half[i]) = (bases.middle[i], bases.half[i]);
                (self.best.wider[0][i], self.best.wider[1][i]) = (wider[0][i], wider[1][i]);
            }
        }
    }
}

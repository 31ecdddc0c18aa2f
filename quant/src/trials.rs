//! Searched grids: tried ranges, and least squares given codes.
//!
//! Groups up to [`MAX_GROUP`] weights are searched sixteen at a time, one group a lane;
//! each lane sums in index order. A trial replaces the best so far only if its squared
//! error, on the scale as stored, is strictly less; the first trial is `min_max`.

use niwaki_codes::{Symmetry, stamp};

use crate::Fit;
use crate::batch::Batch;
use crate::distortion::{LANES, TILE};
use crate::grid::{Extent, Grid, GridPoint, ROUNDER, inverse, steps};

/// The largest group that is searched in lanes.
pub(crate) const MAX_GROUP: usize = 512;

/// Trials of a solver at most.
pub(crate) const TRIALS: usize = 32;

/// Trials of a group at most.
const GROUP_TRIALS: usize = 20;

/// Least-squares rounds of a group at most.
const GROUP_ROUNDS: usize = 2;

/// Sums over the codes `q = code - zero` and weights `x` of a group on one grid.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Moments {
    pub(crate) count: f64,
    pub(crate) error: f64,
    pub(crate) code: f64,
    pub(crate) square: f64,
    pub(crate) weight: f64,
    pub(crate) product: f64,
}

impl Moments {
    #[inline(always)]
    pub(crate) fn merge(&mut self, next: &Self) {
        self.count += next.count;
        self.error += next.error;
        self.code += next.code;
        self.square += next.square;
        self.weight += next.weight;
        self.product += next.product;
    }

    /// The grid that fits the codes best: the scale of least squares and, on an affine
    /// grid, the zero point nearest to that of the regression `x = scale * q + offset`.
    #[inline(always)]
    pub(crate) fn refit(&self, grid: &Grid, from: (f32, f32)) -> (f32, f32) {
        let zero = f64::from(from.1);
        let shift = match grid.symmetry {
            Symmetry::Symmetric => 0.0,
            Symmetry::Affine => {
                let slope = (self.count * self.product - self.code * self.weight)
                    / (self.count * self.square - self.code * self.code);
                let offset = (self.weight - slope * self.code) / self.count;
                let moved = zero - offset / slope;
                let top = f64::from(grid.top());
                let moved = if moved > 0.0 { moved } else { 0.0 };
                let moved = if moved < top { moved } else { top };
                // Below 256: the same rounding trick as for codes, in f32.
                f64::from((moved as f32 + ROUNDER) - ROUNDER) - zero
            }
        };
        let product = self.product - shift * self.weight;
        let square = self.square - 2.0 * shift * self.code + shift * shift * self.count;
        let raw = (product / square) as f32;
        let usable = match grid.symmetry {
            Symmetry::Symmetric => raw.is_finite(),
            Symmetry::Affine => raw.is_finite() && raw > 0.0,
        };
        if usable { (grid.stored(raw), (zero + shift) as f32) } else { from }
    }
}

/// The grids that a solver tries, `min_max` first, and how many they are.
pub(crate) fn trials(grid: &Grid, extent: Extent) -> ([GridPoint; TRIALS], usize) {
    let mut all = [GridPoint::default(); TRIALS];
    all[0] = grid.min_max(extent);
    let mut count = 1;
    let mut push = |point: GridPoint| {
        if let Some(slot) = all.get_mut(count) {
            *slot = point;
            count += 1;
        }
    };
    match grid.symmetry {
        Symmetry::Symmetric => {
            let raw = grid.symmetric_scale(extent.key);
            for k in 0..20 {
                push(symmetric(grid, raw, 1.18 - 0.045 * k as f32));
            }
            for k in 0..11 {
                push(symmetric(grid, -raw, 1.1 - 0.075 * k as f32));
            }
        }
        Symmetry::Affine => {
            let ends = [1.0, 0.88, 0.76, 0.64, 0.52];
            for a in ends {
                for b in ends {
                    push(affine(grid, a * extent.low, b * extent.high));
                }
            }
        }
    }
    (all, count)
}

#[inline(always)]
fn symmetric(grid: &Grid, raw: f32, multiple: f32) -> GridPoint {
    GridPoint { scale: grid.stored(raw * multiple), zero: grid.half() }
}

#[inline(always)]
fn affine(grid: &Grid, low: f32, high: f32) -> GridPoint {
    grid.min_max(Extent { key: 0, low, high })
}

/// The multiples of the range that groups of a width try: those that win on normal
/// weights in groups of 16 to 512, with room for heavier tails.
fn multiples(grid: &Grid) -> ([(f32, f32); GROUP_TRIALS], usize) {
    let least = [0.55, 0.65, 0.76, 0.85, 0.91, 0.95, 0.97][grid.bits.get() as usize - 2];
    let mut all = [(0.0, 0.0); GROUP_TRIALS];
    match grid.symmetry {
        Symmetry::Symmetric => {
            for (k, slot) in all.iter_mut().enumerate().take(14) {
                let m = least + (1.2 - least) * k as f32 / 13.0;
                *slot = (m, m);
            }
            for (k, slot) in all.iter_mut().enumerate().skip(14) {
                let m = least + (1.08 - least) * (k - 14) as f32 / 5.0;
                *slot = (-m, -m);
            }
            (all, if grid.bits.get() > 4 { 14 } else { 20 })
        }
        Symmetry::Affine => {
            for (k, slot) in all.iter_mut().enumerate().take(16) {
                let end = |i: usize| least + (1.02 - least) * i as f32 / 3.0;
                *slot = (end(k / 4), end(k % 4));
            }
            (all, 16)
        }
    }
}

/// One number a group, sixteen groups.
type Lane = [f32; LANES];

/// The grids of sixteen groups.
#[derive(Clone, Copy)]
struct Grids {
    scale: Lane,
    zero: Lane,
}

stamp! {
    /// Improves the grids of the first groups of a tile. `layout` is how many there
    /// are, the length of a group, and its distance from the next.
    pub(crate) fn search = search_body(
        grid: Grid, fit: Fit, x: &[f32; TILE], layout: (usize, usize, usize), batch: &mut Batch,
    ) -> ();
}

#[inline(always)]
fn search_body(grid: Grid, fit: Fit, x: &[f32; TILE], (n, group, padded): (usize, usize, usize), batch: &mut Batch) {
    let (tried, count) = multiples(&grid);
    let mut turned = [[0.0; LANES]; MAX_GROUP];
    for first in (0..n).step_by(LANES) {
        turn(&x[first * padded..], padded, &mut turned[..group]);
        search_lanes(grid, fit, &tried[..count], &turned[..group], first, batch);
    }
}

/// Sixteen groups, turned so that each is a lane.
#[inline(always)]
fn turn(x: &[f32], padded: usize, turned: &mut [Lane]) {
    for (i, x) in x.chunks_exact(padded).enumerate().take(LANES) {
        for (x, lane) in x.iter().zip(turned.iter_mut()) {
            lane[i] = *x;
        }
    }
}

#[inline(always)]
fn search_lanes(grid: Grid, fit: Fit, tried: &[(f32, f32)], x: &[Lane], first: usize, batch: &mut Batch) {
    let (Some(keys), Some(lows), Some(highs), Some(scales), Some(zeros)) = (
        batch.key[first..].first_chunk::<LANES>(),
        batch.low[first..].first_chunk::<LANES>(),
        batch.high[first..].first_chunk::<LANES>(),
        batch.scale[first..].first_chunk_mut::<LANES>(),
        batch.zero[first..].first_chunk_mut::<LANES>(),
    ) else {
        return;
    };
    let mut best = Grids { scale: *scales, zero: *zeros };
    let mut error = errors(&grid, x, &best);
    let mut raw = [0.0; LANES];
    for i in 0..LANES {
        raw[i] = grid.symmetric_scale(keys[i]);
    }
    // Two trials at a time keep both multipliers of a core busy.
    for pair in tried.chunks(2) {
        let mut trials = [best; 2];
        for (trial, (a, b)) in trials.iter_mut().zip(pair) {
            for i in 0..LANES {
                match grid.symmetry {
                    Symmetry::Symmetric => trial.scale[i] = grid.stored(raw[i] * a),
                    Symmetry::Affine => {
                        let low = a * lows[i];
                        trial.scale[i] = grid.stored(grid.affine_scale(low, b * highs[i]));
                        trial.zero[i] = grid.affine_zero(low, trial.scale[i]);
                    }
                }
            }
        }
        let loss = errors_of_two(&grid, x, &trials);
        keep(&trials[0], &loss[0], &mut best, &mut error);
        keep(&trials[1], &loss[1], &mut best, &mut error);
    }
    if fit == Fit::Lsq {
        refine(&grid, x, &mut best, &mut error);
    }
    (*scales, *zeros) = (best.scale, best.zero);
}

/// Takes each trial that lost less.
#[inline(always)]
fn keep(trial: &Grids, loss: &Lane, best: &mut Grids, error: &mut Lane) {
    for i in 0..LANES {
        let less = loss[i] < error[i];
        best.scale[i] = if less { trial.scale[i] } else { best.scale[i] };
        best.zero[i] = if less { trial.zero[i] } else { best.zero[i] };
        error[i] = if less { loss[i] } else { error[i] };
    }
}

/// Squared error of sixteen groups, each on its grid.
#[inline(always)]
fn errors(grid: &Grid, x: &[Lane], at: &Grids) -> Lane {
    let (inverse, low, high) = bounds(grid, at);
    let mut sum = [0.0; LANES];
    for x in x {
        for i in 0..LANES {
            let error = x[i] - (steps(x[i], inverse[i], low[i], high[i]) - ROUNDER) * at.scale[i];
            sum[i] += error * error;
        }
    }
    sum
}

/// As [`errors`], on two grids a group.
#[inline(always)]
fn errors_of_two(grid: &Grid, x: &[Lane], at: &[Grids; 2]) -> [Lane; 2] {
    let (inverse_a, low_a, high_a) = bounds(grid, &at[0]);
    let (inverse_b, low_b, high_b) = bounds(grid, &at[1]);
    let (mut a, mut b) = ([0.0; LANES], [0.0; LANES]);
    for x in x {
        for i in 0..LANES {
            let error = x[i] - (steps(x[i], inverse_a[i], low_a[i], high_a[i]) - ROUNDER) * at[0].scale[i];
            a[i] += error * error;
        }
        for i in 0..LANES {
            let error = x[i] - (steps(x[i], inverse_b[i], low_b[i], high_b[i]) - ROUNDER) * at[1].scale[i];
            b[i] += error * error;
        }
    }
    [a, b]
}

#[inline(always)]
fn bounds(grid: &Grid, at: &Grids) -> (Lane, Lane, Lane) {
    let (mut inverted, mut low, mut high) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
    for i in 0..LANES {
        inverted[i] = inverse(at.scale[i]);
        low[i] = -at.zero[i];
        high[i] = grid.top() - at.zero[i];
    }
    (inverted, low, high)
}

/// Codes given the grid, the grid given codes, in turn.
#[inline(always)]
fn refine(grid: &Grid, x: &[Lane], best: &mut Grids, error: &mut Lane) {
    let mut trial = *best;
    let mut sums = measure(grid, x, &trial);
    for _ in 0..GROUP_ROUNDS {
        for i in 0..LANES {
            let moments = Moments {
                count: x.len() as f64,
                error: 0.0,
                code: sums.code[i].into(),
                square: sums.square[i].into(),
                weight: sums.weight[i].into(),
                product: sums.product[i].into(),
            };
            (trial.scale[i], trial.zero[i]) = moments.refit(grid, (trial.scale[i], trial.zero[i]));
        }
        sums = measure(grid, x, &trial);
        keep(&trial, &sums.error, best, error);
    }
}

/// Error and moments of sixteen groups.
struct Measured {
    error: Lane,
    code: Lane,
    square: Lane,
    weight: Lane,
    product: Lane,
}

/// Error and moments of sixteen groups, each on its grid.
#[inline(always)]
fn measure(grid: &Grid, x: &[Lane], at: &Grids) -> Measured {
    let (inverse, low, high) = bounds(grid, at);
    let [mut error, mut code, mut square, mut weight, mut product] = [[0.0; LANES]; 5];
    for x in x {
        for i in 0..LANES {
            let q = steps(x[i], inverse[i], low[i], high[i]) - ROUNDER;
            let off = x[i] - q * at.scale[i];
            error[i] += off * off;
            square[i] += q * q;
            product[i] += q * x[i];
            // Of use on affine grids only.
            code[i] += q;
            weight[i] += x[i];
        }
    }
    Measured { error, code, square, weight, product }
}

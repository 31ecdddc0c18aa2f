//! Searched grids: tried ranges, and least squares given codes.
//!
//! Groups up to [`MAX_GROUP`] weights are searched sixteen at a time, one group a lane;
//! each lane sums in index order. A trial replaces the best so far only if its squared
//! error, on the scale as stored, is strictly less; the first trial is `min_max`.

use niwaki_codes::{Symmetry, stamp};

use crate::Fit;
use crate::distortion::{LANES, TILE};
use crate::grid::{Extent, Grid, GridPoint, ROUNDER, Ruler, steps};

/// The largest group that is searched in lanes.
pub(crate) const MAX_GROUP: usize = 512;

/// Trials of a solver at most.
pub(crate) const TRIALS: usize = 32;

/// Trials of a group at most.
const GROUP_TRIALS: usize = 20;

/// Least-squares rounds of a group at most.
const GROUP_ROUNDS: usize = 3;

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
    pub(crate) fn refit(&self, grid: &Grid, from: GridPoint) -> GridPoint {
        let zero = f64::from(from.zero);
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
        if usable { GridPoint { scale: grid.stored(raw), zero: (zero + shift) as u8 } } else { from }
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

#[inline(always)]
fn lanes(f: impl FnMut(usize) -> f32) -> Lane {
    core::array::from_fn(f)
}

stamp! {
    /// Improves the grids `points` of the groups of `x`. `layout` is the length of a
    /// group and its distance from the next.
    pub(crate) fn search = search_body(
        grid: Grid, fit: Fit, x: &[f32; TILE], layout: (usize, usize), extents: &[Extent], points: &mut [GridPoint],
    ) -> ();
}

#[inline(always)]
fn search_body(
    grid: Grid,
    fit: Fit,
    x: &[f32; TILE],
    (group, padded): (usize, usize),
    extents: &[Extent],
    points: &mut [GridPoint],
) {
    let (multiples, count) = multiples(&grid);
    let mut turned = [[0.0; LANES]; MAX_GROUP];
    let batches = extents.chunks(LANES).zip(points.chunks_mut(LANES)).zip(x.chunks(LANES * padded));
    for ((extents, points), x) in batches {
        for (k, lane) in turned.iter_mut().enumerate().take(group) {
            *lane = lanes(|i| x.get(i * padded + k).copied().unwrap_or(0.0));
        }
        let turned = &turned[..group];
        let mut best: [GridPoint; LANES] = core::array::from_fn(|i| points.get(i).copied().unwrap_or_default());
        let mut error = errors(&grid, turned, &best);
        for (a, b) in &multiples[..count] {
            let trial = core::array::from_fn(|i| match (extents.get(i), grid.symmetry) {
                (Some(extent), Symmetry::Symmetric) => symmetric(&grid, grid.symmetric_scale(extent.key), *a),
                (Some(extent), Symmetry::Affine) => affine(&grid, a * extent.low, b * extent.high),
                (None, _) => GridPoint::default(),
            });
            let loss = errors(&grid, turned, &trial);
            for i in 0..LANES {
                if loss[i] < error[i] {
                    (best[i], error[i]) = (trial[i], loss[i]);
                }
            }
        }
        if fit == Fit::Lsq {
            refine(&grid, turned, &mut best, &mut error);
        }
        points.iter_mut().zip(best).for_each(|(to, from)| *to = from);
    }
}

/// Squared error of sixteen groups, each on its grid.
#[inline(always)]
fn errors(grid: &Grid, x: &[Lane], points: &[GridPoint; LANES]) -> Lane {
    let rulers: [Ruler; LANES] = points.map(|p| grid.ruler(p));
    let (inverse, scale) = (lanes(|i| rulers[i].inverse), lanes(|i| rulers[i].scale));
    let (low, high) = (lanes(|i| rulers[i].low), lanes(|i| rulers[i].high));
    let mut sum = [0.0; LANES];
    for x in x {
        for i in 0..LANES {
            let error = x[i] - (steps(x[i], inverse[i], low[i], high[i]) - ROUNDER) * scale[i];
            sum[i] += error * error;
        }
    }
    sum
}

/// Codes given the grid, the grid given codes, in turn until nothing is gained.
#[inline(always)]
fn refine(grid: &Grid, x: &[Lane], best: &mut [GridPoint; LANES], error: &mut Lane) {
    let mut trial = *best;
    for _ in 0..GROUP_ROUNDS {
        let sums = moments(grid, x, &trial);
        let next: [GridPoint; LANES] = core::array::from_fn(|i| sums[i].refit(grid, trial[i]));
        if next == trial {
            break;
        }
        trial = next;
        let loss = errors(grid, x, &trial);
        for i in 0..LANES {
            if loss[i] < error[i] {
                (best[i], error[i]) = (trial[i], loss[i]);
            }
        }
    }
}

/// Moments of sixteen groups, each on its grid.
#[inline(always)]
fn moments(grid: &Grid, x: &[Lane], points: &[GridPoint; LANES]) -> [Moments; LANES] {
    let rulers: [Ruler; LANES] = points.map(|p| grid.ruler(p));
    let inverse = lanes(|i| rulers[i].inverse);
    let (low, high) = (lanes(|i| rulers[i].low), lanes(|i| rulers[i].high));
    let [mut code, mut square, mut weight, mut product] = [[0.0; LANES]; 4];
    for x in x {
        for i in 0..LANES {
            let q = steps(x[i], inverse[i], low[i], high[i]) - ROUNDER;
            code[i] += q;
            square[i] += q * q;
            weight[i] += x[i];
            product[i] += q * x[i];
        }
    }
    core::array::from_fn(|i| Moments {
        count: x.len() as f64,
        error: 0.0,
        code: code[i].into(),
        square: square[i].into(),
        weight: weight[i].into(),
        product: product[i].into(),
    })
}

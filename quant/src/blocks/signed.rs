//! Q3_K, Q6_K, IQ4_NL and IQ4_XS: a signed scale for each sub-block, `d * sc * value`.
//!
//! As in the sibling with minima, by the plain squared error: a free scale of each
//! sub-block from a few trials, `d` from the largest of them, then whole scales near the
//! free one on the grid as it is stored, and last, `d` by least squares for the codes. The
//! sign of a scale chooses which end of the values, of which one reaches further, takes
//! the weight of largest magnitude.
#![allow(clippy::needless_range_loop, reason = "sub-blocks are lanes of several arrays")]

use super::lanes::{self, LANES, Lanes, choose, columns, farthest, half, in_memory, inverse, max, min, round, total};

/// The values that codes stand for.
pub(super) trait Levels: Copy {
    /// The value nearest to `x`.
    fn nearest(self, x: f32) -> f32;

    /// Its code.
    fn code(self, x: f32) -> u8;
}

/// What the types differ in, and how far each searches.
#[derive(Clone, Copy)]
pub(super) struct Grid<L> {
    pub(super) levels: L,
    /// The smallest whole scale; its opposite is one beyond the largest.
    pub(super) lowest: f32,
    /// Sub-blocks that share `d`.
    pub(super) each: usize,
    /// Values that the weight of largest magnitude is tried at.
    pub(super) ends: &'static [f32],
    /// How often each is fitted.
    pub(super) fits: usize,
    /// How many steps the scale is moved up and down.
    pub(super) reach: i32,
}

/// Sixteen sub-blocks.
pub(super) struct Signed {
    /// `d`, an F16.
    pub(super) unit: Lanes,
    /// Scales, whole numbers.
    pub(super) steps: Lanes,
}

/// What is known of sub-blocks before any code is: the weight of largest magnitude, and
/// the sum of squares.
struct Extent {
    far: Lanes,
    square: Lanes,
}

/// Fits up to sixteen sub-blocks of `N` weights.
#[inline(always)]
pub(super) fn fit<const N: usize, L: Levels>(x: &[f32], grid: Grid<L>) -> Signed {
    let x = columns::<N>(x);
    let extent = extent(&x);
    let free = free(&x, &extent, grid);
    let (size, mut unit) = (farthest(grid.each, &extent.far), farthest(grid.each, &free));
    for i in 0..LANES {
        unit[i] = lanes::unit_of_steps(unit[i] / grid.lowest, size[i]);
    }
    let steps = search(&x, &extent, (&free, &unit), grid);
    let unit = units(&x, &Signed { unit, steps }, grid);
    Signed { unit, steps }
}

/// Fits sixteen blocks with no scale but `d`.
#[inline(always)]
pub(super) fn fit_alone<const N: usize, L: Levels>(x: &[f32], grid: Grid<L>) -> Signed {
    let x = columns::<N>(x);
    let extent = extent(&x);
    let free = free(&x, &extent, grid);
    let mut unit = [0.0; LANES];
    for i in 0..LANES {
        unit[i] = lanes::unit(free[i], extent.far[i]);
    }
    let steps = [1.0; LANES];
    let unit = units(&x, &Signed { unit, steps }, grid);
    Signed { unit, steps }
}

#[inline(always)]
fn extent<const N: usize>(x: &[Lanes; N]) -> Extent {
    let mut extent = Extent { far: [0.0; LANES], square: [0.0; LANES] };
    for x in x {
        for i in 0..LANES {
            extent.far[i] = if x[i].abs() > extent.far[i].abs() { x[i] } else { extent.far[i] };
            extent.square[i] += x[i] * x[i];
        }
    }
    extent
}

/// Sums of squared values and of their products with the weights.
#[inline(always)]
fn sums<const N: usize, L: Levels>(x: &[Lanes; N], inverse: &Lanes, levels: L) -> [Lanes; 2] {
    let (mut square, mut product) = ([0.0; LANES], [0.0; LANES]);
    for x in x {
        for i in 0..LANES {
            let value = levels.nearest(x[i] * inverse[i]);
            square[i] += value * value;
            product[i] += value * x[i];
        }
    }
    [square, product]
}

/// Squared errors in squares of the scale.
#[inline(always)]
fn errors<const N: usize, L: Levels>(x: &[Lanes; N], inverse: &Lanes, levels: L) -> Lanes {
    let mut errors = [0.0; LANES];
    for x in x {
        for i in 0..LANES {
            let exact = x[i] * inverse[i];
            let error = exact - levels.nearest(exact);
            errors[i] += error * error;
        }
    }
    errors
}

/// The best scales of any size.
#[inline(always)]
fn free<const N: usize, L: Levels>(x: &[Lanes; N], extent: &Extent, grid: Grid<L>) -> Lanes {
    let (mut best, mut most) = ([0.0; LANES], [0.0; LANES]);
    for end in grid.ends {
        let mut scale = [0.0; LANES];
        for i in 0..LANES {
            scale[i] = extent.far[i] / end;
        }
        for _ in 0..grid.fits {
            let mut over = [0.0; LANES];
            for i in 0..LANES {
                over[i] = inverse(scale[i]);
            }
            let [square, product] = sums(x, &over, grid.levels);
            for i in 0..LANES {
                let slope = product[i] / max(square[i], 1.0);
                let gain = slope * product[i];
                let better = gain > most[i];
                most[i] = choose(better, gain, most[i]);
                best[i] = choose(better, slope, best[i]);
                scale[i] = slope;
            }
        }
    }
    best
}

/// The best whole scales near the free ones.
#[inline(always)]
fn search<const N: usize, L: Levels>(
    x: &[Lanes; N],
    extent: &Extent,
    (free, unit): (&Lanes, &Lanes),
    grid: Grid<L>,
) -> Lanes {
    let (mut best, mut least) = ([0.0; LANES], extent.square);
    let mut first = [0.0; LANES];
    for i in 0..LANES {
        first[i] = round(free[i] * inverse(unit[i]));
    }
    for up in -grid.reach..=grid.reach {
        let (mut steps, mut scale, mut over) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
        for i in 0..LANES {
            steps[i] = min(max(first[i] + up as f32, grid.lowest), -1.0 - grid.lowest);
            scale[i] = steps[i] * unit[i];
            over[i] = inverse(scale[i]);
        }
        let errors = errors(x, &over, grid.levels);
        for i in 0..LANES {
            let error = errors[i] * (scale[i] * scale[i]);
            let better = (error < least[i]) & (over[i] != 0.0);
            least[i] = choose(better, error, least[i]);
            best[i] = choose(better, steps[i], best[i]);
        }
    }
    best
}

/// `d` by least squares for the codes, where that is better once it is an F16.
#[inline(always)]
fn units<const N: usize, L: Levels>(x: &[Lanes; N], at: &Signed, grid: Grid<L>) -> Lanes {
    let mut over = [0.0; LANES];
    for i in 0..LANES {
        over[i] = inverse(at.steps[i] * at.unit[i]);
    }
    let [mut square, mut product] = sums(x, &over, grid.levels);
    for i in 0..LANES {
        square[i] *= at.steps[i] * at.steps[i];
        product[i] *= at.steps[i];
    }
    let (square, product) = (total(grid.each, &square), total(grid.each, &product));
    let mut out = at.unit;
    for i in 0..LANES {
        let unit = half(product[i] / max(square[i], 1.0));
        let error = |d: f32| d * (d * square[i] - 2.0 * product[i]);
        let better = error(unit) < error(at.unit[i]) && unit.abs() < f32::INFINITY;
        out[i] = choose(better, unit, at.unit[i]);
    }
    out
}

impl Signed {
    /// The codes of sub-block `lane`.
    #[inline(always)]
    pub(super) fn codes<const N: usize, L: Levels>(&self, x: &[f32; N], lane: usize, levels: L) -> [u8; N] {
        let over = inverse(self.steps[lane] * self.unit[lane]);
        let mut codes = [0; N];
        for i in 0..N {
            codes[i] = levels.code(x[i] * over);
        }
        in_memory(&mut codes);
        codes
    }
}

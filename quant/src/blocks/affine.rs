//! Q2_K, Q4_K and Q5_K: a scale and a minimum for each sub-block, `d * sc * q - dmin * mn`.
//!
//! Three steps, each by the plain squared error. A sub-block's scale and minimum are first
//! fitted freely: codes of a few ranges, and the least squares for each. The largest of
//! both give `d` and `dmin`. Then whole scales and minima near the free ones are tried on
//! the grid as it is stored, and last, `d` and `dmin` are the least squares for the codes.
#![allow(clippy::needless_range_loop, reason = "sub-blocks are lanes of several arrays")]

use super::lanes::{
    self, LANES, Lanes, choose, columns, farthest, half, in_memory, inverse, max, min, round, total, whole, whole_bits,
};

/// What the types differ in, and how far each searches.
#[derive(Clone, Copy)]
pub(super) struct Grid {
    /// The largest code.
    pub(super) top: f32,
    /// The largest scale and minimum.
    pub(super) steps: f32,
    /// Sub-blocks that share `d` and `dmin`.
    pub(super) each: usize,
    /// Shares of the whole range that are tried.
    pub(super) shares: &'static [f32],
    /// How often each is fitted.
    pub(super) fits: usize,
    /// How many steps the scale is moved up and down, and the minimum.
    pub(super) reach: (i32, i32),
}

/// Sixteen sub-blocks.
pub(super) struct Affine {
    /// `d` and `dmin`, both an F16.
    pub(super) unit: [Lanes; 2],
    /// Scales and minima, whole numbers.
    pub(super) steps: [Lanes; 2],
}

/// What is known of sub-blocks before any code is.
struct Extent {
    low: Lanes,
    high: Lanes,
    sum: Lanes,
    square: Lanes,
}

/// Sums over codes.
struct Sums {
    code: Lanes,
    square: Lanes,
    product: Lanes,
}

/// Fits up to sixteen sub-blocks of `N` weights.
#[inline(always)]
pub(super) fn fit<const N: usize>(x: &[f32], grid: Grid) -> Affine {
    let x = columns::<N>(x);
    let extent = extent(&x);
    let free = free(&x, &extent, grid);
    let mut size = [0.0; LANES];
    for i in 0..LANES {
        size[i] = max(extent.high[i], -extent.low[i]);
    }
    let size = farthest(grid.each, &size);
    let mut unit = [farthest(grid.each, &free[0]), farthest(grid.each, &free[1])];
    for i in 0..LANES {
        unit[0][i] = lanes::unit_of_steps(unit[0][i] / grid.steps, size[i]);
        unit[1][i] = lanes::unit_of_steps(unit[1][i] / grid.steps, size[i]);
    }
    let steps = search(&x, &extent, (&free, &unit), grid);
    let unit = units(&x, &extent, Affine { unit, steps }, grid);
    Affine { unit, steps }
}

#[inline(always)]
fn extent<const N: usize>(x: &[Lanes; N]) -> Extent {
    let zero = [0.0; LANES];
    let mut extent = Extent { low: zero, high: [f32::MIN; LANES], sum: zero, square: zero };
    for x in x {
        for i in 0..LANES {
            extent.low[i] = min(x[i], extent.low[i]);
            extent.high[i] = max(x[i], extent.high[i]);
            extent.sum[i] += x[i];
            extent.square[i] += x[i] * x[i];
        }
    }
    extent
}

#[inline(always)]
fn sums<const N: usize>(x: &[Lanes; N], inverse: &Lanes, offset: &Lanes, top: f32) -> Sums {
    let mut sums = Sums { code: [0.0; LANES], square: [0.0; LANES], product: [0.0; LANES] };
    for x in x {
        for i in 0..LANES {
            let code = whole(x[i] * inverse[i] + offset[i], 0.0, top);
            sums.code[i] += code;
            sums.square[i] += code * code;
            sums.product[i] += code * x[i];
        }
    }
    sums
}

/// Squared errors in squares of the scale.
#[inline(always)]
fn errors<const N: usize>(x: &[Lanes; N], inverse: &Lanes, offset: &Lanes, top: f32) -> Lanes {
    let mut errors = [0.0; LANES];
    for x in x {
        for i in 0..LANES {
            let exact = x[i] * inverse[i] + offset[i];
            let error = exact - whole(exact, 0.0, top);
            errors[i] += error * error;
        }
    }
    errors
}

/// The best scales and minima of any size.
#[inline(always)]
fn free<const N: usize>(x: &[Lanes; N], extent: &Extent, grid: Grid) -> [Lanes; 2] {
    let n = N as f32;
    let (mut best, mut least) = ([[0.0; LANES]; 2], [f32::MAX; LANES]);
    for share in grid.shares {
        let (mut scale, mut low) = ([0.0; LANES], [0.0; LANES]);
        for i in 0..LANES {
            let range = extent.high[i] - extent.low[i];
            scale[i] = range * share / grid.top;
            low[i] = max(-extent.low[i] - range * (0.5 - 0.5 * share), 0.0);
        }
        for _ in 0..grid.fits {
            let (mut over, mut offset) = ([0.0; LANES], [0.0; LANES]);
            for i in 0..LANES {
                over[i] = inverse(scale[i]);
                offset[i] = low[i] * over[i];
            }
            let Sums { code, square, product } = sums(x, &over, &offset, grid.top);
            for i in 0..LANES {
                let (sum, plain) = (extent.sum[i], product[i] / max(square[i], 1.0));
                let spread = n * square[i] - code[i] * code[i];
                let slope = (n * product[i] - sum * code[i]) / max(spread, 1.0);
                let below = (slope * code[i] - sum) / n;
                let both = (spread > 0.5) & (below > 0.0);
                let (slope, below) = (choose(both, slope, plain), choose(both, below, 0.0));
                let fits = slope > 0.0;
                let (slope, below) = (choose(fits, slope, scale[i]), choose(fits, below, low[i]));
                let error = extent.square[i]
                    + slope * (slope * square[i] - 2.0 * product[i])
                    + below * (n * below + 2.0 * sum - 2.0 * slope * code[i]);
                let better = error < least[i];
                least[i] = choose(better, error, least[i]);
                best[0][i] = choose(better, slope, best[0][i]);
                best[1][i] = choose(better, below, best[1][i]);
                (scale[i], low[i]) = (slope, below);
            }
        }
    }
    best
}

/// The best whole scales and minima near the free ones.
#[inline(always)]
fn search<const N: usize>(
    x: &[Lanes; N],
    extent: &Extent,
    (free, unit): (&[Lanes; 2], &[Lanes; 2]),
    grid: Grid,
) -> [Lanes; 2] {
    let (mut best, mut least) = ([[0.0; LANES]; 2], extent.square);
    let (mut first, mut middle, mut under) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
    for i in 0..LANES {
        first[i] = round(free[0][i] * inverse(unit[0][i]));
        middle[i] = 0.5 * grid.top * free[0][i] - free[1][i];
        under[i] = inverse(unit[1][i]);
    }
    let (scales, minima) = grid.reach;
    for up in -scales..=scales {
        for down in -minima..=minima {
            let mut steps = [[0.0; LANES]; 2];
            let (mut scale, mut low, mut over, mut offset) = ([0.0; LANES], [0.0; LANES], [0.0; LANES], [0.0; LANES]);
            for i in 0..LANES {
                steps[0][i] = min(max(first[i] + up as f32, 0.0), grid.steps);
                scale[i] = steps[0][i] * unit[0][i];
                let wanted = (0.5 * grid.top * scale[i] - middle[i]) * under[i];
                steps[1][i] = min(max(round(wanted) + down as f32, 0.0), grid.steps);
                low[i] = steps[1][i] * unit[1][i];
                over[i] = inverse(scale[i]);
                offset[i] = low[i] * over[i];
            }
            let errors = errors(x, &over, &offset, grid.top);
            for i in 0..LANES {
                let flat = extent.square[i] + low[i] * (N as f32 * low[i] + 2.0 * extent.sum[i]);
                let error = choose(over[i] > 0.0, errors[i] * (scale[i] * scale[i]), flat);
                let better = error < least[i];
                least[i] = choose(better, error, least[i]);
                best[0][i] = choose(better, steps[0][i], best[0][i]);
                best[1][i] = choose(better, steps[1][i], best[1][i]);
            }
        }
    }
    best
}

/// `d` and `dmin` by least squares for the codes, where that is better once they are F16.
#[inline(always)]
fn units<const N: usize>(x: &[Lanes; N], extent: &Extent, at: Affine, grid: Grid) -> [Lanes; 2] {
    let Affine { unit, steps } = at;
    let (mut over, mut offset) = ([0.0; LANES], [0.0; LANES]);
    for i in 0..LANES {
        over[i] = inverse(steps[0][i] * unit[0][i]);
        offset[i] = steps[1][i] * unit[1][i] * over[i];
    }
    let sums = sums(x, &over, &offset, grid.top);
    // Of the sum over (x - d s q + dmin m)^2.
    let (mut dd, mut mm, mut dm, mut dx, mut mx) =
        ([0.0; LANES], [0.0; LANES], [0.0; LANES], [0.0; LANES], [0.0; LANES]);
    for i in 0..LANES {
        let [scale, low] = [steps[0][i], steps[1][i]];
        dd[i] = scale * scale * sums.square[i];
        mm[i] = low * low * N as f32;
        dm[i] = scale * low * sums.code[i];
        dx[i] = scale * sums.product[i];
        mx[i] = low * extent.sum[i];
    }
    let (dd, mm, dm) = (total(grid.each, &dd), total(grid.each, &mm), total(grid.each, &dm));
    let (dx, mx) = (total(grid.each, &dx), total(grid.each, &mx));
    let mut out = unit;
    for i in 0..LANES {
        let spread = dd[i] * mm[i] - dm[i] * dm[i];
        let d = (mm[i] * dx[i] - dm[i] * mx[i]) / spread;
        let low = (dm[i] * dx[i] - dd[i] * mx[i]) / spread;
        let (d, low) = (half(d), half(low));
        let error =
            |d: f32, low: f32| d * (d * dd[i] - 2.0 * dx[i]) + low * (low * mm[i] + 2.0 * mx[i] - 2.0 * d * dm[i]);
        let better = error(d, low) < error(unit[0][i], unit[1][i]) && d > 0.0 && low >= 0.0 && d + low < f32::INFINITY;
        out[0][i] = choose(better, d, unit[0][i]);
        out[1][i] = choose(better, low, unit[1][i]);
    }
    out
}

impl Affine {
    /// The codes of sub-block `lane`.
    #[inline(always)]
    pub(super) fn codes<const N: usize>(&self, x: &[f32; N], lane: usize, top: f32) -> [u8; N] {
        let scale = self.steps[0][lane] * self.unit[0][lane];
        let over = inverse(scale);
        let offset = self.steps[1][lane] * self.unit[1][lane] * over;
        let mut codes = [0; N];
        for i in 0..N {
            codes[i] = whole_bits(x[i] * over + offset, 0.0, top);
        }
        in_memory(&mut codes);
        codes
    }
}

//! Sums and extremes of rows, over lanes that are put together in a fixed order.

use niwaki_codes::stamp;

use super::math;

/// How many partial results there are.
const LANES: usize = 16;

/// Elements after which partial sums are put together, so that long rows do not lose digits.
const BLOCK: usize = 512;

/// Folds a row: each lane over every sixteenth element, then the lanes by halves.
#[inline(always)]
pub(crate) fn fold(x: &[f32], start: f32, step: impl Fn(f32, f32) -> f32, join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [start; LANES];
    let (many, rest) = x.as_chunks::<LANES>();
    for x in many {
        for (lane, x) in lanes.iter_mut().zip(x) {
            *lane = step(*lane, *x);
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane = step(*lane, *x);
    }
    let mut half = LANES / 2;
    while half > 0 {
        for k in 0..half {
            lanes[k] = join(lanes[k], lanes[k + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// The sum of `of` of each element.
#[inline(always)]
pub(crate) fn sum_of(x: &[f32], of: impl Fn(f32) -> f32) -> f32 {
    if x.len() <= BLOCK {
        return fold(x, 0.0, |sum, x| sum + of(x), |a, b| a + b);
    }
    let blocks = x.chunks(BLOCK).map(|x| f64::from(fold(x, 0.0, |sum, x| sum + of(x), |a, b| a + b)));
    blocks.sum::<f64>() as f32
}

stamp! {
    /// The sum.
    pub(crate) fn sum = sum_body(x: &[f32]) -> f32;
}
#[inline(always)]
fn sum_body(x: &[f32]) -> f32 {
    sum_of(x, |x| x)
}

stamp! {
    /// The sum of squares.
    pub(crate) fn squares = squares_body(x: &[f32]) -> f32;
}
#[inline(always)]
fn squares_body(x: &[f32]) -> f32 {
    sum_of(x, |x| x * x)
}

stamp! {
    /// The sum of squared differences from `mean`.
    pub(crate) fn deviations = deviations_body(x: &[f32], mean: f32) -> f32;
}
#[inline(always)]
fn deviations_body(x: &[f32], mean: f32) -> f32 {
    sum_of(x, |x| (x - mean) * (x - mean))
}

stamp! {
    /// The sum of absolute values.
    pub(crate) fn sizes = sizes_body(x: &[f32]) -> f32;
}
#[inline(always)]
fn sizes_body(x: &[f32]) -> f32 {
    sum_of(x, f32::abs)
}

stamp! {
    /// The product.
    pub(crate) fn product = product_body(x: &[f32]) -> f32;
}
#[inline(always)]
fn product_body(x: &[f32]) -> f32 {
    fold(x, 1.0, |a, b| a * b, |a, b| a * b)
}

stamp! {
    /// The largest; minus infinity of none.
    pub(crate) fn max = max_body(x: &[f32]) -> f32;
}
#[inline(always)]
fn max_body(x: &[f32]) -> f32 {
    fold(x, f32::NEG_INFINITY, math::larger, math::larger)
}

stamp! {
    /// The smallest; infinity of none.
    pub(crate) fn min = min_body(x: &[f32]) -> f32;
}
#[inline(always)]
fn min_body(x: &[f32]) -> f32 {
    fold(x, f32::INFINITY, math::smaller, math::smaller)
}

stamp! {
    /// Makes each x the exponential of x - `top`; their sum.
    pub(crate) fn exponentials = exponentials_body(x: &mut [f32], top: f32) -> f32;
}
#[inline(always)]
fn exponentials_body(x: &mut [f32], top: f32) -> f32 {
    x.iter_mut().for_each(|x| *x = math::exp(*x - top));
    sum_of(x, |x| x)
}

stamp! {
    /// The sum of the exponentials of x - `top`.
    pub(crate) fn sum_of_exponentials = sum_of_exponentials_body(x: &[f32], top: f32) -> f32;
}
#[inline(always)]
fn sum_of_exponentials_body(x: &[f32], top: f32) -> f32 {
    sum_of(x, |x| math::exp(x - top))
}

stamp! {
    /// Makes each x a x + b.
    pub(crate) fn affine = affine_body(x: &mut [f32], a: f32, b: f32) -> ();
}
#[inline(always)]
fn affine_body(x: &mut [f32], a: f32, b: f32) {
    x.iter_mut().for_each(|x| *x = *x * a + b);
}

stamp! {
    /// Takes `top`, then `by`, away from each x.
    pub(crate) fn below = below_body(x: &mut [f32], top: f32, by: f32) -> ();
}
#[inline(always)]
fn below_body(x: &mut [f32], top: f32, by: f32) {
    x.iter_mut().for_each(|x| *x = (*x - top) - by);
}

stamp! {
    /// Adds x to y, each to each.
    pub(crate) fn add = add_body(y: &mut [f32], x: &[f32]) -> ();
}
#[inline(always)]
fn add_body(y: &mut [f32], x: &[f32]) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y += x);
}

stamp! {
    /// Makes y the larger of y and x, each of each.
    pub(crate) fn raise = raise_body(y: &mut [f32], x: &[f32]) -> ();
}
#[inline(always)]
fn raise_body(y: &mut [f32], x: &[f32]) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y = math::larger(*y, *x));
}

stamp! {
    /// Makes each x (x - mean) scale.
    pub(crate) fn standardize = standardize_body(x: &mut [f32], mean: f32, scale: f32) -> ();
}
#[inline(always)]
fn standardize_body(x: &mut [f32], mean: f32, scale: f32) {
    x.iter_mut().for_each(|x| *x = (*x - mean) * scale);
}

stamp! {
    /// The same, times a factor of its own.
    pub(crate) fn standardize_by = standardize_by_body(x: &mut [f32], moments: [f32; 2], factors: &[f32]) -> ();
}
#[inline(always)]
fn standardize_by_body(x: &mut [f32], [mean, scale]: [f32; 2], factors: &[f32]) {
    x.iter_mut().zip(factors).for_each(|(x, factor)| *x = (*x - mean) * scale * factor);
}

stamp! {
    /// The same, and then moved by what is its own.
    pub(crate) fn standardize_and_move = standardize_and_move_body(
        x: &mut [f32], moments: [f32; 2], factors: &[f32], bias: &[f32]
    ) -> ();
}
#[inline(always)]
fn standardize_and_move_body(x: &mut [f32], [mean, scale]: [f32; 2], factors: &[f32], bias: &[f32]) {
    let own = factors.iter().zip(bias);
    x.iter_mut().zip(own).for_each(|(x, (factor, bias))| *x = (*x - mean) * scale * factor + bias);
}

stamp! {
    /// Makes each x a x + b, each with its own a and b.
    pub(crate) fn affine_each = affine_each_body(x: &mut [f32], a: &[f32], b: &[f32]) -> ();
}
#[inline(always)]
fn affine_each_body(x: &mut [f32], a: &[f32], b: &[f32]) {
    x.iter_mut().zip(a.iter().zip(b)).for_each(|(x, (a, b))| *x = *x * a + b);
}

stamp! {
    /// The sums of g, and of g (x - mean).
    pub(crate) fn moments_of = moments_of_body(g: &[f32], x: &[f32], mean: f32) -> [f64; 2];
}
#[inline(always)]
fn moments_of_body(g: &[f32], x: &[f32], mean: f32) -> [f64; 2] {
    let mut sums = [0f64; 2];
    for (g, x) in g.chunks(BLOCK).zip(x.chunks(BLOCK)) {
        let mut lanes = [[0f32; LANES]; 2];
        let (many_g, rest_g) = g.as_chunks::<LANES>();
        let (many_x, rest_x) = x.as_chunks::<LANES>();
        for (g, x) in many_g.iter().zip(many_x) {
            for k in 0..LANES {
                lanes[0][k] += g[k];
                lanes[1][k] += g[k] * (x[k] - mean);
            }
        }
        for (k, (g, x)) in rest_g.iter().zip(rest_x).enumerate() {
            lanes[0][k] += g;
            lanes[1][k] += g * (x - mean);
        }
        for (sum, mut lanes) in sums.iter_mut().zip(lanes) {
            let mut half = LANES / 2;
            while half > 0 {
                for k in 0..half {
                    lanes[k] += lanes[k + half];
                }
                half /= 2;
            }
            *sum += f64::from(lanes[0]);
        }
    }
    sums
}

stamp! {
    /// Makes each g a g + b x + c.
    pub(crate) fn blend = blend_body(g: &mut [f32], x: &[f32], factors: [f32; 3]) -> ();
}
#[inline(always)]
fn blend_body(g: &mut [f32], x: &[f32], [a, b, c]: [f32; 3]) {
    for (g, x) in g.iter_mut().zip(x) {
        *g = *g * a + (*x * b + c);
    }
}

#[cfg(test)]
mod tests {
    use niwaki_codes::simd::Level;

    use super::*;

    #[test]
    fn every_level_gives_the_same_sums() {
        let x: Vec<f32> = (0..10_007).map(|k| ((k * 7919) % 1013) as f32 / 100.0 - 4.0).collect();
        for len in [0, 1, 15, 16, 17, 4097, 10_007] {
            let x = &x[..len];
            let truth: f64 = x.iter().map(|x| f64::from(*x)).sum();
            for level in Level::all() {
                assert_eq!(sum(level, x), sum(Level::Scalar, x));
                assert!((f64::from(sum(level, x)) - truth).abs() < 1e-3);
                assert_eq!(sum_of_exponentials(level, x, 9.0), sum_of_exponentials(Level::Scalar, x, 9.0));
                assert_eq!(max(level, x), x.iter().copied().fold(f32::NEG_INFINITY, f32::max));
                assert_eq!(min(level, x), x.iter().copied().fold(f32::INFINITY, f32::min));
            }
        }
        assert!(max(Level::best(), &[1.0, f32::NAN, 2.0]).is_nan());
        assert_eq!(product(Level::best(), &[2.0, 3.0, -1.0]), -6.0);
        assert_eq!(sizes(Level::best(), &[2.0, -3.0]), 5.0);
        assert_eq!(deviations(Level::best(), &[1.0, 3.0], 2.0), 2.0);
        assert_eq!(squares(Level::best(), &[1.0, 3.0]), 10.0);
    }
}

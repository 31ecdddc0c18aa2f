//! How far a grid is to reach, of values whose histogram is known.
//!
//! A grid of whole steps on which 0 lies goes from `low` to `high`; what is beyond is cut to its ends. Between two grid points
//! values lose what rounding takes, beyond the ends what is cut off:
//!
//! ```text
//! share   the ends that leave (1 - share) / 2 of all values beyond each
//! mse     the ends, of those that shrink from the least and the greatest value in hundredths, for which
//!             sum over bins of count x the mean of (x - x')² over the bin
//!         is least, values of a bin taken to lie evenly in it
//! ```
//!
//! The mean of a bin is in closed form: rounding loses `F(t) = n / 12 + (t - n)³ / 3`, `n` being `t` rounded, from 0 to `t`
//! steps; cutting loses a difference of cubes.

use super::Histogram;

/// Ends that are tried on each side; each is a hundredth less.
const TRIES: usize = 90;

/// Rounds in which one end is moved, then the other.
const ROUNDS: usize = 3;

/// The ends that leave `1 - share` of all values beyond them, half of it on each side; 0 lies between them.
pub fn percentile(histogram: &Histogram, (low, high): (f32, f32), share: f64) -> (f32, f32) {
    let ends = (f64::from(low), f64::from(high));
    let beyond = histogram.count() as f64 * (1.0 - share.clamp(0.0, 1.0)) / 2.0;
    let bins: alloc::vec::Vec<(f64, f64, u64)> = histogram.bins(ends).collect();
    // The part of a bin that is to be gone through until so many values are behind.
    let until = |bins: &mut dyn Iterator<Item = (f64, f64, u64)>, otherwise: f64| {
        let mut left = beyond;
        for (from, to, count) in bins {
            if count as f64 > left {
                return from + (to - from) * left / count as f64;
            }
            left -= count as f64;
        }
        otherwise
    };
    let begin = until(&mut bins.iter().copied(), ends.0);
    let end = until(&mut bins.iter().rev().map(|(from, to, count)| (*to, *from, *count)), ends.1);
    (begin.min(0.0) as f32, end.max(0.0) as f32)
}

/// The ends for which a grid of so many steps between them loses the least, in squares.
pub fn mse(histogram: &Histogram, (low, high): (f32, f32), steps: u32) -> (f32, f32) {
    let (low, high) = (f64::from(low.min(0.0)), f64::from(high.max(0.0)));
    let bins: alloc::vec::Vec<(f64, f64, u64)> = histogram.bins((low, high)).collect();
    let loss = |(low, high): (f64, f64)| {
        let step = (high - low) / f64::from(steps.max(1));
        bins.iter().map(|(from, to, count)| *count as f64 * mean_loss((*from, *to), (low, high), step)).sum::<f64>()
    };
    let mut best = ((low, high), loss((low, high)));
    let try_ends = |best: &mut ((f64, f64), f64), ends: (f64, f64)| {
        let found = loss(ends);
        if found < best.1 {
            *best = (ends, found);
        }
    };
    for _ in 0..ROUNDS {
        let before = best.0;
        for nth in 0..TRIES {
            let shrunk = 1.0 - 0.01 * nth as f64;
            let ends = (best.0.0, high * shrunk);
            try_ends(&mut best, ends);
        }
        for nth in 0..TRIES {
            let shrunk = 1.0 - 0.01 * nth as f64;
            let ends = (low * shrunk, best.0.1);
            try_ends(&mut best, ends);
        }
        if best.0 == before {
            break;
        }
    }
    (best.0.0 as f32, best.0.1 as f32)
}

/// What rounding loses from 0 to `t` steps, in squares of a step.
fn rounding(t: f64) -> f64 {
    let whole = round(t);
    let part = t - whole;
    whole / 12.0 + part * part * part / 3.0
}

/// To the nearest whole number.
fn round(t: f64) -> f64 {
    // 2^52 and a half: sums keep no fraction.
    const ROUNDER: f64 = 6_755_399_441_055_744.0;
    if t.abs() < 1e15 { t + ROUNDER - ROUNDER } else { t }
}

/// The mean over a bin of what its values lose on a grid, in squares.
fn mean_loss((from, to): (f64, f64), (low, high): (f64, f64), step: f64) -> f64 {
    let wide = to - from;
    if wide <= 0.0 || step <= 0.0 {
        let cut = from.clamp(low, high);
        let near = if step > 0.0 { round(cut / step) * step } else { cut };
        return (from - near) * (from - near);
    }
    let cube = |x: f64| x * x * x / 3.0;
    let inside = (from.clamp(low, high) / step, to.clamp(low, high) / step);
    let rounded = step * step * step * (rounding(inside.1) - rounding(inside.0));
    let above = cube((to - high).max(0.0)) - cube((from - high).max(0.0));
    let below = cube((low - from).max(0.0)) - cube((low - to).max(0.0));
    (rounded + above + below) / wide
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use std::vec::Vec;

    use super::*;

    fn histogram(values: &[f32]) -> Histogram {
        let mut all = Histogram::default();
        all.see(values);
        all
    }

    #[test]
    fn the_mean_loss_is_that_of_many_values() {
        for (bin, ends) in [
            ((0.9, 1.1), (-1.0, 2.0)),
            ((1.9, 2.3), (-1.0, 2.0)),
            ((-1.4, -0.6), (-1.0, 2.0)),
            ((2.5, 2.6), (0.0, 2.0)),
        ] {
            let step = (ends.1 - ends.0) / 15.0;
            let many = 200_000;
            let each = (0..many).map(|at| {
                let x = bin.0 + (bin.1 - bin.0) * (f64::from(at) + 0.5) / f64::from(many);
                let y = (x.clamp(ends.0, ends.1) / step).round() * step;
                (x - y) * (x - y)
            });
            let expected = each.sum::<f64>() / f64::from(many);
            let found = mean_loss(bin, ends, step);
            assert!((found / expected - 1.0).abs() < 1e-4, "{bin:?}: {found}, {expected} expected");
        }
        assert_eq!(mean_loss((0.0, 0.0), (0.0, 1.0), 0.1), 0.0);
    }

    #[test]
    fn a_share_of_the_values_is_left_beyond() {
        let all: Vec<f32> = (0..10_000).map(|i| i as f32 / 1000.0 - 2.0).collect();
        let (low, high) = percentile(&histogram(&all), (-2.0, 7.999), 0.98);
        // A hundredth of the values on each side, to a bin's width of 1/64.
        assert!((low + 1.9).abs() < 0.04 && (high - 7.9).abs() < 0.13, "{low} {high}");
        assert_eq!(percentile(&histogram(&all), (-2.0, 7.999), 1.0), (-2.0, 7.999));
        // Zeros are kept, whatever else there is.
        assert_eq!(percentile(&histogram(&[5.0; 100]), (5.0, 5.0), 0.9).0, 0.0);
        assert_eq!(percentile(&Histogram::default(), (0.0, 0.0), 0.9), (0.0, 0.0));
    }

    #[test]
    fn few_values_far_out_are_cut_where_that_loses_less() {
        // A bell of 10,000 values, sums of twelve draws each, and one that is far from all others.
        let mut draws = crate::draws::Draws::new(3, 1, 4);
        let mut all: Vec<f32> = (0..10_000).map(|_| (0..12).map(|_| draws.unit() as f32 - 0.5).sum()).collect();
        let most = all.iter().copied().fold(0f32, f32::max);
        let least = all.iter().copied().fold(0f32, f32::min);
        all.push(100.0);
        let of = histogram(&all);
        let lost = |(low, high): (f32, f32)| {
            let step = (high - low) / 15.0;
            all.iter().map(|x| f64::from(x - (x.clamp(low, high) / step).round() * step).powi(2)).sum::<f64>()
        };
        let whole = (least, 100.0);
        let found = mse(&of, whole, 15);
        assert!(found.1 < 70.0 && found.1 >= most.min(10.0), "{found:?}");
        assert!(lost(found) < lost(whole), "{} {}", lost(found), lost(whole));
        // Of values that are spread evenly all are kept.
        let even: Vec<f32> = (0..=1000).map(|i| i as f32 / 100.0).collect();
        let (low, high) = mse(&histogram(&even), (0.0, 10.0), 255);
        assert!(low == 0.0 && high >= 9.9, "{low} {high}");
    }
}

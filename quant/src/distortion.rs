//! What an encoding lost.
//!
//! Sums run in a fixed order on every machine: sixteen lanes of `f32`, where lane `i`
//! takes the elements `i, i + 16, ..` of each group; the lanes of one tile of at most
//! 4096 elements are folded 8, 4, 2, 1 apart; tiles are added in `f64`, in order.

/// Sums over the difference between weights and what their codes decode to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Distortion {
    /// Sum of the squared weights.
    pub signal: f64,
    /// Sum of the squared differences.
    pub noise: f64,
    /// The largest difference, without its sign.
    pub max_abs: f32,
    /// How many weights were summed.
    pub elements: u64,
}

impl Distortion {
    /// Of two slices of equal length; a longer one is cut.
    pub fn between(weights: &[f32], decoded: &[f32]) -> Self {
        let mut all = Self::default();
        for (x, y) in weights.chunks(TILE).zip(decoded.chunks(TILE)) {
            let mut tally = Tally::default();
            for (x, y) in x.chunks(LANES).zip(y.chunks(LANES)) {
                let (mut a, mut b) = ([0.0; LANES], [0.0; LANES]);
                a.iter_mut().zip(x).for_each(|(to, from)| *to = *from);
                b.iter_mut().zip(y).for_each(|(to, from)| *to = *from);
                tally.add(&a, &b);
            }
            all.merge(&tally.total(x.len().min(y.len())));
        }
        all
    }

    /// Adds the sums of the part that follows.
    pub fn merge(&mut self, next: &Self) {
        self.signal += next.signal;
        self.noise += next.noise;
        self.max_abs = if next.max_abs > self.max_abs { next.max_abs } else { self.max_abs };
        self.elements += next.elements;
    }

    /// Signal to noise in decibels: `10 log10(signal / noise)`. None where either is
    /// zero, or where weights beyond 1e19 took the sums out of range.
    #[cfg(feature = "std")]
    pub fn sqnr_db(&self) -> Option<f64> {
        let there = |x: f64| x > 0.0 && x.is_finite();
        (there(self.signal) && there(self.noise)).then(|| 10.0 * (self.signal / self.noise).log10())
    }
}

/// Lanes of every sum.
pub(crate) const LANES: usize = 16;

/// Most elements whose squares are summed in `f32`.
pub(crate) const TILE: usize = 4096;

/// The lanes of one tile.
#[derive(Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) signal: [f32; LANES],
    pub(crate) noise: [f32; LANES],
    pub(crate) max_abs: [f32; LANES],
}

impl Tally {
    /// Adds sixteen weights `x` that decode to `y`.
    #[inline(always)]
    pub(crate) fn add(&mut self, x: &[f32; LANES], y: &[f32; LANES]) {
        for i in 0..LANES {
            let error = x[i] - y[i];
            self.signal[i] += x[i] * x[i];
            self.noise[i] += error * error;
            let size = error.abs();
            self.max_abs[i] = if size > self.max_abs[i] { size } else { self.max_abs[i] };
        }
    }

    /// The folded sums over `elements` weights.
    #[inline(always)]
    pub(crate) fn total(&self, elements: usize) -> Distortion {
        let mut max_abs = 0.0;
        for x in self.max_abs {
            max_abs = if x > max_abs { x } else { max_abs };
        }
        Distortion {
            signal: fold(self.signal).into(),
            noise: fold(self.noise).into(),
            max_abs,
            elements: elements as u64,
        }
    }
}

/// The sum of sixteen lanes: pairs 8 apart, then 4, 2 and 1.
#[inline(always)]
pub(crate) fn fold(v: [f32; LANES]) -> f32 {
    let a: [f32; 8] = core::array::from_fn(|i| v[i] + v[i + 8]);
    let b: [f32; 4] = core::array::from_fn(|i| a[i] + a[i + 4]);
    (b[0] + b[2]) + (b[1] + b[3])
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::*;

    #[test]
    fn three_and_four_with_an_error_of_one_are_14_decibels() {
        let d = Distortion::between(&[3.0, 4.0], &[3.0, 5.0]);
        assert_eq!(d, Distortion { signal: 25.0, noise: 1.0, max_abs: 1.0, elements: 2 });
        assert!((d.sqnr_db().unwrap() - 13.979_400_086_720_376).abs() < 1e-12);
    }

    #[test]
    fn a_wrong_decoding_shows_in_every_field() {
        let weights: std::vec::Vec<f32> = (0..5000).map(|i| (i % 17) as f32 - 8.0).collect();
        let right = Distortion::between(&weights, &weights);
        assert_eq!((right.noise, right.max_abs, right.sqnr_db()), (0.0, 0.0, None));
        for at in [0, 15, 16, 4095, 4096, 4999] {
            let mut wrong = weights.clone();
            wrong[at] += 0.5;
            let d = Distortion::between(&weights, &wrong);
            assert_eq!((d.noise, d.max_abs, d.elements), (0.25, 0.5, 5000));
            assert!(d.sqnr_db().is_some());
        }
    }

    #[test]
    fn parts_merge_to_the_whole() {
        let x: std::vec::Vec<f32> = (0..3 * TILE + 5).map(|i| (i as f32).sin()).collect();
        let y: std::vec::Vec<f32> = x.iter().map(|x| x * 0.9).collect();
        let mut merged = Distortion::between(&x[..TILE], &y[..TILE]);
        merged.merge(&Distortion::between(&x[TILE..], &y[TILE..]));
        assert_eq!(merged, Distortion::between(&x, &y));
    }

    #[test]
    fn sums_out_of_range_have_no_ratio() {
        let d = Distortion::between(&[1e30, 0.0], &[0.0, 0.0]);
        assert_eq!(d.sqnr_db(), None);
        let zero = Distortion::between(&[0.0], &[1.0]);
        assert_eq!(zero.sqnr_db(), None);
    }
}

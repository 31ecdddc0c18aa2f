//! Weight distribution regularization: a loss that is least where a tensor's weights are spread evenly, so that few codes
//! hold them well (EQ-Net).
//!
//! With the mean μ and the standard deviation σ of all weights of a tensor, and `u = (w - μ) / σ`:
//!
//! ```text
//! skewness = mean u^3        kurtosis = mean u^4
//! loss     = f_s (skewness - t_s)^2 + f_k (kurtosis - t_k)^2
//! ```
//!
//! The paper's targets are those of a uniform distribution, `t_s = 0` and `t_k = 1.8`; a normal one has kurtosis 3. Its
//! released code has the factors `f_s = 1` and `f_k = 0.015`, and takes σ from N - 1. The loss of a network is the mean
//! over its layers without the first, as the released code has it: callers hand over the share of one layer.
//!
//! Sums are of doubles in sixteen lanes, added in a fixed order: every machine and SIMD level gives the same result.

use niwaki_codes::simd::Level;
use niwaki_codes::stamp;

use crate::error::exactly;
use crate::{Error, ErrorKind};

/// Sums kept side by side.
const LANES: usize = 16;

/// What the variance divides its sum by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deviation {
    /// N.
    Biased,
    /// N - 1, as the released code has it.
    Unbiased,
}

/// How a tensor's weights are distributed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Distribution {
    /// The mean.
    pub mean: f64,
    /// The standard deviation, above 0.
    pub deviation: f64,
    /// The mean of u^3.
    pub skewness: f64,
    /// The mean of u^4.
    pub kurtosis: f64,
}

/// The loss: its targets and factors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wdr {
    /// What the square of the skewness' error is multiplied with.
    pub skewness_factor: f64,
    /// The skewness that loses nothing.
    pub skewness_target: f64,
    /// What the square of the kurtosis' error is multiplied with.
    pub kurtosis_factor: f64,
    /// The kurtosis that loses nothing.
    pub kurtosis_target: f64,
    /// Which standard deviation.
    pub deviation: Deviation,
}

impl Default for Wdr {
    /// The targets of the paper, the rest as in the released code.
    fn default() -> Self {
        Self {
            skewness_factor: 1.0,
            skewness_target: 0.0,
            kurtosis_factor: 0.015,
            kurtosis_target: 1.8,
            deviation: Deviation::Unbiased,
        }
    }
}

stamp! {
    /// The sum of what weights have above `from`.
    fn excess = excess_body(w: &[f32], from: f64) -> f64;
}

#[inline(always)]
fn excess_body(w: &[f32], from: f64) -> f64 {
    let mut sums = [0.0; LANES];
    let (runs, rest) = w.as_chunks::<LANES>();
    for run in runs {
        for i in 0..LANES {
            sums[i] += f64::from(run[i]) - from;
        }
    }
    for (sum, w) in sums.iter_mut().zip(rest) {
        *sum += f64::from(*w) - from;
    }
    sums.iter().sum()
}

stamp! {
    /// The sums of the second, third and fourth powers of what weights have above their mean.
    fn powers = powers_body(w: &[f32], mean: f64) -> [f64; 3];
}

#[inline(always)]
fn powers_body(w: &[f32], mean: f64) -> [f64; 3] {
    let [mut second, mut third, mut fourth] = [[0.0; LANES]; 3];
    let mut add = |i: usize, w: f32| {
        let d = f64::from(w) - mean;
        let square = d * d;
        second[i] += square;
        third[i] += square * d;
        fourth[i] += square * square;
    };
    let (runs, rest) = w.as_chunks::<LANES>();
    for run in runs {
        for (i, w) in run.iter().enumerate() {
            add(i, *w);
        }
    }
    for (i, w) in rest.iter().enumerate() {
        add(i, *w);
    }
    [second, third, fourth].map(|sums| sums.iter().sum())
}

stamp! {
    /// Adds a polynomial of third degree in u, coefficients from the constant upwards.
    fn add_cubic = add_cubic_body(w: &[f32], place: (f64, f64), c: [f64; 4], gradient: &mut [f32]) -> ();
}

#[inline(always)]
fn add_cubic_body(w: &[f32], (mean, inverse): (f64, f64), c: [f64; 4], gradient: &mut [f32]) {
    for (gradient, w) in gradient.iter_mut().zip(w) {
        let u = (f64::from(*w) - mean) * inverse;
        *gradient += (c[0] + u * (c[1] + u * (c[2] + u * c[3]))) as f32;
    }
}

impl Distribution {
    /// Of all weights of a tensor; none where all are equal, or where there is one or none.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFinite`].
    pub fn of(level: Level, weights: &[f32], deviation: Deviation) -> Result<Option<Self>, Error> {
        let Some(first) = weights.first().map(|w| f64::from(*w)) else { return Ok(None) };
        let n = weights.len() as f64;
        // Counted from a weight, equal ones have their mean exactly.
        let excess = excess(level, weights, first);
        if !excess.is_finite() {
            let index = weights.iter().position(|w| !w.is_finite()).unwrap_or(0);
            return Err(ErrorKind::NotFinite { index }.into());
        }
        let mean = first + excess / n;
        let [second, third, fourth] = powers(level, weights, mean);
        if second == 0.0 {
            return Ok(None);
        }
        let deviation = (second / (n - deviation.lost())).sqrt();
        let square = deviation * deviation;
        let skewness = third / (n * square * deviation);
        Ok(Some(Self { mean, deviation, skewness, kurtosis: fourth / (n * square * square) }))
    }
}

impl Deviation {
    /// What is taken from the count.
    fn lost(self) -> f64 {
        match self {
            Self::Biased => 0.0,
            Self::Unbiased => 1.0,
        }
    }
}

impl Wdr {
    /// The loss of a tensor with this distribution.
    pub fn loss(&self, of: &Distribution) -> f64 {
        let (skewness, kurtosis) = (of.skewness - self.skewness_target, of.kurtosis - self.kurtosis_target);
        self.skewness_factor * skewness * skewness + self.kurtosis_factor * kurtosis * kurtosis
    }

    /// Adds `share` times the gradient of a tensor's loss to `gradient`, an element a weight, and gives the distribution,
    /// whose [`loss`](Self::loss) is not multiplied with the share. A tensor whose weights are all equal adds nothing and
    /// has none.
    ///
    /// With c = 1 where the variance divides by N - 1, else 0, and `r = N / (N - c)`:
    ///
    /// ```text
    /// d skewness / d w = 3 / (N σ) (u^2 - 1 / r - r skewness u)
    /// d kurtosis / d w = 4 / (N σ) (u^3 - skewness - r kurtosis u)
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Length`] for a gradient of another length, [`ErrorKind::NotFinite`].
    pub fn add_gradient(
        &self,
        level: Level,
        weights: &[f32],
        share: f64,
        gradient: &mut [f32],
    ) -> Result<Option<Distribution>, Error> {
        exactly("gradient", weights.len(), gradient.len())?;
        let Some(of) = Distribution::of(level, weights, self.deviation)? else { return Ok(None) };
        let n = weights.len() as f64;
        let r = n / (n - self.deviation.lost());
        let outer = 2.0 * share / (n * of.deviation);
        let skew = 3.0 * outer * self.skewness_factor * (of.skewness - self.skewness_target);
        let kurt = 4.0 * outer * self.kurtosis_factor * (of.kurtosis - self.kurtosis_target);
        let cubic = [-skew / r - kurt * of.skewness, -r * (skew * of.skewness + kurt * of.kurtosis), skew, kurt];
        add_cubic(level, weights, (of.mean, 1.0 / of.deviation), cubic, gradient);
        Ok(Some(of))
    }
}

#[cfg(test)]
mod tests;

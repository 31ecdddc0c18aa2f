//! Several signatures become one.
//!
//! - sum: `Σ alpha_i · s_i`, each alpha once.
//! - TIES (Yadav et al. 2023): of each signature its largest magnitudes; the sign with the greater
//!   sum wins; the mean of those that have it.
//! - DARE (Yu et al. 2023): weights are dropped at random and the rest is scaled up; then the sum.

use alloc::vec::Vec;

use crate::draws::mixed;

/// Adds `alpha · values` to `total`; stops at the shorter side.
pub fn add(alpha: f64, values: &[f32], total: &mut [f64]) {
    for (total, x) in total.iter_mut().zip(values) {
        *total += alpha * f64::from(*x);
    }
}

/// Elects a sign for each weight and averages the values that have it: `values` are those of
/// all signatures for one run of weights, scaled and trimmed (0 where trimmed).
pub fn elect(values: &[Vec<f64>], out: &mut [f32]) {
    for (at, out) in out.iter_mut().enumerate() {
        let of = || values.iter().map(|values| values.get(at).copied().unwrap_or(0.0));
        let positive = of().sum::<f64>() >= 0.0;
        let (mut sum, mut count) = (0.0, 0u32);
        for x in of().filter(|x| *x != 0.0 && (*x > 0.0) == positive) {
            sum += x;
            count += 1;
        }
        *out = if count == 0 { 0.0 } else { (sum / f64::from(count)) as f32 };
    }
}

/// Which weights DARE keeps of one tensor of one signature.
#[derive(Clone, Copy, Debug)]
pub struct Dare {
    seed: u64,
    /// A draw below this keeps the weight.
    below: u64,
    scale: f64,
}

impl Dare {
    /// Keeps the share `density` of the weights, between 0 and 1, and divides them by it.
    /// `stream` tells tensors and signatures apart.
    pub fn new(seed: u64, stream: u64, density: f64) -> Self {
        let density = density.clamp(f64::MIN_POSITIVE, 1.0);
        // 2^53 is exact, so a density of 1 keeps all.
        let below = (density * 9_007_199_254_740_992.0) as u64;
        Self { seed: mixed(seed ^ mixed(stream)), below, scale: 1.0 / density }
    }

    /// What weight `index` of the tensor is multiplied by: 0, or 1 by the density.
    pub fn factor(&self, index: u64) -> f64 {
        // A draw hangs on the place alone: pieces may come in any order.
        if mixed(self.seed.wrapping_add(index.wrapping_mul(0x9E37_79B9_7F4A_7C15))) >> 11 < self.below {
            self.scale
        } else {
            0.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greater_sum_elects_the_sign_and_the_others_do_not_count() {
        let values = [vec![1.0, 1.0, 0.0, -3.0], vec![-4.0, 3.0, 0.0, 1.0], vec![2.0, 0.0, 0.0, 1.0]];
        let mut out = [9.0; 4];
        elect(&values, &mut out);
        assert_eq!(out, [-4.0, 2.0, 0.0, -3.0]);
    }

    #[test]
    fn a_sum_counts_each_alpha_once() {
        let mut total = [1.0, 2.0];
        add(0.5, &[4.0, -8.0, 1.0], &mut total);
        assert_eq!(total, [3.0, -2.0]);
    }

    #[test]
    fn a_draw_keeps_its_share_and_the_mean() {
        for density in [0.1, 0.5, 0.9] {
            let dare = Dare::new(7, 3, density);
            let factors: Vec<f64> = (0..100_000).map(|i| dare.factor(i)).collect();
            let kept = factors.iter().filter(|f| **f > 0.0).count() as f64 / 100_000.0;
            let mean = factors.iter().sum::<f64>() / 100_000.0;
            assert!((kept - density).abs() < 0.01 && (mean - 1.0).abs() < 0.04, "{density}: {kept} {mean}");
        }
        assert!((0..1000).all(|i| Dare::new(1, 1, 1.0).factor(i) == 1.0));
        let differ = |a: Dare, b: Dare| (0..1000).any(|i| a.factor(i) != b.factor(i));
        assert!(differ(Dare::new(1, 1, 0.5), Dare::new(2, 1, 0.5)));
        assert!(differ(Dare::new(1, 1, 0.5), Dare::new(1, 2, 0.5)));
    }
}

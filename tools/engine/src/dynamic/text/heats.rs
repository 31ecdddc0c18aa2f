//! How much channels fire, counted.

use niwaki_prune::dynamic::Target;

/// Lower bits of a float that bins do not look at: 15 of 23 of the mantissa.
const LOWER: u32 = 15;

/// How often channels of a layer fired how much: by the upper bits of the magnitude.
pub(super) struct Heats(Vec<u64>);

impl Heats {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        Self(vec![0; 1 << (31 - LOWER)])
    }

    /// Adds what came of an activation.
    pub(super) fn add(&mut self, activated: &[f32]) {
        for a in activated {
            self.0[(a.abs().to_bits() >> LOWER) as usize] += 1;
        }
    }

    /// The least magnitude that bin number `bin` counts.
    fn edge(bin: usize) -> f32 {
        f32::from_bits((bin as u32) << LOWER)
    }

    /// The first bin of what is not finite.
    const END: usize = (f32::INFINITY.to_bits() >> LOWER) as usize;

    /// Whether all were finite.
    pub(super) fn finite(&self) -> bool {
        self.0[Self::END..].iter().all(|count| *count == 0)
    }

    /// The least threshold that leaves no more than a target, and the share of channels that it leaves.
    pub(super) fn threshold(&self, target: Target) -> (f32, f64) {
        // A bin counts for the middle of what it counts.
        let middle = |bin: usize| f64::from(f32::from_bits(((bin as u32) << LOWER) | (1 << (LOWER - 1))));
        let weight = |bin: usize| match target {
            Target::Mass(_) => middle(bin) * self.0[bin] as f64,
            Target::Uniform(_) => self.0[bin] as f64,
        };
        // In the same order both times: all is not less than all.
        let all: f64 = (0..Self::END).rev().map(weight).sum();
        let most = target.share().get() * all;
        let (mut sum, mut kept, mut least) = (0.0, 0, Self::END);
        for bin in (0..Self::END).rev() {
            sum += weight(bin);
            // What nothing fires in costs nothing.
            if sum > most && kept > 0 && self.0[bin] > 0 {
                break;
            }
            (kept, least) = (kept + self.0[bin], bin);
        }
        (Self::edge(least), kept as f64 / self.0.iter().sum::<u64>().max(1) as f64)
    }
}

#[cfg(test)]
mod tests {
    use niwaki_prune::Ratio;

    use super::*;

    fn of(share: f64, target: fn(Ratio) -> Target, all: &[f32]) -> (f32, f64) {
        let mut heats = Heats::new();
        heats.add(all);
        heats.threshold(target(Ratio::new(share).expect("a share")))
    }

    #[test]
    fn thresholds_leave_no_more_than_was_asked_for() {
        // Magnitudes 1 to 8, of which each has a bin of its own.
        let all = [1.0f32, -2.0, 3.0, -4.0, 5.0, -6.0, 7.0, -8.0];
        // Above a bin lies what is 2^-8 more than the least that it counts.
        let above = |x: f32| x * (1.0 + 2f32.powi(-8));
        for (share, kept) in [(0.5, 4), (0.49, 3), (0.125, 1), (0.01, 1), (0.9, 7)] {
            let (threshold, left) = of(share, Target::Uniform, &all);
            assert_eq!(left, f64::from(kept) / 8.0, "{share}");
            assert!(
                threshold > (8 - kept) as f32 && threshold <= above((8 - kept) as f32).max(1.01),
                "{share}: {threshold}"
            );
            assert_eq!(all.iter().filter(|x| x.abs() >= threshold).count(), kept as usize);
        }
        // 8 + 7 + 6 of 36 is 0.583.
        assert_eq!([0.57, 0.6, 0.1].map(|share| of(share, Target::Mass, &all).1), [2.0 / 8.0, 3.0 / 8.0, 1.0 / 8.0]);
        for target in [Target::Mass, Target::Uniform] {
            assert_eq!(of(1.0, target, &all), (0.0, 1.0), "all is no more than all");
            assert_eq!(of(1.0, target, &[0.1; 1000]), (0.0, 1.0));
        }
        assert_eq!(of(0.5, Target::Uniform, &[3.0; 10]).1, 1.0, "what fires alike stays together");
    }

    #[test]
    fn what_is_not_finite_is_seen() {
        let mut heats = Heats::new();
        heats.add(&[f32::MAX, -f32::MAX, 0.0, -0.0]);
        assert!(heats.finite());
        for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut heats = Heats::new();
            heats.add(&[odd]);
            assert!(!heats.finite());
        }
    }
}

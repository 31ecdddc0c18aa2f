//! How many weights each tensor keeps, where a network is to keep a share of all.

use alloc::vec;
use alloc::vec::Vec;

use niwaki_codes::simd::Level;

use crate::magnitude::magnitude;
use crate::select::Step;
use crate::{Error, Ratio, Rule, select};

/// How the weights that are kept are divided among tensors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Budget {
    /// One threshold of magnitudes for all: a tensor keeps as many as it has at or above it. The budget of *Lottery
    /// Jackpots Exist in Pre-trained Models* (Zhang et al., 2023).
    #[default]
    Global,
    /// The same share of each.
    Uniform,
    /// A share that falls with the number of weights between two units of a layer: the Erdős-Rényi kernel of *Rigging the
    /// Lottery* (Evci et al., 2020).
    Erk,
}

/// How many weights each tensor keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budgets {
    /// By tensor; at least one.
    pub counts: Vec<u64>,
    /// The tensors that would have kept none.
    pub guarded: Vec<usize>,
}

impl Budgets {
    fn new(mut counts: Vec<u64>, sizes: impl Iterator<Item = usize>) -> Self {
        let mut guarded = Vec::new();
        for (at, (count, size)) in counts.iter_mut().zip(sizes).enumerate() {
            if *count == 0 && size > 0 {
                *count = 1;
                guarded.push(at);
            }
        }
        Self { counts, guarded }
    }
}

impl Budget {
    /// The budgets of tensors of these shapes and weights, of which together the share `keep` stays, as near as the rule
    /// comes to it.
    ///
    /// # Errors
    ///
    /// Weights without a magnitude.
    pub fn divide(self, level: Level, keep: Ratio, tensors: &[(&[usize], &[f32])]) -> Result<Budgets, Error> {
        let sizes = || tensors.iter().map(|(_, weights)| weights.len());
        let counts = match self {
            Self::Global => global(level, keep, tensors)?,
            Self::Uniform => sizes().map(|size| rest(size as u64, keep)).collect(),
            Self::Erk => erk(keep, tensors),
        };
        Ok(Budgets::new(counts, sizes()))
    }
}

/// The whole number in a product of a share; what lacks a millionth of the next one lacks it by rounding.
fn whole(share: f64, size: u64) -> u64 {
    (share * size as f64 + 1e-6) as u64
}

/// What of so many is not among the whole number that is dropped.
fn rest(size: u64, keep: Ratio) -> u64 {
    size - whole(1.0 - keep.get(), size)
}

fn global(level: Level, keep: Ratio, tensors: &[(&[usize], &[f32])]) -> Result<Vec<u64>, Error> {
    let all: u64 = tensors.iter().map(|(_, weights)| weights.len() as u64).sum();
    let count = whole(keep.get(), all);
    let mut step = select::begin(all, count.clamp(u64::from(all > 0), all));
    let threshold = loop {
        match step {
            Step::Done(Rule::Threshold { bits, .. }) => break bits,
            Step::Done(Rule::NofM(_)) => break 0,
            Step::Observe(pass) => {
                let mut counts = pass.counts();
                for (_, weights) in tensors {
                    counts.observe(level, 0, weights)?;
                }
                step = pass.advance(&counts)?;
            }
        }
    };
    // Those at the threshold stay, however many they are.
    let kept = |weights: &[f32]| weights.iter().filter(|w| magnitude(**w) >= threshold).count() as u64;
    Ok(tensors.iter().map(|(_, weights)| kept(weights)).collect())
}

/// Shares of a factor times the sum of a shape over its product; those that would be more than all are all.
fn erk(keep: Ratio, tensors: &[(&[usize], &[f32])]) -> Vec<u64> {
    let raw: Vec<f64> = tensors
        .iter()
        .map(|(shape, _)| {
            let (sum, product) =
                shape.iter().fold((0.0, 1.0), |(sum, product), dim| (sum + *dim as f64, product * *dim as f64));
            if product > 0.0 { sum / product } else { 0.0 }
        })
        .collect();
    let all: f64 = tensors.iter().map(|(_, weights)| weights.len() as f64).sum();
    let mut dense = vec![false; tensors.len()];
    loop {
        let (mut left, mut weighted) = (keep.get() * all, 0.0);
        for ((dense, raw), (_, weights)) in dense.iter().zip(&raw).zip(tensors) {
            match dense {
                true => left -= weights.len() as f64,
                false => weighted += raw * weights.len() as f64,
            }
        }
        let factor = if weighted > 0.0 { (left / weighted).max(0.0) } else { 0.0 };
        let mut more = false;
        for (dense, raw) in dense.iter_mut().zip(&raw) {
            if !*dense && raw * factor > 1.0 {
                *dense = true;
                more = true;
            }
        }
        if more {
            continue;
        }
        let each = dense.iter().zip(&raw).zip(tensors);
        return each
            .map(|((dense, raw), (_, weights))| match dense {
                true => weights.len() as u64,
                false => (raw * factor * weights.len() as f64) as u64,
            })
            .collect();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    fn counts(budget: Budget, keep: f64, tensors: &[(&[usize], &[f32])]) -> Budgets {
        budget.divide(Level::Scalar, Ratio::new(keep).unwrap(), tensors).unwrap()
    }

    #[test]
    fn one_threshold_gives_each_tensor_what_it_has_above() {
        let (a, b, c) = ([5.0, -4.0, 3.0, 0.5], [0.1, -0.2], [2.0, 2.0, -2.0, 1.0]);
        let tensors: [(&[usize], &[f32]); 3] = [(&[2, 2], &a), (&[1, 2], &b), (&[4], &c)];
        // The four largest of ten are 5, 4, 3 and a 2: all of its equals stay.
        assert_eq!(counts(Budget::Global, 0.4, &tensors), Budgets { counts: vec![3, 1, 3], guarded: vec![1] });
        assert_eq!(counts(Budget::Global, 1.0, &tensors).counts, [4, 2, 4]);
        // A whole number is dropped: 0.7 of 4 is 2, of 2 it is 1.
        assert_eq!(counts(Budget::Uniform, 0.3, &tensors).counts, [2, 1, 2]);
        // 10 times 1 - 0.9 is a little less than 1.
        assert_eq!(whole(1.0 - 0.9, 10), 1);
        let nan = [f32::NAN; 2];
        assert!(Budget::Global.divide(Level::Scalar, Ratio::new(0.5).unwrap(), &[(&[2], &nan)]).is_err());
    }

    #[test]
    fn erdos_and_renyi_thin_out_what_is_wide() {
        let (small, large) = (vec![1.0; 4 * 4], vec![1.0; 64 * 64]);
        let tensors: [(&[usize], &[f32]); 2] = [(&[4, 4], &small), (&[64, 64], &large)];
        let found = counts(Budget::Erk, 0.1, &tensors);
        // The small one would keep more than it has, and keeps all; what is left goes to the other.
        assert_eq!(found.counts, [16, 395]);
        assert_eq!(counts(Budget::Erk, 1.0, &tensors).counts, [16, 4096]);
        let none: [(&[usize], &[f32]); 1] = [(&[0, 3], &[])];
        assert_eq!(counts(Budget::Erk, 0.5, &none), Budgets { counts: vec![0], guarded: vec![] });
    }
}

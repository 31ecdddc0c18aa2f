//! Which blocks of a residual network go, and which stay.
//!
//! Every block gets a score, and those of the lowest scores go first. Blocks are numbered in the
//! order in which they run, from 0.
//!
//! - *Influence* [shortgpt, 3]: how far a block turns the hidden state of a token on average,
//!
//!   ```text
//!   BI_l = 1 - mean over t of  x_l,t . x_l+1,t / (|x_l,t| |x_l+1,t|)
//!   ```
//!
//!   x_l,t being what block l takes for token t, and x_l+1,t what it gives. A block that adds nothing has
//!   influence 0. (*ShortGPT: Layers in Large Language Models are More Redundant Than You Expect*, Men et
//!   al. 2024.) Sums are of double floats, over elements and over tokens in their order.
//! - *Random*: drawn evenly between 0 and 1, the control that every other score has to beat
//!   [lottery layers, 3].
//!
//! - *HRank* and *expectABS*, of the maps that a block makes: [`Maps`].
//! - *PLS*, how much a block's features tell of the classes: [`Projection`].
//! - *CKA*, how alike the last features are with and without a block: [`Alignment`].
//!
//! Whoever runs the network computes other scores, such as how far its outputs move without a
//! block, or gradients. Which blocks may go is the same for all: [`Removable`].

#[cfg(feature = "alloc")]
use alloc::vec::Vec;

#[cfg(feature = "alloc")]
use crate::{Error, ErrorKind};

#[cfg(feature = "std")]
mod alike;
#[cfg(feature = "std")]
mod maps;
#[cfg(feature = "std")]
mod projection;
#[cfg(feature = "alloc")]
mod stages;
#[cfg(all(test, feature = "std"))]
mod tests;

#[cfg(feature = "std")]
pub use alike::Alignment;
#[cfg(feature = "std")]
pub use maps::{Maps, rank};
#[cfg(feature = "std")]
pub use projection::Projection;
#[cfg(feature = "alloc")]
pub use stages::{Removable, Seat};

/// The influence of one block, from the tokens seen so far.
#[cfg(feature = "std")]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Influence {
    /// Sum of 1 - cosine.
    turned: f64,
    tokens: u64,
}

#[cfg(feature = "std")]
impl Influence {
    /// Adds tokens: the hidden states that the block takes and those that it gives, each
    /// `[tokens, width]` row by row.
    ///
    /// The cosine with a vector of zeros is 1 where both are zero, else 0.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::States`] for two lengths that differ, or that `width` does not divide.
    pub fn add(&mut self, before: &[f32], after: &[f32], width: usize) -> Result<(), Error> {
        if width == 0 || before.len() != after.len() || !before.len().is_multiple_of(width) {
            return Err(ErrorKind::States { before: before.len(), after: after.len(), width }.into());
        }
        for (before, after) in before.chunks_exact(width).zip(after.chunks_exact(width)) {
            self.turned += 1.0 - cosine(before, after);
            self.tokens += 1;
        }
        Ok(())
    }

    /// How many tokens were seen.
    pub const fn tokens(&self) -> u64 {
        self.tokens
    }

    /// 1 - the mean cosine, from 0 to 2; none before the first token, and NaN where a state was not
    /// finite.
    pub fn score(&self) -> Option<f64> {
        (self.tokens > 0).then(|| self.turned / self.tokens as f64)
    }
}

/// The cosine of the angle between two vectors of one length.
#[cfg(feature = "std")]
fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (f64::from(*a), f64::from(*b));
        ab += a * b;
        aa += a * a;
        bb += b * b;
    }
    if aa == 0.0 && bb == 0.0 {
        return 1.0;
    }
    if aa == 0.0 || bb == 0.0 {
        return 0.0;
    }
    // Rounding may lead a little beyond; NaN stays NaN.
    (ab / (aa * bb).sqrt()).clamp(-1.0, 1.0)
}

/// A score for each of `blocks` blocks, drawn evenly between 0 and 1, never either.
///
/// The generator is splitmix64 (Steele, Lea and Flood 2014), so a seed gives the same scores on
/// every machine, and the first of them do not hang on how many there are.
#[cfg(feature = "alloc")]
pub fn random_scores(blocks: usize, seed: u64) -> Vec<f64> {
    /// The golden ratio's fraction as a 64-bit number: the step of splitmix64.
    const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
    let mixed = |x: u64| {
        let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    };
    let first = mixed(seed.wrapping_add(STEP));
    let bits = (1..=blocks as u64).map(|at| mixed(first.wrapping_add(at.wrapping_mul(STEP))));
    bits.map(|bits| ((bits >> 11) as f64 + 0.5) * (1.0 / 9_007_199_254_740_992.0)).collect()
}

/// The blocks in the order in which they go: the lowest score first, of equal ones the earlier block.
///
/// # Errors
///
/// [`ErrorKind::Score`] for a score that is NaN or infinite: what has no place in an order.
#[cfg(feature = "alloc")]
pub fn order(scores: &[f64]) -> Result<Vec<usize>, Error> {
    if let Some((block, score)) = scores.iter().enumerate().find(|(_, score)| !score.is_finite()) {
        return Err(ErrorKind::Score { block, score: *score }.into());
    }
    let mut order: Vec<usize> = (0..scores.len()).collect();
    // Stable: of equal scores the earlier block stays ahead. 0 and -0 are equal.
    order.sort_by(|a, b| scores[*a].partial_cmp(&scores[*b]).unwrap_or(core::cmp::Ordering::Equal));
    Ok(order)
}

/// The `count` blocks that go first by their scores, in the order in which they run.
///
/// # Errors
///
/// Those of [`order`], and of [`kept`] for none and for all blocks.
#[cfg(feature = "alloc")]
pub fn lowest(scores: &[f64], count: usize) -> Result<Vec<usize>, Error> {
    if count >= scores.len() {
        return Err(ErrorKind::AllBlocks { blocks: scores.len(), removed: count }.into());
    }
    let mut lowest = order(scores)?;
    lowest.truncate(count);
    lowest.sort_unstable();
    kept(scores.len(), &lowest)?;
    Ok(lowest)
}

/// The blocks that stay when others go, in the order in which they run.
///
/// # Errors
///
/// Nothing to remove, a block that is not there, one named twice, and no block left.
#[cfg(feature = "alloc")]
pub fn kept(blocks: usize, removed: &[usize]) -> Result<Vec<usize>, Error> {
    if removed.is_empty() {
        return Err(ErrorKind::NoBlocks.into());
    }
    let mut stays = alloc::vec![true; blocks];
    for &block in removed {
        match stays.get_mut(block) {
            None => return Err(ErrorKind::Block { block, blocks }.into()),
            Some(stays) if !*stays => return Err(ErrorKind::BlockTwice { block }.into()),
            Some(stays) => *stays = false,
        }
    }
    let kept: Vec<usize> = (0..blocks).filter(|block| stays[*block]).collect();
    match kept.is_empty() {
        true => Err(ErrorKind::AllBlocks { blocks, removed: removed.len() }.into()),
        false => Ok(kept),
    }
}

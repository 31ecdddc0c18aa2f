//! The k-th largest magnitude of a tensor that is only seen piece by piece.
//!
//! Two passes over the weights, each a histogram over some of the 31 bits of |w|:
//!
//! ```text
//! bit   30 ........ 15 14 ....... 0
//!       pass 1: upper  pass 2: lower, of the weights whose upper bits are the k-th's
//! ```
//!
//! After the first pass the upper bits of the k-th largest are known, after the second
//! all of them, and how many weights are above. Memory does not grow with the tensor.
//! Counts add up, so it does not matter how the pieces were cut, in which order they
//! came, or who counted them.

use alloc::boxed::Box;
use alloc::vec;

use niwaki_codes::simd::Level;
use niwaki_codes::{Mask, MaskView, stamp};

use crate::magnitude::{finite, magnitude};
use crate::{Error, ErrorKind, Pattern, Rule};

#[cfg(test)]
mod tests;

/// Bins of a histogram: one for each value of the upper bits.
const BINS: usize = 1 << 16;

/// Bits of |w| that the second pass counts by.
const LOWER: u32 = 15;

/// What selection needs next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// One more pass over all weights.
    Observe(Pass),
    /// Nothing: kept weights can be told from dropped ones.
    Done(Rule),
}

/// One pass over all weights of a tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pass {
    elements: u64,
    keep: u64,
    digit: Digit,
}

/// The bits that a pass counts by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Digit {
    /// Those above [`LOWER`].
    Upper,
    /// The lower ones of weights that have these upper ones; so many weights are larger.
    Lower { upper: u32, above: u64 },
}

/// What one worker saw of one pass: half a megabyte, whatever the tensor's size.
#[derive(Clone, Debug, PartialEq)]
pub struct Counts {
    pass: Pass,
    seen: u64,
    bins: Box<[u64]>,
}

impl Pattern {
    /// Begins to choose among the weights of a tensor of `rows` by `cols`.
    pub fn select(&self, rows: usize, cols: usize) -> Step {
        let elements = (rows as u64).saturating_mul(cols as u64);
        match self {
            Self::NofM(run) => Step::Done(Rule::NofM(*run)),
            Self::Keep(ratio) => begin(elements, ratio.of(elements)),
        }
    }
}

/// Begins to look for the `keep` largest of so many weights.
pub(crate) fn begin(elements: u64, keep: u64) -> Step {
    match elements {
        0 => Step::Done(Rule::Threshold { bits: 0, ties: 0 }),
        _ => Step::Observe(Pass { elements, keep, digit: Digit::Upper }),
    }
}

impl Pass {
    /// Counts of this pass that saw nothing yet.
    pub fn counts(&self) -> Counts {
        Counts { pass: *self, seen: 0, bins: vec![0; BINS].into_boxed_slice() }
    }

    /// Draws the conclusion from the counts of all weights.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Count`] if some weights were not seen, or seen twice;
    /// [`ErrorKind::Passes`] for counts of another pass; [`ErrorKind::Changed`] if the
    /// weights are not those of the pass before.
    pub fn advance(&self, counts: &Counts) -> Result<Step, Error> {
        if counts.pass != *self {
            return Err(ErrorKind::Passes.into());
        }
        if counts.seen != self.elements {
            return Err(ErrorKind::Count { needs: self.elements, has: counts.seen }.into());
        }
        let mut above = match self.digit {
            Digit::Upper => 0,
            Digit::Lower { above, .. } => above,
        };
        for (bin, count) in counts.bins.iter().enumerate().rev() {
            if above + count >= self.keep {
                return Ok(self.found(bin as u32, above));
            }
            above += count;
        }
        // Fewer weights have the upper bits than had them in the first pass.
        Err(ErrorKind::Changed.into())
    }

    /// The k-th largest lies in this bin, and so many weights lie above the bin.
    fn found(&self, bin: u32, above: u64) -> Step {
        match self.digit {
            Digit::Upper => Step::Observe(Self { digit: Digit::Lower { upper: bin, above }, ..*self }),
            Digit::Lower { upper, .. } => {
                Step::Done(Rule::Threshold { bits: upper << LOWER | bin, ties: self.keep - above })
            }
        }
    }
}

impl Counts {
    /// Counts a piece of the tensor; `at` is the flat index of its first weight.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFinite`] for the first weight of the piece without a magnitude.
    pub fn observe(&mut self, level: Level, at: u64, piece: &[f32]) -> Result<(), Error> {
        let mut at = at;
        // A tile is looked at twice: it should stay in the nearest cache.
        for tile in piece.chunks(4096) {
            finite(level, at, tile)?;
            match self.pass.digit {
                Digit::Upper => count_upper(level, tile, &mut self.bins),
                Digit::Lower { upper, .. } => count_lower(level, upper, tile, &mut self.bins),
            }
            at += tile.len() as u64;
        }
        self.seen += piece.len() as u64;
        Ok(())
    }

    /// Adds what another worker saw of the same pass.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Passes`] for counts of another pass.
    pub fn merge(&mut self, other: &Self) -> Result<(), Error> {
        if self.pass != other.pass {
            return Err(ErrorKind::Passes.into());
        }
        self.seen += other.seen;
        self.bins.iter_mut().zip(&other.bins).for_each(|(a, b)| *a += b);
        Ok(())
    }
}

stamp! {
    /// Counts weights by their upper bits.
    fn count_upper = count_upper_body(weights: &[f32], bins: &mut [u64]) -> ();
}

#[inline(always)]
fn count_upper_body(weights: &[f32], bins: &mut [u64]) {
    let Some(bins) = bins.first_chunk_mut::<BINS>() else { return };
    for w in weights {
        bins[(magnitude(*w) >> LOWER) as usize] += 1;
    }
}

stamp! {
    /// Counts the weights that have the given upper bits by their lower ones.
    fn count_lower = count_lower_body(upper: u32, weights: &[f32], bins: &mut [u64]) -> ();
}

#[inline(always)]
fn count_lower_body(upper: u32, weights: &[f32], bins: &mut [u64]) {
    let Some(bins) = bins.first_chunk_mut::<BINS>() else { return };
    for block in weights.chunks(64) {
        // Few weights have them: most blocks end here, by vector compares.
        if block.iter().fold(0, |hits, w| hits | u32::from(magnitude(*w) >> LOWER == upper)) == 0 {
            continue;
        }
        for m in block.iter().map(|w| magnitude(*w)).filter(|m| m >> LOWER == upper) {
            bins[(m & ((1 << LOWER) - 1)) as usize] += 1;
        }
    }
}

/// The mask that a pattern chooses for a tensor that lies in memory.
///
/// # Errors
///
/// [`ErrorKind::Count`] if `weights` are not `rows` times `cols`,
/// [`ErrorKind::NotFinite`] for a weight without a magnitude, [`ErrorKind::Mask`] where
/// the weights cannot be counted.
pub fn magnitude_mask(
    level: Level,
    pattern: &Pattern,
    rows: usize,
    cols: usize,
    weights: &[f32],
) -> Result<Mask, Error> {
    choose(level, pattern.select(rows, cols), (rows, cols), weights)
}

/// The mask of the `count` largest magnitudes of a tensor of `rows` by `cols`, at most all of them; among equal ones,
/// those before.
///
/// # Errors
///
/// Those of [`magnitude_mask`].
pub fn mask_of_count(level: Level, count: u64, rows: usize, cols: usize, weights: &[f32]) -> Result<Mask, Error> {
    let elements = (rows as u64).saturating_mul(cols as u64);
    match count.min(elements) {
        0 => Ok(Mask::new(rows, cols, vec![0; MaskView::part_len(rows, cols)?])?),
        count => choose(level, begin(elements, count), (rows, cols), weights),
    }
}

fn choose(level: Level, step: Step, (rows, cols): (usize, usize), weights: &[f32]) -> Result<Mask, Error> {
    let mut bytes = vec![0; MaskView::part_len(rows, cols)?];
    if weights.len() != rows * cols {
        return Err(ErrorKind::Count { needs: (rows * cols) as u64, has: weights.len() as u64 }.into());
    }
    let mut step = step;
    let rule = loop {
        match step {
            Step::Done(rule) => break rule,
            Step::Observe(pass) => {
                let mut counts = pass.counts();
                counts.observe(level, 0, weights)?;
                step = pass.advance(&counts)?;
            }
        }
    };
    let mut left = rule.ties();
    let pairs = weights.chunks(cols.max(1)).zip(bytes.chunks_mut(cols.div_ceil(8).max(1)));
    for (row, (weights, bits)) in (0u64..).zip(pairs) {
        rule.mark_row(level, row * cols as u64, weights, &mut left, bits)?;
    }
    Ok(Mask::new(rows, cols, bytes)?)
}

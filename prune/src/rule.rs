//! Marking the kept weights, once it is known how they are told.

use niwaki_codes::simd::Level;
use niwaki_codes::stamp;

use crate::magnitude::{finite, magnitude};
use crate::{Error, ErrorKind, NofM};

/// How kept weights are told from dropped ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// All weights above a magnitude are kept, and the first few of those equal to it.
    Threshold {
        /// The bits of the magnitude.
        bits: u32,
        /// How many of the equal ones are kept, in index order.
        ties: u64,
    },
    /// The largest n of every m weights of a row; among equal ones, those first in the row.
    NofM(NofM),
}

/// How many weights of a block of rows a [`Rule`] keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Weights kept whatever stands before them in the tensor.
    pub sure: u64,
    /// Weights equal to the threshold.
    pub ties: u64,
}

impl Tally {
    /// How many weights of the block are kept if `ties_left` ties were not used up before it.
    pub fn kept(&self, ties_left: u64) -> u64 {
        self.sure + self.ties.min(ties_left)
    }
}

impl Rule {
    /// How many weights equal to the threshold are kept in the whole tensor.
    pub const fn ties(&self) -> u64 {
        match self {
            Self::Threshold { ties, .. } => *ties,
            Self::NofM(_) => 0,
        }
    }

    /// Counts a block of whole rows of `cols` weights.
    pub fn tally(&self, level: Level, cols: usize, block: &[f32]) -> Tally {
        match self {
            Self::Threshold { bits, .. } => tally(level, *bits, block),
            Self::NofM(run) => {
                let rows = block.len().checked_div(cols).unwrap_or(0);
                Tally { sure: (rows * run.of_row(cols)) as u64, ties: 0 }
            }
        }
    }

    /// Writes the mask bits of one row. `at` is the flat index of its first weight;
    /// `ties_left` says how many ties the rows before it left, and goes down by those
    /// kept in this row.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Bits`] if `bits` is not as long as the row asks for. An N:M rule
    /// reports [`ErrorKind::NotFinite`]; a threshold comes from weights that were
    /// already looked at.
    pub fn mark_row(
        &self,
        level: Level,
        at: u64,
        row: &[f32],
        ties_left: &mut u64,
        bits: &mut [u8],
    ) -> Result<(), Error> {
        let needs = row.len().div_ceil(8);
        if bits.len() != needs {
            return Err(ErrorKind::Bits { needs, has: bits.len() }.into());
        }
        match self {
            Self::Threshold { bits: threshold, .. } => mark_above(level, *threshold, row, ties_left, bits),
            Self::NofM(run) => {
                finite(level, at, row)?;
                match run.m() {
                    2 | 4 | 8 => mark_short_runs(level, *run, row, bits),
                    _ => mark_any_runs(*run, row, bits),
                }
            }
        }
        Ok(())
    }
}

stamp! {
    /// How many magnitudes are above and equal to the threshold.
    fn tally = tally_body(threshold: u32, weights: &[f32]) -> Tally;
}

#[inline(always)]
fn tally_body(threshold: u32, weights: &[f32]) -> Tally {
    let mut tally = Tally::default();
    // Counts of one tile fit into u32 lanes.
    for tile in weights.chunks(1 << 16) {
        let (mut above, mut equal) = (0u32, 0u32);
        for w in tile {
            above += u32::from(magnitude(*w) > threshold);
            equal += u32::from(magnitude(*w) == threshold);
        }
        tally.sure += u64::from(above);
        tally.ties += u64::from(equal);
    }
    tally
}

stamp! {
    /// Marks what is above the threshold, and of the equal ones those that `left` allows.
    fn mark_above = mark_above_body(threshold: u32, row: &[f32], left: &mut u64, bits: &mut [u8]) -> ();
}

#[inline(always)]
fn mark_above_body(threshold: u32, row: &[f32], left: &mut u64, bits: &mut [u8]) {
    for (block, bits) in row.chunks(64).zip(bits.chunks_mut(8)) {
        let (above, equal) = match block.first_chunk::<64>() {
            Some(block) => (compare(block, |m| m > threshold), compare(block, |m| m == threshold)),
            None => {
                // Padding is above no threshold, but may be equal to it.
                let mut padded = [0.0; 64];
                padded.iter_mut().zip(block).for_each(|(p, w)| *p = *w);
                let real = (1 << block.len()) - 1;
                (compare(&padded, |m| m > threshold), compare(&padded, |m| m == threshold) & real)
            }
        };
        let marked = above | first_set(equal, left);
        bits.iter_mut().zip(marked.to_le_bytes()).for_each(|(b, m)| *b = m);
    }
}

/// One bit for each magnitude that `is`, the first lowest.
#[inline(always)]
fn compare(block: &[f32; 64], is: impl Fn(u32) -> bool) -> u64 {
    let mut bytes = [0u8; 64];
    for (byte, w) in bytes.iter_mut().zip(block) {
        *byte = u8::from(is(magnitude(*w)));
    }
    // The factor moves bit 0 of byte i to bit 56 + i; no two of its shifts meet.
    let packed = |byte: &[u8; 8]| u64::from_le_bytes(*byte).wrapping_mul(0x0102_0408_1020_4080) >> 56;
    bytes.as_chunks::<8>().0.iter().rev().fold(0, |word, byte| word << 8 | packed(byte))
}

/// The lowest set bits, as many as `left` allows, which goes down by them.
#[inline(always)]
fn first_set(mut bits: u64, left: &mut u64) -> u64 {
    let all = bits;
    if u64::from(all.count_ones()) <= *left {
        *left -= u64::from(all.count_ones());
        return all;
    }
    while bits != 0 && *left > 0 {
        bits &= bits - 1;
        *left -= 1;
    }
    all & !bits
}

stamp! {
    /// Marks runs of 2, 4 or 8, which never straddle a byte.
    fn mark_short_runs = mark_short_runs_body(run: NofM, row: &[f32], bits: &mut [u8]) -> ();
}

#[inline(always)]
fn mark_short_runs_body(run: NofM, row: &[f32], bits: &mut [u8]) {
    match run.m() {
        2 => mark_runs_of::<2>(run, row, bits),
        4 => mark_runs_of::<4>(run, row, bits),
        _ => mark_runs_of::<8>(run, row, bits),
    }
}

#[inline(always)]
fn mark_runs_of<const M: usize>(run: NofM, row: &[f32], bits: &mut [u8]) {
    let (blocks, tail) = row.as_chunks::<8>();
    let (whole, last) = bits.split_at_mut(blocks.len());
    for (block, byte) in blocks.iter().zip(whole) {
        let runs = block.as_chunks::<M>().0.iter().enumerate();
        *byte = runs.fold(0, |byte, (i, w)| byte | largest(run.n(), w) << (i * M));
    }
    mark_any_runs(run, tail, last);
}

/// The n largest of M weights: those that fewer than n others stand before.
#[inline(always)]
fn largest<const M: usize>(n: usize, weights: &[f32; M]) -> u8 {
    let m = weights.map(magnitude);
    let mut byte = 0;
    for i in 0..M {
        let mut before = 0;
        for j in 0..M {
            before += usize::from(if j < i { m[j] >= m[i] } else { m[j] > m[i] });
        }
        byte |= u8::from(before < n) << i;
    }
    byte
}

/// The definition: in each run, the n first by magnitude downwards, then by place.
fn mark_any_runs(run: NofM, row: &[f32], bits: &mut [u8]) {
    bits.fill(0);
    let mut order = [0u64; NofM::MAX];
    for (r, weights) in row.chunks(run.m()).enumerate() {
        let order = &mut order[..weights.len()];
        for (i, (key, w)) in order.iter_mut().zip(weights).enumerate() {
            *key = u64::from(!magnitude(*w)) << 32 | i as u64;
        }
        let n = run.n().min(weights.len());
        order.select_nth_unstable(n - 1);
        for key in &order[..n] {
            let at = r * run.m() + (*key as u32) as usize;
            bits[at / 8] |= 1 << (at % 8);
        }
    }
}

#[cfg(test)]
mod tests;

//! Positions: which weights of a very sparse tensor are kept, as an ascending list.
//!
//! A mask costs one bit a weight; where one weight of `2^k` is kept, the list costs about
//! `k + 2` bits a kept weight. Elias and Fano's form: a position is cut into its low `k` bits,
//! stored as they are, and the rest, which grows slowly and is stored in unary.
//!
//! ```text
//! positions 3 17 18 41 79 of 80, so k = floor(log2(80 / 5)) = 4
//! rest      0  1  1  2  4      kept weight i sets bit rest + i:   1 0 1 1 0 1 0 0 1 0
//! low       3  1  2  9 15      a stream of codes of width k
//! ```
//!
//! P. Elias, "Efficient storage and retrieval by content and address of static files", 1974;
//! `FORMAT.md` section 15.

use core::iter::FusedIterator;
use core::ops::Range;

use crate::mask::word;
use crate::{Error, ErrorKind};

mod columns;

#[cfg(test)]
mod tests;

pub use columns::Columns;

/// The bits and bytes of a list of positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sizes {
    /// Width of the low codes.
    low_bits: u32,
    /// Bits of the upper part without its padding.
    upper_bits: usize,
    /// Bytes of the upper part.
    upper: usize,
    /// Bytes of the low codes.
    lower: usize,
    /// Bits used in the last byte of the low codes; 0 for all.
    lower_used: usize,
}

impl Sizes {
    fn new(elements: usize, kept: usize) -> Result<Self, Error> {
        if kept > elements {
            return Err(ErrorKind::Range { needs: kept, has: elements }.into());
        }
        // No positions are no bytes.
        let Some(low_bits) = elements.checked_div(kept).and_then(usize::checked_ilog2) else {
            return Ok(Self { low_bits: 0, upper_bits: 0, upper: 0, lower: 0, lower_used: 0 });
        };
        let buckets = ((elements - 1) >> low_bits).saturating_add(1);
        let upper_bits = kept.checked_add(buckets).ok_or(ErrorKind::Overflow)?;
        // kept * 2^low_bits <= elements, so this product fits.
        let lower_bits = kept * low_bits as usize;
        Ok(Self {
            low_bits,
            upper_bits,
            upper: upper_bits.div_ceil(8),
            lower: lower_bits.div_ceil(8),
            lower_used: lower_bits % 8,
        })
    }

    fn low_mask(&self) -> u64 {
        // A width of 64 cannot be: a position has no more bits.
        (1u64 << (self.low_bits % 64)) - 1
    }
}

/// The bytes of a `.positions` part: ascending flat indices of kept weights.
///
/// # Invariants
///
/// - the length is that of so many positions among so many weights
/// - the upper part has as many bits set as weights are kept
///
/// Whether the positions ascend is seen by [`check`](Self::check). Without it what is handed
/// out is safe: every position lies in the range that was asked for.
///
/// ```
/// use niwaki_codes::{PositionsView, positions};
///
/// let mut bytes = [0; 5];
/// positions::encode(80, 5, [3, 17, 18, 41, 79], &mut bytes)?;
/// assert_eq!(bytes, [0x2d, 0x01, 0x13, 0x92, 0x0f]);
/// let view = PositionsView::new(80, 5, &bytes)?;
/// view.check()?;
/// let second_row = view.iter_in(40..80, view.kept_in(0..40, 0));
/// assert!(second_row.eq([(41, 3), (79, 4)]));
/// # Ok::<(), niwaki_codes::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PositionsView<'a> {
    elements: usize,
    kept: usize,
    sizes: Sizes,
    upper: &'a [u8],
    lower: &'a [u8],
}

impl<'a> PositionsView<'a> {
    /// Bytes of the positions of `kept` weights among `elements`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Range`] for more kept weights than there are, [`ErrorKind::Overflow`]
    /// where the bits cannot be counted in `usize`.
    pub fn part_len(elements: usize, kept: usize) -> Result<usize, Error> {
        let sizes = Sizes::new(elements, kept)?;
        Ok(sizes.upper.saturating_add(sizes.lower))
    }

    /// The positions of `kept` weights among `elements` that `bytes` hold.
    ///
    /// # Errors
    ///
    /// Those of [`part_len`](Self::part_len), [`ErrorKind::PartLength`] for another length,
    /// [`ErrorKind::PositionCount`] for another number of positions.
    pub fn new(elements: usize, kept: usize, bytes: &'a [u8]) -> Result<Self, Error> {
        let sizes = Sizes::new(elements, kept)?;
        let needs = sizes.upper.saturating_add(sizes.lower);
        let parts = bytes.split_at_checked(sizes.upper).filter(|_| bytes.len() == needs);
        let Some((upper, lower)) = parts else {
            return Err(ErrorKind::PartLength { part: "positions", needs, has: bytes.len() }.into());
        };
        let view = Self { elements, kept, sizes, upper, lower };
        let has = view.set_bits();
        if has == kept { Ok(view) } else { Err(ErrorKind::PositionCount { needs: kept, has }.into()) }
    }

    /// Looks for what no encoder writes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::StrayBits`] in the padding, [`ErrorKind::Position`] for the first position
    /// that is not above the one before it or lies past the last weight.
    pub fn check(&self) -> Result<(), Error> {
        let stray = |bytes: &[u8], used: usize| used > 0 && bytes.last().is_some_and(|last| last >> used != 0);
        if stray(self.upper, self.sizes.upper_bits % 8) || stray(self.lower, self.sizes.lower_used) {
            return Err(ErrorKind::StrayBits { part: "positions", row: 0 }.into());
        }
        let (mut cursor, mut least) = (Cursor::at(*self, 0, 0), 0);
        while let Some((has, kept)) = cursor.advance() {
            if has < least || has >= self.elements {
                return Err(ErrorKind::Position { kept, has, least, end: self.elements }.into());
            }
            least = has + 1;
        }
        Ok(())
    }

    /// Weights of the tensor.
    pub const fn elements(&self) -> usize {
        self.elements
    }

    /// How many weights are kept.
    pub const fn kept(&self) -> usize {
        self.kept
    }

    /// All positions, each with the number of its kept weight.
    pub fn iter(&self) -> Positions<'a> {
        self.iter_in(0..self.elements, 0)
    }

    /// The positions in `range`, each with the number of its kept weight, where `before`
    /// positions lie below `range.start`: [`kept_in`](Self::kept_in) counts them.
    ///
    /// Begins without a search. With another `before` it hands out other positions of the
    /// range, or none.
    pub fn iter_in(&self, range: Range<usize>, before: usize) -> Positions<'a> {
        let range = range.start..range.end.min(self.elements);
        let bit = (range.start >> self.sizes.low_bits).saturating_add(before);
        Positions { cursor: Cursor::at(*self, bit, before), range }
    }

    /// How many positions lie in `range`, where `before` lie below `range.start`.
    ///
    /// Reads the bits of the upper part that belong to the range, 64 at a time, and the low
    /// codes of one stretch of `2^k` weights.
    pub fn kept_in(&self, range: Range<usize>, before: usize) -> usize {
        let (start, end) = (range.start, range.end.min(self.elements));
        let (first, last) = (start >> self.sizes.low_bits, end >> self.sizes.low_bits);
        if start >= end || before >= self.kept {
            return 0;
        }
        let Some(bit) = self.after_zeros(first.saturating_add(before), last - first) else {
            return self.kept.saturating_sub(before);
        };
        // Kept weights and stretches alternate: whatever bit is no stretch's end is a weight's.
        let index = bit.saturating_sub(last).max(before).min(self.kept);
        let rest = Positions { cursor: Cursor::at(*self, bit, index), range: start..end };
        (index - before).saturating_add(rest.count())
    }

    /// The bit after `zeros` clear ones from bit `from` on; none where there are fewer.
    fn after_zeros(&self, from: usize, mut zeros: usize) -> Option<usize> {
        if zeros == 0 {
            return Some(from);
        }
        let mut base = from / 64;
        // Bits before `from` do not count as clear.
        let mut clear = !self.upper_word(base)? & u64::MAX << (from % 64);
        while (clear.count_ones() as usize) < zeros {
            zeros -= clear.count_ones() as usize;
            base += 1;
            clear = !self.upper_word(base)?;
        }
        for _ in 1..zeros {
            clear &= clear.wrapping_sub(1);
        }
        Some((base * 64).saturating_add(clear.trailing_zeros() as usize + 1))
    }

    /// 64 bits of the upper part, or none past its end.
    #[inline(always)]
    fn upper_word(&self, index: usize) -> Option<u64> {
        let bytes = self.upper.get(index.checked_mul(8)?..)?;
        if bytes.is_empty() { None } else { Some(word(bytes, 64)) }
    }

    fn set_bits(&self) -> usize {
        let (words, rest) = self.upper.as_chunks::<8>();
        let words: usize = words.iter().map(|word| u64::from_le_bytes(*word).count_ones() as usize).sum();
        let rest: usize = rest.iter().map(|byte| byte.count_ones() as usize).sum();
        let stray = match (self.sizes.upper_bits % 8, self.upper.last()) {
            (used @ 1.., Some(last)) => (last >> used).count_ones() as usize,
            _ => 0,
        };
        words + rest - stray
    }

    /// The low code of kept weight `index`.
    #[inline(always)]
    fn low(&self, index: usize) -> usize {
        let width = self.sizes.low_bits;
        let bit = index.saturating_mul(width as usize);
        let (bytes, shift) = (self.lower.get(bit / 8..).unwrap_or(&[]), bit % 8);
        let mut code = word(bytes, 64) >> shift;
        if width > 57 && shift > 0 {
            // Such a code may end in the ninth byte.
            code |= u64::from(bytes.get(8).copied().unwrap_or(0)) << (64 - shift);
        }
        (code & self.sizes.low_mask()) as usize
    }
}

/// A place in the upper part, and the number of the kept weight that comes next.
#[derive(Clone, Debug)]
struct Cursor<'a> {
    view: PositionsView<'a>,
    /// Index of the word that is read.
    base: usize,
    /// Its bits that have not been read.
    left: u64,
    index: usize,
}

impl<'a> Cursor<'a> {
    fn at(view: PositionsView<'a>, bit: usize, index: usize) -> Self {
        let left = view.upper_word(bit / 64).unwrap_or(0) & u64::MAX << (bit % 64);
        Self { view, base: bit / 64, left, index }
    }

    /// The bit that is read next, or a clear one before it.
    fn bit(&self) -> usize {
        (self.base.saturating_mul(64)).saturating_add(self.left.trailing_zeros() as usize)
    }

    /// The next position, whatever it is, and the number of its kept weight.
    #[inline(always)]
    fn advance(&mut self) -> Option<(usize, usize)> {
        // Bits behind the last kept weight are padding.
        if self.index >= self.view.kept {
            return None;
        }
        while self.left == 0 {
            self.base += 1;
            self.left = self.view.upper_word(self.base)?;
        }
        let bit = self.base * 64 + self.left.trailing_zeros() as usize;
        self.left &= self.left - 1;
        let (index, width) = (self.index, self.view.sizes.low_bits);
        self.index += 1;
        let high = bit.saturating_sub(index);
        // Past the end a position may be too large for its type.
        let high = if high > self.view.elements >> width { return Some((usize::MAX, index)) } else { high << width };
        Some((high | self.view.low(index), index))
    }
}

/// The positions of a range, each with the number of its kept weight, from
/// [`PositionsView::iter_in`].
#[derive(Clone, Debug)]
pub struct Positions<'a> {
    cursor: Cursor<'a>,
    range: Range<usize>,
}

impl Iterator for Positions<'_> {
    type Item = (usize, usize);

    #[inline]
    fn next(&mut self) -> Option<(usize, usize)> {
        loop {
            let (position, index) = self.cursor.advance()?;
            if position >= self.range.end {
                // Those behind it are no part of the range either.
                self.cursor.index = self.cursor.view.kept;
                return None;
            }
            if position >= self.range.start {
                return Some((position, index));
            }
        }
    }
}

impl FusedIterator for Positions<'_> {}

/// Writes the ascending `positions` of `kept` weights among `elements` into `out`.
///
/// # Errors
///
/// Those of [`PositionsView::part_len`], [`ErrorKind::PartLength`] for an `out` of another
/// length, [`ErrorKind::PositionCount`] for more or fewer positions, [`ErrorKind::Position`]
/// for one that is not above the one before it or lies past the last weight.
pub fn encode(
    elements: usize,
    kept: usize,
    positions: impl IntoIterator<Item = usize>,
    out: &mut [u8],
) -> Result<(), Error> {
    let sizes = Sizes::new(elements, kept)?;
    let (needs, has) = (sizes.upper.saturating_add(sizes.lower), out.len());
    if has != needs {
        return Err(ErrorKind::PartLength { part: "positions", needs, has }.into());
    }
    out.fill(0);
    let Some((upper, lower)) = out.split_at_mut_checked(sizes.upper) else { return Ok(()) };
    let (mut count, mut least) = (0usize, 0);
    for position in positions {
        if position < least || position >= elements {
            return Err(ErrorKind::Position { kept: count, has: position, least, end: elements }.into());
        }
        if count >= kept {
            return Err(ErrorKind::PositionCount { needs: kept, has: count + 1 }.into());
        }
        let bit = (position >> sizes.low_bits) + count;
        put(upper, bit, 1);
        put(lower, count * sizes.low_bits as usize, position as u64 & sizes.low_mask());
        (count, least) = (count + 1, position + 1);
    }
    if count == kept { Ok(()) } else { Err(ErrorKind::PositionCount { needs: kept, has: count }.into()) }
}

/// Sets the bits of `code` from bit `at` on.
fn put(bytes: &mut [u8], at: usize, code: u64) {
    let shifted = (u128::from(code) << (at % 8)).to_le_bytes();
    let to = bytes.get_mut(at / 8..).unwrap_or(&mut []);
    to.iter_mut().zip(shifted).for_each(|(to, bits)| *to |= bits);
}

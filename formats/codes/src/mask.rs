//! Masks: which weights of a tensor are kept, one bit each, set for those kept.
//!
//! ```text
//! bit    7 6 5 4 3 2 1 0  7 6 5 4 3 2 1 0
//! col    7 6 5 4 3 2 1 0  - - - - - - 9 8     a row of 10 weights takes two bytes
//! ```
//!
//! Rows start at a whole byte; the bits past the end of a row are zero. Kept weights
//! are stored one after the other in row order; all others decode to exactly +0.

mod cells;
#[cfg(feature = "alloc")]
mod owned;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(test)]
mod tests;

use core::ops::Range;

use crate::{Error, ErrorKind};

pub(crate) use cells::word;
pub use cells::{Cell, gather, scatter};
#[cfg(feature = "alloc")]
pub use owned::Mask;

/// The bytes of a `.mask` part, one bit a weight.
///
/// # Invariants
///
/// - the length is rows times whole bytes of a row
///
/// Bits past the end of a row never count, whether or not [`MaskView::check`] ran.
///
/// ```
/// use niwaki_codes::MaskView;
///
/// let mask = MaskView::new(2, 3, &[0b101, 0b010])?;
/// mask.check()?;
/// assert_eq!(mask.kept(), 3);
/// assert_eq!(mask.keeps(0, 2), Some(true));
/// # Ok::<(), niwaki_codes::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaskView<'a> {
    rows: usize,
    cols: usize,
    bytes: &'a [u8],
}

impl<'a> MaskView<'a> {
    /// Bytes of the mask of a tensor of `rows` by `cols`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Overflow`] where the weights cannot be counted in `usize`.
    pub const fn part_len(rows: usize, cols: usize) -> Result<usize, Error> {
        match rows.checked_mul(cols) {
            Some(_) => Ok(rows * cols.div_ceil(8)),
            None => Err(Error::of(ErrorKind::Overflow)),
        }
    }

    /// The mask that `bytes` hold.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::PartLength`] if the length is another than `rows` and `cols` ask
    /// for, [`ErrorKind::Overflow`] where the weights cannot be counted.
    pub const fn new(rows: usize, cols: usize, bytes: &'a [u8]) -> Result<Self, Error> {
        match Self::part_len(rows, cols) {
            Ok(needs) if needs == bytes.len() => Ok(Self { rows, cols, bytes }),
            Ok(needs) => Err(Error::of(ErrorKind::PartLength { part: "mask", needs, has: bytes.len() })),
            Err(error) => Err(error),
        }
    }

    /// Looks for bits set past the end of a row.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::StrayBits`] for the first row that has some.
    pub fn check(&self) -> Result<(), Error> {
        let padding = self.padding();
        match self.last_bytes().position(|last| last & padding != 0) {
            Some(row) => Err(ErrorKind::StrayBits { part: "mask", row }.into()),
            None => Ok(()),
        }
    }

    /// How many rows there are.
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Weights of one row.
    pub const fn cols(&self) -> usize {
        self.cols
    }

    /// The packed bits.
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The packed bits of one row, or `None` past the last.
    pub fn row(&self, row: usize) -> Option<&'a [u8]> {
        self.rows_in(row..row.checked_add(1)?).map(|block| block.bytes)
    }

    /// The mask of a block of rows, or `None` if some of them are not there.
    pub fn rows_in(&self, rows: Range<usize>) -> Option<Self> {
        let count = rows.end.checked_sub(rows.start)?;
        if rows.end > self.rows {
            return None;
        }
        let width = self.cols.div_ceil(8);
        let bytes = self.bytes.get(rows.start * width..rows.end * width)?;
        Some(Self { rows: count, cols: self.cols, bytes })
    }

    /// Whether the weight at `row` and `col` is kept, or `None` outside the tensor.
    pub fn keeps(&self, row: usize, col: usize) -> Option<bool> {
        if col >= self.cols {
            return None;
        }
        let byte = self.row(row)?.get(col / 8)?;
        Some(byte >> (col % 8) & 1 == 1)
    }

    /// How many weights are kept.
    pub fn kept(&self) -> usize {
        let (words, rest) = self.bytes.as_chunks::<8>();
        let words: usize = words.iter().map(|w| u64::from_le_bytes(*w).count_ones() as usize).sum();
        let rest: usize = rest.iter().map(|b| b.count_ones() as usize).sum();
        let padding = self.padding();
        let stray: usize = self.last_bytes().map(|last| (last & padding).count_ones() as usize).sum();
        words + rest - stray
    }

    /// How many weights of some rows are kept, or `None` if some of them are not there.
    pub fn kept_in_rows(&self, rows: Range<usize>) -> Option<usize> {
        self.rows_in(rows).map(|block| block.kept())
    }

    /// The bits of a row's last byte that belong to no weight.
    const fn padding(&self) -> u8 {
        match self.cols % 8 {
            0 => 0,
            used => 0xff << used,
        }
    }

    /// The last byte of each row, where it has padding.
    fn last_bytes(&self) -> impl Iterator<Item = u8> + use<'a> {
        // Rows without padding have nothing to look at, and there may be usize::MAX of them without a byte.
        let padded = if self.padding() == 0 { &[] } else { self.bytes };
        let width = self.cols.div_ceil(8).max(1);
        padded.iter().skip(width - 1).step_by(width).copied()
    }
}

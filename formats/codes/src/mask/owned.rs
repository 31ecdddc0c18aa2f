//! A mask that owns its bits.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use super::MaskView;
use crate::{Error, ErrorKind};

/// Which weights of one tensor are kept.
///
/// # Invariants
///
/// - the bytes are those of a [`MaskView`] of the same rows and columns
/// - no bit past the end of a row is set
///
/// ```
/// use niwaki_codes::Mask;
///
/// let mask = Mask::from_fn(2, 10, |row, col| row == 1 && col % 3 == 0)?;
/// assert_eq!(mask.bytes(), [0, 0, 0b0100_1001, 0b10]);
/// assert_eq!(mask.kept(), 4);
/// # Ok::<(), niwaki_codes::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    rows: usize,
    cols: usize,
    bytes: Vec<u8>,
}

impl Mask {
    /// The mask that `bytes` hold.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::PartLength`] for another length than `rows` and `cols` ask for,
    /// [`ErrorKind::StrayBits`] for bits past the end of a row, [`ErrorKind::Overflow`]
    /// where the weights cannot be counted.
    pub fn new(rows: usize, cols: usize, bytes: Vec<u8>) -> Result<Self, Error> {
        MaskView::new(rows, cols, &bytes)?.check()?;
        Ok(Self { rows, cols, bytes })
    }

    /// The mask that keeps each weight for which `keeps(row, col)` is true.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Overflow`] where the weights cannot be counted.
    pub fn from_fn(rows: usize, cols: usize, mut keeps: impl FnMut(usize, usize) -> bool) -> Result<Self, Error> {
        let mut bytes = vec![0u8; MaskView::part_len(rows, cols)?];
        let width = cols.div_ceil(8).max(1);
        for (row, bits) in bytes.chunks_mut(width).enumerate() {
            for col in (0..cols).filter(|col| keeps(row, *col)) {
                if let Some(byte) = bits.get_mut(col / 8) {
                    *byte |= 1 << (col % 8);
                }
            }
        }
        Ok(Self { rows, cols, bytes })
    }

    /// The same mask, borrowed.
    pub fn view(&self) -> MaskView<'_> {
        MaskView { rows: self.rows, cols: self.cols, bytes: &self.bytes }
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Weights of one row.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The packed bits.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The packed bits, given away.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// How many weights are kept.
    pub fn kept(&self) -> usize {
        self.view().kept()
    }

    /// How many weights of some rows are kept, or `None` if some of them are not there.
    pub fn kept_in_rows(&self, rows: Range<usize>) -> Option<usize> {
        self.view().kept_in_rows(rows)
    }

    /// Whether the weight at `row` and `col` is kept, or `None` outside the tensor.
    pub fn keeps(&self, row: usize, col: usize) -> Option<bool> {
        self.view().keeps(row, col)
    }

    /// Both masks at once: what either drops is dropped.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Range`] if the masks are of different sizes.
    pub fn and(mut self, other: MaskView<'_>) -> Result<Self, Error> {
        if (self.rows, self.cols) != (other.rows, other.cols) {
            return Err(ErrorKind::Range { needs: self.rows * self.cols, has: other.rows * other.cols }.into());
        }
        self.bytes.iter_mut().zip(other.bytes).for_each(|(a, b)| *a &= b);
        Ok(self)
    }
}

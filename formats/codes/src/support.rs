//! Which weights of a matrix are kept: told by a mask, or by their positions.

use core::ops::Range;

use crate::mask::word;
use crate::positions::Positions;
use crate::{Error, ErrorKind, MaskView, PositionsView};

/// Kept weights that are handed out at a time.
const RUN: usize = 512;

/// The places of the kept weights of a matrix, borrowed.
///
/// # Invariants
///
/// - positions are those of as many weights as rows and columns make
///
/// ```
/// use niwaki_codes::{MaskView, PositionsView, Support};
///
/// let mask = Support::from(MaskView::new(2, 3, &[0b101, 0b010])?);
/// // Weights 0, 2 and 4 of 6: floor(log2(6 / 3)) = 1 low bit each.
/// let positions = Support::by_positions(2, 3, PositionsView::new(6, 3, &[0b01_0101, 0b000])?)?;
/// for support in [mask, positions] {
///     assert!(support.iter_rows(0..2, 0).eq([0, 2, 4]));
///     assert_eq!(support.kept_in_rows(1..2, 2), Some(1));
/// }
/// # Ok::<(), niwaki_codes::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Support<'a> {
    rows: usize,
    cols: usize,
    told: Told<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told<'a> {
    Mask(MaskView<'a>),
    Positions(PositionsView<'a>),
}

impl<'a> From<MaskView<'a>> for Support<'a> {
    fn from(mask: MaskView<'a>) -> Self {
        Self { rows: mask.rows(), cols: mask.cols(), told: Told::Mask(mask) }
    }
}

impl<'a> Support<'a> {
    /// The weights of a matrix of `rows` by `cols` that stand at `positions`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Range`] for positions among another number of weights,
    /// [`ErrorKind::Overflow`] where the weights cannot be counted.
    pub fn by_positions(rows: usize, cols: usize, positions: PositionsView<'a>) -> Result<Self, Error> {
        let needs = rows.checked_mul(cols).ok_or(ErrorKind::Overflow)?;
        if positions.elements() != needs {
            return Err(ErrorKind::Range { needs, has: positions.elements() }.into());
        }
        Ok(Self { rows, cols, told: Told::Positions(positions) })
    }

    /// How many rows there are.
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Weights of one row.
    pub const fn cols(&self) -> usize {
        self.cols
    }

    /// The mask, where one tells the places.
    pub const fn mask(&self) -> Option<MaskView<'a>> {
        match self.told {
            Told::Mask(mask) => Some(mask),
            Told::Positions(_) => None,
        }
    }

    /// The positions, where they tell the places.
    pub const fn positions(&self) -> Option<PositionsView<'a>> {
        match self.told {
            Told::Mask(_) => None,
            Told::Positions(positions) => Some(positions),
        }
    }

    /// How many weights are kept.
    pub fn kept(&self) -> usize {
        match &self.told {
            Told::Mask(mask) => mask.kept(),
            Told::Positions(positions) => positions.kept(),
        }
    }

    /// Looks for what no encoder writes.
    ///
    /// # Errors
    ///
    /// Those of [`MaskView::check`] and [`PositionsView::check`].
    pub fn check(&self) -> Result<(), Error> {
        match &self.told {
            Told::Mask(mask) => mask.check(),
            Told::Positions(positions) => positions.check(),
        }
    }

    /// How many weights of some rows are kept, where the rows before them keep `before`; none
    /// if some of the rows are not there. A mask does not look at `before`.
    pub fn kept_in_rows(&self, rows: Range<usize>, before: usize) -> Option<usize> {
        match &self.told {
            Told::Mask(mask) => mask.kept_in_rows(rows),
            Told::Positions(positions) => Some(positions.kept_in(self.flat(&rows)?, before)),
        }
    }

    /// The flat indices, row by row, of the kept weights of some rows, where the rows before
    /// them keep `before`. Rows that are not there keep nothing.
    pub fn iter_rows(&self, rows: Range<usize>, before: usize) -> impl Iterator<Item = usize> + use<'a> {
        let flat = self.flat(&rows).unwrap_or(0..0);
        match &self.told {
            Told::Mask(mask) => {
                let block = mask.rows_in(rows).filter(|_| !flat.is_empty());
                Places::Mask(block.map(|block| MaskPlaces::new(block, flat.start)))
            }
            Told::Positions(positions) => Places::Positions(positions.iter_in(flat, before)),
        }
    }

    /// Hands out the flat indices of the kept weights of some rows, where the rows before them
    /// keep `before`, in runs with the number of the first kept weight of each; says how many
    /// they are.
    ///
    /// # Errors
    ///
    /// Those of `take`.
    pub fn visit_rows<E>(
        &self,
        rows: Range<usize>,
        before: usize,
        mut take: impl FnMut(usize, &[usize]) -> Result<(), E>,
    ) -> Result<usize, E> {
        let (mut places, mut run, mut next) = (self.iter_rows(rows, before), [0; RUN], before);
        loop {
            let count = run.iter_mut().zip(&mut places).map(|(to, place)| *to = place).count();
            if count == 0 {
                return Ok(next - before);
            }
            take(next, run.get(..count).unwrap_or(&[]))?;
            next += count;
        }
    }

    /// The flat indices of all weights of some rows, or none if some of them are not there.
    fn flat(&self, rows: &Range<usize>) -> Option<Range<usize>> {
        if rows.start > rows.end || rows.end > self.rows {
            return None;
        }
        Some(rows.start * self.cols..rows.end * self.cols)
    }
}

/// The two kinds of iterators as one.
enum Places<'a> {
    Mask(Option<MaskPlaces<'a>>),
    Positions(Positions<'a>),
}

impl Iterator for Places<'_> {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        match self {
            Self::Mask(places) => places.as_mut()?.next(),
            Self::Positions(positions) => positions.next().map(|(position, _)| position),
        }
    }
}

/// The set bits of some rows of a mask, each row of one column or more.
struct MaskPlaces<'a> {
    mask: MaskView<'a>,
    /// Flat index of the first weight of the word that is read.
    first: usize,
    /// Its place: row and column.
    at: (usize, usize),
    /// Its bits that have not been read.
    left: u64,
}

impl<'a> MaskPlaces<'a> {
    /// `first` is the flat index of the first weight of the mask.
    fn new(mask: MaskView<'a>, first: usize) -> Self {
        let mut places = Self { mask, first, at: (0, 0), left: 0 };
        places.read();
        places
    }

    fn read(&mut self) {
        let (row, col) = self.at;
        let bits = self.mask.row(row).and_then(|bits| bits.get(col / 8..));
        self.left = word(bits.unwrap_or(&[]), self.mask.cols().saturating_sub(col));
    }

    fn next(&mut self) -> Option<usize> {
        while self.left == 0 {
            let (row, col) = self.at;
            if row >= self.mask.rows() {
                return None;
            }
            let width = self.mask.cols().saturating_sub(col).min(64);
            self.first += width;
            self.at = if col + width < self.mask.cols() { (row, col + width) } else { (row + 1, 0) };
            self.read();
        }
        let place = self.first + self.left.trailing_zeros() as usize;
        self.left &= self.left - 1;
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_hands_out_its_set_bits_in_order() {
        // Rows of 70: a word, and six bits of the next one; stray bits are no weights.
        let mut bytes = [0; 27];
        for (row, col) in [(0, 0), (0, 63), (0, 64), (0, 69), (2, 5)] {
            bytes[row * 9 + col / 8] |= 1 << (col % 8);
        }
        bytes[17] = 0xc0;
        let support = Support::from(MaskView::new(3, 70, &bytes).unwrap());
        assert!(support.iter_rows(0..3, 0).eq([0, 63, 64, 69, 145]));
        assert!(support.iter_rows(1..3, 4).eq([145]));
        let none = |start, end| support.iter_rows(start..end, 0).next().is_none();
        assert!(none(1, 2) && none(3, 3) && none(2, 4) && none(2, 1));
    }

    #[test]
    fn runs_are_numbered_and_cover_everything() {
        let bytes = [0xff; 250];
        let support = Support::from(MaskView::new(1, 2000, &bytes).unwrap());
        let mut next = 7;
        let seen = support.visit_rows(0..1, 7, |first, places| {
            assert!(first == next && places.iter().copied().eq(first - 7..first - 7 + places.len()));
            next += places.len();
            Ok::<(), ()>(())
        });
        assert_eq!((seen, next), (Ok(2000), 2007));
        assert_eq!(support.visit_rows(0..1, 0, |_, _| Err("stop")), Err("stop"));
    }

    #[test]
    fn positions_of_another_matrix_are_refused() {
        let positions = PositionsView::new(6, 0, &[]).unwrap();
        assert!(Support::by_positions(3, 2, positions).is_ok());
        assert_eq!(Support::by_positions(2, 2, positions).unwrap_err().kind(), ErrorKind::Range { needs: 4, has: 6 });
        assert_eq!(Support::by_positions(usize::MAX, 2, positions).unwrap_err().kind(), ErrorKind::Overflow);
    }

    #[test]
    fn rows_without_columns_take_no_time() {
        let support = Support::from(MaskView::new(usize::MAX, 0, &[]).unwrap());
        assert_eq!(support.iter_rows(0..usize::MAX, 0).next(), None);
        let positions = PositionsView::new(0, 0, &[]).unwrap();
        let support = Support::by_positions(usize::MAX, 0, positions).unwrap();
        assert_eq!((support.iter_rows(0..usize::MAX, 0).next(), support.kept()), (None, 0));
    }
}

//! Masks of whole blocks: rectangles of weights that stay or go together.

use alloc::vec;
use alloc::vec::Vec;

use niwaki_codes::Mask;

use crate::{Error, ErrorKind};

/// A rectangle of so many rows and columns; those at the ends of a tensor may be smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Rows: outputs.
    pub rows: usize,
    /// Columns: inputs; none for whole rows, which are channels.
    pub cols: Option<usize>,
}

impl Block {
    fn size(self, cols: usize) -> (usize, usize) {
        (self.rows.max(1), self.cols.unwrap_or(cols).max(1))
    }

    /// How many blocks a tensor of `rows` by `cols` has, by row and by column.
    pub fn grid(self, rows: usize, cols: usize) -> (usize, usize) {
        let (height, width) = self.size(cols);
        (rows.div_ceil(height), cols.div_ceil(width))
    }

    /// The mean magnitude of each block's scores, as the grid has them.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Count`] for scores that are not `rows` times `cols`.
    pub fn means(self, rows: usize, cols: usize, scores: &[f32]) -> Result<Vec<f32>, Error> {
        if scores.len() != rows * cols {
            return Err(ErrorKind::Count { needs: (rows * cols) as u64, has: scores.len() as u64 }.into());
        }
        let ((height, width), (down, across)) = (self.size(cols), self.grid(rows, cols));
        let mut sums = vec![(0.0f64, 0u32); down * across];
        for (row, scores) in scores.chunks(cols.max(1)).enumerate() {
            for (col, score) in scores.iter().enumerate() {
                let (sum, count) = &mut sums[row / height * across + col / width];
                *sum += f64::from(score.abs());
                *count += 1;
            }
        }
        Ok(sums.into_iter().map(|(sum, count)| (sum / f64::from(count.max(1))) as f32).collect())
    }

    /// The mask of a tensor of `rows` by `cols` whose blocks a mask of the grid keeps.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Count`] for a mask of another grid.
    pub fn spread(self, rows: usize, cols: usize, blocks: &Mask) -> Result<Mask, Error> {
        let ((height, width), (down, across)) = (self.size(cols), self.grid(rows, cols));
        if (blocks.rows(), blocks.cols()) != (down, across) {
            let has = blocks.rows() as u64 * blocks.cols() as u64;
            return Err(ErrorKind::Count { needs: down as u64 * across as u64, has }.into());
        }
        Ok(Mask::from_fn(rows, cols, |row, col| blocks.view().keeps(row / height, col / width) == Some(true))?)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_means_and_masks_go_back() {
        let scores = [1.0, -3.0, 5.0, 0.0, 0.0, -7.0, 2.0, 2.0, 4.0];
        let block = Block { rows: 2, cols: Some(2) };
        assert_eq!(block.grid(3, 3), (2, 2));
        assert_eq!(block.means(3, 3, &scores).unwrap(), [1.0, 6.0, 2.0, 4.0]);
        let kept = Mask::from_fn(2, 2, |row, col| row == 0 && col == 1).unwrap();
        let mask = block.spread(3, 3, &kept).unwrap();
        let all: Vec<bool> = (0..9).map(|at| mask.view().keeps(at / 3, at % 3).unwrap()).collect();
        assert_eq!(all, [false, false, true, false, false, true, false, false, false]);
        let channels = Block { rows: 1, cols: None };
        assert_eq!(channels.means(3, 3, &scores).unwrap(), [3.0, 7.0 / 3.0, 8.0 / 3.0]);
        assert!(block.means(3, 2, &scores).is_err() && block.spread(9, 9, &kept).is_err());
    }
}

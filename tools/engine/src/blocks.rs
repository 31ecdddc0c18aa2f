//! How a tensor is cut into blocks that are encoded on their own.
//!
//! A block is whole rows, or, where one row is longer than a block, a run of one row that
//! ends where a group and a byte of codes end. Sizes depend on the tensor alone, never on
//! threads or memory, so sums over blocks are the same on every machine.

use std::ops::Range;

use niwaki_codes::floats::{Blocks as FloatBlocks, Float};
use niwaki_codes::{Elastic, Grouping, Scheme, Uniform};

/// Weights of a block, where rows and groups allow.
pub(crate) const BLOCK: usize = 1 << 18;

/// One block of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// Its rows.
    pub(crate) rows: Range<usize>,
    /// Its columns: all of them, unless it is a run of one row, or some columns of all rows.
    pub(crate) cols: Range<usize>,
}

impl Block {
    /// Weights in it.
    pub(crate) fn elements(&self) -> usize {
        self.rows.len() * self.cols.len()
    }

    /// Flat index of its first weight in a tensor with rows of `cols`.
    pub(crate) fn start(&self, cols: usize) -> usize {
        self.rows.start * cols + self.cols.start
    }

    /// Its weights by their flat indices.
    pub(crate) fn range(&self, cols: usize) -> Range<usize> {
        let start = self.start(cols);
        start..start + self.elements()
    }
}

/// The blocks of one tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Blocks {
    rows: usize,
    cols: usize,
    rows_each: usize,
    cols_each: usize,
}

impl Blocks {
    /// The blocks of a tensor of `rows` by `cols` to be encoded as `scheme`.
    pub(crate) fn new(rows: usize, cols: usize, scheme: Scheme) -> Self {
        if let Scheme::Float(float) = scheme {
            let side = match float {
                Float::Fp8E4m3(FloatBlocks::Square(side)) => side.get() as usize,
                _ => 1,
            };
            return Self::of_steps(rows, cols, Some(side));
        }
        let step = match scheme {
            // A row that shares one scale is not cut: its fit sees all of it.
            Scheme::Uniform(Uniform { grouping: Grouping::Row, .. }) => cols,
            Scheme::Uniform(Uniform { grouping: Grouping::Tensor, .. }) => 8,
            Scheme::Uniform(Uniform { grouping: Grouping::Group(g), .. })
            | Scheme::Elastic(Elastic { group: g, .. }) => byte_groups(g.get()),
            Scheme::Block(kind) => kind.elements(),
            _ => cols,
        };
        let cols_each = if cols <= BLOCK { cols } else { (BLOCK / step.max(1)).max(1).saturating_mul(step).min(cols) };
        let rows_each = if cols_each < cols { 1 } else { (BLOCK / cols.max(1)).max(1) };
        Self { rows, cols, rows_each, cols_each: cols_each.max(1) }
    }

    /// Whole rows, however long.
    pub(crate) fn of_rows(rows: usize, cols: usize) -> Self {
        Self { rows, cols, rows_each: (BLOCK / cols.max(1)).max(1), cols_each: cols.max(1) }
    }

    /// All rows of some columns, which begin where groups and bytes of codes of `scheme` do: blocks of one do not lie one
    /// after the other.
    pub(crate) fn of_columns(rows: usize, cols: usize, scheme: &Uniform) -> Self {
        let cols_each = match scheme.grouping {
            Grouping::Group(g) => {
                let step = byte_groups(g.get());
                (BLOCK / rows.max(1) / step).max(1).saturating_mul(step).min(cols)
            }
            Grouping::Row | Grouping::Tensor => cols,
        };
        Self { rows, cols, rows_each: rows.max(1), cols_each: cols_each.max(1) }
    }

    /// Whole rows in multiples of `step`; all of them at once for none.
    pub(crate) fn of_steps(rows: usize, cols: usize, step: Option<usize>) -> Self {
        let rows_each = match step {
            Some(step) => (BLOCK / cols.max(1)).max(1).next_multiple_of(step.max(1)),
            None => rows.max(1),
        };
        Self { rows, cols, rows_each, cols_each: cols.max(1) }
    }

    /// Whole rows, or runs of one where it is longer than a block.
    pub(crate) fn of_runs(rows: usize, cols: usize) -> Self {
        if cols <= BLOCK {
            return Self::of_rows(rows, cols);
        }
        Self { rows, cols, rows_each: 1, cols_each: BLOCK }
    }

    /// Blocks across one row.
    fn across(&self) -> usize {
        self.cols.div_ceil(self.cols_each)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.rows.div_ceil(self.rows_each) * self.across()
    }

    /// Block `index`.
    pub(crate) fn get(&self, index: usize) -> Block {
        let across = self.across().max(1);
        let row = index / across * self.rows_each;
        let col = index % across * self.cols_each;
        Block { rows: row..(row + self.rows_each).min(self.rows), cols: col..(col + self.cols_each).min(self.cols) }
    }

    /// Weights of the largest block.
    pub(crate) fn largest(&self) -> usize {
        self.rows_each.min(self.rows) * self.cols_each.min(self.cols)
    }
}

/// The least multiple of `group` that is one of 8 too, so that codes of any width end on a byte.
pub(crate) fn byte_groups(group: usize) -> usize {
    group.saturating_mul(8 >> group.trailing_zeros().min(3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cover(rows: usize, cols: usize, scheme: &str) -> Vec<Block> {
        let blocks = Blocks::new(rows, cols, scheme.parse().unwrap());
        let all: Vec<_> = (0..blocks.len()).map(|i| blocks.get(i)).collect();
        let mut next = 0;
        for b in &all {
            assert_eq!(b.start(cols), next);
            assert!(b.elements() <= blocks.largest());
            assert!(b.rows.len() == 1 || b.cols == (0..cols));
            next += b.elements();
        }
        assert_eq!(next, rows * cols);
        all
    }

    #[test]
    fn blocks_cover_a_tensor_in_order() {
        for (rows, cols) in
            [(1, 1), (4096, 14336), (7, 300_000), (1, 1 << 20), (1 << 20, 3), (3, 262_144), (5, 262_145)]
        {
            for scheme in ["int4/g32/sym", "int3/g60/affine", "int8/row/sym", "int2/tensor/sym", "elastic/g64", "q6_k"]
            {
                cover(rows, cols, scheme);
            }
        }
    }

    #[test]
    fn a_long_row_is_cut_where_a_group_and_a_byte_end() {
        let blocks = cover(2, 1_000_000, "int3/g60/sym");
        assert!(blocks.len() > 6 && blocks.iter().all(|b| b.cols.start % 120 == 0));
        assert_eq!(cover(2, 1_000_000, "int3/row/sym").len(), 2);
        let blocks = cover(2, 1_024_000, "q4_k");
        assert!(blocks.len() > 6 && blocks.iter().all(|b| b.cols.start % 256 == 0));
    }

    #[test]
    fn columns_are_cut_where_groups_end() {
        let of = |rows: usize, cols: usize, scheme: &str| {
            let Scheme::Uniform(scheme) = scheme.parse().unwrap() else { panic!("{scheme}") };
            let blocks = Blocks::of_columns(rows, cols, &scheme);
            let all: Vec<Block> = (0..blocks.len()).map(|at| blocks.get(at)).collect();
            assert!(all.iter().all(|b| b.rows == (0..rows) && b.elements() <= blocks.largest()));
            all.into_iter().map(|b| b.cols).collect::<Vec<_>>()
        };
        assert_eq!(of(4096, 300, "int4/g32/sym"), [0..64, 64..128, 128..192, 192..256, 256..300]);
        assert_eq!(of(4096, 300, "int3/g60/sym"), [0..120, 120..240, 240..300]);
        assert_eq!(of(1 << 20, 300, "int4/row/sym"), std::slice::from_ref(&(0..300)));
        assert_eq!(of(8, 300, "int4/g32/sym"), std::slice::from_ref(&(0..300)));
    }

    #[test]
    fn groups_end_on_bytes() {
        assert_eq!([1, 2, 3, 4, 8, 12, 64, 60].map(byte_groups), [8, 8, 24, 8, 8, 24, 64, 120]);
    }
}

//! What happens to the values of a tensor on its way into a GGUF file.

/// What happens to a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Transform {
    /// Nothing.
    None,
    /// Rows change places within each head: `[2, d/2]` becomes `[d/2, 2]`. Hugging Face's rotary
    /// embedding turns the halves of a head against each other, llama.cpp's turns neighbours.
    PermuteRows {
        /// Among so many heads the rows are divided.
        heads: usize,
    },
    /// The way back from [`PermuteRows`](Self::PermuteRows).
    UnpermuteRows {
        /// Among so many heads the rows are divided.
        heads: usize,
    },
    /// 1 is added: Gemma's norms are stored as differences from 1.
    AddOne,
    /// The way back from [`AddOne`](Self::AddOne).
    SubtractOne,
}

impl Transform {
    /// Which row of the source becomes row `row` of `rows`.
    pub fn source_row(self, row: usize, rows: usize) -> usize {
        let (heads, back) = match self {
            Self::PermuteRows { heads } => (heads, false),
            Self::UnpermuteRows { heads } => (heads, true),
            _ => return row,
        };
        let half = rows / heads.max(1) / 2;
        if half == 0 {
            return row;
        }
        let (head, within) = (row / (2 * half), row % (2 * half));
        let from = if back { within % half * 2 + within / half } else { within % 2 * half + within / 2 };
        head * 2 * half + from
    }

    /// Whether rows of this number can be divided among the heads.
    pub fn fits(self, rows: usize) -> bool {
        match self {
            Self::PermuteRows { heads } | Self::UnpermuteRows { heads } => {
                heads > 0 && rows.is_multiple_of(heads.saturating_mul(2))
            }
            _ => true,
        }
    }

    /// The value after the transform, which leaves it in its place.
    pub fn value(self, x: f32) -> f32 {
        match self {
            Self::AddOne => x + 1.0,
            Self::SubtractOne => x - 1.0,
            _ => x,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `reshape(heads, 2, d / 2).swapaxes(1, 2).reshape(rows)`, step by step.
    fn oracle(rows: usize, heads: usize) -> Vec<usize> {
        let half = rows / heads / 2;
        let mut out = Vec::new();
        for head in 0..heads {
            for place in 0..half {
                for side in 0..2 {
                    out.push((head * 2 + side) * half + place);
                }
            }
        }
        out
    }

    #[test]
    fn rows_change_places_as_axes_do() {
        for (rows, heads) in [(8, 1), (8, 2), (192, 3), (576, 9), (2, 1)] {
            let permute = Transform::PermuteRows { heads };
            let all: Vec<usize> = (0..rows).map(|row| permute.source_row(row, rows)).collect();
            assert_eq!(all, oracle(rows, heads));
            let back = Transform::UnpermuteRows { heads };
            assert!((0..rows).all(|row| permute.source_row(back.source_row(row, rows), rows) == row));
            assert!(permute.fits(rows) && !permute.fits(rows + 1));
        }
        assert_eq!(
            (0..8).map(|row| Transform::PermuteRows { heads: 2 }.source_row(row, 8)).collect::<Vec<_>>(),
            [0, 2, 1, 3, 4, 6, 5, 7]
        );
        assert!(!Transform::PermuteRows { heads: 0 }.fits(8));
    }
}

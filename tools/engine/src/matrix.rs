//! Matrices in the order of their rows.

use std::borrow::Cow;

/// The transpose of a matrix whose rows have `cols` elements.
pub(crate) fn transposed<T: Copy>(all: &[T], cols: usize) -> Vec<T> {
    (0..cols).flat_map(|col| all.iter().skip(col).step_by(cols).copied()).collect()
}

/// A matrix row by row: as it stands, or where its rows have `cols` elements and it is `turned`, its transpose.
pub(crate) fn by_row<T: Copy>(all: &[T], cols: usize, turned: bool) -> Cow<'_, [T]> {
    if turned { Cow::Owned(transposed(all, cols)) } else { Cow::Borrowed(all) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transpose_has_columns_for_rows() {
        assert_eq!(transposed(&[1, 2, 3, 4, 5, 6], 3), [1, 4, 2, 5, 3, 6]);
        assert!(transposed::<u8>(&[], 0).is_empty());
    }
}

//! Matrices in the order of their rows.

/// The transpose of a matrix whose rows have `cols` elements.
pub(crate) fn transposed<T: Copy>(all: &[T], cols: usize) -> Vec<T> {
    (0..cols).flat_map(|col| all.iter().skip(col).step_by(cols).copied()).collect()
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

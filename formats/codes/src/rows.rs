//! Whether rows that are asked for are there.

use core::ops::Range;

use crate::{Error, ErrorKind};

/// How many rows a range is, if all of them are among `has`.
pub(crate) fn rows_there(rows: &Range<usize>, has: usize) -> Result<usize, Error> {
    if rows.end > has || rows.start > rows.end {
        return Err(ErrorKind::Range { needs: rows.end, has }.into());
    }
    Ok(rows.len())
}

/// Refuses rows that are not there, and an output that is not as long as they are.
pub(crate) fn check_rows(rows: &Range<usize>, (has, cols): (usize, usize), out: usize) -> Result<(), Error> {
    let needs = rows_there(rows, has)?.saturating_mul(cols);
    if out == needs { Ok(()) } else { Err(ErrorKind::Range { needs, has: out }.into()) }
}

/// Refuses a row, or columns from `first`, a multiple of `step`, on, that a matrix has not.
pub(crate) fn check_cols(
    (row, first, step): (usize, usize, usize),
    (rows, cols): (usize, usize),
    len: usize,
) -> Result<(), Error> {
    rows_there(&(row..row.saturating_add(1)), rows)?;
    let needs = first.saturating_add(len);
    if needs > cols || !first.is_multiple_of(step) {
        return Err(ErrorKind::Range { needs, has: cols }.into());
    }
    Ok(())
}

//! Codes of a stored tensor on the grids that it has.

use std::ops::Range;

use super::storage::Stored;
use crate::error::{Error, ErrorKind};

/// Gives every weight of the rows the code whose value is nearest to its target.
pub(super) fn recode(
    stored: &Stored<'_>,
    _rows: &Range<usize>,
    _target: &[f32],
    _parts: &mut [Vec<u8>],
) -> Result<(), Error> {
    Err(Error::from(ErrorKind::Unsupported { what: "codes".to_owned() }).of(stored.tensor.name()))
}

/// Multiplies what the rows decode to without touching codes; whether that could be done.
pub(super) fn rescale(
    _stored: &Stored<'_>,
    _rows: &Range<usize>,
    _factors: &[f32],
    _parts: &mut [Vec<u8>],
) -> Result<bool, Error> {
    Ok(false)
}

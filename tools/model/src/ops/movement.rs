//! Operators that move elements and do not compute with them.

mod back;
mod bits;
mod boxes;
mod cache;
mod col2im;
mod constant;
mod depth;
mod expand;
mod gather;
pub(super) mod join;
mod onehot;
mod pad;
mod reduce;
mod reshape;
mod reverse;
mod scatter;
mod slice;
mod sort;
mod transpose;
mod trilu;
mod unique;
mod view;

use crate::attributes::Definition;
use crate::fault::Fault;
use crate::operator::Inputs;
use crate::ops::{Built, Family};

const FAMILIES: &[Family] = &[
    reshape::build,
    transpose::build,
    join::build,
    slice::build,
    gather::build,
    constant::build,
    expand::build,
    pad::build,
    scatter::build,
    depth::build,
    sort::build,
    onehot::build,
    trilu::build,
    unique::build,
    boxes::build,
    reverse::build,
    col2im::build,
    cache::build,
];

/// The operators of this family.
pub(crate) fn build(definition: &Definition) -> Built {
    for family in FAMILIES {
        if let Some(operator) = family(definition)? {
            return Ok(Some(operator));
        }
    }
    Ok(None)
}

/// Whole numbers that are an input of newer opsets and an attribute of older ones.
fn integers(inputs: &Inputs, index: usize, attribute: &Option<Vec<i64>>) -> Result<Option<Vec<i64>>, Fault> {
    match inputs.optional(index) {
        Some(_) => inputs.integers(index).map(Some),
        None => Ok(attribute.clone()),
    }
}

/// The only whole number of an input.
fn integer(inputs: &Inputs, index: usize) -> Result<i64, Fault> {
    match inputs.integers(index)?[..] {
        [one] => Ok(one),
        ref all => Err(Fault::shape(format!("input {index} of {} numbers", all.len()), "one")),
    }
}

/// A size that was computed.
fn size(found: i64) -> Result<usize, Fault> {
    usize::try_from(found).map_err(|_| Fault::shape(format!("size {found}"), "no negative size"))
}

/// An index along a dimension; negative ones count from the end.
fn index(found: i64, dim: usize) -> Result<usize, Fault> {
    let from_front = if found < 0 { found.saturating_add(dim as i64) } else { found };
    match usize::try_from(from_front) {
        Ok(at) if at < dim => Ok(at),
        _ => Err(Fault::shape(format!("index {found}"), format!("one of {dim}"))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests;

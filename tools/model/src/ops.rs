//! Operators, by what they do.

pub mod arg;
pub mod attention;
pub mod biased;
pub mod binary;
pub mod cast;
pub mod channels;
pub mod compare;
mod control;
pub mod conv;
pub mod deform;
pub mod det;
pub mod einsum;
mod element_type;
pub mod embedding;
pub mod feed;
pub mod gate;
pub mod grid;
mod halves;
pub mod integer;
pub mod linear;
pub mod matmul;
mod movement;
pub mod nbits;
pub mod normalize;
mod number;
pub mod packed;
pub mod pass;
pub mod pool;
pub mod quantize;
mod random;
pub mod recurrent;
pub mod reduce;
pub mod region;
pub mod resize;
pub mod rope;
pub mod rotary;
pub mod select;
pub mod self_attention;
mod sequence;
mod shape;
mod signal;
pub mod softmax;
mod spread;
#[cfg(test)]
mod trial;
pub mod unary;
mod window;

use std::sync::Arc;

use crate::attributes::Definition;
use crate::fault::Fault;
use crate::operator::Operator;

/// What became of a definition: none where an operator is of another family.
pub(crate) type Built = Result<Option<Arc<dyn Operator>>, Fault>;

/// One family of operators: makes those that it has.
type Family = fn(&Definition) -> Built;

const FAMILIES: &[Family] = &[
    arg::build,
    attention::build,
    biased::build,
    binary::build,
    cast::build,
    compare::build,
    control::build,
    conv::build,
    deform::build,
    det::build,
    einsum::build,
    grid::build,
    integer::build,
    matmul::build,
    movement::build,
    nbits::build,
    normalize::build,
    pass::build,
    pool::build,
    quantize::build,
    random::build,
    recurrent::build,
    reduce::build,
    region::build,
    resize::build,
    rotary::build,
    select::build,
    sequence::build,
    signal::build,
    softmax::build,
    unary::build,
];

/// The operator of a definition; none where there is none that does it.
///
/// # Errors
///
/// Attributes that do not fit it.
pub fn build(definition: &Definition) -> Built {
    for family in FAMILIES {
        if let Some(operator) = family(definition)? {
            return Ok(Some(operator));
        }
    }
    Ok(None)
}

/// An operator as [`build`] gives it.
pub(crate) fn some(operator: impl Operator) -> Built {
    Ok(Some(Arc::new(operator)))
}

//! Normalization: of rows, of planes, of channels.

mod batch;
mod channels;
mod norms;
mod rows;

pub use batch::BatchNormalization;
pub use channels::{GroupNormalization, InstanceNormalization};
pub use norms::{LpNormalization, Lrn, MeanVariance};
pub use rows::{RowNormalization, Rows};

use crate::attributes::Definition;
use crate::ops::Built;

/// The operators of this family.
pub(crate) fn build(definition: &Definition) -> Built {
    for part in [rows::build, channels::build, norms::build] {
        if let Some(operator) = part(definition)? {
            return Ok(Some(operator));
        }
    }
    Ok(None)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests;

//! What a training is of.

use crate::dynamic::Dynamic;
use crate::elastic::Elastic;
use crate::jackpot::Masking;

/// What a training is of.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind<'k> {
    /// Weights.
    Weights,
    /// Which of them are kept.
    Masks(&'k Masking<'k>),
    /// Weights that run at several widths.
    Elastic(&'k Elastic),
    /// Weights, and heads that gate their channels.
    Dynamic(&'k Dynamic),
}

impl Kind<'_> {
    /// What a state tells it by; nothing of plain weights.
    pub(super) fn described(&self) -> Option<(String, String)> {
        match self {
            Self::Weights => None,
            Self::Masks(how) => Some(("masks".to_owned(), format!("{how:?}"))),
            Self::Elastic(how) => Some(("elastic".to_owned(), format!("{how:?}"))),
            Self::Dynamic(how) => Some(("dynamic".to_owned(), format!("{how:?}"))),
        }
    }
}

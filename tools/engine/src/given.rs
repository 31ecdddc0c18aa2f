//! Weights that a model is to run with, instead of its own.

use std::path::Path;

use niwaki_codes::Bits;
use niwaki_model::Activations;

use crate::dynamic::Thresholds;
use crate::error::Error;
use crate::signature::{Patch, overlaid};
use crate::source::{Names, Opened, Source};

/// What takes the place of a model's own weights, or lies over them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Given<'g> {
    /// A checkpoint whose tensors take the place of the weights of their names.
    pub weights: Option<&'g Path>,
    /// The width at which elastic tensors are read, by default their widest: those of the
    /// checkpoint, or, where there is none, of the model.
    pub bits: Option<Bits>,
    /// Patches through which the checkpoint is seen, or, where there is none, the model; the first
    /// is nearest to it.
    pub patches: &'g [Patch<'g>],
    /// What packed matrices are multiplied with, where a model of text runs on them.
    pub activations: Activations,
    /// Thresholds of channels, where a model of text runs with them: channels of less are not computed.
    pub thresholds: Option<&'g Thresholds>,
}

impl<'g> From<Option<&'g Path>> for Given<'g> {
    fn from(weights: Option<&'g Path>) -> Self {
        Self { weights, ..Self::default() }
    }
}

impl<'g> Given<'g> {
    /// What is to be done with the model's own weights: nothing, where others take their place.
    pub(crate) fn own(&self) -> Self {
        match self.weights {
            Some(_) => Self { activations: self.activations, ..Self::default() },
            None => *self,
        }
    }

    /// The tensors of a checkpoint as they are to be seen.
    pub(crate) fn seen<'a>(&self, opened: &'a Opened, names: Names) -> Result<Source<'a>, Error>
    where
        'g: 'a,
    {
        overlaid(opened, self.bits, names, self.patches)
    }
}

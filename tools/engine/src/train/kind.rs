//! What a training is of.

use std::sync::Arc;

use niwaki_model::{Graph, Running, ValueId};

use super::learner::Learner;
use super::{Settings, Task, choice};
use crate::dynamic::{Dynamic, Gates};
use crate::elastic::{Elastic, Supernet};
use crate::error::Error;
use crate::jackpot::{Masking, Masks};

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

    /// Puts into the graph that trains what it needs beside the weights of the model, `base` being the graph as it runs.
    ///
    /// # Errors
    ///
    /// Models that it cannot be done with.
    pub(super) fn begin(
        self,
        task: &Task<'_>,
        settings: &Settings,
        (base, graph): (&Graph, &mut Graph),
        running: &[Running],
    ) -> Result<Begun, Error> {
        if let Self::Masks(how) = self {
            let masks = Masks::begin(task.model, graph, settings, how)?;
            masks.apply(graph);
            let wanted = masks.values();
            return Ok(Begun { learner: Learner::Masks(masks), wanted, beside: Beside::Nothing });
        }
        let mut wanted = choice::trainable(task.model, graph, running, settings)?;
        let mut rates = Vec::new();
        let beside = match self {
            Self::Elastic(how) => {
                let placed = Supernet::begin(task.model, (base, graph), settings, (how, task.data))?;
                wanted.extend(placed.tables());
                Beside::Quantizers(Arc::new(placed))
            }
            Self::Dynamic(how) => {
                let placed = Gates::begin(task.model, graph, how)?;
                rates = placed.rates();
                wanted.extend(rates.iter().map(|(value, _)| *value));
                Beside::Heads(placed)
            }
            Self::Weights | Self::Masks(_) => Beside::Nothing,
        };
        let learner = Learner::weights(graph, &wanted, settings, &rates);
        Ok(Begun { learner, wanted, beside })
    }
}

/// What trains beside the weights of a model.
pub(super) enum Beside {
    /// Nothing.
    Nothing,
    /// The quantizers of one that is to run in many forms.
    Quantizers(Arc<Supernet>),
    /// The heads of one whose channels are gated.
    Heads(Gates),
}

impl Beside {
    /// The quantizers, where they are that.
    pub(super) fn quantizers(&self) -> Option<&Arc<Supernet>> {
        match self {
            Self::Quantizers(supernet) => Some(supernet),
            Self::Nothing | Self::Heads(_) => None,
        }
    }
}

/// What a training begins with.
pub(super) struct Begun {
    pub(super) learner: Learner,
    /// What gradients are wanted of.
    pub(super) wanted: Vec<ValueId>,
    pub(super) beside: Beside,
}

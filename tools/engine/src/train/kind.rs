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
            return Ok(Begun { learner: Learner::Masks(masks), wanted, supernet: None, gates: None });
        }
        let mut wanted = choice::trainable(task.model, graph, running, settings)?;
        let (mut supernet, mut gates, mut rates) = (None, None, Vec::new());
        if let Self::Elastic(how) = self {
            let placed = Supernet::begin(task.model, (base, graph), settings, (how, task.data))?;
            wanted.extend(placed.tables());
            supernet = Some(Arc::new(placed));
        }
        if let Self::Dynamic(how) = self {
            let placed = Gates::begin(task.model, graph, how)?;
            rates = placed.rates();
            wanted.extend(rates.iter().map(|(value, _)| *value));
            gates = Some(placed);
        }
        let learner = Learner::weights(graph, &wanted, settings, &rates);
        Ok(Begun { learner, wanted, supernet, gates })
    }
}

/// What a training begins with.
pub(super) struct Begun {
    pub(super) learner: Learner,
    /// What gradients are wanted of.
    pub(super) wanted: Vec<ValueId>,
    /// The quantizers of a network that is to run in many forms.
    pub(super) supernet: Option<Arc<Supernet>>,
    /// The heads of one whose channels are gated.
    pub(super) gates: Option<Gates>,
}

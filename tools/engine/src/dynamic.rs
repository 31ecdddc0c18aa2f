//! Dynamic pruning: a network that computes only the channels that an image needs, told from what goes into each layer
//! (Elkerdawy et al., *Fire Together Wire Together: A Dynamic Pruning Approach with Self-Supervised Mask Prediction*, 2022).
//!
//! ```text
//! heads = all channels on
//! for each batch:
//!     for each convolution l: P = head(input of l)                            the backbone sees nothing of it, unless `joint`
//!                             O = activation(normalization(convolution))
//!                             g = target(O)                                   the channels that fire most: mass r of all
//!                             input of l + 1 = O where P > 0, else 0
//!     loss      = cross entropy(outputs, classes) + w / L Σ over l and channels of cross entropy(P, g)
//!     backbone  = step(its rate), heads = step(their rate, without decay)
//! ```
//!
//! w is 1 in the first half of all steps and 0 in the second, in which heads stay but for what is left of their momentum. What
//! comes back from classes never reaches heads, and targets reach the backbone only where training is joint.
//!
//! In transformers the channels are those of feed-forward parts, and thresholds tell without training which of them are there:
//! [`Thresholds`].
//!
//! Departures: heads begin with all channels on, where the released code draws them, and half of all channels are off at
//! once; the code pools by averages, the paper by maxima, which is the default here. The paper's halves are of passes. The
//! rate of a head's weight is multiplied by the channels that it sees: what it sees sums to 1, and moves a weight as much less.

mod costs;
mod eval;
mod export;
mod file;
mod gates;
mod heads;
mod plan;
mod sites;
mod targets;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests;
mod text;
mod thresholds;

use serde::{Deserialize, Serialize};

pub use costs::Macs;
pub use eval::{Doing, Measured, OfHead};
pub use file::{HeadsFile, Network};
pub(crate) use gates::Gates;
pub use niwaki_prune::dynamic::Target;
pub use plan::{Planned, Planning, Row, plan};
pub use text::{OfFeed, TextMeasured, TextPlanned, TextPlanning, TextRow, measure_text, plan_text};
pub use thresholds::Thresholds;

use crate::error::Error;
use crate::train::{At, Kind, Settings, Task, Trained, run};

/// What a head makes of each channel of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pool {
    /// Its largest number (the paper).
    Max,
    /// Its mean (the released code).
    Average,
}

/// How a network learns which channels an image needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dynamic {
    /// What heads are to tell.
    pub target: Target,
    /// How they see images.
    pub pool: Pool,
    /// Whether the backbone learns from targets too.
    pub joint: bool,
    /// Whether heads see nothing, and tell the same of all images: what masks that follow the image are compared with.
    pub fixed: bool,
    /// The learning rate of heads, always the same.
    pub rate: f64,
}

impl Dynamic {
    /// As the paper has it.
    pub fn new(target: Target) -> Self {
        Self { target, pool: Pool::Max, joint: false, fixed: false, rate: 0.1 }
    }
}

/// Trains a model and heads that gate its channels, and writes its weights with those of the heads.
///
/// # Errors
///
/// Those of [`train`](crate::train::train); a model without convolutions.
pub fn train(
    task: &Task<'_>,
    settings: &Settings,
    how: &Dynamic,
    progress: &mut dyn FnMut(At<'_>),
) -> Result<Trained, Error> {
    let mut trained = run(task, settings, Kind::Dynamic(how), progress)?;
    // That gradients end at heads is how they are meant.
    trained.stops.retain(|(_, op)| op != "Detach" && op != "ChannelTargets");
    Ok(trained)
}

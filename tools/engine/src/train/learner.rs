//! What changes by gradients.

use niwaki_model::optimizer::{Optimizer, Step};
use niwaki_model::{Data, Graph, Tape, Tensor, ValueId};

use super::Settings;
use crate::error::Error;
use crate::jackpot::Masks;

/// What changes by gradients: the weights, or which of them are kept.
pub(super) enum Learner {
    Weights {
        optimizer: Optimizer,
        /// Of each tensor, whether it decays.
        decays: Vec<bool>,
    },
    Masks(Masks),
}

/// Finds so many numbers by the name that they were saved under.
pub(crate) type Found<'f> = &'f dyn Fn(&str, usize) -> Result<Vec<f32>, Error>;

/// What a step goes by.
#[derive(Clone, Copy)]
pub(crate) struct Pace<'p> {
    pub(crate) settings: &'p Settings,
    /// The learning rate.
    pub(crate) rate: f64,
    /// What gradients are multiplied with first.
    pub(crate) scale: f64,
    /// The step of all, from 1 on, and how many there are.
    pub(crate) step: u64,
    pub(crate) steps: u64,
}

impl Learner {
    /// For the weights `wanted`.
    pub(super) fn weights(graph: &Graph, wanted: &[ValueId], settings: &Settings) -> Self {
        let tensors = || wanted.iter().filter_map(|value| graph.constant(*value));
        let sizes: Vec<usize> = tensors().map(Tensor::len).collect();
        let decays = tensors().map(|tensor| settings.decay_all || tensor.rank() > 1).collect();
        Self::Weights { optimizer: Optimizer::new(settings.method, &sizes), decays }
    }

    /// Lets weights, or masks, follow gradients.
    pub(super) fn update(
        &mut self,
        tape: &mut Tape,
        gradients: &[Option<&[f32]>],
        pace: Pace<'_>,
    ) -> Result<(), Error> {
        let (optimizer, decays) = match self {
            Self::Masks(masks) => return masks.update(tape, gradients, pace),
            Self::Weights { optimizer, decays } => (optimizer, decays),
        };
        optimizer.steps = pace.step;
        let wanted = tape.wanted().to_vec();
        for (nth, (value, gradient)) in wanted.into_iter().zip(gradients).enumerate() {
            let Some(gradient) = gradient else { continue };
            let decay = if decays[nth] { pace.settings.decay as f32 } else { 0.0 };
            let step = Step { rate: pace.rate as f32, decay, scale: pace.scale as f32 };
            if let Some(Data::F32(weights)) = tape.weight_mut(value).map(Tensor::data_mut) {
                optimizer.update(nth, weights.to_mut(), gradient, step);
            }
        }
        Ok(())
    }

    /// What it needs to go on, by name.
    pub(super) fn saved(&self) -> Vec<(String, Vec<f32>)> {
        match self {
            Self::Weights { optimizer, .. } => {
                let all = optimizer.moments.iter().enumerate();
                all.map(|(nth, moments)| (format!("moments.{nth}"), moments.clone())).collect()
            }
            Self::Masks(masks) => masks.saved(),
        }
    }

    /// Goes on from what was [`saved`](Self::saved).
    pub(super) fn restore(&mut self, floats: Found<'_>) -> Result<(), Error> {
        match self {
            Self::Weights { optimizer, .. } => {
                for (nth, moments) in optimizer.moments.iter_mut().enumerate() {
                    *moments = floats(&format!("moments.{nth}"), moments.len())?;
                }
                Ok(())
            }
            Self::Masks(masks) => masks.restore(floats),
        }
    }

    /// Tensors that keep one weight where their budget has none.
    pub(super) fn guarded(&self) -> Vec<String> {
        match self {
            Self::Weights { .. } => Vec::new(),
            Self::Masks(masks) => masks.guarded().to_vec(),
        }
    }

    /// The exchanges of a step of the pass that ends, the mean; none of weights.
    pub(super) fn flips(&mut self) -> Option<f64> {
        match self {
            Self::Weights { .. } => None,
            Self::Masks(masks) => Some(masks.flips()),
        }
    }
}

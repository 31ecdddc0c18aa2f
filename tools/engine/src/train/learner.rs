//! What changes by gradients.

use niwaki_model::optimizer::{Method, Optimizer, Step};
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
        /// Of the last ones, which follow it instead.
        heads: Heads,
    },
    Masks(Masks),
}

/// Weights of rates that stay the same, without decay: by SGD with momentum, whatever others go by.
pub(super) struct Heads {
    optimizer: Optimizer,
    rates: Vec<f32>,
}

/// How heads follow their gradients (Fire Together Wire Together, its code).
const OF_HEADS: Method = Method::Sgd { momentum: 0.9, nesterov: false };

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
    /// For the weights `wanted`, of which the last ones are those of heads, which have rates of their own.
    pub(super) fn weights(graph: &Graph, wanted: &[ValueId], settings: &Settings, heads: &[(ValueId, f32)]) -> Self {
        let tensors = || wanted.iter().filter_map(|value| graph.constant(*value));
        let mut sizes: Vec<usize> = tensors().map(Tensor::len).collect();
        let of_heads = sizes.split_off(sizes.len().saturating_sub(heads.len()));
        let decays = tensors().map(|tensor| settings.decay_all || tensor.rank() > 1).collect();
        let rates = heads.iter().map(|(_, rate)| *rate).collect();
        let heads = Heads { optimizer: Optimizer::new(OF_HEADS, &of_heads), rates };
        Self::Weights { optimizer: Optimizer::new(settings.method, &sizes), decays, heads }
    }

    /// Lets weights, or masks, follow gradients.
    pub(super) fn update(
        &mut self,
        tape: &mut Tape,
        gradients: &[Option<&[f32]>],
        pace: Pace<'_>,
    ) -> Result<(), Error> {
        let (optimizer, decays, heads) = match self {
            Self::Masks(masks) => return masks.update(tape, gradients, pace),
            Self::Weights { optimizer, decays, heads } => (optimizer, decays, heads),
        };
        optimizer.steps = pace.step;
        let wanted = tape.wanted().to_vec();
        for (nth, (value, gradient)) in wanted.into_iter().zip(gradients).enumerate() {
            let Some(gradient) = gradient else { continue };
            let decay = if decays[nth] { pace.settings.decay as f32 } else { 0.0 };
            let step = Step { rate: pace.rate as f32, decay, scale: pace.scale as f32 };
            let Some(Data::F32(weights)) = tape.weight_mut(value).map(Tensor::data_mut) else { continue };
            match nth.checked_sub(optimizer.moments.len()) {
                None => optimizer.update(nth, weights.to_mut(), gradient, step),
                Some(head) => {
                    let step = Step { rate: heads.rates[head], decay: 0.0, scale: 1.0 };
                    heads.optimizer.update(head, weights.to_mut(), gradient, step);
                }
            }
        }
        Ok(())
    }

    /// What it needs to go on, by name.
    pub(super) fn saved(&self) -> Vec<(String, Vec<f32>)> {
        match self {
            Self::Weights { optimizer, heads, .. } => {
                let all = optimizer.moments.iter().chain(&heads.optimizer.moments).enumerate();
                all.map(|(nth, moments)| (format!("moments.{nth}"), moments.clone())).collect()
            }
            Self::Masks(masks) => masks.saved(),
        }
    }

    /// Goes on from what was [`saved`](Self::saved).
    pub(super) fn restore(&mut self, floats: Found<'_>) -> Result<(), Error> {
        match self {
            Self::Weights { optimizer, heads, .. } => {
                let all = optimizer.moments.iter_mut().chain(&mut heads.optimizer.moments);
                for (nth, moments) in all.enumerate() {
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

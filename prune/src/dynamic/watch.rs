//! How well a head predicts, and whether its masks follow the input.

use alloc::vec;
use alloc::vec::Vec;

use crate::{Error, ErrorKind};

/// What was predicted of the channels of one layer, and what was to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    inputs: u64,
    /// Of each channel how often it was predicted, and how often it was to be.
    predicted: Vec<u64>,
    wanted: Vec<u64>,
    right: u64,
}

impl Watch {
    /// Nothing yet, of so many channels.
    pub fn new(channels: usize) -> Self {
        Self { inputs: 0, predicted: vec![0; channels], wanted: vec![0; channels], right: 0 }
    }

    /// Adds an input: the channels predicted for it, and those that were to be.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Channels`] for another number of channels.
    pub fn add(&mut self, predicted: &[bool], wanted: &[bool]) -> Result<(), Error> {
        for marks in [predicted, wanted] {
            if marks.len() != self.predicted.len() {
                return Err(ErrorKind::Channels { needs: self.predicted.len(), has: marks.len() }.into());
            }
        }
        for (channel, (predicted, wanted)) in predicted.iter().zip(wanted).enumerate() {
            self.predicted[channel] += u64::from(*predicted);
            self.wanted[channel] += u64::from(*wanted);
            self.right += u64::from(predicted == wanted);
        }
        self.inputs += 1;
        Ok(())
    }

    /// Inputs that were added.
    pub const fn inputs(&self) -> u64 {
        self.inputs
    }

    /// Decisions: channels of inputs.
    fn all(&self) -> f64 {
        (self.inputs * self.predicted.len() as u64).max(1) as f64
    }

    /// The share of decisions that were right, of 1.
    pub fn accuracy(&self) -> f64 {
        self.right as f64 / self.all()
    }

    /// The share of channels that were computed.
    pub fn active(&self) -> f64 {
        self.predicted.iter().sum::<u64>() as f64 / self.all()
    }

    /// The share of decisions that would be right if all were the same one.
    pub fn majority(&self) -> f64 {
        let wanted: u64 = self.wanted.iter().sum();
        let all = self.inputs * self.wanted.len() as u64;
        wanted.max(all - wanted) as f64 / self.all()
    }

    /// The share of decisions that would be right if of each channel all were the same one: the best that a mask does
    /// which does not look at the input.
    pub fn majority_by_channel(&self) -> f64 {
        let right: u64 = self.wanted.iter().map(|wanted| (*wanted).max(self.inputs - wanted)).sum();
        right as f64 / self.all()
    }

    /// The share of channels in which the masks of two inputs differ, the mean over all pairs of inputs, one with itself
    /// too: 0 of masks that are always the same.
    pub fn variation(&self) -> f64 {
        let inputs = self.inputs.max(1) as f64;
        let differ = |on: &u64| 2.0 * (*on as f64 / inputs) * (1.0 - *on as f64 / inputs);
        self.predicted.iter().map(differ).sum::<f64>() / self.predicted.len().max(1) as f64
    }
}

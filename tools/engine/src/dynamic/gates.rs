//! Heads and gates of a network while it trains.

use std::path::Path;

use niwaki_model::{Graph, Tape, Tensor, ValueId};
use niwaki_tensors::Overwrite;

use super::Dynamic;
use super::file;
use super::heads::{self, Head, Placed};
use super::sites::{Site, sites};
use crate::error::Error;
use crate::model::Model;

/// The heads of a network.
#[derive(Debug)]
pub(crate) struct Gates {
    sites: Vec<Site>,
    placed: Vec<Placed>,
    /// What has the weight of the loss of targets.
    weight: ValueId,
    how: Dynamic,
}

impl Gates {
    /// Puts heads and gates into a graph, which let all channels through.
    ///
    /// # Errors
    ///
    /// A model without convolutions.
    pub(crate) fn begin(model: &Model, graph: &mut Graph, how: &Dynamic) -> Result<Self, Error> {
        let sites = sites(model)?;
        let all: Vec<Head> = sites.iter().map(Head::all_on).collect();
        let weight = graph.weight("heads/weight", Tensor::vector(vec![0.0f32]));
        let placed = heads::place(graph, (&sites, &all), how, Some(weight));
        Ok(Self { sites, placed, weight, how: *how })
    }

    /// The weights of heads, and the rate of each.
    pub(crate) fn rates(&self) -> Vec<(ValueId, f32)> {
        let of = |(site, placed): (&Site, &Placed)| {
            let rate = self.how.rate as f32;
            // A head whose weight stays 0 sees nothing.
            let sees = if self.how.fixed { 0.0 } else { site.inputs as f32 };
            [(placed.weight, rate * sees), (placed.bias, rate)]
        };
        self.sites.iter().zip(&self.placed).flat_map(of).collect()
    }

    /// Sets how much targets count in a step: in the first half of all the mean over layers, then nothing.
    pub(crate) fn begin_step(&self, tape: &mut Tape, step: u64, steps: u64) {
        let weight = if step.saturating_mul(2) < steps { 1.0 / self.sites.len().max(1) as f32 } else { 0.0 };
        tape.set_weight(self.weight, Tensor::vector(vec![weight]));
    }

    /// The heads, whose numbers `number` has.
    fn heads(&self, number: &dyn Fn(ValueId) -> Option<Tensor>) -> Vec<Head> {
        let of = |placed: &Placed| Some(Head { weight: number(placed.weight)?, bias: number(placed.bias)? });
        self.placed.iter().filter_map(of).collect()
    }

    /// The model with gates as they are in a graph.
    pub(crate) fn gated(&self, model: &Model, graph: &Graph) -> Model {
        let heads = self.heads(&|value| graph.constant(value).cloned());
        let network = file::Network { model: model.clone(), sites: self.sites.clone(), heads, how: self.how };
        network.gated()
    }

    /// Writes weights, running statistics and heads, whose numbers `number` has.
    pub(crate) fn write(
        &self,
        model: &Model,
        number: &dyn Fn(ValueId) -> Option<Tensor>,
        epoch: u64,
        out: (&Path, Overwrite),
    ) -> Result<(), Error> {
        let heads = self.heads(number);
        let named: Vec<(&str, Head)> = self.sites.iter().map(|site| site.name.as_str()).zip(heads).collect();
        file::write(model, &named, &self.how, epoch, out)
    }
}

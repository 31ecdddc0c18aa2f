//! What a model loses when one layer alone is rounded.

use std::collections::BTreeMap;

use niwaki_model::{Tensor, ValueId};

use crate::error::{Error, ErrorKind};
use crate::eval;
use crate::folder::Language;
use crate::model::{Model, floats};
use crate::train::Lessons;

/// A model, and examples that tell how far its outputs are from what they were.
pub struct Probe<'p> {
    model: &'p Model,
    data: &'p Lessons,
    limit: usize,
    weights: BTreeMap<String, ValueId>,
}

impl<'p> Probe<'p> {
    /// Of a model, on so many examples.
    pub fn new(model: &'p Model, data: &'p Lessons, limit: usize) -> Self {
        let weights = model.graph().weights().map(|(value, _)| (model.graph().name(value).to_owned(), value));
        Self { model, data, limit, weights: weights.collect() }
    }

    /// What it loses with other elements of a weight: of classes and tokens the divergence in nats, of vectors 1 less the
    /// cosine.
    ///
    /// # Errors
    ///
    /// A weight that the model does not have, and those of running.
    pub(super) fn loss(&self, weight: &str, elements: Vec<f32>) -> Result<f64, Error> {
        let mut graph = self.model.graph().clone();
        let old = self.weights.get(weight).and_then(|value| Some((*value, graph.constant(*value)?)));
        let new = old.and_then(|(value, old)| Some((value, Tensor::new(old.shape(), floats(old.dtype(), elements))?)));
        let Some((value, tensor)) = new else {
            let what = "the model has no such weight".to_owned();
            return Err(Error::from(ErrorKind::Unlike { what }).of(weight).at(self.model.path()));
        };
        graph.set_weight(value, tensor);
        self.distance(&self.model.with(graph))
    }

    /// How far the outputs of another model are from those of this one.
    fn distance(&self, other: &Model) -> Result<f64, Error> {
        let (limit, quiet) = (Some(self.limit), |_: u64, _: u64| {});
        let unlike = || {
            let what = format!("{} are for another kind of model", self.data.name());
            Error::from(ErrorKind::Unlike { what }).at(self.model.path())
        };
        let found = match (self.data, other.ready()?, self.model.ready()?) {
            (Lessons::Images(data), None, None) => eval::images(other, Some(self.model), data, limit, &quiet)?,
            (Lessons::Windows(windows), Some(Language::Decoder(other)), Some(Language::Decoder(own))) => {
                eval::text::evaluate(&other, Some(&own), windows, limit, &quiet)?
            }
            (Lessons::Texts(texts), Some(Language::Encoder(other)), Some(Language::Encoder(own))) => {
                match texts.labelled() {
                    true => eval::classes::evaluate(&other, Some(&own), texts, limit, &quiet)?,
                    false => eval::embeddings::evaluate(&other, Some(&own), texts, limit, &quiet)?.0,
                }
            }
            _ => return Err(unlike()),
        };
        let apart = found.kl.or(found.cosine.map(|cosine| 1.0 - cosine));
        apart.map(|apart| apart.max(0.0)).ok_or_else(unlike)
    }
}

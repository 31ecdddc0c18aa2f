//! What a model does on some examples, where nothing is trained.

use niwaki_model::loss::cross_entropy;
use niwaki_model::{Tape, Tensor};

use super::lessons::{Aim, Draw, Lessons, Share};
use super::settings::Settings;
use crate::dataset::shuffled;
use crate::error::{Error, ErrorKind};
use crate::model::Model;
use crate::progress::Progress;

/// Some examples of a model, as the settings draw them and go through it.
#[derive(Clone, Copy)]
pub(crate) struct Sample<'s> {
    pub(crate) model: &'s Model,
    pub(crate) settings: &'s Settings,
    pub(crate) data: &'s Lessons,
    /// How many; of fewer all.
    pub(crate) examples: usize,
}

impl Sample<'_> {
    /// Hands on those that go through the model together, and which part of all they are, of 1.
    pub(crate) fn each(
        &self,
        progress: Progress<'_>,
        mut of: impl FnMut(Share, f32) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (count, mut done) = (self.count(), 0);
        let all = count.div_ceil(self.settings.batch.max(1)) as u64;
        self.batches(|items, shares| {
            // Windows have a share each; all have as many tokens.
            let part = items.len() as f32 / (count * shares.len()) as f32;
            shares.into_iter().try_for_each(|share| of(share, part))?;
            done += 1;
            progress(done, all);
            Ok(())
        })
    }

    /// Hands on batch by batch which examples it has, and what goes through the model together.
    pub(crate) fn batches(&self, mut of: impl FnMut(&[usize], Vec<Share>) -> Result<(), Error>) -> Result<(), Error> {
        let Self { model, settings, data, .. } = *self;
        let mut items = shuffled(data.len(), settings.seed, 0);
        items.truncate(self.count());
        let draw = Draw { settings, black: &data.black(), epoch: 0, step: 0 };
        items.chunks(settings.batch.max(1)).try_for_each(|items| of(items, data.shares(model, items, &draw)?))
    }

    /// How many examples there are.
    pub(crate) fn count(&self) -> usize {
        self.examples.clamp(1, self.data.len())
    }
}

/// The gradients of the mean cross entropy of some examples with respect to what the tape wants, each in the order of its
/// elements; zeros of what does not matter.
///
/// # Errors
///
/// Examples that have no classes, those of running, and a gradient that is no finite number.
pub(crate) fn gradients(sample: &Sample<'_>, tape: &Tape, progress: Progress<'_>) -> Result<Vec<Vec<f32>>, Error> {
    let model = sample.model;
    let unlike = |what: String| Error::from(ErrorKind::Unlike { what }).at(model.path());
    let at = |e: niwaki_model::Error| Error::from(e.at(model.path()));
    let len = |value: &niwaki_model::ValueId| tape.graph().constant(*value).map_or(0, Tensor::len);
    let mut sums: Vec<Vec<f32>> = tape.wanted().iter().map(|value| vec![0.0; len(value)]).collect();
    sample.each(progress, |share, part| {
        let Aim::Targets { output, all } = share.aim else {
            return Err(unlike("texts without classes tell no weight from another".to_owned()));
        };
        let forward = tape.forward(share.inputs, None).map_err(at)?;
        let outputs = forward.outputs.get(output).ok_or_else(|| unlike("a model without outputs".to_owned()))?;
        let loss = cross_entropy(outputs, &all, sample.settings.smoothing).map_err(|e| unlike(e.to_string()))?;
        let mut seeds = vec![None; forward.outputs.len()];
        seeds[output] = Some(loss.gradient);
        let back = tape.backward(forward, seeds).map_err(at)?;
        for (sum, gradient) in sums.iter_mut().zip(&back.gradients) {
            let gradient = gradient.as_ref().and_then(Tensor::get::<f32>).unwrap_or_default();
            sum.iter_mut().zip(gradient).for_each(|(sum, g)| *sum += part * g);
        }
        Ok(())
    })?;
    match tape.wanted().iter().zip(&sums).find(|(_, sum)| sum.iter().any(|g| !g.is_finite())) {
        Some((value, _)) => {
            let what = "its gradient is no finite number".to_owned();
            Err(Error::from(ErrorKind::Unlike { what }).of(tape.graph().name(*value)).at(model.path()))
        }
        None => Ok(sums),
    }
}

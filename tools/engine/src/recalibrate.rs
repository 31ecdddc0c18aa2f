//! Running statistics of batch normalizations, computed anew.
//!
//! Whoever changes weights changes what flows into the normalizations behind them, and the running statistics say what
//! flowed there before. One pass over data says what flows there now.

use std::ops::Range;
use std::path::Path;

use niwaki_model::{Executor, Run, Running, Tensor};
use rayon::prelude::*;

use crate::dataset::{Augment, Dataset};
use crate::error::{Error, ErrorKind};
use crate::eval;
use crate::model::Model;
use crate::progress::Progress;
use crate::source::Opened;
use crate::train::own_statistics;

/// Images of a batch, where the model leaves it open.
const BATCH: usize = 64;

/// The file whose graph a checkpoint runs through: that of a model, by default the checkpoint itself.
///
/// # Errors
///
/// A checkpoint that is no model.
pub(crate) fn graph_of<'p>(checkpoint: &'p Opened, model: Option<&'p Path>) -> Result<&'p Path, Error> {
    match (model, checkpoint) {
        (Some(model), _) => Ok(model),
        (None, Opened::Onnx(onnx)) => Ok(onnx.path()),
        (None, other) => {
            let what = "recalibration of a checkpoint that has no graph".to_owned();
            Err(Error::from(ErrorKind::Usage { what }).at(other.path()).hinting("`--model` takes the model"))
        }
    }
}

/// Images on which running statistics are measured.
#[derive(Clone, Copy, Debug)]
pub struct Recalibration<'r> {
    /// The images.
    pub data: &'r Dataset,
    /// How many of them; all where it is not said.
    pub limit: Option<usize>,
    /// What is done to them: what was done to those of the training, whose statistics others than these would not be.
    /// Nothing is mixed.
    pub augment: Augment,
}

impl<'r> From<&'r Dataset> for Recalibration<'r> {
    /// All images, as they are.
    fn from(data: &'r Dataset) -> Self {
        Self { data, limit: None, augment: Augment::default() }
    }
}

impl Recalibration<'_> {
    /// Reads some of the images.
    fn read(&self, items: Range<usize>, images: &mut [f32]) -> Result<(), Error> {
        let Self { data, augment, .. } = *self;
        data.batch(items.clone(), images)?;
        if augment.crop > 0 || augment.flip {
            let black = data.black();
            images.par_chunks_mut(data.item_len().max(1)).zip(items).for_each(|(image, item)| {
                augment.places(data.shape(), &black, [0, 0, item as u64], image);
            });
        }
        Ok(())
    }
}

/// The running statistics of a model by name, one number a channel: the means and variances (over all of a batch, not one less)
/// that flow into the batch normalizations of a model while each normalizes by its batch's own: averages over the batches,
/// each counted by its images. What does not fill a batch of a model of a fixed number of images is left out.
///
/// # Errors
///
/// A model without running statistics, or with one that something else takes too; images that do not fit it; statistics
/// that are no numbers; those of reading and running.
pub(crate) fn statistics(
    model: &Model,
    on: Recalibration<'_>,
    progress: Progress<'_>,
) -> Result<Vec<(String, Vec<f32>)>, Error> {
    let data = on.data;
    let unlike = |what: String| Error::from(ErrorKind::Unlike { what }).at(model.path());
    let fixed = eval::check_images(model, data)?;
    let mut graph = model.graph().clone();
    // Of a momentum of 0, nothing is left but the batch.
    let all = graph.norms(Some(0.0));
    if all.is_empty() {
        return Err(unlike("a model without running statistics: there is nothing to compute anew".to_owned()));
    }
    own_statistics(&graph, &all).map_err(|e| e.at(model.path()))?;
    let at: Vec<usize> = all
        .iter()
        .filter_map(|running| graph.outputs().iter().position(|value| Some(*value) == running.next))
        .collect();
    let executor = Executor::new(graph).map_err(|e| Error::from(e.at(model.path())))?;
    let batch = fixed.unwrap_or(BATCH);
    let len = data.len().min(on.limit.unwrap_or(usize::MAX));
    let end = if fixed.is_some() { len / batch * batch } else { len };
    if end == 0 {
        return Err(unlike(format!("a model of {batch} images at a time, and {len} images")));
    }
    let [c, h, w] = data.shape();
    let mut sums: Vec<Vec<f64>> = vec![Vec::new(); all.len()];
    for start in (0..end).step_by(batch) {
        let items = start..(start + batch).min(end);
        let count = items.len();
        let mut images = vec![0.0; count * data.item_len()];
        on.read(items.clone(), &mut images)?;
        let images = Tensor::of([count, c, h, w], images).ok_or_else(|| unlike(format!("images of {c}x{h}x{w}")))?;
        let made = executor.run(vec![images], Run::default()).map_err(|e| Error::from(e.at(model.path())))?.outputs;
        for (sum, at) in sums.iter_mut().zip(&at) {
            let values = made.get(*at).and_then(Tensor::get::<f32>).unwrap_or_default();
            sum.resize(values.len(), 0.0);
            sum.iter_mut().zip(values).for_each(|(sum, x)| *sum += f64::from(*x) * count as f64);
        }
        progress(items.end as u64, end as u64);
    }
    let statistic = |(running, sum): (Running, Vec<f64>)| {
        let values: Vec<f32> = sum.into_iter().map(|sum| (sum / end as f64) as f32).collect();
        let name = executor.graph().name(running.weight);
        match values.iter().all(|x| x.is_finite()) {
            true => Ok((name.to_owned(), values)),
            false => Err(unlike("of this data is no finite number".to_owned()).of(name)),
        }
    };
    all.into_iter().zip(sums).map(statistic).collect()
}

impl Model {
    /// Gives the model running statistics measured anew; a model without any stays as it is.
    ///
    /// # Errors
    ///
    /// Those of [`statistics`], but for a model that has none.
    pub(crate) fn recalibrate(&mut self, on: Recalibration<'_>, progress: Progress<'_>) -> Result<(), Error> {
        let mut graph = self.graph().clone();
        if graph.norms(None).is_empty() {
            return Ok(());
        }
        for (name, values) in statistics(self, on, progress)? {
            graph.find(&name).into_iter().for_each(|value| graph.set_weight(value, Tensor::vector(values.clone())));
        }
        *self = self.with(graph);
        Ok(())
    }
}

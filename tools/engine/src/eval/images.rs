//! Models that tell what is on images.

use niwaki_model::{Dim, Executor, Run, Tensor};
use rayon::prelude::*;

use super::Evaluation;
use super::scores::Scores;
use crate::dataset::Dataset;
use crate::error::{Error, ErrorKind};
use crate::model::Model;
use crate::progress::Progress;

/// Images that are read at a time, where the model leaves it open.
const BATCH: usize = 64;

/// Images of them that go through the model together: few enough that what it makes of them stays in
/// a core's cache from node to node.
const SLICE: usize = 8;

/// A model that takes images and gives one number for each class.
struct Classifier<'m> {
    model: &'m Model,
    executor: Executor,
    /// Images that it takes at a time, where that is fixed.
    fixed: Option<usize>,
}

/// Whether a model takes the images of a dataset, and how many at a time, where that is fixed.
pub(crate) fn check_images(model: &Model, data: &Dataset) -> Result<Option<usize>, Error> {
    let unlike = |what: String| Error::from(ErrorKind::Unlike { what }).at(model.path());
    let graph = model.graph();
    let [input] = graph.inputs() else {
        return Err(unlike(format!("a model of {} inputs; images need one", graph.inputs().len())));
    };
    let wants = input.dims.as_deref().unwrap_or_default();
    let takes = |(dim, has): (&Dim, usize)| !matches!(dim, Dim::Fixed(needs) if *needs != has);
    if !wants.is_empty() && (wants.len() != 4 || !wants[1..].iter().zip(data.shape()).all(takes)) {
        let [c, h, w] = data.shape();
        let needs = niwaki_model::dims_text(wants);
        return Err(unlike(format!("images of {c}x{h}x{w} do not fit its input {needs}")));
    }
    match wants.first() {
        Some(Dim::Fixed(0)) => Err(unlike("a model of no images at a time".to_owned())),
        Some(Dim::Fixed(batch)) => Ok(Some(*batch)),
        _ => Ok(None),
    }
}

impl<'m> Classifier<'m> {
    fn new(model: &'m Model, data: &Dataset) -> Result<Self, Error> {
        let fixed = check_images(model, data)?;
        Ok(Self { model, executor: model.executor()?, fixed })
    }

    /// The outputs for some images, one row each.
    fn run(&self, images: Vec<f32>, shape: [usize; 4]) -> Result<Vec<f32>, Error> {
        if self.fixed.is_some() || shape[0] <= SLICE {
            return self.slice(images, shape);
        }
        let [_, c, h, w] = shape;
        let each = |images: &[f32]| self.slice(images.to_vec(), [images.len() / (c * h * w), c, h, w]);
        let slices: Vec<_> = images.par_chunks(SLICE * c * h * w).map(each).collect();
        slices.into_iter().try_fold(Vec::new(), |mut all, slice| {
            all.extend(slice?);
            Ok(all)
        })
    }

    fn slice(&self, images: Vec<f32>, shape: [usize; 4]) -> Result<Vec<f32>, Error> {
        let unlike = |what: String| Error::from(ErrorKind::Unlike { what }).at(self.model.path());
        let images = Tensor::of(shape, images).ok_or_else(|| unlike(format!("images of {shape:?}")))?;
        let outcome =
            self.executor.run(vec![images], Run::default()).map_err(|e| Error::from(e.at(self.model.path())))?;
        let output = outcome.outputs.into_iter().next().ok_or_else(|| unlike("a model without outputs".to_owned()))?;
        let rows = output.shape().first().copied().unwrap_or(0);
        match output.get::<f32>().filter(|_| rows == shape[0]) {
            Some(logits) => Ok(logits.to_vec()),
            None => Err(unlike(format!(
                "its output {} {:?}: floats for {} images expected",
                output.dtype(),
                output.shape(),
                shape[0]
            ))),
        }
    }
}

pub(super) fn evaluate(
    model: &Model,
    reference: Option<&Model>,
    data: &Dataset,
    examples: usize,
    progress: Progress<'_>,
) -> Result<Evaluation, Error> {
    let classifier = Classifier::new(model, data)?;
    let reference = reference.map(|reference| Classifier::new(reference, data)).transpose()?;
    let batch = classifier.fixed.unwrap_or(BATCH);
    let [c, h, w] = data.shape();
    let mut scores = Scores::default();
    for start in (0..examples).step_by(batch) {
        let end = (start + batch).min(examples);
        // A model of a fixed number gets the last image again in the places that are left.
        let places = if classifier.fixed.is_some() { batch } else { end - start };
        let mut images = vec![0.0; places * data.item_len()];
        data.batch((start..start + places).map(|item| item.min(end - 1)), &mut images)?;
        let shape = [places, c, h, w];
        let expected = reference.as_ref().map(|reference| reference.run(images.clone(), shape)).transpose()?;
        let logits = classifier.run(images, shape)?;
        let each = logits.len() / places;
        for (nth, item) in (start..end).enumerate() {
            let row = |all: &[f32]| all.get(nth * each..(nth + 1) * each).unwrap_or_default().to_vec();
            let label = data.class(item, each)?;
            scores.add(&row(&logits), label, expected.as_deref().map(row).as_deref());
        }
        progress(end as u64, examples as u64);
    }
    Ok(scores.evaluation())
}

//! How well a model does on data.

pub mod classes;
pub mod embeddings;
mod images;
mod scores;
pub mod text;

use serde::Serialize;

use crate::dataset::Dataset;
use crate::error::Error;
use crate::model::Model;
use crate::progress::Progress;
pub(crate) use images::check_images;
pub(crate) use scores::{Scores, kl, largest};

/// What was measured; what does not apply is none.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Evaluation {
    /// Examples that were run: images, or windows of text.
    pub examples: u64,
    /// Share of the examples, or of the tokens of a text, whose class has the largest output, of 1.
    pub accuracy: Option<f64>,
    /// Mean cross entropy, in nats.
    pub loss: Option<f64>,
    /// e to the mean loss of a token.
    pub perplexity: Option<f64>,
    /// Mean of KL(reference || model) over examples, or tokens, in nats.
    pub kl: Option<f64>,
    /// Share of the examples, or tokens, for which model and reference have the same largest output, of 1.
    pub agreement: Option<f64>,
    /// Mean cosine between the outputs of model and reference.
    pub cosine: Option<f64>,
    /// The least cosine between the vectors of a text of model and reference; encoders only.
    pub cosine_min: Option<f64>,
    /// How the cosines between vectors of different texts correlate in model and reference; encoders
    /// only.
    pub similarity_correlation: Option<f64>,
}

/// Runs a model on labelled images. Against a `reference`, the same model with other weights, the
/// outputs of both are compared. `progress` is told the examples done, and all there are.
///
/// # Errors
///
/// Images or classes that do not fit the model, and those of reading and running.
pub fn images(
    model: &Model,
    reference: Option<&Model>,
    data: &Dataset,
    limit: Option<usize>,
    progress: Progress<'_>,
) -> Result<Evaluation, Error> {
    images::evaluate(model, reference, data, limit.unwrap_or(usize::MAX).min(data.len()), progress)
}

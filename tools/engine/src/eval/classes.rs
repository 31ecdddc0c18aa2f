//! Encoders that tell the classes of texts.

use niwaki_model::{Encoder, Text};

use super::Evaluation;
use super::embeddings::Texts;
use super::scores::Scores;
use crate::error::{Error, ErrorKind};
use crate::progress::Progress;

/// Tells the classes of the first `limit` texts. Against a `reference`, the same model with other weights, the scores of
/// both are compared.
///
/// # Errors
///
/// A model that tells no classes, texts that have none, and those of running.
pub fn evaluate(
    encoder: &Encoder,
    reference: Option<&Encoder>,
    texts: &Texts,
    limit: Option<usize>,
    progress: Progress<'_>,
) -> Result<Evaluation, Error> {
    let batches = texts.batches(limit);
    let count = batches.iter().map(Vec::len).sum::<usize>() as u64;
    let mut scores = Scores::default();
    let mut done = 0;
    for batch in &batches {
        let each: Vec<Text<'_>> = batch.iter().map(|at| Text::from(texts.get(*at))).collect();
        let of = |encoder: &Encoder| -> Result<Vec<f32>, Error> {
            let found = encoder.scores(&each)?;
            let floats = found.get::<f32>().filter(|all| all.len() == each.len() * encoder.classes().len());
            floats.map(<[f32]>::to_vec).ok_or_else(|| wrong("scores that are no floats"))
        };
        let (found, expected) = (of(encoder)?, reference.map(of).transpose()?);
        if expected.as_ref().is_some_and(|expected| expected.len() != found.len()) {
            return Err(wrong("a reference of other classes"));
        }
        let width = encoder.classes().len();
        for (nth, at) in batch.iter().enumerate() {
            let row = |all: &[f32]| all[nth * width..(nth + 1) * width].to_vec();
            scores.add(&row(&found), texts.label(*at), expected.as_deref().map(row).as_deref());
        }
        done += batch.len() as u64;
        progress(done, count);
    }
    Ok(scores.evaluation())
}

fn wrong(what: &str) -> Error {
    ErrorKind::Unlike { what: what.to_owned() }.into()
}

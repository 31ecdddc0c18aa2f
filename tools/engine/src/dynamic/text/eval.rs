//! How well models do with thresholds.

use std::path::Path;

use niwaki_model::{Tensor, ValueId};
use serde::Serialize;

use super::{Reader, macs, mean};
use crate::dynamic::Thresholds;
use crate::error::Error;
use crate::eval::{self, Evaluation};
use crate::folder;
use crate::given::Given;
use crate::model::Model;
use crate::progress::Progress;

/// What a feed-forward part did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OfFeed {
    /// The name of its first weight.
    pub layer: String,
    /// How many channels it has.
    pub channels: usize,
    /// What has to fire for a channel to be computed.
    pub threshold: f32,
    /// The share of channels that were computed.
    pub active: f64,
}

/// How well a model does with thresholds, and what they leave.
#[derive(Clone, Debug, Serialize)]
pub struct TextMeasured {
    /// How well it does; an encoder that tells no classes against itself without thresholds.
    #[serde(flatten)]
    pub evaluation: Evaluation,
    /// The share of channels that were computed.
    pub channels: f64,
    /// Multiplications of all linear layers for one token.
    pub dense: u64,
    /// Those that were left.
    pub active: f64,
    /// Their share of all.
    pub share: f64,
    /// The share of those of feed-forward parts.
    pub feed_forward: f64,
    /// What each part did.
    pub layers: Vec<OfFeed>,
}

/// Measures the model of a Hugging Face folder with thresholds, on the first `limit` windows or texts of data.
///
/// # Errors
///
/// Thresholds of another model; those of evaluation.
pub fn measure_text(
    folder: &Path,
    thresholds: &Thresholds,
    (data, limit): (&Path, Option<usize>),
    progress: Progress<'_>,
) -> Result<TextMeasured, Error> {
    let (model, _) = Model::of_folder(folder, None)?;
    let (feeds, dense) = (model.graph().feeds(), model.graph().linear_macs());
    let reader = Reader::open(folder, Given { thresholds: Some(thresholds), ..Given::default() }, data)?;
    let values = reader.graph().there();
    let mut there = vec![(0u64, 0u64); values.len()];
    let mut observe = |value: ValueId, tensor: &Tensor| {
        let Some(at) = values.iter().position(|other| *other == value) else { return };
        let counts = tensor.get::<i64>().unwrap_or_default();
        there[at].0 += counts.iter().map(|count| *count as u64).sum::<u64>();
        there[at].1 += counts.len() as u64;
    };
    let which: Vec<usize> = (0..reader.len().min(limit.unwrap_or(usize::MAX))).collect();
    reader.read(&which, &mut observe, &|_, _| ())?;
    let shares =
        feeds.iter().zip(&there).map(|(feed, (sum, rows))| *sum as f64 / (feed.channels as u64 * rows).max(1) as f64);
    let left: Vec<f64> = shares.collect();
    let evaluation = match &reader {
        Reader::Decoder(decoder, windows) => eval::text::evaluate(decoder, None, windows, limit, progress)?,
        Reader::Encoder(encoder, texts) => {
            let (plain, _) = folder::encoder(folder, None)?;
            match texts.labelled() {
                true => eval::classes::evaluate(encoder, Some(&plain), texts, limit, progress)?,
                false => eval::embeddings::evaluate(encoder, Some(&plain), texts, limit, progress)?.0,
            }
        }
    };
    let (active, feed_forward) = macs(dense, &feeds, &left);
    let layers = feeds.iter().zip(thresholds.each()).zip(&left).map(|((feed, (_, threshold)), active)| OfFeed {
        layer: feed.name.clone(),
        channels: feed.channels,
        threshold,
        active: *active,
    });
    Ok(TextMeasured {
        evaluation,
        channels: mean(&feeds, &left),
        dense,
        active,
        share: active / dense.max(1) as f64,
        feed_forward,
        layers: layers.collect(),
    })
}

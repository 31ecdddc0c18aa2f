//! Channels of the feed-forward parts of transformers that fire: thresholds that are found without training, and what
//! they leave.
//!
//! ```text
//! heat      = |activation| of every channel, for every token of a sample, in the model as it is
//! uniform s : of each layer the least threshold that leaves at most the share s of all channels
//! mass r    : of each layer the least threshold above which is at most the share r of all heat
//! budget    : the largest share, in thousandths, that leaves no more multiplications
//! ```
//!
//! Thresholds by quantiles of what a sample makes, the same share of every layer, are those of TEAL (Liu et al., *Training-Free
//! Activation Sparsity in Large Language Models*, 2024) and CATS (Lee et al., 2024); what they are compared with, and what is left
//! out, is CATS's. TEAL compares what goes into each matrix instead, and seeks shares for each layer; `mass` gives
//! layers other shares by the rule of *Fire Together Wire Together*. A layer keeps at least what fires most in the sample. Thresholds
//! are numbers of eight bits of mantissa, by which heats are counted.

mod eval;
mod heats;

use std::path::Path;

use niwaki_model::{Decoder, Encoder, Feed, Graph, Run, Tensor, Text, ValueId};
use niwaki_prune::Ratio;
use niwaki_prune::dynamic::Target;
use serde::Serialize;

pub use eval::{OfFeed, TextMeasured, measure_text};
use heats::Heats;

use super::Thresholds;
use super::plan::{targets, within};
use crate::dataset::shuffled;
use crate::error::{Error, ErrorKind};
use crate::eval::embeddings::Texts;
use crate::eval::text::Windows;
use crate::folder::{self, Language};
use crate::given::Given;
use crate::progress::Progress;

/// How thresholds are planned.
#[derive(Clone, Copy, Debug)]
pub struct TextPlanning<'p> {
    /// Text, or a dataset of tokens.
    pub data: &'p Path,
    /// How many of its windows, or of an encoder's texts, drawn by the seed; of fewer all. Where nothing is said, 8 or 512.
    pub examples: Option<usize>,
    /// The seed.
    pub seed: u64,
    /// Makes a target of a share.
    pub target: fn(Ratio) -> Target,
    /// The shares that are listed.
    pub shares: &'p [f64],
    /// The share of the multiplications of linear layers that may be left.
    pub budget: Option<f64>,
}

/// What thresholds of a share leave.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TextRow {
    /// The share.
    pub mass: f64,
    /// The share of channels that are computed.
    pub channels: f64,
    /// Multiplications of linear layers for one token that are left.
    pub active: f64,
    /// Their share of all.
    pub share: f64,
    /// The share of those of feed-forward parts.
    pub feed_forward: f64,
}

/// What came of planning.
#[derive(Clone, Debug, Serialize)]
pub struct TextPlanned {
    /// Feed-forward parts.
    pub layers: usize,
    /// Windows or texts that the model was looked at on.
    pub examples: usize,
    /// Tokens of these.
    pub tokens: u64,
    /// Multiplications of all linear layers for one token.
    pub dense: u64,
    /// What the listed shares leave.
    pub table: Vec<TextRow>,
    /// What the share that meets the budget leaves; none without a budget, or where none meets it.
    pub picked: Option<TextRow>,
    /// What the least share leaves, where a budget is not met.
    pub least: Option<TextRow>,
}

/// A model and what it reads.
enum Reader {
    Decoder(Decoder, Windows),
    Encoder(Encoder, Texts),
}

impl Reader {
    fn open(folder: &Path, given: Given<'_>, data: &Path) -> Result<Self, Error> {
        Ok(match folder::language(folder, given)?.0 {
            Language::Decoder(decoder) => {
                let windows = Windows::open(data, folder, decoder.context())?;
                Self::Decoder(decoder, windows)
            }
            Language::Encoder(encoder) => {
                let texts = Texts::open(data, folder, encoder.context(), encoder.classes())?;
                Self::Encoder(encoder, texts)
            }
        })
    }

    fn graph(&self) -> &Graph {
        match self {
            Self::Decoder(decoder, _) => decoder.executor().graph(),
            Self::Encoder(encoder, _) => encoder.executor().graph(),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Decoder(_, windows) => windows.len(),
            Self::Encoder(_, texts) => texts.len(),
        }
    }

    /// How many examples are enough to see what fires: some thousand tokens.
    fn few(&self) -> usize {
        match self {
            Self::Decoder(..) => 8,
            Self::Encoder(..) => 512,
        }
    }

    /// Reads some windows or texts, each by itself; how many tokens they have.
    fn read(
        &self,
        which: &[usize],
        observe: &mut dyn FnMut(ValueId, &Tensor),
        progress: Progress<'_>,
    ) -> Result<u64, Error> {
        let mut tokens = 0;
        for (nth, at) in which.iter().enumerate() {
            let how = Run { observe: Some(&mut *observe), ..Run::default() };
            match self {
                Self::Decoder(decoder, windows) => {
                    let window = windows.get(*at)?;
                    tokens += window.len();
                    decoder.observed(&mut decoder.cache(), &window, niwaki_model::Wanted::Last, how)?;
                }
                Self::Encoder(encoder, texts) => {
                    let text = texts.get(*at);
                    tokens += text.len();
                    encoder.observed(&[Text::from(text)], how)?;
                }
            }
            progress(nth as u64 + 1, which.len() as u64);
        }
        Ok(tokens as u64)
    }
}

/// A model that was looked at.
struct Seen {
    feeds: Vec<Feed>,
    heats: Vec<Heats>,
    /// Multiplications of all linear layers.
    dense: u64,
    examples: usize,
    tokens: u64,
}

impl Seen {
    fn new(folder: &Path, given: Given<'_>, how: &TextPlanning<'_>, progress: Progress<'_>) -> Result<Self, Error> {
        let reader = Reader::open(folder, given, how.data)?;
        let (feeds, dense) = (reader.graph().feeds(), reader.graph().linear_macs());
        let wrong = |what: &str| Error::from(ErrorKind::Unlike { what: what.to_owned() });
        if feeds.is_empty() {
            let hint = "`export --to safetensors` makes floats of codes";
            return Err(wrong("no feed-forward part whose weights are floats").at(folder).hinting(hint));
        }
        let mut heats: Vec<Heats> = feeds.iter().map(|_| Heats::new()).collect();
        let mut observe = |value: ValueId, tensor: &Tensor| {
            let Some(at) = feeds.iter().position(|feed| feed.hidden == value) else { return };
            let mut activated = tensor.get::<f32>().unwrap_or_default().to_vec();
            feeds[at].activation.apply(&mut activated);
            heats[at].add(&activated);
        };
        let mut which = shuffled(reader.len(), how.seed, 0);
        which.truncate(how.examples.unwrap_or(reader.few()).max(1));
        let tokens = reader.read(&which, &mut observe, progress).map_err(|e| e.at(folder))?;
        match heats.iter().position(|heats| !heats.finite()) {
            Some(at) => Err(wrong("what fires is not always a finite number").of(&feeds[at].name).at(folder)),
            None => Ok(Self { feeds, heats, dense, examples: which.len(), tokens }),
        }
    }

    /// What a target leaves, and its thresholds.
    fn row(&self, target: Target) -> (TextRow, Thresholds) {
        let each: Vec<(f32, f64)> = self.heats.iter().map(|heats| heats.threshold(target)).collect();
        let left: Vec<f64> = each.iter().map(|(_, left)| *left).collect();
        let channels = mean(&self.feeds, &left);
        let (active, feed_forward) = macs(self.dense, &self.feeds, &left);
        let share = active / self.dense.max(1) as f64;
        let row = TextRow { mass: target.share().get(), channels, active, share, feed_forward };
        let named = self.feeds.iter().zip(each).map(|(feed, (threshold, _))| (feed.name.clone(), threshold));
        (row, Thresholds::new(target, named.collect()))
    }
}

/// The share of all channels, of that of each layer.
fn mean(feeds: &[Feed], left: &[f64]) -> f64 {
    let all: f64 = feeds.iter().map(|feed| feed.channels as f64).sum();
    feeds.iter().zip(left).map(|(feed, left)| feed.channels as f64 * left).sum::<f64>() / all.max(1.0)
}

/// Multiplications that are left where layers compute these shares of their channels; their share of those of feed-forward
/// parts.
fn macs(dense: u64, feeds: &[Feed], left: &[f64]) -> (f64, f64) {
    let all: u64 = feeds.iter().map(|feed| feed.macs[0] + feed.macs[1]).sum();
    let of = |(feed, left): (&Feed, &f64)| feed.macs[0] as f64 + feed.macs[1] as f64 * left;
    let active: f64 = feeds.iter().zip(left).map(of).sum();
    (dense.saturating_sub(all) as f64 + active, active / all.max(1) as f64)
}

/// Says what thresholds of shares leave of the multiplications of a model in a Hugging Face folder, and gives the
/// thresholds of the share that meets the budget, or without a budget of the last that is listed.
///
/// # Errors
///
/// A model without feed-forward parts of floats; shares that are none; what fires and is no finite number; those of reading and
/// running.
pub fn plan_text(
    folder: &Path,
    given: Given<'_>,
    how: &TextPlanning<'_>,
    progress: Progress<'_>,
) -> Result<(TextPlanned, Option<Thresholds>), Error> {
    let targets = targets(how.shares, how.target)?;
    let seen = Seen::new(folder, given, how, progress)?;
    let (mut table, mut thresholds) = (Vec::with_capacity(targets.len()), None);
    for target in targets {
        let (row, found) = seen.row(target);
        table.push(row);
        thresholds = Some(found);
    }
    let (mut picked, mut least) = (None, None);
    if let Some(budget) = how.budget {
        let (met, below) = within(budget, how.target, |of| Ok(seen.row(of)), |(row, _)| row.share)?;
        (picked, thresholds) = met.unzip();
        least = below.map(|(row, _)| row);
    }
    let Seen { ref feeds, dense, examples, tokens, .. } = seen;
    Ok((TextPlanned { layers: feeds.len(), examples, tokens, dense, table, picked, least }, thresholds))
}

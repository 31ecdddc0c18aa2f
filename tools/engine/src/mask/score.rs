//! Masks in one shot: the weights that a criterion finds most important.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use niwaki_codes::Mask;
use niwaki_codes::simd::Level;
use niwaki_model::{Graph, Tape, Tensor, ValueId};
use niwaki_prune::{Block, mask_of_count};
use niwaki_tensors::Overwrite;
use serde::Serialize;

use super::choice::KEEP;
use super::outputs::{by_output, check_stacks};
use super::sparsegpt::{self, Damped, Update};
use super::{MaskFile, Product, Written, chosen, drawn, matrix, wanda, weights_of};
use crate::error::{Blame, Error, ErrorKind};
use crate::jackpot::Keep;
use crate::model::Model;
use crate::progress::Progress;
use crate::recipe::no_such;
use crate::signature::Units;
use crate::source::{Names, Opened};
use crate::train::{Lessons, Named, Sample, Settings, gradients, widen};

/// How important weights are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Criterion {
    /// Their magnitude.
    Magnitude,
    /// Drawn by the seed.
    Random,
    /// How much the loss changes without one, to first order: |weight x gradient| (Lee et al., *SNIP*, 2019).
    Snip,
    /// The magnitude of the gradient.
    Gradient,
    /// Their magnitude times the norm of what they are multiplied with, compared among the weights of an output (Sun et al.,
    /// *A Simple and Effective Pruning Approach for Large Language Models*, 2024).
    Wanda,
    /// What the outputs lose without them, when the weights behind them make up for it (Frantar and Alistarh, *SparseGPT:
    /// Massive Language Models Can Be Accurately Pruned in One-Shot*, 2023).
    SparseGpt,
}

impl Criterion {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Magnitude, Self::Random, Self::Snip, Self::Gradient, Self::Wanda, Self::SparseGpt];

    /// The word for it on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Magnitude => "magnitude",
            Self::Random => "random",
            Self::Snip => "snip",
            Self::Gradient => "gradient",
            Self::Wanda => "wanda",
            Self::SparseGpt => "sparsegpt",
        }
    }
}

impl fmt::Display for Criterion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Criterion {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let found = Self::ALL.into_iter().find(|criterion| criterion.name() == text);
        found.ok_or_else(|| no_such("criterion", text, Self::ALL.map(Self::name)))
    }
}

/// How masks are made in one shot.
#[derive(Clone, Copy, Debug)]
pub struct Scoring<'s> {
    /// How important weights are.
    pub by: Criterion,
    /// Which are kept.
    pub keep: Keep,
    /// Whether a share is divided among tensors by the criterion's own scores, not by magnitudes.
    pub own_budget: bool,
    /// Whether weights stay or go by blocks, by the mean of their scores.
    pub block: Option<Block>,
    /// A mask file that says how many weights each tensor keeps, instead.
    pub counts_of: Option<&'s Path>,
    /// What gradients are taken on, and of how many examples.
    pub data: Option<(&'s Lessons, usize)>,
    /// What SparseGPT does besides.
    pub update: Update<'s>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scored {
    /// By tensor.
    pub tensors: Vec<ScoredTensor>,
    /// Weights that are kept.
    pub kept: u64,
    /// Of how many.
    pub weights: u64,
    /// Tensors that keep one weight, or block, where their budget has none.
    pub guarded: Vec<String>,
    /// Tensors whose inputs were damped more than was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub damped: Vec<Damped>,
}

/// One tensor of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ScoredTensor {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Weights that are kept.
    pub kept: u64,
    /// The share that is dropped, of 1.
    pub sparsity: f64,
}

/// What masks are made of.
#[derive(Clone, Copy, Debug)]
pub enum Of<'o> {
    /// A model: the weights of its convolutions and linear layers, but for the last.
    Model(&'o Model),
    /// A checkpoint: its matrices and kernels of floats, but for those whose names speak of embeddings or heads, and the
    /// matrices of a convolutional network, which are its classifier.
    Checkpoint(&'o Opened),
}

/// Writes the masks of the most important weights. Of the settings, `only`, `freeze`, `batch`, `smoothing` and `seed` count.
///
/// # Errors
///
/// Criteria without the data or the graph that they look at, weights without a magnitude, masks that do not fit; gradients
/// that are all zero; inputs that are no numbers; those of running and writing.
pub fn score(
    of: Of<'_>,
    settings: &Settings,
    how: &Scoring<'_>,
    place: (&Path, Overwrite),
    progress: Progress<'_>,
) -> Result<Scored, Error> {
    let (weights, scores, turned): (_, _, Vec<bool>) = match of {
        Of::Model(model) if how.by == Criterion::SparseGpt => {
            return sparsegpt::score(model, settings, how, place, progress);
        }
        Of::Model(model) => {
            let (graph, products) = maskable(model, settings)?;
            if how.counts_of.is_none() {
                check_stacks(how.keep, &graph, &products).map_err(|e| e.at(model.path()))?;
            }
            let values: Vec<ValueId> = products.iter().map(|product| product.weight).collect();
            let weights = weights_of(&graph, &values);
            let on_data = || {
                let sample = sample(model, settings, how)?;
                let tape = Tape::new(graph.clone(), values.clone()).map_err(|e| e.at(model.path()))?;
                match how.by {
                    Criterion::Wanda => wanda::norms(&sample, &tape, &products, progress),
                    _ => telling(&sample, &tape, progress),
                }
            };
            let scores = scores(&weights, how.by, settings.seed, on_data)?;
            (weights, scores, products.iter().map(|product| product.turned).collect())
        }
        Of::Checkpoint(opened) => {
            let weights = stored(opened, settings)?;
            let none = || {
                let what = format!("the criterion {} on a checkpoint that has no graph", how.by);
                Err(Error::from(ErrorKind::Usage { what }).at(opened.path()).hinting("give it the model"))
            };
            let scores = scores(&weights, how.by, settings.seed, none)?;
            let rows = vec![false; weights.len()];
            (weights, scores, rows)
        }
    };
    let path = match of {
        Of::Model(model) => model.path(),
        Of::Checkpoint(opened) => opened.path(),
    };
    let made = match how.block {
        None => masks(&weights, &scores, &turned, how),
        Some(block) => of_blocks(block, &weights, &scores, &turned, how),
    };
    let (masks, guarded) = made.map_err(|e| e.at(path))?;
    Ok(Scored { guarded, ..written(&weights, &masks, how.by, place)? })
}

/// The graph of a model as masks are made of it, and the weights that they can be of.
pub(super) fn maskable(model: &Model, settings: &Settings) -> Result<(Graph, Vec<Product>), Error> {
    let mut graph = model.graph().clone();
    graph.norms(None);
    widen(model, &mut graph, settings)?;
    let products = chosen(model, &graph, settings)?;
    Ok((graph, products))
}

/// The examples that a model is looked at on.
pub(super) fn sample<'s>(model: &'s Model, settings: &'s Settings, how: &Scoring<'s>) -> Result<Sample<'s>, Error> {
    let Some((data, examples)) = how.data else {
        let what = format!("the criterion {} without data", how.by);
        return Err(Error::from(ErrorKind::Usage { what }).hinting("`--data` takes what the model is looked at on"));
    };
    Ok(Sample { model, settings, data, examples })
}

/// Writes masks of weights, and says what they keep.
pub(super) fn written(
    weights: &[(String, Tensor)],
    masks: &[(&str, Mask)],
    by: Criterion,
    (out, overwrite): (&Path, Overwrite),
) -> Result<Scored, Error> {
    let about = Written::new(by.name(), masks.iter().map(|(_, mask)| mask), weights);
    super::write(masks, &[], &about, out, overwrite)?;
    let tensor = |((name, mask), (_, weights)): (&(&str, Mask), &(String, Tensor))| {
        let kept = mask.view().kept() as u64;
        let sparsity = 1.0 - kept as f64 / weights.len().max(1) as f64;
        ScoredTensor { name: (*name).to_owned(), shape: weights.shape().to_vec(), kept, sparsity }
    };
    let tensors: Vec<ScoredTensor> = masks.iter().zip(weights).map(tensor).collect();
    let kept = tensors.iter().map(|tensor| tensor.kept).sum();
    let weights = weights.iter().map(|(_, tensor)| tensor.len() as u64).sum();
    Ok(Scored { tensors, kept, weights, guarded: Vec::new(), damped: Vec::new() })
}

/// The weights of a checkpoint that masks can be made for without a graph.
fn stored(opened: &Opened, settings: &Settings) -> Result<Vec<(String, Tensor)>, Error> {
    let source = opened.source(None, Names::HuggingFace)?;
    let names = source.tensors().iter().map(|tensor| tensor.name());
    let named = Named::new(settings, KEEP, names).map_err(|e| e.at(opened.path()))?;
    let units = Units::of(&source);
    let mut all = Vec::new();
    for (index, tensor) in source.tensors().iter().enumerate() {
        let name = tensor.name();
        let other = units.is_classifier(index) || name.contains("embed") || name.contains("lm_head");
        let fits = tensor.is_float() && tensor.shape().dims().len() > 1;
        if !named.takes(name) || !fits || other && !named.chosen() {
            continue;
        }
        let mut floats = vec![0.0; tensor.shape().elements()];
        tensor.decode(0..floats.len(), &mut floats).map_err(|e| e.of(name).at(opened.path()))?;
        all.extend(Tensor::of(tensor.shape().dims(), floats).map(|floats| (name.to_owned(), floats)));
    }
    if all.is_empty() {
        let rule = "the checkpoint, with matrices of floats to mask,".to_owned();
        return Err(Error::from(ErrorKind::NoMatch { rule }).at(opened.path()));
    }
    Ok(all)
}

/// How important each weight is.
fn scores(
    weights: &[(String, Tensor)],
    by: Criterion,
    seed: u64,
    on_data: impl FnOnce() -> Result<Vec<Vec<f32>>, Error>,
) -> Result<Vec<Tensor>, Error> {
    let all: Vec<Vec<f32>> = match by {
        Criterion::Magnitude => return Ok(weights.iter().map(|(_, tensor)| tensor.clone()).collect()),
        Criterion::Random => weights.iter().map(|(name, tensor)| drawn(tensor.len(), seed, name)).collect(),
        // That of SparseGPT has no scores: what is left changes as it goes.
        Criterion::Gradient | Criterion::SparseGpt => on_data()?,
        // Of both a factor for each weight.
        Criterion::Snip | Criterion::Wanda => {
            let times = |(mut sum, (_, tensor)): (Vec<f32>, &(String, Tensor))| {
                let weights = tensor.get::<f32>().unwrap_or_default();
                sum.iter_mut().zip(weights).for_each(|(g, w)| *g *= w);
                sum
            };
            on_data()?.into_iter().zip(weights).map(times).collect()
        }
    };
    Ok(weights.iter().zip(all).filter_map(|((_, tensor), scores)| Tensor::of(tensor.shape(), scores)).collect())
}

/// Gradients that tell weights from each other.
fn telling(sample: &Sample<'_>, tape: &Tape, progress: Progress<'_>) -> Result<Vec<Vec<f32>>, Error> {
    let sums = gradients(sample, tape, progress)?;
    if sums.iter().flatten().all(|g| *g == 0.0) {
        let what = "all gradients are 0: they tell no weight from another".to_owned();
        return Err(Error::from(ErrorKind::Unlike { what }).at(sample.model.path()));
    }
    Ok(sums)
}

/// Masks, and the tensors that keep more than their budget has.
type Made<'n> = (Vec<(&'n str, Mask)>, Vec<String>);

/// How many weights of each tensor the masks of a file keep.
pub(super) fn counts_of(path: &Path, weights: &[(String, Tensor)]) -> Result<Vec<u64>, Error> {
    let file = MaskFile::open(path)?;
    let count = |(name, tensor): &(String, Tensor)| {
        file.mask(name, matrix(tensor.shape())).map(|mask| mask.view().kept() as u64)
    };
    weights.iter().map(count).collect()
}

/// The masks that keep the weights of the highest scores.
fn masks<'n>(
    weights: &'n [(String, Tensor)],
    scores: &[Tensor],
    turned: &[bool],
    how: &Scoring<'_>,
) -> Result<Made<'n>, Error> {
    let level = Level::best();
    let mut guarded = Vec::new();
    let mut counted = |(counts, more): (Vec<u64>, Vec<String>)| {
        guarded = more;
        Some(counts)
    };
    let counts: Option<Vec<u64>> = match (how.counts_of, how.keep) {
        (Some(path), _) => Some(counts_of(path, weights)?),
        (None, Keep::NofM(_)) => None,
        // Each output keeps its share.
        (None, Keep::Share(..)) if how.by == Criterion::Wanda => None,
        (None, Keep::Share(ratio, budget)) if how.own_budget => {
            let names = weights.iter().map(|(name, _)| name.clone());
            counted(super::counts(&names.zip(scores.iter().cloned()).collect::<Vec<_>>(), ratio, budget)?)
        }
        (None, Keep::Share(ratio, budget)) => counted(super::counts(weights, ratio, budget)?),
    };
    let mask = |(nth, ((name, _), scores)): (usize, (&'n (String, Tensor), &Tensor))| {
        let size = matrix(scores.shape());
        let floats = scores.get::<f32>().unwrap_or_default();
        let mask = match counts.as_ref().and_then(|counts| counts.get(nth)) {
            Some(count) => mask_of_count(level, *count, size.0, size.1, floats),
            None => by_output(level, how.keep, size, turned.get(nth) == Some(&true), floats),
        };
        let wrong = |e: niwaki_prune::Error| Error::from(ErrorKind::Unlike { what: e.to_string() }).of(name);
        Ok((name.as_str(), mask.map_err(wrong)?))
    };
    let masks = weights.iter().zip(scores).enumerate().map(mask).collect::<Result<_, Error>>()?;
    Ok((masks, guarded))
}

/// The masks that keep the blocks of the highest scores: as those of weights, of the means of the blocks.
fn of_blocks<'n>(
    block: Block,
    weights: &'n [(String, Tensor)],
    scores: &[Tensor],
    turned: &[bool],
    how: &Scoring<'_>,
) -> Result<Made<'n>, Error> {
    if matches!(how.keep, Keep::NofM(_)) || how.by == Criterion::Wanda || how.counts_of.is_some() {
        let what = "blocks: a share of all is kept of them, by magnitude, random, snip or gradient".to_owned();
        return Err(ErrorKind::Usage { what }.into());
    }
    let below = |e: niwaki_prune::Error, name: &str| Error::below(e, Blame::Input).of(name);
    let mut means = Vec::with_capacity(weights.len());
    for ((name, tensor), turned) in weights.iter().zip(turned) {
        if *turned {
            let what = "blocks of weights whose rows are inputs".to_owned();
            return Err(Error::from(ErrorKind::Unsupported { what }).of(name));
        }
        let (rows, cols) = matrix(tensor.shape());
        let of = |tensor: &Tensor| {
            let grid = block.grid(rows, cols);
            let all = block.means(rows, cols, tensor.get::<f32>().unwrap_or_default()).map_err(|e| below(e, name))?;
            Ok::<_, Error>(Tensor::of([grid.0, grid.1], all))
        };
        means.push((of(tensor)?, of(&scores[means.len()])?));
    }
    let named = weights.iter().zip(&means).filter_map(|((name, _), (own, _))| Some((name.clone(), own.clone()?)));
    let grids: Vec<(String, Tensor)> = named.collect();
    let scores: Vec<Tensor> = means.into_iter().filter_map(|(_, scores)| scores).collect();
    let (kept, guarded) = masks(&grids, &scores, turned, how)?;
    let spread = |((name, tensor), (_, mask)): (&'n (String, Tensor), (&str, Mask))| {
        let (rows, cols) = matrix(tensor.shape());
        Ok((name.as_str(), block.spread(rows, cols, &mask).map_err(|e| below(e, name))?))
    };
    Ok((weights.iter().zip(kept).map(spread).collect::<Result<_, Error>>()?, guarded))
}

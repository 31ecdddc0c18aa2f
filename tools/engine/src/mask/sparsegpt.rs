//! Masks and weights by SparseGPT, one layer after the other.
//!
//! ```text
//! runs = the examples, each standing before the first layer
//! for each value that layers take, in the graph's order:
//!     go on with each run until it is there, with the weights as they are by now
//!     H    = sum of x x' over all runs, x the rows (or patches) that the layers multiply
//!     U    = upper Cholesky factor of (H + damping)⁻¹
//!     for each layer that takes it: mask, weights = SparseGPT(weights, U)
//! ```
//!
//! So each layer sees what those before it leave, as in the paper, and all examples go through the graph once. What they
//! stand with is in memory at the same time: the values between two layers, of all examples; and of the layers at hand a
//! matrix of all pairs of inputs.

use std::path::Path;

use niwaki_codes::Mask;
use niwaki_codes::simd::Level;
use niwaki_model::{Executor, Graph, Paused, Run, Tensor, ValueId};
use niwaki_prune::sparsegpt::{Band, Kept, SparseGpt};
use niwaki_quant::observe::{Factor, Gram};
use niwaki_tensors::Overwrite;
use rayon::prelude::*;
use serde::Serialize;

use super::apply::{check_place, write_with};
use super::outputs::turned_mask;
use super::score::{Scored, Scoring, counts_of, maskable, sample, written};
use super::{Product, matrix, weights_of};
use crate::compress::Options;
use crate::device::Device;
use crate::error::{Error, ErrorKind};
use crate::inputs::{Takes, grams};
use crate::jackpot::Keep;
use crate::matrix::transposed;
use crate::model::Model;
use crate::progress::Progress;
use crate::train::{Lessons, Sample, Settings};

/// What SparseGPT does besides masks.
#[derive(Clone, Copy, Debug)]
pub struct Update<'u> {
    /// The share of the mean square of a layer's inputs that is added to each, so that there is an inverse.
    pub damping: f64,
    /// Where the weights go that make up for those that are dropped.
    pub updated: Option<Updated<'u>>,
}

/// A checkpoint with updated weights.
#[derive(Clone, Copy, Debug)]
pub struct Updated<'u> {
    /// The checkpoint that the model's weights are of; its other tensors are written as they are.
    pub checkpoint: &'u Path,
    /// The output.
    pub out: &'u Path,
    /// How it is written.
    pub options: &'u Options,
}

/// A tensor whose inputs were damped more than was asked for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Damped {
    /// Its name.
    pub name: String,
    /// The share of the mean square that was added.
    pub damping: f64,
}

/// What became of a tensor.
struct Pruned {
    mask: Mask,
    weights: Vec<f32>,
    damping: f64,
}

/// Makes and writes the masks of a model, and its weights where they are asked for.
pub(super) fn score(
    model: &Model,
    settings: &Settings,
    how: &Scoring<'_>,
    place: (&Path, Overwrite),
    progress: Progress<'_>,
) -> Result<Scored, Error> {
    let usage = |what: String| Err(Error::from(ErrorKind::Usage { what }));
    if how.block.is_some() || how.own_budget {
        return usage("SparseGPT: tensors keep single weights, as many as magnitudes or `--counts-of` say".to_owned());
    }
    let Update { damping, updated } = how.update;
    if !damping.is_finite() || damping < 0.0 {
        return usage(format!("damping of {damping}; expected a finite number, 0 or more"));
    }
    if let Some(to) = updated {
        check_place(to.checkpoint, (to.out, to.options))?;
    }
    // Texts one by one: none is filled up with what it does not say.
    let batch = if matches!(how.data, Some((Lessons::Texts(_), _))) { 1 } else { settings.batch };
    let settings = &Settings { batch, ..settings.clone() };
    let sample = sample(model, settings, how)?;
    let (graph, products) = maskable(model, settings)?;
    let values: Vec<ValueId> = products.iter().map(|product| product.weight).collect();
    let weights = weights_of(&graph, &values);
    check_finite(model, &weights)?;
    let (kept, guarded) = kept(&weights, how)?;
    let pruned = prune(&sample, graph, (&products, &kept), damping, progress)?;
    let damped = weights.iter().zip(&pruned).filter(|(_, pruned)| pruned.damping > damping);
    let damped = damped.map(|((name, _), pruned)| Damped { name: name.clone(), damping: pruned.damping }).collect();
    let names = || weights.iter().map(|(name, _)| name);
    let (masks, anew): (Vec<Mask>, Vec<Vec<f32>>) = pruned.into_iter().map(|of| (of.mask, of.weights)).unzip();
    if let Some(to) = updated {
        write_with(to.checkpoint, names().cloned().zip(anew).collect(), (to.out, to.options))?;
    }
    let masks: Vec<(&str, Mask)> = names().map(String::as_str).zip(masks).collect();
    Ok(Scored { guarded, damped, ..written(&weights, &masks, how.by, place)? })
}

/// Refuses weights that nothing makes up for.
fn check_finite(model: &Model, weights: &[(String, Tensor)]) -> Result<(), Error> {
    for (name, tensor) in weights {
        let all = tensor.get::<f32>().unwrap_or_default();
        if let Some((at, w)) = all.iter().enumerate().find(|(_, w)| !w.is_finite()) {
            let what = format!("weight {at} is {w}; finite numbers expected");
            return Err(Error::from(ErrorKind::Unlike { what }).of(name).at(model.path()));
        }
    }
    Ok(())
}

/// Which weights each tensor keeps, and the tensors that keep more than their budget has.
fn kept(weights: &[(String, Tensor)], how: &Scoring<'_>) -> Result<(Vec<Kept>, Vec<String>), Error> {
    let (counts, guarded) = match (how.counts_of, how.keep) {
        (Some(path), _) => (counts_of(path, weights)?, Vec::new()),
        (None, Keep::NofM(run)) => return Ok((vec![Kept::NofM(run); weights.len()], Vec::new())),
        (None, Keep::Share(ratio, budget)) => super::counts(weights, ratio, budget)?,
    };
    Ok((counts.into_iter().map(Kept::Count).collect(), guarded))
}

/// Layers that take the same value.
struct Stage<'p> {
    value: ValueId,
    /// The node of the first of them.
    at: usize,
    /// Which products, of all.
    products: Vec<(usize, &'p Product)>,
}

/// The stages of a graph, in its order.
fn stages<'p>(graph: &Graph, products: &'p [Product]) -> Vec<Stage<'p>> {
    let mut stages: Vec<Stage<'p>> = Vec::new();
    for (nth, product) in products.iter().enumerate() {
        let at = graph.nodes().iter().position(|node| node.inputs.get(1) == Some(&Some(product.weight))).unwrap_or(0);
        match stages.iter_mut().find(|stage| stage.value == product.input) {
            Some(stage) => {
                stage.at = stage.at.min(at);
                stage.products.push((nth, product));
            }
            None => stages.push(Stage { value: product.input, at, products: vec![(nth, product)] }),
        }
    }
    stages.sort_by_key(|stage| stage.at);
    stages
}

/// Prunes all products, each on what those before it leave.
fn prune(
    sample: &Sample<'_>,
    graph: Graph,
    (products, kept): (&[Product], &[Kept]),
    damping: f64,
    progress: Progress<'_>,
) -> Result<Vec<Pruned>, Error> {
    let path = sample.model.path();
    let at = |e: niwaki_model::Error| Error::from(e.at(path));
    let values: Vec<ValueId> = products.iter().map(|product| product.weight).collect();
    let mut executor = Executor::changing(graph, &values).map_err(at)?;
    let mut runs: Vec<Paused> = Vec::new();
    sample.each(&|_, _| {}, |share, _| {
        runs.push(executor.start(share.inputs, &mut Run::default()).map_err(at)?);
        Ok(())
    })?;
    let stages = stages(executor.graph(), products);
    let mut pruned: Vec<Option<Pruned>> = products.iter().map(|_| None).collect();
    for (nth, stage) in stages.iter().enumerate() {
        for run in &mut runs {
            executor.go_on(run, stage.at, &mut Run::default()).map_err(at)?;
        }
        let runs: Vec<&Paused> = runs.iter().collect();
        // Layers that look at the value in the same way share what it has to say.
        let mut seen: Vec<(Takes, Vec<Factor>)> = Vec::new();
        for (which, product) in &stage.products {
            let name = executor.graph().name(product.weight).to_owned();
            let named = |e: Error| e.of(&name).at(path);
            let takes = Takes::new(executor.graph(), product, &runs).map_err(named)?;
            let found = match seen.iter().position(|(other, _)| *other == takes) {
                Some(found) => found,
                None => {
                    let grams = grams(&Device::default(), &takes, stage.value, &runs).map_err(named)?;
                    seen.push((takes, factors(&grams, damping).map_err(named)?));
                    seen.len() - 1
                }
            };
            let Some(tensor) = executor.graph().constant(product.weight).cloned() else { continue };
            let factors = &seen[found].1;
            let of = layer(&tensor, product.turned, factors, kept[*which]).map_err(named)?;
            let made = Tensor::of(tensor.shape(), of.weights.clone());
            made.into_iter().for_each(|made| executor.set_weight(product.weight, made));
            pruned[*which] = Some(of);
        }
        progress(nth as u64 + 1, stages.len() as u64);
    }
    Ok(pruned.into_iter().flatten().collect())
}

/// The factors of the inverses of matrices.
fn factors(grams: &[Gram], damping: f64) -> Result<Vec<Factor>, Error> {
    let factor = |gram: &Gram| gram.inverse_factor(Level::best(), damping);
    let all = grams.par_iter().map(factor).collect::<Result<_, _>>();
    all.map_err(|e| ErrorKind::Unlike { what: e.to_string() }.into())
}

/// Prunes one tensor.
fn layer(tensor: &Tensor, turned: bool, factors: &[Factor], kept: Kept) -> Result<Pruned, Error> {
    let unlike = |e: niwaki_prune::Error| Error::from(ErrorKind::Unlike { what: e.to_string() });
    let (rows, cols) = matrix(tensor.shape());
    let all = tensor.get::<f32>().unwrap_or_default();
    let size = if turned { (cols, rows) } else { (rows, cols) };
    let mut weights = if turned { transposed(all, cols) } else { all.to_vec() };
    let part = (weights.len() / factors.len().max(1)).max(1);
    for (weights, factor) in weights.chunks_mut(part).zip(factors) {
        // What is multiplied with nothing but zeros is free to go.
        for row in weights.chunks_mut(size.1.max(1)) {
            let dead = |at: &usize| factor.dead.binary_search(at).is_ok();
            row.iter_mut().enumerate().filter(|(at, _)| dead(at)).for_each(|(_, w)| *w = 0.0);
        }
    }
    let upper = factors.iter().map(|factor| factor.upper.as_slice()).collect();
    let mut state = SparseGpt::new(Level::best(), size, &weights, upper, kept).map_err(unlike)?;
    while state.choose().map_err(unlike)? {
        state.bands().into_par_iter().for_each(Band::solve);
    }
    let (mask, weights) = state.finish().map_err(unlike)?;
    let damping = factors.iter().map(|factor| factor.damping).fold(0.0, f64::max);
    if !turned {
        return Ok(Pruned { mask, weights, damping });
    }
    let mask = turned_mask(&mask).map_err(unlike)?;
    Ok(Pruned { mask, weights: transposed(&weights, size.1), damping })
}

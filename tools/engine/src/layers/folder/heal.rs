//! What layers that go did, done by the layer before them as well as it can: no training.
//!
//! ```text
//! for each run of layers that go, behind a layer p that stays:
//!     Z = what the last matrix of p takes, R = hidden states behind the run - those behind p     over windows of a text
//!     W_p += R'Z (Z'Z + λ)⁻¹                              rows of both over the length of the state behind the run
//! ```
//!
//! A linear map in the place of the run (Chen et al., *Streamlining Redundant Layers to Compress Large Language Models*, 2024,
//! with least squares instead of training), of what is there already: what the run added to the hidden states becomes part of
//! what the second half of the layer before it adds, so that the architecture stays and any engine runs it. R is of the model
//! with all its layers, the rest of the model as it is healed so far: later runs make up for what earlier ones left. Whatever
//! follows normalizes the states first, so what counts is what is missing of each in relation to its length: else the few
//! tokens with enormous ones, as the first of a text, would be all that counts.

use std::any::Any;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use niwaki_codes::simd::Level;
use niwaki_model::hf::{self, Blueprint, Layers};
use niwaki_model::ops::linear::Linear;
use niwaki_model::{Data, Decoder, Run, Tensor, ValueId, Wanted};
use niwaki_quant::observe::{Gram, LeastSquares};
use rayon::prelude::*;

use super::{Sample, Texts};
use crate::error::{Blame, Error, ErrorKind};
use crate::folder::Recorded;
use crate::progress::Progress;

/// How much is added to the diagonal, as a share of the mean square of what a matrix takes.
pub const DAMPING: f64 = 0.01;

/// What became of a run of layers.
#[derive(Clone, Debug)]
pub struct Healed {
    /// The layers that went, by their old numbers.
    pub removed: Vec<usize>,
    /// The layer before them, whose last matrix does what it can of what they did.
    pub layer: usize,
    /// The name of that matrix, as it was.
    pub tensor: String,
    /// The share of the squares of what they added, each state in relation to its length, that it now adds.
    pub explained: f64,
    /// The damping, more than was asked for where that was not enough.
    pub damping: f64,
    pub(super) weights: Tensor,
}

/// The model, and which of its layers stay.
#[derive(Clone, Copy)]
pub(super) struct Kept<'k> {
    pub(super) model: &'k Path,
    pub(super) layers: &'k Layers,
    pub(super) kept: &'k [usize],
}

impl Kept<'_> {
    fn unlike(&self, what: impl Into<String>) -> Error {
        Error::from(ErrorKind::Unlike { what: what.into() }).at(self.model)
    }

    /// The runs of layers that go.
    fn runs(&self) -> Result<Vec<Range<usize>>, Error> {
        let mut runs: Vec<Range<usize>> = Vec::new();
        for layer in (0..self.layers.count()).filter(|layer| !self.kept.contains(layer)) {
            match runs.last_mut() {
                Some(run) if run.end == layer => run.end += 1,
                _ => runs.push(layer..layer + 1),
            }
        }
        match runs.first() {
            Some(run) if run.start == 0 => {
                let e = self.unlike("healing: no layer stays before layer 0, which goes");
                Err(e.hinting("`--blocks` can name others"))
            }
            _ => Ok(runs),
        }
    }

    /// The decoder of some layers, with other weights where there are some.
    fn decoder(
        &self,
        recorded: &Recorded,
        layers: &[usize],
        healed: &BTreeMap<String, Tensor>,
    ) -> Result<Decoder, Error> {
        let weight = |name: &str| Ok(healed.get(name).or_else(|| recorded.weights.get(name)).cloned().map(Into::into));
        match hf::build_keeping(&recorded.config, layers, &weight).map_err(|e| e.at(self.model))? {
            Blueprint::Decoder(graph) => Ok(Decoder::new(graph).map_err(|e| e.at(self.model))?),
            Blueprint::Encoder(_) => Err(self.encoder()),
        }
    }

    fn encoder(&self) -> Error {
        self.unlike("healing of an encoder; a decoder expected")
    }
}

/// Finds the matrices of the layers before those that go.
///
/// # Errors
///
/// Encoders, and decoders that normalize what a layer adds; layers that go before any that stays; those of reading and running.
pub(super) fn heal(
    of: Kept<'_>,
    sample: Sample<'_>,
    damping: f64,
    progress: Progress<'_>,
) -> Result<Vec<Healed>, Error> {
    let runs = of.runs()?;
    let (blueprint, recorded) = Recorded::open(of.model)?;
    let Blueprint::Decoder(whole) = blueprint else { return Err(of.encoder()) };
    let texts = Texts::open(sample, of.model, whole.context)?;
    let own = BTreeMap::new();
    let mut healed: BTreeMap<String, Tensor> = BTreeMap::new();
    let mut all = Vec::new();
    for (nth, run) in runs.iter().enumerate() {
        let before: Vec<usize> = of.kept.iter().copied().filter(|layer| *layer < run.start).collect();
        let pair = Pair {
            whole: of.decoder(&recorded, &(0..run.end).collect::<Vec<_>>(), &own)?,
            part: of.decoder(&recorded, &before, &healed)?,
        };
        let found = pair.heal(&of, &texts, damping, &|done, passes| {
            progress(nth as u64 * passes + done, runs.len() as u64 * passes);
        })?;
        let layer = run.start - 1;
        let tensor = of.layers.renamed(&found.name, layer).unwrap_or(found.name);
        healed.insert(tensor.clone(), found.weights.clone());
        let Found { weights, explained, damping, .. } = found;
        all.push(Healed { removed: run.clone().collect(), layer, tensor, explained, damping, weights });
    }
    Ok(all)
}

/// The model up to the end of a run, and the one that is left up to the layer before it.
struct Pair {
    whole: Decoder,
    part: Decoder,
}

/// The matrix that ends a layer: its name in the graph, the value that it takes, and itself.
struct Last {
    name: String,
    takes: ValueId,
    weights: Tensor,
}

/// What was found for it.
struct Found {
    name: String,
    weights: Tensor,
    explained: f64,
    damping: f64,
}

impl Pair {
    /// The matrix whose products are added last in the part that is left.
    fn last(&self, of: &Kept<'_>) -> Result<Last, Error> {
        let graph = self.part.executor().graph();
        let maker = |value: ValueId| graph.nodes().iter().find(|node| node.outputs.contains(&Some(value)));
        let sum = self.part.hidden().last().and_then(|value| maker(*value)).filter(|node| node.op.name() == "Add");
        let linear = sum.into_iter().flat_map(|sum| sum.inputs.iter().flatten()).find_map(|value| {
            let node = maker(*value)?;
            let op: &dyn Any = &*node.op;
            let [takes, weights] = [0, 1].map(|at| node.inputs.get(at).copied().flatten());
            op.is::<Linear>().then_some((takes?, weights?))
        });
        let found = linear.and_then(|(takes, weights)| {
            let name = graph.name(weights).to_owned();
            Some(Last { name, takes, weights: graph.constant(weights)?.clone() })
        });
        found.ok_or_else(|| {
            of.unlike("healing: what a layer adds is not what a matrix makes, but normalized: nothing linear is left to change")
        })
    }

    /// The hidden states behind a model's last layer, and what else is asked for.
    fn states(decoder: &Decoder, window: &[u32], more: Option<ValueId>) -> Result<[Vec<f32>; 2], Error> {
        let wanted = [decoder.hidden().last().copied(), more];
        let mut seen = [Vec::new(), Vec::new()];
        let mut observe = |value: ValueId, tensor: &Tensor| {
            for (wanted, seen) in wanted.iter().zip(&mut seen) {
                if *wanted == Some(value) {
                    *seen = tensor.get::<f32>().map(<[f32]>::to_vec).unwrap_or_default();
                }
            }
        };
        let how = Run { observe: Some(&mut observe), ..Run::default() };
        decoder.observed(&mut decoder.cache(), window, Wanted::Last, how)?;
        Ok(seen)
    }

    fn heal(&self, of: &Kept<'_>, texts: &Texts, damping: f64, progress: Progress<'_>) -> Result<Found, Error> {
        let Last { name, takes, weights } = self.last(of)?;
        let &[outputs, inputs] = weights.shape() else { return Err(of.unlike("a matrix without rows").of(&name)) };
        let below = |e: niwaki_quant::Error| Error::below(e, Blame::Input).of(&name).at(of.model);
        let level = Level::best();
        let mut gram = Gram::new(inputs + outputs);
        for at in 0..texts.count {
            let window = texts.window(at)?;
            let [expected, _] = Self::states(&self.whole, &window, None)?;
            let [found, taken] = Self::states(&self.part, &window, Some(takes))?;
            let states = expected.chunks_exact(outputs).zip(found.chunks_exact(outputs));
            let row = |(taken, (expected, found)): (&[f32], (&[f32], &[f32]))| -> Vec<f32> {
                let size = expected.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt() as f32;
                let share = if size > 0.0 { 1.0 / size } else { 0.0 };
                let missing = expected.iter().zip(found).map(|(e, f)| e - f);
                taken.iter().copied().chain(missing).map(|x| x * share).collect()
            };
            let rows: Vec<f32> = taken.chunks_exact(inputs).zip(states).flat_map(row).collect();
            gram.bands(&rows).into_par_iter().for_each(|band| band.add(level));
            progress(at as u64 + 1, texts.count as u64);
        }
        let solved = LeastSquares::new(level, &gram, inputs, damping).map_err(below)?;
        let rows: Vec<(Vec<f64>, [f64; 2])> = (0..solved.targets())
            .into_par_iter()
            .map(|target| {
                let weights = solved.weights(target);
                let squares = solved.squares(target, &weights);
                (weights, squares)
            })
            .collect();
        let sum = |at: usize| rows.iter().map(|(_, squares)| squares[at]).sum::<f64>();
        let explained = if sum(0) > 0.0 { 1.0 - sum(1) / sum(0) } else { 1.0 };
        let more = rows.iter().flat_map(|(weights, _)| weights);
        let old = widened(&weights);
        let new = old.iter().zip(more).map(|(old, more)| (f64::from(*old) + more) as f32).collect();
        let new = Tensor::new([outputs, inputs], crate::model::floats(weights.dtype(), new));
        let weights = new.ok_or_else(|| of.unlike("a matrix that does not fit in memory").of(&name))?;
        Ok(Found { name, weights, explained, damping: solved.damping() })
    }
}

/// The elements of a matrix as single floats.
fn widened(tensor: &Tensor) -> Vec<f32> {
    match tensor.data() {
        Data::F32(all) => all.as_slice().to_vec(),
        Data::F16(all) => all.as_slice().iter().map(|x| x.to_f32()).collect(),
        Data::Bf16(all) => all.as_slice().iter().map(|x| x.to_f32()).collect(),
        _ => Vec::new(),
    }
}

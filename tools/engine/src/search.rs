//! A scheme for each layer, so that all fit a budget and the model loses least.
//!
//! ```text
//! loss of a layer in a scheme = s d' H d / w' H w        d what its codes miss of its weights w, summed over rows
//!                                                        H the mean of x x' over its inputs, or its diagonal
//!                                                        s 1, or what the model itself lost in a probe
//! ```
//!
//! The quotient is the noise of the layer's outputs, as a share of them. What that does to the model differs from layer to
//! layer; a probe rounds one layer alone, looks at how far the model's outputs are from what they were, and the quotient of
//! both is `s`. The choice among the schemes is exact, or says its gap
//! ([`allocate`]).

mod probe;

use std::fmt::Write as _;
use std::path::Path;

use niwaki_codes::{Grouping, Scheme, Uniform};
use niwaki_quant::observe::Gram;
use niwaki_quant::search::allocate::{Choice, STATES, allocate};
use niwaki_quant::{ErrorKind as Fault, Fit};
use niwaki_tensors::{Overwrite, write_small};
use rayon::prelude::*;
use serde::Serialize;

use crate::destination::Destination;
use crate::error::{Blame, Error, ErrorKind};
use crate::mask::matrix;
use crate::matrix::by_row;
use crate::progress::Progress;
use crate::recipe::Recipe;
use crate::source::{Source, SourceTensor};
use crate::stats::{Layer, Stats};
use crate::weigh::{DAMPING, Known, Weighing};
pub use probe::Probe;

/// What a model may take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Budget {
    /// So many stored bits for each weight of the layers, scales included.
    Bits(f64),
    /// So many bytes for all tensors.
    Bytes(u64),
}

/// What is searched for, and where.
#[derive(Clone, Copy)]
pub struct Search<'s> {
    /// The checkpoint.
    pub source: &'s Source<'s>,
    /// What is known of the inputs of its layers.
    pub stats: &'s Stats,
    /// What a layer may be stored in: codes by rows or groups.
    pub schemes: &'s [Scheme],
    /// How codes are chosen.
    pub fit: Fit,
    /// What becomes of other weights of two dimensions or more; none where they stay as they are.
    pub rest: Option<Scheme>,
    /// What all may take.
    pub budget: Budget,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Found {
    /// The recipe, as text.
    pub recipe: String,
    /// By layer what was chosen.
    pub tensors: Vec<FoundTensor>,
    /// Stored bits for each weight of the layers.
    pub bits_per_weight: f64,
    /// Bytes of all tensors.
    pub bytes: u64,
    /// What the choice loses, by the formula.
    pub loss: f64,
    /// What no other choice of this budget can be less than by more.
    pub gap: f64,
    /// Whether none loses less.
    pub exact: bool,
}

/// One layer of it.
#[derive(Clone, Debug, Serialize)]
pub struct FoundTensor {
    /// The weight.
    pub name: String,
    /// Its scheme.
    pub scheme: String,
    /// What it loses, by the formula.
    pub loss: f64,
    /// What it loses in each scheme, in the order of the schemes.
    pub losses: Vec<f64>,
    /// Its bytes.
    pub bytes: u64,
}

/// What a search ends with.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// A recipe.
    Found(Box<Found>),
    /// The budget is below what the cheapest schemes take: in bits for each weight, or in bytes, as it was asked.
    Unreachable {
        /// What they take.
        least: f64,
    },
}

/// A layer that may be stored in any of the schemes.
struct Candidate<'s> {
    tensor: &'s SourceTensor<'s>,
    choices: Vec<Choice>,
}

/// Chooses a scheme for each layer; where there is a probe, by what it finds.
///
/// # Errors
///
/// Statistics of another checkpoint, or without what the fit needs; schemes that rows are not rounded in alone; weights that
/// no code holds.
pub fn search(how: &Search<'_>, probe: Option<&Probe<'_>>, progress: Progress<'_>) -> Result<Outcome, Error> {
    how.stats.check(how.source)?;
    let schemes = how.schemes.iter().map(|scheme| uniform(*scheme)).collect::<Result<Vec<_>, _>>()?;
    let mut candidates = Vec::new();
    let layers: Vec<_> =
        how.source.tensors().iter().filter_map(|tensor| Some((tensor, how.stats.layer(tensor.name())?))).collect();
    for (nth, (tensor, layer)) in layers.iter().enumerate() {
        let at = |e: Error| e.of(tensor.name()).at(how.source.opened().path());
        let work = Work::new(how, tensor, layer).map_err(at)?;
        let mut choices = work.choices(how, &schemes).map_err(at)?;
        if let Some(probe) = probe {
            let middle = choices.len() / 2;
            let rounded = work.rounded(how.fit, &schemes[middle]).map_err(at)?;
            let times = probe.loss(tensor.name(), rounded).map_err(at)? / choices[middle].loss;
            // Where nothing is lost, nothing tells.
            choices.iter_mut().filter(|_| times.is_finite()).for_each(|choice| choice.loss *= times);
        }
        candidates.push(Candidate { tensor, choices });
        progress(nth as u64 + 1, layers.len() as u64);
    }
    allocated(how, &candidates)
}

/// Writes the recipe to a file.
///
/// # Errors
///
/// Those of writing.
pub fn write(found: &Found, out: &Path, overwrite: Overwrite, durable: bool) -> Result<(), Error> {
    Ok(write_small(out, found.recipe.as_bytes(), overwrite, durable)?)
}

/// Codes whose rows are rounded alone.
fn uniform(scheme: Scheme) -> Result<Uniform, Error> {
    match scheme {
        Scheme::Uniform(uniform) if uniform.grouping != Grouping::Tensor => Ok(uniform),
        other => {
            let error = Error::from(ErrorKind::Unsupported { what: format!("a search among {other}") });
            Err(error.hinting("it is among codes by rows or groups, such as `int4/g64/affine`"))
        }
    }
}

/// A layer that is rounded in one scheme after the other.
struct Work<'w> {
    tensor: &'w SourceTensor<'w>,
    weights: Vec<f32>,
    /// Whether rows are inputs.
    turned: bool,
    known: Option<Known>,
    measure: Measure,
}

impl<'w> Work<'w> {
    fn new(how: &Search<'_>, tensor: &'w SourceTensor<'w>, layer: &Layer<'_>) -> Result<Self, Error> {
        let mut weights = vec![0.0; tensor.shape().elements()];
        tensor.decode(0..weights.len(), &mut weights)?;
        let turned = layer.turned();
        let weighing = Weighing::of(how.fit, layer, turned)?;
        let known = weighing.map(|weighing| Known::of(layer, weighing, DAMPING)).transpose()?;
        Ok(Self { tensor, weights, turned, known, measure: Measure::of(layer)? })
    }

    /// The mean square of the outputs that weights make, summed.
    fn outputs(&self, weights: &[f32]) -> f64 {
        let (_, cols) = matrix(self.tensor.shape().dims());
        self.measure.of_rows(&by_row(weights, cols, self.turned))
    }

    /// What it costs and loses in each scheme.
    fn choices(&self, how: &Search<'_>, schemes: &[Uniform]) -> Result<Vec<Choice>, Error> {
        let signal = self.outputs(&self.weights);
        let choice = |(scheme, uniform): (&Scheme, &Uniform)| {
            let cost = bytes(self.tensor, Some((*scheme, how.fit)))?;
            let mut missed = self.rounded(how.fit, uniform)?;
            missed.iter_mut().zip(&self.weights).for_each(|(x, w)| *x = w - *x);
            let noise = self.outputs(&missed);
            Ok(Choice { cost, loss: if signal > 0.0 { noise / signal } else { 0.0 } })
        };
        how.schemes.par_iter().zip(schemes).map(choice).collect()
    }

    /// Its weights in a scheme.
    fn rounded(&self, fit: Fit, scheme: &Uniform) -> Result<Vec<f32>, Error> {
        let size = matrix(self.tensor.shape().dims());
        crate::weigh::rounded(self.known.as_ref(), (scheme, fit), &self.weights, size)
    }
}

/// Bytes of a tensor in a scheme.
fn bytes(tensor: &SourceTensor<'_>, rule: Option<(Scheme, Fit)>) -> Result<u64, Error> {
    Ok(Destination::default().settle(0, tensor, rule)?.layout.bytes()?)
}

/// What says how much outputs change with weights.
pub(crate) enum Measure {
    /// For each group of channels, of rows one.
    Grams(Vec<Gram>),
    /// The same, diagonals alone.
    Squares(Vec<Vec<f64>>),
}

impl Measure {
    pub(crate) fn of(layer: &Layer<'_>) -> Result<Self, Error> {
        let squares = layer.mean_squares()?;
        Ok(layer.grams()?.map_or(Self::Squares(squares), Self::Grams))
    }

    /// The mean square of the outputs that rows of weights make, each for one, summed over rows.
    pub(crate) fn of_rows(&self, weights: &[f32]) -> f64 {
        let weighted = |row: &[f32], squares: &[f64]| -> f64 {
            row.iter().zip(squares).map(|(w, square)| f64::from(*w) * f64::from(*w) * square).sum()
        };
        let (groups, cols) = match self {
            Self::Grams(all) => (all.len(), all.first().map_or(1, Gram::inputs)),
            Self::Squares(all) => (all.len(), all.first().map_or(1, Vec::len)),
        };
        let rows: Vec<&[f32]> = weights.chunks(cols.max(1)).collect();
        let each = (rows.len() / groups.max(1)).max(1);
        let loss = |(at, row): (usize, &&[f32])| match self {
            Self::Grams(all) => all[(at / each).min(groups - 1)].mean_square(row),
            Self::Squares(all) => weighted(row, &all[(at / each).min(groups - 1)]),
        };
        // Summed in the order of rows, whatever the threads.
        let all: Vec<f64> = rows.par_iter().enumerate().map(loss).collect();
        all.iter().sum()
    }
}

/// The best choice within the budget, as a recipe.
fn allocated(how: &Search<'_>, candidates: &[Candidate<'_>]) -> Result<Outcome, Error> {
    let count: u64 = candidates.iter().map(|of| of.tensor.shape().elements() as u64).sum();
    let chosen = |name: &str| candidates.iter().any(|of| of.tensor.name() == name);
    let mut others = 0;
    for tensor in how.source.tensors().iter().filter(|tensor| !chosen(tensor.name())) {
        others += bytes(tensor, how.rest.filter(|_| is_rest(tensor)).map(|scheme| (scheme, Fit::MinMax)))?;
    }
    let budget = match how.budget {
        Budget::Bits(bits) => (bits * count as f64 / 8.0) as u64,
        Budget::Bytes(bytes) => bytes.saturating_sub(others),
    };
    let choices: Vec<&[Choice]> = candidates.iter().map(|of| of.choices.as_slice()).collect();
    let found = match allocate(&choices, budget, STATES) {
        Ok(found) => found,
        Err(e) => match (e.kind(), how.budget) {
            (Fault::Budget { least, .. }, Budget::Bits(_)) => {
                return Ok(Outcome::Unreachable { least: least as f64 * 8.0 / count.max(1) as f64 });
            }
            (Fault::Budget { least, .. }, Budget::Bytes(_)) => {
                return Ok(Outcome::Unreachable { least: (least + others) as f64 });
            }
            _ => return Err(Error::below(e, Blame::Input)),
        },
    };
    let tensor = |(of, choice): (&Candidate<'_>, &usize)| FoundTensor {
        name: of.tensor.name().to_owned(),
        scheme: how.schemes[*choice].to_string(),
        loss: of.choices[*choice].loss,
        losses: of.choices.iter().map(|choice| choice.loss).collect(),
        bytes: of.choices[*choice].cost,
    };
    let tensors: Vec<FoundTensor> = candidates.iter().zip(&found.choices).map(tensor).collect();
    Ok(Outcome::Found(Box::new(Found {
        recipe: recipe(how, &tensors)?,
        bits_per_weight: found.cost as f64 * 8.0 / count.max(1) as f64,
        bytes: found.cost + others,
        loss: found.loss,
        gap: found.gap(),
        exact: found.exact,
        tensors,
    })))
}

/// Whether the rule for other weights is meant.
fn is_rest(tensor: &SourceTensor<'_>) -> bool {
    tensor.is_float() && tensor.shape().dims().len() > 1
}

/// The recipe that says which layer has which scheme.
fn recipe(how: &Search<'_>, tensors: &[FoundTensor]) -> Result<String, Error> {
    let mut text = "version = 1\n".to_owned();
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    if let Some(rest) = how.rest {
        let _ = write!(text, "\n[[quantize]]\ntensors = \"*\"\nmin_dims = 2\nscheme = \"{rest}\"\n");
    }
    for FoundTensor { name, scheme, .. } in tensors {
        let name = quoted(&globset::escape(name));
        let _ = write!(text, "\n[[quantize]]\ntensors = {name}\nscheme = \"{scheme}\"\nfit = \"{}\"\n", how.fit);
    }
    Recipe::parse(&text).map(|recipe| recipe.to_string())
}

//! Lottery jackpots: which weights of a trained network do without the others (Zhang et al., *Lottery Jackpots Exist in
//! Pre-trained Models*, 2023).
//!
//! ```text
//! masks = the largest weights of each tensor, as many as one threshold leaves it      (or drawn, or given)
//! scores = 1 where a weight is kept, 0.99 where it is not
//! for each batch:
//!     loss    = cross entropy(net(masks ⊙ weights, images), classes)
//!     scores -= rate (momentum ... + d loss / d (masks ⊙ weights) ⊙ weights)
//!     masks   = exchange the share ρ(t) of the weights that the highest scores would exchange
//! ```
//!
//! Weights, biases, factors and shifts of normalizations stay as they are; running statistics follow the batches.

use std::path::Path;

use niwaki_codes::Mask;
use niwaki_codes::simd::Level;
use niwaki_model::optimizer::Method;
use niwaki_model::{Graph, Tape, Tensor, ValueId};
pub use niwaki_prune::jackpot::Restriction;
use niwaki_prune::jackpot::{Flips, Rates, Search, Slots};
use niwaki_prune::{Budget, NofM, Ratio, mask_of_count};
use niwaki_tensors::Overwrite;
use rayon::prelude::*;

use crate::error::{Blame, Error, ErrorKind};
use crate::mask::outputs::{by_output, check_stacks};
use crate::mask::{self, MaskFile, Written};
use crate::model::Model;
use crate::train::{At, Found, Kind, Pace, Settings, Task, Trained, run};

/// Which weights are kept in the end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Keep {
    /// A share of all, divided among tensors.
    Share(Ratio, Budget),
    /// n of every m along the inputs of each output.
    NofM(NofM),
}

/// The masks that a search begins with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Start<'s> {
    /// The largest weights.
    Magnitude,
    /// As many of each tensor, drawn by the seed.
    Random,
    /// Those of a file; they say how many weights each tensor keeps.
    File(&'s Path),
}

/// How masks are searched.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Masking<'m> {
    /// Which weights are kept in the end.
    pub keep: Keep,
    /// What the search begins with.
    pub start: Start<'m>,
    /// The score of weights that are not kept in the beginning; those that are have 1.
    pub gap: f32,
    /// Which share of the exchanges are done.
    pub restriction: Restriction,
}

/// Searches masks of a model, and writes them: the settings of a training, of which
/// [`only`](Settings::only) and [`freeze`](Settings::freeze) choose among the weights that can be masked, and the method is
/// SGD.
///
/// # Errors
///
/// Those of [`train`](crate::train::train); a method that is another one; masks that do not fit; a weight that changed,
/// though all stay.
pub fn search(
    task: &Task<'_>,
    settings: &Settings,
    how: &Masking<'_>,
    progress: &mut dyn FnMut(At<'_>),
) -> Result<Trained, Error> {
    if !matches!(settings.method, Method::Sgd { nesterov: false, .. }) || settings.best || !settings.keep.is_empty() {
        let what = "a search of masks goes by SGD with momentum, and ends with its last masks".to_owned();
        return Err(ErrorKind::Usage { what }.into());
    }
    run(task, settings, Kind::Masks(how), progress)
}

/// One tensor whose mask is searched.
struct Layer {
    value: ValueId,
    name: String,
    /// All its weights: they stay.
    weights: Tensor,
    search: Search,
}

/// The masks of a model.
pub(crate) struct Masks {
    layers: Vec<Layer>,
    restriction: Restriction,
    /// Tensors that keep one weight where their budget has none.
    guarded: Vec<String>,
    /// What is said of the masks where they are written.
    about: Written,
    /// Exchanges of the pass under way, and its steps.
    exchanged: usize,
    steps: usize,
}

fn wrong(e: &niwaki_prune::Error, tensor: &str) -> Error {
    Error::from(ErrorKind::Unlike { what: e.to_string() }).of(tensor)
}

impl Masks {
    /// The masks that a search begins with.
    pub(crate) fn begin(model: &Model, graph: &Graph, settings: &Settings, how: &Masking<'_>) -> Result<Self, Error> {
        let chosen = mask::chosen(model, graph, settings)?;
        check_stacks(how.keep, graph, &chosen).map_err(|e| e.at(model.path()))?;
        let turned: Vec<bool> = chosen.iter().map(|product| product.turned).collect();
        let chosen: Vec<ValueId> = chosen.into_iter().map(|product| product.weight).collect();
        let weights = mask::weights_of(graph, &chosen);
        let starts = starts(&weights, &turned, settings.seed, how).map_err(|e| e.at(model.path()));
        let (starts, guarded) = starts?;
        let about = Written::new("jackpot", starts.iter().map(|(mask, _)| mask), &weights);
        let layers = chosen.iter().zip(&weights).zip(&starts).map(|((value, (name, weights)), (mask, slots))| {
            let search = Search::new(mask, *slots, how.gap).map_err(|e| wrong(&e, name).at(model.path()))?;
            Ok(Layer { value: *value, name: name.clone(), weights: weights.clone(), search })
        });
        let layers = layers.collect::<Result<Vec<_>, Error>>()?;
        Ok(Self { layers, restriction: how.restriction, guarded, about, exchanged: 0, steps: 0 })
    }

    /// Tensors that keep one weight where their budget has none.
    pub(crate) fn guarded(&self) -> &[String] {
        &self.guarded
    }

    /// The weights that are masked.
    pub(crate) fn values(&self) -> Vec<ValueId> {
        self.layers.iter().map(|layer| layer.value).collect()
    }

    /// Leaves the graph the weights that are kept, and zeros.
    pub(crate) fn apply(&self, graph: &mut Graph) {
        for Layer { value, weights, search, .. } in &self.layers {
            let mut kept = vec![0.0; weights.len()];
            search.apply(weights.get::<f32>().unwrap_or_default(), &mut kept);
            Tensor::of(weights.shape(), kept).into_iter().for_each(|kept| graph.set_weight(*value, kept));
        }
    }

    /// One step.
    pub(crate) fn update(
        &mut self,
        tape: &mut Tape,
        gradients: &[Option<&[f32]>],
        pace: Pace<'_>,
    ) -> Result<(), Error> {
        let momentum = match pace.settings.method {
            Method::Sgd { momentum, .. } => momentum,
            Method::Adam { .. } => 0.0,
        };
        let rates =
            Rates { rate: pace.rate as f32, momentum, decay: pace.settings.decay as f32, scale: pace.scale as f32 };
        let share = self.restriction.share((pace.step - 1) as f64 / pace.steps.max(1) as f64);
        let mut kept: Vec<Vec<f32>> = self
            .layers
            .iter()
            .map(|layer| {
                tape.graph().constant(layer.value).and_then(Tensor::get::<f32>).map_or_else(Vec::new, <[f32]>::to_vec)
            })
            .collect();
        let each = self.layers.par_iter_mut().zip(&mut kept).zip(gradients);
        let flips: Vec<Flips> = each
            .map(|((layer, kept), gradient)| {
                let weights = layer.weights.get::<f32>().unwrap_or_default();
                let none;
                let gradient = match gradient {
                    Some(gradient) => gradient,
                    None => {
                        none = vec![0.0; weights.len()];
                        &none[..]
                    }
                };
                layer.search.step(gradient, weights, kept, rates, share).map_err(|e| wrong(&e, &layer.name))
            })
            .collect::<Result<_, _>>()?;
        for (layer, kept) in self.layers.iter().zip(kept) {
            let tensor = Tensor::of(layer.weights.shape(), kept);
            tensor.into_iter().for_each(|tensor| tape.set_weight(layer.value, tensor));
        }
        self.exchanged += flips.iter().map(|flips| flips.done).sum::<usize>();
        self.steps += 1;
        Ok(())
    }

    /// The exchanges of a step, the mean since this was asked last.
    pub(crate) fn flips(&mut self) -> f64 {
        let mean = self.exchanged as f64 / self.steps.max(1) as f64;
        (self.exchanged, self.steps) = (0, 0);
        mean
    }

    /// What is needed to go on.
    pub(crate) fn saved(&self) -> Vec<(String, Vec<f32>)> {
        let mut all = vec![("exchanges".to_owned(), vec![self.exchanged as f32, self.steps as f32])];
        for (nth, layer) in self.layers.iter().enumerate() {
            let state = ["kept", "scores", "velocity"].into_iter().zip(layer.search.state());
            all.extend(state.map(|(what, numbers)| (format!("{what}.{nth}"), numbers)));
        }
        all
    }

    /// Goes on from there.
    pub(crate) fn restore(&mut self, floats: Found<'_>) -> Result<(), Error> {
        if let [exchanged, steps] = floats("exchanges", 2)?[..] {
            (self.exchanged, self.steps) = (exchanged as usize, steps as usize);
        }
        for (nth, layer) in self.layers.iter_mut().enumerate() {
            let len = layer.weights.len();
            let of = |what: &str| floats(&format!("{what}.{nth}"), len);
            let state = [of("kept")?, of("scores")?, of("velocity")?];
            layer.search = layer.search.clone().restored(state).map_err(|e| wrong(&e, &layer.name))?;
        }
        Ok(())
    }

    /// Writes the masks, and the running statistics that go with them.
    pub(crate) fn write(
        &self,
        graph: &Graph,
        statistics: &[ValueId],
        path: &Path,
        overwrite: Overwrite,
    ) -> Result<(), Error> {
        for layer in &self.layers {
            let found = graph.constant(layer.value).and_then(Tensor::get::<f32>).unwrap_or_default();
            if let Some(at) = layer.search.differs(layer.weights.get::<f32>().unwrap_or_default(), found) {
                let what = format!("weight {at} changed while its mask was searched");
                return Err(Error::from(ErrorKind::Unlike { what }).of(&layer.name));
            }
        }
        let masks = self.layers.iter().map(|layer| Ok((layer.name.as_str(), layer.search.mask()?)));
        let masks =
            masks.collect::<Result<Vec<_>, niwaki_prune::Error>>().map_err(|e| Error::below(e, Blame::Caller))?;
        let statistics: Vec<(&str, &Tensor)> =
            statistics.iter().filter_map(|value| Some((graph.name(*value), graph.constant(*value)?))).collect();
        mask::write(&masks, &statistics, &self.about, path, overwrite)
    }
}

/// Masks to begin with and what they may keep, and the tensors that keep more than their budget has.
type Starts = (Vec<(Mask, Slots)>, Vec<String>);

/// The masks that a search of these weights begins with, and what they may keep; of some weights rows are inputs.
fn starts(weights: &[(String, Tensor)], turned: &[bool], seed: u64, how: &Masking<'_>) -> Result<Starts, Error> {
    let level = Level::best();
    let runs = |run: NofM, turned: bool| if turned { Slots::NofMDown(run) } else { Slots::NofM(run) };
    let floats = |tensor: &'_ Tensor| tensor.get::<f32>().unwrap_or_default().to_vec();
    if let Start::File(path) = how.start {
        let file = MaskFile::open(path)?;
        let start = |((name, tensor), turned): (&(String, Tensor), &bool)| {
            let (rows, cols) = mask::matrix(tensor.shape());
            let mask = file.mask(name, (rows, cols))?;
            let slots = match how.keep {
                Keep::Share(..) => Slots::Count(mask.view().kept()),
                Keep::NofM(run) => runs(run, *turned),
            };
            Ok((mask, slots))
        };
        return Ok((weights.iter().zip(turned).map(start).collect::<Result<_, Error>>()?, Vec::new()));
    }
    let drawn = |name: &str, tensor: &Tensor| -> Vec<f32> {
        match how.start {
            Start::Random => mask::drawn(tensor.len(), seed, name),
            _ => floats(tensor),
        }
    };
    let (counts, guarded) = match how.keep {
        Keep::NofM(_) => (vec![0; weights.len()], Vec::new()),
        Keep::Share(ratio, budget) => mask::counts(weights, ratio, budget)?,
    };
    let start = |(((name, tensor), turned), count): ((&(String, Tensor), &bool), u64)| {
        let ((rows, cols), scores) = (mask::matrix(tensor.shape()), drawn(name, tensor));
        let (mask, slots) = match how.keep {
            Keep::NofM(run) => (by_output(level, how.keep, (rows, cols), *turned, &scores), runs(run, *turned)),
            Keep::Share(..) => (mask_of_count(level, count, rows, cols, &scores), Slots::Count(count as usize)),
        };
        Ok((mask.map_err(|e| wrong(&e, name))?, slots))
    };
    Ok((weights.iter().zip(turned).zip(counts).map(start).collect::<Result<_, Error>>()?, guarded))
}

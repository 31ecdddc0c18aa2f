//! A predictor of accuracy: what a configuration scores, without running it (CQAP, of EQ-Net).
//!
//! A configuration of L layers becomes `6 + 14 L` numbers, all 0 but a few that are 1: two for the granularity, two for the
//! symmetry of weights, two for that of activations; seven for the width of each layer's weights, then seven for that of
//! each layer's input. Layers that are fixed have none. A perceptron learns from pairs of a configuration and its measured
//! accuracy: hidden layers of rectified units, then one output without bias; the loss is smooth L1 with β = 1, the
//! optimizer Adam with decay added to gradients. A fifth of the pairs is held out to tell how well it predicts.
//!
//! Numbers are those of the released code, where paper and code differ: Adam, not SGD, and a decay of 1e-5.
//!
//! Departures: the released code writes 0 where a 1 says that a grid has an offset; here it is 1.
//!
//! All sums run in a fixed order: the same pairs and seed give the same predictor on every machine and SIMD level.

use alloc::vec;
use alloc::vec::Vec;

use niwaki_codes::Symmetry;
use niwaki_codes::simd::Level;

use super::kendall;
use crate::draws::Draws;
use crate::forms::{Configuration, Granularity, Side, Space};
use crate::{Error, ErrorKind};
use network::{Adam, Network};

mod network;
mod product;

/// What is drawn: which pairs are held out, first weights, and the order of each epoch.
const SPLIT: u64 = 0x7370_6c69;
const WEIGHTS: u64 = 0x7765_6967;
const ORDER: u64 = 0x6f72_6465;

/// Configurations that are predicted together.
const TOGETHER: usize = 64;

/// The numbers of a predictor and its training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Hidden layers.
    pub hidden: usize,
    /// Units of each.
    pub units: usize,
    /// How far weights follow.
    pub rate: f32,
    /// How much of each weight is added to its gradient.
    pub decay: f32,
    /// Pairs of a step.
    pub batch: usize,
    /// How often all pairs are seen.
    pub epochs: usize,
    /// How many of the pairs are held out, of 1.
    pub held_out: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { hidden: 7, units: 200, rate: 4e-4, decay: 1e-5, batch: 256, epochs: 100, held_out: 0.2 }
    }
}

/// How well held-out pairs are predicted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HeldOut {
    /// How many they are.
    pub pairs: usize,
    /// The root of the mean squared error, in the unit of the accuracies.
    pub rmse: f64,
    /// Kendall's τ of predicted and measured accuracies; none where either are all equal.
    pub tau: Option<f64>,
}

/// A configuration with what it scored: a fraction between 0 and 1, or whatever is of that size.
pub type Pair = (Configuration, f32);

/// The numbers of a configuration: what a [`Predictor`] sees of it.
///
/// # Errors
///
/// [`ErrorKind::Length`] for a configuration of another number of layers.
pub fn encode(space: &Space, configuration: &Configuration) -> Result<Vec<f32>, Error> {
    let mut numbers = vec![0.0; inputs(space)];
    ones(space, configuration)?.into_iter().for_each(|at| numbers[at] = 1.0);
    Ok(numbers)
}

fn inputs(space: &Space) -> usize {
    6 + 14 * space.layers().len()
}

/// The places of the ones.
fn ones(space: &Space, configuration: &Configuration) -> Result<Vec<usize>, Error> {
    space.matches(configuration)?;
    let style = configuration.style;
    let symmetry = |symmetry: Symmetry| usize::from(symmetry == Symmetry::Affine);
    let mut ones = vec![
        usize::from(style.granularity == Granularity::Row),
        2 + symmetry(style.weights),
        4 + symmetry(style.activations),
    ];
    let layers = space.layers().len();
    for side in Side::ALL {
        let first = 6 + 7 * layers * side as usize;
        let all = space.layers().iter().zip(&configuration.layers).enumerate();
        let free = all.filter(|(_, (layer, _))| !layer.fixed);
        ones.extend(free.map(|(at, (_, bits))| first + 7 * at + bits.of(side).get() as usize - 2));
    }
    Ok(ones)
}

/// A predictor that learns: an epoch at a time, so that callers can show how far it is.
///
/// # Examples
///
/// ```
/// use niwaki_codes::{Widths, simd::Level};
/// use niwaki_quant::forms::{LayerSize, Side, Space, Style};
/// use niwaki_quant::search::predictor::{Settings, Training};
///
/// let layer = LayerSize { weights: 100, inputs: 100, fixed: false };
/// let space = Space::new(vec![layer; 3], Widths::ALL)?;
/// let made_up = |item| {
///     let one = space.random(Style::ALL[0], 0, item);
///     let average = space.average(Side::Weights, &one)?;
///     Ok((one, 1.0 - 1.0 / average as f32))
/// };
/// let pairs = (0..50).map(made_up).collect::<Result<Vec<_>, niwaki_quant::Error>>()?;
/// let settings = Settings { hidden: 2, units: 16, epochs: 10, ..Settings::default() };
/// let mut training = Training::new(Level::best(), &space, &pairs, settings, 0)?;
/// while training.epoch().is_some() {}
/// let (predictor, held_out) = training.finish();
/// assert_eq!(held_out.pairs, 10);
/// assert!(predictor.predict(&pairs[0].0)?.is_finite());
/// # Ok::<(), niwaki_quant::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Training {
    predictor: Predictor,
    adam: Adam,
    settings: Settings,
    seed: u64,
    epoch: usize,
    learned: Vec<(Vec<usize>, f32)>,
    held_out: Vec<(Vec<usize>, f32)>,
}

impl Training {
    /// Begins with weights drawn evenly between plus and minus the root of 1 over a layer's inputs, as PyTorch draws them.
    /// Configurations are those of `space`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Setting`], for fewer than 10 pairs too; [`ErrorKind::Length`] for a configuration of another number of
    /// layers; [`ErrorKind::Score`] for an accuracy that is infinite or not a number.
    pub fn new(level: Level, space: &Space, pairs: &[Pair], settings: Settings, seed: u64) -> Result<Self, Error> {
        check(&settings, pairs.len())?;
        if let Some(configuration) = pairs.iter().position(|(_, accuracy)| !accuracy.is_finite()) {
            return Err(ErrorKind::Score { configuration }.into());
        }
        let known = pairs.iter().map(|(configuration, accuracy)| Ok((ones(space, configuration)?, *accuracy)));
        let mut learned = known.collect::<Result<Vec<_>, Error>>()?;
        Draws::new(seed, SPLIT, 0).shuffle(&mut learned);
        let held_out = ((pairs.len() as f64 * settings.held_out) as usize).clamp(2, pairs.len() - 1);
        let held_out = learned.split_off(learned.len() - held_out);
        let mut draws = Draws::new(seed, WEIGHTS, 0);
        let network = Network::new(inputs(space), settings.units, settings.hidden, &mut draws);
        let adam = Adam::new(&network, settings.rate, settings.decay);
        let predictor = Predictor { level, space: space.clone(), network };
        Ok(Self { predictor, adam, settings, seed, epoch: 0, learned, held_out })
    }

    /// Sees all pairs that are not held out once, in an order of its own, and gives the mean loss of its steps; none after
    /// the last epoch.
    pub fn epoch(&mut self) -> Option<f64> {
        if self.epoch == self.settings.epochs {
            return None;
        }
        let mut order: Vec<&(Vec<usize>, f32)> = self.learned.iter().collect();
        Draws::new(self.seed, ORDER, self.epoch as u64).shuffle(&mut order);
        let network = &mut self.predictor.network;
        let mut sum = 0.0;
        for batch in order.chunks(self.settings.batch) {
            let (ones, targets): (Vec<&[usize]>, Vec<f32>) =
                batch.iter().map(|(ones, accuracy)| (ones.as_slice(), *accuracy)).unzip();
            let (loss, gradients) = network.gradients(self.predictor.level, &ones, &targets);
            self.adam.step(self.predictor.level, network, &gradients);
            sum += loss * batch.len() as f64;
        }
        self.epoch += 1;
        Some(sum / order.len() as f64)
    }

    /// The predictor as it is now, and how well it predicts what was held out.
    pub fn finish(self) -> (Predictor, HeldOut) {
        let ones: Vec<&[usize]> = self.held_out.iter().map(|(ones, _)| ones.as_slice()).collect();
        let measured: Vec<f32> = self.held_out.iter().map(|(_, accuracy)| *accuracy).collect();
        let predicted = self.predictor.run(&ones);
        let errors = predicted.iter().zip(&measured).map(|(p, m)| f64::from(*p) - f64::from(*m));
        let mean = errors.map(|error| error * error).sum::<f64>() / measured.len() as f64;
        let held_out = HeldOut { pairs: measured.len(), rmse: mean.sqrt(), tau: kendall(&predicted, &measured) };
        (self.predictor, held_out)
    }
}

/// Refuses numbers that no training can have.
fn check(settings: &Settings, pairs: usize) -> Result<(), Error> {
    let all = [
        ("pairs", pairs as f64, 10.0, 1e9),
        ("hidden", settings.hidden as f64, 1.0, 100.0),
        ("units", settings.units as f64, 1.0, 10_000.0),
        ("rate", settings.rate.into(), 0.0, 1.0),
        ("decay", settings.decay.into(), 0.0, 1.0),
        ("batch", settings.batch as f64, 1.0, 1e9),
        ("held_out", settings.held_out, 0.0, 0.9),
    ];
    let wrong = all.into_iter().find(|(_, found, low, high)| !(found >= low && found <= high));
    wrong.map_or(Ok(()), |(name, found, low, high)| Err(ErrorKind::Setting { name, found, low, high }.into()))
}

/// What predicts the accuracy of configurations of one space.
#[derive(Clone, Debug)]
pub struct Predictor {
    level: Level,
    space: Space,
    network: Network,
}

impl Predictor {
    /// The accuracy that a configuration may have.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Length`] for a configuration of another number of layers.
    pub fn predict(&self, configuration: &Configuration) -> Result<f32, Error> {
        let predicted = self.predict_all(core::slice::from_ref(configuration))?;
        Ok(predicted.into_iter().sum())
    }

    /// The same of many, in their order: faster than one by one, with the same results.
    ///
    /// # Errors
    ///
    /// As [`predict`](Self::predict).
    pub fn predict_all(&self, configurations: &[Configuration]) -> Result<Vec<f32>, Error> {
        let all: Vec<Vec<usize>> =
            configurations.iter().map(|one| ones(&self.space, one)).collect::<Result<_, Error>>()?;
        let slices: Vec<&[usize]> = all.iter().map(Vec::as_slice).collect();
        Ok(self.run(&slices))
    }

    fn run(&self, ones: &[&[usize]]) -> Vec<f32> {
        ones.chunks(TOGETHER).flat_map(|ones| self.network.run(self.level, ones)).collect()
    }
}

#[cfg(test)]
mod tests;

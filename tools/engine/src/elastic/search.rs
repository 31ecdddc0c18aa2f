//! Which widths the layers of a network should have, for an average: configurations are measured, a predictor learns from
//! them, a genetic search asks it (EQ-Net, sections 3.4 and 3.5), and what is found is measured. Beside it stand the best of
//! as many random configurations, and an exact allocation by what each layer loses alone.
//!
//! A layer's input is as wide as its weights.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use blake3::Hasher;
use niwaki_codes::simd::Level;
use niwaki_codes::{Bits, Grouping, Scheme};
use niwaki_quant::forms::{Configuration, Form, Granularity, LayerBits, Prior, Side, Space, Style};
use niwaki_quant::search::allocate::{self, Choice};
use niwaki_quant::search::genetic::{self, Bound};
use niwaki_quant::search::predictor::{self, HeldOut, Predictor};
use serde::{Deserialize, Serialize};

use super::eval::Measuring;
use super::file::Network;
use crate::error::{Blame, Error, ErrorKind};
use crate::plan::glob;
use crate::progress::Progress;
use crate::recipe::{Action, Recipe};
use crate::target::file_error;

/// Configurations that are drawn to know how widths go with averages.
const COUNTED: u64 = 100_000;

/// Configurations that a predictor learns from, at least.
const LEAST: usize = 10;

/// How often as many configurations are drawn as are wanted, until no two are alike.
const TRIES: usize = 20;

/// How widths are searched.
#[derive(Clone, Debug)]
pub struct Searching<'s> {
    /// Granularity and symmetry of all layers.
    pub style: Style,
    /// What widths may average, by weights, the first and the last layer aside.
    pub average: f64,
    /// Configurations that are measured.
    pub pairs: usize,
    /// What they are measured on.
    pub measuring: Measuring<'s>,
    /// The file that keeps what was measured: what is there is not measured again.
    pub kept: &'s Path,
    /// Generations of the genetic search.
    pub generations: usize,
    /// Seed of all that is drawn.
    pub seed: u64,
}

/// A way of searching.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// By generations, which a predictor of accuracy judges.
    Genetic,
    /// The best of as many random ones, as predicted.
    Random,
    /// By what each layer loses alone.
    Allocate,
}

impl Way {
    /// Its word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Genetic => "genetic",
            Self::Random => "random",
            Self::Allocate => "allocate",
        }
    }
}

/// What a way of searching found.
#[derive(Clone, Debug, Serialize)]
pub struct Candidate {
    /// How it was found.
    pub by: Way,
    /// The width of each layer's weights, and of its input.
    pub bits: Vec<u32>,
    /// What the predictor says of its accuracy.
    pub predicted: f32,
    /// Its accuracy, of 1.
    pub accuracy: f64,
    /// Its loss.
    pub loss: f64,
    /// The average width, by weights and by elements of inputs, the first and the last layer aside.
    pub average: [f64; 2],
}

/// What came of a search.
#[derive(Clone, Debug, Serialize)]
pub struct Searched {
    /// Different configurations that were measured, those of the file included.
    pub pairs: usize,
    /// Root of the mean squared error of the predictor on configurations that it has not seen.
    pub rmse: f64,
    /// Kendall's τ there.
    pub tau: Option<f64>,
    /// The best of each way.
    pub candidates: Vec<Candidate>,
    /// How much less an allocation could at most lose, in the loss that was added up.
    pub gap: f64,
    /// Whether none loses less.
    pub exact: bool,
}

/// What was measured of a configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Line {
    bits: Vec<u32>,
    accuracy: f64,
    loss: f64,
}

/// The measurements of a network, kept in a file.
struct Measured<'m> {
    network: &'m Network,
    how: &'m Searching<'m>,
    lines: Vec<Line>,
    file: File,
}

fn below(e: niwaki_quant::Error) -> Error {
    Error::below(e, Blame::Caller)
}

/// Searches.
///
/// # Errors
///
/// An average that no widths have; a file of measurements that is of something else; those of measuring.
pub fn search(network: &Network, how: &Searching<'_>, progress: Progress<'_>) -> Result<Searched, Error> {
    let (space, style) = (network.space(), how.style);
    let prior = Prior::new(space, COUNTED, how.seed);
    let bound = Bound::Same { weights: how.average };
    let settings = genetic::Settings { generations: how.generations, ..genetic::Settings::default() };
    // A bound that nothing meets is refused before anything is measured.
    let ways = genetic::Search::new(&prior, style, bound, settings).map_err(below)?;
    let (drawn, alone) = (drawn(&prior, how), alone(space, style));
    if drawn.len() < LEAST {
        let what = format!("{} different configurations: a predictor learns from {LEAST} pairs at least", drawn.len());
        return Err(Error::from(ErrorKind::Usage { what }).at(network.model().path()));
    }
    let total = (drawn.len() + alone.len()) as u64;
    let mut measured = Measured::open(network, how)?;
    let mut pairs = Vec::new();
    for configuration in drawn {
        let line = measured.of(&configuration)?;
        pairs.push((configuration, line.accuracy as f32));
        progress(pairs.len() as u64, total);
    }
    let (predictor, held_out) = learned(space, &pairs, how.seed)?;
    let score = |all: &[Configuration]| predictor.predict_all(all);
    let genetic = ways.genetic(how.seed, score).map_err(below)?;
    let random = ways.random(how.seed, score).map_err(below)?;
    let mut losses = Vec::new();
    for (nth, configuration) in alone.iter().enumerate() {
        losses.push(measured.of(configuration)?.loss);
        progress((pairs.len() + nth) as u64 + 1, total);
    }
    let (allocated, allocation) = allocated(space, style, how.average, &losses)?;
    let found = [(Way::Genetic, genetic.best), (Way::Random, random.best), (Way::Allocate, allocated)];
    let candidates = found.into_iter().map(|(by, best)| candidate(by, &best, &predictor, &mut measured));
    let HeldOut { rmse, tau, .. } = held_out;
    Ok(Searched {
        pairs: pairs.len(),
        rmse,
        tau,
        candidates: candidates.collect::<Result<_, Error>>()?,
        gap: allocation.gap(),
        exact: allocation.exact,
    })
}

/// What measurements are of: weights, tables, data and how much of it, granularity and symmetry.
fn described(network: &Network, how: &Searching<'_>) -> String {
    let mut hasher = Hasher::new();
    for (value, tensor) in network.model().graph().weights() {
        hasher.update(network.model().graph().name(value).as_bytes());
        hasher.update(&tensor.data().to_bytes());
    }
    for tables in network.tables() {
        let tables = tables.weights.iter().chain(tables.input.as_ref().map(|(table, _)| table));
        for table in tables {
            hasher.update(&table.data().to_bytes());
        }
    }
    let Measuring { data, limit, recalibrate, whole_zeros, .. } = how.measuring;
    let recalibrate = recalibrate.map(|(images, count)| (images.len(), count));
    let how = format!("{:?} {:?} {limit:?} {recalibrate:?} {whole_zeros}", how.style.granularity, how.style.weights);
    hasher.update(how.as_bytes());
    format!("niwaki measurements {} {}", data.digest(), &hasher.finalize().to_hex()[..16])
}

/// Configurations to measure, no two of them alike: of a small network there may be fewer than were asked for.
fn drawn(prior: &Prior, how: &Searching<'_>) -> Vec<Configuration> {
    let mut seen = BTreeSet::new();
    let draws = (0..(how.pairs * TRIES) as u64).map(|item| same(prior.random(how.style, how.seed, item)));
    draws.filter(|configuration| seen.insert(bits(configuration))).take(how.pairs).collect()
}

/// The width of each layer's weights.
fn bits(configuration: &Configuration) -> Vec<u32> {
    configuration.layers.iter().map(|bits| bits.weights.get()).collect()
}

/// A configuration whose inputs are as wide as the weights.
fn same(configuration: Configuration) -> Configuration {
    let layers = configuration.layers.iter().map(|bits| LayerBits { activations: bits.weights, ..*bits });
    Configuration { layers: layers.collect(), ..configuration }
}

/// The widest configuration, and for each layer and narrower width the one in which it alone has that.
fn alone(space: &Space, style: Style) -> Vec<Configuration> {
    let widest = space.widths().widest();
    let all = space.uniform(style, LayerBits { weights: widest, activations: widest });
    let mut list = vec![all.clone()];
    for (at, _) in space.layers().iter().enumerate().filter(|(_, layer)| !layer.fixed) {
        for bits in space.widths().iter().filter(|bits| *bits != widest) {
            let mut one = all.clone();
            one.layers[at] = LayerBits { weights: bits, activations: bits };
            list.push(one);
        }
    }
    list
}

/// A predictor that has seen the pairs.
fn learned(space: &Space, pairs: &[predictor::Pair], seed: u64) -> Result<(Predictor, HeldOut), Error> {
    let settings = predictor::Settings { batch: (pairs.len() / 8).clamp(8, 256), ..predictor::Settings::default() };
    let mut training = predictor::Training::new(Level::best(), space, pairs, settings, seed).map_err(below)?;
    while training.epoch().is_some() {}
    Ok(training.finish())
}

/// The configuration whose layers lose least together, each by what it loses alone.
fn allocated(
    space: &Space,
    style: Style,
    average: f64,
    losses: &[f64],
) -> Result<(Configuration, allocate::Allocation), Error> {
    let widest = space.widths().widest();
    let (base, mut rest) = (losses.first().copied().unwrap_or(0.0), losses.iter().skip(1));
    let free: Vec<_> = space.layers().iter().filter(|layer| !layer.fixed).collect();
    let mut lists = Vec::new();
    for layer in &free {
        let choice = |bits: Bits| {
            let loss = if bits == widest { 0.0 } else { rest.next().copied().unwrap_or(base) - base };
            Choice { cost: u64::from(bits.get()) * layer.weights, loss }
        };
        lists.push(space.widths().iter().map(choice).collect::<Vec<_>>());
    }
    let lists: Vec<&[Choice]> = lists.iter().map(Vec::as_slice).collect();
    let weights: u64 = free.iter().map(|layer| layer.weights).sum();
    let budget = (average * weights as f64).floor() as u64;
    let found = allocate::allocate(&lists, budget, allocate::STATES).map_err(below)?;
    let ladder: Vec<Bits> = space.widths().iter().collect();
    let mut configuration = space.uniform(style, LayerBits { weights: widest, activations: widest });
    let places = configuration.layers.iter_mut().zip(space.layers()).filter(|(_, layer)| !layer.fixed);
    for ((bits, _), choice) in places.zip(&found.choices) {
        *bits = LayerBits { weights: ladder[*choice], activations: ladder[*choice] };
    }
    Ok((configuration, found))
}

fn candidate(
    by: Way,
    best: &Configuration,
    predictor: &Predictor,
    measured: &mut Measured<'_>,
) -> Result<Candidate, Error> {
    let predicted = predictor.predict(best).map_err(below)?;
    let Line { bits, accuracy, loss } = measured.of(best)?;
    let space = measured.network.space();
    let average = |side| space.average(side, best).map_err(below);
    let average = [average(Side::Weights)?, average(Side::Activations)?];
    Ok(Candidate { by, bits, predicted, accuracy, loss, average })
}

impl<'m> Measured<'m> {
    /// Takes up a file, or begins one.
    fn open(network: &'m Network, how: &'m Searching<'m>) -> Result<Self, Error> {
        let path: PathBuf = how.kept.to_owned();
        let of = described(network, how);
        let at = |e: std::io::Error| file_error(&e, &path);
        let mut lines = Vec::new();
        let known = path.exists();
        if known {
            let mut read = BufReader::new(File::open(&path).map_err(at)?).lines();
            let first = read.next().transpose().map_err(at)?.unwrap_or_default();
            if first != of {
                let what = "measurements of other weights, data or flags".to_owned();
                let e = Error::from(ErrorKind::Unlike { what }).at(&path);
                return Err(e.hinting("delete it, or name another file"));
            }
            for line in read {
                // The last one may be cut.
                lines.extend(serde_json::from_str::<Line>(&line.map_err(at)?).ok());
            }
        }
        let mut file = OpenOptions::new().create(true).append(true).open(&path).map_err(at)?;
        // After a line that was cut, the next begins anew.
        writeln!(file, "{}", if known { "" } else { of.as_str() }).map_err(at)?;
        Ok(Self { network, how, lines, file })
    }

    /// What a configuration measures.
    fn of(&mut self, configuration: &Configuration) -> Result<Line, Error> {
        let bits = bits(configuration);
        if let Some(line) = self.lines.iter().find(|line| line.bits == bits) {
            return Ok(line.clone());
        }
        let forms = self.network.forms_of(&bits, self.how.style)?;
        let found = self.network.measure(&forms, &self.how.measuring, &|_, _| {})?;
        let loss = found.loss.or(found.cosine.map(|cosine| 1.0 - cosine)).unwrap_or(f64::NAN);
        let line = Line { bits, accuracy: found.accuracy.or(found.cosine).unwrap_or(1.0 - loss), loss };
        let text = serde_json::to_string(&line).map_err(|e| Error::from(ErrorKind::Journal { why: e.to_string() }))?;
        writeln!(self.file, "{text}").map_err(|e| file_error(&e, self.how.kept))?;
        self.lines.push(line.clone());
        Ok(line)
    }
}

impl Network {
    /// Forms of layers of these widths, whose inputs are as wide.
    ///
    /// # Errors
    ///
    /// Widths that are none.
    pub fn forms_of(&self, bits: &[u32], style: Style) -> Result<Vec<Form>, Error> {
        let activations = self.quantizes_inputs();
        let form = |bits: &u32| {
            let weights = Bits::new(*bits).map_err(|e| Error::from(ErrorKind::Usage { what: e.to_string() }))?;
            Ok(Form { weights, activations: activations.then_some(weights), style })
        };
        bits.iter().map(form).collect()
    }

    /// The recipe that stores the weights of each layer in the width that was found for it.
    ///
    /// # Errors
    ///
    /// Another number of layers.
    pub fn recipe(&self, found: &Candidate, style: Style) -> Result<String, Error> {
        let forms = self.forms_of(&found.bits, style)?;
        let mut text = "version = 1\n".to_owned();
        for (name, form) in self.weights().zip(&forms) {
            let name = name.replace('\\', "\\\\").replace('"', "\\\"");
            text += &format!("\n[[quantize]]\ntensors = \"{name}\"\nscheme = \"{}\"\n", Scheme::Uniform(form.scheme()));
        }
        Ok(text)
    }

    /// The forms that a recipe has for the layers: of each the scheme that it gives the weights, with an input as wide.
    ///
    /// # Errors
    ///
    /// Layers for which it has no scheme, or none of `int2` to `int8` with one scale a tensor or a row.
    pub fn forms_by(&self, recipe: &Recipe) -> Result<Vec<Form>, Error> {
        let form = |name: &str| {
            let unlike = |what: String| Error::from(ErrorKind::Unlike { what }).of(name);
            let mut found = None;
            for rule in &recipe.rules {
                if let (Action::Encode { scheme, .. }, true) = (&rule.action, glob(&rule.tensors)?.is_match(name)) {
                    found = Some(*scheme);
                }
            }
            let scheme = found.ok_or_else(|| unlike("the recipe has no scheme for it".to_owned()))?;
            let Scheme::Uniform(uniform) = scheme else {
                return Err(unlike(format!("scheme {scheme}: no form has it")));
            };
            let granularity = match uniform.grouping {
                Grouping::Tensor => Granularity::Tensor,
                Grouping::Row => Granularity::Row,
                _ => return Err(unlike(format!("scheme {scheme}: a form has one scale for all, or one a row"))),
            };
            let style = Style { granularity, weights: uniform.symmetry, activations: uniform.symmetry };
            let activations = self.quantizes_inputs().then_some(uniform.bits);
            Ok(Form { weights: uniform.bits, activations, style })
        };
        let forms = self.weights().map(form).collect::<Result<Vec<_>, Error>>()?;
        self.check_all(&forms)?;
        Ok(forms)
    }
}

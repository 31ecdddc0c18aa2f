//! A genetic search for the widths of layers (EQ-Net: Elastic Quantization Neural Networks, ICCV 2023).
//!
//! ```text
//! pool <- configurations within the bound, drawn as a prior has them; scored
//! as often as there are generations:
//!     parents  <- the best quarter of the pool
//!     children <- half of them a parent of which each width is drawn anew with probability 0.1,
//!                 half of them two parents of which each width comes from either; all within the bound; scored
//!     pool     <- parents and children
//! ```
//!
//! Within the bound c is an average above c - 0.5 and at most c. Numbers are those of the paper and of its released code.
//!
//! Departures: a child beyond the bound is drawn anew so many times, not without end, and its weights and activations each
//! by themselves; then single steps of width, drawn at random, lead it into the bound. Where no such step is left, a
//! configuration that was found before the search takes its place, so each search ends, and only a bound that nothing
//! meets is refused.

use alloc::vec;
use alloc::vec::Vec;

use niwaki_codes::Bits;

use crate::draws::Draws;
use crate::error::exactly;
use crate::forms::{Configuration, LayerBits, Prior, Side, Style};
use crate::{Error, ErrorKind};
use goal::Goal;

mod goal;

/// What is drawn for the genetic search, and for the random one.
const GENETIC: u64 = 0x6765_6e65;
const RANDOM: u64 = 0x7261_6e64;

/// Which widths are searched, and what they may average, in bits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// Of weights and of inputs, each by itself.
    Each {
        /// What weights may average.
        weights: f64,
        /// What inputs may average.
        activations: f64,
    },
    /// One for a layer's weights and its input; what inputs average follows.
    Same {
        /// What weights may average.
        weights: f64,
    },
    /// Of weights alone.
    Weights {
        /// What they may average.
        weights: f64,
        /// The width of all inputs.
        activations: Bits,
    },
}

/// The numbers of a search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Configurations of the first pool, and children of each generation.
    pub population: usize,
    /// How often children are made.
    pub generations: usize,
    /// How many of the population are parents, of 1.
    pub parents: f64,
    /// How likely a width of a mutated child is drawn anew.
    pub mutation: f64,
    /// How often a child beyond the bound is drawn anew before it is led back.
    pub tries: usize,
}

impl Default for Settings {
    /// Those of the paper, and 100 tries.
    fn default() -> Self {
        Self { population: 100, generations: 500, parents: 0.25, mutation: 0.1, tries: 100 }
    }
}

/// What a search found.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The configuration of the highest score; of equal ones that which came first.
    pub best: Configuration,
    /// Its score.
    pub score: f32,
    /// The highest score after the first pool and after each generation.
    pub history: Vec<f32>,
    /// Configurations that were scored.
    pub scored: usize,
}

/// Places on the ladder of widths: for each goal, for each layer that is not fixed.
type Genes = Vec<Vec<usize>>;

/// A search for the configuration of the highest score within a bound.
#[derive(Clone, Debug)]
pub struct Search<'a> {
    prior: &'a Prior,
    style: Style,
    bound: Bound,
    settings: Settings,
    ladder: Vec<Bits>,
    goals: Vec<Goal>,
}

/// The best so far.
#[derive(Default)]
struct Record {
    best: Option<(Configuration, f32)>,
    history: Vec<f32>,
    scored: usize,
}

impl<'a> Search<'a> {
    /// A search in the space of a prior; `style` is that of all its configurations.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Average`] for a bound that no configuration meets, [`ErrorKind::Setting`].
    pub fn new(prior: &'a Prior, style: Style, bound: Bound, settings: Settings) -> Result<Self, Error> {
        let Settings { population, parents, mutation, .. } = settings;
        let setting = |name, found: f64, low, high| {
            let within = found >= low && found <= high;
            if within { Ok(()) } else { Err(Error::from(ErrorKind::Setting { name, found, low, high })) }
        };
        setting("population", population as f64, 1.0, 1e6)?;
        setting("parents", parents, 0.0, 1.0)?;
        setting("mutation", mutation, 0.0, 1.0)?;
        let space = prior.space();
        let goals = match bound {
            Bound::Each { weights, activations } => {
                vec![Goal::new(space, Side::Weights, weights)?, Goal::new(space, Side::Activations, activations)?]
            }
            Bound::Same { weights } | Bound::Weights { weights, .. } => {
                vec![Goal::new(space, Side::Weights, weights)?]
            }
        };
        Ok(Self { prior, style, bound, settings, ladder: space.ladder(), goals })
    }

    /// Searches. `score` gives a number for each configuration handed over, higher is better; it is asked for the first
    /// pool and for the children of each generation.
    ///
    /// # Errors
    ///
    /// Those of `score`; [`ErrorKind::Length`] where it gives more or fewer numbers, [`ErrorKind::Score`] where one is NaN.
    pub fn genetic<E: From<Error>>(
        &self,
        seed: u64,
        mut score: impl FnMut(&[Configuration]) -> Result<Vec<f32>, E>,
    ) -> Result<Found, E> {
        let Settings { population, generations, parents, .. } = self.settings;
        let parents = ((population as f64 * parents) as usize).max(1);
        let mut draws = Draws::new(seed, GENETIC, 0);
        let mut record = Record::default();
        let first: Vec<Genes> = (0..population).map(|_| self.fresh(&mut draws)).collect();
        let mut pool = self.scored(first, &mut score, &mut record)?;
        for _ in 0..generations {
            // Stable: of equal scores the earlier stays ahead.
            pool.sort_by(|a, b| b.1.total_cmp(&a.1));
            pool.truncate(parents);
            let child = |at: usize| {
                let [one, other] = [draws.below(pool.len()), draws.below(pool.len())].map(|at| &pool[at].0);
                if at < population / 2 { self.mutated(one, &mut draws) } else { self.crossed(one, other, &mut draws) }
            };
            let children = (0..population).map(child).collect();
            let children = self.scored(children, &mut score, &mut record)?;
            pool.extend(children);
        }
        record.found().map_err(E::from)
    }

    /// As many configurations as [`genetic`](Self::genetic) scores, all drawn as its first pool: what a genetic search has
    /// to beat.
    ///
    /// # Errors
    ///
    /// As [`genetic`](Self::genetic).
    pub fn random<E: From<Error>>(
        &self,
        seed: u64,
        mut score: impl FnMut(&[Configuration]) -> Result<Vec<f32>, E>,
    ) -> Result<Found, E> {
        let mut draws = Draws::new(seed, RANDOM, 0);
        let mut record = Record::default();
        for _ in 0..=self.settings.generations {
            let drawn = (0..self.settings.population).map(|_| self.fresh(&mut draws)).collect();
            self.scored(drawn, &mut score, &mut record)?;
        }
        record.found().map_err(E::from)
    }

    /// Genes with their scores, after the record has taken note of the best.
    fn scored<E: From<Error>>(
        &self,
        genes: Vec<Genes>,
        score: &mut impl FnMut(&[Configuration]) -> Result<Vec<f32>, E>,
        record: &mut Record,
    ) -> Result<Vec<(Genes, f32)>, E> {
        let configurations: Vec<Configuration> = genes.iter().map(|genes| self.configuration(genes)).collect();
        let scores = score(&configurations)?;
        exactly("scores", configurations.len(), scores.len())?;
        record.note(configurations, &scores)?;
        Ok(genes.into_iter().zip(scores).collect())
    }

    /// Genes as the prior has them at the bound.
    fn fresh(&self, draws: &mut Draws) -> Genes {
        self.within(draws, |at, draws, picks| {
            let goal = &self.goals[at];
            self.prior.draw(goal.side(), goal.bound(), draws, picks);
        })
    }

    fn mutated(&self, parent: &Genes, draws: &mut Draws) -> Genes {
        self.within(draws, |at, draws, picks| {
            for (pick, from) in picks.iter_mut().zip(&parent[at]) {
                let anew = draws.unit() < self.settings.mutation;
                *pick = if anew { draws.below(self.ladder.len()) } else { *from };
            }
        })
    }

    fn crossed(&self, one: &Genes, other: &Genes, draws: &mut Draws) -> Genes {
        self.within(draws, |at, draws, picks| {
            for (pick, (one, other)) in picks.iter_mut().zip(one[at].iter().zip(&other[at])) {
                *pick = if draws.coin() { *one } else { *other };
            }
        })
    }

    /// Genes of all goals, each drawn until it is within its bound, or led there.
    fn within(&self, draws: &mut Draws, fill: impl Fn(usize, &mut Draws, &mut [usize])) -> Genes {
        let one = |(at, goal): (usize, &Goal)| {
            let mut picks = vec![0; goal.layers()];
            fill(at, draws, &mut picks);
            for _ in 0..self.settings.tries {
                if goal.met(&picks) {
                    return picks;
                }
                fill(at, draws, &mut picks);
            }
            goal.lead(&mut picks, draws);
            picks
        };
        self.goals.iter().enumerate().map(one).collect()
    }

    fn configuration(&self, genes: &Genes) -> Configuration {
        let width = |goal: usize, layer: usize| {
            let pick = genes.get(goal).and_then(|picks| picks.get(layer));
            pick.and_then(|pick| self.ladder.get(*pick)).copied().unwrap_or(Bits::MAX)
        };
        let bits = (0..).map(|layer| LayerBits {
            weights: width(0, layer),
            activations: match self.bound {
                Bound::Each { .. } => width(1, layer),
                Bound::Same { .. } => width(0, layer),
                Bound::Weights { activations, .. } => activations,
            },
        });
        self.prior.space().filled(self.style, bits)
    }
}

impl Record {
    fn note(&mut self, configurations: Vec<Configuration>, scores: &[f32]) -> Result<(), Error> {
        for (configuration, score) in configurations.into_iter().zip(scores) {
            if score.is_nan() {
                return Err(ErrorKind::Score { configuration: self.scored }.into());
            }
            self.scored += 1;
            if self.best.as_ref().is_none_or(|(_, best)| score > best) {
                self.best = Some((configuration, *score));
            }
        }
        self.history.extend(self.best.as_ref().map(|(_, best)| *best));
        Ok(())
    }

    fn found(self) -> Result<Found, Error> {
        let nothing = ErrorKind::Setting { name: "population", found: 0.0, low: 1.0, high: 1e6 };
        let (best, score) = self.best.ok_or(nothing)?;
        Ok(Found { best, score, history: self.history, scored: self.scored })
    }
}

#[cfg(test)]
mod tests;

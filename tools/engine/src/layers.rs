//! Whole blocks of a residual network: how much each matters, and the network without some.
//!
//! ```text
//! rank:    for each block, over windows of a text or over images
//!              influence   1 - mean cosine of what it takes and what it gives
//!              kl          mean KL between the outputs with and without it
//!              random      drawn
//!          of networks of images besides
//!              grasp, snip         gradients of its weights            by the statistics of the batch
//!              hrank, expectabs    ranks and sizes of the maps that it makes
//!              pls, cka            what its features tell of classes; how alike the last features stay
//! remove:  model --> model with fewer blocks, the others as they were
//! ```
//!
//! A block is a layer of a transformer in a Hugging Face folder, whose number is that of its weights' names; or a branch and
//! the sum behind it in the graph of an ONNX model, numbered as they run ([`niwaki_model::Residual`]). Nothing is trained.
//! Influence is that of *ShortGPT* (Men et al., 2024, section 3), the others are criteria of *When Layers Play the Lottery, all
//! Tickets Win at Initialization* (Jordao et al., 2023, section 3) and what it builds on; arithmetic and selection are those of
//! [`niwaki_prune::layers`].

mod fewer;
mod folder;
mod graph;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

pub use niwaki_prune::layers::Removable;
use niwaki_prune::layers::{Seat, order, random_scores};

use crate::error::{Error, ErrorKind};
use crate::progress::Progress;
use crate::recipe::no_such;
pub use fewer::Fewer;
use folder::Folder;
pub use folder::{DAMPING, Healed, Healing, Removed, check_output, remove as remove_from_folder};
pub use graph::{Block, Cost, Network, Written};

/// How blocks are scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Criterion {
    /// How far a block turns the hidden state of a token, or of a place of an image.
    Influence,
    /// How far outputs move without it, in nats: of texts KL(with || without) of each next token, of images KL(without || with)
    /// of the classes.
    Kl,
    /// At random.
    Random,
    /// The squared norm of the gradient of its weights. By the statistics of the batch GraSP's scores of the weights add up to
    /// it, -θ'Hg = |g|²: what their going does to the norm of all gradients, to the first order (Wang et al., *Picking Winning
    /// Tickets Before Training by Preserving Gradient Flow*, 2020). The largest go first.
    Grasp,
    /// Σ |weight x gradient| over its weights (*SNIP*, Lee et al., 2019).
    Snip,
    /// The same, as a mean.
    SnipMean,
    /// The mean rank of the maps that it makes.
    HRank,
    /// The mean of the maps that it makes, above zero.
    ExpectAbs,
    /// The mean importance of its features for the classes, of all blocks' features together, in a partial least squares
    /// regression of four components.
    Pls,
    /// 1 - the linear centered kernel alignment of the last features with and without it.
    Cka,
}

impl Criterion {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Influence,
        Self::Kl,
        Self::Random,
        Self::Grasp,
        Self::Snip,
        Self::SnipMean,
        Self::HRank,
        Self::ExpectAbs,
        Self::Pls,
        Self::Cka,
    ];

    /// The word for it on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Influence => "influence",
            Self::Kl => "kl",
            Self::Random => "random",
            Self::Grasp => "grasp",
            Self::Snip => "snip",
            Self::SnipMean => "snip-mean",
            Self::HRank => "hrank",
            Self::ExpectAbs => "expectabs",
            Self::Pls => "pls",
            Self::Cka => "cka",
        }
    }

    /// Whether the blocks of the highest scores go first, not those of the lowest.
    pub const fn highest_first(self) -> bool {
        matches!(self, Self::Grasp)
    }

    /// Whether it looks at what gradients of the loss are.
    const fn of_gradients(self) -> bool {
        matches!(self, Self::Grasp | Self::Snip | Self::SnipMean)
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

/// What a model sees while its blocks are scored.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'s> {
    /// A text, or a dataset of tokens; for networks of images a dataset of images.
    pub data: &'s Path,
    /// How many windows of it, or images. Where it is not said all windows, 128 images for gradients, 1024 for all else.
    pub limit: Option<usize>,
}

/// A criterion, and what it needs.
#[derive(Clone, Copy, Debug)]
pub struct By<'s> {
    /// The criterion.
    pub criterion: Criterion,
    /// What the model sees; [`Criterion::Random`] needs nothing.
    pub sample: Option<Sample<'s>>,
    /// The seed of what is drawn: scores at random, and images.
    pub seed: u64,
}

impl<'s> By<'s> {
    fn sample(&self) -> Result<Sample<'s>, Error> {
        let missing = || ErrorKind::Usage { what: format!("the criterion {} without data", self.criterion) };
        self.sample.ok_or_else(|| missing().into())
    }
}

/// What was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Windows of text.
    pub windows: u64,
    /// Tokens in them.
    pub tokens: u64,
    /// Images.
    pub images: u64,
}

/// How much each block of a model matters.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranking {
    /// The score of each block, in the order in which they run; none of one that can never be removed.
    pub scores: Vec<Option<f64>>,
    /// The blocks that have one in the order in which they go.
    pub order: Vec<usize>,
    /// What was looked at.
    pub seen: Seen,
}

/// Blocks to choose from: which may go, how many, and whether all are scored anew after each.
#[derive(Clone, Copy, Debug)]
pub struct Choosing {
    /// Which may go; where it is not said [`Blocks::removable`].
    pub removable: Removable,
    /// How many go.
    pub count: usize,
    /// Whether those that are left are scored anew after each that goes.
    pub one_by_one: bool,
}

/// A model and its blocks.
#[derive(Debug)]
pub struct Blocks {
    path: PathBuf,
    of: Of,
}

#[derive(Debug)]
enum Of {
    Folder(Folder),
    Network(Box<Network>),
}

impl Blocks {
    /// Those of a model: of a Hugging Face folder or an ONNX file, whose transformer blocks may be taken by their `halves`.
    ///
    /// # Errors
    ///
    /// A path that is neither; a family that is not supported; halves of a folder; those of [`Network::open`].
    pub fn open(model: &Path, halves: bool) -> Result<Self, Error> {
        let usage = |what: &str| Error::from(ErrorKind::Usage { what: what.to_owned() }).at(model);
        let of = match crate::model::is_onnx(model) && !model.is_dir() {
            true => Of::Network(Box::new(Network::open(model, halves)?)),
            false if model.exists() && !model.is_dir() => {
                return Err(usage("is neither a Hugging Face folder nor an ONNX model: no blocks"));
            }
            false if halves => {
                let e = usage("halves of the layers of a Hugging Face folder: no `config.json` describes such a model");
                return Err(e.hinting("those of an ONNX model can be removed"));
            }
            false => Of::Folder(Folder::open(model)?),
        };
        Ok(Self { path: model.to_owned(), of })
    }

    /// The network, where they are those of an ONNX model.
    pub fn network(&self) -> Option<&Network> {
        match &self.of {
            Of::Network(network) => Some(network),
            Of::Folder(_) => None,
        }
    }

    /// The blocks as choices see them.
    fn seats(&self) -> Vec<Seat> {
        match &self.of {
            Of::Folder(folder) => vec![Seat { stage: 0, identity: true }; folder.count()],
            Of::Network(network) => network.seats(),
        }
    }

    /// Which blocks may go where nobody says it: of networks with convolutions those that the code of the paper's first author
    /// takes, of transformers all.
    pub fn removable(&self) -> Removable {
        match &self.of {
            Of::Network(network) if network.convolves() => Removable::Code,
            _ => Removable::Any,
        }
    }

    /// Whether each block may go.
    pub fn candidates(&self, removable: Removable) -> Vec<bool> {
        removable.candidates(&self.seats())
    }

    /// How many blocks can go at most.
    pub fn most(&self, removable: Removable) -> usize {
        removable.most(&self.seats())
    }

    /// Scores the blocks. `progress` is told the passes that are done, and all there are.
    ///
    /// # Errors
    ///
    /// A criterion without data, or of another kind of model; those of reading and running; a score that is not finite.
    pub fn rank(&self, by: By<'_>, progress: Progress<'_>) -> Result<Ranking, Error> {
        let all: Vec<usize> = (0..self.seats().len()).collect();
        let (scores, seen) = self.scores(by, &all, progress)?;
        Ok(Ranking { order: self.order(by, &all, &scores)?, scores, seen })
    }

    /// Chooses blocks by their scores.
    ///
    /// # Errors
    ///
    /// None, or more than can go; those of [`rank`](Self::rank).
    pub fn choose(&self, by: By<'_>, how: Choosing, progress: Progress<'_>) -> Result<Vec<usize>, Error> {
        let seats = self.seats();
        let at = |e: niwaki_prune::Error| of_selection(&e, &self.path);
        let Choosing { removable, count, one_by_one } = how;
        // Before any work is done.
        removable.choose(&seats, &(0..seats.len()).collect::<Vec<_>>(), count).map_err(at)?;
        if !one_by_one {
            return removable.choose(&seats, &self.rank(by, progress)?.order, count).map_err(at);
        }
        let mut gone: Vec<usize> = Vec::new();
        for round in 1..=count {
            let kept: Vec<usize> = (0..seats.len()).filter(|at| !gone.contains(at)).collect();
            let (scores, _) = self.scores(by, &kept, &|done, all| {
                progress((round as u64 - 1) * all + done, count as u64 * all);
            })?;
            // What is gone stays gone: it comes first.
            let order = [gone, self.order(by, &kept, &scores)?].concat();
            gone = removable.choose(&seats, &order, round).map_err(at)?;
        }
        Ok(gone)
    }

    /// Whether these blocks may go together.
    ///
    /// # Errors
    ///
    /// Blocks that are not there, that are named twice, or that may not go; none, or too many.
    pub fn check(&self, removed: &[usize], removable: Removable) -> Result<(), Error> {
        match &self.of {
            Of::Network(network) => network.check(removed, removable),
            Of::Folder(_) => removable.check(&self.seats(), removed).map_err(|e| of_selection(&e, &self.path)),
        }
    }

    /// The scores of the blocks `kept`, in a model that has no others.
    fn scores(&self, by: By<'_>, kept: &[usize], progress: Progress<'_>) -> Result<(Vec<Option<f64>>, Seen), Error> {
        if by.criterion == Criterion::Random {
            let seats = self.seats();
            let all = random_scores(seats.len(), by.seed);
            let scores = kept.iter().map(|at| all.get(*at).copied().filter(|_| seats[*at].identity));
            return Ok((scores.collect(), Seen::default()));
        }
        match &self.of {
            Of::Folder(folder) => folder.scores(by, kept, progress),
            Of::Network(network) => network.scores(by, kept, progress),
        }
    }

    /// The blocks `kept` that have scores, in the order in which they go.
    fn order(&self, by: By<'_>, kept: &[usize], scores: &[Option<f64>]) -> Result<Vec<usize>, Error> {
        let scored: Vec<(usize, f64)> =
            kept.iter().zip(scores).filter_map(|(block, score)| Some((*block, (*score)?))).collect();
        let sign = if by.criterion.highest_first() { -1.0 } else { 1.0 };
        let each: Vec<f64> = scored.iter().map(|(_, score)| sign * score).collect();
        let found = order(&each).map_err(|e| of_selection(&e, &self.path))?;
        Ok(found.into_iter().filter_map(|at| Some(scored.get(at)?.0)).collect())
    }
}

/// What was wrong with a choice of blocks.
fn of_selection(error: &niwaki_prune::Error, model: &Path) -> Error {
    Error::from(ErrorKind::Usage { what: error.to_string() }).at(model)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn criteria_are_their_words() {
        for criterion in Criterion::ALL {
            assert_eq!(criterion.to_string().parse::<Criterion>().unwrap(), criterion);
        }
        let far = "magnitude".parse::<Criterion>().unwrap_err();
        let words = "there are influence, kl, random, grasp, snip, snip-mean, hrank, expectabs, pls, cka";
        assert_eq!((far.to_string().as_str(), far.hint()), ("no criterion `magnitude`", Some(words)));
    }
}

//! Whole blocks of a residual network: how much each matters, and the network without some.
//!
//! ```text
//! rank:    for each block, over windows of a text
//!              influence   1 - mean cosine of the hidden states before and after it
//!              kl          mean KL(all blocks || all but this one) of the next token
//!              random      drawn
//! remove:  folder --> folder with fewer blocks, the others as they were
//! ```
//!
//! A block is a layer of a transformer in a Hugging Face folder; its number is that of its weights'
//! names. All is forward, and nothing is trained. Influence is that of *ShortGPT* [shortgpt, 3], KL the
//! criterion of *When Layers Play the Lottery* [lottery layers, 3] for tokens instead of images; arithmetic
//! and selection are those of [`niwaki_prune::layers`].

mod remove;
mod watch;

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use niwaki_model::hf::{self, Blueprint, Config, Layers};
use niwaki_model::{Decoder, Encoder, Run, Tensor, Text, Wanted};
use niwaki_prune::layers::{Influence, order, random_scores};
use rayon::prelude::*;

use crate::error::{Error, ErrorKind};
use crate::eval::kl;
use crate::eval::text::Windows;
use crate::folder::Recorded;
use crate::progress::Progress;
use crate::recipe::no_such;
pub use remove::{Removed, check_output, remove};
use watch::Watch;

/// How blocks are scored. Those of the lowest scores go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Criterion {
    /// How far a block turns the hidden state of a token.
    Influence,
    /// How far the next token's probabilities move without it, in nats.
    Kl,
    /// At random.
    Random,
}

impl Criterion {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Influence, Self::Kl, Self::Random];

    /// The word for it on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Influence => "influence",
            Self::Kl => "kl",
            Self::Random => "random",
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

/// The text that a model sees while its blocks are scored.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'s> {
    /// A text, or a dataset of tokens.
    pub data: &'s Path,
    /// How many windows of it; all for none.
    pub limit: Option<usize>,
}

/// A criterion, and what it needs.
#[derive(Clone, Copy, Debug)]
pub enum By<'s> {
    /// [`Criterion::Influence`].
    Influence(Sample<'s>),
    /// [`Criterion::Kl`].
    Kl(Sample<'s>),
    /// [`Criterion::Random`] of a seed.
    Random(u64),
}

/// How much each block of a model matters.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranking {
    /// The score of each block, in the order in which they run.
    pub scores: Vec<f64>,
    /// The blocks in the order in which they go.
    pub order: Vec<usize>,
    /// Windows of text that were seen.
    pub windows: u64,
    /// Tokens in them.
    pub tokens: u64,
}

/// Scores the blocks of the model in a folder. `progress` is told the passes forward that are done, and
/// all there are.
///
/// # Errors
///
/// A model that is in no folder, or of a family that is not supported; for KL one without outputs for
/// tokens; those of [`Windows::open`] and of running; a score that is not finite.
pub fn rank(model: &Path, by: By<'_>, progress: Progress<'_>) -> Result<Ranking, Error> {
    check_folder(model)?;
    let (scores, windows, tokens) = match by {
        By::Random(seed) => (random_scores(layers(&Config::open(model)?, model)?.count(), seed), 0, 0),
        By::Influence(sample) => influence(model, sample, progress)?,
        By::Kl(sample) => divergence(model, sample, progress)?,
    };
    let order = order(&scores).map_err(|e| of_selection(&e, model))?;
    Ok(Ranking { scores, order, windows, tokens })
}

/// The `count` blocks that go first by a ranking of a model, in the order in which they run.
///
/// # Errors
///
/// None, or all blocks.
pub fn lowest(model: &Path, ranking: &Ranking, count: usize) -> Result<Vec<usize>, Error> {
    niwaki_prune::layers::lowest(&ranking.scores, count).map_err(|e| of_selection(&e, model))
}

/// Whether so many blocks of a model can be removed, before they are ranked.
///
/// # Errors
///
/// None, or all blocks; those of reading the model's `config.json`.
pub fn check_count(model: &Path, count: usize) -> Result<(), Error> {
    check_folder(model)?;
    let blocks = layers(&Config::open(model)?, model)?.count();
    niwaki_prune::layers::lowest(&vec![0.0; blocks], count).map(|_| ()).map_err(|e| of_selection(&e, model))
}

/// Refuses what is not in a folder.
fn check_folder(model: &Path) -> Result<(), Error> {
    if model.is_dir() || !model.exists() {
        return Ok(());
    }
    if model.extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx")) {
        let what = "removing layers of an ONNX model".to_owned();
        let error = Error::from(ErrorKind::Unsupported { what }).at(model);
        return Err(error.hinting("transformers in Hugging Face folders are; residual networks come later"));
    }
    let what = "is no folder; layers are those of a Hugging Face folder".to_owned();
    Err(Error::from(ErrorKind::Usage { what }).at(model))
}

/// The layers that a configuration says.
fn layers(config: &Config, model: &Path) -> Result<Layers, Error> {
    Ok(Layers::of(config).map_err(|e| e.at(&model.join("config.json")))?)
}

/// What was wrong with a choice of blocks.
fn of_selection(error: &niwaki_prune::Error, model: &Path) -> Error {
    Error::from(ErrorKind::Usage { what: error.to_string() }).at(model)
}

/// Scores, windows and tokens.
type Scored = (Vec<f64>, u64, u64);

/// The first windows of a text: each is what a model may see at once.
struct Seen {
    windows: Windows,
    count: usize,
    context: usize,
}

impl Seen {
    fn open(sample: Sample<'_>, model: &Path, context: usize) -> Result<Self, Error> {
        let windows = Windows::open(sample.data, model, context)?;
        let count = sample.limit.unwrap_or(usize::MAX).min(windows.len());
        if count == 0 {
            let what = "no window of text to look at; expected one or more".to_owned();
            return Err(Error::from(ErrorKind::Usage { what }).at(sample.data));
        }
        Ok(Self { windows, count, context })
    }

    fn window(&self, at: usize) -> Result<Vec<u32>, Error> {
        let window = self.windows.get(at)?;
        if window.is_empty() || window.len() > self.context {
            let what = format!("windows of {} tokens: 1 to {} expected", window.len(), self.context);
            return Err(ErrorKind::Unlike { what }.into());
        }
        Ok(window)
    }
}

/// A model that runs on one window of text.
enum Runs {
    Decoder(Decoder),
    Encoder(Encoder),
}

impl Runs {
    fn new(blueprint: Blueprint) -> Result<Self, niwaki_model::Error> {
        Ok(match blueprint {
            Blueprint::Decoder(graph) => Self::Decoder(Decoder::new(graph)?),
            Blueprint::Encoder(graph) => Self::Encoder(Encoder::new(graph)?),
        })
    }

    fn context(&self) -> usize {
        match self {
            Self::Decoder(decoder) => decoder.context(),
            Self::Encoder(encoder) => encoder.context(),
        }
    }

    /// The influence of each block on the tokens of a window is added up.
    fn watched(&self, window: &[u32], influences: &mut [Influence]) -> Result<(), Error> {
        let mut watch = match self {
            Self::Decoder(decoder) => Watch::new(decoder.hidden(), influences),
            Self::Encoder(encoder) => Watch::new(encoder.hidden(), influences),
        };
        let mut observe = |value, tensor: &Tensor| watch.see(value, tensor);
        let how = Run { observe: Some(&mut observe), ..Run::default() };
        match self {
            // The hidden states are wanted, not the logits: those of the last token are the least work.
            Self::Decoder(decoder) => decoder.observed(&mut decoder.cache(), window, Wanted::Last, how)?,
            Self::Encoder(encoder) => encoder.observed(&[Text::from(window)], how)?,
        };
        watch.finish()
    }
}

/// 1 - the mean cosine of hidden states before and after each block.
fn influence(model: &Path, sample: Sample<'_>, progress: Progress<'_>) -> Result<Scored, Error> {
    let (blueprint, recorded) = Recorded::open(model)?;
    let runs = Runs::new(blueprint).map_err(|e| e.at(model))?;
    let seen = Seen::open(sample, model, runs.context())?;
    let mut influences = vec![Influence::default(); layers(&recorded.config, model)?.count()];
    for at in 0..seen.count {
        runs.watched(&seen.window(at)?, &mut influences)?;
        progress(at as u64 + 1, seen.count as u64);
    }
    let tokens = influences.first().map_or(0, Influence::tokens);
    let scores = influences.iter().map(|influence| influence.score().unwrap_or(f64::NAN)).collect();
    Ok((scores, seen.count as u64, tokens))
}

/// The mean over tokens of KL(p || q), p the next token's probabilities of the whole model, q those
/// without a block.
fn divergence(model: &Path, sample: Sample<'_>, progress: Progress<'_>) -> Result<Scored, Error> {
    let (blueprint, recorded) = Recorded::open(model)?;
    let Blueprint::Decoder(graph) = blueprint else {
        let what = "an encoder, which says nothing of the next token; `kl` needs a decoder".to_owned();
        return Err(Error::from(ErrorKind::Unlike { what }).at(model).hinting("`--by influence` takes encoders too"));
    };
    let whole = Decoder::new(graph).map_err(|e| e.at(model))?;
    let seen = Seen::open(sample, model, whole.context())?;
    let blocks = layers(&recorded.config, model)?.count();
    let passes = seen.count as u64 * (blocks as u64 + 1);
    let (mut sums, mut tokens, mut done) = (vec![0.0; blocks], 0, 0);
    let mut step = || {
        done += 1;
        progress(done, passes);
    };
    for at in 0..seen.count {
        let window = seen.window(at)?;
        let expected = logits(&whole, &window)?;
        step();
        for (block, sum) in sums.iter_mut().enumerate() {
            let kept: Vec<usize> = (0..blocks).filter(|other| *other != block).collect();
            let found = match recorded.keeping(&kept).map_err(|e| e.at(model))? {
                // Made anew each time: that costs little, and what a decoder keeps for its next run is large.
                Blueprint::Decoder(graph) => logits(&Decoder::new(graph).map_err(|e| e.at(model))?, &window)?,
                Blueprint::Encoder(_) => return Err(not_logits()),
            };
            *sum += apart(&expected, &found, whole.vocabulary())?;
            step();
        }
        tokens += window.len() as u64;
    }
    let scores = sums.into_iter().map(|sum| sum / tokens as f64).collect();
    Ok((scores, seen.count as u64, tokens))
}

/// Logits [tokens, vocabulary] after each token of a window.
fn logits(decoder: &Decoder, window: &[u32]) -> Result<Tensor, Error> {
    Ok(decoder.forward(&mut decoder.cache(), window, Wanted::All)?)
}

/// The sum over tokens of KL(expected || found), in their order whoever computes them.
fn apart(expected: &Tensor, found: &Tensor, vocabulary: usize) -> Result<f64, Error> {
    let (Some(expected), Some(found)) = (expected.get::<f32>(), found.get::<f32>()) else { return Err(not_logits()) };
    let rows = expected.par_chunks_exact(vocabulary).zip(found.par_chunks_exact(vocabulary));
    let each: Vec<f64> = rows.map(|(expected, found)| kl(expected, found)).collect();
    Ok(each.into_iter().sum())
}

fn not_logits() -> Error {
    ErrorKind::Unlike { what: "outputs that are no logits".to_owned() }.into()
}

impl Recorded {
    /// The model with these of its layers only.
    fn keeping(&self, kept: &[usize]) -> Result<Blueprint, niwaki_model::Error> {
        hf::build_keeping(&self.config, kept, &|name| Ok(self.weights.get(name).cloned()))
    }
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
        assert_eq!(
            (far.to_string().as_str(), far.hint()),
            ("no criterion `magnitude`", Some("there are influence, kl, random"))
        );
    }

    #[test]
    fn the_same_probabilities_are_not_apart_and_rows_add_up() {
        let logits = |all: &[f32]| Tensor::of([all.len() / 2, 2], all.to_vec()).unwrap();
        let two = 2.0f32.ln();
        let (p, q) = (logits(&[0.0, two, 0.0, two]), logits(&[two, 0.0, 0.0, two]));
        assert_eq!(apart(&p, &p, 2).unwrap(), 0.0);
        // KL((1/3, 2/3) || (2/3, 1/3)) = ln 2 / 3, of logarithms that are rounded to single floats.
        assert!((apart(&p, &q, 2).unwrap() - std::f64::consts::LN_2 / 3.0).abs() < f64::from(f32::EPSILON));
        assert!(apart(&p, &Tensor::vector(vec![1i64]), 2).is_err());
    }
}

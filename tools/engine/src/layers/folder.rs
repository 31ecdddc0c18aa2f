//! Layers of a transformer in a Hugging Face folder.

mod heal;
mod remove;
mod watch;

use std::path::{Path, PathBuf};

use niwaki_model::hf::{self, Blueprint, Config, Layers};
use niwaki_model::{Decoder, Encoder, Run, Tensor, Text, Wanted};
use niwaki_prune::layers::Influence;
use rayon::prelude::*;

use super::{By, Criterion, Sample, Seen};
use crate::error::{Error, ErrorKind};
use crate::eval::kl;
use crate::eval::text::Windows;
use crate::folder::Recorded;
use crate::progress::Progress;
pub use heal::{DAMPING, Healed};
pub use remove::{Healing, Removed, check_output, remove};
pub(super) use remove::{OTHER_WEIGHTS, Renamed, check_weights};
use watch::Watch;

/// A folder, and how many layers its model has.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    layers: Layers,
}

impl Folder {
    pub(super) fn open(model: &Path) -> Result<Self, Error> {
        Ok(Self { path: model.to_owned(), layers: layers(&Config::open(model)?, model)? })
    }

    /// How many layers there are.
    pub(super) fn count(&self) -> usize {
        self.layers.count()
    }

    /// The scores of the layers `kept`, in a model that has no others.
    pub(super) fn scores(
        &self,
        by: By<'_>,
        kept: &[usize],
        progress: Progress<'_>,
    ) -> Result<(Vec<Option<f64>>, Seen), Error> {
        let scores = match by.criterion {
            Criterion::Influence => influence,
            Criterion::Kl => divergence,
            other => {
                let what = format!("the criterion {other} on a Hugging Face folder");
                let error = Error::from(ErrorKind::Unsupported { what }).at(&self.path);
                return Err(error.hinting("there are influence, kl, random"));
            }
        };
        let sample = by.sample()?;
        let (_, recorded) = Recorded::open(&self.path)?;
        let (scores, windows, tokens) = scores(&recorded, (&self.path, kept), sample, progress)?;
        Ok((scores.into_iter().map(Some).collect(), Seen { windows, tokens, images: 0 }))
    }
}

/// The layers that a configuration says.
pub(super) fn layers(config: &Config, model: &Path) -> Result<Layers, Error> {
    Ok(Layers::of(config).map_err(|e| e.at(&model.join("config.json")))?)
}

/// Scores, windows and tokens.
type Scored = (Vec<f64>, u64, u64);

/// The first windows of a text: each is what a model may see at once.
struct Texts {
    windows: Windows,
    count: usize,
    context: usize,
}

impl Texts {
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

/// 1 - the mean cosine of hidden states before and after each layer.
fn influence(
    recorded: &Recorded,
    (model, kept): (&Path, &[usize]),
    sample: Sample<'_>,
    progress: Progress<'_>,
) -> Result<Scored, Error> {
    let runs = recorded.keeping(kept).and_then(Runs::new).map_err(|e| e.at(model))?;
    let texts = Texts::open(sample, model, runs.context())?;
    let mut influences = vec![Influence::default(); kept.len()];
    for at in 0..texts.count {
        runs.watched(&texts.window(at)?, &mut influences)?;
        progress(at as u64 + 1, texts.count as u64);
    }
    let tokens = influences.first().map_or(0, Influence::tokens);
    let scores = influences.iter().map(|influence| influence.score().unwrap_or(f64::NAN)).collect();
    Ok((scores, texts.count as u64, tokens))
}

/// The mean over tokens of KL(p || q), p the next token's probabilities of the whole model, q those
/// without a layer.
fn divergence(
    recorded: &Recorded,
    (model, kept): (&Path, &[usize]),
    sample: Sample<'_>,
    progress: Progress<'_>,
) -> Result<Scored, Error> {
    let at = |e: niwaki_model::Error| Error::from(e.at(model));
    let decoder = |kept: &[usize]| match recorded.keeping(kept).map_err(at)? {
        Blueprint::Decoder(graph) => Decoder::new(graph).map_err(at),
        Blueprint::Encoder(_) => {
            let what = "an encoder, which says nothing of the next token; `kl` needs a decoder".to_owned();
            let error = Error::from(ErrorKind::Unlike { what }).at(model);
            Err(error.hinting("`--by influence` takes encoders too"))
        }
    };
    let whole = decoder(kept)?;
    let texts = Texts::open(sample, model, whole.context())?;
    let passes = texts.count as u64 * (kept.len() as u64 + 1);
    let (mut sums, mut tokens, mut done) = (vec![0.0; kept.len()], 0, 0);
    let mut step = || {
        done += 1;
        progress(done, passes);
    };
    for at in 0..texts.count {
        let window = texts.window(at)?;
        let expected = logits(&whole, &window)?;
        step();
        for (layer, sum) in kept.iter().zip(&mut sums) {
            let others: Vec<usize> = kept.iter().copied().filter(|other| other != layer).collect();
            // Made anew each time: that costs little, and what a decoder keeps for its next run is large.
            let found = logits(&decoder(&others)?, &window)?;
            *sum += apart(&expected, &found, whole.vocabulary())?;
            step();
        }
        tokens += window.len() as u64;
    }
    let scores = sums.into_iter().map(|sum| sum / tokens as f64).collect();
    Ok((scores, texts.count as u64, tokens))
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
        hf::build_keeping(&self.config, kept, &|name| Ok(self.weights.get(name).cloned().map(Into::into)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

//! What models learn from: images, windows of tokens, texts.

use std::path::Path;

use niwaki_container::Digest;
use niwaki_model::hf::{Blueprint, DecoderGraph};
use niwaki_model::loss::Target;
use niwaki_model::{Pooling, Tensor, Text};
use rayon::prelude::*;

use super::{Settings, Task};
use crate::dataset::Dataset;
use crate::error::{Error, ErrorKind};
use crate::eval::embeddings::Texts;
use crate::eval::text::Windows;
use crate::eval::{self, Evaluation};
use crate::folder::Language;
use crate::model::Model;
use crate::progress::Progress;

/// What a model learns from, or is measured on.
#[derive(Debug)]
pub enum Lessons {
    /// Images and their classes, for models of images.
    Images(Dataset),
    /// Windows of text, for decoders: each token is to be told from those before it.
    Windows(Windows),
    /// Texts, for encoders: they are to be told the classes of those that have some; else the vectors are to be those that
    /// a teacher makes of them.
    Texts(Texts),
}

/// Examples that go through a model together.
pub(crate) struct Share {
    /// What goes in.
    pub(crate) inputs: Vec<Tensor>,
    /// What should come out.
    pub(crate) aim: Aim,
    /// How many examples count: images, tokens or texts.
    pub(crate) count: usize,
}

/// What should come out.
pub(crate) enum Aim {
    /// Classes, or the next tokens, by row of an output.
    Targets {
        /// Which output.
        output: usize,
        /// Of each row.
        all: Vec<Target>,
    },
    /// A teacher's vectors of texts of so many tokens.
    Vectors(Vec<usize>),
}

impl Aim {
    /// The output that it is of.
    pub(crate) fn output(&self) -> usize {
        match self {
            Self::Targets { output, .. } => *output,
            Self::Vectors(_) => 0,
        }
    }
}

/// What examples are drawn with.
pub(crate) struct Draw<'d> {
    pub(crate) settings: &'d Settings,
    /// What a black pixel of each channel is.
    pub(crate) black: &'d [f32],
    /// The pass and, of all, the step.
    pub(crate) epoch: u64,
    pub(crate) step: u64,
}

impl Lessons {
    /// Opens what a model can learn from: a dataset of images; for the model of a Hugging Face folder a text, of which its
    /// tokenizer makes tokens, or a dataset of tokens.
    ///
    /// # Errors
    ///
    /// Those of [`Dataset::open`], [`Windows::open`] and [`Texts::open`].
    pub fn open(data: &Path, model: &Model) -> Result<Self, Error> {
        Ok(match model.language() {
            None => Self::Images(Dataset::open(data)?),
            Some(Blueprint::Decoder(of)) => Self::Windows(Windows::open(data, model.path(), of.context)?),
            Some(Blueprint::Encoder(of)) => Self::Texts(Texts::open(data, model.path(), of.context, &of.classes)?),
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Images(data) => data.len(),
            Self::Windows(windows) => windows.len(),
            Self::Texts(texts) => texts.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Steps of a pass over them.
    pub(super) fn steps(&self, batch: usize) -> u64 {
        self.len().div_ceil(batch) as u64
    }

    /// What they are called.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Images(_) => "images",
            Self::Windows(_) => "windows",
            Self::Texts(_) => "texts",
        }
    }

    /// An error at their file, where that is known.
    pub(super) fn at(&self, e: Error) -> Error {
        match self {
            Self::Images(data) => e.at(data.path()),
            Self::Windows(Windows::Dataset(data)) => e.at(data.path()),
            Self::Windows(Windows::Text { .. }) | Self::Texts(_) => e,
        }
    }

    /// A digest of all that there is to them.
    pub(crate) fn digest(&self) -> Digest {
        let mut hasher = blake3::Hasher::new();
        let mut tokens = |all: &[u32]| {
            hasher.update(&(all.len() as u64).to_le_bytes());
            hasher.update(bytemuck::cast_slice(all));
        };
        match self {
            Self::Images(data) => return of_checkpoint(data.checkpoint()),
            Self::Windows(Windows::Dataset(data)) => return of_checkpoint(data.checkpoint()),
            Self::Windows(Windows::Text { before, tokens: all, length }) => {
                tokens(before);
                tokens(all);
                tokens(&[*length as u32]);
            }
            Self::Texts(texts) => (0..texts.len()).for_each(|at| {
                tokens(texts.get(at));
                texts.label(at).into_iter().for_each(|class| tokens(&[class as u32]));
            }),
        }
        hasher.finalize().into()
    }

    /// What a black pixel of each channel is; nothing where there are no pixels.
    pub(crate) fn black(&self) -> Vec<f32> {
        match self {
            Self::Images(data) => data.black(),
            Self::Windows(_) | Self::Texts(_) => Vec::new(),
        }
    }

    /// The examples `items`: those that go through the model together, and those after them.
    pub(crate) fn shares(&self, model: &Model, items: &[usize], draw: &Draw<'_>) -> Result<Vec<Share>, Error> {
        match self {
            Self::Images(data) => Ok(vec![images(data, items, draw)?]),
            Self::Windows(windows) => {
                let Some(Blueprint::Decoder(decoder)) = model.language() else { return Err(not_for(self, model)) };
                items.iter().map(|item| window(windows, decoder, model, *item)).collect()
            }
            Self::Texts(texts) => {
                let Some(Blueprint::Encoder(encoder)) = model.language() else { return Err(not_for(self, model)) };
                let each: Vec<&[u32]> = items.iter().map(|item| texts.get(*item)).collect();
                let of: Vec<Text<'_>> = each.iter().map(|tokens| Text::from(*tokens)).collect();
                let inputs = encoder.inputs(&of).map_err(|e| e.at(model.path()))?;
                let aim = match texts.labelled() {
                    true => {
                        let label = |item: &usize| texts.label(*item).map_or(Target::Unknown, Target::Class);
                        Aim::Targets { output: 1, all: items.iter().map(label).collect() }
                    }
                    false => Aim::Vectors(each.iter().map(|tokens| tokens.len()).collect()),
                };
                Ok(vec![Share { inputs, aim, count: items.len() }])
            }
        }
    }

    /// As many examples as a step has, of which none takes more memory.
    pub(super) fn largest(&self, batch: usize) -> Vec<usize> {
        match self {
            Self::Images(_) | Self::Windows(_) => (0..batch.min(self.len())).collect(),
            Self::Texts(texts) => {
                let longest = (0..texts.len()).max_by_key(|at| texts.get(*at).len()).unwrap_or(0);
                vec![longest; batch]
            }
        }
    }

    /// How well a model does on so many of them, or on all.
    pub(crate) fn measure(
        &self,
        model: &Model,
        teacher: Option<&Model>,
        limit: Option<usize>,
        progress: Progress<'_>,
    ) -> Result<Evaluation, Error> {
        let ready = |model: &Model| model.ready()?.ok_or_else(|| not_for(self, model));
        match self {
            Self::Images(data) => eval::images(model, None, data, limit, progress),
            Self::Windows(windows) => match ready(model)? {
                Language::Decoder(decoder) => eval::text::evaluate(&decoder, None, windows, limit, progress),
                Language::Encoder(_) => Err(not_for(self, model)),
            },
            Self::Texts(texts) if texts.labelled() => match ready(model)? {
                Language::Encoder(encoder) => eval::classes::evaluate(&encoder, None, texts, limit, progress),
                Language::Decoder(_) => Err(not_for(self, model)),
            },
            Self::Texts(texts) => match (ready(model)?, teacher.map(ready).transpose()?) {
                (Language::Encoder(encoder), Some(Language::Encoder(teacher))) => {
                    Ok(eval::embeddings::evaluate(&encoder, Some(&teacher), texts, limit, progress)?.0)
                }
                _ => Err(not_for(self, model)),
            },
        }
    }
}

/// Examples for another kind of model.
fn not_for(lessons: &Lessons, model: &Model) -> Error {
    let needs = match lessons {
        Lessons::Images(_) => "a model of images, an ONNX file",
        Lessons::Windows(_) => "a decoder",
        Lessons::Texts(_) => "an encoder",
    };
    let what = format!("{} are to train or to measure it: {needs} expected", lessons.name());
    Error::from(ErrorKind::Unlike { what }).at(model.path())
}

/// Refuses examples that the model or the settings do not fit.
pub(super) fn check(task: &Task<'_>, settings: &Settings) -> Result<(), Error> {
    let usage = |what: String| Error::from(ErrorKind::Usage { what });
    for lessons in [Some(task.data), task.eval].into_iter().flatten() {
        let fits = matches!(
            (lessons, task.model.language()),
            (Lessons::Images(_), None)
                | (Lessons::Windows(_), Some(Blueprint::Decoder(_)))
                | (Lessons::Texts(_), Some(Blueprint::Encoder(_)))
        );
        if !fits {
            return Err(not_for(lessons, task.model));
        }
    }
    if let Lessons::Images(data) = task.data {
        return if data.labelled() { Ok(()) } else { Err(usage("images without labels".to_owned()).at(data.path())) };
    }
    if settings.augment != crate::dataset::Augment::default() {
        return Err(usage("images are cut, mirrored and mixed; of texts only the order changes".to_owned()));
    }
    let otherwise = |texts: &Texts| !texts.labelled() && texts.pooling().modes != Pooling::default().modes;
    if matches!(task.data, Lessons::Texts(texts) if otherwise(texts)) {
        let what = "training on vectors that are not the means of tokens'".to_owned();
        return Err(Error::from(ErrorKind::Unsupported { what }).at(task.model.path()));
    }
    let alone = |lessons: &Lessons| matches!(lessons, Lessons::Texts(texts) if !texts.labelled());
    if (alone(task.data) || task.eval.is_some_and(alone)) && task.teacher.is_none() {
        let e = usage("an encoder without a teacher: nothing says what vectors its texts should have".to_owned());
        return Err(e.hinting("`--teacher` takes the weights whose vectors are to be matched; a `.tsv` has classes"));
    }
    Ok(())
}

/// Tensors and metadata of a dataset.
pub(crate) fn of_checkpoint(checkpoint: &niwaki_tensors::Checkpoint) -> Digest {
    let mut hasher = blake3::Hasher::new();
    for (key, value) in checkpoint.metadata() {
        hasher.update(format!("{key} {value}\n").as_bytes());
    }
    for tensor in checkpoint.tensors() {
        hasher.update(format!("{} {} {:?}\n", tensor.name(), tensor.dtype(), tensor.shape()).as_bytes());
        hasher.update(tensor.bytes());
    }
    hasher.finalize().into()
}

/// Images, shifted, mirrored, mixed, and what they are of.
fn images(data: &Dataset, items: &[usize], draw: &Draw<'_>) -> Result<Share, Error> {
    let (augment, seed) = (draw.settings.augment, draw.settings.seed);
    let [c, h, w] = data.shape();
    let each = data.item_len();
    let mut images = vec![0.0f32; items.len() * each];
    images.par_chunks_mut(each).zip(items).try_for_each(|(image, item)| {
        data.batch([*item], image)?;
        augment.places([c, h, w], draw.black, [seed, draw.epoch, *item as u64], image);
        Ok::<(), Error>(())
    })?;
    let classes = items.iter().map(|item| data.label(*item)).collect::<Result<Vec<_>, _>>()?;
    let targets = match augment.mixture(seed, draw.step, items.len()) {
        None => classes.into_iter().map(Target::Class).collect(),
        Some((share, others)) => {
            let own = images.clone();
            images.par_chunks_mut(each).zip(&others).for_each(|(image, other)| {
                let other = &own[other * each..][..each];
                image.iter_mut().zip(other).for_each(|(x, y)| *x = share as f32 * *x + (1.0 - share as f32) * y);
            });
            let mixed =
                |(at, other): (usize, &usize)| Target::Mixed { first: classes[at], second: classes[*other], share };
            others.iter().enumerate().map(mixed).collect()
        }
    };
    let unlike = || Error::from(ErrorKind::Unlike { what: format!("images of {c}x{h}x{w}") }).at(data.path());
    let images = Tensor::of([items.len(), c, h, w], images).ok_or_else(unlike)?;
    Ok(Share { inputs: vec![images], aim: Aim::Targets { output: 0, all: targets }, count: items.len() })
}

/// A window of text: all tokens but the last go in, all but the first should come out.
fn window(windows: &Windows, decoder: &DecoderGraph, model: &Model, item: usize) -> Result<Share, Error> {
    let tokens = windows.get(item)?;
    let seen = tokens.len().saturating_sub(1);
    if seen == 0 || tokens.len() > decoder.context {
        let what = format!("windows of {} tokens: 2 to {} expected", tokens.len(), decoder.context);
        return Err(Error::from(ErrorKind::Unlike { what }).at(model.path()));
    }
    let inputs = decoder.inputs(&tokens[..seen], 0..seen, 0, decoder.no_text()).map_err(|e| e.at(model.path()))?;
    let targets = tokens[1..].iter().map(|token| Target::Class(*token as usize)).collect();
    Ok(Share { inputs, aim: Aim::Targets { output: 0, all: targets }, count: seen })
}

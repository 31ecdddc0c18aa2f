//! How a model is trained, and what is said of it.

use std::path::Path;

use niwaki_model::optimizer::Method;
use niwaki_model::schedule::Course;
use niwaki_tensors::Overwrite;
use serde::{Deserialize, Serialize};

use super::Lessons;
use crate::dataset::Augment;
use crate::model::Model;

/// How a model is trained.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Passes over the data.
    pub epochs: u64,
    /// Images, windows or texts of a step; the last one of a pass has those that are left. Of a single image, a
    /// normalization of planes of one pixel by the batch leaves nothing.
    pub batch: usize,
    /// How weights follow their gradients.
    pub method: Method,
    /// The highest learning rate.
    pub rate: f64,
    /// How the rate goes.
    pub course: Course,
    /// Passes at the beginning in which the rate rises from 0.
    pub warmup: f64,
    /// Weight decay; biases and normalizations have none where [`decay_all`](Self::decay_all) is not set.
    pub decay: f64,
    /// Whether all weights decay.
    pub decay_all: bool,
    /// The share of each class that is spread over all.
    pub smoothing: f64,
    /// What is done to images.
    pub augment: Augment,
    /// Whether batch normalizations use the statistics of the batch: how much of the running ones stays in a step. None
    /// where those that are there are used, and stay.
    pub norms: Option<f32>,
    /// The largest norm of all gradients together; larger ones are scaled down.
    pub clip: Option<f64>,
    /// The temperature of a teacher's outputs, and the share of the loss that it has.
    pub teacher: Teacher,
    /// Seed of orders, shifts and mixtures, and of fresh weights.
    pub seed: u64,
    /// Whether weights are made anew.
    pub fresh: bool,
    /// Weights that train, by glob; all where there is none.
    pub only: Vec<String>,
    /// Weights that stay as they are, by glob.
    pub freeze: Vec<String>,
    /// The most bytes that values and gradients of a step may take, weights aside.
    pub memory: Option<u64>,
    /// Passes after which the weights are kept, beside the output; those of pass 0 are the first.
    pub keep: Vec<u64>,
    /// Whether the weights of the pass that was measured best are written, not those of the last.
    pub best: bool,
    /// Steps after which the state is saved, besides at the end of each pass.
    pub save_every: Option<u64>,
}

/// How much a teacher says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Teacher {
    /// What outputs are divided by.
    pub temperature: f64,
    /// The share of the loss that is the distance from the teacher.
    pub share: f64,
}

impl Default for Settings {
    /// SGD with Nesterov's momentum along a cosine, as small networks like it.
    fn default() -> Self {
        Self {
            epochs: 1,
            batch: 128,
            method: Method::Sgd { momentum: 0.9, nesterov: true },
            rate: 0.1,
            course: Course::Cosine,
            warmup: 0.0,
            decay: 5e-4,
            decay_all: false,
            smoothing: 0.0,
            augment: Augment::default(),
            norms: Some(0.9),
            clip: None,
            teacher: Teacher { temperature: 4.0, share: 0.5 },
            seed: 0,
            fresh: false,
            only: Vec::new(),
            freeze: Vec::new(),
            memory: None,
            keep: Vec::new(),
            best: false,
            save_every: None,
        }
    }
}

/// What a training takes besides its settings.
#[derive(Clone, Copy)]
pub struct Task<'t> {
    /// What is trained.
    pub model: &'t Model,
    /// What it learns from.
    pub data: &'t Lessons,
    /// What it is measured on after each pass.
    pub eval: Option<&'t Lessons>,
    /// What its outputs are to be like.
    pub teacher: Option<&'t Model>,
    /// Weights to begin with, and the pass at which they were kept.
    pub rewind: Option<&'t Path>,
    /// Where the weights go.
    pub output: &'t Path,
    /// Whether something may be there.
    pub overwrite: Overwrite,
}

impl<'t> Task<'t> {
    /// A model, what it learns from, and where its weights go: nothing is measured, taught, rewound or overwritten.
    pub fn new(model: &'t Model, data: &'t Lessons, output: &'t Path) -> Self {
        Self { model, data, eval: None, teacher: None, rewind: None, output, overwrite: Overwrite::Refuse }
    }
}

/// What came of one pass over the data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// Its number, from 1 on.
    pub epoch: u64,
    /// The mean loss of its steps.
    pub loss: f64,
    /// The share of images whose class had the largest output, of 1; mixed images count for the larger share. Of windows
    /// the share of tokens, of texts that of those to whose vector no other text's of their step is nearer.
    pub accuracy: f64,
    /// The share of what it was measured on: images, or tokens.
    pub eval_accuracy: Option<f64>,
    /// Their mean cross entropy.
    pub eval_loss: Option<f64>,
    /// The mean cosine between the vectors of texts and a teacher's.
    pub eval_cosine: Option<f64>,
    /// The learning rate of the last step.
    pub rate: f64,
    /// Where masks were searched, the mean number of weights that changed places in a step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flips: Option<f64>,
}

/// How far a training is.
#[derive(Clone, Copy, Debug)]
pub struct At<'a> {
    /// Images, windows or texts done since it began, or went on.
    pub done: u64,
    /// Those of all passes that were left then.
    pub all: u64,
    /// The pass, from 1 on.
    pub epoch: u64,
    /// The mean loss of the pass so far.
    pub loss: f64,
    /// The accuracy of the pass so far.
    pub accuracy: f64,
    /// A pass that has just ended.
    pub ended: Option<&'a Epoch>,
}

/// What came of a training.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Trained {
    /// The passes, in order.
    pub epochs: Vec<Epoch>,
    /// Steps that were done.
    pub steps: u64,
    /// Tensors of weights that were trained.
    pub tensors: usize,
    /// Weights that were trained.
    pub weights: usize,
    /// The pass after which the weights were as they are written.
    pub written_epoch: u64,
    /// The most bytes that values and gradients of a step took.
    pub peak_bytes: usize,
    /// Segments whose values were computed twice to save memory, and one; 1 where none were.
    pub segments: usize,
    /// Whether it went on where it had been interrupted.
    pub resumed: bool,
    /// The nodes at which gradients end, and their operators.
    pub stops: Vec<(String, String)>,
    /// Where masks were searched, the tensors that keep one weight where their budget has none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub guarded: Vec<String>,
}

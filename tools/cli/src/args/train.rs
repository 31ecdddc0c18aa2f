//! What may be typed after `train`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{Output, number, real};

#[derive(Args, Debug)]
pub(crate) struct Train {
    /// A model that tells what is on images, an .onnx file with a dynamic batch; or a Hugging Face folder
    pub(crate) model: PathBuf,
    /// Images with labels, as `dataset import` makes them; for a folder a text or a dataset of tokens, of which a decoder
    /// learns each next token and an encoder, line by line, its teacher's vectors
    #[arg(long, value_name = "DATA")]
    pub(crate) data: PathBuf,
    /// Passes over the data
    #[arg(long, value_name = "E", value_parser = number::<u64>)]
    pub(crate) epochs: u64,
    /// The same, to measure it on after each pass
    #[arg(long, value_name = "DATA")]
    pub(crate) eval_data: Option<PathBuf>,
    /// Checkpoint whose tensors take the place of the weights of their names
    #[arg(long, value_name = "CKPT")]
    pub(crate) weights: Option<PathBuf>,
    /// Begin with the weights that `--keep-epoch` kept, and with the learning rate of that pass
    #[arg(long, value_name = "CKPT", conflicts_with_all = ["weights", "init"])]
    pub(crate) rewind: Option<PathBuf>,
    /// Begin with fresh weights: `random`, by He et al., of `--seed`
    #[arg(long, value_name = "WAY", conflicts_with = "weights")]
    pub(crate) init: Option<Init>,
    /// Train only weights that match; may be repeated
    #[arg(long, value_name = "GLOB")]
    pub(crate) only: Vec<String>,
    /// Leave weights that match as they are; may be repeated
    #[arg(long, value_name = "GLOB")]
    pub(crate) freeze: Vec<String>,
    #[command(flatten)]
    pub(crate) way: Way,
    /// Also keep the weights after that pass, in OUT's folder, 0 for the first ones; may be repeated
    #[arg(long, value_name = "N", value_parser = number::<u64>)]
    pub(crate) keep_epoch: Vec<u64>,
    /// Write the weights of the pass that was best on `--eval-data`, not those of the last
    #[arg(long, requires = "eval_data")]
    pub(crate) best: bool,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// How data is gone over again and again, by trainings and by searches.
#[derive(Args, Debug)]
pub(crate) struct Way {
    #[command(flatten)]
    pub(crate) steps: Steps,
    #[command(flatten)]
    pub(crate) images: Images,
    #[command(flatten)]
    pub(crate) teaching: Teaching,
    /// Save what is needed to go on after so many steps, not only after each pass
    #[arg(long, value_name = "STEPS", value_parser = number::<u64>)]
    pub(crate) save_every: Option<u64>,
    /// The most memory for values and gradients of a step: 800MiB; what does not fit is computed twice
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) memory: Option<u64>,
}

/// Where fresh weights come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Init {
    Random,
}

/// How weights follow their gradients.
#[derive(Args, Debug)]
pub(crate) struct Steps {
    /// Images of a step, windows of text or texts [default: 128 images, 8 windows, 32 texts]
    #[arg(long, value_name = "N", value_parser = number::<usize>)]
    pub(crate) batch: Option<usize>,
    /// How weights follow their gradients [default: sgd, of text adamw]
    #[arg(long, value_name = "WAY")]
    pub(crate) optimizer: Option<Optimizer>,
    /// The highest learning rate [default: 0.1, with Adam 0.001, of text 0.00005]
    #[arg(long, value_name = "RATE", value_parser = positive)]
    pub(crate) lr: Option<f64>,
    /// How the rate goes
    #[arg(long, value_name = "COURSE", default_value = "cosine")]
    pub(crate) schedule: Course,
    /// Step: passes after which the rate is multiplied, such as 20,40 [default: each third]
    #[arg(long, value_name = "E", value_delimiter = ',', value_parser = share)]
    pub(crate) milestones: Vec<f64>,
    /// Step: what it is multiplied with
    #[arg(long, value_name = "FACTOR", default_value = "0.1", value_parser = positive)]
    pub(crate) gamma: f64,
    /// Passes in which the rate first rises from 0
    #[arg(long, value_name = "E", default_value = "0", value_parser = share)]
    pub(crate) warmup: f64,
    /// SGD: how much of the last step stays
    #[arg(long, value_name = "M", default_value = "0.9", value_parser = part)]
    pub(crate) momentum: f64,
    /// SGD: without Nesterov's look ahead
    #[arg(long)]
    pub(crate) no_nesterov: bool,
    /// Weight decay, for weights of two or more dimensions [default: 0.0005, of elastic ones 0]
    #[arg(long, value_name = "D", value_parser = share)]
    pub(crate) weight_decay: Option<f64>,
    /// Let biases and normalizations decay too
    #[arg(long)]
    pub(crate) decay_all: bool,
    /// Scale gradients down to this norm of all together
    #[arg(long, value_name = "NORM", value_parser = positive)]
    pub(crate) clip: Option<f64>,
    /// Statistics of batch normalizations: those of the batch, or those that are there
    #[arg(long, value_name = "WHICH", default_value = "train")]
    pub(crate) norms: Norms,
}

/// What is done to images, and to their classes.
#[derive(Args, Debug)]
pub(crate) struct Images {
    /// Cut images at a random place from themselves with so many black pixels around them
    #[arg(long, value_name = "PIXELS", default_value = "0", value_parser = number::<usize>)]
    pub(crate) crop: usize,
    /// Mirror every other image
    #[arg(long)]
    pub(crate) flip: bool,
    /// Mix each image with another, by a share of Beta(A, A)
    #[arg(long, value_name = "A", default_value = "0", value_parser = share)]
    pub(crate) mixup: f64,
    /// Share of each class that is spread over all
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = part)]
    pub(crate) label_smoothing: f64,
}

/// What a teacher says.
#[derive(Args, Debug)]
pub(crate) struct Teaching {
    /// What outputs are to be matched: those of a model of the same inputs and outputs, or of this one with other weights
    #[arg(long, value_name = "MODEL|CKPT")]
    pub(crate) teacher: Option<PathBuf>,
    /// What outputs are divided by before they are compared with the teacher's
    #[arg(long, value_name = "T", default_value = "4", requires = "teacher", value_parser = positive)]
    pub(crate) temperature: f64,
    /// The teacher's share of the loss
    #[arg(long, value_name = "SHARE", default_value = "0.5", requires = "teacher", value_parser = part)]
    pub(crate) teacher_share: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Optimizer {
    Sgd,
    Adam,
    Adamw,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Course {
    Constant,
    Cosine,
    Step,
    OneCycle,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Norms {
    Train,
    Frozen,
}

/// A number above 0.
fn positive(text: &str) -> Result<f64, String> {
    real(text).ok().filter(|x| *x > 0.0 && x.is_finite()).ok_or_else(|| "expected a number above 0".to_owned())
}

/// A number from 0 on.
fn share(text: &str) -> Result<f64, String> {
    real(text).ok().filter(|x| *x >= 0.0 && x.is_finite()).ok_or_else(|| "expected a number from 0 on".to_owned())
}

/// A number from 0 to 1.
fn part(text: &str) -> Result<f64, String> {
    share(text).ok().filter(|x| *x <= 1.0).ok_or_else(|| "expected a number from 0 to 1".to_owned())
}

/// Bytes, with or without a unit.
fn size(text: &str) -> Result<u64, String> {
    let wrong = || "expected a size: 500000000, 800MiB, 2GiB".to_owned();
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("", 0)];
    let found = units.iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, shift)));
    let (number, shift) = found.ok_or_else(wrong)?;
    let number: u64 = number.trim().parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).filter(|size| *size > 0).ok_or_else(wrong)
}

//! What may be typed after `mask`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use niwaki_engine::Block;

use super::train::{Init, Way};
use super::{Output, number, real};

#[derive(Debug, Subcommand)]
pub(crate) enum Mask {
    /// Search masks of a trained model by gradients, while all its weights stay (lottery jackpots)
    Search(Box<Search>),
    /// Make masks of the weights that a criterion finds most important
    Score(Score),
    /// Write a checkpoint with zeros for the weights that masks drop
    Apply(Apply),
    /// Show what two mask files have in common, and what chance would
    Compare(Compare),
}

/// Which weights are kept.
#[derive(Args, Debug)]
pub(crate) struct Kept {
    /// Share of the weights to drop: 0.9
    #[arg(long, value_name = "S", value_parser = below_one, required_unless_present = "pattern")]
    pub(crate) sparsity: Option<f64>,
    /// Keep n of every m weights along the inputs of each output instead: 2:4
    #[arg(long, value_name = "N:M", conflicts_with = "sparsity")]
    pub(crate) pattern: Option<String>,
    /// How the kept weights are divided among tensors
    #[arg(long, value_name = "HOW", default_value = "l1")]
    pub(crate) budget: Budget,
    /// Mask only weights that match; may be repeated
    #[arg(long, value_name = "GLOB")]
    pub(crate) only: Vec<String>,
    /// Leave weights that match as they are; may be repeated
    #[arg(long, value_name = "GLOB")]
    pub(crate) keep: Vec<String>,
}

/// How the kept weights are divided among tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Budget {
    /// One threshold of magnitudes for all tensors
    L1,
    /// One threshold of the criterion's own scores
    Own,
    /// The same share of each
    Uniform,
    /// By the Erdős-Rényi kernel
    Erk,
}

#[derive(Args, Debug)]
pub(crate) struct Search {
    /// A model: an .onnx file with a dynamic batch, or a Hugging Face folder
    pub(crate) model: PathBuf,
    /// What it is searched on, as `train` takes it
    #[arg(long, value_name = "DATA")]
    pub(crate) data: PathBuf,
    #[command(flatten)]
    pub(crate) kept: Kept,
    /// Passes over the data
    #[arg(long, value_name = "E", default_value = "30", value_parser = number::<u64>)]
    pub(crate) epochs: u64,
    /// Masks to begin with: magnitude, random, or a mask file
    #[arg(long, value_name = "MASK", default_value = "magnitude")]
    pub(crate) start: String,
    /// Score of the weights that are dropped at first; the others have 1
    #[arg(long, value_name = "SCORE", default_value = "0.99", value_parser = real)]
    pub(crate) gap: f64,
    /// Which share of the weights that would change places do, from the first step to the last
    #[arg(long, value_name = "COURSE", default_value = "poly")]
    pub(crate) restriction: Restriction,
    /// The same data, to measure it on after each pass
    #[arg(long, value_name = "DATA")]
    pub(crate) eval_data: Option<PathBuf>,
    /// Checkpoint whose tensors take the place of the weights of their names
    #[arg(long, value_name = "CKPT")]
    pub(crate) weights: Option<PathBuf>,
    /// Search on fresh weights, of `--seed`: a control, as nothing good is to be found there
    #[arg(long, value_name = "WAY", conflicts_with = "weights")]
    pub(crate) init: Option<Init>,
    #[command(flatten)]
    pub(crate) way: Way,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// Which share of the weights that would change places do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Restriction {
    /// All, always
    None,
    /// The fourth power of what is left of the search
    Poly,
    /// Half a cosine
    Cosine,
}

#[derive(Args, Debug)]
pub(crate) struct Score {
    /// A model: an .onnx file or a Hugging Face folder; or, for magnitude and random, any checkpoint
    pub(crate) model: PathBuf,
    /// What makes weights important: magnitude, random, snip, gradient, wanda or sparsegpt
    #[arg(long, value_name = "C")]
    pub(crate) by: String,
    #[command(flatten)]
    pub(crate) kept: Kept,
    /// Keep or drop whole blocks of rows and columns: 4x1, 1x16; 1xall for channels
    #[arg(long, value_name = "RxC", value_parser = block, conflicts_with_all = ["pattern", "counts_of"])]
    pub(crate) block: Option<Block>,
    /// Keep as many weights of each tensor as this mask file, whatever the sparsity
    #[arg(long, value_name = "MASK")]
    pub(crate) counts_of: Option<PathBuf>,
    /// What the model is looked at on, as `train` takes it
    #[arg(long, value_name = "DATA")]
    pub(crate) data: Option<PathBuf>,
    /// Examples of it that are looked at
    #[arg(long, value_name = "N", default_value = "512", value_parser = number::<usize>)]
    pub(crate) examples: usize,
    /// sparsegpt: also write the checkpoint with zeros, and the weights that make up for them
    #[arg(long, value_name = "OUT")]
    pub(crate) updated: Option<PathBuf>,
    /// sparsegpt: share of the mean square of a layer's inputs that is added to each [default: 0.01]
    #[arg(long, value_name = "SHARE", value_parser = real)]
    pub(crate) damping: Option<f64>,
    /// Checkpoint whose tensors take the place of the weights of their names
    #[arg(long, value_name = "CKPT")]
    pub(crate) weights: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args, Debug)]
pub(crate) struct Apply {
    /// A checkpoint: a .safetensors file, an index, a folder, or an .onnx file
    pub(crate) ckpt: PathBuf,
    /// Masks, as `mask score` and `mask search` make them
    pub(crate) mask: PathBuf,
    /// Measure running statistics of batch normalizations anew on these images
    #[arg(long, value_name = "DATA")]
    pub(crate) recalibrate: Option<PathBuf>,
    /// Cut them as the model's training did: from themselves with so many black pixels around them
    #[arg(long, value_name = "PIXELS", default_value = "0", requires = "recalibrate", value_parser = number::<usize>)]
    pub(crate) crop: usize,
    /// Mirror every other one
    #[arg(long, requires = "recalibrate")]
    pub(crate) flip: bool,
    /// The model whose graph runs them, an ONNX file [default: the checkpoint]
    #[arg(long, value_name = "MODEL", requires = "recalibrate")]
    pub(crate) model: Option<PathBuf>,
    /// Mask other weights of the same shapes than those that the masks are for
    #[arg(long)]
    pub(crate) transfer: bool,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args, Debug)]
pub(crate) struct Compare {
    /// Masks
    pub(crate) first: PathBuf,
    /// Other masks of the same tensors
    pub(crate) second: PathBuf,
}

/// Rows and columns of a block.
fn block(text: &str) -> Result<Block, String> {
    let wrong = || "expected rows and columns: 4x1, 1xall".to_owned();
    let (rows, cols) = text.split_once('x').ok_or_else(wrong)?;
    let count = |text: &str| text.parse().ok().filter(|count| *count > 0).ok_or_else(wrong);
    Ok(Block { rows: count(rows)?, cols: if cols == "all" { None } else { Some(count(cols)?) } })
}

/// A share from 0 to below 1.
fn below_one(text: &str) -> Result<f64, String> {
    real(text).ok().filter(|x| (0.0..1.0).contains(x)).ok_or_else(|| "expected a share from 0 to below 1".to_owned())
}

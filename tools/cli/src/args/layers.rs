//! What may be typed after `layers`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{Output, number, real};

#[derive(Debug, Subcommand)]
pub(crate) enum Layers {
    /// Score every block: how much the model needs it
    Rank(Rank),
    /// Write a model without some of its blocks
    Remove(Box<Remove>),
}

/// A model and its blocks.
#[derive(Args, Debug)]
pub(crate) struct Blocks {
    /// A model: a Hugging Face folder, or a residual network in an .onnx file
    pub(crate) model: PathBuf,
    /// Of transformers in .onnx files: take attention and what is behind it as blocks of their own
    #[arg(long)]
    pub(crate) halves: bool,
    /// Which blocks may go: those that the code of the paper takes, those that the paper says, or any whose shortcut is what
    /// they take [default: code, of transformers any]
    #[arg(long, value_name = "RULE")]
    pub(crate) rule: Option<Rule>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Rule {
    Code,
    Paper,
    Any,
}

/// What blocks are scored on.
#[derive(Args, Debug)]
pub(crate) struct Sample {
    /// What a model sees while its blocks are scored: a text, or a dataset as `dataset import` makes it
    #[arg(long, value_name = "DATA")]
    pub(crate) data: Option<PathBuf>,
    /// Take N windows or images only [default: all windows; 1024 images, 128 for gradients]
    #[arg(long, value_name = "N", value_parser = number::<usize>)]
    pub(crate) limit: Option<usize>,
}

#[derive(Args, Debug)]
pub(crate) struct Rank {
    #[command(flatten)]
    pub(crate) blocks: Blocks,
    /// How blocks are scored: influence, kl or random; of networks of images also grasp, snip, snip-mean, hrank, expectabs,
    /// pls or cka
    #[arg(long, value_name = "C")]
    pub(crate) by: String,
    #[command(flatten)]
    pub(crate) sample: Sample,
}

#[derive(Args, Debug)]
pub(crate) struct Remove {
    #[command(flatten)]
    pub(crate) of: Blocks,
    /// Remove these blocks, as `layers rank` numbers them: 4,7
    #[arg(long, value_name = "N", value_delimiter = ',', num_args = 1.., value_parser = number::<usize>)]
    pub(crate) blocks: Vec<usize>,
    /// Remove so many blocks, those that matter least
    #[arg(long, value_name = "P", value_parser = number::<usize>)]
    pub(crate) count: Option<usize>,
    /// How blocks are scored for `--count`, as `layers rank --help` lists it [default: influence]
    #[arg(long, value_name = "C")]
    pub(crate) by: Option<String>,
    /// With `--count`: score those that are left anew after each that goes
    #[arg(long)]
    pub(crate) one_by_one: bool,
    #[command(flatten)]
    pub(crate) sample: Sample,
    /// Folders: let the layer before those that go do what it can of what they did, by least squares over `--data`
    #[arg(long)]
    pub(crate) heal: bool,
    /// How much is added to the diagonal there, as a share of the mean square of what a matrix takes [default: 0.01]
    #[arg(long, value_name = "SHARE", requires = "heal", value_parser = real)]
    pub(crate) damping: Option<f64>,
    /// ONNX: give those that stay the weights of that checkpoint, as `train --keep-epoch` keeps them
    #[arg(long, value_name = "CKPT")]
    pub(crate) rewind: Option<PathBuf>,
    /// ONNX: estimate what a million passes need, with so many watts for as long as a pass takes here
    #[arg(long, value_name = "WATTS", value_parser = real)]
    pub(crate) power: Option<f64>,
    /// Grams of CO2 for a kilowatt-hour
    #[arg(long, value_name = "GRAMS", requires = "power", value_parser = real)]
    pub(crate) intensity: Option<f64>,
    #[command(flatten)]
    pub(crate) output: Output,
}

//! What may be typed after `layers`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Output, number};

#[derive(Debug, Subcommand)]
pub(crate) enum Layers {
    /// Score every block: those of the lowest scores go first
    Rank(Rank),
    /// Write a model without some of its blocks
    Remove(Remove),
}

/// What blocks are scored on.
#[derive(Args, Debug)]
pub(crate) struct Sample {
    /// What a model sees while its blocks are scored: a text, or a dataset as `dataset import text` makes it
    #[arg(long, value_name = "DATA")]
    pub(crate) data: Option<PathBuf>,
    /// Take the first N windows only
    #[arg(long, value_name = "N", value_parser = number::<usize>)]
    pub(crate) limit: Option<usize>,
}

#[derive(Args, Debug)]
pub(crate) struct Rank {
    /// A model: a Hugging Face folder
    pub(crate) model: PathBuf,
    /// How blocks are scored: influence, kl or random
    #[arg(long, value_name = "C")]
    pub(crate) by: String,
    #[command(flatten)]
    pub(crate) sample: Sample,
}

#[derive(Args, Debug)]
pub(crate) struct Remove {
    /// A model: a Hugging Face folder
    pub(crate) model: PathBuf,
    /// Remove these blocks, as `layers rank` numbers them: 4,7
    #[arg(long, value_name = "N", value_delimiter = ',', num_args = 1.., value_parser = number::<usize>)]
    pub(crate) blocks: Vec<usize>,
    /// Remove so many blocks, those of the lowest scores
    #[arg(long, value_name = "P", value_parser = number::<usize>)]
    pub(crate) count: Option<usize>,
    /// How blocks are scored for `--count`: influence, kl or random [default: influence]
    #[arg(long, value_name = "C")]
    pub(crate) by: Option<String>,
    #[command(flatten)]
    pub(crate) sample: Sample,
    #[command(flatten)]
    pub(crate) output: Output,
}

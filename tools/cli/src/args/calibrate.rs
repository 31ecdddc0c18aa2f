//! What may be typed after `calibrate`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{Output, number, real};

#[derive(Args, Debug)]
pub(crate) struct Calibrate {
    /// A model: an .onnx file, or a Hugging Face folder
    pub(crate) model: PathBuf,
    /// What goes through it: a dataset, as `dataset import` makes it; or a text, for a folder with a tokenizer.json
    #[arg(long, value_name = "DATA")]
    pub(crate) data: PathBuf,
    /// Examples that go through it, drawn by the seed: images, windows of text, or texts
    #[arg(long, value_name = "N", default_value = "128", value_parser = number::<usize>)]
    pub(crate) limit: usize,
    /// Keep a Gram matrix of each layer's inputs too: `--fit gptq` needs it
    #[arg(long)]
    pub(crate) gram: bool,
    /// Count how often inputs have which value: `export --range percentile` and `mse`, and `--correct-bias`, need it
    #[arg(long)]
    pub(crate) histogram: bool,
    /// Also write an importance matrix for llama.cpp, in GGUF
    #[arg(long, value_name = "OUT")]
    pub(crate) imatrix: Option<PathBuf>,
    /// Checkpoint whose tensors take the place of the weights of their names
    #[arg(long, value_name = "CKPT")]
    pub(crate) weights: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// How layers get inputs of 8 bits.
#[derive(Args, Debug)]
pub(crate) struct Static {
    /// What is known of the layers' inputs, for `--activations static`, image and c
    #[arg(long, value_name = "STATS")]
    pub(crate) stats: Option<PathBuf>,
    /// How far grids of inputs reach: to what was seen, to where `--percentile` of it lies between the ends, or to where the
    /// mean square of what is lost is least [default: minmax]
    #[arg(long, value_name = "R")]
    pub(crate) range: Option<Range>,
    /// How many percent of the values, for `--range percentile` [default: 99.99]
    #[arg(long, value_name = "P", value_parser = real)]
    pub(crate) percentile: Option<f64>,
    /// Let biases make up for what rounding weights moves outputs by on average
    #[arg(long)]
    pub(crate) correct_bias: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Range {
    Minmax,
    Percentile,
    Mse,
}

/// What a search is among, and how far it may go.
#[derive(Args, Debug)]
pub(crate) struct Among {
    /// Schemes that a layer may have, by rows or groups; several with commas [default: int2, 3, 4, 5, 6 and 8, all
    /// g64/affine]
    #[arg(long, value_name = "S,…", value_delimiter = ',')]
    pub(crate) schemes: Vec<String>,
    /// Scheme of the other weights of two dimensions or more, such as embeddings [default: as they are]
    #[arg(long, value_name = "S")]
    pub(crate) rest: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Search {
    /// A model: an .onnx file, or a Hugging Face folder; without --data any checkpoint
    pub(crate) model: PathBuf,
    /// What is known of the layers' inputs, as `calibrate` writes it [default: of 128 examples of --data]
    #[arg(long, value_name = "STATS", required_unless_present = "data")]
    pub(crate) stats: Option<PathBuf>,
    /// What a layer matters is measured on: one after the other is rounded alone
    #[arg(long, value_name = "DATA")]
    pub(crate) data: Option<PathBuf>,
    /// Examples of it that are looked at
    #[arg(long, value_name = "N", default_value = "32", requires = "data", value_parser = number::<usize>)]
    pub(crate) limit: usize,
    /// What all may take: `4bits` for each weight of the layers, or `120MiB` for all tensors
    #[arg(long, value_name = "B")]
    pub(crate) budget: String,
    /// How codes are chosen: min_max, clip, lsq, gptq or gptq_order [default: lsq]
    #[arg(long, value_name = "F")]
    pub(crate) fit: Option<String>,
    #[command(flatten)]
    pub(crate) among: Among,
    #[command(flatten)]
    pub(crate) output: Output,
}

//! What may be typed after `elastic`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::train::Way;
use super::{Output, number, real};

#[derive(Debug, Subcommand)]
pub(crate) enum Elastic {
    /// Train one set of weights to run at several widths, granularities and symmetries
    Train(Box<Train>),
    /// Measure such weights in forms, each with running statistics of its own
    Eval(Eval),
    /// Search the width of each layer for an average
    Search(Search),
    /// Write one form as an ONNX model that other engines run
    Export(Export),
}

#[derive(Args, Debug)]
pub(crate) struct Train {
    /// A trained model: an .onnx file with a dynamic batch, or a Hugging Face folder
    pub(crate) model: PathBuf,
    /// What it learns from, as `train` takes it
    #[arg(long, value_name = "DATA")]
    pub(crate) data: PathBuf,
    /// Passes over the data; 0 to fit steps and offsets alone
    #[arg(long, value_name = "E", value_parser = number::<u64>)]
    pub(crate) epochs: u64,
    /// Widths, but for those of the first and the last layer, which have 8 bits
    #[arg(long, value_name = "B,…", value_delimiter = ',', default_value = "2,4,8", value_parser = number::<u32>)]
    pub(crate) widths: Vec<u32>,
    /// Grids of the weights: learned ones for each form, or those of elastic tensors, whose codes nest
    #[arg(long, value_name = "GRID", default_value = "paper")]
    pub(crate) grid: Grid,
    /// Nested: weights that share a range
    #[arg(long, value_name = "N", default_value = "64", value_parser = number::<usize>)]
    pub(crate) group: usize,
    /// Quantize weights alone, not what flows into layers
    #[arg(long)]
    pub(crate) weights_only: bool,
    /// Without the loss that pulls weights towards an even distribution
    #[arg(long)]
    pub(crate) no_shape: bool,
    /// Without narrower forms learning from wider ones
    #[arg(long)]
    pub(crate) no_guide: bool,
    /// Examples that steps and offsets are first fitted to
    #[arg(long, value_name = "N", default_value = "256", value_parser = number::<usize>)]
    pub(crate) fit_examples: usize,
    /// The same data, to measure the widest form on after each pass
    #[arg(long, value_name = "DATA")]
    pub(crate) eval_data: Option<PathBuf>,
    /// Checkpoint whose tensors take the place of the weights of their names
    #[arg(long, value_name = "CKPT")]
    pub(crate) weights: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) way: Way,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// Grids of weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Grid {
    /// Steps and offsets that are learned
    Paper,
    /// Ranges of groups, and codes that are top bits of each other
    Nested,
}

#[derive(Args, Debug)]
pub(crate) struct Eval {
    /// The model whose weights were trained
    pub(crate) model: PathBuf,
    /// Weights, as `elastic train` makes them
    #[arg(long, value_name = "CKPT")]
    pub(crate) weights: PathBuf,
    #[command(flatten)]
    pub(crate) measured: MeasuredOn,
    /// A form: w4a8/row/sym, w2a2/tensor/affine, w4/row/sym of weights alone; may be repeated
    #[arg(long, value_name = "FORM", required = true)]
    pub(crate) form: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Search {
    /// The model whose weights were trained
    pub(crate) model: PathBuf,
    /// Weights, as `elastic train` makes them
    #[arg(long, value_name = "CKPT")]
    pub(crate) weights: PathBuf,
    /// What configurations are measured on: a part of what the weights were trained on
    #[arg(long, value_name = "DATA")]
    pub(crate) data: PathBuf,
    /// What widths may average, by weights, the first and the last layer aside: 3bits
    #[arg(long, value_name = "B", value_parser = bits)]
    pub(crate) budget: f64,
    /// Granularity and symmetry of all layers: row/sym, tensor/affine
    #[arg(long, value_name = "STYLE", default_value = "row/sym")]
    pub(crate) style: String,
    /// Configurations that are measured
    #[arg(long, value_name = "N", default_value = "300", value_parser = number::<usize>)]
    pub(crate) pairs: usize,
    /// Examples that each is measured on
    #[arg(long, value_name = "N", default_value = "2000", value_parser = number::<usize>)]
    pub(crate) examples: usize,
    /// Images on which running statistics of each are measured
    #[arg(long, value_name = "N", default_value = "1024", value_parser = number::<usize>)]
    pub(crate) recalibrate_examples: usize,
    /// What is measured, kept for other searches, and for this one where it is interrupted [default: OUT.pairs]
    #[arg(long, value_name = "FILE")]
    pub(crate) pairs_file: Option<PathBuf>,
    /// Generations of the genetic search
    #[arg(long, value_name = "N", default_value = "500", value_parser = number::<usize>)]
    pub(crate) generations: usize,
    /// Which result the recipe has
    #[arg(long, value_name = "HOW", default_value = "genetic")]
    pub(crate) method: Method,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// How widths are searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Method {
    /// By generations, which a predictor of accuracy judges
    Genetic,
    /// By what each layer loses alone
    Allocate,
}

/// An average width.
fn bits(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix("bits").and_then(|number| real(number).ok());
    number.filter(|bits| (2.0..=8.0).contains(bits)).ok_or_else(|| "expected an average from 2bits to 8bits".to_owned())
}

#[derive(Args, Debug)]
pub(crate) struct Export {
    /// The model whose weights were trained, an .onnx file
    pub(crate) model: PathBuf,
    /// Weights, as `elastic train` makes them
    #[arg(long, value_name = "CKPT")]
    pub(crate) weights: PathBuf,
    /// The form: w4a8/row/sym
    #[arg(long, value_name = "FORM")]
    pub(crate) form: String,
    /// Images on which the form's running statistics are measured; without, they are those that the training left
    #[arg(long, value_name = "DATA")]
    pub(crate) recalibrate: Option<PathBuf>,
    /// How many of them
    #[arg(long, value_name = "N", default_value = "4096", requires = "recalibrate", value_parser = number::<usize>)]
    pub(crate) recalibrate_examples: usize,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// What forms are measured on.
#[derive(Args, Debug)]
pub(crate) struct MeasuredOn {
    /// What they are measured on
    #[arg(long, value_name = "DATA")]
    pub(crate) data: PathBuf,
    /// Examples of it
    #[arg(long, value_name = "N", value_parser = number::<usize>)]
    pub(crate) limit: Option<usize>,
    /// Images on which each form's running statistics are measured [default: those it is measured on, without labels]
    #[arg(long, value_name = "DATA")]
    pub(crate) recalibrate: Option<PathBuf>,
    /// How many of them; 0 for the statistics that the training left
    #[arg(long, value_name = "N", default_value = "4096", value_parser = number::<usize>)]
    pub(crate) recalibrate_examples: usize,
    /// Offsets of affine grids as they were learned, not the whole zero points that integers need
    #[arg(long)]
    pub(crate) float_offsets: bool,
}

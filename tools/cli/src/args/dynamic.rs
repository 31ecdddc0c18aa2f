//! What may be typed after `dynamic`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};

use super::train::Way;
use super::{Output, number, real};

#[derive(Debug, Subcommand)]
pub(crate) enum Dynamic {
    /// Say what masks would leave of a model's multiplications, before anything is trained
    Plan(Plan),
    /// Train a model, and heads that tell which channels of each convolution an image needs
    Train(Box<Train>),
    /// Measure such a model: accuracy, multiplications, and what its heads know
    Eval(Eval),
    /// Write such a model as ONNX that other engines run
    Export(Export),
}

#[derive(Args, Debug)]
pub(crate) struct Plan {
    /// A trained model of images, an .onnx file with a dynamic batch; or of text, a Hugging Face folder
    pub(crate) model: PathBuf,
    /// Images, or text, that it is looked at on
    #[arg(long, value_name = "DATA")]
    pub(crate) data: PathBuf,
    /// The share of its multiplications that may be left, heads and all layers counted: 0.5. Of a model of text: of those of
    /// linear layers, for one token
    #[arg(long, value_name = "SHARE", value_parser = part)]
    pub(crate) macs: Option<f64>,
    /// Shares of what fires that are listed
    #[arg(long, value_name = "R,…", value_delimiter = ',', value_parser = part, default_value = SHARES)]
    pub(crate) mass: Vec<f64>,
    /// Shares are of channels, the same of every layer, not of what fires
    #[arg(long)]
    pub(crate) uniform: bool,
    /// Images that are looked at; of text, windows of a decoder, lines of an encoder [default: 512 images or lines, 8 windows]
    #[arg(long, value_name = "N", value_parser = number::<usize>)]
    pub(crate) examples: Option<usize>,
    /// Checkpoint whose tensors take the place of the weights of their names
    #[arg(long, value_name = "CKPT")]
    pub(crate) weights: Option<PathBuf>,
    /// Of a model of text: write the thresholds of the share that --macs asks for, or of the one of --mass
    #[arg(short, long, value_name = "OUT")]
    pub(crate) output: Option<PathBuf>,
    /// Overwrite the output
    #[arg(long, requires = "output")]
    pub(crate) force: bool,
}

/// Shares that a plan lists.
const SHARES: &str = "1,0.99,0.98,0.97,0.95,0.93,0.9,0.85,0.8,0.7,0.5";

#[derive(Args, Debug)]
#[command(group(ArgGroup::new("target").required(true).args(["mass", "uniform"])))]
pub(crate) struct Train {
    /// A trained model of images, an .onnx file with a dynamic batch
    pub(crate) model: PathBuf,
    /// Images with labels, as `dataset import` makes them
    #[arg(long, value_name = "DATA")]
    pub(crate) data: PathBuf,
    /// Heads tell the channels that fire most and together are this share of all that fires: 0.95
    #[arg(long, value_name = "R", value_parser = part)]
    pub(crate) mass: Option<f64>,
    /// Heads tell this share of the channels of every layer, those that fire most
    #[arg(long, value_name = "SHARE", value_parser = part)]
    pub(crate) uniform: Option<f64>,
    /// Passes over the data; in the second half heads stay as they are
    #[arg(long, value_name = "E", default_value = "10", value_parser = number::<u64>)]
    pub(crate) epochs: u64,
    /// Let all weights learn what heads are to tell, not heads alone
    #[arg(long)]
    pub(crate) joint: bool,
    /// Let heads see nothing: the same mask for all images, to compare with
    #[arg(long)]
    pub(crate) fixed: bool,
    /// What heads see of each channel
    #[arg(long, value_name = "POOL", default_value = "max")]
    pub(crate) pool: Pool,
    /// The learning rate of heads, always the same
    #[arg(long, value_name = "RATE", default_value = "0.1", value_parser = real)]
    pub(crate) head_lr: f64,
    /// The same data, to measure the gated model on after each pass
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

/// What heads see of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pool {
    /// Its largest number
    Max,
    /// Its mean
    Average,
}

#[derive(Args, Debug)]
pub(crate) struct Eval {
    /// The model whose weights were trained; or the Hugging Face folder that was looked at
    pub(crate) model: PathBuf,
    /// Weights and heads, as `dynamic train` makes them; or thresholds, as `dynamic plan` does
    #[arg(long, value_name = "HEADS")]
    pub(crate) heads: PathBuf,
    /// Images with labels; or text
    #[arg(long, value_name = "DATA")]
    pub(crate) data: PathBuf,
    /// The first of them
    #[arg(long, value_name = "N", value_parser = number::<usize>)]
    pub(crate) limit: Option<usize>,
}

#[derive(Args, Debug)]
pub(crate) struct Export {
    /// The model whose weights were trained
    pub(crate) model: PathBuf,
    /// Weights and heads, as `dynamic train` makes them
    #[arg(long, value_name = "HEADS")]
    pub(crate) heads: PathBuf,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// A share above 0, of at most 1.
fn part(text: &str) -> Result<f64, String> {
    let number = real(text).ok().filter(|x| *x > 0.0 && *x <= 1.0);
    number.ok_or_else(|| "expected a number above 0, at most 1".to_owned())
}

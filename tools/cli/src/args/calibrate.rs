//! What may be typed after `calibrate`.

use std::path::PathBuf;

use clap::Args;

use super::{Output, number};

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
    /// Checkpoint whose tensors take the place of the weights of their names
    #[arg(long, value_name = "CKPT")]
    pub(crate) weights: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) output: Output,
}

//! What may be typed after `dataset`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{Output, number, real};

#[derive(Debug, Subcommand)]
pub(crate) enum Dataset {
    /// Make a dataset of IDX files, CIFAR-10, a folder of pictures, or a text
    Import(Import),
    /// Write a copy with one of the corruptions of CIFAR-10-C
    Corrupt(Corrupt),
}

/// Which part of a dataset that comes in two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Split {
    Train,
    Test,
}

/// The window under which pixels are averaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Filter {
    Bilinear,
    Bicubic,
    Box,
}

/// Height and width, `HxW` or one number for both.
fn size(text: &str) -> Result<(usize, usize), String> {
    let (height, width) = text.split_once('x').unwrap_or((text, text));
    match (height.parse(), width.parse()) {
        (Ok(height), Ok(width)) => Ok((height, width)),
        _ => Err("expected HxW, for example 224x224".to_owned()),
    }
}

#[derive(Args, Debug)]
pub(crate) struct Import {
    /// What the source is: idx, cifar10, images or text
    pub(crate) kind: String,
    /// A folder, or a file: see KIND
    pub(crate) src: PathBuf,
    /// Which part, where the source has two [default: train]
    #[arg(long, value_name = "S")]
    pub(crate) split: Option<Split>,
    /// What models subtract from each channel: 0.49,0.48,0.45 [default: 0]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = real, allow_negative_numbers = true)]
    pub(crate) mean: Vec<f64>,
    /// What models divide each channel by [default: 1]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = real, allow_negative_numbers = true)]
    pub(crate) std: Vec<f64>,
    /// What pixels of 0 to 255 are multiplied by first [default: 1/255]
    #[arg(long, value_name = "S", value_parser = real, allow_negative_numbers = true)]
    pub(crate) scale: Option<f64>,
    /// Names of the classes, in the order of their labels
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub(crate) classes: Vec<String>,
    /// Take the first so many items
    #[arg(long, value_name = "N", value_parser = number::<usize>)]
    pub(crate) limit: Option<usize>,
    /// images: cut the middle of this size out of each picture [default: pictures as they are]
    #[arg(long, value_name = "HxW", value_parser = size)]
    pub(crate) size: Option<(usize, usize)>,
    /// images: scale the shorter side to this before [default: 8/7 of the larger of H and W]
    #[arg(long, value_name = "N", value_parser = number::<usize>, requires = "size")]
    pub(crate) shorter: Option<usize>,
    /// images: how they are scaled, as Pillow does it [default: bilinear]
    #[arg(long, value_name = "F", requires = "size")]
    pub(crate) filter: Option<Filter>,
    /// images: 1 for grey, 3 for colours [default: 3]
    #[arg(long, value_name = "C", value_parser = number::<usize>)]
    pub(crate) channels: Option<usize>,
    /// text: the tokenizer, a tokenizer.json of Hugging Face
    #[arg(long, value_name = "FILE")]
    pub(crate) tokenizer: Option<PathBuf>,
    /// text: tokens in a window [default: 512]
    #[arg(long, value_name = "T", value_parser = number::<usize>)]
    pub(crate) length: Option<usize>,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args, Debug)]
pub(crate) struct Corrupt {
    /// A dataset of images
    pub(crate) data: PathBuf,
    /// The corruption: `gaussian_noise`, `shot_noise`, `impulse_noise`, `speckle_noise`,
    /// `gaussian_blur`, `defocus_blur`, `glass_blur`, `motion_blur`, `zoom_blur`, snow, fog, brightness,
    /// contrast, saturate, pixelate or jpeg
    #[arg(long, value_name = "K")]
    pub(crate) kind: String,
    /// How much, 1 to 5
    #[arg(long, value_name = "S", value_parser = number::<u8>)]
    pub(crate) severity: u8,
    /// Take the first so many images
    #[arg(long, value_name = "N", value_parser = number::<usize>)]
    pub(crate) limit: Option<usize>,
    #[command(flatten)]
    pub(crate) output: Output,
}

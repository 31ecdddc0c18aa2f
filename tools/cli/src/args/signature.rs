//! What may be typed after `signature`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{Output, number, real};

#[derive(Debug, Subcommand)]
pub(crate) enum Signature {
    /// Make a signature from an initial, an ordinary and a robust checkpoint
    Extract(Extract),
    /// Write a checkpoint with signatures added, and what takes them off again
    Apply(Apply),
    /// Write a checkpoint without one of its signatures, bit for bit as if it had never been added
    Remove(Remove),
    /// List the signatures that were added to a checkpoint
    List(List),
    /// Show how alike signatures are: the cosine of each pair
    Similarity(Similarity),
    /// Make one signature of several
    Combine(Combine),
    /// Make a signature that gives attention another temperature
    Temperature(Temperature),
    /// Make a signature of a low-rank adapter of PEFT
    Import(Import),
    /// Write the differences of a signature as a low-rank adapter of PEFT
    Export(Export),
    /// Sign a signature's file with an Ed25519 key, as `openssl pkeyutl -sign -rawin` does
    Sign(Sign),
}

/// How the values of a signature are stored.
#[derive(Args, Debug)]
pub(crate) struct Encoding {
    /// How values are stored: f32, f16, bf16, or a scheme such as int8/row/sym [default: f32]
    #[arg(long, value_name = "S")]
    pub(crate) scheme: Option<String>,
    /// How ranges of codes are chosen: min_max, clip or lsq [default: min_max]
    #[arg(long, value_name = "F")]
    pub(crate) fit: Option<String>,
    /// Leave out this share of each tensor's values, those of the smallest magnitude
    #[arg(long, value_name = "X", value_parser = real)]
    pub(crate) sparsity: Option<f64>,
}

#[derive(Args, Debug)]
pub(crate) struct Extract {
    /// The checkpoint that both trainings began with
    #[arg(long, value_name = "CKPT", required_unless_present = "interpolate")]
    pub(crate) init: Option<PathBuf>,
    /// The checkpoint that was trained as usual
    #[arg(long, value_name = "CKPT")]
    pub(crate) standard: PathBuf,
    /// The checkpoint that was trained to be robust
    #[arg(long, value_name = "CKPT")]
    pub(crate) robust: PathBuf,
    /// Keep so many layers, the first in depth
    #[arg(long, value_name = "K", value_parser = number::<usize>, conflicts_with = "energy")]
    pub(crate) layers: Option<usize>,
    /// Keep the fewest layers that have this share of the difference, for example 0.95
    #[arg(long, value_name = "E", value_parser = real)]
    pub(crate) energy: Option<f64>,
    /// Touch only tensors that match; may be repeated [default: all but the classifier]
    #[arg(long, value_name = "GLOB")]
    pub(crate) only: Vec<String>,
    /// Batch normalizations: of all layers, of the layers kept, or none
    #[arg(long, value_name = "N", default_value = "all")]
    pub(crate) norms: Norms,
    /// Take the robust weights themselves: alpha is then a place between both checkpoints (WiSE-FT)
    #[arg(long)]
    pub(crate) interpolate: bool,
    #[command(flatten)]
    pub(crate) encoding: Encoding,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// Which tensors of batch normalizations a signature has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Norms {
    All,
    Kept,
    None,
}

#[derive(Args, Debug)]
pub(crate) struct Apply {
    /// A checkpoint: a .safetensors file, an index, a folder, or a .gguf or .onnx file
    pub(crate) ckpt: PathBuf,
    /// Signatures, each with its alpha where it has one of its own: SIG or SIG@ALPHA
    #[arg(required = true, value_name = "SIG[@ALPHA]")]
    pub(crate) signatures: Vec<String>,
    /// What values are multiplied by
    #[arg(long, value_name = "A", default_value = "1", allow_hyphen_values = true)]
    pub(crate) alpha: String,
    /// Name in the checkpoint's stack, by which it is removed [default: the stem of the file's name]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Patch a model of the same architecture with other weights
    #[arg(long)]
    pub(crate) transfer: bool,
    /// Write although less than half of a patch outlives the rounding to codes
    #[arg(long)]
    pub(crate) allow_loss: bool,
    /// Compute running statistics of batch normalizations anew from these images, once all signatures are applied; they
    /// come and go with the last one
    #[arg(long, value_name = "DATA")]
    pub(crate) recalibrate: Option<PathBuf>,
    /// The model whose graph runs them, an ONNX file [default: the checkpoint]
    #[arg(long, value_name = "MODEL", requires = "recalibrate")]
    pub(crate) model: Option<PathBuf>,
    /// Apply only files that this Ed25519 key signed: FILE.ed25519 beside each, as `signature sign` writes it
    #[arg(long, value_name = "PEM")]
    pub(crate) signed_by: Option<PathBuf>,
    /// Report what would become of the patch; write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Where to write
    #[arg(short, long, value_name = "OUT", required_unless_present = "dry_run")]
    pub(crate) output: Option<PathBuf>,
    /// Overwrite the output if it exists; it may be the checkpoint itself
    #[arg(long)]
    pub(crate) force: bool,
    /// Wait until the disk has the output
    #[arg(long)]
    pub(crate) durable: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Import {
    /// The adapter: a folder with adapter_config.json, or its safetensors file
    pub(crate) adapter: PathBuf,
    /// The checkpoint that it was trained on
    #[arg(long, value_name = "CKPT")]
    pub(crate) standard: PathBuf,
    #[command(flatten)]
    pub(crate) encoding: Encoding,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args, Debug)]
pub(crate) struct Export {
    /// A signature
    pub(crate) signature: PathBuf,
    /// Format: peft
    #[arg(long, value_name = "FORMAT", default_value = "peft")]
    pub(crate) to: AdapterFormat,
    /// Rank of the factors of each matrix
    #[arg(long, value_name = "R", value_parser = number::<usize>)]
    pub(crate) rank: usize,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// A format of adapters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AdapterFormat {
    Peft,
}

#[derive(Args, Debug)]
pub(crate) struct Sign {
    /// The file
    pub(crate) file: PathBuf,
    /// Private key in PEM, as `openssl genpkey -algorithm ed25519` makes it
    #[arg(long, value_name = "PEM")]
    pub(crate) key: PathBuf,
    /// Overwrite a detached signature that is there
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Remove {
    /// A checkpoint that signatures were added to
    pub(crate) ckpt: PathBuf,
    /// Name of the signature, as `signature list` shows it
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args, Debug)]
pub(crate) struct List {
    /// A checkpoint
    pub(crate) ckpt: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct Similarity {
    /// Signatures
    #[arg(required = true, num_args = 2.., value_name = "SIG")]
    pub(crate) signatures: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Combine {
    /// Signatures, each with its alpha: SIG or SIG@ALPHA
    #[arg(required = true, value_name = "SIG[@ALPHA]")]
    pub(crate) signatures: Vec<String>,
    /// How they are combined
    #[arg(long, value_name = "H", default_value = "sum")]
    pub(crate) how: How,
    /// Share of each signature's values that counts: the largest (ties), or drawn (dare)
    #[arg(long, value_name = "X", value_parser = real, default_value = "0.2")]
    pub(crate) density: f64,
    #[command(flatten)]
    pub(crate) encoding: Encoding,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// How signatures are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum How {
    Sum,
    Ties,
    Dare,
}

#[derive(Args, Debug)]
pub(crate) struct Temperature {
    /// The checkpoint whose attention is meant
    pub(crate) ckpt: PathBuf,
    /// What attention's logits are divided by: above 1 smooths, below 1 sharpens
    #[arg(long, value_name = "T", value_parser = real)]
    pub(crate) temperature: f64,
    /// Query projections, weights and biases; may be repeated
    #[arg(long, value_name = "GLOB", required = true)]
    pub(crate) queries: Vec<String>,
    /// Heads that are meant, counted from 0: 0,3,5 [default: all]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = number::<usize>, requires = "of")]
    pub(crate) heads: Vec<usize>,
    /// How many heads the rows of a projection are divided among
    #[arg(long, value_name = "N", value_parser = number::<usize>)]
    pub(crate) of: Option<usize>,
    #[command(flatten)]
    pub(crate) output: Output,
}

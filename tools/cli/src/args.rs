//! What may be typed: verbs and flags, not yet resolved against anything.

pub(crate) mod calibrate;
pub(crate) mod dataset;
pub(crate) mod dynamic;
pub(crate) mod elastic;
pub(crate) mod join;
pub(crate) mod layers;
pub(crate) mod mask;
pub(crate) mod report;
pub(crate) mod signature;
pub(crate) mod train;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use niwaki_engine::Share;
use niwaki_tensors::Overwrite;

/// Compress neural network checkpoints: quantize, mask, slice, compare, verify.
#[derive(Debug, Parser)]
#[command(name = "niwaki", version, term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Option<Verb>,
}

/// Where help lists the flags of every verb.
const GLOBAL: &str = "For every verb";

/// A whole number that `N` holds.
fn number<N: FromStr>(text: &str) -> Result<N, String> {
    text.parse().map_err(|_| "expected a whole number in range".to_owned())
}

/// A number that can be compared with.
fn real(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.parse().ok();
    number.filter(|x| !x.is_nan()).ok_or_else(|| "expected a number".to_owned())
}

/// Flags of every verb.
#[derive(Args, Clone, Debug)]
pub(crate) struct Global {
    /// Print one JSON object instead of text
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub(crate) json: bool,
    /// No progress bar and no notes
    #[arg(short, long, global = true, help_heading = GLOBAL)]
    pub(crate) quiet: bool,
    /// Say more on stderr
    #[arg(short, long, global = true, help_heading = GLOBAL, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Worker threads [default: all cores]
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "N", value_parser = number::<NonZeroUsize>)]
    pub(crate) threads: Option<NonZeroUsize>,
    /// Where to compute: auto, cpu or cuda[:N]
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "D", default_value = "auto")]
    pub(crate) device: String,
    /// Seed of whatever is random; replaces the seed of a recipe
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "N", value_parser = number::<u64>)]
    pub(crate) seed: Option<u64>,
    /// Colour the output
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: Color,
}

/// When to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Show what is inside a file: tensors, types, shapes, sizes, schemes
    Inspect(Inspect),
    /// Show what would become of every tensor; write nothing
    Plan(Plan),
    /// Quantize or mask a checkpoint into a new file
    #[command(visible_alias = "quantize")]
    Compress(Compress),
    /// Check the parts of a job, and make one checkpoint of them
    Join(join::Join),
    /// Cut a narrower file out of an elastic one
    Slice(Slice),
    /// Write a checkpoint in another format: its codes where that holds them, else the nearest
    Export(Export),
    /// Measure the difference between two checkpoints, tensor by tensor
    Compare(Compare),
    /// Check a file: every digest and invariant of ours, every rule of the format of others
    Verify(Verify),
    /// Make datasets of files of others, and worse copies of them
    #[command(subcommand)]
    Dataset(dataset::Dataset),
    /// Patch checkpoints with small weight signatures, and take them off again bit for bit
    #[command(subcommand)]
    Signature(signature::Signature),
    /// Rank the layers of a transformer by how much they matter, and write it without some
    #[command(subcommand)]
    Layers(layers::Layers),
    /// Choose which weights stay: by criteria, or by a search in which all of them stay as they are
    #[command(subcommand)]
    Mask(mask::Mask),
    /// Train one set of weights to run at many widths, and measure it at each
    #[command(subcommand)]
    Elastic(elastic::Elastic),
    /// Train a model to compute only the channels that an image needs, and say what that saves
    #[command(subcommand)]
    Dynamic(dynamic::Dynamic),
    /// Train a model on data; a training that was interrupted goes on
    Train(Box<train::Train>),
    /// Run a model once on named tensors
    Run(Run),
    /// Measure a model on data: accuracy and loss; against other weights, how far they are apart
    Eval(Eval),
    /// Look at what flows into the layers of a model: what matters, and what goes together
    Calibrate(calibrate::Calibrate),
    /// Choose a scheme for each layer, so that all fit a budget and the model loses least
    Search(calibrate::Search),
    /// Go on with a text, always by the likeliest token
    Generate(Generate),
    /// Make one page of figures of checkpoints, masks, signatures, recipes, and answers to --json
    Report(report::Report),
    /// List the kernels and devices found, and why others were not
    Devices,
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print a manual page
    Man {
        /// The verb, and the one under it where there is one; the whole program if left out
        verb: Vec<String>,
    },
}

/// Signatures through which a checkpoint is seen; its files stay as they are.
#[derive(Args, Debug)]
pub(crate) struct Patches {
    /// See the checkpoint through a signature, times alpha; may be repeated
    #[arg(long, value_name = "SIG[@ALPHA]")]
    pub(crate) patch: Vec<String>,
    /// Allow signatures that were made for other weights of the same architecture
    #[arg(long, requires = "patch")]
    pub(crate) transfer: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Inspect {
    /// A checkpoint: a .safetensors file, an index, a folder, or a .gguf or .onnx file
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) patches: Patches,
}

/// What decides the fate of tensors.
#[derive(Args, Debug)]
pub(crate) struct Selection {
    /// Recipe in TOML
    #[arg(short, long, value_name = "RECIPE")]
    pub(crate) recipe: Option<PathBuf>,
    /// Recipe by name: weights, llm, linear, or with `--to gguf` a mix of llama.cpp: q4_k_m, …
    #[arg(long, value_name = "P")]
    pub(crate) preset: Option<String>,
    /// What codes mean: int{2..8}/{tensor|row|gN}/{sym|affine}, elastic/gN[/WIDTHS],
    /// fp8_e4m3/{tensor|row|bN}, nvfp4, nf4/gN, or blocks as in GGUF: q8_0, q4_0, …; with `--to gguf`
    /// a name of llama.cpp is its mix of types
    #[arg(long, value_name = "S")]
    pub(crate) scheme: Option<String>,
    /// How codes are chosen: min_max, clip or lsq; with --stats also gptq or gptq_order [default:
    /// min_max]
    #[arg(long, value_name = "F")]
    pub(crate) fit: Option<String>,
    /// What is known of the layers' inputs, as `calibrate` writes it: gptq and `[[fold]]` of a recipe need
    /// it, clip and lsq look at what matters; or an importance matrix of llama.cpp, .gguf or .dat
    #[arg(long, value_name = "STATS")]
    pub(crate) stats: Option<PathBuf>,
    /// With gptq: how much is added to the diagonal of a Gram matrix, as a share of its mean [default: 0.01]
    #[arg(long, value_name = "SHARE", value_parser = real)]
    pub(crate) damping: Option<f64>,
    /// Touch only tensors that match; may be repeated
    #[arg(long, value_name = "GLOB")]
    pub(crate) only: Vec<String>,
    /// Carry tensors that match as they are; may be repeated
    #[arg(long, value_name = "GLOB")]
    pub(crate) keep: Vec<String>,
    /// Rows that a group does not divide: end in a short group, or stop
    #[arg(long, value_name = "T", default_value = "short")]
    pub(crate) tail: Tail,
    /// Format of the output: safetensors, gguf, compressed-tensors, gptq, awq, mlx, fp8 or onnx
    #[arg(long, value_name = "FORMAT", default_value = "safetensors")]
    pub(crate) to: String,
    #[command(flatten)]
    pub(crate) engine: ForEngine,
    #[command(flatten)]
    pub(crate) patches: Patches,
}

/// What engines are told that load the output.
#[derive(Args, Debug)]
pub(crate) struct ForEngine {
    /// What engines do with inputs: leave them; with compressed-tensors quantize them token by token
    /// (dynamic); in `export --to onnx` on ranges that --stats knows (static)
    #[arg(long, value_name = "A", default_value = "float")]
    pub(crate) activations: Activations,
    /// llama.cpp's name of the pre-tokenizer, for a tokenizer.json that is not known
    #[arg(long, value_name = "NAME")]
    pub(crate) pre_tokenizer: Option<String>,
    /// The .onnx file whose graph gets the weights, for `--to onnx` of a checkpoint without one
    #[arg(long, value_name = "MODEL")]
    pub(crate) model: Option<PathBuf>,
}

/// What engines do with inputs of quantized modules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Activations {
    Float,
    Dynamic,
    Static,
}

/// What packed matrices are multiplied with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Inputs {
    Float,
    Dynamic,
}

/// What to do with rows that a group does not divide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tail {
    Short,
    Error,
}

/// What to do with a tensor that holds NaN or infinity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Nan {
    Refuse,
    Keep,
}

#[derive(Args, Debug)]
pub(crate) struct Plan {
    /// A checkpoint: a .safetensors file, an index, a folder, or a .gguf or .onnx file
    pub(crate) ckpt: PathBuf,
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// Print the recipe in full instead of the plan
    #[arg(long)]
    pub(crate) print_recipe: bool,
}

/// Flags of every verb that writes a file.
#[derive(Args, Debug)]
pub(crate) struct Output {
    /// Where to write
    #[arg(short, long, value_name = "OUT")]
    pub(crate) output: PathBuf,
    /// Overwrite the output if it exists
    #[arg(long)]
    pub(crate) force: bool,
    /// Wait until the disk has the output
    #[arg(long)]
    pub(crate) durable: bool,
}

impl Output {
    /// Whether it may be there already.
    pub(crate) fn overwrite(&self) -> Overwrite {
        if self.force { Overwrite::Replace } else { Overwrite::Refuse }
    }
}

#[derive(Args, Debug)]
pub(crate) struct Compress {
    /// A checkpoint: a .safetensors file, an index, a folder, or a .gguf or .onnx file
    pub(crate) ckpt: PathBuf,
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// Choose a scheme for each layer by --stats, so that all fit: `4bits` for each weight of the layers, or
    /// `120MiB` for all tensors
    #[arg(long, value_name = "B", requires = "stats", conflicts_with_all = ["recipe", "preset", "scheme"])]
    pub(crate) budget: Option<String>,
    #[command(flatten)]
    pub(crate) among: calibrate::Among,
    /// A tensor with NaN or infinity: stop, or carry it as it is
    #[arg(long, value_name = "N", default_value = "refuse")]
    pub(crate) nan: Nan,
    /// Do the i-th of n shares of the plan only, and write it into the folder OUT; `join` makes one of all
    #[arg(long, value_name = "i/n", value_parser = join::share)]
    pub(crate) part: Option<Share>,
    /// Cap of private memory, for example 256MiB
    #[arg(long, value_name = "SIZE", value_parser = crate::size::parse)]
    pub(crate) memory: Option<usize>,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// What takes the place of a model's weights, or lies over them.
#[derive(Args, Debug)]
pub(crate) struct Given {
    /// Checkpoint whose tensors take the place of the weights of their names
    #[arg(long, value_name = "CKPT")]
    pub(crate) weights: Option<PathBuf>,
    /// Width at which elastic tensors are read [default: widest]
    #[arg(long, value_name = "B", value_parser = number::<u32>)]
    pub(crate) bits: Option<u32>,
    #[command(flatten)]
    pub(crate) patches: Patches,
}

#[derive(Args, Debug)]
pub(crate) struct Run {
    /// A model: an .onnx file, or a Hugging Face folder
    pub(crate) model: PathBuf,
    #[command(flatten)]
    pub(crate) given: Given,
    /// Tensors by the names of the model's inputs, in a .safetensors file
    #[arg(long, value_name = "IN")]
    pub(crate) input: PathBuf,
    /// Run it N times more, and say the median time of a pass
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, value_parser = number::<usize>)]
    pub(crate) repeat: usize,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args, Debug)]
pub(crate) struct Eval {
    /// A model: an .onnx file, or a Hugging Face folder
    pub(crate) model: PathBuf,
    #[command(flatten)]
    pub(crate) given: Given,
    /// A dataset, as `dataset import` makes it; or a text, for a folder with a tokenizer.json: of
    /// encoders, every line is an example
    #[arg(long, value_name = "DATA")]
    pub(crate) data: PathBuf,
    /// Inputs of the packed matrices of a compressed model of text: floats, or dynamic: rounded to 8 bits, 32 of
    /// them with a scale of their own
    #[arg(long, value_name = "A", value_enum, default_value_t = Inputs::Float)]
    pub(crate) activations: Inputs,
    /// Thresholds of a model of text, as `dynamic plan` writes them: channels of its feed-forward parts that fire less are not
    /// computed
    #[arg(long, value_name = "HEADS")]
    pub(crate) heads: Option<PathBuf>,
    /// Checkpoint to compare with: KL divergence, agreement, cosine
    #[arg(long, value_name = "CKPT")]
    pub(crate) against: Option<PathBuf>,
    /// Take the first N examples only
    #[arg(long, value_name = "N", value_parser = number::<usize>)]
    pub(crate) limit: Option<usize>,
    /// Encoders: write the embeddings, `embeddings` F32 [N, width], to a .safetensors file
    #[arg(short, long, value_name = "OUT")]
    pub(crate) output: Option<PathBuf>,
    /// Overwrite the output if it exists
    #[arg(long, requires = "output")]
    pub(crate) force: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Generate {
    /// A model: a Hugging Face folder with a decoder and its tokenizer.json
    pub(crate) model: PathBuf,
    #[command(flatten)]
    pub(crate) given: Given,
    /// Inputs of the packed matrices of a compressed model of text: floats, or dynamic: rounded to 8 bits, 32 of
    /// them with a scale of their own
    #[arg(long, value_name = "A", value_enum, default_value_t = Inputs::Float)]
    pub(crate) activations: Inputs,
    /// Thresholds of a model of text, as `dynamic plan` writes them: channels of its feed-forward parts that fire less are not
    /// computed
    #[arg(long, value_name = "HEADS")]
    pub(crate) heads: Option<PathBuf>,
    /// How the text begins
    #[arg(long, value_name = "TEXT")]
    pub(crate) prompt: String,
    /// Tokens to add at most
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = number::<usize>)]
    pub(crate) max_tokens: usize,
}

#[derive(Args, Debug)]
pub(crate) struct Slice {
    /// An elastic file, or a device image of elastic weights
    pub(crate) elastic: PathBuf,
    /// Width to cut to, one of those that the file serves
    #[arg(long, value_name = "B", value_parser = number::<u32>)]
    pub(crate) bits: u32,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args, Debug)]
pub(crate) struct Export {
    /// A checkpoint: compressed by niwaki, GGUF, or quantized by another tool; for image and c an .onnx model
    pub(crate) file: PathBuf,
    /// Format: safetensors (decoded), gguf, compressed-tensors, gptq, awq, mlx, fp8 or onnx; for
    /// microcontrollers image or c
    #[arg(long, value_name = "FORMAT")]
    pub(crate) to: String,
    #[command(flatten)]
    pub(crate) engine: ForEngine,
    #[command(flatten)]
    pub(crate) fixed: calibrate::Static,
    /// Weights of an image, or of c: int8/row/sym, int4/row/sym, or elastic/row or elastic/row/2,4,8 for several widths
    /// [default: int8/row/sym]
    #[arg(long, value_name = "S")]
    pub(crate) scheme: Option<String>,
    /// Leave out codes that are 0 in tensors of an image, or of c, that this makes smaller
    #[arg(long)]
    pub(crate) sparse: bool,
    /// How their codes are chosen: min_max, clip or lsq [default: min_max]
    #[arg(long, value_name = "F")]
    pub(crate) fit: Option<String>,
    /// Width at which elastic tensors are read [default: widest]
    #[arg(long, value_name = "B", value_parser = number::<u32>)]
    pub(crate) bits: Option<u32>,
    #[command(flatten)]
    pub(crate) patches: Patches,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args, Debug)]
pub(crate) struct Compare {
    /// The reference
    pub(crate) a: PathBuf,
    /// What is measured against it
    pub(crate) b: PathBuf,
    /// Exit with 1 if a tensor is noisier than this many dB
    #[arg(long, value_name = "DB", value_parser = real, allow_negative_numbers = true)]
    pub(crate) min_sqnr: Option<f64>,
    /// Exit with 1 if a weight is off by more than this
    #[arg(long, value_name = "X", value_parser = real)]
    pub(crate) max_abs: Option<f64>,
    /// Width at which elastic tensors are read [default: widest]
    #[arg(long, value_name = "B", value_parser = number::<u32>)]
    pub(crate) bits: Option<u32>,
    /// What is measured is seen through these
    #[command(flatten)]
    pub(crate) patches: Patches,
}

#[derive(Args, Debug)]
pub(crate) struct Verify {
    /// A file that niwaki wrote, a .gguf file, or a checkpoint that another tool quantized
    pub(crate) file: PathBuf,
}

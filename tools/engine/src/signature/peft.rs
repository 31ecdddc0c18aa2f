//! LoRA adapters as Hugging Face's PEFT reads and writes them.
//!
//! ```text
//! adapter_config.json          which modules, ranks, scales
//! adapter_model.safetensors    A and B of each module
//! ```
//!
//! Such an adapter is the difference of low rank `scaling * B A` for each module that it names
//! [lora, 4.1], with `scaling = lora_alpha / r`, or `lora_alpha / sqrt(r)` (rsLoRA). What is read
//! here is what PEFT 0.21 adds where it merges the adapter into its base model; what it would
//! compute otherwise (DoRA and other variants) is refused.

mod config;
mod names;
mod patterns;
mod read;
mod write;

use std::ops::Range;
use std::path::{Path, PathBuf};

use niwaki_codes::Shape;
use niwaki_codes::simd::Level;
use niwaki_quant::signature::low_rank::product_row;
use niwaki_tensors::{Checkpoint, Limits, TensorView};

use crate::error::{Error, ErrorKind};
use crate::matrix::transposed;

pub use write::{Layer, Module, write};

/// The configuration's file.
const CONFIG: &str = "adapter_config.json";

/// The file of weights.
const WEIGHTS: &str = "adapter_model.safetensors";

/// The file of weights as pickles.
const PICKLE: &str = "adapter_model.bin";

/// What stands before the name of a module of the base model.
const PREFIX: &str = "base_model.model.";

/// An adapter that is open: everything in it is known and fits together.
#[derive(Debug)]
pub struct Adapter {
    checkpoint: Checkpoint,
    base_model: Option<String>,
    differences: Vec<LowRank>,
    /// The tensor of the base model, and its name in the file.
    replaced: Vec<(String, String)>,
}

/// A difference of low rank from one tensor of the base model: `scaling * B A`.
#[derive(Clone, Debug)]
pub struct LowRank {
    tensor: String,
    shape: Shape,
    scaling: f64,
    /// Rows of the tensor by rank.
    b: Vec<f32>,
    /// Rank by the other dimensions of the tensor.
    a: Vec<f32>,
}

impl Adapter {
    /// Whether `path` is an adapter's folder, or the weights of one with the configuration beside.
    pub fn is_at(path: &Path) -> bool {
        place(path).0.is_file()
    }

    /// Opens an adapter: its folder, or its safetensors file with the configuration beside it.
    /// The factors are decoded; private memory is at most some times the file's length.
    ///
    /// # Errors
    ///
    /// Those of [`Checkpoint::open`]; [`ErrorKind::Adapter`] for files that are not there, a
    /// configuration that is no LoRA, and tensors that are not known, lack their other half, do
    /// not fit each other or the configuration, or hold NaN; [`ErrorKind::Unsupported`] for what
    /// is no difference of low rank.
    pub fn open(path: &Path, limits: &Limits) -> Result<Self, Error> {
        let (config, weights) = place(path);
        if !config.is_file() {
            let why = format!("no `{CONFIG}`");
            return Err(Error::from(ErrorKind::Adapter { why }).at(path));
        }
        let only_pickle = !weights.is_file() && weights.with_file_name(PICKLE).is_file();
        if only_pickle {
            let what = format!("an adapter with `{PICKLE}` only");
            let hint = format!("load it with PEFT and save it as `{WEIGHTS}`; pickles run code when they are read");
            return Err(Error::from(ErrorKind::Unsupported { what }).at(path).hinting(hint));
        }
        if !weights.is_file() {
            let why = format!("no `{WEIGHTS}` beside `{CONFIG}`");
            return Err(Error::from(ErrorKind::Adapter { why }).at(path));
        }
        let config = config::Config::read(&config, limits)?;
        let checkpoint = Checkpoint::open(&weights, limits)?;
        let found = read::read(&checkpoint, &config).map_err(|e| e.at(&weights))?;
        let read::Found { differences, replaced } = found;
        Ok(Self { checkpoint, base_model: config.base_model, differences, replaced })
    }

    /// The base model, as the configuration calls it.
    pub fn base_model(&self) -> Option<&str> {
        self.base_model.as_deref()
    }

    /// The differences, sorted by tensor.
    pub fn differences(&self) -> &[LowRank] {
        &self.differences
    }

    /// Tensors that stand in the place of the base model's: of modules that were trained whole,
    /// biases, embeddings. Each with its name there; a difference from the same tensor comes on
    /// top.
    pub fn replaced(&self) -> impl Iterator<Item = (&str, TensorView<'_>)> {
        self.replaced.iter().filter_map(|(tensor, name)| Some((tensor.as_str(), self.checkpoint.get(name)?)))
    }

    /// The file of weights.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }
}

/// Where configuration and weights would be.
fn place(path: &Path) -> (PathBuf, PathBuf) {
    match path.is_dir() {
        true => (path.join(CONFIG), path.join(WEIGHTS)),
        false => (path.with_file_name(CONFIG), path.to_owned()),
    }
}

impl LowRank {
    /// Name of the tensor in the base model.
    pub fn tensor(&self) -> &str {
        &self.tensor
    }

    /// Its shape there. Where `fan_in_fan_out` is set, that of a layer that stores its weight
    /// transposed; PEFT ignores the key for others, which only the base model can tell.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// What the product of the factors is multiplied by.
    pub fn scaling(&self) -> f64 {
        self.scaling
    }

    /// Columns of `B`.
    pub fn rank(&self) -> usize {
        self.b.len() / self.shape.rows()
    }

    /// `B`, rows of the tensor by rank, and `A`, rank by the other dimensions of the tensor; both
    /// row by row.
    pub fn factors(&self) -> (&[f32], &[f32]) {
        (&self.b, &self.a)
    }

    /// The difference for the transposed tensor.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Adapter`] for a tensor that is no matrix.
    pub fn transposed(&self) -> Result<Self, Error> {
        let &[rows, cols] = self.shape.dims() else {
            let why = format!("{} is no matrix", self.shape);
            return Err(Error::from(ErrorKind::Adapter { why }).of(&self.tensor));
        };
        let rank = self.rank();
        let shape = Shape::new(&[cols, rows]).map_err(|e| Error::from(ErrorKind::Adapter { why: e.to_string() }))?;
        let (b, a) = (transposed(&self.a, cols), transposed(&self.b, rank));
        Ok(Self { tensor: self.tensor.clone(), shape, scaling: self.scaling, b, a })
    }

    /// Rows of the difference: products in `f64`, added in the order of the rank, scaled, and
    /// rounded once. The same on every machine.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Usage`] for rows beyond the tensor or `out` of another length, and
    /// [`ErrorKind::Adapter`] for a difference beyond what `f32` holds.
    pub fn rows(&self, range: Range<usize>, out: &mut [f32]) -> Result<(), Error> {
        let (rank, rows, cols) = (self.rank(), self.shape.rows(), self.shape.cols());
        if range.start > range.end || range.end > rows || out.len() != range.len() * cols {
            let what = format!("rows {range:?} of {rows}x{cols} into {} elements", out.len());
            return Err(Error::from(ErrorKind::Usage { what }).of(&self.tensor));
        }
        let (level, mut sums) = (Level::best(), vec![0.0; cols]);
        let b = &self.b[range.start * rank..range.end * rank];
        for (b, out) in b.chunks(rank).zip(out.chunks_mut(cols)) {
            product_row(level, b, &self.a, &mut sums);
            out.iter_mut().zip(&sums).for_each(|(out, sum)| *out = (self.scaling * sum) as f32);
        }
        match out.iter().position(|x| !x.is_finite()) {
            None => Ok(()),
            Some(at) => {
                let why = format!("difference {} is beyond F32", range.start * cols + at);
                Err(Error::from(ErrorKind::Adapter { why }).of(&self.tensor))
            }
        }
    }
}

/// A name from a file, short and on one line.
fn quoted(name: &str) -> String {
    /// Characters that are shown.
    const SHOWN: usize = 120;
    let shown: String = name.escape_debug().take(SHOWN).collect();
    let cut = if name.escape_debug().nth(SHOWN).is_some() { "…" } else { "" };
    format!("`{shown}{cut}`")
}

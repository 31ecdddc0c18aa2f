//! Models in the folders of Hugging Face: `config.json` says what they are, safetensors hold their
//! weights.
//!
//! ```text
//! folder --> Config --.
//!                      >-- build --> Blueprint --> Decoder | Encoder
//! weights by name ----'
//! ```
//!
//! Weights stay where they are: a graph's tensors point into the mapped files, in the type in which
//! they are stored. What is small (norms, biases) is widened to single floats.

mod config;
mod decoder;
mod encoder;
mod family;
mod layers;
mod pairs;
mod rope;
mod weights;

use std::path::Path;
use std::sync::Arc;

use niwaki_tensors::{Checkpoint, Limits, read_limited};

use crate::error::{Error, ErrorKind};
use crate::graph::{Graph, ValueId};
pub use config::Config;
pub use encoder::Pooler;
pub use layers::{Layers, build_keeping};
pub use pairs::{Pair, Pairs, Unpaired};
pub use weights::{Lookup, Weight, stored};

/// The graph of a model, and what callers have to know of it.
#[derive(Clone, Debug)]
pub enum Blueprint {
    /// Text in, the next token out.
    Decoder(DecoderGraph),
    /// Text in, a vector a token out.
    Encoder(EncoderGraph),
}

/// The graph of a decoder.
///
/// Its inputs are `input_ids` `[T]`, `positions` `[T]`, `rows` `[R]` (of which positions logits are
/// wanted), and for each layer `cache.N.key` and `cache.N.value` `[P, heads, size]`
/// (P may differ between layers, see [`windows`](Self::windows)). Its outputs are
/// `logits` `[R, vocabulary]`, and keys and values with those of the text appended.
#[derive(Clone, Debug)]
pub struct DecoderGraph {
    /// The graph.
    pub graph: Graph,
    /// For each layer, heads and size of what is cached.
    pub cached: Vec<[usize; 2]>,
    /// For each layer, to how many positions of before its tokens' queries look at most, where that is
    /// bounded: what is cached may be cut to these.
    pub windows: Vec<Option<usize>>,
    /// The hidden states `[T, width]` between layers: what the first takes, and what each gives.
    pub hidden: Vec<ValueId>,
    /// How many tokens there are.
    pub vocabulary: usize,
    /// How long texts may be, as the model says it.
    pub context: usize,
    /// The weights that are one more in the graph than in their file: Gemma's norms.
    pub raised: Vec<ValueId>,
}

/// The graph of an encoder.
///
/// Its inputs are `input_ids`, `positions`, `attention_mask` and, where it has them,
/// `token_type_ids`, all `[B, T]`. Its outputs are `last_hidden_state` `[B, T, width]` and, where it tells classes of
/// texts, `logits` `[B, classes]`: they are called as transformers calls them.
#[derive(Clone, Debug)]
pub struct EncoderGraph {
    /// The graph.
    pub graph: Graph,
    /// The hidden states `[B, T, width]` between layers: what the first takes, and what each gives.
    pub hidden: Vec<ValueId>,
    /// How many tokens there are.
    pub vocabulary: usize,
    /// How long texts may be.
    pub context: usize,
    /// The position of the first token.
    pub first: usize,
    /// Whether tokens have types.
    pub types: bool,
    /// The names of the classes that it tells; none where it tells none.
    pub classes: Vec<String>,
    /// The layer behind it that its pretraining left, where the folder has one and nothing else stands there.
    pub pooler: Option<Pooler>,
}

/// Opens the model in a folder.
///
/// # Errors
///
/// A `config.json` that cannot be read, of a family that is not supported, or without what its
/// family needs; weights that are missing or of another shape: one error that names each.
pub fn open(folder: &Path) -> Result<Blueprint, Error> {
    let config = Config::open(folder)?;
    let checkpoint = Arc::new(Checkpoint::open(folder, &Limits::default()).map_err(unreadable)?);
    build(&config, &|name| Ok(stored(&checkpoint, name)?.map(Weight::from))).map_err(|e| e.at(folder))
}

/// Builds a model of weights from wherever they come.
///
/// # Errors
///
/// Those of [`open`] that are not of files.
pub fn build(config: &Config, lookup: Lookup<'_>) -> Result<Blueprint, Error> {
    match family::of(config)? {
        family::Family::Decoder(kind) => decoder::build(config, kind, lookup).map(Blueprint::Decoder),
        family::Family::Encoder(kind) => encoder::build(config, kind, lookup).map(Blueprint::Encoder),
    }
}

impl Config {
    /// Reads the `config.json` of a folder.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, or is no JSON object.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let path = folder.join("config.json");
        let text = read_limited(&path, &Limits::default()).map_err(unreadable)?;
        Self::parse(&text).map_err(|e| e.at(&path))
    }
}

fn unreadable(error: niwaki_tensors::Error) -> Error {
    ErrorKind::Tensors(Box::new(error)).into()
}

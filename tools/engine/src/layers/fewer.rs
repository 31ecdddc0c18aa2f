//! A checkpoint without some blocks of its model, as it is read: what `[[layers]]` of a recipe does.
//!
//! ```text
//! folder: tensors of blocks that go are dropped, those behind them get the numbers that `layers remove` gives
//!         them; `config.json` says how many there are
//! ONNX:   the graph that `layers remove` writes, and its initializers
//! ```
//!
//! Nothing is written in between, and what becomes of the tensors is the same as of those of a model that
//! `layers remove` has written.

use std::path::Path;

use niwaki_model::hf::Config;
use niwaki_prune::layers::kept;
use niwaki_tensors::Limits;

use super::folder::{OTHER_WEIGHTS, Renamed, check_weights, layers};
use super::graph::Network;
use super::{Removable, of_selection};
use crate::error::{Error, ErrorKind};
use crate::recipe::LayersRule;
use crate::source::{Onnx, Opened, Origin, Source, SourceTensor};

/// A model without some of its blocks.
#[derive(Debug)]
pub struct Fewer {
    /// The blocks that go, in the order in which they run.
    removed: Vec<usize>,
    /// What the rule says, to be compared with that of a recipe.
    rule: LayersRule,
    of: Of,
}

#[derive(Debug)]
enum Of {
    Folder {
        names: Renamed,
        /// The text of `config.json`.
        config: String,
    },
    Network(Box<Opened>),
}

impl Fewer {
    /// The model of a checkpoint without the blocks that a rule names.
    ///
    /// # Errors
    ///
    /// A checkpoint that is no model: neither a Hugging Face folder nor an ONNX file; those of
    /// [`Blocks::check`](super::Blocks::check) and of removing; halves, and rules, of a folder.
    pub fn new(opened: &Opened, rule: &LayersRule) -> Result<Self, Error> {
        let path = opened.path();
        let of = match opened {
            Opened::Onnx(_) => Of::Network(Box::new(network(path, rule)?)),
            Opened::Tensors(_) if path.join("config.json").is_file() => folder(opened, rule)?,
            _ => {
                let what =
                    "`[[layers]]` of what is no model: blocks are those of a Hugging Face folder or an ONNX file";
                return Err(Error::from(ErrorKind::Usage { what: what.to_owned() }).at(path));
            }
        };
        let mut removed = rule.remove.clone();
        removed.sort_unstable();
        Ok(Self { removed, rule: rule.clone(), of })
    }

    /// The blocks that go, in the order in which they run.
    pub fn removed(&self) -> &[usize] {
        &self.removed
    }

    /// What says which blocks go.
    pub(crate) fn rule(&self) -> &LayersRule {
        &self.rule
    }

    /// The text of the `config.json` of a folder.
    pub(crate) fn config(&self) -> Option<&str> {
        match &self.of {
            Of::Folder { config, .. } => Some(config),
            Of::Network(_) => None,
        }
    }

    /// Whether a file beside the weights has weights of all blocks, and does not go along.
    pub(crate) fn leaves_out(file: &Path) -> bool {
        let name = file.file_name().unwrap_or_default().as_encoded_bytes();
        OTHER_WEIGHTS.iter().any(|end| name.ends_with(end.as_bytes()))
    }

    /// The checkpoint as that of the model without them.
    ///
    /// # Errors
    ///
    /// Weights of a folder that do not stand for themselves.
    pub fn over<'a>(&'a self, source: Source<'a>) -> Result<Source<'a>, Error> {
        let name: &dyn Fn(&str) -> Option<String> = match &self.of {
            Of::Folder { names, .. } => &|name| names.name(name),
            Of::Network(opened) => match &**opened {
                Opened::Onnx(onnx) => &|name| onnx.has(name).then(|| name.to_owned()),
                _ => &|_| None,
            },
        };
        if let (Of::Folder { .. }, Origin::Niwaki | Origin::Foreign(_)) = (&self.of, source.origin()) {
            let what = "`[[layers]]` of a checkpoint that is compressed".to_owned();
            let error = Error::from(ErrorKind::Unsupported { what }).at(source.opened().path());
            return Err(error.hinting("remove layers first, then compress"));
        }
        let renamed = |tensor: &SourceTensor<'a>| Some(tensor.clone().called(name(tensor.name())?));
        let tensors = source.tensors().iter().filter_map(renamed).collect();
        let opened = match &self.of {
            Of::Folder { .. } => source.opened(),
            Of::Network(opened) => opened,
        };
        Ok(source.fewer_tensors(opened, tensors, self))
    }
}

fn folder(opened: &Opened, rule: &LayersRule) -> Result<Of, Error> {
    let model = opened.path();
    if rule.halves || rule.rule.is_some() {
        let what = "`halves` and `rule` of `[[layers]]` for a Hugging Face folder; they are for ONNX models".to_owned();
        return Err(Error::from(ErrorKind::Usage { what }).at(model));
    }
    let config = Config::open(model)?;
    let layers = layers(&config, model)?;
    let kept = kept(layers.count(), &rule.remove).map_err(|e| of_selection(&e, model))?;
    if let Some(artifact) = opened.artifact() {
        check_weights(artifact.checkpoint(), &layers)?;
    }
    let config = config.keeping(&kept).map_err(|e| e.at(model))?.to_text();
    Ok(Of::Folder { names: Renamed { layers, kept }, config })
}

fn network(path: &Path, rule: &LayersRule) -> Result<Opened, Error> {
    let network = Network::open(path, rule.halves)?;
    let otherwise = if network.convolves() { Removable::Code } else { Removable::Any };
    network.check(&rule.remove, rule.rule.unwrap_or(otherwise))?;
    let edited = Onnx::edited(path, &Limits::default(), |graph| network.edit(graph, &rule.remove))?;
    Ok(Opened::Onnx(Box::new(edited)))
}

//! Networks whose channels are gated, as files.

use std::path::{Path, PathBuf};

use niwaki_model::{Executor, Tensor, ValueId};
use niwaki_prune::Ratio;
use niwaki_prune::dynamic::Target;
use niwaki_tensors::{Checkpoint, Limits, Overwrite};
use serde::{Deserialize, Serialize};

use super::heads::{self, Head};
use super::sites::{Site, sites};
use super::{Dynamic, Pool};
use crate::described::{self, finite, floats};
use crate::error::{Error, ErrorKind};
use crate::model::Model;
use crate::train::{take, write_trained};

/// The key of the metadata.
const KEY: &str = "niwaki.dynamic";

/// What a file says of itself.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    version: u32,
    target: AboutTarget,
    pool: Pool,
    joint: bool,
    /// The weights of the convolutions that are gated, in the order of the graph.
    layers: Vec<String>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum AboutTarget {
    Mass(f64),
    Uniform(f64),
}

impl AboutTarget {
    pub(super) fn of(target: Target) -> Self {
        match target {
            Target::Mass(share) => Self::Mass(share.get()),
            Target::Uniform(share) => Self::Uniform(share.get()),
        }
    }

    pub(super) fn read(self) -> Result<Target, niwaki_prune::Error> {
        Ok(match self {
            Self::Mass(share) => Target::Mass(Ratio::new(share)?),
            Self::Uniform(share) => Target::Uniform(Ratio::new(share)?),
        })
    }
}

/// Writes the weights of a model, its running statistics and its heads.
pub(super) fn write(
    model: &Model,
    heads: &[(&str, Head)],
    how: &Dynamic,
    epoch: u64,
    (path, overwrite): (&Path, Overwrite),
) -> Result<(), Error> {
    let mut graph = model.graph().clone();
    for (name, head) in heads {
        let [weight, bias] = Head::names(name);
        graph.weight(weight, head.weight.clone());
        graph.weight(bias, head.bias.clone());
    }
    let layers = heads.iter().map(|(name, _)| (*name).to_owned()).collect();
    let target = AboutTarget::of(how.target);
    let about = About { version: 1, target, pool: how.pool, joint: how.joint, layers };
    let text = described::text(&about).map_err(|e| e.at(path))?;
    write_trained(&model.with(graph), Some(epoch), Some((KEY, &text)), (path, overwrite))
}

/// A file of weights and of the heads that gate their channels (`FORMAT.md`, *Gated networks*).
#[derive(Debug)]
pub struct HeadsFile {
    path: PathBuf,
    checkpoint: Checkpoint,
    about: About,
    how: Dynamic,
    heads: Vec<Head>,
}

impl HeadsFile {
    /// Opens a file.
    ///
    /// # Errors
    ///
    /// Those of [`Checkpoint::open`], and metadata that are of no such file.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::of_checkpoint(Checkpoint::open(path, &Limits::default())?)
    }

    /// What is in an open file.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open) that are of the file's contents.
    pub fn of_checkpoint(checkpoint: Checkpoint) -> Result<Self, Error> {
        let path = checkpoint.path().to_owned();
        let wrong = |what: String| Error::from(ErrorKind::Unlike { what }).at(&path);
        let about: About =
            described::about(&checkpoint, (KEY, "`dynamic train` makes such weights"), |about: &About| about.version)?;
        if about.layers.is_empty() {
            return Err(wrong("heads of no layers".to_owned()));
        }
        let target = about.target.read().map_err(|e| wrong(format!("its target: {e}")))?;
        let how = Dynamic { pool: about.pool, joint: about.joint, ..Dynamic::new(target) };
        let heads = about.layers.iter().map(|layer| head(&checkpoint, layer));
        let heads = heads.collect::<Result<Vec<_>, Error>>()?;
        Ok(Self { path, checkpoint, about, how, heads })
    }

    /// How its heads were trained.
    pub fn how(&self) -> &Dynamic {
        &self.how
    }

    /// A network that is gated: the model with the weights of this file, and its heads.
    ///
    /// # Errors
    ///
    /// A file that is of another model.
    pub fn network(&self, model: &Model) -> Result<Network, Error> {
        let wrong = |what: String| Error::from(ErrorKind::Unlike { what }).at(&self.path);
        let mut graph = model.graph().clone();
        graph.norms(None);
        take(model, &mut graph, &self.checkpoint)?;
        let sites = sites(model)?;
        if sites.len() != self.heads.len() {
            return Err(wrong(format!("heads of {} layers, the model has {}", self.heads.len(), sites.len())));
        }
        for ((site, layer), head) in sites.iter().zip(&self.about.layers).zip(&self.heads) {
            if site.name != *layer {
                return Err(wrong(format!("a head of `{layer}`, the model has `{}` there", site.name)));
            }
            let needs = [site.outputs, site.inputs];
            if head.weight.shape() != needs {
                let what = format!("a head of {:?} channels, the model has {needs:?}", head.weight.shape());
                return Err(wrong(what).of(layer));
            }
        }
        Ok(Network { model: model.with(graph), sites, heads: self.heads.clone(), how: self.how })
    }
}

/// The head of a layer.
fn head(checkpoint: &Checkpoint, layer: &str) -> Result<Head, Error> {
    let [weight, bias] = Head::names(layer);
    let weight = tensor(checkpoint, &weight, 2)?;
    let bias_tensor = tensor(checkpoint, &bias, 1)?;
    if weight.shape().first() != bias_tensor.shape().first() {
        let what = format!("a bias {:?} of a head {:?}", bias_tensor.shape(), weight.shape());
        return Err(Error::from(ErrorKind::Unlike { what }).of(&bias).at(checkpoint.path()));
    }
    Ok(Head { weight, bias: bias_tensor })
}

/// A tensor of floats, all finite, of so many dimensions.
fn tensor(checkpoint: &Checkpoint, name: &str, rank: usize) -> Result<Tensor, Error> {
    let wrong = || Error::from(ErrorKind::Unlike { what: "another number of elements".to_owned() }).of(name);
    let fits = |shape: &[usize]| shape.len() == rank && !shape.contains(&0);
    let view = floats(checkpoint, name, fits, format_args!("of {rank} dimensions"))?;
    Tensor::of(view.shape(), finite(checkpoint, &view)?).ok_or_else(|| wrong().at(checkpoint.path()))
}

/// A network whose channels are gated.
#[derive(Clone, Debug)]
pub struct Network {
    pub(super) model: Model,
    pub(super) sites: Vec<Site>,
    pub(super) heads: Vec<Head>,
    pub(super) how: Dynamic,
}

/// Where the heads of a network make their numbers, and what these are to tell.
pub(super) type Watched = Vec<(ValueId, ValueId)>;

impl Network {
    /// The model without gates.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The names of the weights of the convolutions that are gated.
    pub fn layers(&self) -> impl Iterator<Item = &str> {
        self.sites.iter().map(|site| site.name.as_str())
    }

    /// The model with its gates: channels that its heads leave out are computed, and made 0.
    pub fn gated(&self) -> Model {
        let mut graph = self.model.graph().clone();
        heads::place(&mut graph, (&self.sites, &self.heads), &self.how, None);
        self.model.with(graph)
    }

    /// Makes it ready to run so that channels which its heads leave out are not computed: those of convolutions
    /// of images of two dimensions. Its results are those of [`gated`](Self::gated) to the bit.
    ///
    /// # Errors
    ///
    /// Weights that do not fit their nodes.
    pub fn skipping(&self) -> Result<Executor, Error> {
        let at = |e: niwaki_model::Error| Error::from(e.at(self.model.path()));
        let mut graph = self.gated().graph().clone();
        graph.fold().map_err(at)?;
        graph.fuse().map_err(at)?;
        graph.skip().map_err(at)?;
        Executor::new(graph).map_err(at)
    }

    /// The model with its gates, where it is seen what heads tell, and what they were to.
    pub(super) fn watched(&self) -> (Model, Watched) {
        let mut graph = self.model.graph().clone();
        let weight = graph.weight("heads/weight", Tensor::vector(vec![0.0f32]));
        let placed = heads::place(&mut graph, (&self.sites, &self.heads), &self.how, Some(weight));
        let watched = placed.iter().filter_map(|placed| Some((placed.numbers, placed.targets?))).collect();
        (self.model.with(graph), watched)
    }
}

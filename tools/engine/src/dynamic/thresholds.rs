//! Thresholds of the channels of a transformer's feed-forward parts, as files (`FORMAT.md`, *Thresholds of channels*).

use std::path::{Path, PathBuf};

use niwaki_model::Graph;
use niwaki_prune::dynamic::Target;
use niwaki_tensors::{Checkpoint, Dtype, Limits, Overwrite, write_file};
use serde::{Deserialize, Serialize};

use super::file::AboutTarget;
use crate::described::{self, finite, floats};
use crate::error::{Error, ErrorKind};

/// The key of the metadata.
const KEY: &str = "niwaki.thresholds";

/// The tensor that has them.
const TENSOR: &str = "thresholds";

/// What a file says of itself.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    version: u32,
    target: AboutTarget,
    /// The first weights of the parts, in the order of the graph.
    layers: Vec<String>,
}

/// What the activation of a channel has to be at least for the channel to be computed, of each feed-forward part.
#[derive(Clone, Debug)]
pub struct Thresholds {
    path: PathBuf,
    target: Target,
    layers: Vec<String>,
    all: Vec<f32>,
}

impl Thresholds {
    /// Those of a target, each with the name of the first weight of its part.
    pub(super) fn new(target: Target, each: Vec<(String, f32)>) -> Self {
        let (layers, all) = each.into_iter().unzip();
        Self { path: PathBuf::new(), target, layers, all }
    }

    /// Opens a file.
    ///
    /// # Errors
    ///
    /// Those of [`Checkpoint::open`], and what is no such file.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::of_checkpoint(&Checkpoint::open(path, &Limits::default())?)
    }

    /// What is in an open file.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open) that are of the file's contents.
    pub fn of_checkpoint(checkpoint: &Checkpoint) -> Result<Self, Error> {
        let path = checkpoint.path().to_owned();
        let wrong = |what: String| Error::from(ErrorKind::Unlike { what });
        let made = "`dynamic plan` of a Hugging Face folder makes such files";
        let about: About = described::about(checkpoint, (KEY, made), |about: &About| about.version)?;
        let target = about.target.read().map_err(|e| wrong(format!("its target: {e}")).at(&path))?;
        let needs = about.layers.len();
        let view = floats(checkpoint, TENSOR, |shape| shape == [needs], format_args!("[{needs}]"))?;
        let all = finite(checkpoint, &view)?;
        if let Some(at) = all.iter().position(|x| x.is_sign_negative()) {
            return Err(wrong(format!("number {at} is {}, 0 or more expected", all[at])).of(TENSOR).at(&path));
        }
        Ok(Self { path, target, layers: about.layers, all })
    }

    /// Writes them.
    ///
    /// # Errors
    ///
    /// Those of writing.
    pub fn write(&self, (path, overwrite): (&Path, Overwrite)) -> Result<(), Error> {
        let about = About { version: 1, target: AboutTarget::of(self.target), layers: self.layers.clone() };
        let text = described::text(&about).map_err(|e| e.at(path))?;
        let bytes: Vec<u8> = self.all.iter().flat_map(|x| x.to_le_bytes()).collect();
        let tensors: [(&str, Dtype, &[usize], &[u8]); 1] = [(TENSOR, Dtype::F32, &[self.all.len()], &bytes)];
        Ok(write_file(path, &tensors, &[(KEY, &text)], overwrite)?)
    }

    /// Of what which share they were to leave.
    pub fn target(&self) -> Target {
        self.target
    }

    /// The first weights of the parts, and the threshold of each.
    pub fn each(&self) -> impl Iterator<Item = (&str, f32)> {
        self.layers.iter().map(String::as_str).zip(self.all.iter().copied())
    }

    /// Lets the feed-forward parts of a graph compute only the channels that are not below them.
    ///
    /// # Errors
    ///
    /// A graph that has other parts, or one whose weights are codes.
    pub(crate) fn skip(&self, graph: &mut Graph) -> Result<(), Error> {
        let wrong = |what: String| Error::from(ErrorKind::Unlike { what }).at(&self.path);
        let feeds = graph.feeds();
        if feeds.len() != self.layers.len() {
            let what = format!("thresholds of {} layers, the model has {} of floats", self.layers.len(), feeds.len());
            return Err(wrong(what));
        }
        if let Some((feed, layer)) = feeds.iter().zip(&self.layers).find(|(feed, layer)| feed.name != **layer) {
            return Err(wrong(format!("a threshold of `{layer}`, the model has `{}` there", feed.name)));
        }
        Ok(graph.skip_channels(&self.all)?)
    }
}

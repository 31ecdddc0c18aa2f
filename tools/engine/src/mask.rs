//! Masks as files: which weights of a checkpoint are kept.
//!
//! ```text
//! score:  model [, data] --> masks of the weights that a criterion finds most important
//! search: the same, by gradients (`jackpot`)
//! apply:  checkpoint, masks --> checkpoint with zeros
//! ```
//!
//! A mask file is safetensors: for each tensor `NAME.mask`, U8 `[rows, columns / 8]`, bit 0 of a byte the first of its
//! eight columns; under their own names the running statistics that a search ended with; and under the key `niwaki.mask` of
//! the metadata how it was made and, by tensor, the digest of the weights that it is for.

mod apply;
mod choice;
pub(crate) mod outputs;
mod score;
mod sparsegpt;
mod wanda;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use niwaki_codes::Mask;
use niwaki_codes::simd::Level;
use niwaki_container::{Digest, canonical};
use niwaki_model::{Graph, Tensor, ValueId};
use niwaki_prune::{Budget, Overlap, Ratio};
use niwaki_tensors::{Checkpoint, Dtype, Limits, Overwrite, write_file};
use serde::Serialize;
use serde_json::{Value, json};

use crate::dataset::normals;
use crate::error::{Blame, Error, ErrorKind};
use crate::source::SourceTensor;
pub use apply::{Application, Applied, apply};
pub(crate) use choice::{Product, chosen};
pub use score::{Criterion, Of, Scored, Scoring, score};
pub use sparsegpt::{Damped, Update, Updated};

/// The key of the metadata.
const KEY: &str = "niwaki.mask";

/// Rows and columns of a tensor of that shape.
pub(crate) fn matrix(shape: &[usize]) -> (usize, usize) {
    let rows = shape.first().copied().unwrap_or(1);
    (rows, shape.iter().skip(1).product())
}

/// Weights of a graph with their names.
pub(crate) fn weights_of(graph: &Graph, values: &[ValueId]) -> Vec<(String, Tensor)> {
    let named = |value: &ValueId| Some((graph.name(*value).to_owned(), graph.constant(*value)?.clone()));
    values.iter().filter_map(named).collect()
}

/// Numbers of the normal distribution, for masks at random.
pub(crate) fn drawn(len: usize, seed: u64, name: &str) -> Vec<f32> {
    normals(len, seed, name).into_iter().map(|x| x as f32).collect()
}

/// How many weights of each tensor stay, and the tensors that keep one where the budget has none for them.
pub(crate) fn counts(
    weights: &[(String, Tensor)],
    keep: Ratio,
    budget: Budget,
) -> Result<(Vec<u64>, Vec<String>), Error> {
    let all: Vec<(&[usize], &[f32])> =
        weights.iter().map(|(_, tensor)| (tensor.shape(), tensor.get::<f32>().unwrap_or_default())).collect();
    let found = budget.divide(Level::best(), keep, &all).map_err(|e| Error::below(e, Blame::Input))?;
    let guarded = found.guarded.iter().filter_map(|at| Some(weights.get(*at)?.0.clone())).collect();
    Ok((found.counts, guarded))
}

/// The digest of a tensor's weights, as masks know them.
fn digest(weights: &[f32]) -> Digest {
    let bytes: Vec<u8> = weights.iter().flat_map(|w| w.to_le_bytes()).collect();
    Digest::of(&bytes)
}

/// What is said of masks where they are written.
#[derive(Clone, Debug)]
pub(crate) struct Written(Value);

impl Written {
    /// Of masks of these weights.
    pub(crate) fn new<'m>(by: &str, masks: impl Iterator<Item = &'m Mask>, weights: &[(String, Tensor)]) -> Self {
        let count = |(kept, all), mask: &Mask| (kept + mask.view().kept(), all + mask.rows() * mask.cols());
        let (kept, all) = masks.fold((0, 0), count);
        let digests: BTreeMap<&str, String> = weights
            .iter()
            .map(|(name, tensor)| (name.as_str(), digest(tensor.get::<f32>().unwrap_or_default()).to_string()))
            .collect();
        let columns: BTreeMap<&str, usize> =
            weights.iter().map(|(name, tensor)| (name.as_str(), matrix(tensor.shape()).1)).collect();
        Self(json!({"version": 1, "by": by, "kept": kept, "weights": all, "columns": columns, "digests": digests}))
    }
}

/// Writes masks, and statistics that go with them.
pub(crate) fn write(
    masks: &[(&str, Mask)],
    statistics: &[(&str, &Tensor)],
    about: &Written,
    path: &Path,
    overwrite: Overwrite,
) -> Result<(), Error> {
    let names: Vec<String> = masks.iter().map(|(name, _)| format!("{name}.mask")).collect();
    let shapes: Vec<[usize; 2]> = masks.iter().map(|(_, mask)| [mask.rows(), mask.cols().div_ceil(8)]).collect();
    let numbers: Vec<Vec<u8>> = statistics.iter().map(|(_, tensor)| tensor.data().to_bytes()).collect();
    // Wide elements first: each stands where it is aligned.
    let mut tensors: Vec<(&str, Dtype, &[usize], &[u8])> = statistics
        .iter()
        .zip(&numbers)
        .map(|((name, tensor), bytes)| (*name, Dtype::F32, tensor.shape(), bytes.as_slice()))
        .collect();
    for ((name, shape), (_, mask)) in names.iter().zip(&shapes).zip(masks) {
        tensors.push((name, Dtype::U8, shape, mask.bytes()));
    }
    Ok(write_file(path, &tensors, &[(KEY, &canonical(&about.0))], overwrite)?)
}

/// An open mask file.
#[derive(Debug)]
pub struct MaskFile {
    path: PathBuf,
    checkpoint: Checkpoint,
    digests: BTreeMap<String, String>,
    /// Columns by tensor: a row's last byte may have bits that are none.
    columns: BTreeMap<String, usize>,
}

impl MaskFile {
    /// Opens a file.
    ///
    /// # Errors
    ///
    /// Those of [`Checkpoint::open`], a file without masks, and metadata that are none.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::of_checkpoint(Checkpoint::open(path, &Limits::default())?)
    }

    /// The masks in an open file.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open) that are of the file's contents.
    pub fn of_checkpoint(checkpoint: Checkpoint) -> Result<Self, Error> {
        let path = checkpoint.path().to_owned();
        let wrong = |why: &str| Error::from(ErrorKind::Mask { why: why.to_owned() }).at(&path);
        if !checkpoint.tensors().any(|view| view.name().ends_with(".mask")) {
            return Err(wrong("no tensor `NAME.mask`").hinting("`mask score` and `mask search` make one"));
        }
        let (mut digests, mut columns) = (BTreeMap::new(), BTreeMap::new());
        if let Some(text) = checkpoint.metadata().get(KEY) {
            let value: Value = serde_json::from_str(text).map_err(|_| wrong("`niwaki.mask` is no JSON"))?;
            let listed = value.get("digests").and_then(Value::as_object);
            for (name, digest) in listed.ok_or_else(|| wrong("`niwaki.mask` has no `digests`"))? {
                digests.insert(name.clone(), digest.as_str().unwrap_or_default().to_owned());
            }
            for (name, count) in value.get("columns").and_then(Value::as_object).into_iter().flatten() {
                columns.extend(count.as_u64().and_then(|count| Some((name.clone(), usize::try_from(count).ok()?))));
            }
        }
        Ok(Self { path, checkpoint, digests, columns })
    }

    /// The tensors that it masks.
    pub fn names(&self) -> Vec<&str> {
        let names = self.checkpoint.tensors().filter_map(|view| view.name().strip_suffix(".mask"));
        let mut names: Vec<&str> = names.collect();
        names.sort_unstable();
        names
    }

    /// The mask of a tensor of so many rows and columns.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Mask`] where it has none, or one of another size.
    pub fn mask(&self, name: &str, (rows, cols): (usize, usize)) -> Result<Mask, Error> {
        let wrong = |why: String| Error::from(ErrorKind::Mask { why }).of(name).at(&self.path);
        let part = format!("{name}.mask");
        let view = self.checkpoint.get(&part).ok_or_else(|| wrong(format!("no tensor `{part}`")))?;
        let (has, needs) = (view.shape(), [rows, cols.div_ceil(8)]);
        if has != needs || view.dtype() != Dtype::U8 {
            let found: Vec<_> = has.iter().map(ToString::to_string).collect();
            let (found, dtype) = (found.join("x"), view.dtype());
            return Err(wrong(format!(
                "`{part}` is {dtype} {found}; {rows}x{cols} weights need U8 {}x{}",
                needs[0], needs[1]
            )));
        }
        Mask::new(rows, cols, view.bytes().to_vec()).map_err(|e| wrong(e.to_string()))
    }

    /// Its mask, of as many columns as the file says, else as its bytes have bits.
    pub(crate) fn own(&self, name: &str) -> Result<Mask, Error> {
        let shape = self.checkpoint.get(&format!("{name}.mask")).map(|view| view.shape().to_vec()).unwrap_or_default();
        let [rows, bytes] = shape[..] else { return self.mask(name, (1, 1)) };
        let columns = self.columns.get(name).copied().unwrap_or_else(|| bytes.saturating_mul(8));
        self.mask(name, (rows, columns))
    }

    /// Whether a mask is for other weights than a tensor's.
    fn is_for_others(&self, name: &str, tensor: &SourceTensor<'_>) -> Result<bool, Error> {
        let Some(says) = self.digests.get(name) else { return Ok(false) };
        let mut weights = vec![0.0; tensor.shape().elements()];
        tensor.decode(0..weights.len(), &mut weights)?;
        Ok(*says != digest(&weights).to_string())
    }

    /// Running statistics that go with the masks.
    fn statistics(&self) -> Result<Vec<(String, Vec<f32>)>, Error> {
        let all = self.checkpoint.tensors().filter(|view| view.dtype() == Dtype::F32);
        let numbers = |view: niwaki_tensors::TensorView<'_>| {
            let mut all = vec![0.0; view.elements()];
            view.decode_f32(0..all.len(), &mut all)?;
            Ok((view.name().to_owned(), all))
        };
        all.map(numbers).collect()
    }
}

/// Mask files opened so far, each once.
#[derive(Default)]
pub(crate) struct MaskFiles(Vec<MaskFile>);

impl MaskFiles {
    /// The mask of a tensor in the file at `path`, as [`MaskFile::mask`] has it.
    pub(crate) fn mask(&mut self, path: &Path, name: &str, size: (usize, usize)) -> Result<Mask, Error> {
        let at = match self.0.iter().position(|file| file.path == path) {
            Some(at) => at,
            None => {
                self.0.push(MaskFile { path: path.to_owned(), ..MaskFile::open(path)? });
                self.0.len() - 1
            }
        };
        self.0[at].mask(name, size)
    }
}

/// What two mask files have in common.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Compared {
    /// By tensor.
    pub tensors: Vec<ComparedTensor>,
    /// Of all tensors.
    pub all: ComparedTensor,
}

/// What two masks have in common; shares are of 1.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ComparedTensor {
    /// The tensor.
    pub name: String,
    /// Weights that the first mask keeps.
    pub first: u64,
    /// Weights that the second mask keeps.
    pub second: u64,
    /// Weights that both keep.
    pub both: u64,
    /// The share of the first that the second keeps too.
    pub overlap: f64,
    /// What that share would be of as many at random.
    pub chance: f64,
    /// What both keep of what one of them keeps.
    pub iou: f64,
    /// What that would be of as many at random, about.
    pub iou_chance: f64,
}

impl ComparedTensor {
    fn new(name: &str, found: &Overlap) -> Self {
        Self {
            name: name.to_owned(),
            first: found.first,
            second: found.second,
            both: found.both,
            overlap: found.share(),
            chance: found.chance(),
            iou: found.iou(),
            iou_chance: found.iou_by_chance(),
        }
    }
}

/// Compares two mask files.
///
/// # Errors
///
/// Masks of other tensors, or of other sizes.
pub fn compare(first: &MaskFile, second: &MaskFile) -> Result<Compared, Error> {
    let (names, others) = (first.names(), second.names());
    if let Some(name) = names.iter().find(|name| !others.contains(name)) {
        return Err(Error::from(ErrorKind::Mask { why: "no mask".to_owned() }).of(name).at(&second.path));
    }
    if let Some(name) = others.iter().find(|name| !names.contains(name)) {
        return Err(Error::from(ErrorKind::Mask { why: "no mask".to_owned() }).of(name).at(&first.path));
    }
    let mut all = Overlap::default();
    let mut tensors = Vec::with_capacity(names.len());
    for name in names {
        let (a, b) = (first.own(name)?, second.own(name)?);
        let found = Overlap::of(&a, &b).map_err(|e| Error::below(e, Blame::Input).of(name).at(&second.path))?;
        tensors.push(ComparedTensor::new(name, &found));
        all += found;
    }
    Ok(Compared { tensors, all: ComparedTensor::new("all", &all) })
}

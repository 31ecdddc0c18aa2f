//! A Hugging Face folder with fewer layers: weights that stay keep their bytes, under their new numbers.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use niwaki_model::hf::{Config, Layers};
use niwaki_prune::layers::kept;
use niwaki_tensors::{
    Checkpoint, Entry, Layout, Limits, Overwrite, Source as Place, TensorView, Writer, is_reserved, metadata_len,
    write_index,
};
use rayon::prelude::*;

use super::heal::{Healed, Kept, heal};
use super::{Sample, layers};
use crate::compress::Options;
use crate::error::{Error, ErrorKind};
use crate::layers::of_selection;
use crate::progress::{Progress, counting};
use crate::source::{Names, Opened, Origin};
use crate::swap::{Partial, check_place};
use crate::target::file_error;

/// Bytes that are copied at a time.
const PIECE: usize = 8 << 20;

/// How the names of files end that hold weights: those of a folder that is replaced do not stay.
const WEIGHTS: [&str; 2] = [".safetensors", ".safetensors.index.json"];

/// How the names of files end that hold weights in other formats: those of all layers.
pub(in crate::layers) const OTHER_WEIGHTS: [&str; 10] =
    [".bin", ".bin.index.json", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".ot", ".gguf", ".onnx"];

/// What came of a removal.
#[derive(Clone, Debug)]
pub struct Removed {
    /// The blocks that went, in the order in which they ran.
    pub removed: Vec<usize>,
    /// The blocks that stayed, by their old numbers; their new ones are their places here.
    pub kept: Vec<usize>,
    /// Weights of the model before.
    pub weights_before: u64,
    /// Weights of the model after.
    pub weights_after: u64,
    /// Bytes of the safetensors files before.
    pub input_bytes: u64,
    /// Bytes of the safetensors files after.
    pub output_bytes: u64,
    /// Files that were not copied: weights in other formats, which have all blocks.
    pub left_out: Vec<String>,
    /// What became of each run of blocks that went, where layers before them do what they did.
    pub healed: Vec<Healed>,
}

/// How layers before those that go take over what these did.
#[derive(Clone, Copy, Debug)]
pub struct Healing<'h> {
    /// The texts on which the least is to be lost.
    pub sample: Sample<'h>,
    /// How much is added to the diagonal, as a share of the mean square of what a matrix takes.
    pub damping: f64,
}

/// Looks at the place of an output before any work is done, and puts back what a killed run took away there.
///
/// # Errors
///
/// A path that names no folder, is a file or the model itself, or exists (unless it may be
/// replaced); a place in no folder.
pub fn check_output(model: &Path, out: &Path, replace: bool) -> Result<(), Error> {
    let usage = |what: &str| Error::from(ErrorKind::Usage { what: what.to_owned() }).at(out);
    if out.file_name().is_none() {
        return Err(usage("names no folder to write"));
    }
    let within = out.parent().filter(|parent| !parent.as_os_str().is_empty());
    if within.is_some_and(|parent| !parent.is_dir()) {
        return Err(usage("is to be in a folder that does not exist"));
    }
    let canonical = |path: &Path| path.canonicalize().ok();
    if let (Some(model), Some(out)) = (canonical(model), canonical(out))
        && model.starts_with(&out)
    {
        return Err(usage(if model == out { "is the input; the output is another folder" } else { "holds the input" }));
    }
    check_place(out, replace)
}

/// Writes the model in a folder without some of its blocks to the folder `out`.
///
/// Tensors that stay keep their bytes, their order and their files. Layers are numbered anew,
/// `config.json` says how many there are and what each sees, an index is written anew, and the other files
/// are copied. Where it is healed, the last matrix of each layer before those that go is another one. The folder is complete
/// when it gets its name. `progress` is told the bytes written, and all there are.
///
/// # Errors
///
/// Blocks that are not there, are named twice, none, or all; weights that are quantized, or of layers that
/// `config.json` does not know; those of [`check_output`], of reading and of writing. The output is then as
/// it was.
pub fn remove(
    model: &Path,
    (blocks, healing): (&[usize], Option<Healing<'_>>),
    out: &Path,
    options: &Options,
    progress: Progress<'_>,
) -> Result<Removed, Error> {
    check_output(model, out, options.replace)?;
    let config = Config::open(model)?;
    let layers = layers(&config, model)?;
    let kept = kept(layers.count(), blocks).map_err(|e| of_selection(&e, model))?;
    let opened = Opened::open(model, &Limits::default())?;
    let checkpoint = plain(&opened)?;
    check_weights(checkpoint, &layers)?;
    let text = config.keeping(&kept).map_err(|e| e.at(model))?.to_text();
    let healed = match healing {
        None => Vec::new(),
        Some(Healing { sample, damping }) => {
            let of = Kept { model, layers: &layers, kept: &kept };
            options.pool()?.install(|| heal(of, sample, damping, progress))?
        }
    };
    let removal = Removal { checkpoint, names: Renamed { layers, kept }, options, healed };
    let partial = Partial::new(out, options.replace, &WEIGHTS)?;
    let (weights, output_bytes) = removal.write(&partial.path, progress)?;
    let left_out = removal.copy_others(&partial.path, &text)?;
    checkpoint.ensure_unchanged()?;
    if options.durable {
        sync(&partial.path)?;
    }
    partial.finish()?;
    let mut removed = blocks.to_vec();
    removed.sort_unstable();
    Ok(Removed {
        removed,
        kept: removal.names.kept,
        weights_before: weights[0],
        weights_after: weights[1],
        input_bytes: opened.file_bytes(),
        output_bytes,
        left_out,
        healed: removal.healed,
    })
}

/// The checkpoint, where its tensors stand for themselves.
fn plain(opened: &Opened) -> Result<&Checkpoint, Error> {
    let origin = opened.source(None, Names::Own)?.origin().clone();
    let format = match (&origin, opened.artifact()) {
        (Origin::Plain, Some(artifact)) => return Ok(artifact.checkpoint()),
        (Origin::Foreign(format), _) => format,
        _ => "niwaki",
    };
    let what = format!("is compressed ({format}); layers are removed from plain weights");
    let error = Error::from(ErrorKind::Usage { what }).at(opened.path());
    Err(error.hinting("remove layers first, then compress"))
}

/// Whether there are weights for each layer, and for no other.
pub(in crate::layers) fn check_weights(checkpoint: &Checkpoint, layers: &Layers) -> Result<(), Error> {
    let wrong = |what: String| Error::from(ErrorKind::Unlike { what }).at(checkpoint.path());
    let mut found = BTreeSet::new();
    for tensor in checkpoint.tensors() {
        let Some(layer) = layers.of_weight(tensor.name()) else { continue };
        if layer >= layers.count() {
            let what = format!("is of layer {layer}; `{}` is {}", layers.key(), layers.count());
            return Err(wrong(what).of(tensor.name()));
        }
        found.insert(layer);
    }
    match (0..layers.count()).find(|layer| !found.contains(layer)) {
        Some(layer) => Err(wrong(format!("no weight of layer {layer}; `{}` is {}", layers.key(), layers.count()))),
        None => Ok(()),
    }
}

/// What tensors are called where some layers are gone.
#[derive(Debug)]
pub(in crate::layers) struct Renamed {
    pub(in crate::layers) layers: Layers,
    /// The layers that stay, by their old numbers.
    pub(in crate::layers) kept: Vec<usize>,
}

impl Renamed {
    /// What a tensor is called afterwards; none where it goes.
    pub(in crate::layers) fn name(&self, old: &str) -> Option<String> {
        let Some(layer) = self.layers.of_weight(old) else { return Some(old.to_owned()) };
        self.layers.renamed(old, self.kept.binary_search(&layer).ok()?)
    }
}

/// What is done to a checkpoint.
struct Removal<'r> {
    checkpoint: &'r Checkpoint,
    names: Renamed,
    options: &'r Options,
    healed: Vec<Healed>,
}

impl Removal<'_> {
    /// The bytes of a tensor that stays.
    fn bytes<'t>(&self, tensor: &TensorView<'t>) -> Result<Cow<'t, [u8]>, Error> {
        let Some(healed) = self.healed.iter().find(|one| one.tensor == tensor.name()) else {
            return Ok(Cow::Borrowed(tensor.bytes()));
        };
        let bytes = healed.weights.data().to_bytes();
        match bytes.len() == tensor.bytes().len() {
            true => Ok(Cow::Owned(bytes)),
            false => {
                let what = format!("healing a tensor of type {}", tensor.dtype());
                Err(Error::from(ErrorKind::Unsupported { what }).of(tensor.name()).at(self.checkpoint.path()))
            }
        }
    }

    /// The tensors of each file that stay, with their new names.
    fn shards(&self) -> Vec<Vec<(String, TensorView<'_>)>> {
        let mut shards: Vec<_> = self.checkpoint.shards().iter().map(|_| Vec::new()).collect();
        for tensor in self.checkpoint.tensors().filter(|tensor| !is_reserved(tensor.name())) {
            if let (Some(name), Some(shard)) = (self.names.name(tensor.name()), shards.get_mut(tensor.shard())) {
                shard.push((name, tensor));
            }
        }
        shards
    }

    /// The name of a file within the folder.
    fn file(&self, shard: usize) -> PathBuf {
        let path = self.checkpoint.shards().get(shard).map_or(Path::new(""), |shard| shard.path());
        let within = match self.checkpoint.source() {
            Place::Folder { folder, .. } => path.strip_prefix(folder).ok(),
            _ => None,
        };
        within.map(Path::to_owned).or_else(|| path.file_name().map(PathBuf::from)).unwrap_or_default()
    }

    /// Writes the files and, where there was one, the index. Weights before and after, and bytes.
    fn write(&self, folder: &Path, progress: Progress<'_>) -> Result<([u64; 2], u64), Error> {
        let shards = self.shards();
        let bytes = |(_, tensor): &(String, TensorView<'_>)| tensor.bytes().len() as u64;
        let total = shards.iter().flatten().map(bytes).sum();
        let done = counting(progress, total);
        let pool = self.options.pool()?;
        let mut written = 0;
        for (index, tensors) in shards.iter().enumerate().filter(|(_, tensors)| !tensors.is_empty()) {
            let path = folder.join(self.file(index));
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).map_err(|e| file_error(&e, parent))?;
            }
            written += pool.install(|| self.write_shard(index, tensors, &path, &done))?;
        }
        if let Place::Folder { index: Some(_), .. } = self.checkpoint.source() {
            let files: Vec<String> =
                (0..shards.len()).map(|shard| self.file(shard).to_string_lossy().into_owned()).collect();
            let each = shards
                .iter()
                .zip(&files)
                .flat_map(|(tensors, file)| tensors.iter().map(move |all| (all.0.as_str(), file.as_str(), bytes(all))));
            write_index(folder, each, Overwrite::Refuse)?;
        }
        let elements = |tensor: &TensorView<'_>| tensor.elements() as u64;
        let before = self.checkpoint.tensors().filter(|tensor| !is_reserved(tensor.name()));
        let after = shards.iter().flatten().map(|(_, tensor)| elements(tensor)).sum();
        Ok(([before.map(|tensor| elements(&tensor)).sum(), after], written))
    }

    /// Writes one file; its bytes.
    fn write_shard(
        &self,
        index: usize,
        tensors: &[(String, TensorView<'_>)],
        path: &Path,
        done: &(dyn Fn(u64) + Sync),
    ) -> Result<u64, Error> {
        let entry = |(name, tensor): &(String, TensorView<'_>)| Entry {
            name: name.clone(),
            dtype: tensor.dtype(),
            shape: tensor.shape().to_vec(),
        };
        let texts = self.checkpoint.shards().get(index).map(|shard| shard.metadata());
        let texts: Vec<(&str, &str)> =
            texts.into_iter().flatten().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let layout = Layout::exact(tensors.iter().map(entry).collect(), metadata_len(&texts))?;
        let bytes = layout.file_bytes();
        let writer = Writer::create(path, layout, Overwrite::Refuse)?;
        tensors.par_iter().enumerate().try_for_each(|(at, (_, tensor))| {
            self.bytes(tensor)?.par_chunks(PIECE).enumerate().try_for_each(|(piece, bytes)| {
                writer.write_at(at, (piece * PIECE) as u64, bytes)?;
                done(bytes.len() as u64);
                Ok::<_, Error>(())
            })
        })?;
        writer.finish(&texts, self.options.durable)?;
        Ok(bytes)
    }

    /// Writes `config.json` and copies the other files but those of weights, whose names are given back.
    fn copy_others(&self, folder: &Path, config: &str) -> Result<Vec<String>, Error> {
        let mut left_out = Vec::new();
        for from in self.checkpoint.folder_files()? {
            let Some(name) = from.file_name() else { continue };
            if OTHER_WEIGHTS.iter().any(|end| name.as_encoded_bytes().ends_with(end.as_bytes())) {
                left_out.push(name.to_string_lossy().into_owned());
                continue;
            }
            let to = folder.join(name);
            let done = if name == "config.json" { fs::write(&to, config) } else { fs::copy(&from, &to).map(|_| ()) };
            done.map_err(|e| file_error(&e, &to))?;
        }
        Ok(left_out)
    }
}

/// Waits until the disk has the small files of a folder, and the folder.
fn sync(folder: &Path) -> Result<(), Error> {
    let of = |path: &Path| fs::File::open(path).and_then(|file| file.sync_all()).map_err(|e| file_error(&e, path));
    for item in fs::read_dir(folder).map_err(|e| file_error(&e, folder))? {
        let path = item.map_err(|e| file_error(&e, folder))?.path();
        if path.is_file() {
            of(&path)?;
        }
    }
    of(folder)
}

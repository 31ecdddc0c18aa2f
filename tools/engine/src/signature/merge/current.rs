//! The stack that a checkpoint has now, and what takes it off.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use niwaki_container::{Artifact, Digest, Kind, Meta, Sidecar, State, Undo, apply_correction, chunks, tensor_digest};
use niwaki_tensors::Limits;

use super::hashes::Contents;
use super::storage::Stored;
use crate::error::{Error, ErrorKind};
use crate::signature::identity;
use crate::signature::opened::{Patch, Signature};
use crate::source::{Opened, SourceTensor};

/// A patch of the stack.
pub(super) struct Entry {
    pub(super) signature: Signature,
    pub(super) alpha: f64,
}

impl Entry {
    pub(super) fn patch(&self) -> Patch<'_> {
        Patch { signature: &self.signature, alpha: self.alpha, transfer: true }
    }
}

/// A checkpoint's stack, and what takes it off.
pub(super) struct Current<'a> {
    opened: &'a Opened,
    /// The patches, oldest first.
    pub(super) stack: Vec<Entry>,
    record: Record<'a>,
}

/// Where what takes a stack off is.
enum Record<'a> {
    /// There is no stack.
    None,
    /// In the container itself.
    Inside(Box<Undo<'a>>),
    /// In a file beside it.
    Beside(Box<Sidecar>),
}

impl<'a> Current<'a> {
    pub(super) fn of(opened: &'a Opened) -> Result<Self, Error> {
        let record = record(opened)?;
        let mut stack = Vec::new();
        let patches = match &record {
            Record::None => &[][..],
            Record::Inside(undo) => undo.patches(),
            Record::Beside(sidecar) => sidecar.patches(),
        };
        for (index, patch) in patches.iter().enumerate() {
            let artifact = match &record {
                Record::Inside(undo) => undo.signature(index)?,
                Record::Beside(sidecar) => sidecar.signature(index)?,
                Record::None => continue,
            };
            let signature = Signature::of(Opened::Tensors(Box::new(artifact)), patch.name.clone())?;
            stack.push(Entry { signature, alpha: patch.alpha });
        }
        Ok(Self { opened, stack, record })
    }

    fn container(&self) -> Option<&'a Artifact> {
        self.opened.artifact().filter(|artifact| artifact.kind() == Kind::Container)
    }

    /// The metadata of a container without patches.
    pub(super) fn original(&self) -> Option<&Meta> {
        match &self.record {
            Record::Inside(undo) => Some(undo.original()),
            _ => self.container()?.metas().first(),
        }
    }

    /// The header of the container without patches, and the bytes of its data.
    pub(super) fn original_file(&self) -> Option<(&[u8], usize)> {
        let shard = self.container()?.checkpoint().shards().first()?;
        Some(match &self.record {
            Record::Inside(undo) => (undo.header(), undo.data_bytes()),
            _ => (shard.bytes().get(..shard.data_start())?, shard.bytes().len() - shard.data_start()),
        })
    }

    /// Digest of the checkpoint without patches, where it is known without reading it.
    pub(super) fn base(&self) -> Option<Digest> {
        match &self.record {
            Record::Beside(sidecar) => Some(sidecar.base()),
            _ => self.original().map(|meta| meta.digest),
        }
    }

    /// Digests of the checkpoint without patches and of those that it descends from, as far as they
    /// are known without reading it.
    pub(super) fn lineage(&self) -> Vec<Digest> {
        let meta = self.original().into_iter();
        let above = meta.flat_map(|meta| meta.lineage.parents.iter().copied().chain(meta.lineage.source));
        above.chain(self.base()).collect()
    }

    /// Digests of a tensor without patches, and of the one that it was made from.
    pub(super) fn digests(&self, contents: &Contents, tensor: &SourceTensor<'_>) -> Result<Vec<Digest>, Error> {
        if let Some(meta) = self.original().and_then(|meta| meta.tensors.get(tensor.name())) {
            return Ok([meta.digest].into_iter().chain(meta.source_digest).collect());
        }
        Ok(vec![match self.original_content(tensor.name()) {
            Some(content) => tensor_digest(tensor.dtype(), tensor.shape().dims(), content),
            None => contents.of_tensor(tensor)?,
        }])
    }

    /// Refuses contents that are not those that were written: of `all` tensors, or of those that
    /// are there.
    pub(super) fn check(&self, contents: &Contents, all: bool) -> Result<(), Error> {
        let same = |name: &str, says: Option<&Digest>, of: &str| match contents.0.get(of) {
            None if !all => Ok(()),
            has => same(name, says, has),
        };
        if let Some(artifact) = self.container() {
            for meta in artifact.metas() {
                for (name, tensor) in &meta.tensors {
                    for (spec, says) in &tensor.parts {
                        same(name, Some(says), &spec.part.name(name))?;
                    }
                }
            }
        }
        let Record::Beside(sidecar) = &self.record else { return Ok(()) };
        for (name, state) in sidecar.tensors() {
            same(name, Some(&state.patched), name)?;
        }
        match contents.0.keys().find(|name| !sidecar.tensors().contains_key(*name)) {
            Some(name) => same(name, None, name),
            None => Ok(()),
        }
    }

    /// The content hash of a physical tensor without patches, where it is known.
    pub(super) fn original_content(&self, name: &str) -> Option<Digest> {
        match &self.record {
            Record::Beside(sidecar) => sidecar.tensors().get(name)?.original,
            _ => None,
        }
    }

    /// The corrections of a tensor's parts, by their number.
    pub(super) fn corrections(&self, stored: &Stored<'_>) -> Result<BTreeMap<usize, Corrections<'_>>, Error> {
        let mut found = BTreeMap::new();
        for (at, part) in stored.parts.iter().enumerate() {
            let stream = match &self.record {
                Record::None => None,
                Record::Inside(undo) => undo.corrections(stored.tensor.name(), part.part),
                Record::Beside(sidecar) => sidecar.corrections(&part.name),
            };
            if let Some(stream) = stream {
                found.insert(at, Corrections(chunks(stream)?));
            }
        }
        Ok(found)
    }
}

/// Refuses what is not what was written.
fn same(name: &str, says: Option<&Digest>, has: Option<&Digest>) -> Result<(), Error> {
    if says == has {
        return Ok(());
    }
    let short = |digest: Option<&Digest>| digest.map_or_else(|| "nothing".to_owned(), identity::short);
    let what = format!("was changed after it was written: digest is {}, {} expected", short(has), short(says));
    Err(Error::from(ErrorKind::Patch { what }).of(name))
}

/// The record of a checkpoint.
fn record(opened: &Opened) -> Result<Record<'_>, Error> {
    let Some(artifact) = opened.artifact().filter(|artifact| artifact.kind() == Kind::Container) else {
        return beside(opened);
    };
    if artifact.metas().len() > 1 {
        let what = format!("patches in a container of {} files", artifact.metas().len());
        return Err(Error::from(ErrorKind::Unsupported { what }).at(opened.path()));
    }
    let undo = artifact.undo()?.into_iter().flatten().next();
    Ok(undo.map_or(Record::None, |undo| Record::Inside(Box::new(undo))))
}

/// The record beside files of others: the one that waits, where a run was killed after the files
/// had their names and before it had its own.
fn beside(opened: &Opened) -> Result<Record<'static>, Error> {
    let path = sidecar_path(opened.path());
    let open = |path: &Path| Ok::<_, Error>(Record::Beside(Box::new(Sidecar::open(path, &Limits::default())?)));
    let next = next_path(&path);
    if next.exists()
        && let Ok(Record::Beside(sidecar)) = open(&next)
        && fits(&sidecar, opened)?
    {
        return Ok(Record::Beside(sidecar));
    }
    if path.exists() { open(&path) } else { Ok(Record::None) }
}

/// Whether the tensors that a record has corrections for are those of the files.
fn fits(sidecar: &Sidecar, opened: &Opened) -> Result<bool, Error> {
    let bytes: BTreeMap<String, &[u8]> = super::hashes::physical(opened)?.into_iter().collect();
    let mut changed = sidecar.tensors().iter().filter(|(_, state)| state.original.is_some());
    let fits =
        |(name, state): (&String, &State)| bytes.get(name).is_some_and(|bytes| Digest::of(bytes) == state.patched);
    Ok(changed.all(fits))
}

/// Where a new record waits until the files have their names.
pub(super) fn next_path(sidecar: &Path) -> PathBuf {
    let mut name = sidecar.as_os_str().to_owned();
    name.push(".next");
    PathBuf::from(name)
}

/// Where what takes patches off `path` again lies beside it.
pub(super) fn sidecar_path(path: &Path) -> PathBuf {
    let mut name = path.components().as_path().as_os_str().to_owned();
    name.push(".undo.safetensors");
    PathBuf::from(name)
}

/// What turns predicted bytes of a part into the original ones, block by block.
pub(super) struct Corrections<'a>(Vec<&'a [u8]>);

impl Corrections<'_> {
    /// Corrects the bytes of block `index`.
    pub(super) fn apply(&self, index: usize, width: usize, bytes: &mut [u8]) -> Result<(), Error> {
        let chunk = self.0.get(index).ok_or_else(|| ErrorKind::Patch { what: "lacks corrections".to_owned() })?;
        Ok(apply_correction(width, chunk, bytes)?)
    }
}

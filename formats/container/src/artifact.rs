//! An opened checkpoint: ours, or anybody's safetensors.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use niwaki_codes::{Bits, Shape, Widths};
use niwaki_tensors::Dtype;
use niwaki_tensors::{Checkpoint, HeaderEntry, Limits, Shard, is_pad};

use crate::digest::{Digest, checkpoint_digest};
use crate::error::{Error, ErrorKind};
use crate::meta::{META_KEY, Meta, parse_meta};
use crate::parts::{Layout, Part, PartSpec};
use crate::record::{Undo, check_blobs};
use crate::tensor::Tensor;

/// A checkpoint whose every part has been found: logical tensors, borrowed from the map.
///
/// Opening reads headers only. A safetensors file without the key `niwaki` opens too; each
/// of its tensors is one that is stored as it is.
///
/// # Invariants
///
/// - every part of every logical tensor is there, with the type and shape that its
///   scheme asks for
/// - in a container no other tensor is there, pads aside
pub struct Artifact {
    checkpoint: Checkpoint,
    metas: Vec<Meta>,
    tensors: Vec<Stored>,
    names: BTreeMap<String, usize>,
}

/// Whether a checkpoint is one of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Safetensors without our metadata: no digests, no compressed tensors.
    Plain,
    /// A niwaki container.
    Container,
}

/// Where one logical tensor lies.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) name: String,
    pub(crate) layout: Layout,
    pub(crate) shard: usize,
    /// Each part with the index of its entry in the shard.
    pub(crate) parts: Vec<(PartSpec, usize)>,
}

impl Artifact {
    /// Opens a `.safetensors` file, an index, or a folder that holds either.
    ///
    /// # Errors
    ///
    /// Those of [`Checkpoint::open`] and of [`from_checkpoint`](Self::from_checkpoint).
    pub fn open(path: &Path, limits: &Limits) -> Result<Self, Error> {
        Self::from_checkpoint(Checkpoint::open(path, limits)?)
    }

    /// Finds the logical tensors of an open checkpoint.
    ///
    /// # Errors
    ///
    /// Those of [`parse_meta`]; with the tensor's name, a part that is missing or of
    /// another type or shape; a tensor that no metadata lists, or that two shards have;
    /// shards of which only some are containers.
    pub fn from_checkpoint(checkpoint: Checkpoint) -> Result<Self, Error> {
        let shards = checkpoint.shards();
        let ours = shards.iter().any(|shard| shard.metadata().contains_key(META_KEY));
        let mut metas = Vec::new();
        let mut tensors = Vec::new();
        for (index, shard) in shards.iter().enumerate() {
            let at = |error: Error| error.at(shard.path());
            if ours {
                let text = shard.metadata().get(META_KEY).ok_or_else(|| at(ErrorKind::NoMeta.into()))?;
                let meta = parse_meta(text.as_bytes()).map_err(at)?;
                tensors.extend(resolve(index, shard.entries(), &meta).map_err(at)?);
                metas.push(meta);
            } else {
                for (entry, header) in shard.entries().iter().enumerate() {
                    tensors.push(plain(index, entry, header).map_err(at)?);
                }
            }
        }
        let mut names = BTreeMap::new();
        for (i, stored) in tensors.iter().enumerate() {
            if names.insert(stored.name.clone(), i).is_some() {
                return Err(Error::from(ErrorKind::TwiceTensor).in_tensor(&stored.name));
            }
        }
        Ok(Self { checkpoint, metas, tensors, names })
    }

    /// Whether it is one of ours.
    pub fn kind(&self) -> Kind {
        if self.metas.is_empty() { Kind::Plain } else { Kind::Container }
    }

    /// The metadata of each shard; none for a plain checkpoint.
    pub fn metas(&self) -> &[Meta] {
        &self.metas
    }

    /// The files beneath.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The digest over all tensors as the metadata has them; none for a plain checkpoint.
    pub fn digest(&self) -> Option<Digest> {
        let tensors = self.metas.iter().flat_map(|meta| &meta.tensors);
        (self.kind() == Kind::Container).then(|| checkpoint_digest(tensors.map(|(name, t)| (name.as_str(), t.digest))))
    }

    /// The digest of the uncompressed source: as the metadata has it, or of parts of one job, which know only
    /// their own share of it, over the tensors that theirs were made from.
    pub fn source_digest(&self) -> Option<Digest> {
        let said = self.metas.iter().find_map(|meta| meta.lineage.source);
        let parts = !self.metas.is_empty() && self.metas.iter().all(|meta| meta.part.is_some());
        if said.is_some() || !parts {
            return said;
        }
        let tensors = self.metas.iter().flat_map(|meta| &meta.tensors);
        let sources = tensors.filter_map(|(name, tensor)| Some((name.as_str(), tensor.source_digest?)));
        let sources: Vec<_> = sources.collect();
        (!sources.is_empty()).then(|| checkpoint_digest(sources))
    }

    /// What takes merged patches off again, of each file; none where nothing was merged into it.
    ///
    /// # Errors
    ///
    /// A record that contradicts itself.
    pub fn undo(&self) -> Result<Vec<Option<Undo<'_>>>, Error> {
        (0..self.metas.len()).map(|shard| Undo::of(self, shard)).collect()
    }

    /// The logical tensors, shard by shard in the order of their data.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = Tensor<'_>> + Clone {
        self.tensors.iter().map(|stored| Tensor::new(self, stored))
    }

    /// The logical tensor of this name.
    pub fn get(&self, name: &str) -> Option<Tensor<'_>> {
        self.names.get(name).and_then(|i| self.tensors.get(*i)).map(|stored| Tensor::new(self, stored))
    }

    /// The widths that every elastic tensor serves; none where no tensor is elastic or
    /// no width is served by all.
    pub fn widths(&self) -> Option<Widths> {
        let served: Vec<Widths> = self.tensors().filter_map(|tensor| tensor.widths()).collect();
        let common = Bits::all().filter(|bits| served.iter().all(|widths| widths.contains(*bits)));
        if served.is_empty() { None } else { Widths::new(common).ok() }
    }

    pub(crate) fn shard(&self, index: usize) -> Option<&Shard> {
        self.checkpoint.shards().get(index)
    }
}

impl std::fmt::Debug for Artifact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Artifact").field("kind", &self.kind()).field("tensors", &self.tensors.len()).finish()
    }
}

/// The bytes of an entry of a shard.
pub(crate) fn bytes<'a>(shard: &'a Shard, entry: &HeaderEntry) -> &'a [u8] {
    let at = |offset: usize| shard.data_start().saturating_add(offset);
    shard.bytes().get(at(entry.begin)..at(entry.end)).unwrap_or_default()
}

fn plain(shard: usize, entry: usize, header: &HeaderEntry) -> Result<Stored, Error> {
    let read = || {
        let layout = Layout::plain(header.dtype, Shape::new(&header.shape).map_err(ErrorKind::Codes)?);
        let parts = layout.parts()?.into_iter().map(|spec| (spec, entry)).collect();
        Ok(Stored { name: header.name.clone(), layout, shard, parts })
    };
    read().map_err(|error: Error| error.in_tensor(&header.name))
}

/// Finds the parts of every tensor that `meta` lists, in the order of their data.
fn resolve(shard: usize, entries: &[HeaderEntry], meta: &Meta) -> Result<Vec<Stored>, Error> {
    let found: BTreeMap<&str, usize> = entries.iter().enumerate().map(|(i, entry)| (entry.name.as_str(), i)).collect();
    let mut unlisted: BTreeSet<&str> = found.keys().copied().collect();
    let mut tensors = Vec::with_capacity(meta.tensors.len());
    for (name, tensor) in &meta.tensors {
        let mut parts = Vec::with_capacity(tensor.parts.len());
        for (spec, _) in &tensor.parts {
            let part = spec.part.name(name);
            let index = found.get(part.as_str()).filter(|_| unlisted.remove(part.as_str()));
            let index = *index.ok_or_else(|| Error::from(ErrorKind::NoPart(part)).in_tensor(name))?;
            check_form(spec, entries.get(index)).map_err(|error| error.in_tensor(name))?;
            parts.push((*spec, index));
        }
        tensors.push(Stored { name: name.clone(), layout: tensor.layout, shard, parts });
    }
    check_blobs(entries, meta.undo.as_ref())?;
    let pad = |name: &str| {
        let entry = found.get(name).and_then(|i| entries.get(*i));
        is_pad(name) && entry.is_some_and(|e| e.dtype == Dtype::U8 && e.shape.len() == 1)
    };
    let record = |name: &str| meta.undo.as_ref().is_some_and(|undo| undo.contains_key(name));
    if let Some(name) = unlisted.into_iter().find(|name| !pad(name) && !record(name)) {
        return Err(ErrorKind::Unlisted(name.to_owned()).into());
    }
    // Plan order: a mask may come before the base of another tensor, so the base decides.
    tensors.sort_by_key(|stored| {
        let base = stored.parts.iter().find(|(spec, _)| spec.part == Part::Base);
        base.or(stored.parts.first()).map(|(_, index)| *index)
    });
    Ok(tensors)
}

fn check_form(spec: &PartSpec, entry: Option<&HeaderEntry>) -> Result<(), Error> {
    let Some(entry) = entry else { return Ok(()) };
    if (entry.dtype, entry.shape.as_slice()) == (spec.dtype, spec.shape.dims()) {
        return Ok(());
    }
    let has = Shape::new(&entry.shape).map_err(ErrorKind::Codes)?;
    let (needs, has) = (format!("{} {}", spec.dtype, spec.shape), format!("{} {has}", entry.dtype));
    Err(ErrorKind::PartForm { part: entry.name.clone(), needs, has }.into())
}

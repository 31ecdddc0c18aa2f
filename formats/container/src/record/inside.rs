//! The record in a container itself.

use std::collections::{BTreeMap, BTreeSet};

use niwaki_tensors::{Dtype, HeaderEntry, Limits, RESERVED_PREFIX, Shard, is_pad, parse_header_alone};

use super::{Patch, chunks, header_blob, patch_blob, undo_blob};
use crate::artifact::{Artifact, bytes};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind};
use crate::meta::{META_KEY, Meta, parse_meta};
use crate::parts::Part;

/// What takes the patches off a container again.
#[derive(Clone, Debug)]
pub struct Undo<'a> {
    artifact: &'a Artifact,
    shard: usize,
    patches: &'a [Patch],
    /// The tensors of the record by name.
    blobs: BTreeMap<&'a str, &'a [u8]>,
    header: &'a [u8],
    original: Meta,
    data_bytes: usize,
}

impl<'a> Undo<'a> {
    /// Of a shard; none where nothing was merged into it. All of the record is read: what takes
    /// patches off must be what was written.
    pub(crate) fn of(artifact: &'a Artifact, index: usize) -> Result<Option<Self>, Error> {
        let (Some(shard), Some(meta)) = (artifact.checkpoint().shards().get(index), artifact.metas().get(index)) else {
            return Ok(None);
        };
        let Some(listed) = &meta.undo else { return Ok(None) };
        let blobs = blobs(shard);
        check_hashes(listed, &blobs).map_err(|e| e.at(shard.path()))?;
        let header = blobs.get(header_blob().as_str()).copied().unwrap_or_default();
        let limits = artifact.checkpoint().limits();
        let (original, data_bytes) = header_of(header, shard, limits).map_err(|e| e.at(shard.path()))?;
        Ok(Some(Self { artifact, shard: index, patches: &meta.patches, blobs, header, original, data_bytes }))
    }

    /// The stack, oldest first.
    pub fn patches(&self) -> &'a [Patch] {
        self.patches
    }

    /// The signature of a patch.
    ///
    /// # Errors
    ///
    /// One that is not there, that its digest is not the one of, or that does not open.
    pub fn signature(&self, index: usize) -> Result<Artifact, Error> {
        embedded(self.artifact, self.shard, self.patches, index)
    }

    /// The bytes before the data of the file without patches.
    pub fn header(&self) -> &'a [u8] {
        self.header
    }

    /// The metadata of the file without patches.
    pub fn original(&self) -> &Meta {
        &self.original
    }

    /// Bytes of data of the file without patches: the first so many of this one's, corrected.
    pub fn data_bytes(&self) -> usize {
        self.data_bytes
    }

    /// The corrections of a part; none where no patch changed it.
    pub fn corrections(&self, tensor: &str, part: Part) -> Option<&'a [u8]> {
        self.blobs.get(undo_blob(&part.name(tensor)).as_str()).copied()
    }
}

/// The signature embedded as patch number `index`.
pub(super) fn embedded(artifact: &Artifact, shard: usize, stack: &[Patch], index: usize) -> Result<Artifact, Error> {
    let name = patch_blob(index);
    let shards = artifact.checkpoint().shards();
    let path = shards.get(shard).map(Shard::path).unwrap_or_else(|| artifact.checkpoint().path());
    let view = artifact.checkpoint().tensors().find(|view| view.shard() == shard && view.name() == name);
    let view = view.ok_or_else(|| Error::from(ErrorKind::NoPart(name.clone())).at(path))?;
    let says = stack.get(index).map(|patch| patch.digest);
    if says != Some(Digest::of(view.bytes())) {
        return Err(Error::from(ErrorKind::Correction("a signature that is not the one that was merged")).at(path));
    }
    Artifact::from_checkpoint(view.embedded(artifact.checkpoint().limits())?)
}

/// The metadata that the header of the file without patches holds, and the bytes of data that
/// belong to it. Its tensors stand in the file where they stood, so that data is there.
fn header_of(header: &[u8], shard: &Shard, limits: &Limits) -> Result<(Meta, usize), Error> {
    let wrong = |why: &str| Error::from(ErrorKind::Json(format!("the header without patches {why}")));
    let header = parse_header_alone(header, limits).map_err(|e| wrong(&format!("is none: {e}")))?;
    let entries: BTreeMap<&str, &HeaderEntry> =
        shard.entries().iter().map(|entry| (entry.name.as_str(), entry)).collect();
    if let Some(entry) = header.entries.iter().find(|entry| entries.get(entry.name.as_str()) != Some(entry)) {
        return Err(wrong(&format!("has `{}` where the file has not", entry.name)));
    }
    let text = header.metadata.get(META_KEY).ok_or(ErrorKind::NoMeta)?;
    Ok((parse_meta(text.as_bytes())?, header.entries.last().map_or(0, |entry| entry.end)))
}

/// The tensors of the record, and whatever else has a reserved name, by name.
pub(super) fn blobs(shard: &Shard) -> BTreeMap<&str, &[u8]> {
    let reserved = shard.entries().iter().filter(|entry| entry.name.starts_with(RESERVED_PREFIX));
    reserved.map(|entry| (entry.name.as_str(), bytes(shard, entry))).collect()
}

/// The tensors of the record that have another content hash than the one listed, with theirs.
fn altered<'b>(
    listed: &'b BTreeMap<String, Digest>,
    blobs: &'b BTreeMap<&str, &[u8]>,
) -> impl Iterator<Item = (&'b str, Digest)> {
    listed.iter().filter_map(|(name, says)| {
        let has = Digest::of(blobs.get(name.as_str()).copied().unwrap_or_default());
        (has != *says).then_some((name.as_str(), has))
    })
}

/// Refuses a record with a tensor that is not what was written.
pub(super) fn check_hashes(listed: &BTreeMap<String, Digest>, blobs: &BTreeMap<&str, &[u8]>) -> Result<(), Error> {
    match altered(listed, blobs).next() {
        Some((name, _)) => Err(Error::from(ErrorKind::Correction("a record that was changed")).in_tensor(name)),
        None => Ok(()),
    }
}

/// Whether the tensors of the record are those that the metadata lists.
pub(crate) fn check_blobs(entries: &[HeaderEntry], listed: Option<&BTreeMap<String, Digest>>) -> Result<(), Error> {
    let is_blob = |name: &str| name.starts_with(RESERVED_PREFIX) && !is_pad(name);
    let found = entries.iter().filter(|entry| is_blob(&entry.name));
    let mut missing: BTreeSet<&str> = listed.into_iter().flat_map(BTreeMap::keys).map(String::as_str).collect();
    for entry in found {
        if listed.is_none_or(|listed| !listed.contains_key(&entry.name)) {
            return Err(ErrorKind::Unlisted(entry.name.clone()).into());
        }
        if entry.dtype != Dtype::U8 || entry.shape.len() != 1 {
            let has = format!("{} {:?}", entry.dtype, entry.shape);
            return Err(ErrorKind::PartForm { part: entry.name.clone(), needs: "U8 bytes".to_owned(), has }.into());
        }
        missing.remove(entry.name.as_str());
    }
    match missing.first() {
        Some(name) => Err(ErrorKind::NoPart((*name).to_owned()).into()),
        None => Ok(()),
    }
}

/// What is wrong with the record of one file: the name of a tensor of it, and why.
pub(crate) fn faults(artifact: &Artifact, index: usize) -> Vec<(String, String)> {
    let (Some(shard), Some(meta)) = (artifact.checkpoint().shards().get(index), artifact.metas().get(index)) else {
        return Vec::new();
    };
    let blobs = blobs(shard);
    let mut faults = Vec::new();
    if let Some(listed) = &meta.undo {
        let altered = altered(listed, &blobs).filter_map(|(name, has)| {
            let says = listed.get(name)?;
            Some((name.to_owned(), format!("content hash says {says}, has {has}")))
        });
        faults.extend(altered);
        if !faults.is_empty() {
            return faults;
        }
    }
    for (name, stream) in blobs.iter().filter(|(name, _)| name.starts_with(&undo_blob(""))) {
        if let Err(error) = chunks(stream) {
            faults.push(((*name).to_owned(), error.to_string()));
        }
    }
    match Undo::of(artifact, index) {
        Ok(Some(undo)) => faults.extend(undo.faults(meta)),
        Ok(None) if meta.patches.is_empty() => {}
        Ok(None) => faults.push(("patches".to_owned(), "are listed, and nothing takes them off".to_owned())),
        Err(error) => faults.push((header_blob(), error.to_string())),
    }
    faults
}

impl Undo<'_> {
    fn faults(&self, meta: &Meta) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        for index in 0..self.patches.len() {
            if let Err(error) = self.signature(index) {
                faults.push((patch_blob(index), error.to_string()));
            }
        }
        let mut wrong = |why: String| faults.push((header_blob(), why));
        if !self.original.tensors.keys().eq(meta.tensors.keys()) {
            wrong("lists other tensors".to_owned());
            return faults;
        }
        for ((name, before), now) in self.original.tensors.iter().zip(meta.tensors.values()) {
            if before.layout != now.layout {
                wrong(format!("tensor `{name}` is laid out in another way"));
                continue;
            }
            for ((spec, before), (_, now)) in before.parts.iter().zip(&now.parts) {
                if before != now && self.corrections(name, spec.part).is_none() {
                    wrong(format!("part `{}` changed, and has no corrections", spec.part.name(name)));
                }
            }
        }
        faults
    }
}

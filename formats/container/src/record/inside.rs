//! The record in a container itself.

use std::collections::BTreeMap;

use niwaki_tensors::{Dtype, HeaderEntry, Limits, RESERVED_PREFIX, Shard, is_pad};
use serde_json::{Map, Value};

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
    header: &'a [u8],
    original: Meta,
    data_bytes: usize,
}

impl<'a> Undo<'a> {
    /// Of a shard; none where nothing was merged into it.
    pub(crate) fn of(artifact: &'a Artifact, index: usize) -> Result<Option<Self>, Error> {
        let (Some(shard), Some(meta)) = (artifact.checkpoint().shards().get(index), artifact.metas().get(index)) else {
            return Ok(None);
        };
        if meta.undo.is_none() {
            return Ok(None);
        }
        let header = blob(shard, &header_blob()).unwrap_or_default();
        let (original, data_bytes) = header_of(header).map_err(|e| e.at(shard.path()))?;
        Ok(Some(Self { artifact, shard: index, patches: &meta.patches, header, original, data_bytes }))
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
        let shard = self.artifact.checkpoint().shards().get(self.shard)?;
        blob(shard, &undo_blob(&part.name(tensor)))
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
    Artifact::from_checkpoint(view.embedded(&Limits::default())?)
}

/// The metadata that a header holds, and the bytes of data that belong to it.
fn header_of(header: &[u8]) -> Result<(Meta, usize), Error> {
    let wrong = |why: &str| Error::from(ErrorKind::Json(format!("the header without patches {why}")));
    let (len, json) = header.split_first_chunk::<8>().ok_or_else(|| wrong("is cut short"))?;
    if usize::try_from(u64::from_le_bytes(*len)) != Ok(json.len()) {
        return Err(wrong("has another length than it says"));
    }
    let header: Map<String, Value> = serde_json::from_slice(json).map_err(|e| wrong(&e.to_string()))?;
    let mut end = 0;
    for (_, entry) in header.iter().filter(|(name, _)| *name != "__metadata__") {
        let last = entry.get("data_offsets").and_then(|offsets| offsets.get(1)?.as_u64());
        let last =
            last.and_then(|last| usize::try_from(last).ok()).ok_or_else(|| wrong("has a tensor without a place"))?;
        end = end.max(last);
    }
    let text = header.get("__metadata__").and_then(|metadata| metadata.get(META_KEY)?.as_str());
    Ok((parse_meta(text.ok_or(ErrorKind::NoMeta)?.as_bytes())?, end))
}

/// The bytes of a tensor of the record.
fn blob<'a>(shard: &'a Shard, name: &str) -> Option<&'a [u8]> {
    let entry = shard.entries().iter().find(|entry| entry.name == name)?;
    Some(bytes(shard, entry))
}

/// Whether the tensors of the record are those that the metadata lists.
pub(crate) fn check_blobs(entries: &[HeaderEntry], listed: Option<&BTreeMap<String, Digest>>) -> Result<(), Error> {
    let is_blob = |name: &str| name.starts_with(RESERVED_PREFIX) && !is_pad(name);
    let found = entries.iter().filter(|entry| is_blob(&entry.name));
    let mut missing: Vec<&String> = listed.into_iter().flat_map(BTreeMap::keys).collect();
    for entry in found {
        if listed.is_none_or(|listed| !listed.contains_key(&entry.name)) {
            return Err(ErrorKind::Unlisted(entry.name.clone()).into());
        }
        if entry.dtype != Dtype::U8 || entry.shape.len() != 1 {
            let has = format!("{} {:?}", entry.dtype, entry.shape);
            return Err(ErrorKind::PartForm { part: entry.name.clone(), needs: "U8 bytes".to_owned(), has }.into());
        }
        missing.retain(|name| **name != entry.name);
    }
    match missing.first() {
        Some(name) => Err(ErrorKind::NoPart((*name).clone()).into()),
        None => Ok(()),
    }
}

/// What is wrong with the record of one file: the name of a tensor of it, and why.
pub(crate) fn faults(artifact: &Artifact, index: usize) -> Vec<(String, String)> {
    let (Some(shard), Some(meta)) = (artifact.checkpoint().shards().get(index), artifact.metas().get(index)) else {
        return Vec::new();
    };
    let mut faults = Vec::new();
    for (name, says) in meta.undo.iter().flatten() {
        let bytes = blob(shard, name).unwrap_or_default();
        let has = Digest::of(bytes);
        if has != *says {
            faults.push((name.clone(), format!("content hash says {says}, has {has}")));
        } else if name.starts_with(&undo_blob(""))
            && let Err(error) = chunks(bytes)
        {
            faults.push((name.clone(), error.to_string()));
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

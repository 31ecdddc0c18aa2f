//! Every invariant and digest of a container, checked.

use std::cmp::Reverse;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use niwaki_tensors::{ALIGNMENT, Shard, is_pad};
use serde_json::Value;

use crate::artifact::{Artifact, Kind, bytes};
use crate::digest::{Digest, checkpoint_digest, stored_digest};
use crate::error::{Error, ErrorKind};
use crate::meta::{META_KEY, Meta, canonical};
use crate::order::{Entry, Placement};
use crate::record;
use crate::tensor::Tensor;

/// What [`verify`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verification {
    /// A plain checkpoint has no digests: only its headers were checked, by opening it.
    pub kind: Kind,
    /// What is wrong, in the order of the files.
    pub faults: Vec<Fault>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Index of the file among the shards.
    pub shard: usize,
    /// The logical tensor, where one is at fault.
    pub tensor: Option<String>,
    /// The suffix of the part, where one is at fault; empty for a tensor stored as it is.
    pub part: Option<String>,
    /// What is wrong.
    pub kind: FaultKind,
}

/// The kinds of [`Fault`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultKind {
    /// A digest or hash in the metadata that is not the one of what is stored.
    Digest {
        /// Of what.
        of: DigestOf,
        /// In the metadata.
        says: Option<Digest>,
        /// Computed.
        has: Option<Digest>,
    },
    /// Contents that no encoder writes.
    Contents(String),
    /// A physical tensor that does not stand where the order of the data puts it.
    Order {
        /// Name and first byte of the one that belongs there.
        needs: (String, u64),
        /// Name and first byte of the one found.
        has: Option<(String, u64)>,
    },
    /// Data that does not begin at a multiple of 64 bytes.
    DataStart(usize),
    /// A pad that holds more than zeros.
    Pad(String),
    /// Metadata that is not canonical JSON.
    NotCanonical,
    /// A recipe or lineage that is not the one of the first file.
    OtherOrigin,
    /// A record of patches that does not take them off.
    Record {
        /// The tensor that holds it.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// A metadata key beside ours.
    SpareKey(String),
}

/// What a digest is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DigestOf {
    /// The bytes of a part.
    Part,
    /// A logical tensor.
    Tensor,
    /// All tensors of a file.
    Checkpoint,
    /// The recipe.
    Recipe,
}

/// Checks headers, order, alignment, pads, every hash and digest, and the contents of
/// every part, on `threads` threads.
///
/// The faults do not depend on the number of threads.
pub fn verify(artifact: &Artifact, threads: usize) -> Verification {
    let mut faults = Vec::new();
    for (index, (shard, meta)) in artifact.checkpoint().shards().iter().zip(artifact.metas()).enumerate() {
        let found = shard_faults(artifact, index, shard, meta);
        faults.extend(found.into_iter().map(|kind| Fault { shard: index, tensor: None, part: None, kind }));
    }
    if artifact.kind() == Kind::Container {
        faults.extend(contents(artifact, threads.max(1)));
    }
    faults.sort_by_key(|fault| fault.shard);
    Verification { kind: artifact.kind(), faults }
}

/// What is wrong with one file apart from its parts.
fn shard_faults(artifact: &Artifact, index: usize, shard: &Shard, meta: &Meta) -> Vec<FaultKind> {
    let mut faults = Vec::new();
    let spare = shard.metadata().keys().filter(|key| *key != META_KEY);
    faults.extend(spare.map(|key| FaultKind::SpareKey(key.clone())));
    let text = shard.metadata().get(META_KEY).map(String::as_str).unwrap_or_default();
    if serde_json::from_str::<Value>(text).map(|value| canonical(&value)).ok().as_deref() != Some(text) {
        faults.push(FaultKind::NotCanonical);
    }
    if !(shard.data_start() as u64).is_multiple_of(ALIGNMENT) {
        faults.push(FaultKind::DataStart(shard.data_start()));
    }
    let origin = |meta: &Meta| (meta.lineage.clone(), meta.recipe.clone());
    if artifact.metas().first().is_some_and(|first| origin(first) != origin(meta)) {
        faults.push(FaultKind::OtherOrigin);
    }
    faults.extend(order_fault(artifact, index, shard));
    faults.extend(record::faults(artifact, index).into_iter().map(|(name, why)| FaultKind::Record { name, why }));
    let pads = shard.entries().iter().filter(|entry| is_pad(&entry.name));
    let stained = pads.filter(|entry| bytes(shard, entry).iter().any(|byte| *byte != 0));
    faults.extend(stained.map(|entry| FaultKind::Pad(entry.name.clone())));

    let mut digest = |of, says: Option<Digest>, has: Option<Digest>| {
        if says != has {
            faults.push(FaultKind::Digest { of, says, has });
        }
    };
    digest(DigestOf::Recipe, meta.recipe_digest, meta.recipe.as_ref().map(|text| Digest::of(text.as_bytes())));
    let tensors = meta.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.digest));
    digest(DigestOf::Checkpoint, Some(meta.digest), Some(checkpoint_digest(tensors)));
    faults
}

/// The first physical tensor that is not where a writer puts it.
fn order_fault(artifact: &Artifact, index: usize, shard: &Shard) -> Option<FaultKind> {
    let tensors = artifact.tensors().filter(|tensor| tensor.shard() == index);
    // Opening has found every part under its name, so a placement exists.
    let placement = Placement::new(tensors.map(|tensor| (tensor.name(), *tensor.layout()))).ok()?;
    let place = |entry: &Entry| (entry.name.clone(), entry.offset);
    let mut has = shard.entries().iter().map(|entry| (entry.name.clone(), entry.begin as u64));
    for needs in placement.entries().iter().map(place) {
        let has = has.next();
        if has.as_ref() != Some(&needs) {
            return Some(FaultKind::Order { needs, has });
        }
    }
    // The record of patches stands behind, and pads before its tensors.
    let meta = artifact.metas().get(index);
    let record =
        |name: &str| is_pad(name) || meta.is_some_and(|meta| meta.undo.iter().flatten().any(|(n, _)| n == name));
    let (name, offset) = has.find(|(name, _)| !record(name))?;
    Some(FaultKind::Order { needs: ("the end".to_owned(), placement.bytes()), has: Some((name, offset)) })
}

/// Hashes and checks all tensors, the next one taken by whichever thread is free.
fn contents(artifact: &Artifact, threads: usize) -> Vec<Fault> {
    let mut tensors: Vec<(usize, Tensor<'_>)> = artifact.tensors().enumerate().collect();
    // Largest first, so that no thread is left with it at the end.
    tensors.sort_by_key(|(_, tensor)| Reverse(tensor.bytes()));
    let next = AtomicUsize::new(0);
    let found = Mutex::new(Vec::new());
    let work = || {
        while let Some((index, tensor)) = tensors.get(next.fetch_add(1, Ordering::Relaxed)) {
            let faults = tensor_faults(tensor);
            found.lock().unwrap_or_else(PoisonError::into_inner).push((*index, faults));
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads.min(tensors.len()) {
            scope.spawn(work);
        }
        work();
    });
    let mut faults = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    faults.sort_by_key(|(index, _)| *index);
    faults.into_iter().flat_map(|(_, faults)| faults).collect()
}

fn tensor_faults(tensor: &Tensor<'_>) -> Vec<Fault> {
    let Some(meta) = tensor.meta() else { return Vec::new() };
    let fault = |part, kind| Fault { shard: tensor.shard(), tensor: Some(tensor.name().to_owned()), part, kind };
    let mut faults = Vec::new();
    for ((part, bytes), (_, says)) in tensor.parts().zip(&meta.parts) {
        let (says, has) = (Some(*says), Some(Digest::of(bytes)));
        if says != has {
            faults.push(fault(Some(part.suffix()), FaultKind::Digest { of: DigestOf::Part, says, has }));
        }
    }
    let has = stored_digest(&meta.layout, &meta.parts);
    if meta.digest != has {
        let (says, has) = (Some(meta.digest), Some(has));
        faults.push(fault(None, FaultKind::Digest { of: DigestOf::Tensor, says, has }));
    }
    if !tensor.layout().is_plain() {
        let checked = tensor.at(None).and_then(|decoder| decoder.check());
        faults.extend(checked.err().map(|error: Error| {
            fault(part_of(tensor, &error).map(str::to_owned), FaultKind::Contents(error.kind().to_string()))
        }));
    }
    faults
}

/// The part that an error of a view is about.
fn part_of<'e>(tensor: &Tensor<'_>, error: &'e Error) -> Option<&'e str> {
    match error.kind() {
        ErrorKind::Codes(codes) if matches!(codes.kind(), niwaki_codes::ErrorKind::Scale { .. }) => {
            Some(if tensor.widths().is_some() { "base" } else { "scales" })
        }
        _ => error.part(),
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.tensor, self.part.as_deref()) {
            (None, _) => (),
            (Some(tensor), None | Some("")) => write!(f, "tensor `{tensor}`: ")?,
            (Some(tensor), Some(part)) => write!(f, "tensor `{tensor}`, part `{part}`: ")?,
        }
        self.kind.fmt(f)
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |digest: &Option<Digest>| digest.map_or_else(|| "none".to_owned(), |digest| digest.to_string());
        match self {
            Self::Digest { of, says, has } => write!(f, "{of} says {}, has {}", text(says), text(has)),
            Self::Contents(why) => f.write_str(why),
            Self::Order { needs: (needs, at), has: Some((has, found)) } => {
                write!(f, "`{needs}` belongs at byte {at} of the data, `{has}` stands next, at byte {found}")
            }
            Self::Order { needs: (needs, at), has: None } => {
                write!(f, "`{needs}` belongs at byte {at} of the data, which ends before it")
            }
            Self::DataStart(at) => write!(f, "data begins at byte {at}, which is no multiple of {ALIGNMENT}"),
            Self::Pad(name) => write!(f, "pad `{name}` holds more than zeros"),
            Self::NotCanonical => f.write_str("metadata `niwaki` is not canonical JSON"),
            Self::OtherOrigin => f.write_str("recipe or lineage differ from those of the first file"),
            Self::Record { name, why } => write!(f, "record of patches, `{name}`: {why}"),
            Self::SpareKey(key) => write!(f, "metadata has a key `{key}` beside `niwaki`"),
        }
    }
}

impl fmt::Display for DigestOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Part => "content hash",
            Self::Tensor => "digest",
            Self::Checkpoint => "checkpoint digest",
            Self::Recipe => "recipe digest",
        })
    }
}

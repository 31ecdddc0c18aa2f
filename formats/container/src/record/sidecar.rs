//! The record beside files of others: safetensors of its own.

use std::collections::BTreeMap;
use std::path::Path;

use niwaki_tensors::{Limits, is_pad};
use serde_json::{Map, Value, json};

use super::inside::{self, check_blobs, check_hashes, embedded};
use super::{Patch, hashes_value, undo_blob};
use crate::artifact::Artifact;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind};
use crate::meta::canonical;

/// The metadata key of the file.
pub const SIDECAR_KEY: &str = "niwaki_undo";

/// The hashes of one tensor of the patched files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// As it was; none where nothing changed it.
    pub original: Option<Digest>,
    /// As it is.
    pub patched: Digest,
}

/// What takes the patches off files of others again.
#[derive(Debug)]
pub struct Sidecar {
    artifact: Artifact,
    base: Digest,
    patches: Vec<Patch>,
    tensors: BTreeMap<String, State>,
}

impl Sidecar {
    /// Opens the file at `path`.
    ///
    /// # Errors
    ///
    /// Those of [`Artifact::open`], a file that is no such record or contradicts itself, and one of
    /// a newer version.
    pub fn open(path: &Path, limits: &Limits) -> Result<Self, Error> {
        let artifact = Artifact::open(path, limits)?;
        Self::from_artifact(artifact).map_err(|e| e.at(path))
    }

    /// The record that an open file is.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open).
    pub fn from_artifact(artifact: Artifact) -> Result<Self, Error> {
        let [shard] = artifact.checkpoint().shards() else { return Err(ErrorKind::NoRecord.into()) };
        let text = shard.metadata().get(SIDECAR_KEY).ok_or(ErrorKind::NoRecord)?;
        let json = |why: String| Error::from(ErrorKind::Json(why));
        let value: Value = serde_json::from_str(text).map_err(|e| json(e.to_string()))?;
        match value.get("version").and_then(|version| version.get(0)?.as_u64()) {
            Some(1) => {}
            Some(other) => return Err(ErrorKind::Version(u32::try_from(other).unwrap_or(u32::MAX)).into()),
            None => return Err(json("`version` is missing".to_owned())),
        }
        let object =
            |key: &str| value.get(key).and_then(Value::as_object).ok_or_else(|| json(format!("`{key}` is no object")));
        let digest = |value: &Value| -> Result<Digest, Error> {
            value.as_str().ok_or_else(|| json("a digest is no text".to_owned()))?.parse()
        };
        let mut tensors = BTreeMap::new();
        for (name, state) in object("tensors")? {
            let original = state.get("original").filter(|value| !value.is_null()).map(digest).transpose()?;
            let patched = digest(state.get("patched").unwrap_or(&Value::Null))?;
            tensors.insert(name.clone(), State { original, patched });
        }
        let blobs: BTreeMap<String, Digest> = object("blobs")?
            .iter()
            .map(|(name, hash)| Ok((name.clone(), digest(hash)?)))
            .collect::<Result<_, Error>>()?;
        check_blobs(shard.entries(), Some(&blobs))?;
        if let Some(entry) =
            shard.entries().iter().find(|entry| !is_pad(&entry.name) && !blobs.contains_key(&entry.name))
        {
            return Err(ErrorKind::Unlisted(entry.name.clone()).into());
        }
        check_hashes(&blobs, &inside::blobs(shard))?;
        let stack =
            value.get("patches").and_then(Value::as_array).ok_or_else(|| json("`patches` is no list".to_owned()))?;
        let patches = Patch::stack(stack)?;
        let base = digest(value.get("base").unwrap_or(&Value::Null))?;
        Ok(Self { artifact, base, patches, tensors })
    }

    /// Digest of the checkpoint without patches.
    pub fn base(&self) -> Digest {
        self.base
    }

    /// The stack, oldest first.
    pub fn patches(&self) -> &[Patch] {
        &self.patches
    }

    /// The tensors of the patched files by name.
    pub fn tensors(&self) -> &BTreeMap<String, State> {
        &self.tensors
    }

    /// The signature of a patch.
    ///
    /// # Errors
    ///
    /// Those of [`Undo::signature`](super::Undo::signature).
    pub fn signature(&self, index: usize) -> Result<Artifact, Error> {
        embedded(&self.artifact, 0, &self.patches, index)
    }

    /// The corrections of a tensor of the files; none where no patch changed it.
    pub fn corrections(&self, tensor: &str) -> Option<&[u8]> {
        self.artifact.checkpoint().get(&undo_blob(tensor)).map(|view| view.bytes())
    }
}

/// The text under [`SIDECAR_KEY`].
pub fn sidecar_meta(
    base: Digest,
    patches: &[Patch],
    tensors: &BTreeMap<String, State>,
    blobs: &BTreeMap<String, Digest>,
) -> String {
    let state = |state: &State| {
        json!({
            "original": state.original.map(|digest| digest.to_string()),
            "patched": state.patched.to_string(),
        })
    };
    let tensors: Map<_, _> = tensors.iter().map(|(name, of)| (name.clone(), state(of))).collect();
    canonical(&json!({
        "base": base.to_string(),
        "blobs": hashes_value(blobs),
        "patches": patches.iter().map(Patch::to_value).collect::<Vec<_>>(),
        "tensors": tensors,
        "version": [1, 0],
    }))
}

//! The hashes of everything that a checkpoint's files hold.

use std::collections::BTreeMap;

use niwaki_container::{ContentHasher, Digest, checkpoint_digest, tensor_digest};
use niwaki_tensors::is_reserved;
use rayon::prelude::*;

use crate::error::Error;
use crate::signature::identity;
use crate::source::{Opened, Source, SourceTensor};

/// The content hash of each physical tensor of a checkpoint, by name.
pub(super) struct Contents(pub(super) BTreeMap<String, Digest>);

impl Contents {
    /// Of all tensors.
    pub(super) fn of(opened: &Opened) -> Result<Self, Error> {
        Self::of_some(opened, |_| true)
    }

    /// Of those whose name is wanted.
    pub(super) fn of_some(opened: &Opened, wanted: impl Fn(&str) -> bool) -> Result<Self, Error> {
        let some = physical(opened)?.into_iter().filter(|(name, _)| wanted(name));
        Ok(Self(some.map(|(name, bytes)| (name, hash(bytes))).collect()))
    }

    /// The digest of the checkpoint that these tensors are.
    pub(super) fn digest(&self, source: &Source<'_>) -> Result<Digest, Error> {
        let digests = source.tensors().iter().map(|tensor| Ok((tensor.name(), self.of_tensor(tensor)?)));
        Ok(checkpoint_digest(digests.collect::<Result<Vec<_>, Error>>()?))
    }

    /// The digest of a tensor that is stored as it is, or in the layout of another tool.
    pub(super) fn of_tensor(&self, tensor: &SourceTensor<'_>) -> Result<Digest, Error> {
        let content = match self.0.get(tensor.name()).filter(|_| tensor.stored().len() == 1) {
            Some(content) => *content,
            None => identity::content(tensor)?,
        };
        Ok(tensor_digest(tensor.dtype(), tensor.shape().dims(), content))
    }
}

/// The content hash of `bytes`, by several threads.
pub(super) fn hash(bytes: &[u8]) -> Digest {
    let hasher = ContentHasher::new(bytes.len() as u64);
    let piece = |index: u64| {
        let range = hasher.range(index);
        hasher.piece(index, bytes.get(range.start as usize..range.end as usize).unwrap_or_default())
    };
    let pieces: Vec<_> = (0..hasher.pieces()).into_par_iter().map(piece).collect();
    hasher.combine(&pieces)
}

/// What the files hold, records of patches and pads aside.
pub(super) fn physical(opened: &Opened) -> Result<Vec<(String, &[u8])>, Error> {
    match opened {
        Opened::Tensors(artifact) => {
            let tensors = artifact.checkpoint().tensors().filter(|tensor| !is_reserved(tensor.name()));
            Ok(tensors.map(|tensor| (tensor.name().to_owned(), tensor.bytes())).collect())
        }
        Opened::Onnx(onnx) => Ok(onnx.tensors().iter().map(|t| (t.name.clone(), &*t.bytes)).collect()),
        Opened::Gguf(gguf) => gguf.tensors().map(|tensor| Ok((tensor.name().to_owned(), tensor.bytes()?))).collect(),
    }
}

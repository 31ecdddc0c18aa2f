//! Whether a checkpoint is the one that a signature was made for.

use std::collections::BTreeMap;

use niwaki_container::{ContentHasher, Digest, Kind, checkpoint_digest, tensor_digest};
use rayon::prelude::*;

use super::about::About;
use super::bound::Bound;
use crate::error::{Error, ErrorKind};
use crate::source::{Opened, Source, SourceTensor};

/// The digest of each tensor by name: of a container those in its metadata, of another
/// checkpoint those of its stored bytes.
pub(crate) fn digests(source: &Source<'_>) -> Result<BTreeMap<String, Digest>, Error> {
    let digest = |tensor: &SourceTensor<'_>| Ok((tensor.name().to_owned(), of_tensor(source, tensor)?));
    source.tensors().iter().map(digest).collect()
}

/// The digest of one tensor.
pub(crate) fn of_tensor(source: &Source<'_>, tensor: &SourceTensor<'_>) -> Result<Digest, Error> {
    if let Some(meta) = container(source).and_then(|artifact| artifact.get(tensor.name())?.meta()) {
        return Ok(meta.digest);
    }
    Ok(tensor_digest(tensor.dtype(), tensor.shape().dims(), content(tensor)?))
}

/// The hash of a tensor's stored bytes, part after part.
pub(super) fn content(tensor: &SourceTensor<'_>) -> Result<Digest, Error> {
    let hasher = ContentHasher::new(tensor.stored_bytes());
    let piece = |index: u64| -> Result<_, Error> {
        tensor.ensure_unchanged()?;
        let range = hasher.range(index);
        let mut buffer = Vec::new();
        Ok(hasher.piece(index, tensor.stored_range(range.start as usize..range.end as usize, &mut buffer)))
    };
    let pieces = (0..hasher.pieces()).into_par_iter().map(piece).collect::<Result<Vec<_>, _>>()?;
    Ok(hasher.combine(&pieces))
}

/// The digest of a checkpoint with these tensors.
pub(super) fn checkpoint(digests: &BTreeMap<String, Digest>) -> Digest {
    checkpoint_digest(digests.iter().map(|(name, digest)| (name.as_str(), *digest)))
}

fn container<'a>(source: &Source<'a>) -> Option<&'a niwaki_container::Artifact> {
    match source.opened() {
        Opened::Tensors(artifact) if artifact.kind() == Kind::Container => Some(artifact),
        _ => None,
    }
}

/// Refuses a checkpoint of another architecture. Under `transfer` the tensors that the signature
/// does not touch may have another number of rows: a classifier of other classes.
pub(super) fn check_architecture(about: &About, bound: &Bound<'_, '_>, transfer: bool) -> Result<(), Error> {
    let other = |name: &str, what: String| {
        Err(Error::from(ErrorKind::Architecture { what }).of(name).at(bound.source().opened().path()))
    };
    for (name, dims) in &about.architecture.0 {
        let touched = about.touched.contains_key(name);
        let Some(tensor) = bound.get(name).filter(|tensor| tensor.is_float()) else {
            // What nothing touches may be stored elsewhere, or be computed.
            if touched {
                return other(name, "is not there".to_owned());
            }
            continue;
        };
        let found = tensor.shape().dims();
        let rows_aside = transfer && !touched && found.len() == dims.len() && found.get(1..) == dims.get(1..);
        if found != dims && !rows_aside {
            let expected = dims.iter().map(ToString::to_string).collect::<Vec<_>>().join("x");
            return other(name, format!("is {}, {expected} expected", tensor.shape()));
        }
    }
    Ok(())
}

/// Who a checkpoint is: what it comes from, and what its tensors are.
pub(super) struct Identity<'i> {
    /// Digests of the checkpoint and of those that it descends from.
    pub(super) lineage: Vec<Digest>,
    /// Digests of a tensor and of the one that it was made from.
    pub(super) digests: &'i dyn Fn(&SourceTensor<'_>) -> Result<Vec<Digest>, Error>,
}

/// Digests of a container and of those that it descends from; nothing of another checkpoint.
pub(super) fn lineage(source: &Source<'_>) -> Vec<Digest> {
    let Some(artifact) = container(source) else { return Vec::new() };
    let metas = artifact.metas().iter();
    let own = metas.flat_map(|meta| meta.lineage.parents.iter().copied().chain([meta.digest]));
    own.chain(artifact.digest()).chain(artifact.source_digest()).collect()
}

/// Digests of a tensor as it is stored, and of the one that it was made from.
pub(super) fn of_stored(source: &Source<'_>, tensor: &SourceTensor<'_>) -> Result<Vec<Digest>, Error> {
    let made_from = container(source).and_then(|artifact| artifact.get(tensor.name())?.meta()?.source_digest);
    Ok([of_tensor(source, tensor)?].into_iter().chain(made_from).collect())
}

/// Whether the checkpoint is, or comes from, the one that the signature was made for, as far as
/// lineage and the tensors that it touches tell.
///
/// # Errors
///
/// [`ErrorKind::OtherBase`] with the first tensor that is another one.
pub(super) fn check_base(about: &About, bound: &Bound<'_, '_>, identity: &Identity<'_>) -> Result<(), Error> {
    if about.base.is_some_and(|base| identity.lineage.contains(&base)) {
        return Ok(());
    }
    let path = bound.source().opened().path();
    for (name, expected) in &about.touched {
        let Some(tensor) = bound.get(name) else { continue };
        let found = (identity.digests)(tensor)?;
        if expected.is_none_or(|expected| !found.contains(&expected)) {
            let expected = expected.as_ref().map_or_else(|| "unknown weights".to_owned(), short);
            let found = found.first().map_or_else(String::new, short);
            let what = format!("is {found}, {expected} expected");
            return Err(Error::from(ErrorKind::OtherBase { what }).of(name).at(path));
        }
    }
    Ok(())
}

/// As much of a digest as messages show.
pub(super) fn short(digest: &Digest) -> String {
    digest.to_string().get(..12).unwrap_or_default().to_owned()
}

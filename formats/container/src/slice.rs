//! A narrower container cut from a wider one: a header, and one copy of a prefix.

use std::fs;
use std::path::Path;

use niwaki_codes::{Bits, Elastic, Scheme};
use niwaki_tensors::{Overwrite, Writer, metadata_len};

use crate::artifact::{Artifact, Kind};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind};
use crate::meta::{META_KEY, Meta, TensorMeta};
use crate::order::{Placement, Slot};
use crate::parts::{Layout, Part};
use crate::tensor::Tensor;

/// Bytes that are written at a time: whatever is mapped is not resident all at once.
const CHUNK: usize = 4 << 20;

/// What [`slice()`] wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sliced {
    /// Digest of the checkpoint written.
    pub digest: Digest,
    /// Bytes of the file read.
    pub input_bytes: u64,
    /// Bytes of the file written.
    pub output_bytes: u64,
}

/// Writes the container that keeps of every elastic tensor the widths up to `bits`; tensors
/// that are not elastic are kept as they are.
///
/// The parts that stay keep their bytes and hashes; report, recipe and lineage stay too. So
/// slicing twice equals slicing once, and the result decodes at each width as before.
///
/// # Errors
///
/// [`ErrorKind::NotOurs`], [`ErrorKind::Sharded`], [`ErrorKind::NotElastic`];
/// [`ErrorKind::Codes`] with the first tensor that does not serve `bits`, and the widths that
/// it serves; those of [`Writer`].
pub fn slice(artifact: &Artifact, bits: Bits, out: &Path, overwrite: Overwrite) -> Result<Sliced, Error> {
    let path = artifact.checkpoint().path();
    let at = |kind: ErrorKind| Error::from(kind).at(path);
    let (shard, meta) = match (artifact.kind(), artifact.checkpoint().shards(), artifact.metas()) {
        (Kind::Plain, ..) => return Err(at(ErrorKind::NotOurs)),
        (_, [shard], [meta]) => (shard, meta),
        (_, shards, _) => return Err(at(ErrorKind::Sharded(shards.len()))),
    };
    if meta.undo.is_some() {
        return Err(at(ErrorKind::Patched));
    }
    if artifact.tensors().all(|tensor| tensor.widths().is_none()) {
        return Err(at(ErrorKind::NotElastic));
    }
    if fs::canonicalize(out).ok().zip(fs::canonicalize(shard.path()).ok()).is_some_and(|(out, from)| out == from) {
        return Err(Error::from(ErrorKind::OntoItself).at(out));
    }
    let tensors: Vec<Tensor<'_>> = artifact.tensors().collect();
    let cut = cut_meta(meta, &tensors, bits)?;
    let json = cut.to_json();
    let metadata = [(META_KEY, json.as_str())];

    let placement = Placement::new(tensors.iter().map(|tensor| (tensor.name(), *tensor.layout())))?;
    let prefix = placement.prefix(bits);
    let layout = niwaki_tensors::Layout::exact(prefix.iter().map(Into::into).collect(), metadata_len(&metadata))?;
    let output_bytes = layout.file_bytes();
    let writer = Writer::create(out, layout, overwrite)?;
    for (index, entry) in prefix.iter().enumerate() {
        // A pad that is not written is zero.
        let Slot::Part { tensor, part, .. } = entry.slot else { continue };
        let bytes = tensors.get(tensor).and_then(|tensor| tensor.part(part)).unwrap_or_default();
        for (chunk, bytes) in (0..).zip(bytes.chunks(CHUNK)) {
            shard.ensure_unchanged()?;
            writer.write_at(index, chunk * CHUNK as u64, bytes)?;
        }
    }
    shard.ensure_unchanged()?;
    writer.finish(&metadata, false)?;
    Ok(Sliced { digest: cut.digest, input_bytes: shard.file_bytes(), output_bytes })
}

/// The metadata of the same tensors with the widths up to `bits`.
fn cut_meta(meta: &Meta, tensors: &[Tensor<'_>], bits: Bits) -> Result<Meta, Error> {
    let cut = tensors.iter().filter_map(|tensor| {
        let meta = tensor.meta()?;
        let cut = cut_tensor(meta, tensor.layout(), bits).map_err(|error| error.in_tensor(tensor.name()));
        Some(cut.map(|meta| (tensor.name().to_owned(), meta)))
    });
    let fresh = Meta::new(cut.collect::<Result<_, _>>()?);
    // What is cut is none of the parts that a job was split into.
    Ok(Meta { digest: fresh.digest, tensors: fresh.tensors, part: None, ..meta.clone() })
}

fn cut_tensor(meta: &TensorMeta, layout: &Layout, bits: Bits) -> Result<TensorMeta, Error> {
    let Some(elastic) = layout.elastic() else { return Ok(meta.clone()) };
    let widths = elastic.widths.up_to(bits)?;
    let layout = Layout { scheme: Some(Scheme::Elastic(Elastic { widths, ..elastic })), ..*layout };
    let stays = layout.parts()?;
    let hashes = meta.parts.iter().map(|(spec, hash)| (spec.part, *hash));
    let hashes: Vec<(Part, Digest)> = hashes.filter(|(part, _)| stays.iter().any(|spec| spec.part == *part)).collect();
    TensorMeta::new(layout, &hashes, meta.source_digest)
}

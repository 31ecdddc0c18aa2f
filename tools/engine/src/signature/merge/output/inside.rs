//! A container of ours with another stack.

use std::collections::BTreeMap;

use niwaki_container::{Artifact, Digest, META_KEY, Meta, Part, TensorMeta, header_blob, undo_blob};
use niwaki_tensors::{Dtype, Entry, Layout, PAD_PREFIX, PartialFile, is_pad, is_reserved, metadata_len};

use super::{Output, Written, corrections, fill, not_restored, signatures, written};
use crate::error::Error;
use crate::progress::{Progress, counting};
use crate::signature::merge::files::File;
use crate::signature::merge::hashes::{Contents, hash};
use crate::signature::merge::restack::{Outcome, Task};
use crate::signature::merge::{Restack, stack};

/// Most bytes that a coded correction takes for each byte corrected: whole numbers and a header
/// for each 64, and what is in front of a block of rows.
fn most(bytes: usize, blocks: usize) -> usize {
    bytes + bytes.div_ceil(64) * 2 + blocks * 8 + 64
}

pub(super) fn write(
    output: &Output<'_>,
    restack: &Restack<'_>,
    (artifact, mut contents): (&Artifact, Contents),
    tasks: &[Task<'_>],
    progress: Progress<'_>,
) -> Result<Written, Error> {
    let (Some((header, data_bytes)), Some(original), [shard]) =
        (restack.current.original_file(), restack.current.original(), artifact.checkpoint().shards())
    else {
        return Ok(Written::default());
    };
    // What ends within the data without patches belongs to it.
    let own = shard
        .entries()
        .iter()
        .filter(|entry| entry.end <= data_bytes && (is_pad(&entry.name) || !is_reserved(&entry.name)));
    let own = own.map(|entry| Entry { name: entry.name.clone(), dtype: entry.dtype, shape: entry.shape.clone() });
    let record = Record::new(restack, (original, header, own.collect()), tasks)?;
    let data_start = record.as_ref().map_or(header.len(), |record| record.header_bytes);
    let file = PartialFile::create(output.out, (data_start + data_bytes) as u64, output.options.overwrite())?;
    let from = shard.data_start();
    let at = |byte: usize| (byte - from + data_start) as u64;
    let done = counting(progress, data_bytes as u64);
    let source = File { path: shard.path(), bytes: shard.bytes() };
    let base = original.digest;
    let to = |_: usize, byte: usize, bytes: &[u8]| -> Result<(), Error> {
        file.write_at(at(byte), bytes)?;
        done(bytes.len() as u64);
        Ok(())
    };
    let data = from..from + data_bytes;
    let outcomes = fill(restack, (&[source], std::slice::from_ref(&data)), (&mut contents, tasks), to)?;
    shard.ensure_unchanged()?;
    let new_hashes = new_hashes(tasks, &file, &at)?;
    let Some(record) = record else {
        check_restored(original, &new_hashes).map_err(|e| e.at(shard.path()))?;
        file.write_at(0, header)?;
        file.finish(output.options.durable)?;
        return Ok(Written {
            outcomes,
            output_bytes: (data_start + data_bytes) as u64,
            base: Some(base),
            ..Written::default()
        });
    };
    let end = record.finish(&file, data_bytes, (original, &new_hashes), (tasks, &outcomes))?;
    file.finish(output.options.durable)?;
    let undo_bytes = end - (data_start + data_bytes) as u64;
    Ok(Written { base: Some(base), outcomes, output_bytes: end, undo_bytes, undo: None })
}

/// Refuses parts that are not what they were before any patch.
fn check_restored(original: &Meta, hashes: &BTreeMap<(String, Part), Digest>) -> Result<(), Error> {
    for ((name, part), hash) in hashes {
        let parts = original.tensors.get(name).into_iter().flat_map(|tensor| &tensor.parts);
        let before = parts.into_iter().find(|(spec, _)| spec.part == *part).map(|(_, before)| before);
        if before != Some(hash) {
            return Err(not_restored().of(name));
        }
    }
    Ok(())
}

/// The content hashes of the parts that were written anew.
fn new_hashes(
    tasks: &[Task<'_>],
    file: &PartialFile,
    at: &dyn Fn(usize) -> u64,
) -> Result<BTreeMap<(String, Part), Digest>, Error> {
    let mut hashes = BTreeMap::new();
    for task in tasks {
        for (part, which) in task.changing() {
            let range = &task.places[part].range;
            let name = task.stored.tensor.name().to_owned();
            hashes.insert((name, which), written(file, at(range.start), range.len())?);
        }
    }
    Ok(hashes)
}

/// What stands behind the data.
struct Record<'r> {
    restack: &'r Restack<'r>,
    header: &'r [u8],
    /// The physical tensors of the file without patches.
    entries: Vec<Entry>,
    base: Digest,
    header_bytes: usize,
}

impl<'r> Record<'r> {
    /// None where no patch is left.
    fn new(
        restack: &'r Restack<'r>,
        (original, header, entries): (&Meta, &'r [u8], Vec<Entry>),
        tasks: &[Task<'_>],
    ) -> Result<Option<Self>, Error> {
        if restack.new.is_empty() {
            return Ok(None);
        }
        let mut record = Self { restack, header, entries, base: original.digest, header_bytes: 0 };
        // Room for the longest header that there can be: it hangs on names and sizes alone.
        let mut blobs: Vec<_> = record.fixed().into_iter().map(|(name, bytes)| (name, bytes.len())).collect();
        for task in tasks.iter().filter(|task| !task.new.is_empty()) {
            for (part, _) in task.changing() {
                let most = most(task.places[part].range.len(), task.stored.blocks().len());
                blobs.push((undo_blob(&task.stored.parts[part].name), most));
            }
        }
        let any = Digest([0xFF; 32]);
        let meta =
            record.meta(original, &BTreeMap::new(), blobs.iter().map(|(name, _)| (name.clone(), any)).collect())?;
        let (entries, _) = record.with_blobs(usize::MAX >> 12, &blobs)?;
        let layout = Layout::exact(entries, metadata_len(&[(META_KEY, &meta.to_json())]))?;
        record.header_bytes = layout.data_start() as usize;
        Ok(Some(record))
    }

    /// The signatures and the header.
    fn fixed(&self) -> Vec<(String, &[u8])> {
        let mut blobs = signatures(self.restack);
        blobs.push((header_blob(), self.header));
        blobs
    }

    /// All physical tensors, and where each tensor of the record begins in the data; pads of the
    /// record are numbered on.
    fn with_blobs(&self, data_bytes: usize, blobs: &[(String, usize)]) -> Result<(Vec<Entry>, Vec<usize>), Error> {
        let mut entries = self.entries.clone();
        let mut pads = entries.iter().filter(|entry| is_pad(&entry.name)).count();
        let (mut at, mut places) = (data_bytes, Vec::with_capacity(blobs.len()));
        let bytes = |name: String, len: usize| Entry { name, dtype: Dtype::U8, shape: vec![len] };
        for (name, len) in blobs {
            let gap = at.next_multiple_of(64) - at;
            if gap > 0 && *len > 0 {
                entries.push(bytes(format!("{}{pads}", PAD_PREFIX), gap));
                (pads, at) = (pads + 1, at + gap);
            }
            entries.push(bytes(name.clone(), *len));
            places.push(at);
            at += len;
        }
        Ok((entries, places))
    }

    /// The metadata with the stack.
    fn meta(
        &self,
        original: &Meta,
        hashes: &BTreeMap<(String, Part), Digest>,
        blobs: BTreeMap<String, Digest>,
    ) -> Result<Meta, Error> {
        let mut tensors = BTreeMap::new();
        for (name, tensor) in &original.tensors {
            let hash = |part: Part, before: Digest| hashes.get(&(name.clone(), part)).copied().unwrap_or(before);
            let parts: Vec<_> =
                tensor.parts.iter().map(|(spec, before)| (spec.part, hash(spec.part, *before))).collect();
            tensors.insert(name.clone(), TensorMeta::new(tensor.layout, &parts, tensor.source_digest)?);
        }
        let mut meta = Meta { tensors: BTreeMap::new(), ..original.clone() };
        let fresh = Meta::new(tensors);
        (meta.digest, meta.tensors) = (fresh.digest, fresh.tensors);
        meta.lineage.parents.push(self.base);
        meta.patches = stack(self.restack.new);
        meta.undo = Some(blobs);
        Ok(meta)
    }

    /// Writes the record behind the data, and the header; where the file ends.
    fn finish(
        &self,
        file: &PartialFile,
        data_bytes: usize,
        (original, hashes): (&Meta, &BTreeMap<(String, Part), Digest>),
        (tasks, outcomes): (&[Task<'_>], &[Outcome]),
    ) -> Result<u64, Error> {
        let mut blobs = self.fixed();
        blobs.extend(corrections(tasks, outcomes));
        let sizes: Vec<_> = blobs.iter().map(|(name, bytes)| (name.clone(), bytes.len())).collect();
        let (entries, places) = self.with_blobs(data_bytes, &sizes)?;
        let mut end = (self.header_bytes + data_bytes) as u64;
        for ((_, bytes), at) in blobs.iter().zip(places) {
            let at = (self.header_bytes + at) as u64;
            // What lies between is zero: the file grows to where it is written.
            file.write_at(at, bytes)?;
            end = end.max(at + bytes.len() as u64);
        }
        let of_blobs = blobs.iter().map(|(name, bytes)| (name.clone(), hash(bytes))).collect();
        let meta = self.meta(original, hashes, of_blobs)?.to_json();
        let metadata = [(META_KEY, meta.as_str())];
        let layout = Layout::exact(entries, metadata_len(&metadata))?.starting_at(self.header_bytes as u64)?;
        file.write_at(0, &layout.header(&metadata)?)?;
        Ok(end)
    }
}

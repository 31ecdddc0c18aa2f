//! All parts in one file: the bytes that one run would have written.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use niwaki_container::{META_KEY, Meta, Placement, Slot, checkpoint_digest};
use niwaki_tensors::{Layout, Overwrite, Writer, copy_file};
use rayon::prelude::*;

use super::parts::Parts;
use crate::compress::Options;
use crate::error::Error;
use crate::progress::{Progress, counting};
use crate::target::{check_folder, check_other_weights, file_error, is_left_over, is_same, is_the_input, make_folder};

/// Bytes that are copied at a time.
const PIECE: usize = 8 << 20;

/// Where the file goes.
pub(super) struct Target {
    file: PathBuf,
    /// The folder that it is in, where that gets the other files, too.
    folder: Option<Folder>,
}

struct Folder {
    path: PathBuf,
    /// The folder of the parts.
    from: PathBuf,
    /// Whether this run made it.
    made: bool,
}

impl Target {
    /// Looks at the place, and makes the folder where one is to be made.
    pub(super) fn new(dir: &Path, out: &Path, options: &Options) -> Result<Self, Error> {
        if out.extension().is_some_and(|e| e == "safetensors") {
            niwaki_tensors::check_output(out, options.overwrite())?;
            return Ok(Self { file: out.to_owned(), folder: None });
        }
        if is_same(dir, out) {
            return Err(is_the_input(out));
        }
        let exists = check_folder(out, options.replace || is_left_over(out))?;
        if exists {
            check_other_weights(out, "model.safetensors")?;
        } else {
            make_folder(out)?;
        }
        let folder = Folder { path: out.to_owned(), from: dir.to_owned(), made: !exists };
        Ok(Self { file: out.join("model.safetensors"), folder: Some(folder) })
    }

    /// Writes the file, and what belongs beside it: its path and bytes.
    pub(super) fn write(
        &self,
        parts: &Parts,
        options: &Options,
        progress: Progress<'_>,
    ) -> Result<(PathBuf, u64), Error> {
        let written = write(parts, &self.file, options, progress);
        written.and_then(|bytes| match &self.folder {
            Some(folder) => folder.fill(options).map(|()| (self.file.clone(), bytes)),
            None => Ok((self.file.clone(), bytes)),
        })
    }
}

impl Drop for Target {
    /// A folder that was made for nothing goes again.
    fn drop(&mut self) {
        if let Some(folder) = self.folder.as_ref().filter(|folder| folder.made) {
            // One with files in it stays, as it should.
            let _ = fs::remove_dir(&folder.path);
        }
    }
}

impl Folder {
    /// Copies the files of the folder that are no weights.
    fn fill(&self, options: &Options) -> Result<(), Error> {
        const OURS: [&str; 4] = [".safetensors", ".safetensors.index.json", ".niwaki-partial", ".niwaki-journal"];
        for item in fs::read_dir(&self.from).map_err(|e| file_error(&e, &self.from))? {
            let from = item.map_err(|e| file_error(&e, &self.from))?.path();
            let name = from.file_name().unwrap_or_default().to_owned();
            let ours = OURS.iter().any(|suffix| name.as_encoded_bytes().ends_with(suffix.as_bytes()));
            let to = self.path.join(&name);
            if from.is_file() && !ours && (options.replace || !to.exists()) {
                copy_file(&from, &to, Overwrite::Replace, options.durable)?;
            }
        }
        Ok(())
    }
}

fn write(parts: &Parts, file: &Path, options: &Options, progress: Progress<'_>) -> Result<u64, Error> {
    let placement = Placement::new(parts.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor.layout)))?;
    let layout = Layout::exact(placement.entries().iter().map(Into::into).collect(), parts.room())?;
    let meta = meta(parts).to_json();
    // Whether there is room is known before the first byte.
    layout.header(&[(META_KEY, &meta)]).map_err(|e| Error::from(e).at(file))?;
    let bytes = layout.file_bytes();
    let writer = Writer::create(file, layout, options.overwrite())?;
    let done = counting(progress, placement.bytes());
    let copied = options.pool()?.install(|| {
        placement.entries().par_iter().enumerate().try_for_each(|(at, entry)| {
            // A pad that is not written is zero.
            let Slot::Part { tensor, part, .. } = entry.slot else { return Ok(()) };
            let from = parts.tensors.get(tensor).and_then(|t| parts.all.get(t.part)?.artifact.get(&t.name)?.part(part));
            for (piece, bytes) in (0u64..).zip(from.unwrap_or_default().chunks(PIECE)) {
                writer.write_at(at, piece * PIECE as u64, bytes)?;
                done(bytes.len() as u64);
            }
            Ok::<(), Error>(())
        })
    });
    copied?;
    for part in &parts.all {
        part.artifact.checkpoint().ensure_unchanged()?;
    }
    writer.finish(&[(META_KEY, &meta)], options.durable)?;
    Ok(bytes)
}

/// The metadata of the whole.
fn meta(parts: &Parts) -> Meta {
    let all = parts.all.iter().enumerate().filter_map(|(at, _)| parts.meta(at));
    let tensors: BTreeMap<_, _> = all.flat_map(|meta| meta.tensors.clone()).collect();
    let sources: Vec<_> =
        tensors.iter().filter_map(|(name, tensor)| Some((name.clone(), tensor.source_digest?))).collect();
    let source = sources.iter().map(|(name, digest)| (name.as_str(), *digest));
    let source = (!sources.is_empty()).then(|| checkpoint_digest(source));
    let mut meta = Meta::new(tensors);
    if let Some(first) = parts.meta(0) {
        meta.recipe.clone_from(&first.recipe);
        meta.recipe_digest = first.recipe_digest;
        meta.source_metadata.clone_from(&first.source_metadata);
    }
    meta.lineage.source = source;
    meta.report = parts.totals.embedded(parts.tensors.iter().map(|tensor| &tensor.report).collect::<Vec<_>>());
    meta
}

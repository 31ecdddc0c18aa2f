//! Where a checkpoint with another stack goes.
//!
//! A container of ours is written anew, with another header and the record behind its data. Files
//! of others keep every byte but those that patches change, and the record is a file beside them.

mod beside;
mod inside;
mod pen;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use niwaki_container::{ContentHasher, Digest, Kind, patch_blob, undo_blob};
use niwaki_tensors::{PartialFile, check_output};
use rayon::prelude::*;

use super::files::{File, Place};
use super::hashes::{Contents, physical};
use super::restack::{Outcome, Task};
use super::{Restack, files};
use crate::compress::Options;
use crate::error::{Error, ErrorKind};
use crate::progress::Progress;
use crate::source::Opened;
use crate::target::file_error;
use pen::Pen;

/// Bytes that are copied at a time.
const PIECE: usize = 4 << 20;

/// Where to write.
pub(super) struct Output<'o> {
    opened: &'o Opened,
    out: &'o Path,
    options: &'o Options,
}

/// What was written.
#[derive(Default)]
pub(super) struct Written {
    /// Digest of the checkpoint without patches.
    pub(super) base: Option<Digest>,
    /// What came of each task.
    pub(super) outcomes: Vec<Outcome>,
    pub(super) output_bytes: u64,
    pub(super) undo_bytes: u64,
    pub(super) undo: Option<PathBuf>,
}

impl<'o> Output<'o> {
    /// Looks whether the output can be written.
    pub(super) fn new(opened: &'o Opened, out: &'o Path, options: &'o Options) -> Result<Self, Error> {
        if let Opened::Onnx(onnx) = opened {
            onnx.check_one_file()?;
        }
        let output = Self { opened, out, options };
        match output.folder()? {
            Some(folder) => beside::check_folder(opened, folder, out, options)?,
            None => check_output(out, options.overwrite())?,
        }
        Ok(output)
    }

    /// The folder that is read, where the output is one too.
    fn folder(&self) -> Result<Option<&'o Path>, Error> {
        let Opened::Tensors(artifact) = self.opened else { return Ok(None) };
        match artifact.checkpoint().source() {
            niwaki_tensors::Source::Folder { folder, .. } if !self.names_a_file() => Ok(Some(folder)),
            niwaki_tensors::Source::Folder { .. } if artifact.checkpoint().shards().len() > 1 => {
                let what = "is one file; a checkpoint of several is patched into a folder".to_owned();
                Err(Error::from(ErrorKind::Usage { what }).at(self.out))
            }
            _ => Ok(None),
        }
    }

    fn names_a_file(&self) -> bool {
        self.out.extension().is_some_and(|e| e.eq_ignore_ascii_case("safetensors"))
    }

    /// Writes everything.
    pub(super) fn write(
        &self,
        restack: &Restack<'_>,
        contents: Contents,
        tasks: &[Task<'_>],
        progress: Progress<'_>,
    ) -> Result<Written, Error> {
        match self.opened {
            Opened::Tensors(artifact) if artifact.kind() == Kind::Container => {
                inside::write(self, restack, (artifact, contents), tasks, progress)
            }
            _ => beside::write(self, restack, contents, tasks, progress),
        }
    }
}

/// Writes the given ranges of the files, one range for each: what no task changes as it is, and
/// what the tasks make of the rest. `write` is told which file, which byte of it, and the bytes.
/// Adds the hashes of what is copied to `contents`, and looks whether all are those expected.
fn fill(
    restack: &Restack<'_>,
    (files, ranges): (&[File<'_>], &[Range<usize>]),
    (contents, tasks): (&mut Contents, &[Task<'_>]),
    write: impl FnMut(usize, usize, &[u8]) -> Result<(), Error> + Send,
) -> Result<Vec<Outcome>, Error> {
    let pen = Pen::new(write);
    let changed = |place: &Place, offset: usize, bytes: Vec<u8>| {
        pen.write(place.file, place.range.start + offset, Cow::Owned(bytes))
    };
    let (copied, outcomes) = rayon::join(
        || copy(restack.opened, files, ranges, tasks, &pen),
        || tasks.iter().map(|task| task.run(&changed)).collect::<Result<Vec<_>, _>>(),
    );
    contents.0.extend(copied?);
    restack.current.check(contents, true).map_err(|e| e.at(restack.opened.path()))?;
    let outcomes = outcomes?;
    restack.check_loss(tasks, &outcomes)?;
    Ok(outcomes)
}

/// Copies what no task changes and hashes the tensors among it on the way: each piece is read
/// once. Returns the hashes by name.
fn copy<'b>(
    opened: &Opened,
    files: &[File<'b>],
    ranges: &[Range<usize>],
    tasks: &[Task<'_>],
    pen: &Pen<'b, impl FnMut(usize, usize, &[u8]) -> Result<(), Error> + Send>,
) -> Result<BTreeMap<String, Digest>, Error> {
    let changing: BTreeSet<&str> = tasks.iter().flat_map(Task::changing_names).collect();
    let mut taken: Vec<Vec<Range<usize>>> = vec![Vec::new(); files.len()];
    let mut tensors: Vec<(String, ContentHasher)> = Vec::new();
    let mut pieces: Vec<(Option<usize>, u64, Place)> = Vec::new();
    for (name, bytes) in physical(opened)? {
        let Some(Place { file, range }) = files::place(files, bytes) else { continue };
        taken[file].push(range.clone());
        if changing.contains(name.as_str()) {
            continue;
        }
        let hasher = ContentHasher::new(bytes.len() as u64);
        for piece in 0..hasher.pieces() {
            let of = hasher.range(piece);
            let range = range.start + of.start as usize..range.start + of.end as usize;
            pieces.push((Some(tensors.len()), piece, Place { file, range }));
        }
        tensors.push((name, hasher));
    }
    for (file, (range, taken)) in ranges.iter().zip(&mut taken).enumerate() {
        taken.sort_by_key(|range| range.start);
        let gaps = files::between(taken, range.end).into_iter().filter(|gap| gap.end > range.start);
        for gap in gaps {
            for start in (gap.start.max(range.start)..gap.end).step_by(PIECE) {
                pieces.push((None, 0, Place { file, range: start..(start + PIECE).min(gap.end) }));
            }
        }
    }
    let done = pieces.par_iter().map(|(tensor, piece, Place { file, range })| {
        let bytes = files[*file].bytes.get(range.clone()).unwrap_or_default();
        let hash = tensor.map(|tensor| tensors[tensor].1.piece(*piece, bytes));
        pen.write(*file, range.start, Cow::Borrowed(bytes))?;
        Ok(hash)
    });
    let mut hashes = done.collect::<Result<Vec<_>, Error>>()?.into_iter().flatten();
    let combine = |(name, hasher): &(String, ContentHasher)| {
        let pieces: Vec<_> = hashes.by_ref().take(hasher.pieces() as usize).collect();
        (name.clone(), hasher.combine(&pieces))
    };
    Ok(tensors.iter().map(combine).collect())
}

/// The hash of what was written of a part.
fn written(to: &PartialFile, at: u64, len: usize) -> Result<Digest, Error> {
    let hasher = ContentHasher::new(len as u64);
    let piece = |bytes: &mut Vec<u8>, index: u64| -> Result<_, Error> {
        let range = hasher.range(index);
        bytes.resize((range.end - range.start) as usize, 0);
        to.read_at(at + range.start, bytes)?;
        Ok(hasher.piece(index, bytes))
    };
    let pieces = (0..hasher.pieces()).into_par_iter().map_init(Vec::new, piece).collect::<Result<Vec<_>, _>>()?;
    Ok(hasher.combine(&pieces))
}

/// The signatures of the new stack, under the names that records have for them.
fn signatures<'r>(restack: &Restack<'r>) -> Vec<(String, &'r [u8])> {
    let patches = restack.new.iter().enumerate();
    patches.map(|(index, patch)| (patch_blob(index), patch.signature.bytes())).collect()
}

/// The corrections of every part that changed, likewise.
fn corrections<'o>(tasks: &'o [Task<'_>], outcomes: &'o [Outcome]) -> impl Iterator<Item = (String, &'o [u8])> {
    tasks.iter().zip(outcomes).flat_map(|(task, outcome)| {
        let parts = outcome.corrections.iter();
        parts.map(|(part, stream)| (undo_blob(&task.stored.parts[*part].name), stream.as_slice()))
    })
}

fn not_restored() -> Error {
    let what = "does not come back as it was: the record of its patches is damaged".to_owned();
    ErrorKind::Patch { what }.into()
}

/// Removes a file that may not be there.
fn remove_if_there(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(file_error(&error, path)),
        _ => Ok(()),
    }
}

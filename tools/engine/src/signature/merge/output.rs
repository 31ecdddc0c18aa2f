//! Where a checkpoint with another stack goes.
//!
//! A container of ours is written anew, with another header and the record behind its data. Files
//! of others keep every byte but those that patches change, and the record is a file beside them.

mod beside;
mod inside;

use std::fs;
use std::path::{Path, PathBuf};

use niwaki_container::{Digest, Kind};
use niwaki_tensors::{PartialFile, check_output};
use rayon::prelude::*;

use super::files::File;
use super::hashes::Contents;
use super::restack::{Outcome, Task};
use super::{Restack, files};
use crate::compress::Options;
use crate::error::{Error, ErrorKind};
use crate::source::Opened;
use crate::target::file_error;

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
    /// What came of each task.
    pub(super) outcomes: Vec<Outcome>,
    pub(super) output_bytes: u64,
    pub(super) undo_bytes: u64,
    pub(super) undo: Option<PathBuf>,
}

/// Told the bytes done so far, and all there are.
pub(super) type Progress<'p> = &'p (dyn Fn(u64, u64) + Sync);

impl<'o> Output<'o> {
    /// Looks whether the output can be written.
    pub(super) fn new(opened: &'o Opened, out: &'o Path, options: &'o Options) -> Result<Self, Error> {
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
        base: Digest,
        contents: &Contents,
        tasks: &[Task<'_>],
        progress: Progress<'_>,
    ) -> Result<Written, Error> {
        match self.opened {
            Opened::Tensors(artifact) if artifact.kind() == Kind::Container => {
                inside::write(self, restack, (artifact, base), tasks, progress)
            }
            _ => beside::write(self, restack, (base, contents), tasks, progress),
        }
    }
}

/// Copies what no task changes of a range of a file, `shift` bytes further on or back.
fn copy(
    (index, file): (usize, &File<'_>),
    range: std::ops::Range<usize>,
    tasks: &[Task<'_>],
    (to, at): (&PartialFile, &(dyn Fn(usize) -> u64 + Sync)),
    done: &(dyn Fn(u64) + Sync),
) -> Result<(), Error> {
    let mut changed: Vec<_> = tasks
        .iter()
        .flat_map(|task| task.changing().map(|(part, _)| &task.places[part]))
        .filter(|place| place.file == index)
        .map(|place| place.range.clone())
        .collect();
    changed.sort_by_key(|range| range.start);
    let gaps = files::between(&changed, range.end);
    let pieces: Vec<_> = gaps
        .iter()
        .map(|gap| gap.start.max(range.start)..gap.end)
        .flat_map(|gap| (gap.start..gap.end).step_by(PIECE).map(move |start| start..(start + PIECE).min(gap.end)))
        .collect();
    pieces.into_par_iter().try_for_each(|piece| {
        let bytes = file.bytes.get(piece.clone()).unwrap_or_default();
        to.write_at(at(piece.start), bytes)?;
        done(bytes.len() as u64);
        Ok(())
    })
}

/// The hash of what was written of a part.
fn written(to: &PartialFile, at: u64, len: usize) -> Result<Digest, Error> {
    let hasher = niwaki_container::ContentHasher::new(len as u64);
    let piece = |index: u64| -> Result<_, Error> {
        let range = hasher.range(index);
        let mut bytes = vec![0; (range.end - range.start) as usize];
        to.read_at(at + range.start, &mut bytes)?;
        Ok(hasher.piece(index, &bytes))
    };
    let pieces = (0..hasher.pieces()).into_par_iter().map(piece).collect::<Result<Vec<_>, _>>()?;
    Ok(hasher.combine(&pieces))
}

/// Removes a file that may not be there.
fn remove_if_there(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(file_error(&error, path)),
        _ => Ok(()),
    }
}

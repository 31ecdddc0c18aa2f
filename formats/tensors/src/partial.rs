//! A file that grows in a sibling and is renamed when it is complete.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::checkpoint::parent;
use crate::error::{Access, Error, ErrorKind};
use crate::output::{Overwrite, check_output, partial_path, rename};

/// A file of known length that is being written, of whatever format.
///
/// It grows in a sibling, `OUT.niwaki-partial`, and [`finish`](Self::finish) gives it its
/// name; until then an old file of that name is untouched. Dropped unfinished, it removes the
/// sibling, unless [`keep`](Self::keep) said otherwise. Pieces may be written and read back in
/// any order and from any thread; where two overlap, either may win. What is never written is
/// zero.
pub struct PartialFile {
    path: PathBuf,
    partial: PathBuf,
    file: File,
    overwrite: Overwrite,
    keep: AtomicBool,
    finished: bool,
}

impl PartialFile {
    /// Begins a file of `bytes` bytes at `path`; an old partial file is discarded.
    ///
    /// # Errors
    ///
    /// Those of [`check_output`], [`ErrorKind::Busy`] where another process writes the same
    /// output, and whatever the system refuses.
    pub fn create(path: &Path, bytes: u64, overwrite: Overwrite) -> Result<Self, Error> {
        check_output(path, overwrite)?;
        let partial = partial_path(path);
        let write = |error| Error::io(Access::Write, path, error);
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&partial).map_err(write)?;
        lock(&file, &partial, path)?;
        let begun = Self::assemble(path, file, overwrite);
        begun.file.set_len(0).and_then(|()| begun.file.set_len(bytes)).map_err(write)?;
        Ok(begun)
    }

    /// Opens the partial file that a killed run left behind; none where there is none, or
    /// where it has another length. It is kept unless told otherwise.
    ///
    /// # Errors
    ///
    /// Those of [`create`](Self::create).
    pub fn resume(path: &Path, bytes: u64, overwrite: Overwrite) -> Result<Option<Self>, Error> {
        check_output(path, overwrite)?;
        let partial = partial_path(path);
        let write = |error| Error::io(Access::Write, path, error);
        let file = match OpenOptions::new().read(true).write(true).open(&partial) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(write(error)),
        };
        lock(&file, &partial, path)?;
        if file.metadata().map_err(write)?.len() != bytes {
            return Ok(None);
        }
        let resumed = Self::assemble(path, file, overwrite);
        resumed.keep(true);
        Ok(Some(resumed))
    }

    fn assemble(path: &Path, file: File, overwrite: Overwrite) -> Self {
        let (path, partial) = (path.to_owned(), partial_path(path));
        Self { path, partial, file, overwrite, keep: AtomicBool::new(false), finished: false }
    }

    /// The output.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the sibling stays when this is dropped unfinished.
    pub fn keep(&self, keep: bool) {
        self.keep.store(keep, Ordering::Relaxed);
    }

    /// Writes bytes at a place of the file, which the caller has seen to be inside it.
    ///
    /// # Errors
    ///
    /// Whatever the system refuses: a full disk leaves an old file as it was.
    pub fn write_at(&self, at: u64, bytes: &[u8]) -> Result<(), Error> {
        positioned::write(&self.file, bytes, at).map_err(|e| Error::io(Access::Write, &self.path, e))
    }

    /// Appends all of another file, whose permissions it gets.
    pub(crate) fn copy_from(&self, source: &mut File, permissions: fs::Permissions) -> Result<(), Error> {
        let copied = io::copy(source, &mut &self.file).and_then(|_| self.file.set_permissions(permissions));
        copied.map_err(|e| Error::io(Access::Write, &self.path, e))
    }

    /// Reads back bytes of the file.
    ///
    /// # Errors
    ///
    /// Whatever the system refuses.
    pub fn read_at(&self, at: u64, bytes: &mut [u8]) -> Result<(), Error> {
        positioned::read(&self.file, bytes, at).map_err(|e| Error::io(Access::Read, &self.path, e))
    }

    /// Gives the file its name. `durable` waits until the disk has it.
    ///
    /// # Errors
    ///
    /// Those of [`check_output`], and whatever the system refuses. The old file is then as it
    /// was.
    pub fn finish(mut self, durable: bool) -> Result<(), Error> {
        let write = |error| Error::io(Access::Write, &self.path, error);
        if durable {
            self.file.sync_all().map_err(write)?;
        }
        rename(&self.partial, &self.path, self.overwrite)?;
        if durable {
            sync_folder(&parent(&self.path)).map_err(write)?;
        }
        self.finished = true;
        Ok(())
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        if !self.finished && !self.keep.load(Ordering::Relaxed) {
            // Nobody is left to tell; a file that stays behind is discarded by the next run.
            let _ = fs::remove_file(&self.partial);
        }
    }
}

impl fmt::Debug for PartialFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartialFile").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Takes the partial file for this process alone, where the file system knows locks.
fn lock(file: &File, partial: &Path, path: &Path) -> Result<(), Error> {
    let busy = || Err(Error::from(ErrorKind::Busy).at(path));
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => return busy(),
        Err(TryLockError::Error(_)) | Ok(()) => {}
    }
    // Another process may have finished, and renamed the file, between opening and locking.
    if is_same_file(file, partial) { Ok(()) } else { busy() }
}

#[cfg(unix)]
fn is_same_file(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

#[cfg(not(unix))]
fn is_same_file(_: &File, path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|named| named.is_file())
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Reading and writing at a place, without a cursor that threads would share.
#[cfg(unix)]
mod positioned {
    use std::fs::File;
    use std::io;
    use std::os::unix::fs::FileExt;

    pub(super) fn write(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        file.write_all_at(bytes, at)
    }

    pub(super) fn read(file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
        file.read_exact_at(bytes, at)
    }
}

/// Reading and writing at a place, without a cursor that threads would share.
#[cfg(windows)]
mod positioned {
    use std::fs::File;
    use std::io;
    use std::os::windows::fs::FileExt;

    pub(super) fn write(file: &File, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            match file.seek_write(bytes, at) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => (bytes, at) = (bytes.get(n..).unwrap_or_default(), at + n as u64),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub(super) fn read(file: &File, mut bytes: &mut [u8], mut at: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            match file.seek_read(bytes, at) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => (bytes, at) = (bytes.get_mut(n..).unwrap_or_default(), at + n as u64),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

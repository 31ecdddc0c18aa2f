//! Writing a file of known layout, piece by piece, from any number of threads.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::checkpoint::parent;
use crate::dtype::Dtype;
use crate::error::{Access, Error, ErrorKind};
use crate::layout::{Entry, Layout, metadata_len};
use crate::output::{Overwrite, check_output, partial_path, rename};

/// A file that is being written.
///
/// It grows in a sibling, `OUT.niwaki-partial`, and [`finish`](Self::finish) gives it its
/// name; until then an old file of that name is untouched. Dropped unfinished, it removes the
/// sibling, unless [`keep_partial`](Self::keep_partial) said otherwise. Pieces may be written
/// and read back in any order and from any thread; where two overlap, either may win. What is
/// never written is zero.
pub struct Writer {
    path: PathBuf,
    partial: PathBuf,
    file: File,
    layout: Layout,
    overwrite: Overwrite,
    keep: AtomicBool,
    finished: bool,
    resumed: bool,
}

impl Writer {
    /// Begins a file at `path`; an old partial file is discarded.
    ///
    /// # Errors
    ///
    /// Those of [`check_output`], [`ErrorKind::Busy`] where another process writes the same
    /// output, and whatever the system refuses.
    pub fn create(path: &Path, layout: Layout, overwrite: Overwrite) -> Result<Self, Error> {
        check_output(path, overwrite)?;
        let partial = partial_path(path);
        let write = |error| Error::io(Access::Write, path, error);
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&partial).map_err(write)?;
        lock(&file, &partial, path)?;
        let writer = Self::assemble(path, file, layout, overwrite);
        writer.file.set_len(0).and_then(|()| writer.file.set_len(writer.layout.file_bytes())).map_err(write)?;
        Ok(writer)
    }

    /// Opens the partial file that a killed run left behind; none where there is none, or
    /// where it has another length than the layout.
    ///
    /// Which of its tensors are complete, the caller must know.
    ///
    /// # Errors
    ///
    /// Those of [`create`](Self::create).
    pub fn resume(path: &Path, layout: Layout, overwrite: Overwrite) -> Result<Option<Self>, Error> {
        check_output(path, overwrite)?;
        let partial = partial_path(path);
        let write = |error| Error::io(Access::Write, path, error);
        let file = match OpenOptions::new().read(true).write(true).open(&partial) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(write(error)),
        };
        lock(&file, &partial, path)?;
        if file.metadata().map_err(write)?.len() != layout.file_bytes() {
            return Ok(None);
        }
        let mut writer = Self::assemble(path, file, layout, overwrite);
        writer.resumed = true;
        writer.keep_partial(true);
        Ok(Some(writer))
    }

    fn assemble(path: &Path, file: File, layout: Layout, overwrite: Overwrite) -> Self {
        let (path, partial) = (path.to_owned(), partial_path(path));
        Self { path, partial, file, layout, overwrite, keep: AtomicBool::new(false), finished: false, resumed: false }
    }

    /// The output.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where every tensor stands.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Whether the partial file stays when the writer is dropped unfinished. A resumed one
    /// stays unless told otherwise.
    pub fn keep_partial(&self, keep: bool) {
        self.keep.store(keep, Ordering::Relaxed);
    }

    /// Writes bytes into the tensor `entry`, `offset` bytes from its beginning.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NoEntry`], [`ErrorKind::Bounds`], and whatever the system refuses: a full
    /// disk leaves an old file as it was.
    pub fn write_at(&self, entry: usize, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let at = self.locate(entry, offset, bytes.len())?;
        positioned::write(&self.file, bytes, at).map_err(|e| self.refused(Access::Write, entry, e))
    }

    /// Reads back bytes of the tensor `entry`.
    ///
    /// # Errors
    ///
    /// Those of [`write_at`](Self::write_at).
    pub fn read_at(&self, entry: usize, offset: u64, bytes: &mut [u8]) -> Result<(), Error> {
        let at = self.locate(entry, offset, bytes.len())?;
        positioned::read(&self.file, bytes, at).map_err(|e| self.refused(Access::Read, entry, e))
    }

    fn refused(&self, access: Access, entry: usize, error: io::Error) -> Error {
        Error::io(access, &self.path, error).of(self.layout.name(entry).unwrap_or_default())
    }

    /// Where in the file a piece of a tensor stands.
    fn locate(&self, entry: usize, offset: u64, len: usize) -> Result<u64, Error> {
        let layout = &self.layout;
        let (Some(start), Some(has)) = (layout.file_offset(entry), layout.entry_bytes(entry)) else {
            return Err(Error::from(ErrorKind::NoEntry { index: entry, has: layout.len() }).at(&self.path));
        };
        let len = len as u64;
        if offset.checked_add(len).is_none_or(|end| end > has) {
            let error = Error::from(ErrorKind::Bounds { begin: offset, len, has }).at(&self.path);
            return Err(error.of(layout.name(entry).unwrap_or_default()));
        }
        Ok(start + offset)
    }

    /// Writes the header and gives the file its name. `durable` waits until the disk has it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::HeaderRoom`] for metadata that needs more room than the layout reserved,
    /// and whatever the system refuses. The old file is then as it was.
    pub fn finish(mut self, metadata: &[(&str, &str)], durable: bool) -> Result<(), Error> {
        let write = |error| Error::io(Access::Write, &self.path, error);
        if self.resumed {
            for (at, len) in self.layout.pads() {
                positioned::write(&self.file, &vec![0; len as usize], at).map_err(write)?;
            }
        }
        let header = self.layout.header(metadata).map_err(|e| e.at(&self.path))?;
        positioned::write(&self.file, &header, 0).map_err(write)?;
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

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.finished && !self.keep.load(Ordering::Relaxed) {
            // Nobody is left to tell; a file that stays behind is discarded by the next run.
            let _ = fs::remove_file(&self.partial);
        }
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("path", &self.path).field("tensors", &self.layout.len()).finish_non_exhaustive()
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

/// Writes a small file at once: name, type, shape and bytes of each tensor, in this order and
/// without pads between them.
///
/// # Errors
///
/// Those of [`Layout::exact`], [`Writer::create`] and [`Writer::finish`], and
/// [`ErrorKind::Given`] for a tensor with the wrong number of bytes.
pub fn write_file(
    path: &Path,
    tensors: &[(&str, Dtype, &[usize], &[u8])],
    metadata: &[(&str, &str)],
    overwrite: Overwrite,
) -> Result<(), Error> {
    let entry = |&(name, dtype, shape, _): &(&str, Dtype, &[usize], &[u8])| Entry {
        name: name.to_owned(),
        dtype,
        shape: shape.to_vec(),
    };
    let layout = Layout::exact(tensors.iter().map(entry).collect(), metadata_len(metadata)).map_err(|e| e.at(path))?;
    for (&(name, .., bytes), (_, needs)) in tensors.iter().zip(layout.tensors()) {
        let has = bytes.len() as u64;
        if needs != has {
            return Err(Error::from(ErrorKind::Given { needs, has }).of(name).at(path));
        }
    }
    let writer = Writer::create(path, layout, overwrite)?;
    for (index, (.., bytes)) in tensors.iter().enumerate() {
        writer.write_at(index, 0, bytes)?;
    }
    writer.finish(metadata, false)
}

//! A file of whatever format, mapped.

use std::fmt;
use std::fs::{self, File};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::error::{Access, Error, ErrorKind};
use crate::mmap::{Advice, Map};

/// A regular file, mapped as a whole and read-only.
pub struct MappedFile {
    path: PathBuf,
    file: File,
    map: Map,
    modified: Option<SystemTime>,
}

impl MappedFile {
    /// Maps the file at `path`. Nothing of it is read.
    ///
    /// As long as the map lives, nobody must shorten the file: reading what is gone ends the
    /// process. [`ensure_unchanged`](Self::ensure_unchanged) looks whether somebody did.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotAFile`], [`ErrorKind::Unmapped`], and whatever the system refuses.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let read = |error| Error::io(Access::Read, path, error);
        // Looked at before it is opened: opening a pipe waits for its other end.
        if !fs::metadata(path).map_err(read)?.is_file() {
            return Err(Error::from(ErrorKind::NotAFile).at(path));
        }
        Self::from_file(path, File::open(path).map_err(read)?)
    }

    /// Maps a file that is open already; `path` stands in errors.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open).
    pub fn from_file(path: &Path, file: File) -> Result<Self, Error> {
        let meta = file.metadata().map_err(|error| Error::io(Access::Read, path, error))?;
        if !meta.is_file() {
            return Err(Error::from(ErrorKind::NotAFile).at(path));
        }
        let bytes = meta.len();
        let unmapped = || Error::from(ErrorKind::Unmapped { bytes }).at(path);
        let len = usize::try_from(bytes).map_err(|_| unmapped())?;
        let map = Map::new(&file, len).map_err(|e| unmapped().because(e))?;
        Ok(Self { path: path.to_owned(), file, map, modified: meta.modified().ok() })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All its bytes.
    pub fn bytes(&self) -> &[u8] {
        self.map.bytes()
    }

    /// When the file was last written, as the system said at opening.
    pub fn modified(&self) -> Option<SystemTime> {
        self.modified
    }

    /// Whether the file still has the length and the time of change that it had when it was
    /// opened. One system call: cheap enough for every piece of work.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Changed`].
    pub fn ensure_unchanged(&self) -> Result<(), Error> {
        let meta = self.file.metadata().map_err(|e| Error::io(Access::Read, &self.path, e))?;
        let (had, has) = (self.map.bytes().len() as u64, meta.len());
        if had != has || self.modified != meta.modified().ok() {
            return Err(Error::from(ErrorKind::Changed { had, has }).at(&self.path));
        }
        Ok(())
    }

    /// Tells the kernel what is about to happen to a range of the file. Advice that the
    /// system does not know is no error.
    ///
    /// # Errors
    ///
    /// Under [`Advice::Populate`], bytes that cannot be read: [`ErrorKind::Changed`] where the
    /// file was shortened, which reading them would answer with a signal.
    pub fn advise(&self, range: Range<usize>, advice: Advice) -> Result<(), Error> {
        match self.map.advise(range, advice) {
            Err(error) if advice == Advice::Populate => {
                self.ensure_unchanged()?;
                Err(Error::io(Access::Read, &self.path, error))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for MappedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.map.bytes().len();
        f.debug_struct("MappedFile").field("path", &self.path).field("bytes", &bytes).finish_non_exhaustive()
    }
}

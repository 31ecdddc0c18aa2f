//! Writing a file of known layout, piece by piece, from any number of threads.

use std::fmt;
use std::path::Path;

use niwaki_tensors::{Overwrite, PartialFile};

use crate::error::{Error, ErrorKind};
use crate::layout::Layout;

/// A file that is being written: a [`PartialFile`] and where every tensor stands in it.
pub struct Writer {
    file: PartialFile,
    layout: Layout,
    resumed: bool,
}

impl Writer {
    /// Begins a file at `path`; an old partial file is discarded.
    ///
    /// # Errors
    ///
    /// Those of [`PartialFile::create`].
    pub fn create(path: &Path, layout: Layout, overwrite: Overwrite) -> Result<Self, Error> {
        Ok(Self { file: PartialFile::create(path, layout.file_bytes(), overwrite)?, layout, resumed: false })
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
        let file = PartialFile::resume(path, layout.file_bytes(), overwrite)?;
        Ok(file.map(|file| Self { file, layout, resumed: true }))
    }

    /// The output.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Where every tensor stands.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Whether the partial file stays when the writer is dropped unfinished. A resumed one
    /// stays unless told otherwise.
    pub fn keep_partial(&self, keep: bool) {
        self.file.keep(keep);
    }

    /// Writes bytes into the tensor `entry`, `offset` bytes from its beginning.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NoEntry`], [`ErrorKind::Bounds`], and whatever the system refuses: a full
    /// disk leaves an old file as it was.
    pub fn write_at(&self, entry: usize, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let at = self.locate(entry, offset, bytes.len())?;
        self.file.write_at(at, bytes).map_err(|e| Error::from(e).of(self.layout.name(entry).unwrap_or_default()))
    }

    /// Reads back bytes of the tensor `entry`.
    ///
    /// # Errors
    ///
    /// Those of [`write_at`](Self::write_at).
    pub fn read_at(&self, entry: usize, offset: u64, bytes: &mut [u8]) -> Result<(), Error> {
        let at = self.locate(entry, offset, bytes.len())?;
        self.file.read_at(at, bytes).map_err(|e| Error::from(e).of(self.layout.name(entry).unwrap_or_default()))
    }

    /// Where in the file a piece of a tensor stands.
    fn locate(&self, entry: usize, offset: u64, len: usize) -> Result<u64, Error> {
        let layout = &self.layout;
        let (Some(start), Some(has)) = (layout.file_offset(entry), layout.entry_bytes(entry)) else {
            return Err(Error::from(ErrorKind::NoEntry { index: entry, has: layout.len() }).at(self.path()));
        };
        let len = len as u64;
        if offset.checked_add(len).is_none_or(|end| end > has) {
            let error = Error::from(ErrorKind::Bounds { begin: offset, len, has }).at(self.path());
            return Err(error.of(layout.name(entry).unwrap_or_default()));
        }
        Ok(start + offset)
    }

    /// Writes the header and gives the file its name. `durable` waits until the disk has it.
    ///
    /// # Errors
    ///
    /// Those of [`PartialFile::finish`]. The old file is then as it was.
    pub fn finish(self, durable: bool) -> Result<(), Error> {
        if self.resumed {
            for (at, len) in self.layout.pads() {
                self.file.write_at(at, &vec![0; len as usize])?;
            }
        }
        self.file.write_at(0, self.layout.header())?;
        Ok(self.file.finish(durable)?)
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, tensors) = (self.path(), self.layout.len());
        f.debug_struct("Writer").field("path", &path).field("tensors", &tensors).finish_non_exhaustive()
    }
}

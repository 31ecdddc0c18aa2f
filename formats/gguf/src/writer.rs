//! Writing a file of known layout, piece by piece, from any number of threads.

use std::fmt;
use std::path::Path;

use niwaki_tensors::{Overwrite, PlacedFile};

use crate::error::Error;
use crate::layout::Layout;

/// A file that is being written: a [`PlacedFile`] and the layout that placed it.
pub struct Writer {
    file: PlacedFile,
    layout: Layout,
}

impl Writer {
    /// Begins a file at `path`; an old partial file is discarded.
    ///
    /// # Errors
    ///
    /// Those of [`PlacedFile::create`].
    pub fn create(path: &Path, layout: Layout, overwrite: Overwrite) -> Result<Self, Error> {
        Ok(Self { file: PlacedFile::create(path, layout.places(), overwrite)?, layout })
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
        let file = PlacedFile::resume(path, layout.places(), overwrite)?;
        Ok(file.map(|file| Self { file, layout }))
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
    /// Those of [`PlacedFile::write_at`].
    pub fn write_at(&self, entry: usize, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        Ok(self.file.write_at(entry, offset, bytes)?)
    }

    /// Reads back bytes of the tensor `entry`.
    ///
    /// # Errors
    ///
    /// Those of [`write_at`](Self::write_at).
    pub fn read_at(&self, entry: usize, offset: u64, bytes: &mut [u8]) -> Result<(), Error> {
        Ok(self.file.read_at(entry, offset, bytes)?)
    }

    /// Writes the header and gives the file its name. `durable` waits until the disk has it.
    ///
    /// # Errors
    ///
    /// Those of [`PlacedFile::finish`]. The old file is then as it was.
    pub fn finish(self, durable: bool) -> Result<(), Error> {
        Ok(self.file.finish(self.layout.header(), durable)?)
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, tensors) = (self.path(), self.layout.len());
        f.debug_struct("Writer").field("path", &path).field("tensors", &tensors).finish_non_exhaustive()
    }
}

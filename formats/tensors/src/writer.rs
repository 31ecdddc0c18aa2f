//! Writing a file of known layout, piece by piece, from any number of threads.

use std::fmt;
use std::path::Path;

use crate::dtype::Dtype;
use crate::error::{Error, ErrorKind};
use crate::layout::{Entry, Layout, metadata_len};
use crate::output::Overwrite;
use crate::placed::PlacedFile;

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
        self.file.write_at(entry, offset, bytes)
    }

    /// Reads back bytes of the tensor `entry`.
    ///
    /// # Errors
    ///
    /// Those of [`write_at`](Self::write_at).
    pub fn read_at(&self, entry: usize, offset: u64, bytes: &mut [u8]) -> Result<(), Error> {
        self.file.read_at(entry, offset, bytes)
    }

    /// Writes the header and gives the file its name. `durable` waits until the disk has it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::HeaderRoom`] for metadata that needs more room than the layout reserved,
    /// and whatever the system refuses. The old file is then as it was.
    pub fn finish(self, metadata: &[(&str, &str)], durable: bool) -> Result<(), Error> {
        let header = self.layout.header(metadata).map_err(|e| e.at(self.file.path()))?;
        self.file.finish(&header, durable)
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, tensors) = (self.file.path(), self.layout.len());
        f.debug_struct("Writer").field("path", &path).field("tensors", &tensors).finish_non_exhaustive()
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

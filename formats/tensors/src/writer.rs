//! Writing a file of known layout, piece by piece, from any number of threads.

use std::fmt;
use std::path::Path;

use crate::dtype::Dtype;
use crate::error::{Error, ErrorKind};
use crate::layout::{Entry, Layout, metadata_len};
use crate::output::Overwrite;
use crate::partial::PartialFile;

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
        self.file.write_at(at, bytes).map_err(|e| self.refused(entry, e))
    }

    /// Reads back bytes of the tensor `entry`.
    ///
    /// # Errors
    ///
    /// Those of [`write_at`](Self::write_at).
    pub fn read_at(&self, entry: usize, offset: u64, bytes: &mut [u8]) -> Result<(), Error> {
        let at = self.locate(entry, offset, bytes.len())?;
        self.file.read_at(at, bytes).map_err(|e| self.refused(entry, e))
    }

    fn refused(&self, entry: usize, error: Error) -> Error {
        error.of(self.layout.name(entry).unwrap_or_default())
    }

    /// Where in the file a piece of a tensor stands.
    fn locate(&self, entry: usize, offset: u64, len: usize) -> Result<u64, Error> {
        let (layout, path) = (&self.layout, self.file.path());
        let (Some(start), Some(has)) = (layout.file_offset(entry), layout.entry_bytes(entry)) else {
            return Err(Error::from(ErrorKind::NoEntry { index: entry, has: layout.len() }).at(path));
        };
        let len = len as u64;
        if offset.checked_add(len).is_none_or(|end| end > has) {
            let error = Error::from(ErrorKind::Bounds { begin: offset, len, has }).at(path);
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
    pub fn finish(self, metadata: &[(&str, &str)], durable: bool) -> Result<(), Error> {
        if self.resumed {
            for (at, len) in self.layout.pads() {
                self.file.write_at(at, &vec![0; len as usize])?;
            }
        }
        let header = self.layout.header(metadata).map_err(|e| e.at(self.file.path()))?;
        self.file.write_at(0, &header)?;
        self.file.finish(durable)
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

//! One mapped file.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::error::{Access, Error, ErrorKind};
use crate::header::{Header, HeaderEntry, parse_header};
use crate::limits::Limits;
use crate::mmap::{Advice, Map};

/// One safetensors file of a checkpoint, mapped.
pub struct Shard {
    path: PathBuf,
    file: File,
    map: Map,
    modified: Option<SystemTime>,
    header: Header,
}

impl Shard {
    pub(crate) fn open(path: &Path, limits: &Limits) -> Result<Self, Error> {
        let read = |error| Error::io(Access::Read, path, error);
        // Looked at before it is opened: opening a pipe waits for its other end.
        if !fs::metadata(path).map_err(read)?.is_file() {
            return Err(Error::from(ErrorKind::NotAFile).at(path));
        }
        let file = File::open(path).map_err(read)?;
        let meta = file.metadata().map_err(read)?;
        let bytes = meta.len();
        let unmapped = || Error::from(ErrorKind::Unmapped { bytes }).at(path);
        let len = usize::try_from(bytes).map_err(|_| unmapped())?;
        let map = Map::new(&file, len).map_err(|e| unmapped().because(e))?;
        let header = parse_header(map.bytes(), limits).map_err(|e| e.at(path))?;
        Ok(Self { path: path.to_owned(), file, map, modified: meta.modified().ok(), header })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the file when it was opened.
    pub fn file_bytes(&self) -> u64 {
        self.map.bytes().len() as u64
    }

    /// When the file was last written, as the system said at opening.
    pub fn modified(&self) -> Option<SystemTime> {
        self.modified
    }

    /// The whole file.
    pub fn bytes(&self) -> &[u8] {
        self.map.bytes()
    }

    /// The file's own texts.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.header.metadata
    }

    /// Where the data begins, in bytes from the beginning of the file.
    pub fn data_start(&self) -> usize {
        self.header.data_start
    }

    /// Its tensors, in the order of their data.
    pub fn entries(&self) -> &[HeaderEntry] {
        &self.header.entries
    }

    /// The bytes of one of its entries.
    pub(crate) fn data(&self, entry: &HeaderEntry) -> &[u8] {
        self.map.bytes().get(self.file_range(entry)).unwrap_or_default()
    }

    /// Where one of its entries lies in the file.
    pub(crate) fn file_range(&self, entry: &HeaderEntry) -> Range<usize> {
        let start = self.header.data_start;
        start + entry.begin..start + entry.end
    }

    /// Whether the file still has the length and the time of change that it had when it was
    /// opened. One system call: cheap enough for every piece of work.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Changed`].
    pub fn ensure_unchanged(&self) -> Result<(), Error> {
        let meta = self.file.metadata().map_err(|e| Error::io(Access::Read, &self.path, e))?;
        let (had, has) = (self.file_bytes(), meta.len());
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

impl fmt::Debug for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tensors = self.header.entries.len();
        f.debug_struct("Shard").field("path", &self.path).field("tensors", &tensors).finish_non_exhaustive()
    }
}

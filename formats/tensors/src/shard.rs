//! One mapped file.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::time::SystemTime;

use crate::backing::Backing;
use crate::error::Error;
use crate::header::{Header, HeaderEntry, parse_header};
use crate::limits::Limits;
use crate::mmap::Advice;

/// One safetensors file of a checkpoint: mapped, or in memory.
pub struct Shard {
    file: Backing,
    header: Header,
}

impl Shard {
    pub(crate) fn open(path: &Path, limits: &Limits) -> Result<Self, Error> {
        Self::read(Backing::map(path)?, limits)
    }

    pub(crate) fn read(file: Backing, limits: &Limits) -> Result<Self, Error> {
        let header = parse_header(file.bytes(), limits).map_err(|e| e.at(file.name()))?;
        Ok(Self { file, header })
    }

    /// The bytes of one of its entries as a file of its own.
    pub(crate) fn embedded(&self, entry: &HeaderEntry) -> Backing {
        self.file.part(&entry.name, self.file_range(entry))
    }

    /// The file; for bytes in memory the name that they were given, and for a file inside another
    /// one `FILE#TENSOR`.
    pub fn path(&self) -> &Path {
        self.file.name()
    }

    /// Bytes of the file when it was opened.
    pub fn file_bytes(&self) -> u64 {
        self.file.bytes().len() as u64
    }

    /// When the file was last written, as the system said at opening; none for bytes in memory.
    pub fn modified(&self) -> Option<SystemTime> {
        self.file.modified()
    }

    /// The whole file.
    pub fn bytes(&self) -> &[u8] {
        self.file.bytes()
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
        self.file.bytes().get(self.file_range(entry)).unwrap_or_default()
    }

    /// Where one of its entries lies in the file.
    pub(crate) fn file_range(&self, entry: &HeaderEntry) -> Range<usize> {
        let start = self.header.data_start;
        start + entry.begin..start + entry.end
    }

    /// Whether the file is still as it was when it was opened; see
    /// [`MappedFile::ensure_unchanged`](crate::MappedFile::ensure_unchanged). Bytes in memory are.
    ///
    /// # Errors
    ///
    /// Those of [`MappedFile::ensure_unchanged`](crate::MappedFile::ensure_unchanged).
    pub fn ensure_unchanged(&self) -> Result<(), Error> {
        self.file.ensure_unchanged()
    }

    /// Tells the kernel what is about to happen to a range of the file; see
    /// [`MappedFile::advise`](crate::MappedFile::advise).
    ///
    /// # Errors
    ///
    /// Those of [`MappedFile::advise`](crate::MappedFile::advise).
    pub fn advise(&self, range: Range<usize>, advice: Advice) -> Result<(), Error> {
        self.file.advise(range, advice)
    }
}

impl fmt::Debug for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tensors = self.header.entries.len();
        f.debug_struct("Shard").field("path", &self.path()).field("tensors", &tensors).finish_non_exhaustive()
    }
}

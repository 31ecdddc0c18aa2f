//! A file that is being written, of whatever format, whose entries have known places.

use std::path::Path;

use crate::error::{Error, ErrorKind};
use crate::output::Overwrite;
use crate::partial::PartialFile;

/// Where one entry stands in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its name.
    pub name: String,
    /// Its first byte, counted from the beginning of the file.
    pub at: u64,
    /// Its length in bytes.
    pub bytes: u64,
}

/// Where everything stands in a file to be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// The entries, by number.
    pub entries: Vec<Place>,
    /// Gaps that are to hold zeros: first byte and length.
    pub gaps: Vec<(u64, u64)>,
    /// Bytes of the whole file.
    pub file_bytes: u64,
}

/// A [`PartialFile`] that is written entry by entry, from any number of threads.
#[derive(Debug)]
pub struct PlacedFile {
    file: PartialFile,
    places: Places,
    resumed: bool,
}

impl PlacedFile {
    /// Begins a file at `path`; an old partial file is discarded.
    ///
    /// # Errors
    ///
    /// Those of [`PartialFile::create`].
    pub fn create(path: &Path, places: Places, overwrite: Overwrite) -> Result<Self, Error> {
        let file = PartialFile::create(path, places.file_bytes, overwrite)?;
        Ok(Self { file, places, resumed: false })
    }

    /// Opens the partial file that a killed run left behind; none where there is none, or
    /// where it has another length. Which of its entries are complete, the caller must know.
    ///
    /// # Errors
    ///
    /// Those of [`create`](Self::create).
    pub fn resume(path: &Path, places: Places, overwrite: Overwrite) -> Result<Option<Self>, Error> {
        let file = PartialFile::resume(path, places.file_bytes, overwrite)?;
        Ok(file.map(|file| Self { file, places, resumed: true }))
    }

    /// The output.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Whether the partial file stays when this is dropped unfinished. A resumed one stays
    /// unless told otherwise.
    pub fn keep(&self, keep: bool) {
        self.file.keep(keep);
    }

    /// Writes bytes into an entry, `offset` bytes from its beginning.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NoEntry`], [`ErrorKind::Bounds`], and whatever the system refuses: a full
    /// disk leaves an old file as it was.
    pub fn write_at(&self, entry: usize, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let (place, at) = self.locate(entry, offset, bytes.len())?;
        self.file.write_at(at, bytes).map_err(|e| e.of(&place.name))
    }

    /// Reads back bytes of an entry.
    ///
    /// # Errors
    ///
    /// Those of [`write_at`](Self::write_at).
    pub fn read_at(&self, entry: usize, offset: u64, bytes: &mut [u8]) -> Result<(), Error> {
        let (place, at) = self.locate(entry, offset, bytes.len())?;
        self.file.read_at(at, bytes).map_err(|e| e.of(&place.name))
    }

    /// Where in the file a piece of an entry stands.
    fn locate(&self, entry: usize, offset: u64, len: usize) -> Result<(&Place, u64), Error> {
        let has = self.places.entries.len();
        let place = self.places.entries.get(entry);
        let place = place.ok_or_else(|| Error::from(ErrorKind::NoEntry { index: entry, has }).at(self.path()))?;
        let len = len as u64;
        if offset.checked_add(len).is_none_or(|end| end > place.bytes) {
            let error = Error::from(ErrorKind::Bounds { begin: offset, len, has: place.bytes });
            return Err(error.at(self.path()).of(&place.name));
        }
        Ok((place, place.at + offset))
    }

    /// Writes the header and gives the file its name. `durable` waits until the disk has it.
    ///
    /// # Errors
    ///
    /// Those of [`PartialFile::finish`]. The old file is then as it was.
    pub fn finish(self, header: &[u8], durable: bool) -> Result<(), Error> {
        if self.resumed {
            for (at, len) in &self.places.gaps {
                self.file.write_at(*at, &vec![0; *len as usize])?;
            }
        }
        self.file.write_at(0, header)?;
        self.file.finish(durable)
    }
}

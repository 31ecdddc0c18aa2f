//! Where the bytes of one safetensors file are.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::error::Error;
use crate::mapped::MappedFile;
use crate::mmap::Advice;

/// The bytes of one file: a mapped file, or a range of one, or memory. Cloning shares them.
#[derive(Clone)]
pub(crate) struct Backing {
    name: PathBuf,
    place: Place,
}

/// Whoever keeps bytes in memory.
type Owner = Arc<dyn AsRef<[u8]> + Send + Sync>;

#[derive(Clone)]
enum Place {
    /// Invariant: the range lies in the file.
    Mapped { file: Arc<MappedFile>, range: Range<usize> },
    /// Invariant: the range lies in the bytes.
    Memory { bytes: Owner, range: Range<usize> },
}

impl Backing {
    pub(crate) fn map(path: &Path) -> Result<Self, Error> {
        MappedFile::open(path).map(Self::mapped)
    }

    pub(crate) fn mapped(file: MappedFile) -> Self {
        let (name, range) = (file.path().to_owned(), 0..file.bytes().len());
        Self { name, place: Place::Mapped { file: Arc::new(file), range } }
    }

    pub(crate) fn memory(name: &Path, bytes: Owner) -> Self {
        let range = 0..(*bytes).as_ref().len();
        Self { name: name.to_owned(), place: Place::Memory { bytes, range } }
    }

    /// A range of the bytes as a file of its own, `FILE#WHAT`; a range that reaches beyond them is cut.
    pub(crate) fn part(&self, what: &str, part: Range<usize>) -> Self {
        let mut name = self.name.clone().into_os_string();
        name.push("#");
        name.push(what);
        let cut = |range: &Range<usize>| {
            let at = |byte: usize| range.start.saturating_add(byte).min(range.end);
            at(part.start)..at(part.end.max(part.start))
        };
        let place = match &self.place {
            Place::Mapped { file, range } => Place::Mapped { file: Arc::clone(file), range: cut(range) },
            Place::Memory { bytes, range } => Place::Memory { bytes: Arc::clone(bytes), range: cut(range) },
        };
        Self { name: name.into(), place }
    }

    /// The path of the file, or the name that was given to the bytes.
    pub(crate) fn name(&self) -> &Path {
        &self.name
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.place {
            Place::Mapped { file, range } => file.bytes().get(range.clone()),
            Place::Memory { bytes, range } => (**bytes).as_ref().get(range.clone()),
        }
        .unwrap_or_default()
    }

    pub(crate) fn modified(&self) -> Option<SystemTime> {
        match &self.place {
            Place::Mapped { file, .. } => file.modified(),
            Place::Memory { .. } => None,
        }
    }

    /// Memory that is shared cannot change; of a mapped file all of it is looked at.
    pub(crate) fn ensure_unchanged(&self) -> Result<(), Error> {
        match &self.place {
            Place::Mapped { file, .. } => file.ensure_unchanged(),
            Place::Memory { .. } => Ok(()),
        }
    }

    pub(crate) fn advise(&self, bytes: Range<usize>, advice: Advice) -> Result<(), Error> {
        let Place::Mapped { file, range } = &self.place else { return Ok(()) };
        let at = |byte: usize| range.start.saturating_add(byte).min(range.end);
        file.advise(at(bytes.start)..at(bytes.end), advice)
    }
}

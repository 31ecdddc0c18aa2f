//! One error for this crate: a kind, where, and who is to blame.

mod kind;
mod text;

use std::fmt;
use std::path::{Path, PathBuf};

use niwaki_tensors::Blame;

pub use kind::ErrorKind;
pub(crate) use text::dims;

/// Why a GGUF file could not be read or written, or a folder not be described as one.
///
/// `Display` is one line; where a file is known, the line begins with its path.
pub struct Error {
    inner: Box<Inner>,
}

struct Inner {
    kind: ErrorKind,
    path: Option<PathBuf>,
    place: Place,
    by_caller: bool,
}

/// Which part of a file an error concerns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Place {
    /// The file as such.
    #[default]
    File,
    /// A key of the metadata.
    Key(String),
    /// A key whose name is not known yet, counted from 0.
    KeyNumber(u64),
    /// A tensor.
    Tensor(String),
    /// A tensor whose name is not known yet, counted from 0.
    TensorNumber(u64),
}

impl Error {
    /// What was wrong.
    pub fn kind(&self) -> &ErrorKind {
        &self.inner.kind
    }

    /// Who has to act.
    pub fn blame(&self) -> Blame {
        if self.inner.by_caller { Blame::Caller } else { self.inner.kind.blame() }
    }

    /// The file it concerns.
    pub fn path(&self) -> Option<&Path> {
        match &self.inner.kind {
            ErrorKind::File(error) => error.path().or(self.inner.path.as_deref()),
            _ => self.inner.path.as_deref(),
        }
    }

    /// The tensor it concerns.
    pub fn tensor(&self) -> Option<&str> {
        match &self.inner.place {
            Place::Tensor(name) => Some(name),
            _ => None,
        }
    }

    /// The key of the metadata that it concerns.
    pub fn key(&self) -> Option<&str> {
        match &self.inner.place {
            Place::Key(key) => Some(key),
            _ => None,
        }
    }

    /// What can be done about it, where that is more than the sentence says.
    pub fn hint(&self) -> Option<&'static str> {
        self.inner.kind.hint()
    }

    pub(crate) fn place(&self) -> &Place {
        &self.inner.place
    }

    /// The same error, said of `path` where none is named yet.
    pub(crate) fn at(mut self, path: &Path) -> Self {
        self.inner.path.get_or_insert_with(|| path.to_owned());
        self
    }

    /// The same error, in a place where none is named yet.
    pub(crate) fn within(mut self, place: impl FnOnce() -> Place) -> Self {
        if self.inner.place == Place::File {
            self.inner.place = place();
        }
        self
    }

    /// The same error, of the tensor `name` where no place is named yet.
    pub(crate) fn of(self, name: &str) -> Self {
        self.within(|| Place::Tensor(name.to_owned()))
    }

    /// The same error, of the key `key` where no place is named yet.
    pub(crate) fn under(self, key: &str) -> Self {
        self.within(|| Place::Key(key.to_owned()))
    }

    /// The same error about what a caller wants to write.
    pub(crate) fn by_caller(mut self) -> Self {
        self.inner.by_caller = true;
        self
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self { inner: Box::new(Inner { kind, path: None, place: Place::File, by_caller: false }) }
    }
}

impl From<niwaki_tensors::Error> for Error {
    fn from(error: niwaki_tensors::Error) -> Self {
        ErrorKind::File(error).into()
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error").field("message", &self.to_string()).field("kind", self.kind()).finish_non_exhaustive()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.inner.kind {
            ErrorKind::File(error) => Some(error),
            _ => None,
        }
    }
}

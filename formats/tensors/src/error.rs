//! One error for this crate: a kind, where, and who is to blame.

mod kind;
mod one_line;
mod text;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

pub use kind::{Access, ErrorKind, Fault};
pub use one_line::OneLine;
pub(crate) use text::dims;

/// Why a checkpoint could not be read or written.
///
/// `Display` is one line; where a file is known, the line begins with its path.
pub struct Error {
    inner: Box<Inner>,
}

struct Inner {
    kind: ErrorKind,
    path: Option<PathBuf>,
    tensor: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Who has to act on an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Blame {
    /// The disk, or the operating system in front of it.
    Io,
    /// The file that was read.
    Input,
    /// The arguments that were given.
    Caller,
    /// A limit that was set.
    Limit,
    /// The machine, or another process on it.
    Environment,
}

impl Blame {
    /// The word in reports: `io`, `input`, `caller`, `limit` or `environment`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Io => "io",
            Self::Input => "input",
            Self::Caller => "caller",
            Self::Limit => "limit",
            Self::Environment => "environment",
        }
    }
}

impl fmt::Display for Blame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Error {
    /// What was wrong.
    pub fn kind(&self) -> &ErrorKind {
        &self.inner.kind
    }

    /// Who has to act.
    pub fn blame(&self) -> Blame {
        self.inner.kind.blame()
    }

    /// The file or folder it concerns.
    pub fn path(&self) -> Option<&Path> {
        self.inner.path.as_deref()
    }

    /// The tensor it concerns.
    pub fn tensor(&self) -> Option<&str> {
        self.inner.tensor.as_deref()
    }

    /// What can be done about it, where that is more than the sentence says.
    pub fn hint(&self) -> Option<&'static str> {
        self.inner.kind.hint()
    }

    /// What the operating system said of `path`.
    pub(crate) fn io(access: Access, path: &Path, error: io::Error) -> Self {
        Self::from(ErrorKind::Io { access, error: error.kind() }).at(path).because(error)
    }

    /// The same error, said of `path` where none is named yet.
    pub(crate) fn at(mut self, path: &Path) -> Self {
        self.inner.path.get_or_insert_with(|| path.to_owned());
        self
    }

    /// The same error, said of the tensor `name` where none is named yet.
    pub(crate) fn of(mut self, name: &str) -> Self {
        self.inner.tensor.get_or_insert_with(|| name.to_owned());
        self
    }

    /// The same error with its cause.
    pub(crate) fn because(mut self, cause: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.inner.source = Some(Box::new(cause));
        self
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self { inner: Box::new(Inner { kind, path: None, tensor: None, source: None }) }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error").field("message", &self.to_string()).field("kind", self.kind()).finish_non_exhaustive()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.inner.source.as_ref().map(|e| &**e as _)
    }
}

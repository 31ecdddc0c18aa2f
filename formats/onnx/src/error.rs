//! One error for this crate: a kind, where, and who is to blame.

mod kind;
mod one_line;
mod text;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

pub use kind::{Access, ErrorKind};
pub(crate) use text::dims;

use crate::proto;

/// Why a model could not be read or written.
///
/// `Display` is one line; where a file is known, the line begins with its path.
pub struct Error {
    inner: Box<Inner>,
}

struct Inner {
    kind: ErrorKind,
    path: Option<PathBuf>,
    place: Place,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Which part of a model an error concerns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Place {
    /// The file as such.
    #[default]
    File,
    /// A tensor, by name.
    Tensor(String),
    /// A node: its name and operator, and one of its attributes.
    Attribute { node: String, op: String, attribute: String },
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

impl Error {
    /// What was wrong.
    pub fn kind(&self) -> &ErrorKind {
        &self.inner.kind
    }

    /// Who has to act.
    pub fn blame(&self) -> Blame {
        self.inner.kind.blame()
    }

    /// The file it concerns.
    pub fn path(&self) -> Option<&Path> {
        self.inner.path.as_deref()
    }

    /// The tensor it concerns.
    pub fn tensor(&self) -> Option<&str> {
        match &self.inner.place {
            Place::Tensor(name) => Some(name),
            _ => None,
        }
    }

    /// The attribute it concerns, and the node's name and operator before it.
    pub fn attribute(&self) -> Option<(&str, &str, &str)> {
        match &self.inner.place {
            Place::Attribute { node, op, attribute } => Some((node, op, attribute)),
            _ => None,
        }
    }

    pub(crate) fn place(&self) -> &Place {
        &self.inner.place
    }

    /// What the operating system said of `path`.
    pub(crate) fn io(access: Access, path: &Path, error: io::Error) -> Self {
        let mut this = Self::from(ErrorKind::Io { access, error: error.kind() }).at(path);
        this.inner.source = Some(Box::new(error));
        this
    }

    /// The same error, said of `path` where none is named yet.
    pub(crate) fn at(mut self, path: &Path) -> Self {
        self.inner.path.get_or_insert_with(|| path.to_owned());
        self
    }

    /// The same error, said of `path` if there is one and none is named yet.
    pub(crate) fn at_if(self, path: Option<&Path>) -> Self {
        match path {
            Some(path) => self.at(path),
            None => self,
        }
    }

    /// The same error, of the tensor `name` where no place is named yet.
    pub(crate) fn of(mut self, name: &str) -> Self {
        if self.inner.place == Place::File {
            self.inner.place = Place::Tensor(name.to_owned());
        }
        self
    }

    /// An error of the attribute `attribute` of a node.
    pub(crate) fn of_attribute(kind: ErrorKind, node: &proto::NodeProto, attribute: &str) -> Self {
        let mut this = Self::from(kind);
        this.inner.place = Place::Attribute {
            node: node.name().to_owned(),
            op: node.op_type().to_owned(),
            attribute: attribute.to_owned(),
        };
        this
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self { inner: Box::new(Inner { kind, path: None, place: Place::File, source: None }) }
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

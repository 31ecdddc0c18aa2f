//! One error for this crate: a kind whose variants carry the numbers, and where.

use std::fmt;
use std::path::{Path, PathBuf};

use safetensors::Dtype;

/// What was wrong with a container, and where.
pub struct Error {
    inner: Box<Inner>,
}

struct Inner {
    kind: ErrorKind,
    path: Option<PathBuf>,
    tensor: Option<String>,
}

/// Whose fault an [`Error`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The disk, or the system that serves it.
    Io,
    /// The file.
    Input,
    /// The program that called.
    Caller,
    /// A limit that was set.
    Limit,
    /// The machine.
    Environment,
}

/// The kinds of [`Error`].
#[derive(Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Text that is no BLAKE3 hash.
    DigestText(String),
    /// Codes, shapes or parameters that mean nothing.
    Codes(niwaki_codes::Error),
    /// A part whose size does not fit into memory.
    Overflow,
    /// A mask that keeps more weights than the tensor has.
    Kept {
        /// Weights kept.
        kept: usize,
        /// Weights that there are.
        elements: usize,
    },
    /// Codes or a mask for a type that is no float.
    NotFloat {
        /// The type of the source.
        dtype: Dtype,
        /// The scheme asked for.
        scheme: String,
    },
    /// A scheme that this version cannot store.
    Unsupported(String),
    /// Two physical tensors of one name.
    Name(String),
    /// A tensor whose name is one that pads use.
    Reserved(String),
    /// A container of another major version.
    Version(u32),
    /// Metadata that is no JSON of the right form.
    Json(String),
    /// A scheme text that this version does not know.
    SchemeText(String),
    /// A type name that safetensors does not have.
    DtypeText(String),
    /// A part without a hash in the metadata.
    NoHash(String),
    /// A hash in the metadata of a part that the scheme does not have.
    StrayHash {
        /// The part named.
        part: String,
        /// The scheme.
        scheme: String,
    },
}

impl Error {
    /// What was wrong.
    pub fn kind(&self) -> &ErrorKind {
        &self.inner.kind
    }

    /// Whose fault it is.
    pub fn blame(&self) -> Blame {
        self.inner.kind.blame()
    }

    /// The file, where one is at fault.
    pub fn path(&self) -> Option<&Path> {
        self.inner.path.as_deref()
    }

    /// The logical tensor, where one is at fault.
    pub fn tensor(&self) -> Option<&str> {
        self.inner.tensor.as_deref()
    }

    /// The same error, in the named tensor where none is named yet.
    pub(crate) fn in_tensor(mut self, name: &str) -> Self {
        self.inner.tensor.get_or_insert_with(|| name.to_owned());
        self
    }
}

impl ErrorKind {
    fn blame(&self) -> Blame {
        match self {
            Self::Unsupported(_) => Blame::Caller,
            _ => Blame::Input,
        }
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self { inner: Box::new(Inner { kind, path: None, tensor: None }) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(tensor) = self.tensor() {
            write!(f, "tensor `{tensor}`: ")?;
        }
        self.inner.kind.fmt(f)
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DigestText(text) => write!(f, "`{text}` is no digest; one has 64 lower-case hex digits"),
            Self::Codes(error) => error.fmt(f),
            Self::Overflow => f.write_str("byte count does not fit into the address space"),
            Self::Kept { kept, elements } => write!(f, "mask keeps {kept} of {elements} weights"),
            Self::NotFloat { dtype, scheme } => write!(f, "{dtype} weights cannot be stored as {scheme}; floats can"),
            Self::Unsupported(scheme) => write!(f, "scheme {scheme} has no place in container version 1"),
            Self::Name(name) => write!(f, "two stored tensors are called `{name}`"),
            Self::Reserved(name) => write!(f, "`{name}` is a name that pads use"),
            Self::Version(major) => write!(f, "container version {major}; this niwaki reads 1"),
            Self::Json(why) => write!(f, "metadata `niwaki`: {why}"),
            Self::SchemeText(text) => write!(f, "scheme `{text}` is not known"),
            Self::DtypeText(text) => write!(f, "type `{text}` is not known"),
            Self::NoHash(part) => write!(f, "metadata lacks the hash of part `{part}`"),
            Self::StrayHash { part, scheme } => write!(f, "metadata has a part `{part}`, which {scheme} has not"),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error").field("message", &self.to_string()).field("path", &self.path()).finish()
    }
}

impl std::error::Error for Error {}

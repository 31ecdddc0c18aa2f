//! One error for this crate: a kind whose variants carry the numbers, and where.

use std::fmt;
use std::path::{Path, PathBuf};

use niwaki_tensors::{Blame, Dtype};

/// What was wrong with a container, and where.
pub struct Error {
    inner: Box<Inner>,
}

struct Inner {
    kind: ErrorKind,
    path: Option<PathBuf>,
    tensor: Option<String>,
}

/// The kinds of [`Error`].
#[derive(Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A file that could not be read or written, or is no safetensors.
    File(niwaki_tensors::Error),
    /// Text that is no BLAKE3 hash.
    DigestText(String),
    /// Codes, shapes or parameters that mean nothing.
    Codes(niwaki_codes::Error),
    /// A part whose size does not fit into memory.
    Overflow,
    /// More kept weights than the tensor has.
    Kept {
        /// Weights kept.
        kept: usize,
        /// Weights that there are.
        elements: usize,
    },
    /// Codes, a mask or positions for a type that is no float.
    NotFloat {
        /// The type of the source.
        dtype: Dtype,
        /// The scheme asked for.
        scheme: String,
    },
    /// Codes, a mask or positions for a tensor without elements.
    Empty(String),
    /// A scheme that this version cannot store.
    Unsupported(String),
    /// Two physical tensors of one name.
    Name(String),
    /// A tensor whose name is one that pads and records of patches use.
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
    /// A shard without the key `niwaki`, where another one has it.
    NoMeta,
    /// A part that is not there.
    NoPart(String),
    /// A part of another type or shape.
    PartForm {
        /// Its name in the file.
        part: String,
        /// Type and shape that the scheme asks for.
        needs: String,
        /// Type and shape found.
        has: String,
    },
    /// A physical tensor that belongs to no logical one.
    Unlisted(String),
    /// A logical tensor that two shards have.
    TwiceTensor,
    /// A tensor whose elements are not decoded to floats.
    NoFloats(Dtype),
    /// A mask that keeps another number of weights than the metadata says.
    KeptCount {
        /// Weights kept by the metadata.
        says: usize,
        /// Bits set in the mask.
        has: usize,
    },
    /// A plain checkpoint where a container is needed.
    NotOurs,
    /// A container without an elastic tensor where one is needed.
    NotElastic,
    /// A checkpoint of several files where one is needed.
    Sharded(usize),
    /// An output that is the input.
    OntoItself,
    /// A file that is no record of patches.
    NoRecord,
    /// A file with patches, which are to be taken off first.
    Patched,
    /// A coded difference that means nothing.
    Correction(&'static str),
    /// A file that is no signature, or an alpha that is not finite.
    NoSignature {
        /// What its values are multiplied by.
        alpha: f64,
    },
    /// A tensor of a signature that does not fit the one that it belongs to.
    PatchForm {
        /// What its values mean.
        kind: &'static str,
        /// Shape of the tensor.
        needs: String,
        /// Shape of the signature's.
        has: String,
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
        match &self.inner.kind {
            ErrorKind::File(error) => error.path().or(self.inner.path.as_deref()),
            _ => self.inner.path.as_deref(),
        }
    }

    /// The logical tensor, where one is at fault.
    pub fn tensor(&self) -> Option<&str> {
        match &self.inner.kind {
            ErrorKind::File(error) => self.inner.tensor.as_deref().or(error.tensor()),
            _ => self.inner.tensor.as_deref(),
        }
    }

    /// The suffix of the part, where one is at fault.
    pub fn part(&self) -> Option<&str> {
        match &self.inner.kind {
            ErrorKind::Codes(error) => codes_part(error.kind()),
            ErrorKind::NoHash(part) | ErrorKind::StrayHash { part, .. } => Some(part),
            ErrorKind::KeptCount { .. } => Some("mask"),
            _ => None,
        }
    }

    /// What can be done about it, where that is more than the sentence says.
    pub fn hint(&self) -> Option<&'static str> {
        match &self.inner.kind {
            ErrorKind::File(error) => error.hint(),
            ErrorKind::Version(_) => Some("update niwaki"),
            ErrorKind::NotOurs => Some("`niwaki compress` makes a container"),
            ErrorKind::Patched => Some("`niwaki signature remove` takes them off"),
            ErrorKind::NotElastic => Some("compress with a scheme such as `elastic/g64`"),
            _ => None,
        }
    }

    /// The same error, in the file at `path` where none is named yet.
    pub(crate) fn at(mut self, path: &Path) -> Self {
        self.inner.path.get_or_insert_with(|| path.to_owned());
        self
    }

    /// The same error, in the named tensor where none is named yet.
    pub(crate) fn in_tensor(mut self, name: &str) -> Self {
        self.inner.tensor.get_or_insert_with(|| name.to_owned());
        self
    }
}

impl ErrorKind {
    fn blame(&self) -> Blame {
        use niwaki_codes::ErrorKind as Codes;
        match self {
            Self::File(error) => error.blame(),
            Self::Unsupported(_) | Self::NotOurs | Self::NotElastic | Self::Patched | Self::Sharded(_) => Blame::Caller,
            Self::NoFloats(_) | Self::OntoItself => Blame::Caller,
            Self::Codes(error) if matches!(error.kind(), Codes::Width { .. } | Codes::Range { .. }) => Blame::Caller,
            _ => Blame::Input,
        }
    }
}

/// The part that an error of the codes crate is about.
fn codes_part(kind: niwaki_codes::ErrorKind) -> Option<&'static str> {
    use niwaki_codes::ErrorKind;
    match kind {
        ErrorKind::PartLength { part, .. } | ErrorKind::StrayBits { part, .. } | ErrorKind::NotANumber { part, .. } => {
            Some(part)
        }
        ErrorKind::PositionCount { .. } | ErrorKind::Position { .. } => Some("positions"),
        ErrorKind::Factor => Some("factor"),
        ErrorKind::ZeroPoint { .. } => Some("zeros"),
        _ => None,
    }
}

impl From<niwaki_tensors::Error> for Error {
    fn from(error: niwaki_tensors::Error) -> Self {
        ErrorKind::File(error).into()
    }
}

impl From<niwaki_codes::Error> for Error {
    fn from(error: niwaki_codes::Error) -> Self {
        ErrorKind::Codes(error).into()
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self { inner: Box::new(Inner { kind, path: None, tensor: None }) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An error of the file names its own place.
        if let ErrorKind::File(error) = &self.inner.kind {
            return error.fmt(f);
        }
        if let Some(path) = self.path() {
            write!(f, "`{}`: ", path.display())?;
        }
        if let Some(tensor) = self.tensor() {
            write!(f, "tensor `{tensor}`: ")?;
        }
        self.inner.kind.fmt(f)
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => error.fmt(f),
            Self::DigestText(text) => write!(f, "`{text}` is no digest; one has 64 lower-case hex digits"),
            Self::Codes(error) => error.fmt(f),
            Self::Overflow => f.write_str("byte count does not fit into the address space"),
            Self::Kept { kept, elements } => write!(f, "keeps {kept} of {elements} weights"),
            Self::NotFloat { dtype, scheme } => {
                write!(f, "{dtype} weights cannot be stored as {scheme}; F64, F32, F16, BF16, F8_E4M3 and F8_E5M2 can")
            }
            Self::Empty(form) => write!(f, "a tensor without elements is stored as it is, never as {form}"),
            Self::Unsupported(scheme) => write!(f, "scheme {scheme} has no place in container version 1"),
            Self::Name(name) => write!(f, "two stored tensors are called `{name}`"),
            Self::Reserved(name) => write!(f, "`{name}` is a name that pads and records of patches use"),
            Self::Version(major) => write!(f, "container version {major}; this niwaki reads 1"),
            Self::Json(why) => write!(f, "metadata `niwaki`: {why}"),
            Self::SchemeText(text) => write!(f, "scheme `{text}` is not known"),
            Self::DtypeText(text) => write!(f, "type `{text}` is not known"),
            Self::NoHash(part) => write!(f, "metadata lacks the hash of part `{part}`"),
            Self::StrayHash { part, scheme } => write!(f, "metadata has a part `{part}`, which {scheme} has not"),
            Self::NoMeta => f.write_str("no metadata `niwaki`, which another file of the checkpoint has"),
            Self::NoPart(part) => write!(f, "part `{part}` is not there"),
            Self::PartForm { part, needs, has } => write!(f, "part `{part}` needs {needs}, has {has}"),
            Self::Unlisted(name) => write!(f, "`{name}` belongs to no tensor of the metadata"),
            Self::TwiceTensor => f.write_str("stands in two files of the checkpoint"),
            Self::NoFloats(dtype) => write!(f, "{dtype} is not decoded to floats"),
            Self::KeptCount { says, has } => {
                write!(f, "metadata says that the mask keeps {says} weights, it keeps {has}")
            }
            Self::NotOurs => f.write_str("is no niwaki container"),
            Self::NotElastic => f.write_str("holds no elastic tensor; only those have widths to cut"),
            Self::Sharded(files) => write!(f, "consists of {files} files; one at a time can be cut"),
            Self::OntoItself => f.write_str("is the file that is read"),
            Self::NoRecord => f.write_str("is no record of patches"),
            Self::Patched => f.write_str("has patches merged into it"),
            Self::Correction(why) => write!(f, "correction: {why}"),
            Self::NoSignature { alpha } if !alpha.is_finite() => {
                write!(f, "alpha is {alpha}; a finite number is expected")
            }
            Self::NoSignature { .. } => f.write_str("is no signature"),
            Self::PatchForm { kind, needs, has } => {
                write!(f, "the signature has {has} values to {kind}, which do not fit {needs} weights")
            }
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error").field("message", &self.to_string()).field("path", &self.path()).finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.inner.kind {
            ErrorKind::File(error) => error.source(),
            _ => None,
        }
    }
}

//! One error for this crate: a kind whose variants carry the numbers, and where.

use std::fmt;

use niwaki_tensors::Blame;

use crate::Format;

/// What was wrong with a quantized checkpoint of others, or with what one should be made of.
pub struct Error {
    inner: Box<Inner>,
}

struct Inner {
    kind: ErrorKind,
    tensor: Option<String>,
}

/// The kinds of [`Error`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Codes or scales that mean nothing.
    Codes(niwaki_codes::Error),
    /// A tensor whose size does not fit into memory.
    Overflow,
    /// A tensor whose bytes are not those of its type and shape.
    Bytes {
        /// Bytes that type and shape need.
        needs: usize,
        /// Bytes that are there.
        has: usize,
    },
    /// A format that cannot be read without its `config.json`.
    NoConfig {
        /// The format.
        format: Format,
        /// What only the configuration tells.
        tells: &'static str,
    },
    /// A key of the configuration with another value than it may have.
    Key {
        /// The key with the keys above it, by dots.
        key: String,
        /// What it may be.
        needs: &'static str,
        /// What it is.
        has: String,
    },
    /// A key that the configuration lacks.
    NoKey {
        /// The key with the keys above it, by dots.
        key: String,
        /// What it may be.
        needs: &'static str,
    },
    /// A method that is not read here.
    Method(String),
    /// A variant of a known format that is not read here.
    Unsupported(String),
    /// A tensor that belongs to another format than the configuration names.
    OtherMethod {
        /// What the tensors show.
        shows: Format,
        /// What the configuration names.
        says: &'static str,
    },
    /// A tensor without one that belongs to it.
    NoPart(String),
    /// A tensor of another type or shape than its siblings ask for.
    Part {
        /// Its name.
        part: String,
        /// Type and shape that are needed.
        needs: String,
        /// Type and shape that it has.
        has: String,
    },
    /// Contents of a small tensor that mean nothing.
    Contents {
        /// Its name.
        part: String,
        /// What is needed.
        needs: String,
        /// What stands there.
        has: String,
    },
    /// A configuration that disagrees with the tensors.
    Disagree {
        /// What the configuration says.
        says: String,
        /// What the tensors show.
        shows: String,
    },
    /// An input that is assigned to a group that is not there.
    GroupIndex {
        /// Which input.
        input: usize,
        /// Its group.
        group: i32,
        /// How many groups there are.
        groups: usize,
    },
    /// Codes of 3, 5, 6 or 7 bits in the layout that leaves the top bits of words empty.
    OldLayout {
        /// The width.
        bits: u32,
    },
    /// Zero points that were not stored less one, as their label says.
    Mislabelled,
    /// A scheme that a format cannot hold.
    Scheme {
        /// The format.
        format: Format,
        /// The scheme.
        scheme: String,
        /// Why not.
        why: String,
        /// The nearest that it can hold, where there is one.
        nearest: Option<String>,
    },
    /// Two modules of different schemes, where a format has one for all.
    Mixed {
        /// The format.
        format: Format,
        /// The scheme of the first.
        first: String,
        /// The scheme that differs.
        other: String,
    },
    /// A scale that is not finite in the type it is stored in.
    Scale {
        /// Index of its group.
        group: usize,
    },
    /// A buffer or range that does not fit the tensor.
    Range {
        /// Elements that are needed.
        needs: usize,
        /// Elements that are there.
        has: usize,
    },
}

impl Error {
    /// What was wrong.
    pub fn kind(&self) -> &ErrorKind {
        &self.inner.kind
    }

    /// Who has to act.
    pub fn blame(&self) -> Blame {
        match self.kind() {
            ErrorKind::Scheme { .. } | ErrorKind::Mixed { .. } | ErrorKind::Range { .. } => Blame::Caller,
            ErrorKind::Scale { .. } => Blame::Caller,
            _ => Blame::Input,
        }
    }

    /// The tensor it concerns.
    pub fn tensor(&self) -> Option<&str> {
        self.inner.tensor.as_deref()
    }

    /// What can be done about it, where that is more than the sentence says.
    pub fn hint(&self) -> Option<&'static str> {
        match self.kind() {
            ErrorKind::NoConfig { .. } => Some("open the folder that holds both"),
            ErrorKind::OldLayout { .. } => Some("make the checkpoint again with compressed-tensors 0.18 or later"),
            ErrorKind::Mislabelled => Some("if the file is right, `checkpoint_format` should be `gptq_v2`"),
            ErrorKind::Method(_) | ErrorKind::Unsupported(_) => Some("begin with the checkpoint that it was made from"),
            _ => None,
        }
    }

    /// The same error, said of the tensor `name` where none is named yet.
    pub(crate) fn of(mut self, name: &str) -> Self {
        self.inner.tensor.get_or_insert_with(|| name.to_owned());
        self
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self { inner: Box::new(Inner { kind, tensor: None }) }
    }
}

impl From<niwaki_codes::Error> for Error {
    fn from(error: niwaki_codes::Error) -> Self {
        ErrorKind::Codes(error).into()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        if let Some(tensor) = self.tensor() {
            text = format!("tensor `{tensor}`: ");
        }
        text.push_str(&self.inner.kind.to_string());
        // Names and texts from files may hold line ends and other control characters.
        for c in text.chars() {
            match c.is_control() {
                true => write!(f, "{}", c.escape_default())?,
                false => write!(f, "{c}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Codes(error) => error.fmt(f),
            Self::Overflow => f.write_str("element count does not fit into the address space"),
            Self::Bytes { needs, has } => write!(f, "needs {needs} bytes, has {has}"),
            Self::NoConfig { format, tells } => write!(f, "{format} needs `config.json`, which tells {tells}"),
            Self::Key { key, needs, has } => write!(f, "`config.json`: `{key}` is {has}; needed: {needs}"),
            Self::NoKey { key, needs } => write!(f, "`config.json`: `{key}` is not there; needed: {needs}"),
            Self::Method(method) => write!(f, "`config.json`: `quant_method` is `{method}`; read here: {KNOWN}"),
            Self::Unsupported(what) => write!(f, "{what} is not read here"),
            Self::OtherMethod { shows, says } => write!(f, "is {shows}; `config.json` says {says}"),
            Self::NoPart(part) => write!(f, "`{part}` is not there"),
            Self::Part { part, needs, has } => write!(f, "`{part}` needs {needs}, has {has}"),
            Self::Contents { part, needs, has } => write!(f, "`{part}` says {has}; needed: {needs}"),
            Self::Disagree { says, shows } => write!(f, "`config.json` says {says}, the tensors show {shows}"),
            Self::GroupIndex { input, group, groups } => {
                write!(f, "input {input} is in group {group}; there are {groups}")
            }
            Self::OldLayout { bits } => {
                write!(f, "int{bits} codes lie in the layout that leaves the top {} bits of each word empty", 32 % bits)
            }
            Self::Mislabelled => f.write_str("zero points are stored as they are, the label says less one"),
            Self::Scheme { format, scheme, why, nearest: None } => write!(f, "{format} cannot hold {scheme}: {why}"),
            Self::Scheme { format, scheme, why, nearest: Some(nearest) } => {
                write!(f, "{format} cannot hold {scheme}: {why}; the nearest is {nearest}")
            }
            Self::Mixed { format, first, other } => {
                write!(f, "{format} has one scheme for all; {first} and {other} differ")
            }
            Self::Scale { group } => write!(f, "scale of group {group} is not finite in the type it is stored in"),
            Self::Range { needs, has } => write!(f, "{needs} elements needed, {has} there"),
        }
    }
}

/// The methods that are read.
const KNOWN: &str = "compressed-tensors, gptq, awq, fp8, fbgemm_fp8, mxfp4, bitsandbytes";

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error").field("message", &self.to_string()).field("kind", self.kind()).finish()
    }
}

impl std::error::Error for Error {}

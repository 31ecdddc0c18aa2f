//! What can be wrong with a detached signature or a key.

use std::fmt;
use std::path::PathBuf;

use super::SIGNATURE_BYTES;
use crate::error::Blame;

/// A half of a key pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyHalf {
    /// The one that signs.
    Private,
    /// The one that checks.
    Public,
}

impl KeyHalf {
    /// `private` or `public`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::Public => "public",
        }
    }
}

/// Why a file is not signed, or cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SigningFault {
    /// No detached signature beside the file.
    Missing {
        /// Where it would be.
        expected: PathBuf,
    },
    /// A detached signature that is not of 64 bytes.
    Length {
        /// Bytes that it has.
        found: usize,
    },
    /// A detached signature of other bytes, or by another key.
    Mismatch {
        /// The detached signature.
        signature: PathBuf,
        /// The public key.
        key: PathBuf,
    },
    /// A key file that does not hold the Ed25519 key that is needed.
    Key {
        /// The half that is needed.
        needs: KeyHalf,
        /// What the file is.
        found: String,
    },
}

impl SigningFault {
    pub(crate) fn blame(&self) -> Blame {
        match self {
            Self::Missing { .. } | Self::Length { .. } | Self::Mismatch { .. } => Blame::Input,
            Self::Key { .. } => Blame::Caller,
        }
    }
}

impl fmt::Display for SigningFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { expected } => {
                write!(f, "has no detached signature; expected one in `{}`", expected.display())
            }
            Self::Length { found } => {
                write!(f, "has {found} bytes; a detached Ed25519 signature has {SIGNATURE_BYTES}")
            }
            Self::Mismatch { signature, key } => {
                write!(f, "these bytes are not what `{}` signs under the key `{}`", signature.display(), key.display())
            }
            Self::Key { needs, found } => {
                write!(f, "is {found}; expected an Ed25519 {} key in PEM", needs.name())
            }
        }
    }
}

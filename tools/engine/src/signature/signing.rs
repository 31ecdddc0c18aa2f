//! Detached Ed25519 signatures of files.
//!
//! Elsewhere in [`signature`](super) the word means a difference of weights. A *detached
//! signature* is the one of cryptography: it says whose key vouches for the bytes of such a file.
//!
//! It is pure Ed25519 (RFC 8032, section 5.1) over the bytes of the whole file, as 64 raw bytes
//! in `FILE.ed25519`, and keys are PEM files (RFC 8410): nothing here is a format of ours.
//!
//! ```text
//! openssl genpkey -algorithm ed25519 -out key.pem
//! openssl pkey -in key.pem -pubout -out public.pem
//! openssl pkeyutl -sign -rawin -inkey key.pem -in FILE -out FILE.ed25519
//! openssl pkeyutl -verify -rawin -pubin -inkey public.pem -in FILE -sigfile FILE.ed25519
//! ```
//!
//! The same key and the same bytes give the same signature: Ed25519 takes no random numbers.

mod fault;
mod key;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use niwaki_tensors::{ErrorKind as FileErrorKind, MappedFile, Overwrite, check_output, write_small};

pub use self::fault::{KeyHalf, SigningFault};
use self::key::PrivateKey;
pub use self::key::PublicKey;
use crate::error::{Error, ErrorKind};

/// Bytes of a detached signature.
pub const SIGNATURE_BYTES: usize = 64;

/// Where the detached signature of `file` is: `FILE.ed25519`.
pub fn detached_path(file: &Path) -> PathBuf {
    let mut name = file.file_name().map_or_else(OsString::new, OsString::from);
    name.push(".ed25519");
    file.with_file_name(name)
}

/// Signs the bytes of `file` with the private key in the PEM file `key`, and writes
/// [`detached_path`], whose path it gives back.
///
/// # Errors
///
/// [`SigningFault::Key`], a detached signature that exists unless it is to be `replace`d, and
/// whatever the system refuses.
pub fn sign(file: &Path, key: &Path, replace: bool) -> Result<PathBuf, Error> {
    let private = PrivateKey::read(key)?;
    let out = detached_path(file);
    let overwrite = if replace { Overwrite::Replace } else { Overwrite::Refuse };
    check_output(&out, overwrite)?;
    if let (Ok(out), Ok(key)) = (out.canonicalize(), key.canonicalize())
        && out == key
    {
        let what = "is the key; the detached signature would replace it".to_owned();
        return Err(Error::from(ErrorKind::Usage { what }).at(&out));
    }
    // Ed25519 goes over the message twice. Bytes that change in between give away the key, and
    // those of a map can.
    let bytes = MappedFile::open(file)?.bytes().to_vec();
    write_small(&out, &private.sign(&bytes), overwrite, false)?;
    Ok(out)
}

/// Whether `bytes`, which are those of `file`, are what the detached signature beside `file`
/// signs under the public key in the PEM file `public_key`.
///
/// # Errors
///
/// That they are not: [`SigningFault::Mismatch`], [`SigningFault::Missing`],
/// [`SigningFault::Length`]. That it cannot be told: [`SigningFault::Key`], and whatever the
/// system refuses.
pub fn check(file: &Path, bytes: &[u8], public_key: &Path) -> Result<(), Error> {
    let public = PublicKey::read(public_key)?;
    let expected = detached_path(file);
    if public.verifies(bytes, &read_detached(file, &expected)?) {
        return Ok(());
    }
    let fault = SigningFault::Mismatch { signature: expected, key: public_key.to_owned() };
    Err(Error::from(ErrorKind::Signing(fault)).at(file))
}

/// The detached signature of `file`, which is at `path`.
fn read_detached(file: &Path, path: &Path) -> Result<[u8; SIGNATURE_BYTES], Error> {
    let detached = MappedFile::open(path).map_err(|error| match error.kind() {
        FileErrorKind::Io { error: io::ErrorKind::NotFound, .. } => {
            Error::from(ErrorKind::Signing(SigningFault::Missing { expected: path.to_owned() })).at(file)
        }
        _ => error.into(),
    })?;
    let bytes = detached.bytes();
    let found = bytes.len();
    bytes.try_into().map_err(|_| Error::from(ErrorKind::Signing(SigningFault::Length { found })).at(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_detached_signature_is_beside_the_file() {
        for (file, expected) in [
            ("a/fog.safetensors", "a/fog.safetensors.ed25519"),
            ("fog", "fog.ed25519"),
            ("../f.x.y", "../f.x.y.ed25519"),
        ] {
            assert_eq!(detached_path(Path::new(file)), Path::new(expected));
        }
    }
}

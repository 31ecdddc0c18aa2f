//! Ed25519 keys in PEM (RFC 7468): PKCS #8 and SubjectPublicKeyInfo (RFC 8410), as OpenSSL writes them.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use ed25519_dalek::pkcs8::spki::SubjectPublicKeyInfoRef;
use ed25519_dalek::pkcs8::{ALGORITHM_OID, ObjectIdentifier, PrivateKeyInfoRef, SecretDocument};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use zeroize::Zeroizing;

use super::SIGNATURE_BYTES;
use super::fault::{KeyHalf, SigningFault};
use crate::error::{Error, ErrorKind};
use crate::target::file_error;

/// The most bytes of a key file; one key in PEM has 119 at most, and people put text around it.
const MOST: usize = 1 << 16;

const BEGIN: &str = "-----BEGIN ";
const DASHES: &str = "-----";

/// The key that checks detached signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// Reads the first PEM block in `pem`, whatever text is around it.
    ///
    /// # Errors
    ///
    /// [`SigningFault::Key`], which says what `pem` is, also of a key of small order: one such
    /// signature would fit many messages.
    pub fn from_pem(pem: &[u8]) -> Result<Self, Error> {
        let needs = KeyHalf::Public;
        let der = der_of(pem, needs).map_err(|found| fault(needs, found))?;
        let key = SubjectPublicKeyInfoRef::try_from(der.as_bytes()).and_then(VerifyingKey::try_from);
        match key {
            Ok(key) if key.is_weak() => Err(fault(needs, "an Ed25519 public key of small order".to_owned())),
            Ok(key) => Ok(Self(key)),
            Err(error) => Err(fault(needs, format!("a damaged Ed25519 public key ({error})"))),
        }
    }

    /// Whether `signature` is of `bytes` under this key, by the rules of RFC 8032 (section 5.1.7)
    /// and, beyond them, with an R that is not of small order.
    pub fn verifies(&self, bytes: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> bool {
        self.0.verify_strict(bytes, &Signature::from_bytes(signature)).is_ok()
    }

    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        read(path, KeyHalf::Public).and_then(|pem| Self::from_pem(&pem)).map_err(|e| e.at(path))
    }
}

/// The key that signs; wiped from memory when dropped.
pub(super) struct PrivateKey(SigningKey);

impl PrivateKey {
    pub(super) fn from_pem(pem: &[u8]) -> Result<Self, Error> {
        let needs = KeyHalf::Private;
        let der = der_of(pem, needs).map_err(|found| fault(needs, found))?;
        let key = PrivateKeyInfoRef::try_from(der.as_bytes()).and_then(SigningKey::try_from);
        key.map(Self).map_err(|error| fault(needs, format!("a damaged Ed25519 private key ({error})")))
    }

    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        read(path, KeyHalf::Private).and_then(|pem| Self::from_pem(&pem)).map_err(|e| e.at(path))
    }

    pub(super) fn sign(&self, bytes: &[u8]) -> [u8; SIGNATURE_BYTES] {
        self.0.sign(bytes).to_bytes()
    }
}

/// What a key file is instead, and how to get what it should be.
fn fault(needs: KeyHalf, found: String) -> Error {
    let hint = match needs {
        KeyHalf::Private => "`openssl genpkey -algorithm ed25519 -out key.pem` makes one",
        KeyHalf::Public => "`openssl pkey -in key.pem -pubout -out public.pem` makes it of the private key",
    };
    Error::from(ErrorKind::Signing(SigningFault::Key { needs, found })).hinting(hint)
}

/// The bytes of a key file, which may be a pipe: secrets often come through one.
fn read(path: &Path, needs: KeyHalf) -> Result<Zeroizing<Vec<u8>>, Error> {
    // Never moved to a larger place: that would leave a copy of the key behind.
    let mut pem = Zeroizing::new(Vec::with_capacity(MOST + 1));
    let file = File::open(path).map_err(|e| file_error(&e, path))?;
    file.take(MOST as u64 + 1).read_to_end(&mut pem).map_err(|e| file_error(&e, path))?;
    if pem.len() > MOST {
        return Err(fault(needs, format!("a file of more than {MOST} bytes")));
    }
    Ok(pem)
}

/// The DER of the first PEM block, or what there is instead of an Ed25519 key of this half.
fn der_of(pem: &[u8], needs: KeyHalf) -> Result<SecretDocument, String> {
    let (label, block) = first_block(pem)?;
    let half = match label {
        "PRIVATE KEY" => KeyHalf::Private,
        "PUBLIC KEY" => KeyHalf::Public,
        "ENCRYPTED PRIVATE KEY" => return Err("a private key under a password".to_owned()),
        "OPENSSH PRIVATE KEY" => return Err("a private key in OpenSSH's own format".to_owned()),
        other => return Err(format!("a PEM block `{other}`")),
    };
    let damaged = |error: String| format!("a damaged {} key ({error})", half.name());
    let (_, der) = SecretDocument::from_pem(block).map_err(|e| damaged(e.to_string()))?;
    let algorithm = match half {
        KeyHalf::Private => {
            PrivateKeyInfoRef::try_from(der.as_bytes()).map(|key| key.algorithm.oid).map_err(|e| damaged(e.to_string()))
        }
        KeyHalf::Public => {
            let key = SubjectPublicKeyInfoRef::try_from(der.as_bytes());
            key.map(|key| key.algorithm.oid).map_err(|e| damaged(e.to_string()))
        }
    }?;
    if half == needs && algorithm == ALGORITHM_OID {
        return Ok(der);
    }
    Err(format!("the {} key of {}", half.name(), algorithm_name(algorithm)))
}

/// The label and the lines of the first PEM block.
fn first_block(pem: &[u8]) -> Result<(&str, &str), String> {
    let text = str::from_utf8(pem).map_err(|_| "no text".to_owned())?;
    let is_ssh = text.starts_with("ssh-") || text.starts_with("ecdsa-");
    let start = text.find(BEGIN).ok_or(if is_ssh { "a public key in OpenSSH's own format" } else { "no PEM" })?;
    let block = &text[start..];
    let label = block[BEGIN.len()..].split(DASHES).next().unwrap_or_default();
    // Labels end up in messages.
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b' ';
    if label.len() > 64 || !label.bytes().all(is_plain) {
        return Err("a PEM block without a label".to_owned());
    }
    let end = format!("{DASHES}END {label}{DASHES}");
    let at = block.find(&end).ok_or_else(|| format!("a PEM block `{label}` without its end"))?;
    Ok((label, &block[..at + end.len()]))
}

/// The name of an algorithm of keys, or its number.
fn algorithm_name(algorithm: ObjectIdentifier) -> String {
    let number = algorithm.to_string();
    let name = match number.as_str() {
        "1.3.101.110" => "X25519",
        "1.3.101.111" => "X448",
        "1.3.101.112" => "Ed25519",
        "1.3.101.113" => "Ed448",
        "1.2.840.10040.4.1" => "DSA",
        "1.2.840.10045.2.1" => "an elliptic curve (EC)",
        "1.2.840.113549.1.1.1" => "RSA",
        "1.2.840.113549.1.1.10" => "RSA-PSS",
        "1.2.840.113549.1.3.1" => "Diffie-Hellman",
        _ => return format!("the algorithm {number}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRIVATE: &[u8] = include_bytes!("../../../../../tests/fixtures/signing/private.pem");
    const PUBLIC: &[u8] = include_bytes!("../../../../../tests/fixtures/signing/public.pem");

    struct Random(u64);

    impl Random {
        fn below(&mut self, n: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 % n.max(1) as u64) as usize
        }
    }

    /// One to four small changes.
    fn mutated(pem: &[u8], random: &mut Random) -> Vec<u8> {
        let mut bytes = pem.to_vec();
        for _ in 0..=random.below(4) {
            let at = random.below(bytes.len());
            let end = (at + random.below(8)).min(bytes.len());
            match random.below(6) {
                0 => bytes[at..end].fill(b"A=-/\n\xff "[random.below(7)]),
                1 => bytes.truncate(at.max(1)),
                2 => drop(bytes.drain(at..end)),
                3 => bytes.splice(at..at, pem[random.below(pem.len())..].iter().copied()).for_each(drop),
                // Mostly into the middle, where the base64 is.
                _ => bytes[at] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[random.below(64)],
            }
            if bytes.is_empty() {
                break;
            }
        }
        bytes
    }

    #[test]
    fn hostile_keys_neither_panic_nor_sign_for_ours() {
        let mut random = Random(0x5DEE_CE66);
        let ours = PublicKey::from_pem(PUBLIC).unwrap();
        let signature = PrivateKey::from_pem(PRIVATE).unwrap().sign(b"message");
        assert!(ours.verifies(b"message", &signature));
        let (mut accepted, mut refused) = ([0; 2], [0; 2]);
        for round in 0..20_000 {
            let half = round % 2;
            let pem = mutated([PRIVATE, PUBLIC][half], &mut random);
            let parsed = match half {
                0 => PrivateKey::from_pem(&pem).map(|key| key.sign(b"message")).map(|other| {
                    assert_eq!(ours.verifies(b"message", &other), other == signature);
                }),
                _ => PublicKey::from_pem(&pem).map(|key| {
                    assert_eq!(key.verifies(b"message", &signature), key == ours);
                }),
            };
            match parsed {
                Ok(()) => accepted[half] += 1,
                Err(error) => {
                    refused[half] += 1;
                    assert!(!error.to_string().contains('\n'), "{error}");
                }
            }
        }
        // Some changes hit the text around the key, or make another key.
        assert!(accepted.iter().chain(&refused).all(|n| *n > 100), "{accepted:?} {refused:?}");
    }
}

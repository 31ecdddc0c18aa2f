//! What takes merged patches off again (`FORMAT.md` 16): the signatures that were merged, and for
//! every part that they changed a correction.
//!
//! It stands behind the data of a container, or, for files of others, in a file beside them.

mod inside;
mod sidecar;

use std::collections::{BTreeMap, BTreeSet};

use niwaki_tensors::RESERVED_PREFIX;
use serde_json::{Map, Value, json};

use crate::correction::encode_correction;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind};

pub use inside::Undo;
pub(crate) use inside::{check_blobs, faults};
pub use sidecar::{SIDECAR_KEY, Sidecar, State, sidecar_meta};

/// One patch of a stack.
#[derive(Clone, Debug, PartialEq)]
pub struct Patch {
    /// Its name, which no other patch of the stack has.
    pub name: String,
    /// What its values are multiplied by.
    pub alpha: f64,
    /// BLAKE3 of the signature's file.
    pub digest: Digest,
    /// How many tensors it touches.
    pub tensors: u64,
    /// Bytes of the signature's file.
    pub bytes: u64,
}

impl Patch {
    /// As JSON.
    pub fn to_value(&self) -> Value {
        let Self { name, alpha, digest, tensors, bytes } = self;
        json!({"alpha": alpha, "bytes": bytes, "digest": digest.to_string(), "name": name, "tensors": tensors})
    }

    fn from_value(value: &Value) -> Result<Self, Error> {
        let wrong = |key: &str| Error::from(ErrorKind::Json(format!("patch without a sound `{key}`")));
        let number = |key: &str| value.get(key).and_then(Value::as_u64).ok_or_else(|| wrong(key));
        let text = |key: &str| value.get(key).and_then(Value::as_str).ok_or_else(|| wrong(key));
        let alpha = value.get("alpha").and_then(Value::as_f64).filter(|alpha| alpha.is_finite());
        Ok(Self {
            name: text("name")?.to_owned(),
            alpha: alpha.ok_or_else(|| wrong("alpha"))?,
            digest: text("digest")?.parse()?,
            tensors: number("tensors")?,
            bytes: number("bytes")?,
        })
    }

    /// A stack, oldest first.
    pub(crate) fn stack(values: &[Value]) -> Result<Vec<Self>, Error> {
        let stack = values.iter().map(Self::from_value).collect::<Result<Vec<_>, _>>()?;
        let mut names = BTreeSet::new();
        match stack.iter().find(|patch| !names.insert(patch.name.as_str())) {
            Some(patch) => Err(ErrorKind::Json(format!("two patches are called `{}`", patch.name)).into()),
            None => Ok(stack),
        }
    }
}

/// The name of the tensor that holds the signature of patch number `index`.
pub fn patch_blob(index: usize) -> String {
    format!("{RESERVED_PREFIX}patch.{index}")
}

/// The name of the tensor that holds the corrections of the part of that name.
pub fn undo_blob(part: &str) -> String {
    format!("{RESERVED_PREFIX}undo.{part}")
}

/// The name of the tensor that holds the header of the file without patches.
pub fn header_blob() -> String {
    format!("{RESERVED_PREFIX}header")
}

/// Hashes by name, as JSON.
pub(crate) fn hashes_value(hashes: &BTreeMap<String, Digest>) -> Value {
    Value::Object(hashes.iter().map(|(name, hash)| (name.clone(), hash.to_string().into())).collect::<Map<_, _>>())
}

/// Codes the correction of `predicted`, as [`encode_correction`] does, as the next chunk of a stream.
///
/// # Errors
///
/// Those of [`encode_correction`].
pub fn encode_chunk(width: usize, original: &[u8], predicted: &[u8], stream: &mut Vec<u8>) -> Result<(), Error> {
    let start = stream.len();
    stream.extend([0; 4]);
    encode_correction(width, original, predicted, stream)?;
    let len = (stream.len() - start - 4) as u32;
    stream[start..start + 4].copy_from_slice(&len.to_le_bytes());
    Ok(())
}

/// The chunks of a stream of corrections: each its length as a u32, then so many bytes.
///
/// # Errors
///
/// [`ErrorKind::Correction`] for a stream that is cut short.
pub fn chunks(stream: &[u8]) -> Result<Vec<&[u8]>, Error> {
    let mut rest = stream;
    let mut chunks = Vec::new();
    let short = || Error::from(ErrorKind::Correction("a stream that is cut short"));
    while !rest.is_empty() {
        let (len, after) = rest.split_first_chunk::<4>().ok_or_else(short)?;
        let len = u32::from_le_bytes(*len) as usize;
        let (chunk, after) = after.split_at_checked(len).ok_or_else(short)?;
        chunks.push(chunk);
        rest = after;
    }
    Ok(chunks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_goes_to_json_and_back_and_names_are_its_own() {
        let patch =
            |name: &str| Patch { name: name.to_owned(), alpha: -0.5, digest: Digest::of(b"x"), tensors: 3, bytes: 9 };
        let values = |names: &[&str]| names.iter().map(|name| patch(name).to_value()).collect::<Vec<_>>();
        assert_eq!(Patch::stack(&values(&["a", "b"])).unwrap(), [patch("a"), patch("b")]);
        let error = Patch::stack(&values(&["a", "b", "a"])).unwrap_err();
        assert_eq!(error.to_string(), "metadata `niwaki`: two patches are called `a`");
        for key in ["name", "alpha", "tensors", "bytes"] {
            let mut value = patch("a").to_value();
            value[key] = Value::Null;
            let text = Patch::stack(&[value]).unwrap_err().to_string();
            assert_eq!(text, format!("metadata `niwaki`: patch without a sound `{key}`"));
        }
    }

    #[test]
    fn a_stream_is_cut_into_its_chunks() {
        assert_eq!(chunks(&[]).unwrap(), Vec::<&[u8]>::new());
        assert_eq!(chunks(&[2, 0, 0, 0, 7, 8, 0, 0, 0, 0]).unwrap(), [&[7, 8][..], &[]]);
        for stream in [&[1][..], &[1, 0, 0, 0], &[9, 0, 0, 0, 1], &[255, 255, 255, 255, 1]] {
            assert_eq!(chunks(stream).unwrap_err().to_string(), "correction: a stream that is cut short");
        }
    }
}

//! The strict reader: everything that contradicts itself is an error that names it.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use niwaki_codes::{Scheme, Shape};
use niwaki_tensors::{Dtype, parse_dtype};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::Value;

use super::{Lineage, Meta, TensorMeta, VERSION};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind};
use crate::parts::{Kept, Layout, Part, PartSpec, ToldBy};
use crate::record::Patch;

#[derive(serde::Deserialize)]
struct Versioned {
    container: (u32, u32),
}

#[derive(serde::Deserialize)]
struct WireMeta {
    digest: String,
    lineage: WireLineage,
    recipe: Option<String>,
    recipe_digest: Option<String>,
    report: Value,
    tensors: Unique<WireTensor>,
    patches: Vec<Value>,
    undo: Option<Unique<String>>,
    signature: Option<Value>,
    part: Option<Value>,
    source_metadata: Unique<String>,
}

#[derive(serde::Deserialize)]
struct WireLineage {
    source: Option<String>,
    parents: Vec<String>,
}

#[derive(serde::Deserialize)]
struct WireTensor {
    scheme: String,
    dtype: String,
    shape: Vec<usize>,
    kept: Option<usize>,
    parts: Unique<String>,
    digest: String,
    source_digest: Option<String>,
}

/// Reads the metadata key.
///
/// A newer major version is refused; keys that are not known are ignored. Digests are
/// read, not recomputed: that is the verifier's part.
///
/// # Errors
///
/// [`ErrorKind::Version`], [`ErrorKind::Json`], and with the tensor's name each kind of
/// contradiction.
///
/// # Examples
///
/// ```
/// let error = niwaki_container::parse_meta(br#"{"container":[2,0],"else":true}"#).unwrap_err();
/// assert_eq!(error.to_string(), "container version 2; this niwaki reads 1");
/// ```
pub fn parse_meta(bytes: &[u8]) -> Result<Meta, Error> {
    let version: Versioned = serde_json::from_slice(bytes).map_err(json)?;
    if version.container.0 != VERSION.0 {
        return Err(ErrorKind::Version(version.container.0).into());
    }
    let wire: WireMeta = serde_json::from_slice(bytes).map_err(json)?;
    let tensors = wire.tensors.0.into_iter().map(|(name, tensor)| {
        let read = read_tensor(tensor).map_err(|error| error.in_tensor(&name))?;
        Ok((name, read))
    });
    Ok(Meta {
        digest: wire.digest.parse()?,
        lineage: Lineage {
            source: optional(wire.lineage.source)?,
            parents: wire.lineage.parents.iter().map(|text| text.parse()).collect::<Result<_, _>>()?,
        },
        recipe: wire.recipe,
        recipe_digest: optional(wire.recipe_digest)?,
        report: wire.report,
        tensors: tensors.collect::<Result<_, Error>>()?,
        patches: Patch::stack(&wire.patches)?,
        undo: wire.undo.map(hashes).transpose()?,
        signature: wire.signature,
        part: wire.part,
        source_metadata: wire.source_metadata.0,
    })
}

fn read_tensor(wire: WireTensor) -> Result<TensorMeta, Error> {
    let mut hashes = wire.parts.0;
    // Where both are listed, or neither is, the mask is the part too many or the one that lacks.
    let told_by = if hashes.contains_key(&Part::Positions.suffix()) { ToldBy::Positions } else { ToldBy::Mask };
    let layout = Layout {
        dtype: dtype(&wire.dtype)?,
        shape: Shape::new(&wire.shape).map_err(ErrorKind::Codes)?,
        scheme: scheme(wire.scheme)?,
        kept: wire.kept.map(|weights| Kept { weights, told_by }),
    };
    let mut hash = |spec: PartSpec| -> Result<(PartSpec, Digest), Error> {
        let suffix = spec.part.suffix();
        let text = hashes.remove(&suffix).ok_or(ErrorKind::NoHash(suffix))?;
        Ok((spec, text.parse()?))
    };
    let parts = layout.parts()?.into_iter().map(&mut hash).collect::<Result<_, _>>()?;
    if let Some((part, _)) = hashes.pop_first() {
        return Err(ErrorKind::StrayHash { part, scheme: layout.scheme_text() }.into());
    }
    Ok(TensorMeta { layout, parts, digest: wire.digest.parse()?, source_digest: optional(wire.source_digest)? })
}

/// Only the one spelling of a scheme is accepted, so that text and meaning agree.
fn scheme(text: String) -> Result<Option<Scheme>, Error> {
    if text == "dense" {
        return Ok(None);
    }
    match text.parse::<Scheme>() {
        Ok(scheme) if scheme.to_string() == text => Ok(Some(scheme)),
        _ => Err(ErrorKind::SchemeText(text).into()),
    }
}

fn dtype(text: &str) -> Result<Dtype, Error> {
    parse_dtype(text).ok_or_else(|| ErrorKind::DtypeText(text.to_owned()).into())
}

/// Hashes by name.
fn hashes(texts: Unique<String>) -> Result<BTreeMap<String, Digest>, Error> {
    texts.0.into_iter().map(|(name, text)| Ok((name, text.parse()?))).collect()
}

fn optional(text: Option<String>) -> Result<Option<Digest>, Error> {
    text.map(|text| text.parse()).transpose()
}

fn json(error: serde_json::Error) -> Error {
    ErrorKind::Json(error.to_string()).into()
}

/// A map that refuses a key given twice, which serde_json's own maps do not.
struct Unique<T>(BTreeMap<String, T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Unique<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(UniqueVisitor(PhantomData))
    }
}

struct UniqueVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for UniqueVisitor<T> {
    type Value = Unique<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unique<T>, A::Error> {
        let mut entries = BTreeMap::new();
        while let Some((key, value)) = map.next_entry::<String, T>()? {
            if entries.contains_key(&key) {
                return Err(A::Error::custom(format_args!("key `{key}` stands there twice")));
            }
            entries.insert(key, value);
        }
        Ok(Unique(entries))
    }
}

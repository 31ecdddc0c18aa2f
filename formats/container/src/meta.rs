//! The metadata key `niwaki`: what is stored, whence it came, and its digests.
//!
//! One key of canonical JSON: keys in order of their bytes, no spaces. The report is
//! carried without a look inside; it belongs to the engine.

mod json;
mod read;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::digest::{Digest, checkpoint_digest, stored_digest};
use crate::error::{Error, ErrorKind};
use crate::parts::{Layout, Part, PartSpec, ToldBy, dtype_text};
use crate::record::{Patch, hashes_value};

pub use json::canonical;
pub use read::parse_meta;

/// The name of the metadata key.
pub const META_KEY: &str = "niwaki";

/// The newest container version that this crate writes: major and minor. A file says the
/// oldest that has all that it uses, [`Meta::version`].
pub const VERSION: (u32, u32) = (1, 1);

/// Everything under the metadata key.
#[derive(Clone, Debug, PartialEq)]
pub struct Meta {
    /// Digest of the checkpoint, over all tensors.
    pub digest: Digest,
    /// Whence it came.
    pub lineage: Lineage,
    /// The recipe's text.
    pub recipe: Option<String>,
    /// Hash of the recipe's text.
    pub recipe_digest: Option<Digest>,
    /// The engine's report.
    pub report: Value,
    /// The logical tensors by name.
    pub tensors: BTreeMap<String, TensorMeta>,
    /// The patches that were merged or laid over.
    pub patches: Vec<Patch>,
    /// What takes them off: the tensors that hold it, each with its content hash.
    pub undo: Option<BTreeMap<String, Digest>>,
    /// What a signature says of itself; none in other files.
    pub signature: Option<Value>,
    /// What a part of a job that was split says of itself; none in other files.
    pub part: Option<Value>,
    /// The metadata of the source.
    pub source_metadata: BTreeMap<String, String>,
}

/// Checkpoints that a container descends from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lineage {
    /// Digest of the uncompressed source.
    pub source: Option<Digest>,
    /// Digests of the containers between the source and this one, oldest first.
    pub parents: Vec<Digest>,
}

/// One logical tensor in the metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorMeta {
    /// How it is stored.
    pub layout: Layout,
    /// Its parts, each with its content hash.
    pub parts: Vec<(PartSpec, Digest)>,
    /// Its digest.
    pub digest: Digest,
    /// The digest of the tensor that it was made from.
    pub source_digest: Option<Digest>,
}

impl TensorMeta {
    /// A tensor of the given layout, with the content hash of each part in any order.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NoHash`] and [`ErrorKind::StrayHash`] where the hashes are not those
    /// of the layout's parts, and the errors of [`Layout::parts`].
    pub fn new(layout: Layout, hashes: &[(Part, Digest)], source_digest: Option<Digest>) -> Result<Self, Error> {
        let specs = layout.parts()?;
        if let Some((part, _)) = hashes.iter().find(|(part, _)| specs.iter().all(|spec| spec.part != *part)) {
            return Err(ErrorKind::StrayHash { part: part.suffix(), scheme: layout.scheme_text() }.into());
        }
        let parts = specs.into_iter().map(|spec| {
            let hash = hashes.iter().find(|(part, _)| *part == spec.part).map(|(_, hash)| *hash);
            Ok((spec, hash.ok_or_else(|| ErrorKind::NoHash(spec.part.suffix()))?))
        });
        let parts = parts.collect::<Result<Vec<_>, Error>>()?;
        let digest = stored_digest(&layout, &parts);
        Ok(Self { layout, parts, digest, source_digest })
    }

    fn to_value(&self) -> Value {
        let parts = self.parts.iter().map(|(spec, hash)| (spec.part.suffix(), hash.to_string().into()));
        let mut value = json!({
            "digest": self.digest.to_string(),
            "dtype": dtype_text(self.layout.dtype),
            "parts": parts.collect::<Map<_, _>>(),
            "scheme": self.layout.scheme_text(),
            "shape": self.layout.shape.dims(),
            "source_digest": self.source_digest.map(|digest| digest.to_string()),
        });
        if let (Some(kept), Value::Object(object)) = (self.layout.kept, &mut value) {
            object.insert("kept".to_owned(), kept.weights.into());
        }
        value
    }
}

impl Meta {
    /// Metadata of the given tensors, with nothing else in it yet.
    pub fn new(tensors: BTreeMap<String, TensorMeta>) -> Self {
        let digest = checkpoint_digest(tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.digest)));
        Self {
            digest,
            lineage: Lineage::default(),
            recipe: None,
            recipe_digest: None,
            report: Value::Object(Map::new()),
            tensors,
            patches: Vec::new(),
            undo: None,
            signature: None,
            part: None,
            source_metadata: BTreeMap::new(),
        }
    }

    /// The same metadata with a recipe and its hash.
    pub fn with_recipe(self, recipe: impl Into<String>) -> Self {
        let recipe = recipe.into();
        Self { recipe_digest: Some(Digest::of(recipe.as_bytes())), recipe: Some(recipe), ..self }
    }

    /// The container version that the file says: the oldest that has all that the file uses.
    pub fn version(&self) -> (u32, u32) {
        let positions = |tensor: &TensorMeta| tensor.layout.kept.is_some_and(|kept| kept.told_by == ToldBy::Positions);
        // Each of these asks for version 1.1.
        let newer = self.signature.is_some() || self.undo.is_some() || self.part.is_some();
        let newer = newer || self.tensors.values().any(positions);
        (VERSION.0, if newer { VERSION.1 } else { 0 })
    }

    /// The canonical text.
    pub fn to_json(&self) -> String {
        let text = |digest: &Digest| Value::from(digest.to_string());
        let tensors = self.tensors.iter().map(|(name, tensor)| (name.clone(), tensor.to_value()));
        let (major, minor) = self.version();
        let mut value = json!({
            "container": [major, minor],
            "digest": text(&self.digest),
            "lineage": {
                "parents": self.lineage.parents.iter().map(text).collect::<Vec<_>>(),
                "source": self.lineage.source.as_ref().map(text),
            },
            "patches": self.patches.iter().map(Patch::to_value).collect::<Vec<_>>(),
            "recipe": self.recipe,
            "recipe_digest": self.recipe_digest.as_ref().map(text),
            "report": self.report,
            "source_metadata": self.source_metadata,
            "tensors": tensors.collect::<Map<_, _>>(),
        });
        if let Value::Object(object) = &mut value {
            object.extend(self.part.iter().map(|part| ("part".to_owned(), part.clone())));
            object.extend(self.signature.iter().map(|signature| ("signature".to_owned(), signature.clone())));
            object.extend(self.undo.iter().map(|undo| ("undo".to_owned(), hashes_value(undo))));
        }
        canonical(&value)
    }
}

#[cfg(test)]
mod tests;

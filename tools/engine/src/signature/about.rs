//! What a signature says of itself, under the metadata key `signature`.

use std::collections::BTreeMap;

use niwaki_codes::PatchKind;
use niwaki_container::{Digest, canonical};
use serde_json::{Map, Value, json};

use crate::error::{Blame, Error, ErrorKind};
use crate::source::Source;

/// Names and dimensions of a checkpoint's tensors of floats: what makes its architecture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Architecture(pub BTreeMap<String, Vec<usize>>);

impl Architecture {
    /// Of a checkpoint.
    pub fn of(source: &Source<'_>) -> Self {
        let floats = source.tensors().iter().filter(|tensor| tensor.is_float());
        Self(floats.map(|tensor| (tensor.name().to_owned(), tensor.shape().dims().to_vec())).collect())
    }

    /// BLAKE3 over its names and dimensions.
    pub fn fingerprint(&self) -> Digest {
        Digest::of(format!("niwaki architecture\0{}", canonical(&json!(self.0))).as_bytes())
    }
}

/// Where a signature's values come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// Robust training less what ordinary training did, off its direction (the paper's).
    #[default]
    Projection,
    /// Weights between two checkpoints (WiSE-FT).
    Interpolation,
    /// A factor for the rows of query weights.
    Temperature,
    /// Several signatures in one.
    Combination,
    /// A low-rank adapter of another tool.
    Adapter,
}

impl Method {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Projection, "projection"),
        (Self::Interpolation, "interpolation"),
        (Self::Temperature, "temperature"),
        (Self::Combination, "combination"),
        (Self::Adapter, "adapter"),
    ];

    /// The word for it in files.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(method, _)| *method == self).map_or("", |(_, name)| name)
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(method, _)| *method)
    }
}

/// What a signature says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct About {
    /// Where its values come from.
    pub method: Method,
    /// The architecture that it belongs to.
    pub architecture: Architecture,
    /// Digest of the checkpoint that it was made for; none where that is not known.
    pub base: Option<Digest>,
    /// Digest of the weights that both trainings began with.
    pub init: Option<Digest>,
    /// Of the tensors that it touches, the digests that they have in that checkpoint.
    pub touched: BTreeMap<String, Option<Digest>>,
    /// What values of a tensor mean, where they are not differences to add.
    pub kinds: BTreeMap<String, PatchKind>,
    /// What was measured when it was made.
    pub report: Value,
}

impl About {
    /// What the values of a tensor mean.
    pub fn kind(&self, tensor: &str) -> PatchKind {
        self.kinds.get(tensor).copied().unwrap_or_default()
    }

    /// As JSON.
    pub fn to_value(&self) -> Value {
        let text = |digest: &Digest| Value::from(digest.to_string());
        let kinds: Map<_, _> = self.kinds.iter().map(|(name, kind)| (name.clone(), kind.name().into())).collect();
        let touched: Map<_, _> = self
            .touched
            .iter()
            .map(|(name, digest)| (name.clone(), digest.as_ref().map_or(Value::Null, text)))
            .collect();
        json!({
            "architecture": self.architecture.0,
            "base": self.base.as_ref().map(text),
            "fingerprint": text(&self.architecture.fingerprint()),
            "init": self.init.as_ref().map(text),
            "kinds": kinds,
            "method": self.method.name(),
            "report": self.report,
            "touched": touched,
        })
    }

    /// From JSON; what contradicts itself is refused.
    ///
    /// # Errors
    ///
    /// Keys that are missing or of another type, names of kinds and methods that are not known (a
    /// newer version may have made it), and a fingerprint that is not that of the architecture.
    pub fn from_value(value: &Value) -> Result<Self, Error> {
        let object = |key: &str| value.get(key).and_then(Value::as_object).ok_or_else(|| wrong(key, "no object"));
        let mut about = Self { report: value.get("report").cloned().unwrap_or_default(), ..Self::default() };
        let method = value.get("method").and_then(Value::as_str).unwrap_or_default();
        about.method = Method::from_name(method).ok_or_else(|| newer(format!("method `{method}`")))?;
        for (name, dims) in object("architecture")? {
            let dims: Option<Vec<usize>> =
                dims.as_array().and_then(|dims| dims.iter().map(|dim| usize::try_from(dim.as_u64()?).ok()).collect());
            about
                .architecture
                .0
                .insert(name.clone(), dims.ok_or_else(|| wrong("architecture", "no list of dimensions"))?);
        }
        about.base = digest(value.get("base"), "base")?;
        about.init = digest(value.get("init"), "init")?;
        for (name, kind) in object("kinds")? {
            let kind = kind.as_str().unwrap_or_default();
            let known = PatchKind::from_name(kind).ok_or_else(|| newer(format!("kind `{kind}` of tensor `{name}`")))?;
            about.kinds.insert(name.clone(), known);
        }
        for (name, says) in object("touched")? {
            about.touched.insert(name.clone(), digest(Some(says), "touched")?);
        }
        let says = digest(value.get("fingerprint"), "fingerprint")?;
        if says != Some(about.architecture.fingerprint()) {
            return Err(wrong("fingerprint", "not that of the architecture"));
        }
        Ok(about)
    }
}

fn digest(value: Option<&Value>, key: &str) -> Result<Option<Digest>, Error> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.parse().map_err(|_| wrong(key, "no digest"))?)),
        Some(_) => Err(wrong(key, "no digest")),
    }
}

fn wrong(key: &str, what: &str) -> Error {
    ErrorKind::Below { what: format!("metadata `signature`: `{key}` is {what}"), blame: Blame::Input }.into()
}

fn newer(what: String) -> Error {
    Error::from(ErrorKind::Unsupported { what }).hinting("a newer niwaki made this signature; update niwaki")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about() -> About {
        let mut about = About { base: Some(Digest::of(b"base")), report: json!({"a": 1}), ..About::default() };
        about.architecture.0.insert("w".to_owned(), vec![2, 3]);
        about.touched.insert("w".to_owned(), Some(Digest::of(b"w")));
        about.kinds.insert("w".to_owned(), PatchKind::Blend);
        about
    }

    #[test]
    fn it_goes_to_json_and_back() {
        assert_eq!(About::from_value(&about().to_value()).unwrap(), about());
        for (method, _) in Method::ALL {
            let about = About { method, ..about() };
            assert_eq!(About::from_value(&about.to_value()).unwrap().method, method);
        }
    }

    #[test]
    fn contradictions_and_newer_words_are_refused() {
        let edit = |key: &str, value: Value| {
            let mut text = about().to_value();
            text[key] = value;
            About::from_value(&text).unwrap_err().to_string()
        };
        assert_eq!(
            edit("architecture", json!({"w": [2, 4]})),
            "metadata `signature`: `fingerprint` is not that of the architecture"
        );
        assert_eq!(
            edit("architecture", json!({"w": [-1]})),
            "metadata `signature`: `architecture` is no list of dimensions"
        );
        assert_eq!(edit("base", json!("abc")), "metadata `signature`: `base` is no digest");
        assert_eq!(
            edit("kinds", json!({"w": "rotate"})),
            "kind `rotate` of tensor `w` is not supported by this version"
        );
        assert_eq!(edit("method", json!("magic")), "method `magic` is not supported by this version");
        assert_eq!(edit("touched", json!(7)), "metadata `signature`: `touched` is no object");
    }
}

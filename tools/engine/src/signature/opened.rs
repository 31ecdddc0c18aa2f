//! A signature file that is open.

use std::fs;
use std::path::Path;

use niwaki_codes::{PatchKind, Shape};
use niwaki_container::{Digest, Kind};
use niwaki_tensors::Limits;

use super::about::About;
use crate::error::{Blame, Error, ErrorKind};
use crate::source::{Names, Opened, Source};

/// An open signature.
#[derive(Debug)]
pub struct Signature {
    name: String,
    opened: Opened,
    about: About,
}

/// A signature, and how much of it.
#[derive(Clone, Copy, Debug)]
pub struct Patch<'s> {
    /// The signature.
    pub signature: &'s Signature,
    /// What its values are multiplied by.
    pub alpha: f64,
    /// Whether it may have been made for other weights of the same architecture.
    pub transfer: bool,
}

impl Signature {
    /// Opens the signature file at `path`; its name is the stem of the file's.
    ///
    /// # Errors
    ///
    /// Those of [`Opened::open`], a file that is no signature, and one that contradicts itself.
    pub fn open(path: &Path, limits: &Limits) -> Result<Self, Error> {
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        Self::of(Opened::open(path, limits)?, name).map_err(|e| e.at(path))
    }

    /// A container that is open.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open).
    pub(crate) fn of(opened: Opened, name: String) -> Result<Self, Error> {
        let meta = match opened.artifact().map(|artifact| (artifact.kind(), artifact.metas())) {
            Some((Kind::Container, [meta])) => meta.signature.as_ref(),
            _ => None,
        };
        let Some(meta) = meta else {
            let error = Error::from(ErrorKind::Patch { what: "is no signature".to_owned() });
            return Err(error.hinting("`niwaki signature extract` and `signature import` make one"));
        };
        let about = About::from_value(meta)?;
        let signature = Self { name, opened, about };
        signature.check()?;
        Ok(signature)
    }

    /// Its tensors and what it says of them agree.
    fn check(&self) -> Result<(), Error> {
        let source = self.source()?;
        let wrong =
            |name: &str, what: String| Err(Error::from(ErrorKind::Below { what, blame: Blame::Input }).of(name));
        for tensor in source.tensors() {
            let name = tensor.name();
            let Some(dims) = self.about.architecture.0.get(name) else {
                return wrong(name, format!("tensor `{name}`: is not in the architecture of the signature"));
            };
            let expected = match self.about.kind(name) {
                PatchKind::Scale => dims.get(..1).unwrap_or_default(),
                PatchKind::Add | PatchKind::Blend => dims,
            };
            if tensor.shape().dims() != expected || !tensor.is_float() {
                let expected = Shape::new(expected).map_or_else(|e| e.to_string(), |shape| shape.to_string());
                return wrong(name, format!("tensor `{name}`: is {}, {expected} floats expected", tensor.shape()));
            }
            if !self.about.touched.contains_key(name) {
                return wrong(name, format!("tensor `{name}`: is not among those that the signature touches"));
            }
        }
        match self.about.touched.keys().find(|name| source.get(name).is_none()) {
            Some(name) => wrong(name, format!("tensor `{name}`: is touched, and the signature lacks it")),
            None => Ok(()),
        }
    }

    /// Its name: by which it is found in a stack.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same signature by another name.
    pub fn named(self, name: impl Into<String>) -> Self {
        Self { name: name.into(), ..self }
    }

    /// What it says of itself.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// The file.
    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    /// Its tensors.
    ///
    /// # Errors
    ///
    /// Those of [`Opened::source`].
    pub fn source(&self) -> Result<Source<'_>, Error> {
        self.opened.source(None, Names::Own)
    }

    /// The bytes of its file.
    pub fn bytes(&self) -> &[u8] {
        let shard = self.opened.artifact().and_then(|artifact| artifact.checkpoint().shards().first());
        shard.map(|shard| shard.bytes()).unwrap_or_default()
    }

    /// The digest of its tensors, as its metadata has it.
    pub(super) fn digest_of_contents(&self) -> Digest {
        let digest = self.opened.artifact().and_then(|artifact| artifact.digest());
        digest.unwrap_or_else(|| self.digest())
    }

    /// BLAKE3 of its file.
    pub fn digest(&self) -> Digest {
        Digest::of(self.bytes())
    }
}

/// The path and the alpha of `SIG` or `SIG@ALPHA`: where a file is called like the whole text, the
/// text is a path.
///
/// # Errors
///
/// An alpha that is no finite number.
pub fn path_and_alpha(text: &str) -> Result<(&Path, f64), Error> {
    match text.rsplit_once('@') {
        Some((path, alpha)) if fs::metadata(text).is_err() => Ok((Path::new(path), parse_alpha(alpha)?)),
        _ => Ok((Path::new(text), 1.0)),
    }
}

/// A finite number.
///
/// # Errors
///
/// Text that is none.
pub fn parse_alpha(text: &str) -> Result<f64, Error> {
    let alpha: Option<f64> = text.parse().ok().filter(|alpha: &f64| alpha.is_finite());
    alpha.ok_or_else(|| ErrorKind::Usage { what: format!("alpha is `{text}`; a finite number is expected") }.into())
}

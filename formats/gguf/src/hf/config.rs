//! Looking into JSON files.

use serde_json::Value as Json;

use super::fault::FolderFault;
use crate::error::{Error, ErrorKind};

/// One JSON file, or a part of it. Keys with the value `null` count as missing.
#[derive(Clone, Copy)]
pub(crate) struct Config<'a> {
    file: &'static str,
    root: &'a Json,
    /// Where keys are looked for first.
    inner: Option<&'a Json>,
}

impl<'a> Config<'a> {
    pub(crate) fn new(file: &'static str, root: &'a Json) -> Self {
        Self { file, root, inner: None }
    }

    /// A `config.json`: that of a model of several kinds of input keeps its text model apart.
    pub(crate) fn of_model(root: &'a Json) -> Self {
        Self { inner: root.get("text_config"), ..Self::new("config.json", root) }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&'a Json> {
        let found = self.inner.and_then(|inner| inner.get(key)).filter(|value| !value.is_null());
        found.or_else(|| self.root.get(key)).filter(|value| !value.is_null())
    }

    /// The error about the value of a key.
    pub(crate) fn refuse(&self, key: &str, found: &Json, expected: &'static str) -> Error {
        let found = match found {
            Json::Array(_) => "a list".to_owned(),
            Json::Object(_) => "an object".to_owned(),
            other => other.to_string(),
        };
        fault(FolderFault::Value { file: self.file, key: key.to_owned(), found, expected })
    }

    pub(crate) fn missing(&self, key: &str) -> Error {
        fault(FolderFault::NoKey { file: self.file, key: key.to_owned() })
    }

    pub(crate) fn require<T>(&self, key: &str, found: Option<T>) -> Result<T, Error> {
        found.ok_or_else(|| self.missing(key))
    }

    /// A whole number from 1.
    pub(crate) fn count(&self, key: &str) -> Result<Option<u32>, Error> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let count = value.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
        count.map(Some).ok_or_else(|| self.refuse(key, value, "a whole number from 1"))
    }

    /// A finite number.
    pub(crate) fn number(&self, key: &str) -> Result<Option<f32>, Error> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let number = value.as_f64().map(|x| x as f32).filter(|x| x.is_finite());
        number.map(Some).ok_or_else(|| self.refuse(key, value, "a number"))
    }

    pub(crate) fn text(&self, key: &str) -> Option<&'a str> {
        self.get(key)?.as_str()
    }

    pub(crate) fn flag(&self, key: &str) -> Option<bool> {
        self.get(key)?.as_bool()
    }
}

pub(crate) fn fault(fault: FolderFault) -> Error {
    ErrorKind::Folder(fault).into()
}

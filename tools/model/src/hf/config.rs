//! What `config.json` says: keys by name, each of the type that it must have.

use serde_json::{Map, Value};

use crate::error::{Error, ErrorKind};

/// The largest size of anything.
const LARGEST: u64 = 1 << 24;

/// What a model says of itself.
#[derive(Clone, Debug)]
pub struct Config {
    pub(super) keys: Map<String, Value>,
    /// Where it stands in the file: empty, or the key of the object that it is, and a dot.
    within: String,
}

impl Config {
    /// Reads the text of a `config.json`.
    ///
    /// # Errors
    ///
    /// A text that is no JSON object.
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        let wrong = |found: String| ErrorKind::Config { key: "config.json".to_owned(), found, needs: "a JSON object" };
        match serde_json::from_slice(text) {
            Ok(Value::Object(keys)) => Ok(Self { keys, within: String::new() }),
            Ok(_) => Err(wrong("another value".to_owned()).into()),
            Err(error) => Err(wrong(format!("no JSON ({error})")).into()),
        }
    }

    /// What its family is called.
    pub fn model_type(&self) -> &str {
        self.keys.get("model_type").and_then(Value::as_str).unwrap_or_default()
    }

    /// The first of the classes that it names.
    pub fn architecture(&self) -> &str {
        self.keys.get("architectures").and_then(|all| all.get(0)).and_then(Value::as_str).unwrap_or_default()
    }

    /// The value of a key; none where it is missing or null.
    fn value(&self, key: &str) -> Option<&Value> {
        self.keys.get(key).filter(|value| !value.is_null())
    }

    /// Whether the key stands there, if only with a null.
    pub(super) fn names(&self, key: &str) -> bool {
        self.keys.contains_key(key)
    }

    pub(super) fn wrong(&self, key: &str, needs: &'static str) -> Error {
        let found = match self.keys.get(key) {
            None => "nothing".to_owned(),
            Some(value) => {
                let text: String = value.to_string().chars().take(60).collect();
                if text.len() < value.to_string().len() { format!("{text}..") } else { text }
            }
        };
        ErrorKind::Config { key: format!("{}{key}", self.within), found, needs }.into()
    }

    /// A size, which is not 0.
    pub(super) fn size(&self, key: &str) -> Result<Option<usize>, Error> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let size = value.as_u64().filter(|size| (1..=LARGEST).contains(size));
        let size = size.and_then(|size| usize::try_from(size).ok());
        size.map(Some).ok_or_else(|| self.wrong(key, "a whole number from 1 to 2^24"))
    }

    /// A size that must be there.
    pub(super) fn needs(&self, key: &str) -> Result<usize, Error> {
        self.size(key)?.ok_or_else(|| self.wrong(key, "a whole number"))
    }

    /// The number of a token.
    pub(super) fn token(&self, key: &str) -> Result<Option<usize>, Error> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let token = value.as_u64().filter(|token| *token < LARGEST).and_then(|token| usize::try_from(token).ok());
        token.map(Some).ok_or_else(|| self.wrong(key, "a token below 2^24"))
    }

    /// A number that is positive.
    pub(super) fn positive(&self, key: &str) -> Result<Option<f64>, Error> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let number = value.as_f64().filter(|number| number.is_finite() && *number > 0.0);
        number.map(Some).ok_or_else(|| self.wrong(key, "a positive number"))
    }

    /// A truth.
    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, Error> {
        let Some(value) = self.value(key) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| self.wrong(key, "true or false"))
    }

    /// A text.
    pub(super) fn text(&self, key: &str) -> Result<Option<&str>, Error> {
        let Some(value) = self.value(key) else { return Ok(None) };
        value.as_str().map(Some).ok_or_else(|| self.wrong(key, "a text"))
    }

    /// A list of texts.
    pub(super) fn texts(&self, key: &str) -> Result<Option<Vec<&str>>, Error> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let all = value.as_array().and_then(|all| all.iter().map(Value::as_str).collect::<Option<Vec<_>>>());
        all.map(Some).ok_or_else(|| self.wrong(key, "a list of texts"))
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// What stands under a key, as keys of its own.
    pub(super) fn object(&self, key: &str) -> Result<Option<Self>, Error> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let Some(keys) = value.as_object() else { return Err(self.wrong(key, "an object")) };
        Ok(Some(Self { keys: keys.clone(), within: format!("{}{key}.", self.within) }))
    }
}

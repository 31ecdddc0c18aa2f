//! Text, where this build has no tokenizers.

use std::path::Path;

use crate::error::{Error, ErrorKind};

/// A tokenizer, of which this build has none.
#[derive(Debug)]
pub enum Tokenizer {}

impl Tokenizer {
    /// Says that it cannot be done.
    ///
    /// # Errors
    ///
    /// Always.
    pub fn open(_: &Path) -> Result<Self, Error> {
        Err(ErrorKind::Unsupported { what: "text, in a build without the feature `tokenizers`,".to_owned() }.into())
    }

    /// Nothing, as there is no tokenizer.
    ///
    /// # Errors
    ///
    /// None.
    pub fn within(self, _: usize) -> Result<Self, Error> {
        match self {}
    }

    /// Nothing, as there is no tokenizer.
    ///
    /// # Errors
    ///
    /// None.
    pub fn tokens(&self, _: &str, _: bool) -> Result<Vec<u32>, Error> {
        match *self {}
    }

    /// Nothing, as there is no tokenizer.
    ///
    /// # Errors
    ///
    /// None.
    pub fn before(&self) -> Result<Vec<u32>, Error> {
        match *self {}
    }

    /// Nothing, as there is no tokenizer.
    ///
    /// # Errors
    ///
    /// None.
    pub fn text(&self, _: &[u32]) -> Result<String, Error> {
        match *self {}
    }
}

//! The tokenizer of a folder.

use std::fmt;
use std::path::{Path, PathBuf};

use niwaki_tensors::{Limits, read_limited};

use crate::dataset::DataFault;
use crate::error::{Error, ErrorKind};

/// Makes tokens of text, and text of tokens, as a `tokenizer.json` says it.
pub struct Tokenizer {
    tokenizer: tokenizers::Tokenizer,
    path: PathBuf,
}

impl Tokenizer {
    /// Opens the `tokenizer.json` of a folder.
    ///
    /// # Errors
    ///
    /// A file that cannot be read or is no tokenizer.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let path = folder.join("tokenizer.json");
        let json = read_limited(&path, &Limits::default())?;
        let mut tokenizer = tokenizers::Tokenizer::from_bytes(json).map_err(|e| wrong(&e, &path))?;
        // What a file says of cutting and filling up is meant for batches.
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|e| wrong(&e, &path))?;
        Ok(Self { tokenizer, path })
    }

    /// The tokens of a text, with those that the model expects around it where `around` says so.
    ///
    /// # Errors
    ///
    /// A text that the tokenizer refuses.
    pub fn tokens(&self, text: &str, around: bool) -> Result<Vec<u32>, Error> {
        let encoding = self.tokenizer.encode_fast(text, around).map_err(|e| wrong(&e, &self.path))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of tokens, without those that only structure it.
    ///
    /// # Errors
    ///
    /// Tokens that the tokenizer refuses.
    pub fn text(&self, tokens: &[u32]) -> Result<String, Error> {
        self.tokenizer.decode(tokens, true).map_err(|e| wrong(&e, &self.path))
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer").field("path", &self.path).finish_non_exhaustive()
    }
}

fn wrong(why: &dyn fmt::Display, path: &Path) -> Error {
    let why = why.to_string().lines().next().unwrap_or_default().chars().take(200).collect();
    Error::from(ErrorKind::Data(DataFault::Tokenizer { why })).at(path)
}

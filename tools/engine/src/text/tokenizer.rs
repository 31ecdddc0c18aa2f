//! The tokenizer of a folder.

use std::fmt;
use std::path::{Path, PathBuf};

use niwaki_tensors::{Limits, read_limited};
use tokenizers::TruncationParams;

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
        Self::of_file(folder.join("tokenizer.json"))
    }

    /// Opens a file like `tokenizer.json`.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open).
    pub fn of_file(path: PathBuf) -> Result<Self, Error> {
        let json = read_limited(&path, &Limits::default())?;
        let mut tokenizer = tokenizers::Tokenizer::from_bytes(json).map_err(|e| wrong(&e, &path))?;
        // What a file says of cutting and filling up is meant for batches.
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|e| wrong(&e, &path))?;
        Ok(Self { tokenizer, path })
    }

    /// The same tokenizer, which cuts texts to so many tokens at most, with those around them.
    ///
    /// # Errors
    ///
    /// Fewer than stand around a text.
    pub fn within(mut self, tokens: usize) -> Result<Self, Error> {
        let cut = TruncationParams { max_length: tokens, ..TruncationParams::default() };
        self.tokenizer.with_truncation(Some(cut)).map_err(|e| wrong(&e, &self.path))?;
        Ok(self)
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

    /// How many tokens there are.
    pub fn vocabulary(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }

    /// The tokens that the model expects before a text: that with which texts begin, for most of
    /// those that have one.
    ///
    /// # Errors
    ///
    /// None but those of a tokenizer that refuses the letter `a`.
    pub fn before(&self) -> Result<Vec<u32>, Error> {
        let (bare, around) = (self.tokens("a", false)?, self.tokens("a", true)?);
        Ok(before(&bare, &around).to_vec())
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

/// What comes before the tokens of a text, of all tokens.
fn before<'t>(text: &[u32], all: &'t [u32]) -> &'t [u32] {
    let at = all.windows(text.len().max(1)).position(|tokens| tokens == text);
    &all[..at.unwrap_or(0)]
}

fn wrong(why: &dyn fmt::Display, path: &Path) -> Error {
    let why = why.to_string().lines().next().unwrap_or_default().chars().take(200).collect();
    Error::from(ErrorKind::Data(DataFault::Tokenizer { why })).at(path)
}

#[cfg(test)]
mod tests {
    use super::before;

    #[test]
    fn what_comes_before_a_text_is_what_is_not_of_it() {
        assert_eq!(before(&[7, 8], &[1, 7, 8, 2]), [1]);
        assert!(before(&[7], &[7, 2]).is_empty());
        assert_eq!(before(&[7], &[1, 3, 7]), [1, 3]);
        assert!(before(&[], &[1, 2]).is_empty());
    }
}

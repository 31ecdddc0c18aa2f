//! Windows of tokens, read by memory map.

use std::fmt;
use std::path::{Path, PathBuf};

use niwaki_tensors::{Checkpoint, Dtype, Limits};

use super::fault::DataFault;
use super::images::{dims, fault, integer, tensor};
use crate::error::Error;

/// The name of the tensor of tokens.
pub(super) const TOKENS: &str = "tokens";
/// The key of the metadata that says how many tokens there are.
pub(super) const VOCABULARY: &str = "vocabulary";

/// Windows of text as tokens: `tokens` I64 `[N, T]`, and in the metadata, where known, how large
/// the `vocabulary` is.
pub struct Tokens {
    checkpoint: Checkpoint,
    path: PathBuf,
    items: usize,
    length: usize,
    vocabulary: Option<u64>,
}

impl Tokens {
    /// Opens the dataset at `path`.
    ///
    /// # Errors
    ///
    /// Those of [`Checkpoint::open`], and [`ErrorKind::Data`](crate::ErrorKind::Data) for a
    /// tensor or metadata that are not as described [above](Self), and for a dataset without
    /// items.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::of_checkpoint(Checkpoint::open(path, &Limits::default())?)
    }

    /// The dataset in an open file.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open) that are of the file's contents.
    pub fn of_checkpoint(checkpoint: Checkpoint) -> Result<Self, Error> {
        let path = checkpoint.path().to_owned();
        let tokens = tensor(&checkpoint, TOKENS)?;
        let [items, length] =
            dims(&tokens, &[Dtype::I64], ("I64", "[N, T]")).map_err(|f| fault(f, &path).of(TOKENS))?;
        if items == 0 || length == 0 {
            return Err(fault(DataFault::Empty, &path).of(TOKENS));
        }
        let number = |text: &&str| match text.parse().ok().filter(|n| (1..=1 << 32).contains(n)) {
            Some(number) => Ok(number),
            None => {
                let found = text.chars().take(40).map(|c| if c.is_control() { ' ' } else { c }).collect();
                let expected = "a number from 1 to 4294967296".to_owned();
                Err(fault(DataFault::Setting { key: VOCABULARY, found, expected }, &path))
            }
        };
        let vocabulary = checkpoint.metadata().get(VOCABULARY).map(number).transpose()?;
        Ok(Self { path, items, length, vocabulary, checkpoint })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The checkpoint behind it.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// How many windows there are: at least one.
    pub fn len(&self) -> usize {
        self.items
    }

    /// Never: an empty dataset does not open.
    pub fn is_empty(&self) -> bool {
        self.items == 0
    }

    /// Tokens in a window.
    pub fn length(&self) -> usize {
        self.length
    }

    /// How many different tokens there may be, where the file says so.
    pub fn vocabulary(&self) -> Option<u64> {
        self.vocabulary
    }

    /// The windows `items`, a range or any list of numbers: `out` gets `[B, T]`.
    ///
    /// # Errors
    ///
    /// [`DataFault::Item`], [`DataFault::Buffer`], [`DataFault::Token`] for tokens that the
    /// vocabulary does not have, and a file that changed since it was opened.
    pub fn batch(&self, items: impl IntoIterator<Item = usize>, out: &mut [u32]) -> Result<(), Error> {
        self.checkpoint.ensure_unchanged()?;
        let tokens = tensor(&self.checkpoint, TOKENS)?;
        let most = self.vocabulary.unwrap_or(1 << 32);
        let mut rest = &mut *out;
        let mut wanted = 0;
        for item in items {
            if item >= self.items {
                return Err(fault(DataFault::Item { found: item, items: self.items }, &self.path));
            }
            wanted += self.length;
            let Some((now, later)) = std::mem::take(&mut rest).split_at_mut_checked(self.length) else { continue };
            for (position, out) in now.iter_mut().enumerate() {
                let found = integer(tokens.bytes(), item * self.length + position).unwrap_or(-1);
                let token = u32::try_from(found).ok().filter(|token| u64::from(*token) < most);
                *out = token.ok_or_else(|| {
                    fault(DataFault::Token { item, position, found, vocabulary: most }, &self.path).of(TOKENS)
                })?;
            }
            rest = later;
        }
        if out.len() == wanted {
            return Ok(());
        }
        Err(fault(DataFault::Buffer { found: out.len(), expected: wanted }, &self.path))
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (items, length) = (self.items, self.length);
        f.debug_struct("Tokens").field("path", &self.path).field("items", &items).field("length", &length).finish()
    }
}

//! What can be wrong with a Hugging Face folder.

use std::fmt;

use crate::error::dims;

/// Why a folder could not be described as GGUF.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum FolderFault {
    /// A key that is missing from a JSON file.
    NoKey {
        /// The file.
        file: &'static str,
        /// The key.
        key: String,
    },
    /// A key with a value that is not understood.
    Value {
        /// The file.
        file: &'static str,
        /// The key.
        key: String,
        /// The value found.
        found: String,
        /// What is expected.
        expected: &'static str,
    },
    /// No `tokenizer.json`.
    NoVocabulary,
    /// A pre-tokenizer for which no name of llama.cpp is known.
    PreTokenizer {
        /// Its steps.
        found: String,
    },
    /// More tokens than the model has.
    Tokens {
        /// Tokens of the tokenizer.
        has: u64,
        /// Tokens of the model.
        says: u64,
    },
    /// Two tokens of one number.
    TokenTwice {
        /// The number.
        id: u64,
    },
    /// A tensor for which the architecture has no name.
    NoPlace {
        /// The architecture.
        architecture: &'static str,
    },
    /// A tensor that the architecture needs and that is missing.
    NoTensor,
    /// A tensor of another shape.
    Shape {
        /// The shape found.
        found: Vec<usize>,
        /// What is expected.
        expected: String,
    },
}

impl FolderFault {
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoVocabulary => {
                Some("a model without its vocabulary cannot run; add the tokenizer.json of its source")
            }
            Self::PreTokenizer { .. } => Some("name one that llama.cpp knows and that splits texts in the same way"),
            _ => None,
        }
    }
}

impl fmt::Display for FolderFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoKey { file, key } => write!(f, "`{file}` has no `{key}`"),
            Self::Value { file, key, found, expected } => {
                write!(f, "`{key}` of `{file}` is `{found}`; {expected} is expected")
            }
            Self::NoVocabulary => f.write_str("there is no `tokenizer.json`, and GGUF files hold the vocabulary"),
            Self::PreTokenizer { found } => {
                write!(f, "the pre-tokenizer of `tokenizer.json` is none that llama.cpp has a name for: {found}")
            }
            Self::Tokens { has, says } => write!(f, "the tokenizer has {has} tokens, the model {says}"),
            Self::TokenTwice { id } => write!(f, "two tokens of `tokenizer.json` have the number {id}"),
            Self::NoPlace { architecture } => write!(f, "has no place in a GGUF file of architecture `{architecture}`"),
            Self::NoTensor => f.write_str("is missing from the folder"),
            Self::Shape { found, expected } => write!(f, "is {}; {expected} is expected", dims(found)),
        }
    }
}

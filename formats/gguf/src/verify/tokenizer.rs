//! The tokenizer's lists, against each other and against the embeddings.

use super::Fault;
use crate::header::Header;
use crate::value::{Array, Value, ValueType};

const TOKENS: &str = "tokenizer.ggml.tokens";

/// Lists with an element for each token.
const PER_TOKEN: [(&str, ValueType); 2] =
    [("tokenizer.ggml.token_type", ValueType::I32), ("tokenizer.ggml.scores", ValueType::F32)];

/// What keys of special tokens end with.
const ID_SUFFIX: &str = "_token_id";

pub(super) fn verify(header: &Header, faults: &mut Vec<Fault>) {
    let Some(tokens) = list(header, TOKENS, ValueType::Text, faults) else { return };
    let tokens = tokens.len() as u64;
    for (key, element) in PER_TOKEN {
        if let Some(array) = list(header, key, element, faults).filter(|array| array.len() as u64 != tokens) {
            faults.push(Fault::TokenCount { key: key.to_owned(), has: array.len() as u64, tokens });
        }
    }
    list(header, "tokenizer.ggml.merges", ValueType::Text, faults);
    for (key, value) in header.metadata.iter() {
        let special = key.starts_with("tokenizer.ggml.") && key.ends_with(ID_SUFFIX);
        if let Some(id) = value.as_u64().filter(|id| special && *id >= tokens) {
            faults.push(Fault::TokenId { key: key.to_owned(), id, tokens });
        }
    }
    for name in ["token_embd.weight", "output.weight"] {
        let info = header.find(name).and_then(|index| header.tensors.get(index));
        let rows = info.and_then(|info| info.dims.first()).map(|rows| *rows as u64);
        if let Some(rows) = rows.filter(|rows| *rows != tokens) {
            faults.push(Fault::Embeddings { tensor: name.to_owned(), rows, tokens });
        }
    }
}

/// The array of a key, where there is one of this type.
fn list<'a>(header: &'a Header, key: &str, element: ValueType, faults: &mut Vec<Fault>) -> Option<&'a Array> {
    let value = header.metadata.get(key)?;
    let found = match value {
        Value::Array(array) if array.element_type() == element => return Some(array),
        Value::Array(array) => format!("array of {}", array.element_type()),
        other => other.value_type().to_string(),
    };
    faults.push(Fault::KeyType { key: key.to_owned(), found, expected: format!("array of {element}") });
    None
}

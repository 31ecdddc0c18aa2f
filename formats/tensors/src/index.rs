//! The index of a sharded checkpoint: which file has which tensor.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use serde::Serialize;

use crate::error::{Error, ErrorKind};
use crate::json;
use crate::limits::{Limit, Limits};
use crate::output::{Overwrite, write_small};

/// The name of the index in a folder.
pub const INDEX_NAME: &str = "model.safetensors.index.json";

/// What an index says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// The file of each tensor, relative to the folder of the index.
    pub weight_map: BTreeMap<String, String>,
}

impl Index {
    /// The files, sorted, each once.
    pub fn shards(&self) -> Vec<&str> {
        let names: BTreeSet<&str> = self.weight_map.values().map(String::as_str).collect();
        names.into_iter().collect()
    }
}

/// Reads an index.
///
/// # Errors
///
/// Text that is no JSON object with a `weight_map` of texts, keys that stand twice, files
/// that are not inside the folder, and what exceeds `limits`.
pub fn parse_index(bytes: &[u8], limits: &Limits) -> Result<Index, Error> {
    let has = bytes.len() as u64;
    if has > limits.index_bytes {
        return Err(ErrorKind::Limit { limit: Limit::IndexBytes, max: limits.index_bytes, has }.into());
    }
    let text = std::str::from_utf8(bytes).map_err(|e| not_utf8(bytes, &e))?;
    let top = json::object(text, u64::MAX).map_err(|e| not_json(e, 1))?;
    if let Some(key) = json::repeated(&top) {
        return Err(ErrorKind::TwiceKey { key: key.to_owned() }.into());
    }
    let Some((_, map)) = top.iter().find(|(key, _)| key == "weight_map") else {
        return Err(ErrorKind::IndexNoMap.into());
    };
    // Positions inside the map count from its own beginning.
    let line = text.get(..offset(text, map.get())).map_or(1, |before| 1 + before.matches('\n').count());
    let pairs = json::object(map.get(), limits.tensors).map_err(|e| not_json(e, line))?;
    if pairs.len() as u64 > limits.tensors {
        let has = pairs.len() as u64;
        return Err(ErrorKind::Limit { limit: Limit::Tensors, max: limits.tensors, has }.into());
    }
    if let Some(name) = json::repeated(&pairs) {
        return Err(Error::from(ErrorKind::TwiceTensor).of(name));
    }
    let mut weight_map = BTreeMap::new();
    for (name, raw) in pairs {
        let shard = json::value::<String>(raw).unwrap_or_else(|| raw.get().to_owned());
        if !is_inside(&shard) || !raw.get().starts_with('"') {
            return Err(Error::from(ErrorKind::ShardPath { shard }).of(&name));
        }
        weight_map.insert(name, shard);
    }
    let index = Index { weight_map };
    let has = index.shards().len() as u64;
    if has > limits.shards {
        return Err(ErrorKind::Limit { limit: Limit::Shards, max: limits.shards, has }.into());
    }
    Ok(index)
}

/// Where `part`, which is a piece of `text`, begins in it.
fn offset(text: &str, part: &str) -> usize {
    (part.as_ptr() as usize).saturating_sub(text.as_ptr() as usize)
}

fn not_utf8(bytes: &[u8], error: &std::str::Utf8Error) -> Error {
    let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
    let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
    let column = 1 + before.iter().rev().take_while(|byte| **byte != b'\n').count();
    Error::from(ErrorKind::IndexJson { line, column }).because(*error)
}

fn not_json(error: serde_json::Error, line: usize) -> Error {
    let (line, column) = (line - 1 + error.line(), error.column());
    Error::from(ErrorKind::IndexJson { line, column }).because(error)
}

/// Whether a path is relative and never leaves its folder.
fn is_inside(shard: &str) -> bool {
    let mut parts = Path::new(shard).components().peekable();
    parts.peek().is_some() && !shard.ends_with('/') && parts.all(|part| matches!(part, Component::Normal(_)))
}

#[derive(Serialize)]
struct File<'a> {
    metadata: Total,
    weight_map: BTreeMap<&'a str, &'a str>,
}

#[derive(Serialize)]
struct Total {
    total_size: u64,
}

/// Writes `model.safetensors.index.json` into a folder and gives back its path. Each item is a
/// tensor's name, the name of its file in that folder, and its bytes.
///
/// # Errors
///
/// A name that comes twice, a file that is not inside the folder, those of
/// [`check_output`](crate::check_output), and whatever the system refuses.
pub fn write_index<'a>(
    folder: &Path,
    tensors: impl IntoIterator<Item = (&'a str, &'a str, u64)>,
    overwrite: Overwrite,
) -> Result<PathBuf, Error> {
    let path = folder.join(INDEX_NAME);
    let mut file = File { metadata: Total { total_size: 0 }, weight_map: BTreeMap::new() };
    for (name, shard, bytes) in tensors {
        if !is_inside(shard) {
            return Err(Error::from(ErrorKind::ShardPath { shard: shard.to_owned() }).of(name).at(&path));
        }
        if let Some(first) = file.weight_map.insert(name, shard) {
            let kind = ErrorKind::TwoShards { first: first.to_owned(), second: shard.to_owned() };
            return Err(Error::from(kind).of(name).at(&path));
        }
        file.metadata.total_size += bytes;
    }
    // Texts and numbers in sorted maps: nothing that JSON cannot hold.
    let mut text = serde_json::to_vec_pretty(&file).unwrap_or_default();
    text.push(b'\n');
    write_small(&path, &text, overwrite, false)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_leave_the_folder_are_none_of_its_files() {
        for good in ["a.safetensors", "sub/a.safetensors", "..a", "a..b"] {
            assert!(is_inside(good), "{good}");
        }
        for bad in ["", ".", "..", "../a", "a/../../b", "/a", "a/", "./a", "a/.."] {
            assert!(!is_inside(bad), "{bad}");
        }
    }

    #[test]
    fn shards_come_sorted_and_once() {
        let text = br#"{"weight_map":{"x":"b","y":"a","z":"b"},"metadata":{"total_size":3}}"#;
        assert_eq!(parse_index(text, &Limits::default()).unwrap().shards(), ["a", "b"]);
    }
}

//! A folder with a small Llama, and the command line on paths inside it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use niwaki_gguf::{Entry, GgmlType, Layout, Metadata, Writer};
use niwaki_tensors::Overwrite;
use serde_json::Value as Json;

use crate::cli::{Answer, niwaki};
use crate::folder::Folder;
use crate::llama::write_llama;

/// A folder with a small Llama in `llama`.
pub fn scene() -> Folder {
    let folder = Folder::new("formats");
    write_llama(folder.at("llama").as_ref());
    folder
}

/// Runs a verb on paths inside the folder, with `-q`; it must end well and silently.
///
/// # Panics
///
/// If it does not.
pub fn run(folder: &Folder, line: &str) -> Answer {
    let answer = attempt(folder, &format!("{line} -q"));
    assert_eq!((answer.code, answer.err.as_str()), (0, ""), "{line}: {}", answer.out);
    answer
}

/// What a verb answers as JSON.
///
/// # Panics
///
/// If it does not end well and silently, or answers otherwise.
pub fn json(folder: &Folder, line: &str) -> Json {
    run(folder, &format!("{line} --json")).json()
}

/// The same as [`run`], however it ends. Words with a slash or a dot that begin with `@` are paths.
pub fn attempt(folder: &Folder, line: &str) -> Answer {
    niwaki(line.split(' ').map(|word| word.strip_prefix('@').map_or(word.to_owned(), |name| folder.at(name))))
}

/// Signal to noise by tensor as `compare` has it; none where two are equal.
///
/// # Panics
///
/// If they cannot be compared.
pub fn compare(folder: &Folder, a: &str, b: &str) -> Vec<(String, Option<f64>)> {
    let answer = run(folder, &format!("compare @{a} @{b} --json")).json();
    let of = |t: &Json| {
        let equal = t["sqnr_db"].is_null() && t["max_abs"] == 0.0;
        (t["name"].as_str().unwrap().to_owned(), (!equal).then(|| t["sqnr_db"].as_f64().unwrap_or(f64::NAN)))
    };
    answer["tensors"].as_array().unwrap().iter().map(of).collect()
}

/// Whether two checkpoints hold the same numbers.
///
/// # Panics
///
/// If they do not.
pub fn assert_equal(folder: &Folder, a: &str, b: &str) {
    let differ: Vec<_> = compare(folder, a, b).into_iter().filter(|(_, db)| db.is_some()).collect();
    assert_eq!(differ, [], "{a} and {b}");
}

/// A GGUF file of these tensors, each filled with one byte.
///
/// # Panics
///
/// If it cannot be written.
pub fn write_gguf(path: &str, metadata: &Metadata, entries: &[Entry], fill: u8) {
    let writer = Writer::create(path.as_ref(), Layout::new(metadata, entries).unwrap(), Overwrite::Replace).unwrap();
    for index in 0..entries.len() {
        let bytes = writer.layout().entry_bytes(index).unwrap();
        writer.write_at(index, 0, &vec![fill; bytes as usize]).unwrap();
    }
    writer.finish(false).unwrap();
}

/// A tensor to be written.
pub fn entry(name: &str, dims: &[usize], ggml_type: GgmlType) -> Entry {
    Entry { name: name.to_owned(), dims: dims.to_vec(), ggml_type }
}

//! Text as windows of tokens.
//!
//! The text is tokenized at once and without special tokens, as `tokenizer(text,
//! add_special_tokens=False)` does it, and cut into windows without overlap. Each begins with what the
//! tokenizer puts before a text, where it does. What is left over at the end fills no window and is
//! dropped.

use std::path::Path;

use niwaki_tensors::MappedFile;

use super::{Imported, Target};
use crate::dataset::fault::DataFault;
use crate::dataset::images::fault;
use crate::dataset::tokens::VOCABULARY;
use crate::dataset::write::{Form, Output};
use crate::error::Error;
use crate::text::Tokenizer;

/// Bytes of a text at most: tokenizing takes many times as much memory.
const MOST: u64 = 1 << 28;

/// Tokens in a window at most.
const LONGEST: usize = 1 << 20;

/// Makes a dataset of a text.
pub(super) fn import(source: &Path, tokenizer: &Path, length: usize, target: &Target<'_>) -> Result<Imported, Error> {
    if length == 0 || length > LONGEST {
        let (found, max) = (length as u64, LONGEST as u64);
        let what = "tokens in a window, which needs at least one";
        return Err(fault(DataFault::Limit { what, found, max }, source));
    }
    let model = Tokenizer::of_file(tokenizer.to_owned())?;
    let file = MappedFile::open(source)?;
    if file.bytes().len() as u64 > MOST {
        let found = file.bytes().len() as u64;
        let error = fault(DataFault::Limit { what: "bytes of text", found, max: MOST }, source);
        return Err(error.hinting("a text may be imported in parts"));
    }
    let text = std::str::from_utf8(file.bytes()).map_err(|e| {
        let found = format!("byte {} is not UTF-8", e.valid_up_to());
        fault(DataFault::File { found, expected: "a text in UTF-8".to_owned() }, source)
    })?;
    let (before, ids) = (model.before()?, model.tokens(text, false)?);
    file.ensure_unchanged()?;
    let fresh = length.saturating_sub(before.len());
    let whole = ids.len().checked_div(fresh).unwrap_or(0);
    if whole == 0 {
        let (found, expected) = (format!("has {} tokens", ids.len()), format!("at least {}, one window", fresh.max(1)));
        return Err(fault(DataFault::File { found, expected }, source));
    }
    let items = target.taken(whole);
    // Ids may have gaps: the largest decides as well as the number of tokens.
    let largest = before.iter().chain(&ids).copied().max().map_or(0, |id| u64::from(id) + 1);
    let vocabulary = largest.max(model.vocabulary() as u64).to_string();
    let metadata = vec![(VOCABULARY.to_owned(), vocabulary)];
    let output = Output::create(target.out, Form::Tokens { items, length }, metadata, target.options)?;
    for (item, window) in ids.chunks_exact(fresh).take(items).enumerate() {
        let bytes: Vec<u8> = before.iter().chain(window).flat_map(|id| i64::from(*id).to_le_bytes()).collect();
        output.items(item, &bytes)?;
        (target.progress)((item as u64 + 1) * bytes.len() as u64, items as u64 * bytes.len() as u64);
    }
    let left_out = (ids.len() - whole * fresh) as u64;
    Ok(Imported { items, shape: vec![length], classes: None, output_bytes: output.finish()?, left_out })
}

//! One page of figures: what files and reports say, as HTML that needs nothing else.
//!
//! ```text
//! checkpoints, signatures, masks --.
//! recipes                         --+-- sections --> across: sizes, accuracy by bits --> HTML, SVG
//! answers of verbs to `--json`    --'
//! ```
//!
//! No script, no font, no picture from elsewhere; light or dark as the reader's system is. Every
//! figure's numbers stand beside it as a table. Nothing on it tells time, machine or folder, so the
//! same files make the same bytes.

mod across;
mod answers;
mod files;
mod html;
mod plot;
mod section;

use std::path::{Path, PathBuf};

use niwaki_tensors::{Limits, Overwrite, read_limited, write_small};
use serde_json::Value;

use crate::error::{Error, ErrorKind};
use crate::recipe::Recipe;
use section::Section;

/// The page of these files, in their order.
///
/// What was measured (by `eval`) belongs to the last checkpoint, recipe or answer of `compress` before it:
/// so figures of accuracy by bits are made.
///
/// # Errors
///
/// Files that cannot be read, and those of which a page says nothing.
pub fn page(paths: &[PathBuf]) -> Result<String, Error> {
    let sections = paths.iter().map(|path| section(path)).collect::<Result<Vec<_>, _>>()?;
    Ok(html::document(&across::sections(&sections), &sections))
}

/// Writes a page to a file.
///
/// # Errors
///
/// Those of writing; the output is then as it was.
pub fn write(page: &str, out: &Path, overwrite: Overwrite, durable: bool) -> Result<(), Error> {
    Ok(write_small(out, page.as_bytes(), overwrite, durable)?)
}

/// What one file says.
fn section(path: &Path) -> Result<Section, Error> {
    let named = |extension: &str| path.extension().is_some_and(|e| e.eq_ignore_ascii_case(extension));
    let name = path.file_name().map_or_else(|| path.to_string_lossy(), |name| name.to_string_lossy()).into_owned();
    if named("toml") {
        let text = read(path)?;
        return files::recipe(name, &Recipe::parse(&text).map_err(|e| e.at(path))?);
    }
    if !named("json") || name.ends_with(".safetensors.index.json") {
        return files::checkpoint(name, path);
    }
    answer(name, &read(path)?).map_err(|e| e.at(path))
}

/// The page of one answer of a verb to `--json`, as of a file of that name with this text.
///
/// # Errors
///
/// Text that is no JSON, and answers of which a page says nothing.
pub fn page_of_answer(name: &str, text: &str) -> Result<String, Error> {
    let sections = [answer(name.to_owned(), text)?];
    Ok(html::document(&across::sections(&sections), &sections))
}

fn answer(name: String, text: &str) -> Result<Section, Error> {
    let wrong = |what: String| Error::from(ErrorKind::Unlike { what });
    let answer: Value = serde_json::from_str(text).map_err(|e| wrong(format!("is no JSON: {e}")))?;
    answers::section(name, &answer).map_err(wrong)
}

fn read(path: &Path) -> Result<String, Error> {
    let bytes = read_limited(path, &Limits::default())?;
    let what = "is not UTF-8 text".to_owned();
    String::from_utf8(bytes).map_err(|_| Error::from(ErrorKind::Unlike { what }).at(path))
}

#[cfg(test)]
mod tests;

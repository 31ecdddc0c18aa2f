//! Parts of a job, made one checkpoint.
//!
//! ```text
//! check     all n parts there, of one source, one recipe, one plan; every digest
//! index     model.safetensors.index.json beside the parts: nothing is copied
//! or file   one file with the bytes that one run would have written
//! ```
//!
//! A part knows the numbers of its tensors in the plan, and how much room the whole output's
//! metadata would have had. So the file that is written has every byte of the one-run output,
//! without the source and without the recipe's side files.

mod parts;
mod whole;

use std::path::{Path, PathBuf};

use niwaki_tensors::{is_pad, write_index};
use serde::Serialize;

use crate::compress::Options;
use crate::error::Error;
use crate::progress::Progress;
use parts::Parts;

/// What came of joining.
#[derive(Clone, Debug, Serialize)]
pub struct Joined {
    /// How many parts there were.
    pub parts: u32,
    /// Tensors in all of them.
    pub tensors: usize,
    /// Bytes of the files that hold them now: of all parts, or of the one file.
    pub output_bytes: u64,
    /// Stored bits for each weight, over all tensors.
    pub bits_per_weight: f64,
    /// Digest of the checkpoint.
    pub digest: String,
    /// The index, or the file.
    pub path: PathBuf,
}

/// Checks the parts in the folder `dir`, and writes the index that makes them a checkpoint; with
/// `out`, one file that has them all, or a folder with such a file and the other files of `dir`
/// where `out` does not end in `.safetensors`.
///
/// `progress` is told the bytes copied, and all there are.
///
/// # Errors
///
/// Parts that are missing, come twice, do not belong together or are damaged; an output that is
/// there already and may not be replaced; those of reading and writing. Nothing is written then.
pub fn join(dir: &Path, out: Option<&Path>, options: &Options, progress: Progress<'_>) -> Result<Joined, Error> {
    let parts = Parts::open(dir)?;
    let (path, output_bytes) = match out {
        None => {
            parts.check_contents(options.threads)?;
            (index(&parts, dir, options)?, parts.file_bytes())
        }
        Some(out) => {
            let target = whole::Target::new(dir, out, options)?;
            parts.check_contents(options.threads)?;
            target.write(&parts, options, progress)?
        }
    };
    Ok(Joined {
        parts: parts.count(),
        tensors: parts.tensors.len(),
        output_bytes,
        bits_per_weight: parts.totals.bits_per_weight(),
        digest: parts.digest().to_string(),
        path,
    })
}

/// Writes the index beside the parts.
fn index(parts: &Parts, dir: &Path, options: &Options) -> Result<PathBuf, Error> {
    let mut entries = Vec::new();
    for part in &parts.all {
        for view in part.artifact.checkpoint().tensors().filter(|view| !is_pad(view.name())) {
            entries.push((view.name().to_owned(), part.share.file_name(), view.bytes().len() as u64));
        }
    }
    let items = entries.iter().map(|(name, file, bytes)| (name.as_str(), file.as_str(), *bytes));
    Ok(write_index(dir, items, options.overwrite())?)
}

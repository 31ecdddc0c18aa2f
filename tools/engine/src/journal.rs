//! What a run has finished, so that a killed one goes on where it was.
//!
//! Lines of JSON beside the partial output. The first names the run: a digest of plan and
//! source. Each further line is a tensor whose parts are written: their content hashes, the
//! hash of its source and what the encoder measured. A line that was cut short ends the
//! journal; a run with another digest starts anew.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use niwaki_container::Digest;
use niwaki_quant::Distortion;
use serde::{Deserialize, Serialize};

use crate::error::{Blame, Error};
use crate::target::file_error;

/// A tensor that is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Finished {
    /// Index in the plan.
    pub(crate) tensor: usize,
    /// Content hash of the source, in hex.
    pub(crate) source: String,
    /// Content hash of each part, in hex, in part order.
    pub(crate) parts: Vec<String>,
    /// Distortion by width; one entry under 0 for uniform codes.
    pub(crate) distortion: Vec<(u32, Bits)>,
}

/// A [`Distortion`] by the bits of its floats, so that it comes back exactly.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Bits(u64, u64, u32, u64);

impl From<Distortion> for Bits {
    fn from(d: Distortion) -> Self {
        Self(d.signal.to_bits(), d.noise.to_bits(), d.max_abs.to_bits(), d.elements)
    }
}

impl From<Bits> for Distortion {
    fn from(b: Bits) -> Self {
        Self { signal: f64::from_bits(b.0), noise: f64::from_bits(b.1), max_abs: f32::from_bits(b.2), elements: b.3 }
    }
}

#[derive(Serialize, Deserialize)]
struct Header {
    niwaki_journal: u32,
    run: String,
}

/// The open journal of a run.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: Mutex<File>,
}

impl Journal {
    /// What the journal at `path` says of the run `run`; nothing if there is none of it.
    pub(crate) fn read(path: &Path, run: Digest) -> Vec<Finished> {
        let Ok(file) = File::open(path) else { return Vec::new() };
        let mut lines = BufReader::new(file).lines().map_while(Result::ok);
        let header = lines.next().and_then(|line| serde_json::from_str::<Header>(&line).ok());
        match header {
            Some(Header { niwaki_journal: 1, run: found }) if found == run.to_string() => {
                lines.map_while(|line| serde_json::from_str(&line).ok()).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Begins the journal of `run` with what is known to be finished.
    ///
    /// # Errors
    ///
    /// Those of creating and writing the file.
    pub(crate) fn create(path: &Path, run: Digest, finished: &[Finished]) -> Result<Self, Error> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(path);
        let journal = Self { path: path.to_owned(), file: Mutex::new(file.map_err(|e| file_error(&e, path))?) };
        journal.line(&Header { niwaki_journal: 1, run: run.to_string() })?;
        finished.iter().try_for_each(|f| journal.add(f))?;
        Ok(journal)
    }

    /// Adds a finished tensor.
    ///
    /// # Errors
    ///
    /// Those of writing the file.
    pub(crate) fn add(&self, finished: &Finished) -> Result<(), Error> {
        self.line(finished)
    }

    fn line(&self, value: &impl Serialize) -> Result<(), Error> {
        let mut line = serde_json::to_vec(value).map_err(|e| Error::below(e, Blame::Environment))?;
        line.push(b'\n');
        let mut file = self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        file.write_all(&line).map_err(|e| file_error(&e, &self.path))
    }

    /// Removes the journal.
    pub(crate) fn remove(self) {
        // Left behind, it names a run whose partial file is gone, and is ignored.
        std::fs::remove_file(&self.path).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finished(tensor: usize) -> Finished {
        let d = Distortion { signal: 0.1 + tensor as f64, noise: 1e-300, max_abs: 3.0, elements: 7 };
        Finished { tensor, source: "ab".into(), parts: vec!["cd".into()], distortion: vec![(4, d.into())] }
    }

    #[test]
    fn a_cut_line_ends_the_journal_and_another_run_ignores_it() {
        let dir = std::env::temp_dir().join(format!("niwaki-journal-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("j");
        let run = Digest([7; 32]);
        let journal = Journal::create(&path, run, &[finished(0)]).unwrap();
        journal.add(&finished(3)).unwrap();
        assert_eq!(Journal::read(&path, run), [finished(0), finished(3)]);
        let text = std::fs::read(&path).unwrap();
        std::fs::write(&path, &text[..text.len() - 5]).unwrap();
        assert_eq!(Journal::read(&path, run), [finished(0)]);
        assert_eq!(Journal::read(&path, Digest([8; 32])), []);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

//! Where an output goes: a file, or a folder that keeps the source's other files.

use std::path::{Path, PathBuf};

use niwaki_tensors::{Checkpoint, Source};

use crate::compress::Options;
use crate::error::{Blame, Error, ErrorKind};

/// Where the output goes.
pub(crate) struct Target {
    /// The safetensors file.
    pub(crate) file: PathBuf,
    /// The journal of the run that writes it.
    pub(crate) journal: PathBuf,
    /// The folder that the file is part of, and whether this run made it.
    folder: Option<(PathBuf, bool)>,
}

impl Target {
    /// Where `out` leads: to a file, or, where the source is a folder and `out` does not end
    /// in `.safetensors`, to a folder with the source's other files.
    pub(crate) fn new(checkpoint: &Checkpoint, out: &Path, options: &Options) -> Result<Self, Error> {
        let is_file = out.extension().is_some_and(|e| e == "safetensors");
        let folder = (matches!(checkpoint.source(), Source::Folder { .. }) && !is_file).then(|| out.to_owned());
        let file = folder.as_ref().map_or_else(|| out.to_owned(), |folder| folder.join("model.safetensors"));
        let mut journal = file.clone().into_os_string();
        journal.push(".niwaki-journal");
        let journal = PathBuf::from(journal);
        let made = match &folder {
            Some(folder) if !folder.exists() => {
                std::fs::create_dir(folder).map_err(|e| file_error(&e, folder))?;
                true
            }
            Some(folder) if !options.replace && !journal.exists() => {
                let error = Error::from(ErrorKind::Usage { what: "exists".to_owned() });
                return Err(error.at(folder).hinting("`--force` replaces it"));
            }
            _ => false,
        };
        Ok(Self { file, journal, folder: folder.map(|folder| (folder, made)) })
    }

    /// Copies the source's other files beside an output that was written, or removes what a
    /// failed run has made.
    pub(crate) fn close<T>(
        &self,
        checkpoint: &Checkpoint,
        options: &Options,
        outcome: Result<T, Error>,
    ) -> Result<T, Error> {
        match outcome {
            Ok(done) => self.copy_files(checkpoint, options).map(|()| done),
            Err(error) => {
                self.abandon();
                Err(error)
            }
        }
    }

    fn copy_files(&self, checkpoint: &Checkpoint, options: &Options) -> Result<(), Error> {
        let Some((folder, _)) = &self.folder else { return Ok(()) };
        for from in checkpoint.folder_files()? {
            let Some(name) = from.file_name() else { continue };
            let to = folder.join(name);
            if !to.exists() || options.replace {
                std::fs::copy(&from, &to).map_err(|e| file_error(&e, &to))?;
            }
        }
        Ok(())
    }

    fn abandon(&self) {
        if let Some((folder, true)) = &self.folder {
            // Only an empty folder goes; anything else in it is not ours.
            std::fs::remove_dir(folder).ok();
        }
    }
}

/// What the system refused, of which file.
pub(crate) fn file_error(e: &std::io::Error, path: &Path) -> Error {
    Error::below(std::io::Error::new(e.kind(), format!("`{}`: {e}", path.display())), Blame::Io).at(path)
}

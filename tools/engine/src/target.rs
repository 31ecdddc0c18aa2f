//! Where an output goes: a file, or a folder that keeps the source's other files.

use std::path::{Path, PathBuf};

use niwaki_tensors::{Checkpoint, Source as Place};
use serde_json::Value as Json;

use crate::compress::Options;
use crate::error::{Blame, Error, ErrorKind};
use crate::source::{Opened, Source};

/// Where the output goes.
pub(crate) struct Target {
    /// The safetensors file.
    pub(crate) file: PathBuf,
    /// The journal of the run that writes it.
    pub(crate) journal: PathBuf,
    /// The folder that the file is part of, and whether this run made it.
    folder: Option<(PathBuf, bool)>,
    /// What the folder's `config.json` says of codes, by key; nothing for none.
    config: Vec<(&'static str, Json)>,
}

/// Keys of `config.json` that say what codes mean.
const CODE_KEYS: [&str; 2] = ["quantization_config", "quantization"];

impl Target {
    /// Where `out` leads: to a file, or, where the source is a folder and `out` does not end
    /// in `.safetensors`, to a folder with the source's other files.
    pub(crate) fn new(source: &Source<'_>, out: &Path, options: &Options) -> Result<Self, Error> {
        let is_file = out.extension().is_some_and(|e| e == "safetensors");
        let folder = folder_of(source).filter(|_| !is_file).map(|_| out.to_owned());
        Self::at(folder, Vec::new(), out, options)
    }

    /// A folder whose `config.json` says what codes mean, whatever the source is.
    pub(crate) fn folder(out: &Path, config: Vec<(&'static str, Json)>, options: &Options) -> Result<Self, Error> {
        Self::at(Some(out.to_owned()), config, out, options)
    }

    fn at(
        folder: Option<PathBuf>,
        config: Vec<(&'static str, Json)>,
        out: &Path,
        options: &Options,
    ) -> Result<Self, Error> {
        let file = folder.as_ref().map_or_else(|| out.to_owned(), |folder| folder.join("model.safetensors"));
        let mut journal = file.clone().into_os_string();
        journal.push(".niwaki-journal");
        let journal = PathBuf::from(journal);
        if let Some(file) = folder.as_ref().filter(|folder| folder.is_file()) {
            let error = Error::from(ErrorKind::Usage { what: "is a file; the output is a folder".to_owned() });
            return Err(error.at(file));
        }
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
        Ok(Self { file, journal, folder: folder.map(|folder| (folder, made)), config })
    }

    /// Copies the source's other files beside an output that was written, or removes what a
    /// failed run has made.
    pub(crate) fn close<T>(
        &self,
        source: &Source<'_>,
        options: &Options,
        outcome: Result<T, Error>,
    ) -> Result<T, Error> {
        match outcome {
            Ok(done) => self.copy_files(source, options).map(|()| done),
            Err(error) => {
                self.abandon();
                Err(error)
            }
        }
    }

    fn copy_files(&self, source: &Source<'_>, options: &Options) -> Result<(), Error> {
        let Some((folder, _)) = &self.folder else { return Ok(()) };
        let files = folder_of(source).map_or(Ok(Vec::new()), Checkpoint::folder_files)?;
        for from in &files {
            let Some(name) = from.file_name() else { continue };
            let to = folder.join(name);
            if name != "config.json" && (!to.exists() || options.replace) {
                std::fs::copy(from, &to).map_err(|e| file_error(&e, &to))?;
            }
        }
        let config = files.iter().find(|path| path.file_name().is_some_and(|name| name == "config.json"));
        self.write_config(config.map(PathBuf::as_path), &folder.join("config.json"))
    }

    /// Copies `config.json`, or writes it anew where what it says of codes is not so any more.
    fn write_config(&self, from: Option<&Path>, to: &Path) -> Result<(), Error> {
        let had = match from {
            None => Json::Object(serde_json::Map::new()),
            Some(from) => {
                let text = std::fs::read_to_string(from).map_err(|e| file_error(&e, from))?;
                serde_json::from_str(&text).unwrap_or(Json::Null)
            }
        };
        let says = |key: &&str| had.get(key).is_some();
        let write = |bytes: &[u8]| std::fs::write(to, bytes).map_err(|e| file_error(&e, to));
        match (from, had.as_object()) {
            (None, _) if self.config.is_empty() => Ok(()),
            (_, Some(object)) if !self.config.is_empty() || CODE_KEYS.iter().any(says) => {
                let mut object = object.clone();
                object.retain(|key, _| !CODE_KEYS.contains(&key.as_str()));
                object.extend(self.config.iter().map(|(key, said)| ((*key).to_owned(), said.clone())));
                let mut text =
                    serde_json::to_string_pretty(&object).map_err(|e| Error::below(e, Blame::Environment))?;
                text.push('\n');
                write(text.as_bytes())
            }
            (Some(from), _) => std::fs::copy(from, to).map(|_| ()).map_err(|e| file_error(&e, to)),
            (None, _) => Ok(()),
        }
    }

    fn abandon(&self) {
        if let Some((folder, true)) = &self.folder {
            // Only an empty folder goes; anything else in it is not ours.
            std::fs::remove_dir(folder).ok();
        }
    }
}

/// The checkpoint, where it is a folder.
fn folder_of<'a>(source: &Source<'a>) -> Option<&'a Checkpoint> {
    let Opened::Tensors(artifact) = source.opened() else { return None };
    let checkpoint = artifact.checkpoint();
    matches!(checkpoint.source(), Place::Folder { .. }).then_some(checkpoint)
}

/// What the system refused, of which file.
pub(crate) fn file_error(e: &std::io::Error, path: &Path) -> Error {
    Error::below(std::io::Error::new(e.kind(), format!("`{}`: {e}", path.display())), Blame::Io).at(path)
}

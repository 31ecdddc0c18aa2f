//! Where an output goes: a file, or a folder that keeps the source's other files.

use std::fs;
use std::path::{Path, PathBuf};

use niwaki_tensors::{Checkpoint, Overwrite, PartialFile, Source as Place, copy_file, write_small};
use serde_json::{Map, Value as Json};

use crate::compress::Options;
use crate::error::{Blame, Error, ErrorKind};
use crate::layers::Fewer;
use crate::part::Share;
use crate::source::{Opened, Source};

/// What `config.json` says of codes, by key.
pub(crate) type CodeKeys = Vec<(&'static str, Json)>;

/// Where the output goes.
pub(crate) struct Target {
    /// The safetensors file.
    pub(crate) file: PathBuf,
    /// The journal of the run that writes it.
    pub(crate) journal: PathBuf,
    folder: Option<Folder>,
}

/// The folder that the file is part of.
struct Folder {
    path: PathBuf,
    /// Whether this run made it.
    made: bool,
    /// Its `config.json`, where that is not the source's.
    config: Option<Vec<u8>>,
    /// Which part of a job this run writes into it; others come from elsewhere.
    share: Option<Share>,
}

/// Keys of `config.json` that say what codes mean.
const CODE_KEYS: [&str; 2] = ["quantization_config", "quantization"];

impl Target {
    /// Where `out` leads: to a file, or, where the source is a folder and `out` does not end
    /// in `.safetensors`, to a folder with the source's other files.
    pub(crate) fn new(source: &Source<'_>, out: &Path, options: &Options) -> Result<Self, Error> {
        let is_file = out.extension().is_some_and(|e| e == "safetensors");
        if is_file || folder_of(source).is_none() {
            return Ok(Self::of_file(out.to_owned(), None));
        }
        let target = Self::of_file(out.join("model.safetensors"), None);
        let resumes = target.journal.exists();
        Ok(Self { folder: Some(Folder::new(source, out, Vec::new(), options.replace || resumes)?), ..target })
    }

    /// A folder whose `config.json` says what codes mean, whatever the source is.
    pub(crate) fn folder(source: &Source<'_>, out: &Path, keys: CodeKeys, options: &Options) -> Result<Self, Error> {
        let folder = Folder::new(source, out, keys, options.replace)?;
        Ok(Self::of_file(out.join("model.safetensors"), Some(folder)))
    }

    /// One part of a job in its folder, `out`, which other runs may be filling with theirs.
    pub(crate) fn part(source: &Source<'_>, out: &Path, share: Share, options: &Options) -> Result<Self, Error> {
        let target = Self::of_file(out.join(share.file_name()), None);
        niwaki_tensors::check_output(&target.file, options.overwrite()).or_else(|e| match e.kind() {
            niwaki_tensors::ErrorKind::NoFolder => Ok(()),
            _ => Err(e),
        })?;
        Ok(Self { folder: Some(Folder::of_parts(source, out, share)?), ..target })
    }

    /// One file.
    pub(crate) fn file(out: &Path) -> Self {
        Self::of_file(out.to_owned(), None)
    }

    fn of_file(file: PathBuf, folder: Option<Folder>) -> Self {
        let mut journal = file.clone().into_os_string();
        journal.push(".niwaki-journal");
        Self { file, journal: PathBuf::from(journal), folder }
    }

    /// Copies the source's other files beside an output that was written, or removes what a
    /// failed run has made.
    pub(crate) fn close<T>(
        &self,
        source: &Source<'_>,
        options: &Options,
        outcome: Result<T, Error>,
    ) -> Result<T, Error> {
        let Some(folder) = &self.folder else { return outcome };
        let closed = outcome.and_then(|done| folder.fill(source, options).map(|()| done));
        if closed.is_err() && folder.made {
            // This run made the folder and all that is in it; a partial file to go on from stays.
            if self.journal.exists() || folder.share.is_some() {
                fs::remove_dir(&folder.path).ok()
            } else {
                fs::remove_dir_all(&folder.path).ok()
            };
        }
        closed
    }
}

impl Folder {
    fn new(source: &Source<'_>, path: &Path, keys: CodeKeys, replace: bool) -> Result<Self, Error> {
        let exists = check_folder(path, replace || is_left_over(path))?;
        if exists {
            check_replaceable(source, path)?;
        }
        let config = config_text(source, path, &keys)?;
        if !exists {
            make_folder(path)?;
        }
        Ok(Self { path: path.to_owned(), made: !exists, config, share: None })
    }

    /// A folder into which several runs write, each its part; the first brings the other files.
    fn of_parts(source: &Source<'_>, path: &Path, share: Share) -> Result<Self, Error> {
        if folder_of(source).is_some_and(|checkpoint| is_same(checkpoint_folder(checkpoint), path)) {
            return Err(is_the_input(path));
        }
        let exists = check_folder(path, true)?;
        // Another part may make it in the meantime.
        make_folder(path).or_else(|e| if path.is_dir() { Ok(()) } else { Err(e) })?;
        let config = config_text(source, path, &Vec::new())?;
        Ok(Self { path: path.to_owned(), made: !exists, config, share: Some(share) })
    }

    /// Copies the source's other files.
    fn fill(&self, source: &Source<'_>, options: &Options) -> Result<(), Error> {
        if self.share.is_some_and(|share| !share.is_first()) {
            return Ok(());
        }
        for from in folder_of(source).map_or(Ok(Vec::new()), Checkpoint::folder_files)? {
            let Some(name) = from.file_name() else { continue };
            let to = self.path.join(name);
            let ours = name == "config.json" && self.config.is_some();
            let goes = source.fewer().is_some() && Fewer::leaves_out(&from);
            if !ours && !goes && (!to.exists() || options.replace) {
                copy_file(&from, &to, Overwrite::Replace, options.durable)?;
            }
        }
        if let Some(text) = &self.config {
            let to = self.path.join("config.json");
            write_small(&to, text, Overwrite::Replace, options.durable)?;
        }
        Ok(())
    }
}

/// Whether a folder holds nothing but what a killed run was writing.
pub(crate) fn is_left_over(path: &Path) -> bool {
    let ours = |name: &[u8]| name.ends_with(b".niwaki-partial") || name.ends_with(b".niwaki-journal");
    let mut items = fs::read_dir(path).into_iter().flatten();
    path.is_dir() && items.all(|item| item.is_ok_and(|item| ours(item.file_name().as_encoded_bytes())))
}

/// Takes a file beside an output, so that it is this run's alone as long as what is given back is held.
///
/// # Errors
///
/// `busy`, said of the output, where another process has it; whatever the system refuses.
pub(crate) fn alone(lock: &Path, output: &Path, busy: &str) -> Result<PartialFile, Error> {
    PartialFile::create(lock, 0, Overwrite::Replace).map_err(|e| match e.kind() {
        niwaki_tensors::ErrorKind::Busy => Error::from(ErrorKind::Usage { what: busy.to_owned() }).at(output),
        _ => e.into(),
    })
}

/// Makes the folder of an output.
pub(crate) fn make_folder(path: &Path) -> Result<(), Error> {
    fs::create_dir(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => {
            let what = "is to be in a folder that does not exist".to_owned();
            Error::from(ErrorKind::Usage { what }).at(path)
        }
        _ => file_error(&e, path),
    })
}

/// Whether the folder of an output exists. That is refused unless it is to be replaced, and a
/// file in its place always.
pub(crate) fn check_folder(path: &Path, replace: bool) -> Result<bool, Error> {
    let refuse = |what: &str| Error::from(ErrorKind::Usage { what: what.to_owned() }).at(path);
    if path.is_file() {
        return Err(refuse("is a file; the output is a folder"));
    }
    let exists = path.exists();
    if exists && !replace {
        return Err(refuse("exists").hinting("`--force` replaces it"));
    }
    Ok(exists)
}

/// Refuses a folder that is the input, or in which other weights would win over the new ones.
fn check_replaceable(source: &Source<'_>, path: &Path) -> Result<(), Error> {
    if folder_of(source).is_some_and(|checkpoint| is_same(checkpoint_folder(checkpoint), path)) {
        return Err(is_the_input(path));
    }
    check_other_weights(path, "model.safetensors")
}

/// Whether two paths lead to one place.
pub(crate) fn is_same(a: &Path, b: &Path) -> bool {
    a.canonicalize().ok().is_some_and(|a| b.canonicalize().is_ok_and(|b| a == b))
}

pub(crate) fn is_the_input(path: &Path) -> Error {
    Error::from(ErrorKind::Usage { what: "is the input; the output is another folder".to_owned() }).at(path)
}

/// Refuses a folder that holds weights beside its own, which are to be replaced.
pub(crate) fn check_other_weights(path: &Path, own: &str) -> Result<(), Error> {
    for item in fs::read_dir(path).map_err(|e| file_error(&e, path))? {
        let name = item.map_err(|e| file_error(&e, path))?.file_name();
        let name = name.to_string_lossy();
        let weights = name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json");
        if weights && name != own {
            let what = format!("holds `{name}`, which would stand beside the new `{own}`");
            return Err(Error::from(ErrorKind::Usage { what }).at(path).hinting("remove it, or choose another folder"));
        }
    }
    Ok(())
}

fn checkpoint_folder(checkpoint: &Checkpoint) -> &Path {
    match checkpoint.source() {
        Place::Folder { folder, .. } => folder,
        _ => checkpoint.path(),
    }
}

/// The `config.json` to write, where what the source's says of codes is not so any more; that
/// of the folder to be replaced, where the source has none.
fn config_text(source: &Source<'_>, target: &Path, keys: &CodeKeys) -> Result<Option<Vec<u8>>, Error> {
    let of_source = folder_of(source).map(|checkpoint| checkpoint_folder(checkpoint).join("config.json"));
    let from = of_source.filter(|path| path.is_file()).unwrap_or_else(|| target.join("config.json"));
    let fewer = source.fewer().and_then(Fewer::config);
    let object = match fewer.map_or_else(|| fs::read(&from), |text| Ok(text.as_bytes().to_vec())) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Map::new(),
        Err(e) => return Err(file_error(&e, &from)),
        Ok(bytes) => match serde_json::from_slice(&bytes) {
            Ok(Json::Object(object)) => object,
            _ if keys.is_empty() => return Ok(None),
            _ => {
                let what = format!("`{}`: is no JSON object", from.display());
                return Err(Error::from(ErrorKind::Below { what, blame: Blame::Input }).at(&from));
            }
        },
    };
    if keys.is_empty() && !CODE_KEYS.iter().any(|key| object.contains_key(*key)) {
        return Ok(fewer.map(|text| text.as_bytes().to_vec()));
    }
    let mut object = object;
    object.retain(|key, _| !CODE_KEYS.contains(&key.as_str()));
    object.extend(keys.iter().map(|(key, said)| ((*key).to_owned(), said.clone())));
    let mut text = serde_json::to_vec_pretty(&object).map_err(|e| Error::below(e, Blame::Environment))?;
    text.push(b'\n');
    Ok(Some(text))
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

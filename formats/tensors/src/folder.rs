//! Which files a path means.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Access, Error, ErrorKind};
use crate::index::INDEX_NAME;

/// What was found at a path.
pub(crate) enum Found {
    /// One safetensors file.
    File(PathBuf),
    /// An index.
    Index(PathBuf),
}

/// Finds the checkpoint at `path`; whether it is a folder is said first.
pub(crate) fn find(path: &Path) -> Result<(bool, Found), Error> {
    let meta = fs::metadata(path).map_err(|e| Error::io(Access::Read, path, e))?;
    if meta.is_dir() {
        return Ok((true, in_folder(path)?));
    }
    let is_index = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    let found = if is_index { Found::Index } else { Found::File };
    Ok((false, found(path.to_owned())))
}

/// An index if there is one, else the only safetensors file.
fn in_folder(folder: &Path) -> Result<Found, Error> {
    let index = folder.join(INDEX_NAME);
    if index.is_file() {
        return Ok(Found::Index(index));
    }
    let files = files(folder)?;
    for (suffix, found) in
        [(".safetensors.index.json", Found::Index as fn(PathBuf) -> Found), (".safetensors", Found::File)]
    {
        let mut named: Vec<&PathBuf> = files.iter().filter(|path| ends_with(path, suffix)).collect();
        match (named.pop(), named.len()) {
            (Some(only), 0) => return Ok(found(only.clone())),
            (Some(last), _) => {
                named.push(last);
                let found = named.iter().filter_map(|p| p.file_name()).map(|n| n.to_string_lossy().into_owned());
                return Err(Error::from(ErrorKind::Several { found: found.collect() }).at(folder));
            }
            (None, _) => {}
        }
    }
    Err(Error::from(ErrorKind::NothingFound).at(folder))
}

/// The files of a folder, without its subfolders, sorted.
pub(crate) fn files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let read = |error| Error::io(Access::Read, folder, error);
    let mut files = Vec::new();
    for item in fs::read_dir(folder).map_err(read)? {
        let path = item.map_err(read)?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Whether a file's name ends in an ASCII text; names need not be UTF-8.
pub(crate) fn ends_with(path: &Path, suffix: &str) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().ends_with(suffix.as_bytes()))
}

//! Where a file may be written, and how it gets its name.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::checkpoint::parent;
use crate::error::{Access, Error, ErrorKind};
use crate::partial::PartialFile;

/// What to do where the output exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overwrite {
    /// Refuse.
    #[default]
    Refuse,
    /// Replace it, once the new file is complete.
    Replace,
}

/// The sibling in which a file grows: `OUT.niwaki-partial`.
pub fn partial_path(out: &Path) -> PathBuf {
    let mut name = out.file_name().map_or_else(OsString::new, OsString::from);
    name.push(".niwaki-partial");
    out.with_file_name(name)
}

/// Whether a file could be written at `path`, as far as looking tells.
///
/// # Errors
///
/// A path without a name, a folder that does not exist, a target that exists (under
/// [`Overwrite::Refuse`]), is a folder, no regular file, or read-only.
pub fn check_output(path: &Path, overwrite: Overwrite) -> Result<(), Error> {
    let refuse = |kind: ErrorKind| Err(Error::from(kind).at(path));
    if path.file_name().is_none() {
        return refuse(if path.is_dir() { ErrorKind::IsFolder } else { ErrorKind::NoName });
    }
    match fs::metadata(parent(path)) {
        Ok(meta) if meta.is_dir() => {}
        Ok(_) => return refuse(ErrorKind::NoFolder),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return refuse(ErrorKind::NoFolder),
        Err(error) => return Err(Error::io(Access::Write, path, error)),
    }
    let meta = match fs::metadata(path) {
        Ok(meta) => meta,
        // A link that leads nowhere exists too.
        Err(_) if overwrite == Overwrite::Refuse && fs::symlink_metadata(path).is_ok() => {
            return refuse(ErrorKind::Exists);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io(Access::Write, path, error)),
    };
    match overwrite {
        _ if meta.is_dir() => refuse(ErrorKind::IsFolder),
        _ if !meta.is_file() => refuse(ErrorKind::NotRegular),
        Overwrite::Refuse => refuse(ErrorKind::Exists),
        Overwrite::Replace if meta.permissions().readonly() => refuse(ErrorKind::ReadOnly),
        Overwrite::Replace => Ok(()),
    }
}

/// Gives a finished file its name.
pub(crate) fn rename(partial: &Path, path: &Path, overwrite: Overwrite) -> Result<(), Error> {
    check_output(path, overwrite)?;
    fs::rename(partial, path).map_err(|e| Error::io(Access::Rename, path, e))
}

/// Writes a small file to its [`partial_path`] and renames it. `durable` waits until the disk has it.
///
/// # Errors
///
/// Those of [`PartialFile::create`], and whatever the system refuses; nothing is left behind then.
pub fn write_small(path: &Path, bytes: &[u8], overwrite: Overwrite, durable: bool) -> Result<(), Error> {
    let file = PartialFile::create(path, bytes.len() as u64, overwrite)?;
    file.write_at(0, bytes)?;
    file.finish(durable)
}

/// Copies a file, of whatever size and with its permissions, to the [`partial_path`] of another and renames it.
/// `durable` waits until the disk has it.
///
/// # Errors
///
/// A file that cannot be read, those of [`PartialFile::create`], and whatever the system refuses; nothing is left
/// behind then.
pub fn copy_file(from: &Path, to: &Path, overwrite: Overwrite, durable: bool) -> Result<(), Error> {
    let read = |error| Error::io(Access::Read, from, error);
    let mut source = File::open(from).map_err(read)?;
    let permissions = source.metadata().map_err(read)?.permissions();
    let file = PartialFile::create(to, 0, overwrite)?;
    file.copy_from(&mut source, permissions)?;
    file.finish(durable)
}

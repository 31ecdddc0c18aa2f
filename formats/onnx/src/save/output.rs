//! A file that takes its name when it is complete.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::error::{Access, Error, ErrorKind};

/// A sibling, `OUT.niwaki-partial`, that goes away unless it is finished.
pub(crate) struct Output {
    file: BufWriter<File>,
    path: PathBuf,
    partial: PathBuf,
    overwrite: bool,
    finished: bool,
}

impl Output {
    pub(crate) fn create(path: &Path, overwrite: bool) -> Result<Self, Error> {
        check(path, overwrite)?;
        let mut name = path.file_name().map_or_else(OsString::new, OsString::from);
        name.push(".niwaki-partial");
        let partial = path.with_file_name(name);
        let file = File::create(&partial).map_err(|e| Error::io(Access::Write, path, e))?;
        let (file, path) = (BufWriter::with_capacity(1 << 16, file), path.to_owned());
        Ok(Self { file, path, partial, overwrite, finished: false })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all(bytes).map_err(|e| Error::io(Access::Write, &self.path, e))
    }

    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        self.file.flush().map_err(|e| Error::io(Access::Write, &self.path, e))
    }

    pub(crate) fn finish(mut self) -> Result<(), Error> {
        self.flush()?;
        check(&self.path, self.overwrite)?;
        fs::rename(&self.partial, &self.path).map_err(|e| Error::io(Access::Rename, &self.path, e))?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if !self.finished {
            // A sibling that stays behind is overwritten next time.
            let _ = fs::remove_file(&self.partial);
        }
    }
}

/// Whether a file may be written here, as far as looking tells. A link that leads nowhere
/// exists too.
fn check(path: &Path, overwrite: bool) -> Result<(), Error> {
    let refuse = |kind: ErrorKind| Err(Error::from(kind).at(path));
    if path.file_name().is_none() {
        return refuse(ErrorKind::NoFileName);
    }
    match fs::symlink_metadata(path) {
        Err(_) => Ok(()),
        Ok(_) if !overwrite => refuse(ErrorKind::Exists),
        Ok(_) if fs::metadata(path).is_ok_and(|meta| !meta.is_file()) => refuse(ErrorKind::NotFile),
        Ok(_) => Ok(()),
    }
}

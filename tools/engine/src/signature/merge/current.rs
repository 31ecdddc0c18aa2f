//! The stack that a checkpoint has now, and what takes it off.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use niwaki_container::{Digest, Kind, Meta, Sidecar, Undo};
use niwaki_tensors::Limits;

use crate::error::{Error, ErrorKind};
use crate::signature::opened::Signature;
use crate::source::Opened;

/// A patch of the stack.
pub(super) struct Entry {
    pub(super) signature: Signature,
    pub(super) alpha: f64,
}

/// Where the record of a stack is.
pub(super) enum Record<'a> {
    /// There is no stack.
    None,
    /// In the container itself.
    Inside(Undo<'a>),
    /// In a file beside it.
    Beside(Box<Sidecar>),
}

/// The record of the checkpoint at `path`, which is opened.
pub(super) fn record(opened: &Opened) -> Result<Record<'_>, Error> {
    if let Opened::Tensors(artifact) = opened
        && artifact.kind() == Kind::Container
    {
        return Ok(artifact.undo().map_or(Record::None, Record::Inside));
    }
    let path = sidecar_path(opened.path());
    if !path.exists() {
        return Ok(Record::None);
    }
    Ok(Record::Beside(Box::new(Sidecar::open(&path, &Limits::default())?)))
}

/// Where what takes patches off `path` again lies beside it.
pub(super) fn sidecar_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".undo.safetensors");
    PathBuf::from(name)
}

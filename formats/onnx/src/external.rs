//! Data outside the model: files beside it, each mapped once.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;

use crate::error::{Access, Error, ErrorKind};
use crate::limits::Limits;
use crate::mmap;
use crate::proto::TensorProto;

/// The files around a model.
#[derive(Debug)]
pub(crate) struct External {
    folder: Option<PathBuf>,
    limits: Limits,
    maps: Mutex<BTreeMap<PathBuf, Mapped>>,
}

/// A file that is mapped, and open, so that it can be looked at again.
#[derive(Clone, Debug)]
pub(crate) struct Mapped {
    file: Arc<File>,
    pub(crate) bytes: Bytes,
    pub(crate) modified: Option<SystemTime>,
}

impl Mapped {
    /// Maps a whole file of at most `max` bytes, a limit called `limit`.
    pub(crate) fn open(path: &Path, limit: &'static str, max: u64) -> Result<Self, Error> {
        let io = |error| Error::io(Access::Open, path, error);
        // Looked at before it is opened: opening a pipe would wait.
        if !fs::metadata(path).map_err(io)?.is_file() {
            return Err(Error::from(ErrorKind::NotFile).at(path));
        }
        let file = File::open(path).map_err(io)?;
        let meta = file.metadata().map_err(io)?;
        let has = meta.len();
        let too_large = || Error::from(ErrorKind::Limit { limit, max, has }).at(path);
        let len = usize::try_from(has).ok().filter(|_| has <= max).ok_or_else(too_large)?;
        let bytes = mmap::map(&file, len).map_err(io)?;
        Ok(Self { file: Arc::new(file), bytes, modified: meta.modified().ok() })
    }

    /// Whether the file has the length and the time of change that it had when it was mapped.
    pub(crate) fn ensure_unchanged(&self, path: &Path) -> Result<(), Error> {
        let meta = self.file.metadata().map_err(|e| Error::io(Access::Open, path, e))?;
        let (had, has) = (self.bytes.len() as u64, meta.len());
        if had != has || self.modified != meta.modified().ok() {
            return Err(Error::from(ErrorKind::Changed { had, has }).at(path));
        }
        Ok(())
    }
}

/// Where external data lies.
struct Located<'a> {
    location: &'a str,
    offset: u64,
    length: Option<u64>,
}

impl External {
    pub(crate) fn new(folder: Option<PathBuf>, limits: Limits) -> Self {
        Self { folder, limits, maps: Mutex::new(BTreeMap::new()) }
    }

    /// The `needs` bytes of a tensor's external data. A length that is given and differs is an
    /// error of the caller's to tell: so many bytes come back.
    pub(crate) fn bytes(&self, proto: &TensorProto, needs: usize) -> Result<Bytes, Error> {
        let located = located(proto)?;
        let map = self.map(located.location)?;
        let length = located.length.unwrap_or(needs as u64);
        let beyond = || ErrorKind::Beyond {
            location: located.location.to_owned(),
            offset: located.offset,
            length,
            has: map.len() as u64,
        };
        let end = located.offset.checked_add(length).filter(|end| *end <= map.len() as u64).ok_or_else(beyond)?;
        // Both are at most the map's length.
        Ok(map.slice(located.offset as usize..end as usize))
    }

    /// The file that `location` names, which must be inside the folder, links resolved.
    fn map(&self, location: &str) -> Result<Bytes, Error> {
        let folder = self.folder.as_deref().ok_or(ErrorKind::NoFolder)?;
        let outside = || ErrorKind::Outside { location: location.to_owned() };
        let relative = Path::new(location);
        let inside = |part| matches!(part, Component::Normal(_) | Component::CurDir);
        if location.is_empty() || !relative.components().all(inside) {
            return Err(outside().into());
        }
        let io = |path: &Path| {
            let path = path.to_owned();
            move |error| Error::io(Access::Open, &path, error)
        };
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let path = folder.join(relative);
        let root = fs::canonicalize(folder).map_err(io(folder))?;
        let real = fs::canonicalize(&path).map_err(io(&path))?;
        if !real.starts_with(&root) {
            return Err(outside().into());
        }
        let mut maps = self.maps.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(map) = maps.get(&real) {
            return Ok(map.bytes.clone());
        }
        let map = Mapped::open(&real, "external_bytes", self.limits.external_bytes)?;
        let bytes = map.bytes.clone();
        maps.insert(real, map);
        Ok(bytes)
    }

    /// The files that were read, by their paths with links resolved.
    pub(crate) fn files(&self) -> Vec<(PathBuf, Mapped)> {
        let maps = self.maps.lock().unwrap_or_else(PoisonError::into_inner);
        maps.iter().map(|(path, map)| (path.clone(), map.clone())).collect()
    }
}

fn located(proto: &TensorProto) -> Result<Located<'_>, Error> {
    let (mut location, mut offset, mut length) = (None, None, None);
    for entry in &proto.external_data {
        let (key, value) = (entry.key(), entry.value());
        let before = match key {
            "location" => location.replace(value).is_some(),
            "offset" => offset.replace(number(key, value)?).is_some(),
            "length" => length.replace(number(key, value)?).is_some(),
            // A checksum, and whatever else writers keep there.
            _ => false,
        };
        if before {
            return Err(ErrorKind::ExternalTwice { key: key.to_owned() }.into());
        }
    }
    let location = location.ok_or(ErrorKind::NoLocation)?;
    Ok(Located { location, offset: offset.unwrap_or(0), length })
}

fn number(key: &str, value: &str) -> Result<u64, Error> {
    value.parse().map_err(|_| ErrorKind::ExternalNumber { key: key.to_owned(), found: value.to_owned() }.into())
}

//! Data outside the model: files beside it, each mapped once.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, PoisonError};

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
    maps: Mutex<BTreeMap<PathBuf, Bytes>>,
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
            return Ok(map.clone());
        }
        let map = map_file(&real, "external_bytes", self.limits.external_bytes).map_err(|e| e.at(&path))?;
        maps.insert(real, map.clone());
        Ok(map)
    }
}

/// Maps a whole file of at most `max` bytes, a limit called `limit`.
pub(crate) fn map_file(path: &Path, limit: &'static str, max: u64) -> Result<Bytes, Error> {
    let io = |error| Error::io(Access::Open, path, error);
    // Looked at before it is opened: opening a pipe would wait.
    if !fs::metadata(path).map_err(io)?.is_file() {
        return Err(Error::from(ErrorKind::NotFile).at(path));
    }
    let file = File::open(path).map_err(io)?;
    let has = file.metadata().map_err(io)?.len();
    let too_large = || Error::from(ErrorKind::Limit { limit, max, has }).at(path);
    let len = usize::try_from(has).ok().filter(|_| has <= max).ok_or_else(too_large)?;
    mmap::map(&file, len).map_err(io)
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

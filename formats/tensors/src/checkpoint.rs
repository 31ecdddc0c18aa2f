//! A whole checkpoint: one file, or the files of an index.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::backing::Backing;
use crate::error::{Access, Error, ErrorKind};
use crate::folder::{self, Found};
use crate::index::{Index, parse_index};
use crate::layout::is_reserved;
use crate::limits::{Limit, Limits};
use crate::mapped::MappedFile;
use crate::shard::Shard;
use crate::view::TensorView;

/// An open checkpoint: every header read and checked, every file mapped.
///
/// The files must not be written to while it is open: see [`Shard::ensure_unchanged`].
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    source: Source,
    limits: Limits,
    shards: Vec<Shard>,
    /// Shard and entry of every tensor, sorted by name.
    by_name: Vec<(u32, u32)>,
}

/// What a path turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// One file.
    File(PathBuf),
    /// A folder, with its index or its only safetensors file.
    Folder {
        /// The folder.
        folder: PathBuf,
        /// The index that was read; none for a single file.
        index: Option<PathBuf>,
    },
    /// Bytes that are no file of their own, under the name that they were given.
    Bytes(PathBuf),
}

impl Checkpoint {
    /// Opens a `.safetensors` file, an index (`*.json`), or a folder that holds an index or
    /// exactly one `.safetensors` file.
    ///
    /// Headers are read, data is not. While it is open, a change to a file shows as wrong
    /// numbers, and a file that is shortened raises a signal (SIGBUS) where its end is read;
    /// [`Shard::ensure_unchanged`] and [`Advice::Populate`](crate::Advice::Populate) tell
    /// beforehand.
    ///
    /// # Errors
    ///
    /// Files that cannot be read, that the `safetensors` crate refuses, that disagree with
    /// their index, or that exceed `limits`.
    pub fn open(path: impl AsRef<Path>, limits: &Limits) -> Result<Self, Error> {
        let path = path.as_ref();
        let (is_folder, found) = folder::find(path)?;
        let (shards, index) = match found {
            Found::File(file) => (vec![Shard::open(&file, limits)?], None),
            Found::Index(file) => (open_index(&file, limits)?, Some(file)),
        };
        let source = match (is_folder, &index) {
            (true, _) => Source::Folder { folder: path.to_owned(), index },
            (false, Some(file)) => Source::Folder { folder: parent(file), index },
            (false, None) => Source::File(path.to_owned()),
        };
        let by_name = sorted_by_name(&shards);
        Ok(Self { path: path.to_owned(), source, limits: *limits, shards, by_name })
    }

    /// Opens one safetensors file whose bytes are in memory; `name` stands in errors and where
    /// else a path would.
    ///
    /// # Errors
    ///
    /// Those of [`parse_header`](crate::parse_header).
    pub fn from_bytes(name: impl AsRef<Path>, bytes: Arc<[u8]>, limits: &Limits) -> Result<Self, Error> {
        Self::from_owner(name, bytes, limits)
    }

    /// [`from_bytes`](Self::from_bytes) of bytes that somebody else keeps.
    ///
    /// # Errors
    ///
    /// Those of [`parse_header`](crate::parse_header).
    pub fn from_owner(
        name: impl AsRef<Path>,
        bytes: impl AsRef<[u8]> + Send + Sync + 'static,
        limits: &Limits,
    ) -> Result<Self, Error> {
        Self::from_backing(Backing::memory(name.as_ref(), Arc::new(bytes)), limits)
    }

    /// Opens one safetensors file that is open already, and maps it; `name` stands in errors and
    /// where else a path would. Where the file is read from does not matter, and does not move.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open) for one file.
    pub fn from_file(name: impl AsRef<Path>, file: File, limits: &Limits) -> Result<Self, Error> {
        Self::from_backing(Backing::mapped(MappedFile::from_file(name.as_ref(), file)?), limits)
    }

    pub(crate) fn from_backing(file: Backing, limits: &Limits) -> Result<Self, Error> {
        let name = file.name().to_owned();
        let shards = vec![Shard::read(file, limits)?];
        let by_name = sorted_by_name(&shards);
        Ok(Self { path: name.clone(), source: Source::Bytes(name), limits: *limits, shards, by_name })
    }

    /// The limits that it was opened under.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The path that was opened, as it was given; for bytes their name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What that path turned out to be.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The files, in the order of their names.
    pub fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// How many tensors there are, pads included.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there is no tensor at all.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// All tensors, pads included, file by file in the order of their data.
    pub fn tensors(&self) -> impl Iterator<Item = TensorView<'_>> {
        self.shards
            .iter()
            .enumerate()
            .flat_map(|(index, shard)| shard.entries().iter().map(move |entry| TensorView::new(shard, index, entry)))
    }

    /// The tensor of this name.
    pub fn get(&self, name: &str) -> Option<TensorView<'_>> {
        let found = self.by_name.binary_search_by(|at| self.at(*at).map_or("", |view| view.name()).cmp(name)).ok()?;
        self.at(*self.by_name.get(found)?)
    }

    fn at(&self, (shard, entry): (u32, u32)) -> Option<TensorView<'_>> {
        let (index, file) = (shard as usize, self.shards.get(shard as usize)?);
        Some(TensorView::new(file, index, file.entries().get(entry as usize)?))
    }

    /// The metadata of all files; of a key that stands in several, the first.
    pub fn metadata(&self) -> BTreeMap<&str, &str> {
        let all = self.shards.iter().rev().flat_map(Shard::metadata);
        all.map(|(key, value)| (key.as_str(), value.as_str())).collect()
    }

    /// Bytes of all tensors.
    pub fn data_bytes(&self) -> u64 {
        self.tensors().map(|view| view.bytes().len() as u64).sum()
    }

    /// The other files of its folder (`config.json`, a tokenizer), sorted: all but safetensors
    /// files and indexes. None for a checkpoint that was not opened as a folder.
    ///
    /// # Errors
    ///
    /// A folder that cannot be listed.
    pub fn folder_files(&self) -> Result<Vec<PathBuf>, Error> {
        let Source::Folder { folder, .. } = &self.source else { return Ok(Vec::new()) };
        let ours = [".safetensors", ".safetensors.index.json", ".niwaki-partial", ".niwaki-journal"];
        let mut files = folder::files(folder)?;
        files.retain(|path| !ours.iter().any(|suffix| folder::ends_with(path, suffix)));
        Ok(files)
    }

    /// Whether every file is as it was when it was opened: see [`Shard::ensure_unchanged`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Changed`] for the first that is not.
    pub fn ensure_unchanged(&self) -> Result<(), Error> {
        self.shards.iter().try_for_each(Shard::ensure_unchanged)
    }

    /// The `config.json` beside the files, where there is one that can be read. Bytes stand beside
    /// nothing.
    pub fn config(&self) -> Option<serde_json::Value> {
        if let Source::Bytes(_) = self.source {
            return None;
        }
        let path = parent(self.shards.first()?.path()).join("config.json");
        let bytes = read_limited(&path, &self.limits).ok()?;
        serde_json::from_slice(&bytes).ok()
    }
}

/// The folder of a file; `.` for a bare name.
pub(crate) fn parent(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Reads a JSON file whose length is within the limits.
///
/// # Errors
///
/// A file that cannot be read, is no regular file, or is longer than [`Limits::index_bytes`].
pub fn read_limited(path: &Path, limits: &Limits) -> Result<Vec<u8>, Error> {
    let read = |error| Error::io(Access::Read, path, error);
    let meta = fs::metadata(path).map_err(read)?;
    if !meta.is_file() {
        return Err(Error::from(ErrorKind::NotAFile).at(path));
    }
    if meta.len() > limits.index_bytes {
        let kind = ErrorKind::Limit { limit: Limit::IndexBytes, max: limits.index_bytes, has: meta.len() };
        return Err(Error::from(kind).at(path));
    }
    fs::read(path).map_err(read)
}

/// Opens every file that an index names, and compares.
fn open_index(path: &Path, limits: &Limits) -> Result<Vec<Shard>, Error> {
    let index = parse_index(&read_limited(path, limits)?, limits).map_err(|e| e.at(path))?;
    let folder = parent(path);
    let names = index.shards();
    let mut shards = Vec::with_capacity(names.len());
    for name in &names {
        shards.push(Shard::open(&folder.join(name), limits)?);
    }
    compare(&index, &names, &shards).map_err(|e| e.at(path))?;
    Ok(shards)
}

/// Whether index and files name the same tensors in the same places.
fn compare(index: &Index, names: &[&str], shards: &[Shard]) -> Result<(), Error> {
    let mut homes: BTreeMap<&str, &str> = BTreeMap::new();
    for (file, shard) in names.iter().zip(shards) {
        for entry in shard.entries().iter().filter(|entry| !is_reserved(&entry.name)) {
            if let Some(first) = homes.insert(&entry.name, file) {
                let kind = ErrorKind::TwoShards { first: first.to_owned(), second: (*file).to_owned() };
                return Err(Error::from(kind).of(&entry.name));
            }
        }
    }
    for (tensor, says) in index.weight_map.iter().filter(|(tensor, _)| !is_reserved(tensor)) {
        let kind = match homes.get(tensor.as_str()) {
            Some(has) if has == says => continue,
            Some(has) => ErrorKind::IndexElsewhere { says: says.clone(), has: (*has).to_owned() },
            None => ErrorKind::IndexMissing { shard: says.clone() },
        };
        return Err(Error::from(kind).of(tensor));
    }
    match homes.iter().find(|(tensor, _)| !index.weight_map.contains_key(**tensor)) {
        Some((tensor, file)) => Err(Error::from(ErrorKind::IndexUnlisted { shard: (*file).to_owned() }).of(tensor)),
        None => Ok(()),
    }
}

fn sorted_by_name(shards: &[Shard]) -> Vec<(u32, u32)> {
    let mut all: Vec<(&str, (u32, u32))> = Vec::new();
    for (index, shard) in (0u32..).zip(shards) {
        all.extend((0u32..).zip(shard.entries()).map(|(i, entry)| (entry.name.as_str(), (index, i))));
    }
    all.sort_unstable();
    all.into_iter().map(|(_, at)| at).collect()
}

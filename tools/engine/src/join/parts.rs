//! The parts in a folder, opened and compared.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use niwaki_container::{Artifact, Digest, Kind, Layout, META_KEY, Meta, checkpoint_digest, verify};
use niwaki_tensors::{Limits, partial_path};
use serde_json::Value;

use crate::error::{Blame, Error, ErrorKind};
use crate::part::{Said, Share};
use crate::report::Totals;
use crate::target::file_error;

/// Numbers of missing parts that a message lists.
const LISTED: usize = 8;

/// One part.
pub(super) struct Part {
    pub(super) share: Share,
    pub(super) path: PathBuf,
    pub(super) artifact: Artifact,
    said: Said,
}

/// A tensor of the whole, in plan order.
pub(super) struct Tensor {
    pub(super) name: String,
    /// Index of its part.
    pub(super) part: usize,
    pub(super) layout: Layout,
    /// What the report of its part says of it.
    pub(super) report: Value,
}

/// All parts of a job.
pub(super) struct Parts {
    /// In the order of their numbers.
    pub(super) all: Vec<Part>,
    pub(super) tensors: Vec<Tensor>,
    pub(super) totals: Totals,
}

fn wrong(path: &Path, what: impl Into<String>) -> Error {
    Error::from(ErrorKind::Part { what: what.into() }).at(path)
}

impl Parts {
    /// Opens all parts in a folder.
    ///
    /// # Errors
    ///
    /// Parts that are missing, that are none, or that do not belong together.
    pub(super) fn open(dir: &Path) -> Result<Self, Error> {
        let mut all = Vec::new();
        for share in shares(dir)? {
            all.push(Part::open(dir, share)?);
        }
        if let Some((first, rest)) = all.split_first() {
            rest.iter().try_for_each(|part| part.check_like(first))?;
        }
        let mut parts = Self { all, tensors: Vec::new(), totals: Totals::default() };
        parts.gather(dir)?;
        Ok(parts)
    }

    /// How many there are.
    pub(super) fn count(&self) -> u32 {
        self.all.len() as u32
    }

    /// Bytes of all files.
    pub(super) fn file_bytes(&self) -> u64 {
        self.all.iter().flat_map(|part| part.artifact.checkpoint().shards()).map(|shard| shard.file_bytes()).sum()
    }

    /// The metadata of the part of that index.
    pub(super) fn meta(&self, part: usize) -> Option<&Meta> {
        self.all.get(part)?.meta()
    }

    /// Digest of the checkpoint that they are together.
    pub(super) fn digest(&self) -> Digest {
        let metas = self.all.iter().filter_map(Part::meta).flat_map(|meta| &meta.tensors);
        checkpoint_digest(metas.map(|(name, tensor)| (name.as_str(), tensor.digest)))
    }

    /// Bytes of header that the metadata of the whole takes at most.
    pub(super) fn room(&self) -> usize {
        self.all.first().map_or(0, |part| part.said.room)
    }

    /// Checks every digest and every invariant of every part.
    pub(super) fn check_contents(&self, threads: usize) -> Result<(), Error> {
        for part in &self.all {
            if let Some(fault) = verify(&part.artifact, threads).faults.first() {
                return Err(wrong(&part.path, fault.to_string()).hinting("do that part again, with `--force`"));
            }
        }
        Ok(())
    }

    /// Puts the tensors of all parts in plan order.
    fn gather(&mut self, dir: &Path) -> Result<(), Error> {
        let mut by_number: BTreeMap<usize, Tensor> = BTreeMap::new();
        let mut names = BTreeSet::new();
        for (index, part) in self.all.iter().enumerate() {
            for (number, tensor) in part.tensors(index)? {
                if !names.insert(tensor.name.clone()) {
                    return Err(wrong(&part.path, "another part has it, too").of(&tensor.name));
                }
                self.totals.add(&tensor).ok_or_else(|| part.no_report())?;
                if by_number.insert(number, tensor).is_some() {
                    return Err(wrong(&part.path, format!("tensor {number} of the plan is in another part, too")));
                }
            }
        }
        // Numbers that differ and begin at 0: the last one tells whether any is left out.
        let count = by_number.len();
        if by_number.last_key_value().is_some_and(|(last, _)| *last + 1 != count) {
            return Err(wrong(dir, format!("the parts have {count} tensors, and not the first {count} of the plan")));
        }
        self.tensors = by_number.into_values().collect();
        Ok(())
    }
}

impl Totals {
    /// Adds a tensor by what its part says of it.
    fn add(&mut self, tensor: &Tensor) -> Option<()> {
        let bytes = |key| tensor.report.get(key).and_then(Value::as_u64);
        self.before = self.before.checked_add(bytes("bytes_before")?)?;
        self.after = self.after.checked_add(bytes("bytes_after")?).filter(|sum| *sum < u64::MAX / 8)?;
        self.elements = self.elements.checked_add(tensor.layout.shape.elements() as u64)?;
        Some(())
    }
}

impl Part {
    fn open(dir: &Path, share: Share) -> Result<Self, Error> {
        let path = dir.join(share.file_name());
        let artifact = Artifact::open(&path, &Limits::default())?;
        let sane = |said: &Said| said.room as u64 <= Limits::default().header_bytes;
        let said = match (artifact.kind(), artifact.metas()) {
            (Kind::Container, [meta]) if meta.patches.is_empty() && meta.undo.is_none() => {
                meta.part.as_ref().and_then(Said::of_value).filter(sane)
            }
            _ => None,
        };
        let said = said.ok_or_else(|| {
            wrong(&path, "is no part of a job").hinting("`compress … --part i/n -o DIR` writes parts")
        })?;
        if Share::new(said.number, said.of) != Some(share) {
            return Err(wrong(&path, format!("is part {}/{}, and named like {share}", said.number, said.of)));
        }
        Ok(Self { share, path, artifact, said })
    }

    fn meta(&self) -> Option<&Meta> {
        self.artifact.metas().first()
    }

    /// Refuses a part of another job than the first.
    fn check_like(&self, first: &Self) -> Result<(), Error> {
        let recipe = |part: &Self| part.meta().and_then(|meta| meta.recipe_digest);
        let rest = |part: &Self| part.meta().map(|meta| (meta.lineage.clone(), meta.source_metadata.clone()));
        let differs = if self.said.source != first.said.source || rest(self) != rest(first) {
            "is of another source"
        } else if recipe(self) != recipe(first) {
            "is by another recipe"
        } else if (&self.said.plan, self.said.room) != (&first.said.plan, first.said.room) {
            "is by another plan: other flags, statistics, or another version of niwaki"
        } else {
            return Ok(());
        };
        Err(wrong(&self.path, format!("{differs} than `{}`", first.share.file_name())))
    }

    fn no_report(&self) -> Error {
        wrong(&self.path, format!("the report under `{META_KEY}` does not list its tensors"))
    }

    /// Its tensors, with their numbers in the plan.
    fn tensors(&self, index: usize) -> Result<Vec<(usize, Tensor)>, Error> {
        let report = self.meta().and_then(|meta| meta.report.get("tensors")).and_then(Value::as_array);
        let (Some(report), Some(meta)) = (report, self.meta()) else { return Err(self.no_report()) };
        if report.len() != meta.tensors.len() || report.len() != self.said.tensors.len() {
            return Err(self.no_report());
        }
        let tensor = |(number, report): (&usize, &Value)| {
            let name = report.get("name")?.as_str()?;
            let layout = meta.tensors.get(name)?.layout;
            Some((*number, Tensor { name: name.to_owned(), part: index, layout, report: report.clone() }))
        };
        let tensors: Option<Vec<_>> = self.said.tensors.iter().zip(report).map(tensor).collect();
        tensors.ok_or_else(|| self.no_report())
    }
}

/// The shares whose parts are in a folder: all there are of one job.
fn shares(dir: &Path) -> Result<Vec<Share>, Error> {
    let mut found = BTreeSet::new();
    for item in fs::read_dir(dir).map_err(|e| not_a_folder(&e, dir))? {
        let name = item.map_err(|e| file_error(&e, dir))?.file_name();
        found.extend(name.to_str().and_then(Share::of_file_name));
    }
    let (Some(first), Some(last)) = (found.first().copied(), found.last().copied()) else {
        return Err(wrong(dir, "holds no parts").hinting("`compress … --part i/n -o DIR` writes them"));
    };
    if first.of() != last.of() {
        let (first, last) = (first.file_name(), last.file_name());
        let what = format!("holds parts of two jobs: `{first}` and `{last}`");
        return Err(wrong(dir, what).hinting("remove those of the other one"));
    }
    let all = (1..=first.of()).filter_map(|number| Share::new(number, first.of()));
    let missing: Vec<Share> = all.filter(|share| !found.contains(share)).collect();
    let Some(unfinished) = missing.first() else { return Ok(found.into_iter().collect()) };
    let mut listed: Vec<String> = missing.iter().take(LISTED).map(ToString::to_string).collect();
    if missing.len() > LISTED {
        listed.push(format!("{} more", missing.len() - LISTED));
    }
    let (what, of) = (listed.join(", "), first.of());
    let error = wrong(dir, format!("lacks {} of {of} parts: {what}", missing.len()));
    Err(if partial_path(&dir.join(unfinished.file_name())).exists() {
        error.hinting(format!("part {unfinished} has begun and is not finished"))
    } else {
        error
    })
}

fn not_a_folder(e: &std::io::Error, dir: &Path) -> Error {
    match e.kind() {
        std::io::ErrorKind::NotADirectory => wrong(dir, "is no folder").hinting("`join` takes the folder of the parts"),
        std::io::ErrorKind::NotFound => {
            let what = format!("`{}`: does not exist", dir.display());
            Error::from(ErrorKind::Below { what, blame: Blame::Io }).at(dir)
        }
        _ => file_error(e, dir),
    }
}

//! Patches merged into a checkpoint, and taken off again.

mod current;
mod files;
mod hashes;
mod listed;
mod output;
mod recode;
mod restack;
mod shift;
mod storage;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use niwaki_container::Digest;
use serde::Serialize;

use super::bound::Bound;
use super::identity::Identity;
use super::opened::{Patch, Signature};
use super::overlay::check;
use crate::compress::Options;
use crate::error::{Error, ErrorKind};
use crate::source::{Names, Opened, Source, SourceTensor};
use current::{Current, Entry};
use hashes::Contents;
use restack::{Outcome, Task};
use storage::Stored;

/// How patches are applied.
#[derive(Clone, Copy, Debug, Default)]
pub struct Application<'p> {
    /// Where to write; none to see what would become of them.
    pub out: Option<&'p Path>,
    /// Whether a patch is applied of which less than half outlives the rounding to codes.
    pub allow_loss: bool,
}

/// A checkpoint's stack.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Listed {
    /// Digest of the checkpoint without patches.
    pub base_digest: String,
    /// The patches, oldest first.
    pub patches: Vec<ListedPatch>,
}

/// One patch of a stack.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ListedPatch {
    /// Its name.
    pub name: String,
    /// What its values are multiplied by.
    pub alpha: f64,
    /// How many tensors it touches.
    pub tensors: u64,
    /// Bytes of the signature's file.
    pub bytes: u64,
}

/// What became of a checkpoint.
#[derive(Clone, Debug, Serialize)]
pub struct Applied {
    /// The stack that it has now.
    #[serde(flatten)]
    pub listed: Listed,
    /// The tensors that patches of the stack touch.
    pub tensors: Vec<TensorApplied>,
    /// Bytes of the checkpoint written; 0 where nothing was.
    pub output_bytes: u64,
    /// Bytes of what takes the patches off again: corrections and the signatures themselves.
    pub undo_bytes: u64,
    /// The file that holds it, where it is not in the checkpoint.
    pub undo: Option<PathBuf>,
}

/// What became of one tensor.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TensorApplied {
    /// Its name.
    pub name: String,
    /// The type of its weights.
    pub dtype: String,
    /// What its codes mean.
    pub scheme: Option<String>,
    /// How much of the patches arrives in the stored weights, along them: 1 for all.
    pub survival: f64,
    /// The patches that touch it, in order.
    pub patches: Vec<String>,
    /// Whether these store its values in different schemes.
    pub mixed: bool,
}

/// Writes the checkpoint with `patches` on top of the stack that it has.
///
/// What a stack makes of the weights hangs on the weights without patches and on the stack
/// alone; so does every byte written. `progress` is told the bytes done so far, and all there are.
///
/// # Errors
///
/// Checkpoints of another architecture; of other weights, unless the patch says so; whose contents
/// are not what they were when they were written; names that the stack has; a patch of which
/// less than half outlives the rounding to codes, unless that is allowed; those of reading and
/// writing. The output is then as it was before.
pub fn apply(
    opened: &Opened,
    patches: &[Patch<'_>],
    how: Application<'_>,
    options: &Options,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Applied, Error> {
    let current = Current::of(opened)?;
    let mut names: Vec<&str> = current.stack.iter().map(|entry| entry.signature.name()).collect();
    for patch in patches {
        let name = patch.signature.name();
        if names.contains(&name) {
            let error = Error::from(ErrorKind::Patch { what: format!("a patch `{name}` is in the stack already") });
            return Err(error.at(opened.path()).hinting("`--name` gives it another name"));
        }
        names.push(name);
    }
    let old: Vec<Patch<'_>> = current.stack.iter().map(Entry::patch).collect();
    let new: Vec<Patch<'_>> = old.iter().chain(patches).copied().collect();
    Restack { opened, current: &current, old: &old, new: &new, fresh: patches, how }.run(options, progress)
}

/// Writes the checkpoint without the patch `name` of its stack, bit for bit as if it had never
/// been added.
///
/// # Errors
///
/// A name that the stack does not have, and those of [`apply`].
pub fn remove(
    opened: &Opened,
    name: &str,
    out: &Path,
    options: &Options,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Applied, Error> {
    let current = Current::of(opened)?;
    let old: Vec<Patch<'_>> = current.stack.iter().map(Entry::patch).collect();
    let new: Vec<Patch<'_>> = old.iter().filter(|patch| patch.signature.name() != name).copied().collect();
    if new.len() == old.len() {
        let known: Vec<_> = old.iter().map(|patch| format!("`{}`", patch.signature.name())).collect();
        let what = match known.as_slice() {
            [] => format!("no patch `{name}`: nothing was merged into it, or the file beside it that tells is gone"),
            known => format!("no patch `{name}`; its stack has {}", known.join(", ")),
        };
        return Err(Error::from(ErrorKind::Patch { what }).at(opened.path()));
    }
    let how = Application { out: Some(out), allow_loss: true };
    Restack { opened, current: &current, old: &old, new: &new, fresh: &[], how }.run(options, progress)
}

/// The stack of a checkpoint.
///
/// # Errors
///
/// Those of reading it.
pub fn list(opened: &Opened, options: &Options) -> Result<Listed, Error> {
    let current = Current::of(opened)?;
    let source = opened.source(None, Names::Own)?;
    let base = match current.base() {
        Some(base) => base,
        None => options.pool()?.install(|| Contents::of(opened)).and_then(|contents| contents.digest(&source))?,
    };
    let old: Vec<Patch<'_>> = current.stack.iter().map(Entry::patch).collect();
    Ok(listed(base, &old))
}

/// The signatures that are merged into a checkpoint, oldest first.
pub(super) fn merged(opened: &Opened) -> Result<Vec<Signature>, Error> {
    Ok(Current::of(opened)?.stack.into_iter().map(|entry| entry.signature).collect())
}

fn listed(base: Digest, stack: &[Patch<'_>]) -> Listed {
    Listed { base_digest: base.to_string(), patches: stack.iter().map(listed_patch).collect() }
}

fn listed_patch(patch: &Patch<'_>) -> ListedPatch {
    ListedPatch {
        name: patch.signature.name().to_owned(),
        alpha: patch.alpha,
        tensors: patch.signature.about().touched.len() as u64,
        bytes: patch.signature.bytes().len() as u64,
    }
}

/// The stack as records have it.
fn stack(patches: &[Patch<'_>]) -> Vec<niwaki_container::Patch> {
    let patch = |patch: &Patch<'_>| {
        let ListedPatch { name, alpha, tensors, bytes } = listed_patch(patch);
        niwaki_container::Patch { name, alpha, digest: patch.signature.digest(), tensors, bytes }
    };
    patches.iter().map(patch).collect()
}

/// One change of a stack.
struct Restack<'r> {
    opened: &'r Opened,
    current: &'r Current<'r>,
    old: &'r [Patch<'r>],
    new: &'r [Patch<'r>],
    /// Those of `new` that must fit the checkpoint.
    fresh: &'r [Patch<'r>],
    how: Application<'r>,
}

impl Restack<'_> {
    fn run(&self, options: &Options, progress: &(dyn Fn(u64, u64) + Sync)) -> Result<Applied, Error> {
        let at = |e: Error| e.at(self.opened.path());
        let pool = options.pool()?;
        let source = self.opened.source(None, Names::Own)?;
        source.check_complete()?;
        let output = self.how.out.map(|out| output::Output::new(self.opened, out, options)).transpose()?;
        let bound = Bound::new(&source);
        let tasks = self.tasks(&source, &bound).map_err(at)?;
        let touched: BTreeSet<&str> =
            tasks.iter().flat_map(|task| task.stored.parts.iter().map(|part| part.name.as_str())).collect();
        // What is not touched is looked at while it is copied.
        let contents = pool.install(|| Contents::of_some(self.opened, |name| touched.contains(name)))?;
        self.current.check(&contents, false).map_err(at)?;
        let digests = |tensor: &SourceTensor<'_>| self.current.digests(&contents, tensor);
        check(self.fresh, &bound, &Identity { lineage: self.current.lineage(), digests: &digests })?;
        let written = match &output {
            Some(output) => pool.install(|| output.write(self, contents, &tasks, progress))?,
            None => {
                let drop = |_: &files::Place, _: usize, _: Vec<u8>| Ok(());
                let outcomes =
                    pool.install(|| tasks.iter().map(|task| task.run(&drop)).collect::<Result<Vec<_>, _>>())?;
                self.check_loss(&tasks, &outcomes)?;
                output::Written { outcomes, base: self.current.base(), ..output::Written::default() }
            }
        };
        let base = match written.base {
            Some(base) => base,
            None => pool.install(|| Contents::of(self.opened))?.digest(&source)?,
        };
        let tensors = tasks.iter().zip(&written.outcomes).filter(|(task, _)| !task.new.is_empty());
        Ok(Applied {
            listed: listed(base, self.new),
            tensors: tensors.map(|(task, outcome)| report(task, outcome)).collect(),
            output_bytes: written.output_bytes,
            undo_bytes: written.undo_bytes,
            undo: written.undo,
        })
    }

    /// The tensors that either stack touches.
    fn tasks<'a>(&'a self, source: &Source<'a>, bound: &Bound<'_, 'a>) -> Result<Vec<Task<'a>>, Error> {
        let files = files::files(self.opened);
        let (mut old, mut new) = (bound.patches(self.old)?, bound.patches(self.new)?);
        let touched: BTreeSet<usize> = old.keys().chain(new.keys()).copied().collect();
        let mut tasks = Vec::with_capacity(touched.len());
        for index in touched {
            let tensor = &source.tensors()[index];
            let stored = Stored::new(tensor)?;
            let corrections = self.current.corrections(&stored)?;
            let patches = (old.remove(&index).unwrap_or_default(), new.remove(&index).unwrap_or_default());
            tasks.push(Task::new(stored, &files, patches, corrections).map_err(|e| e.of(tensor.name()))?);
        }
        Ok(tasks)
    }

    /// Refuses a stack of which too little arrives.
    fn check_loss(&self, tasks: &[Task<'_>], outcomes: &[Outcome]) -> Result<(), Error> {
        if self.how.allow_loss {
            return Ok(());
        }
        let worst = tasks.iter().zip(outcomes).filter(|(task, _)| !task.new.is_empty());
        let worst = worst.min_by(|a, b| a.1.arrival.survival().total_cmp(&b.1.arrival.survival()));
        match worst {
            Some((task, outcome)) if outcome.arrival.survival() < 0.5 => {
                let percent = (outcome.arrival.survival() * 100.0).floor() as i64;
                let error = Error::from(ErrorKind::Loss { percent }).of(task.stored.tensor.name());
                let hint = "`--patch` lays it over the checkpoint where that is read, and loses nothing; `--allow-loss` merges it all the same";
                Err(error.at(self.opened.path()).hinting(hint))
            }
            _ => Ok(()),
        }
    }
}

fn report(task: &Task<'_>, outcome: &Outcome) -> TensorApplied {
    let tensor = &task.stored.tensor;
    let name = tensor.name();
    let schemes: BTreeSet<String> = task.new.iter().map(|patch| patch.stored_as()).collect();
    TensorApplied {
        name: name.to_owned(),
        dtype: tensor.dtype().to_string(),
        scheme: tensor.coding(),
        survival: outcome.arrival.survival(),
        patches: task.new.iter().map(|patch| patch.name.clone()).collect(),
        mixed: schemes.len() > 1,
    }
}

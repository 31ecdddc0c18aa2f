//! A folder that grows beside its place, and takes it in steps of which none loses anything.
//!
//! ```text
//! OUT.niwaki-partial        grows; gets what stays of OUT
//!      |  complete
//! OUT.niwaki-new            OUT --> OUT.niwaki-old            killed here: both are whole, under these names
//!      '--> OUT                     OUT.niwaki-old is removed
//! ```
//!
//! One run at a time has the place, and is told apart from others by a lock, `OUT.niwaki-lock.niwaki-partial`. Whoever
//! has it next puts back what a killed run took away.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use niwaki_tensors::{PartialFile, partial_path};

use crate::error::Error;
use crate::target::{alone, check_folder, file_error};

/// A folder that grows. It is gone when dropped unfinished.
pub(crate) struct Partial {
    /// Where it grows.
    pub(crate) path: PathBuf,
    new: PathBuf,
    old: PathBuf,
    out: PathBuf,
    /// How names of files end that do not stay where the folder replaces one.
    goes: &'static [&'static str],
    /// Held until the folder has its place.
    _lock: PartialFile,
}

/// A step of a folder on its way to its place.
type Step = fn(&Partial) -> io::Result<()>;

/// All of them, in order.
const STEPS: [Step; 5] = [
    |of| if of.out.exists() { carry(&of.out, &of.path, of.goes) } else { Ok(()) },
    |of| fs::rename(&of.path, &of.new),
    |of| if of.out.exists() { fs::rename(&of.out, &of.old) } else { Ok(()) },
    |of| fs::rename(&of.new, &of.out),
    |of| if of.old.exists() { fs::remove_dir_all(&of.old) } else { Ok(()) },
];

/// A sibling of a path, whose name ends so.
fn beside(out: &Path, end: &str) -> PathBuf {
    let mut name = out.file_name().unwrap_or_default().to_owned();
    name.push(end);
    out.with_file_name(name)
}

/// The names of a new folder that is complete, and of an old one that makes room for it.
fn names(out: &Path) -> [PathBuf; 2] {
    [".niwaki-new", ".niwaki-old"].map(|end| beside(out, end))
}

/// Refuses the place of a folder where another run has it, and where a folder is that may not be replaced. What a
/// killed run took away there is put back.
///
/// # Errors
///
/// Both, and whatever the system refuses.
pub(crate) fn check_place(out: &Path, replace: bool) -> Result<(), Error> {
    take(out, replace).map(|_lock| ())
}

/// Takes a place for this run alone, as long as what is given back is held.
fn take(out: &Path, replace: bool) -> Result<PartialFile, Error> {
    let lock = alone(&beside(out, ".niwaki-lock"), out, "another process is writing it")?;
    recover(out)?;
    check_folder(out, replace)?;
    Ok(lock)
}

/// Puts an old folder back that a run took away before it was killed, and removes what else it left.
fn recover(out: &Path) -> Result<(), Error> {
    let [new, old] = names(out);
    if old.is_dir() && !out.exists() {
        fs::rename(&old, out).map_err(|e| file_error(&e, out))?;
    }
    for left in [partial_path(out), new, old].iter().filter(|left| left.is_dir()) {
        fs::remove_dir_all(left).map_err(|e| file_error(&e, left))?;
    }
    Ok(())
}

/// Gives a folder what another one has and it has not, but for files at the top whose names end as `goes` says.
fn carry(from: &Path, to: &Path, goes: &[&str]) -> io::Result<()> {
    for item in fs::read_dir(from)? {
        let item = item?;
        let (name, path) = (item.file_name(), item.path());
        let there = to.join(&name);
        let stays = !goes.iter().any(|end| name.as_encoded_bytes().ends_with(end.as_bytes()));
        if !stays || fs::symlink_metadata(&there).is_ok() {
            continue;
        }
        if item.file_type()?.is_dir() {
            fs::create_dir(&there)?;
            carry(&path, &there, &[])?;
        } else if fs::hard_link(&path, &there).is_err() {
            fs::copy(&path, &there)?;
        }
    }
    Ok(())
}

impl Partial {
    /// An empty folder beside `out`, which it may replace; of that all stays but files that there are new ones of, and
    /// those whose names end as `goes` says.
    ///
    /// # Errors
    ///
    /// Those of [`check_place`].
    pub(crate) fn new(out: &Path, replace: bool, goes: &'static [&'static str]) -> Result<Self, Error> {
        let lock = take(out, replace)?;
        let path = partial_path(out);
        fs::create_dir(&path).map_err(|e| file_error(&e, &path))?;
        let [new, old] = names(out);
        Ok(Self { path, new, old, out: out.to_owned(), goes, _lock: lock })
    }

    /// Gives the folder its place.
    ///
    /// # Errors
    ///
    /// Whatever the system refuses; an old folder is then as it was.
    pub(crate) fn finish(self) -> Result<(), Error> {
        for step in STEPS {
            if let Err(error) = step(&self) {
                // The first error is the one to tell.
                let _ = recover(&self.out);
                return Err(file_error(&error, &self.out));
            }
        }
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // After a rename there is nothing; what cannot be removed is replaced next time.
        let _ = fs::remove_dir_all(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that holds a folder `out`, and one that is to take its place.
    fn scene(name: &str) -> (PathBuf, Partial) {
        let within = std::env::temp_dir().join(format!("niwaki-swap-{name}-{}", std::process::id()));
        let out = within.join("out");
        fs::create_dir_all(out.join("more")).unwrap();
        for (name, text) in [("model.safetensors", "old"), ("notes", "kept"), ("more/a", "deep")] {
            fs::write(out.join(name), text).unwrap();
        }
        let partial = Partial::new(&out, true, &[".safetensors"]).unwrap();
        fs::write(partial.path.join("model.safetensors"), "new").unwrap();
        fs::write(partial.path.join("config.json"), "{}").unwrap();
        (out, partial)
    }

    /// Whose weights a folder has, where it is whole.
    fn whole(folder: &Path) -> Option<String> {
        let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
        let weights = read("model.safetensors")?;
        let rest =
            [("notes", "kept"), ("more/a", "deep")].iter().all(|(name, text)| read(name).as_deref() == Some(text));
        (rest && (weights == "old" || read("config.json").is_some())).then_some(weights)
    }

    #[test]
    fn wherever_a_run_is_killed_a_whole_folder_is_found() {
        for steps in 0..=STEPS.len() {
            let (out, partial) = scene(&format!("killed-{steps}"));
            STEPS[..steps].iter().for_each(|step| step(&partial).unwrap());
            // Killed: nothing is cleaned up, and the lock falls.
            std::mem::forget(partial);
            fs::remove_file(partial_path(&beside(&out, ".niwaki-lock"))).unwrap();
            let [new, old] = names(&out);
            assert!([&out, &new, &old].into_iter().any(|folder| whole(folder).is_some()), "after {steps} steps");
            // The next run puts back what was taken away, or finds what was done.
            check_place(&out, true).unwrap();
            let expected = if steps < 4 { "old" } else { "new" };
            assert_eq!(whole(&out).as_deref(), Some(expected), "after {steps} steps");
            let within = out.parent().unwrap();
            assert_eq!(fs::read_dir(within).unwrap().count(), 1, "after {steps} steps something is left");
            fs::remove_dir_all(within).unwrap();
        }
    }

    #[test]
    fn a_place_is_one_runs_at_a_time() {
        let (out, partial) = scene("taken");
        let refused = check_place(&out, true).unwrap_err().to_string();
        assert!(refused.ends_with("another process is writing it"), "{refused}");
        assert!(partial.path.join("config.json").exists(), "what the other one has written is gone");
        partial.finish().unwrap();
        assert_eq!(whole(&out).as_deref(), Some("new"));
        check_place(&out, true).unwrap();
        assert!(check_place(&out, false).is_err());
        assert_eq!(fs::read_dir(out.parent().unwrap()).unwrap().count(), 1, "something is left");
        fs::remove_dir_all(out.parent().unwrap()).unwrap();
    }

    #[test]
    fn a_step_that_fails_leaves_the_old_folder() {
        let (out, partial) = scene("failed");
        // The place of the complete folder is taken by a file.
        let [new, _] = names(&out);
        fs::write(&new, "in the way").unwrap();
        assert!(partial.finish().is_err());
        assert_eq!(whole(&out).as_deref(), Some("old"));
        fs::remove_dir_all(out.parent().unwrap()).unwrap();
    }
}

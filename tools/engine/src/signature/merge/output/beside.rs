//! Files of others with another stack: every byte stays but those that patches change.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use niwaki_container::{Digest, SIDECAR_KEY, State, sidecar_meta};
use niwaki_tensors::{Dtype, Overwrite, PartialFile, check_output, copy_file, write_file};

use super::{Output, Written, corrections, not_restored, remove_if_there, signatures, written};
use crate::compress::Options;
use crate::error::{Error, ErrorKind};
use crate::progress::{Progress, counting};
use crate::signature::merge::current::{next_path, sidecar_path};
use crate::signature::merge::files::{self, File, Place};
use crate::signature::merge::hashes::{Contents, hash};
use crate::signature::merge::restack::{Outcome, Task};
use crate::signature::merge::{Restack, stack};
use crate::source::{Names, Opened};
use crate::target::file_error;

/// Refuses a folder that cannot be written, or in which other weights stand.
pub(super) fn check_folder(opened: &Opened, from: &Path, out: &Path, options: &Options) -> Result<(), Error> {
    let usage = |what: String| Error::from(ErrorKind::Usage { what }).at(out);
    if !out.exists() {
        return Ok(());
    }
    if !out.is_dir() {
        return Err(usage("is a file; of a folder the output is a folder".to_owned()));
    }
    if !options.replace {
        return Err(usage("exists".to_owned()).hinting("`--force` replaces it"));
    }
    let same = out.canonicalize().ok().zip(from.canonicalize().ok()).is_some_and(|(out, from)| out == from);
    if same && files::files(opened).len() > 1 {
        let what = "is the input, of several files, which cannot all be swapped at once".to_owned();
        return Err(usage(what).hinting("write to another folder"));
    }
    Ok(())
}

pub(super) fn write(
    output: &Output<'_>,
    restack: &Restack<'_>,
    contents: Contents,
    tasks: &[Task<'_>],
    progress: Progress<'_>,
) -> Result<Written, Error> {
    let sidecar = sidecar_path(output.out);
    check_output(&sidecar, output.options.overwrite()).or_else(|e| {
        // Without patches there is none to write.
        if restack.new.is_empty() && output.options.replace { Ok(()) } else { Err(e) }
    })?;
    let made = output.folder()?.is_some() && !output.out.exists();
    if made {
        fs::create_dir(output.out).map_err(|e| file_error(&e, output.out))?;
    }
    let outcome = fill(output, restack, contents, tasks, (&sidecar, progress));
    if outcome.is_err() && made {
        // This run made the folder and all that is in it.
        let _ = fs::remove_dir_all(output.out);
    }
    outcome
}

fn fill(
    output: &Output<'_>,
    restack: &Restack<'_>,
    mut contents: Contents,
    tasks: &[Task<'_>],
    (sidecar, progress): (&Path, Progress<'_>),
) -> Result<Written, Error> {
    let files = files::files(output.opened);
    let folder = output.folder()?;
    let path = |file: &File<'_>| match (folder, file.path.file_name()) {
        (Some(_), Some(name)) => output.out.join(name),
        _ => output.out.to_owned(),
    };
    let total: u64 = files.iter().map(|file| file.bytes.len() as u64).sum();
    let create =
        |file: &File<'_>| PartialFile::create(&path(file), file.bytes.len() as u64, output.options.overwrite());
    let to = files.iter().map(create).collect::<Result<Vec<_>, _>>()?;
    let done = counting(progress, total);
    let put = |file: usize, byte: usize, bytes: &[u8]| -> Result<(), Error> {
        to[file].write_at(byte as u64, bytes)?;
        done(bytes.len() as u64);
        Ok(())
    };
    let ranges: Vec<_> = files.iter().map(|file| 0..file.bytes.len()).collect();
    let outcomes = super::fill(restack, (&files, &ranges), (&mut contents, tasks), put)?;
    let base = match restack.current.base() {
        Some(base) => base,
        None => contents.digest(&output.opened.source(None, Names::Own)?)?,
    };
    let states = states(restack, &contents, tasks, &to)?;
    // The new record waits under another name until the files have theirs: whoever is killed in
    // between finds either the old pair or the new one.
    let next = next_path(sidecar);
    let undo_bytes = match restack.new.is_empty() {
        true => 0,
        false => write_record(restack, base, &states, (tasks, &outcomes), &next)?,
    };
    if let Some(folder) = folder {
        copy_others(output, folder)?;
    }
    for to in to {
        to.finish(output.options.durable)?;
    }
    if restack.new.is_empty() {
        remove_if_there(sidecar)?;
        return Ok(Written { outcomes, output_bytes: total, base: Some(base), ..Written::default() });
    }
    fs::rename(&next, sidecar).map_err(|e| file_error(&e, sidecar))?;
    Ok(Written { base: Some(base), outcomes, output_bytes: total, undo_bytes, undo: Some(sidecar.to_owned()) })
}

/// The hashes of all tensors of the files, as they were and as they are.
fn states(
    restack: &Restack<'_>,
    contents: &Contents,
    tasks: &[Task<'_>],
    to: &[PartialFile],
) -> Result<BTreeMap<String, State>, Error> {
    let unchanged = |digest: &Digest| State { original: None, patched: *digest };
    let mut states: BTreeMap<_, _> =
        contents.0.iter().map(|(name, digest)| (name.clone(), unchanged(digest))).collect();
    for task in tasks {
        for (part, _) in task.changing() {
            let Place { file, range } = &task.places[part];
            let name = &task.stored.parts[part].name;
            let patched = written(&to[*file], range.start as u64, range.len())?;
            let before = restack.current.original_content(name).or_else(|| contents.0.get(name).copied());
            let original = before.filter(|_| !task.new.is_empty());
            if task.new.is_empty() && before != Some(patched) {
                return Err(not_restored().of(name).at(restack.opened.path()));
            }
            states.insert(name.clone(), State { original, patched });
        }
    }
    Ok(states)
}

/// Writes the record; its bytes.
fn write_record(
    restack: &Restack<'_>,
    base: Digest,
    states: &BTreeMap<String, State>,
    (tasks, outcomes): (&[Task<'_>], &[Outcome]),
    path: &Path,
) -> Result<u64, Error> {
    let mut blobs = signatures(restack);
    blobs.extend(corrections(tasks, outcomes));
    let hashes = blobs.iter().map(|(name, bytes)| (name.clone(), hash(bytes))).collect();
    let meta = sidecar_meta(base, &stack(restack.new), states, &hashes);
    let shapes: Vec<[usize; 1]> = blobs.iter().map(|(_, bytes)| [bytes.len()]).collect();
    let tensors: Vec<(&str, Dtype, &[usize], &[u8])> = blobs
        .iter()
        .zip(&shapes)
        .map(|((name, bytes), shape)| (name.as_str(), Dtype::U8, shape.as_slice(), *bytes))
        .collect();
    write_file(path, &tensors, &[(SIDECAR_KEY, &meta)], Overwrite::Replace)?;
    Ok(fs::metadata(path).map_err(|e| file_error(&e, path))?.len())
}

/// Copies the folder's other files and its index.
fn copy_others(output: &Output<'_>, folder: &Path) -> Result<(), Error> {
    let Opened::Tensors(artifact) = output.opened else { return Ok(()) };
    let checkpoint = artifact.checkpoint();
    let mut others = checkpoint.folder_files()?;
    if let niwaki_tensors::Source::Folder { index: Some(index), .. } = checkpoint.source() {
        others.push(index.clone());
    }
    let same = output.out.canonicalize().ok() == folder.canonicalize().ok();
    for from in others.iter().filter(|_| !same) {
        let Some(name) = from.file_name() else { continue };
        let to = output.out.join(name);
        copy_file(from, &to, Overwrite::Replace, output.options.durable)?;
    }
    Ok(())
}

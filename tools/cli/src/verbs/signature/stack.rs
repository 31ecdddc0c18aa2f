//! `signature apply`, `signature remove` and `signature list`.

use std::path::Path;
use std::time::Instant;

use niwaki_engine::Options;
use niwaki_engine::dataset::Dataset;
use niwaki_engine::signature::{self, Application, Applied, Patch, Signature, parse_alpha, path_and_alpha, signing};
use niwaki_tensors::{Limits, Overwrite, check_output};
use serde::Serialize;

use crate::args::Output;
use crate::args::signature as args;
use crate::failure::{Failure, Stop};
use crate::progress::Progress;
use crate::session::{Answer, Session};
use crate::size::human;
use crate::table::{Side, Table};
use crate::verbs::{compress, open, threads};

#[derive(Serialize)]
struct Json {
    #[serde(flatten)]
    applied: Applied,
    seconds: f64,
}

/// Writes a checkpoint with signatures added.
pub(super) fn apply(args: &args::Apply, session: &mut Session<'_>) -> Result<Answer, Stop> {
    let start = Instant::now();
    let default = parse_alpha(&args.alpha)?;
    let out = args.output.as_deref().filter(|_| !args.dry_run);
    let opened = open(&args.ckpt)?;
    if args.name.is_some() && args.signatures.len() > 1 {
        return Err(Failure::usage("`--name` is for one signature; several go by the names of their files").into());
    }
    let mut signatures = Vec::new();
    for text in &args.signatures {
        let (path, alpha) = path_and_alpha(text)?;
        let alpha = if path == Path::new(text) { default } else { alpha };
        let signature = Signature::open(path, &Limits::default())?;
        if let Some(key) = &args.signed_by {
            signing::check(path, signature.bytes(), key)?;
        }
        signatures.push((args.name.iter().fold(signature, |signature, name| signature.named(name)), alpha));
    }
    let options =
        Options { threads: threads(session), replace: args.force, durable: args.durable, ..Options::default() };
    if let Some(data) = &args.recalibrate {
        // Before anything is measured.
        if let Some(out) = out.filter(|_| !args.ckpt.is_dir()) {
            check_output(out, if args.force { Overwrite::Replace } else { Overwrite::Refuse })?;
        }
        let data = Dataset::open(data)?;
        let bar = Progress::examples(session);
        let (model, progress) = (args.model.as_deref(), |done, total| bar.at(done, total));
        let patches = patches(&signatures, args.transfer);
        let last = signature::recalibrated(&opened, &patches, model, &data, &options, &progress)?;
        if let Some((signature, _)) = signatures.last_mut() {
            *signature = last;
        }
    }
    let patches = patches(&signatures, args.transfer);
    let how = Application { out, allow_loss: args.allow_loss };
    let progress = Progress::new(session);
    let applied = signature::apply(&opened, &patches, how, &options, &|done, total| progress.at(done, total))?;
    drop(progress);
    answer(applied, out, start, session)
}

fn patches(signatures: &[(Signature, f64)], transfer: bool) -> Vec<Patch<'_>> {
    signatures.iter().map(|(signature, alpha)| Patch { signature, alpha: *alpha, transfer }).collect()
}

/// Signs a file.
pub(super) fn sign(args: &args::Sign, session: &mut Session<'_>) -> Result<Answer, Stop> {
    let written = signing::sign(&args.file, &args.key, args.force)?;
    if session.global.json {
        session.json(&serde_json::json!({"output": written.display().to_string()}))?;
    } else {
        session.say(format!("wrote {}", written.display()))?;
    }
    Ok(Answer::Yes)
}

/// Writes a checkpoint without one of its signatures.
pub(super) fn remove(args: &args::Remove, session: &mut Session<'_>) -> Result<Answer, Stop> {
    let start = Instant::now();
    let Output { output, .. } = &args.output;
    let opened = open(&args.ckpt)?;
    let options = compress::options(&args.output, session);
    let progress = Progress::new(session);
    let applied = signature::remove(&opened, &args.name, output, &options, &|done, total| progress.at(done, total))?;
    drop(progress);
    answer(applied, Some(output), start, session)
}

fn answer(applied: Applied, out: Option<&Path>, start: Instant, session: &mut Session<'_>) -> Result<Answer, Stop> {
    if session.global.json {
        session.json(&Json { applied, seconds: start.elapsed().as_secs_f64() })?;
        return Ok(Answer::Yes);
    }
    if !applied.tensors.is_empty() {
        let columns =
            [("name", Side::Left), ("stored as", Side::Left), ("survival", Side::Right), ("patches", Side::Left)];
        let mut table = Table::new(&columns);
        for t in &applied.tensors {
            let stored = t.scheme.clone().unwrap_or_else(|| t.dtype.clone());
            table.row([t.name.clone(), stored, format!("{:.1} %", t.survival * 100.0), t.patches.join(", ")]);
        }
        session.say_all(table.lines())?;
        session.say("")?;
        session
            .say("Survival is how much of the patches arrives in the stored weights: the rest is lost to rounding.")?;
    }
    for t in applied.tensors.iter().filter(|t| t.mixed) {
        session.note(&format!("tensor `{}`: its patches are stored in different schemes", t.name));
    }
    if let Some(out) = out {
        let names: Vec<_> =
            applied.listed.patches.iter().map(|patch| format!("{}@{}", patch.name, patch.alpha)).collect();
        let stack = if names.is_empty() { "no patch is left".to_owned() } else { names.join(", ") };
        session.say(format!("wrote {}: {}; {stack}", out.display(), human(applied.output_bytes)))?;
    }
    if let Some(undo) = &applied.undo {
        session.say(format!("what takes patches off again is in {}: {}", undo.display(), human(applied.undo_bytes)))?;
    } else if applied.undo_bytes > 0 {
        session.say(format!("what takes patches off again is in the file: {}", human(applied.undo_bytes)))?;
    }
    Ok(Answer::Yes)
}

/// Lists the stack.
pub(super) fn list(args: &args::List, session: &mut Session<'_>) -> Result<Answer, Stop> {
    let opened = open(&args.ckpt)?;
    let options = Options { threads: threads(session), ..Options::default() };
    let listed = signature::list(&opened, &options)?;
    if session.global.json {
        session.json(&listed)?;
        return Ok(Answer::Yes);
    }
    session.say(format!("without patches: digest {}", listed.base_digest))?;
    if listed.patches.is_empty() {
        session.say("no patches")?;
        return Ok(Answer::Yes);
    }
    let columns = [("name", Side::Left), ("alpha", Side::Right), ("tensors", Side::Right), ("bytes", Side::Right)];
    let mut table = Table::new(&columns);
    for patch in &listed.patches {
        table.row([patch.name.clone(), patch.alpha.to_string(), patch.tensors.to_string(), patch.bytes.to_string()]);
    }
    session.say_all(table.lines())?;
    Ok(Answer::Yes)
}

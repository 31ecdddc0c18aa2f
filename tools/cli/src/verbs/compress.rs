//! `compress`: does the plan and reports what it cost.

use std::time::Instant;

use niwaki_engine::{NanPolicy, Options, Report, TensorReport};
use serde::Serialize;

use super::{SQNR, percent, safetensors_only, selection, shape_text, threads};
use crate::args::{Compress, Nan, Output};
use crate::failure::Stop;
use crate::progress::Progress;
use crate::session::{Answer, Session};
use crate::size::human;
use crate::table::{Side, Table};

#[derive(Serialize)]
struct Json {
    #[serde(flatten)]
    report: Report,
    seconds: f64,
}

/// What every writing verb hands to the engine.
pub(super) fn options(output: &Output, session: &Session<'_>) -> Options {
    Options { threads: threads(session), replace: output.force, durable: output.durable, ..Options::default() }
}

/// Compresses a checkpoint into a new file.
pub(crate) fn run(args: &Compress, session: &mut Session<'_>) -> Result<Answer, Stop> {
    let start = Instant::now();
    safetensors_only(&args.to)?;
    let (checkpoint, recipe) = selection::resolve(&args.ckpt, &args.selection, session)?;
    let mut plan = selection::plan(&checkpoint, recipe, args.selection.tail)?;
    let nan = match args.nan {
        Nan::Refuse => NanPolicy::Refuse,
        Nan::Keep => NanPolicy::Keep,
    };
    let options = Options { memory: args.memory, nan, ..options(&args.output, session) };
    let progress = Progress::new(session);
    let report = niwaki_engine::compress(&checkpoint, &mut plan, &args.output.output, &options, &|done, total| {
        progress.at(done, total);
    })?;
    drop(progress);
    if report.resumed > 0 {
        session.note(&format!("went on after an earlier run that had finished {} tensors", report.resumed));
    }
    for t in &plan.tensors {
        if let Some(note) = &t.note {
            session.detail(&format!("tensor `{}`: {note}", t.name));
        }
    }
    if session.global.json {
        session.json(&Json { report, seconds: start.elapsed().as_secs_f64() })?;
    } else {
        session.say_all(table(&report).lines())?;
        summary(&report, args, session)?;
    }
    Ok(Answer::Yes)
}

fn table(report: &Report) -> Table {
    let mut table = Table::new(&[
        ("name", Side::Left),
        ("shape", Side::Left),
        ("stored as", Side::Left),
        ("before", Side::Right),
        ("after", Side::Right),
        ("SQNR", Side::Right),
    ]);
    for t in &report.tensors {
        table.row([
            t.name.clone(),
            shape_text(&t.shape),
            stored_as(t),
            human(t.bytes_before),
            human(t.bytes_after),
            t.sqnr_db.map_or_else(|| "exact".to_owned(), |db| format!("{db:.2} dB")),
        ]);
        if !t.widths.is_empty() {
            let widths: Vec<_> = t.widths.iter().map(|(bits, db)| format!("{bits}: {db:.1}")).collect();
            table.under(format!("dB by width in bits: {}", widths.join(", ")));
        }
    }
    table
}

fn stored_as(t: &TensorReport) -> String {
    match (&t.scheme, t.fate) {
        (None, "sparse") => "sparse".to_owned(),
        (None, _) => "as it was".to_owned(),
        (Some(scheme), _) => scheme.clone(),
    }
}

fn summary(report: &Report, args: &Compress, session: &mut Session<'_>) -> Result<(), Stop> {
    let (before, after) = (report.input_bytes, report.output_bytes);
    session.say("")?;
    session.say(format!(
        "{} became {} ({}), {:.2} bits per weight",
        human(before),
        human(after),
        percent(after, before),
        report.bits_per_weight
    ))?;
    session.say(format!("wrote {}, digest {}", args.output.output.display(), short(&report.digest)))?;
    session.say(SQNR)?;
    Ok(())
}

/// The first digits of a digest: enough to tell files apart by eye.
pub(super) fn short(digest: &str) -> String {
    digest.chars().take(16).collect()
}

//! `compress`: does the plan and reports what it cost.

use std::time::Instant;

use niwaki_engine::plan::{Plan, Planned};
use niwaki_engine::{Damped, Device, Format, NanPolicy, Options, Report, TensorReport};
use serde::Serialize;

use super::patches::Open;
use super::{SQNR, check_place, open, percent, search, selection, shape_text, threads};
use crate::args::{Compress, Nan, Output};
use crate::failure::{Failure, Stop};
use crate::progress::Progress;
use crate::session::{Answer, Session};
use crate::size::human;
use crate::table::{Side, Table};

#[derive(Serialize)]
struct Json {
    #[serde(flatten)]
    report: Report,
    /// Which share of the plan was done, where not all of it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<String>,
    seconds: f64,
}

/// What every writing verb hands to the engine.
pub(super) fn options(output: &Output, session: &Session<'_>) -> Options {
    Options { threads: threads(session), replace: output.force, durable: output.durable, ..Options::default() }
}

/// Compresses a checkpoint into a new file.
pub(crate) fn run(args: &Compress, device: Device, session: &mut Session<'_>) -> Result<Answer, Stop> {
    let start = Instant::now();
    let format: Format = args.selection.to.parse()?;
    match args.part {
        Some(_) => check_parts(&args.output)?,
        None => check_place(&args.output, &args.ckpt, format)?,
    }
    let opened = open(&args.ckpt)?;
    let source = opened.source(None, selection::names(&args.selection.to))?;
    let given = match &args.budget {
        Some(text) => match search::budgeted(&source, args, text, session)? {
            Some(recipe) => Some(recipe),
            None => return Ok(Answer::No),
        },
        None if !args.among.schemes.is_empty() || args.among.rest.is_some() => {
            return Err(Failure::usage("`--schemes` and `--rest` without `--budget`").into());
        }
        None => selection::given(&args.selection)?,
    };
    let fewer = selection::fewer(&opened, given.as_ref())?;
    let source = selection::without(fewer.as_ref(), source)?;
    let (destination, recipe) = selection::resolve(&source, &args.selection, given, session)?;
    let patches = Open::of_recipe(&recipe)?;
    let source = patches.over(&opened, None, selection::names(&args.selection.to))?;
    let source = selection::without(fewer.as_ref(), source)?;
    let folded = selection::folded(&source, &recipe, (&args.selection, &destination), session)?;
    let source = selection::over(folded.as_ref(), source);
    let mut plan = selection::plan(&source, recipe, &args.selection, destination, session)?;
    let planned: Vec<bool> = plan.tensors.iter().map(|t| t.note.is_some()).collect();
    let nan = match args.nan {
        Nan::Refuse => NanPolicy::Refuse,
        Nan::Keep => NanPolicy::Keep,
    };
    let options = Options { memory: args.memory, nan, device, share: args.part, ..options(&args.output, session) };
    let progress = Progress::new(session);
    let out = &args.output.output;
    let report = niwaki_engine::compress(&source, &mut plan, out, &options, &|done, total| {
        progress.at(done, total);
    })?;
    drop(progress);
    for Damped { name, damping } in &report.damped {
        session.note(&format!("tensor `{name}`: its inputs say too little for the usual damping; it took {damping}"));
    }
    notes(&plan, &planned, &report, session);
    if session.global.json {
        let part = args.part.map(|share| share.to_string());
        session.json(&Json { report, part, seconds: start.elapsed().as_secs_f64() })?;
    } else {
        session.say_all(table(&report, &plan).lines())?;
        summary(&report, &plan, args, session)?;
    }
    Ok(Answer::Yes)
}

/// Looks at the place of a part before any work is done.
fn check_parts(output: &Output) -> Result<(), Stop> {
    let path = &output.output;
    let file = ["safetensors", "gguf", "onnx"];
    if path.extension().is_some_and(|e| file.iter().any(|file| e.eq_ignore_ascii_case(file))) {
        let failure = Failure::usage(format!("`{}`: the output of `--part` is a folder", path.display()));
        return Err(failure.hinting("`join FOLDER -o FILE` writes one file of all parts").into());
    }
    Ok(())
}

/// What the plan did not say; what it did say is for `-v`.
fn notes(plan: &Plan, planned: &[bool], report: &Report, session: &mut Session<'_>) {
    if report.resumed > 0 {
        session.note(&format!("went on after an earlier run that had finished {} tensors", report.resumed));
    }
    dropped(plan, session);
    for (t, planned) in plan.tensors.iter().zip(planned) {
        let Some(note) = &t.note else { continue };
        let line = format!("tensor `{}`: {note}", t.name);
        match (planned, &t.coding) {
            (true, _) => session.detail(&line),
            (false, None) => session.note(&format!("{line}; carried as it is")),
            (false, Some(_)) => session.note(&line),
        }
    }
}

/// Says which tensors are not written.
pub(super) fn dropped(plan: &Plan, session: &mut Session<'_>) {
    for (name, why) in &plan.dropped {
        session.note(&format!("tensor `{name}` is left out: {why}"));
    }
}

pub(super) fn table(report: &Report, plan: &Plan) -> Table {
    let mut table = Table::new(&[
        ("name", Side::Left),
        ("shape", Side::Left),
        ("stored as", Side::Left),
        ("before", Side::Right),
        ("after", Side::Right),
        ("SQNR", Side::Right),
    ]);
    for (t, planned) in report.tensors.iter().zip(&plan.tensors) {
        table.row([
            t.name.clone(),
            shape_text(&t.shape),
            stored_as(t, planned),
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

fn stored_as(t: &TensorReport, planned: &Planned) -> String {
    let codes = t.scheme.clone();
    match planned.layout.kept {
        Some(kept) => {
            let codes = codes.unwrap_or_else(|| "sparse".to_owned());
            format!("{codes}, {} kept", percent(kept.weights as u64, planned.elements() as u64))
        }
        None => codes.unwrap_or_else(|| match &planned.coding {
            Some(_) => format!("{}, decoded", planned.layout.dtype),
            None if planned.changed => format!("{}, changed", planned.layout.dtype),
            None => "as it was".to_owned(),
        }),
    }
}

fn summary(report: &Report, plan: &Plan, args: &Compress, session: &mut Session<'_>) -> Result<(), Stop> {
    let (before, after) = (report.input_bytes, report.output_bytes);
    let tensors: u64 = report.tensors.iter().map(|t| t.bytes_after).sum();
    session.say("")?;
    session.say(format!("{} became {} ({})", human(before), human(after), percent(after, before)))?;
    session.say(format!(
        "of these {} are weights, {:.2} bits each; {} are {}",
        human(tensors),
        report.bits_per_weight,
        human(after.saturating_sub(tensors)),
        if report.digest.is_some() { "names, digests and this report" } else { "names and metadata" }
    ))?;
    let digest = report.digest.as_ref().map(|digest| format!(", digest {}", short(digest))).unwrap_or_default();
    match args.part {
        Some(share) => {
            let file = args.output.output.join(share.file_name());
            session.say(format!("wrote {}, part {share}{digest}", file.display()))?;
        }
        None => session.say(format!("wrote {}{digest}", args.output.output.display()))?,
    }
    session.say(SQNR)?;
    if plan.tensors.iter().any(|t| t.layout.kept.is_some()) {
        session
            .say("Where a mask keeps some weights, it is that of the weights kept; `compare` counts all of them.")?;
    }
    Ok(())
}

/// The first digits of a digest: enough to tell files apart by eye.
pub(super) fn short(digest: &str) -> String {
    digest.chars().take(16).collect()
}

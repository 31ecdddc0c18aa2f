//! `signature import` and `signature export`.

use std::time::Instant;

use niwaki_engine::Names;
use niwaki_engine::signature::{self, Exported, Signature};
use niwaki_tensors::{Dtype, Limits};
use serde::Serialize;

use super::{Written, encoding};
use crate::args::signature as args;
use crate::failure::Stop;
use crate::progress::Progress;
use crate::session::{Answer, Session};
use crate::size::human;
use crate::table::{Side, Table};
use crate::verbs::{check_output, compress, counted, open};

#[derive(Serialize)]
struct Json {
    format: &'static str,
    #[serde(flatten)]
    exported: Exported,
    seconds: f64,
}

/// Makes a signature of an adapter.
pub(super) fn import(args: &args::Import, session: &mut Session<'_>) -> Result<Answer, Stop> {
    let start = Instant::now();
    check_output(&args.output)?;
    let opened = open(&args.standard)?;
    let source = opened.source(None, Names::HuggingFace)?;
    let encoding = encoding(&args.encoding)?;
    let options = compress::options(&args.output, session);
    let progress = Progress::new(session);
    let out = &args.output.output;
    let report = signature::import(&args.adapter, &source, &encoding, out, &options, &|done, total| {
        progress.at(done, total);
    })?;
    drop(progress);
    Written::new(report, start).say(out, session)
}

/// Writes a signature as an adapter.
pub(super) fn export(args: &args::Export, session: &mut Session<'_>) -> Result<Answer, Stop> {
    let start = Instant::now();
    let signature = Signature::open(&args.signature, &Limits::default())?;
    let options = compress::options(&args.output, session);
    let out = &args.output.output;
    let exported = signature::export_peft(&signature, args.rank, Dtype::F32, out, &options)?;
    if session.global.json {
        session.json(&Json { format: "peft", exported, seconds: start.elapsed().as_secs_f64() })?;
        return Ok(Answer::Yes);
    }
    for name in &exported.left_out {
        session.note(&format!("tensor `{name}` is left out: an adapter of PEFT holds matrices only"));
    }
    let mut table = Table::new(&[("name", Side::Left), ("rank", Side::Right), ("relative error", Side::Right)]);
    for t in &exported.tensors {
        table.row([t.name.clone(), t.rank.to_string(), format!("{:.4}", t.relative_error)]);
    }
    session.say_all(table.lines())?;
    session.say("")?;
    let (matrices, bytes) = (counted(exported.tensors.len()), human(exported.output_bytes));
    session.say(format!("wrote {}: {matrices}, {bytes}", out.display()))?;
    Ok(Answer::Yes)
}

//! `export`: a checkpoint in another format.

mod device;

use std::time::Instant;

use niwaki_engine::qdq::{self, Eight, Fixed, Range};
use niwaki_engine::{Destination, Format, Names, Opened, Plan, Recipe, Stats, Tail, export};
use serde::Serialize;

use super::patches::Open;
use super::{check_place, compress, load, open, percent, selection, width};
use crate::args::calibrate::{Range as How, Static};
use crate::args::{Activations, Export};
use crate::failure::{Failure, Stop};
use crate::progress::Progress;
use crate::session::{Answer, Session};
use crate::size::human;

/// Percent of the values that lie between the ends of a grid, where nobody says it.
const PERCENT: f64 = 99.99;

#[derive(Serialize)]
struct Json {
    format: &'static str,
    output_bytes: u64,
}

#[derive(Serialize)]
struct Exported {
    format: &'static str,
    #[serde(flatten)]
    report: niwaki_engine::Report,
    seconds: f64,
}

#[derive(Serialize)]
struct InEightBits {
    format: &'static str,
    #[serde(flatten)]
    fixed: Fixed,
    output_bytes: u64,
}

/// How far inputs reach that has been asked for.
fn range(args: &Static) -> Result<Range, Stop> {
    match (args.range.unwrap_or(How::Minmax), args.percentile) {
        (How::Percentile, percent) => {
            let percent = percent.unwrap_or(PERCENT);
            let fits = percent > 0.0 && percent <= 100.0;
            let wrong = || Failure::usage(format!("`--percentile {percent}`: expected more than 0, at most 100"));
            fits.then_some(Range::Share(percent / 100.0)).ok_or_else(|| wrong().into())
        }
        (_, Some(_)) => Err(Failure::usage("`--percentile` is for `--range percentile`").into()),
        (How::Minmax, None) => Ok(Range::MinMax),
        (How::Mse, None) => Ok(Range::Mse),
    }
}

/// Refuses flags that mean nothing elsewhere.
fn refuse_static(of: &Static) -> Result<(), Stop> {
    let given = [
        ("--stats", of.stats.is_some()),
        ("--range", of.range.is_some()),
        ("--percentile", of.percentile.is_some()),
        ("--correct-bias", of.correct_bias),
    ];
    match given.into_iter().find(|(_, given)| *given) {
        Some(("--stats", _)) => {
            Err(Failure::usage("`--stats` is for `--to onnx --activations static`, `--to image` and `--to c`").into())
        }
        Some((flag, _)) => Err(Failure::usage(format!("`{flag}` is for `--to onnx --activations static`")).into()),
        None => Ok(()),
    }
}

/// Writes a model whose layers have weights and inputs in 8 bits.
fn fixed(args: &Export, opened: &Opened, session: &mut Session<'_>) -> Result<Answer, Stop> {
    let Some(stats) = &args.fixed.stats else {
        let failure = Failure::usage("`--activations static` without `--stats`: nothing says how far inputs reach");
        return Err(failure.hinting("`calibrate` makes statistics").into());
    };
    if args.bits.is_some() || !args.patches.patch.is_empty() {
        return Err(Failure::usage("`--activations static` with `--bits` or `--patch`").into());
    }
    let out = &args.output.output;
    let (model, stats) = (load(&args.file, None.into(), session)?, Stats::open(stats)?);
    let source = opened.source(None, Names::Own)?;
    let how = Eight { range: range(&args.fixed)?, correct: args.fixed.correct_bias };
    let fixed = qdq::fixed(&model, &source, (&stats, how), (out, args.output.overwrite()))?;
    for name in &fixed.unknown {
        session.note(&format!("tensor `{name}`: no statistics of its inputs; its layer stays in floats"));
    }
    let output_bytes = std::fs::metadata(out).map_or(0, |file| file.len());
    if session.global.json {
        session.json(&InEightBits { format: "onnx", fixed, output_bytes })?;
        return Ok(Answer::Yes);
    }
    let (before, count) = (opened.file_bytes(), fixed.layers.len());
    session.say(format!("weights and inputs of {count} layers in 8 bits"))?;
    let share = percent(output_bytes, before);
    session.say(format!("wrote {}: {} ({share} of the input)", out.display(), human(output_bytes)))?;
    Ok(Answer::Yes)
}

/// Writes a checkpoint in another format, or a model for a device.
pub(crate) fn run(args: &Export, session: &mut Session<'_>) -> Result<Answer, Stop> {
    if let Some(form) = device::Form::of(&args.to) {
        return device::run(args, form, session);
    }
    for (flag, given) in [("--scheme", args.scheme.is_some()), ("--fit", args.fit.is_some()), ("--sparse", args.sparse)]
    {
        if given {
            return Err(Failure::usage(format!("`{flag}` is for `--to image` and `--to c`")).into());
        }
    }
    checkpoint(args, session)
}

/// Writes decoded weights as plain safetensors, or codes in the layout of another tool.
fn checkpoint(args: &Export, session: &mut Session<'_>) -> Result<Answer, Stop> {
    let start = Instant::now();
    let format: Format = args.to.parse()?;
    let bits = args.bits.map(width).transpose()?;
    check_place(&args.output, &args.file, format)?;
    let opened = open(&args.file)?;
    if args.engine.activations == Activations::Static && format == Format::Onnx {
        return fixed(args, &opened, session);
    }
    refuse_static(&args.fixed)?;
    let patches = Open::new(&args.patches)?;
    let (out, options) = (&args.output.output, compress::options(&args.output, session));
    if format == Format::Safetensors {
        let source = patches.over(&opened, bits, Names::HuggingFace)?;
        let bytes = export::safetensors(&source, out, &options)?;
        if session.global.json {
            session.json(&Json { format: "safetensors", output_bytes: bytes })?;
        } else {
            session.say(format!("wrote {}: {} of plain safetensors", out.display(), human(bytes)))?;
        }
        return Ok(Answer::Yes);
    }
    // ONNX has no codes that serve several widths: such tensors are read at one, and decoded.
    let (read, codes) = if format == Format::Onnx { (bits, None) } else { (None, bits) };
    let source = patches.over(&opened, read, selection::names(&args.to))?;
    let settings = selection::settings(format, codes, &args.engine)?;
    let destination = Destination::new(format, &source, &settings)?;
    let mut plan = Plan::new(&source, Recipe::default(), Tail::Short, destination)?;
    for warning in plan.to.warnings() {
        session.note(warning);
    }
    compress::dropped(&plan, session);
    for t in &plan.tensors {
        if let Some(note) = &t.note {
            session.detail(&format!("tensor `{}`: {note}", t.name));
        }
    }
    let progress = Progress::new(session);
    let report = niwaki_engine::compress(&source, &mut plan, out, &options, &|done, total| {
        progress.at(done, total);
    })?;
    drop(progress);
    if session.global.json {
        session.json(&Exported { format: format.name(), report, seconds: start.elapsed().as_secs_f64() })?;
        return Ok(Answer::Yes);
    }
    session.say_all(compress::table(&report, &plan).lines())?;
    session.say("")?;
    let lost = report.tensors.iter().filter(|t| t.sqnr_db.is_some()).count();
    session.say(match lost {
        0 => "nothing was lost: every tensor decodes to the same numbers".to_owned(),
        n => {
            format!("{n} of {} tensors are not exactly what they were; SQNR is against the input", report.tensors.len())
        }
    })?;
    let (before, after) = (report.input_bytes, report.output_bytes);
    session.say(format!("wrote {}: {} ({} of the input)", out.display(), human(after), percent(after, before)))?;
    Ok(Answer::Yes)
}

//! `calibrate`: what flows into the layers of a model.

use std::time::Instant;

use niwaki_engine::calibrate::{Calibrated, Calibration, calibrate};
use niwaki_engine::train::Lessons;
use niwaki_engine::{Device, Names, Stats, imatrix};
use serde::Serialize;

use super::{check_output, counted, load, on_threads, open};
use crate::args::calibrate as args;
use crate::failure::{Failure, Stop};
use crate::progress::Progress;
use crate::session::{Answer, Session};
use crate::size::human;

#[derive(Serialize)]
struct Json {
    #[serde(flatten)]
    calibrated: Calibrated,
    seconds: f64,
}

/// Writes statistics.
pub(crate) fn run(args: &args::Calibrate, device: &Device, session: &mut Session<'_>) -> Result<Answer, Stop> {
    check_output(&args.output)?;
    if args.limit == 0 {
        return Err(Failure::usage("`--limit 0`: at least one example is needed").into());
    }
    if let Some(path) = &args.imatrix {
        niwaki_tensors::check_output(path, args.output.overwrite())?;
        if *path == args.output.output {
            return Err(Failure::usage("`--imatrix` and `-o` name the same file").into());
        }
    }
    let start = Instant::now();
    let model = load(&args.model, args.weights.as_deref().into(), session)?;
    let data = Lessons::open(&args.data, &model)?;
    let how = Calibration {
        model: &model,
        checkpoint: args.weights.as_deref().unwrap_or(&args.model),
        data: &data,
        limit: args.limit,
        seed: session.global.seed.unwrap_or(0),
        gram: args.gram,
        histogram: args.histogram,
        device,
    };
    let bar = Progress::examples(session);
    let progress = |done, total| bar.at(done, total);
    let out = (args.output.output.as_path(), args.output.overwrite());
    let calibrated = on_threads(session, || calibrate(&how, out, &progress))?;
    drop(bar);
    if let Some(path) = &args.imatrix {
        let opened = open(how.checkpoint)?;
        let source = opened.source(None, Names::Own)?;
        imatrix::write(&Stats::open(&args.output.output)?, &source, (path, args.output.overwrite()))?;
    }
    for name in &calibrated.without_gram {
        session.note(&format!("tensor `{name}`: no Gram matrix: it is multiplied with columns, or volumes"));
    }
    match calibrated.unreached.as_slice() {
        [] => {}
        names => session.note(&format!(
            "no layer multiplies with {} as {}: `{}`",
            counted(names.len()),
            if names.len() == 1 { "it stands" } else { "they stand" },
            names.join("`, `")
        )),
    }
    if session.global.json {
        session.json(&Json { calibrated, seconds: start.elapsed().as_secs_f64() })?;
        return Ok(Answer::Yes);
    }
    let Calibrated { examples, layers, grams, bytes, .. } = calibrated;
    let name = data.name();
    let matrices = if args.gram { format!(", {grams} Gram matrices") } else { String::new() };
    session.say(format!("inputs of {layers} layers on {examples} {name}{matrices}, {}", human(bytes)))?;
    for out in [Some(&args.output.output), args.imatrix.as_ref()].into_iter().flatten() {
        session.say(format!("wrote {}", out.display()))?;
    }
    Ok(Answer::Yes)
}

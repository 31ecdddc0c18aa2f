//! `signature extract` and `signature temperature`.

use std::time::Instant;

use niwaki_engine::Names;
use niwaki_engine::signature::{self, Checkpoints, Extracted, Extraction, Layers, Norms, Temperature};
use serde::Serialize;

use super::{Written, encoding};
use crate::args::signature as args;
use crate::failure::{Failure, Stop};
use crate::progress::Progress;
use crate::session::{Answer, Session};
use crate::size::human;
use crate::table::{Side, Table};
use crate::verbs::{check_output, compress, counted, open};

#[derive(Serialize)]
struct Json {
    #[serde(flatten)]
    extracted: Extracted,
    seconds: f64,
}

/// Makes a signature from checkpoints.
pub(super) fn extract(args: &args::Extract, session: &mut Session<'_>) -> Result<Answer, Stop> {
    let start = Instant::now();
    check_output(&args.output)?;
    if args.interpolate && args.init.is_some() {
        return Err(Failure::usage("`--interpolate` is between two checkpoints; leave `--init` out").into());
    }
    let what = Extraction {
        layers: match (args.layers, args.energy) {
            (Some(count), _) => Layers::First(count),
            (_, Some(share)) => Layers::Energy(share),
            _ => Layers::All,
        },
        norms: match args.norms {
            args::Norms::All => Norms::All,
            args::Norms::Kept => Norms::Kept,
            args::Norms::None => Norms::None,
        },
        only: args.only.clone(),
        interpolate: args.interpolate,
        encoding: encoding(&args.encoding)?,
    };
    let init = args.init.as_ref().map(|path| open(path)).transpose()?;
    let (standard, robust) = (open(&args.standard)?, open(&args.robust)?);
    let names = Names::HuggingFace;
    let init = init.as_ref().map(|init| init.source(None, names)).transpose()?;
    let (standard, robust) = (standard.source(None, names)?, robust.source(None, names)?);
    let from = Checkpoints { init: init.as_ref(), standard: &standard, robust: &robust };
    let options = compress::options(&args.output, session);
    let progress = Progress::new(session);
    let out = &args.output.output;
    let extracted = signature::extract(from, &what, out, &options, &|done, total| progress.at(done, total))?;
    drop(progress);
    if session.global.json {
        session.json(&Json { extracted, seconds: start.elapsed().as_secs_f64() })?;
        return Ok(Answer::Yes);
    }
    session.say_all(table(&extracted).lines())?;
    session.say("")?;
    let (bytes, copy) = (extracted.bytes, extracted.copy_bytes);
    let tensors = counted(extracted.report.tensors.len());
    session.say(format!("{} weights of {tensors} in {}", extracted.weights, human(bytes)))?;
    session.say(format!(
        "a copy of the checkpoint takes {}: {:.1} times as much",
        human(copy),
        copy as f64 / bytes as f64
    ))?;
    session.say(format!("wrote {}", out.display()))?;
    Ok(Answer::Yes)
}

fn table(extracted: &Extracted) -> Table {
    let mut table = Table::new(&[
        ("layer", Side::Left),
        ("weights", Side::Right),
        ("relative difference", Side::Right),
        ("energy", Side::Right),
        ("", Side::Left),
    ]);
    for layer in &extracted.layers {
        table.row([
            layer.name.clone(),
            layer.weights.to_string(),
            layer.relative_difference.map_or_else(|| "-".to_owned(), |x| format!("{x:.4}")),
            format!("{:.1} %", layer.energy * 100.0),
            if layer.kept { "kept" } else { "left out" }.to_owned(),
        ]);
    }
    table
}

/// Makes a signature that gives attention another temperature.
pub(super) fn temperature(args: &args::Temperature, session: &mut Session<'_>) -> Result<Answer, Stop> {
    let start = Instant::now();
    check_output(&args.output)?;
    let opened = open(&args.ckpt)?;
    let source = opened.source(None, Names::HuggingFace)?;
    let heads = args.of.filter(|_| !args.heads.is_empty()).map(|of| (args.heads.clone(), of));
    let what = Temperature { value: args.temperature, queries: args.queries.clone(), heads };
    let options = compress::options(&args.output, session);
    let out = &args.output.output;
    let report = signature::temperature(&source, &what, out, &options, &|_, _| {})?;
    Written::new(report, start).say(out, session)
}

//! `dynamic` of models of text: thresholds of the channels of feed-forward parts.

use std::time::Instant;

use niwaki_engine::dynamic::{Target, TextMeasured, TextPlanned, TextPlanning, TextRow, Thresholds};
use niwaki_engine::dynamic::{measure_text, plan_text};
use serde::Serialize;

use super::{PlanJson, args, percent};
use crate::args::Output;
use crate::failure::{Failure, Stop};
use crate::progress::Progress;
use crate::session::{Answer, Session};
use crate::table::{Side, Table};
use crate::verbs::{check_output, on_threads};

/// Plans, and writes thresholds.
pub(super) fn plan(args: &args::Plan, session: &mut Session<'_>) -> Result<Answer, Stop> {
    let start = Instant::now();
    let output = args.output.clone().map(|output| Output { output, force: args.force, durable: false });
    output.as_ref().map(check_output).transpose()?;
    if output.is_some() && args.macs.is_none() && args.mass.len() != 1 {
        let what = "`--output` takes the thresholds of one share: --macs SHARE, or --mass R".to_owned();
        return Err(Failure::usage(what).into());
    }
    let how = TextPlanning {
        data: &args.data,
        examples: args.examples,
        seed: session.global.seed.unwrap_or(0),
        target: if args.uniform { Target::Uniform } else { Target::Mass },
        shares: &args.mass,
        budget: args.macs,
    };
    let bar = Progress::examples(session);
    let progress = |done, total| bar.at(done, total);
    let given = args.weights.as_deref().into();
    let (planned, thresholds) = on_threads(session, || plan_text(&args.model, given, &how, &progress))?;
    drop(bar);
    let written = output.as_ref().zip(thresholds);
    if let Some((output, thresholds)) = &written {
        thresholds.write((&output.output, output.overwrite()))?;
    }
    let answer = if planned.least.is_some() { Answer::No } else { Answer::Yes };
    if session.global.json {
        session.json(&PlanJson { planned, seconds: start.elapsed().as_secs_f64() })?;
        return Ok(answer);
    }
    say_planned(args, &planned, session)?;
    if let Some((output, _)) = written {
        session.say(format!("wrote {}", output.output.display()))?;
    }
    Ok(answer)
}

fn say_planned(args: &args::Plan, planned: &TextPlanned, session: &mut Session<'_>) -> Result<(), Stop> {
    let TextPlanned { layers, examples, tokens, dense, table: rows, picked, least } = planned;
    session.say(format!("{layers} feed-forward parts looked at on {tokens} tokens of {examples} texts"))?;
    session.say(format!("{dense} MACs of linear layers for one token"))?;
    session.say("")?;
    let share = if args.uniform { "uniform" } else { "mass" };
    let columns =
        [(share, Side::Left), ("channels", Side::Right), ("feed-forward MACs", Side::Right), ("MACs", Side::Right)];
    let mut table = Table::new(&columns);
    let row = |of: &TextRow| [of.mass.to_string(), percent(of.channels), percent(of.feed_forward), percent(of.share)];
    rows.iter().for_each(|of| table.row(row(of)));
    session.say_all(table.lines())?;
    let Some(budget) = args.macs else { return Ok(()) };
    session.say("")?;
    let line = match (picked, least) {
        (Some(of), _) => {
            format!(
                "{share} {} leaves {} of the MACs, {} of the channels",
                of.mass,
                percent(of.share),
                percent(of.channels)
            )
        }
        (None, Some(of)) => {
            let least = percent(of.share);
            format!("no thresholds leave {} of the MACs: the greatest leave {least}", percent(budget))
        }
        (None, None) => return Ok(()),
    };
    Ok(session.say(line)?)
}

#[derive(Serialize)]
struct EvalJson {
    #[serde(flatten)]
    measured: TextMeasured,
    seconds: f64,
}

/// Measures.
pub(super) fn eval(args: &args::Eval, session: &mut Session<'_>) -> Result<Answer, Stop> {
    let start = Instant::now();
    let thresholds = Thresholds::open(&args.heads)?;
    let bar = Progress::examples(session);
    let progress = |done, total| bar.at(done, total);
    let on = (args.data.as_path(), args.limit);
    let measured = on_threads(session, || measure_text(&args.model, &thresholds, on, &progress))?;
    drop(bar);
    if session.global.json {
        session.json(&EvalJson { measured, seconds: start.elapsed().as_secs_f64() })?;
        return Ok(Answer::Yes);
    }
    let columns =
        [("layer", Side::Left), ("channels", Side::Right), ("threshold", Side::Right), ("computed", Side::Right)];
    let mut table = Table::new(&columns);
    for layer in &measured.layers {
        let threshold = format!("{:.5}", layer.threshold);
        table.row([layer.layer.clone(), layer.channels.to_string(), threshold, percent(layer.active)]);
    }
    session.say_all(table.lines())?;
    session.say("")?;
    let by = &measured.evaluation;
    let found = [
        by.perplexity.map(|x| format!("perplexity {x:.2}")),
        by.loss.map(|x| format!("loss {x:.4}")),
        by.accuracy.map(|x| format!("accuracy {}", percent(x))),
        by.cosine.map(|x| format!("cosine {x:.6}")),
    ];
    let found: Vec<String> = found.into_iter().flatten().collect();
    session.say(format!("{}, of {} examples", found.join(", "), by.examples))?;
    session.say(format!(
        "{} of channels, {} of feed-forward MACs, {} of {} MACs of linear layers for one token",
        percent(measured.channels),
        percent(measured.feed_forward),
        percent(measured.share),
        measured.dense
    ))?;
    Ok(Answer::Yes)
}

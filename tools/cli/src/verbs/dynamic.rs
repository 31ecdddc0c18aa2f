//! `dynamic`: only the channels that an image needs.

mod text;

use std::time::Instant;

use niwaki_engine::Ratio;
use niwaki_engine::dataset::Dataset;
use niwaki_engine::dynamic::{self, HeadsFile, Measured, Network, Planned, Planning, Pool, Row, Target};
use niwaki_engine::train::{At, Trained};
use serde::Serialize;

use super::train::{Done, Lesson, passes, settings, watched};
use super::{check_output, load, on_threads};
use crate::args::dynamic as args;
use crate::failure::{Failure, Stop};
use crate::progress::Progress;
use crate::session::{Answer, Session};
use crate::size::human;
use crate::table::{Side, Table};

/// The learning rate of a backbone that nothing is said of (Fire Together Wire Together, its code).
const RATE: f64 = 0.01;

/// Images that a plan looks at where nothing is said of it.
const EXAMPLES: usize = 512;

/// Does what was asked.
pub(crate) fn run(args: &args::Dynamic, session: &mut Session<'_>) -> Result<Answer, Stop> {
    match args {
        args::Dynamic::Plan(args) => plan(args, session),
        args::Dynamic::Train(args) => train(args, session),
        args::Dynamic::Eval(args) => eval(args, session),
        args::Dynamic::Export(args) => export(args, session),
    }
}

/// A share as it was typed.
fn ratio(flag: &str, share: f64) -> Result<Ratio, Stop> {
    Ratio::new(share).map_err(|e| Failure::usage(format!("`{flag} {share}`: {e}")).into())
}

/// A share in percent.
fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

#[derive(Serialize)]
struct PlanJson<P> {
    #[serde(flatten)]
    planned: P,
    seconds: f64,
}

/// Plans.
fn plan(args: &args::Plan, session: &mut Session<'_>) -> Result<Answer, Stop> {
    if args.model.is_dir() {
        return text::plan(args, session);
    }
    if args.output.is_some() {
        let what = "`--output` takes thresholds, which only models of text in Hugging Face folders have".to_owned();
        return Err(Failure::usage(what).into());
    }
    let start = Instant::now();
    let model = load(&args.model, args.weights.as_deref().into(), session)?;
    let data = Dataset::open(&args.data)?;
    let how = Planning {
        data: &data,
        examples: args.examples.unwrap_or(EXAMPLES),
        seed: session.global.seed.unwrap_or(0),
        target: if args.uniform { Target::Uniform } else { Target::Mass },
        shares: &args.mass,
        budget: args.macs,
    };
    let bar = Progress::examples(session);
    let progress = |done, total| bar.at(done, total);
    let planned = on_threads(session, || dynamic::plan(&model, &how, &progress))?;
    drop(bar);
    let answer = if planned.least.is_some() { Answer::No } else { Answer::Yes };
    if session.global.json {
        session.json(&PlanJson { planned, seconds: start.elapsed().as_secs_f64() })?;
        return Ok(answer);
    }
    say_planned(args, &planned, session)?;
    Ok(answer)
}

fn say_planned(args: &args::Plan, planned: &Planned, session: &mut Session<'_>) -> Result<(), Stop> {
    let Planned { layers, examples, table: rows, picked, least } = planned;
    if let Some(Row { macs, .. }) = rows.first() {
        let (dense, heads) = (macs.dense, macs.heads);
        session.say(format!("{layers} convolutions looked at on {examples} images"))?;
        session.say(format!("{dense} MACs without masks, {heads} of heads"))?;
        session.say("")?;
    }
    let share = if args.uniform { "uniform" } else { "mass" };
    let columns = [(share, Side::Left), ("channels", Side::Right), ("MACs", Side::Right), ("paper's", Side::Right)];
    let mut table = Table::new(&columns);
    let row =
        |of: &Row| [of.mass.to_string(), percent(of.channels), percent(of.macs.share), percent(of.macs.paper_share)];
    rows.iter().for_each(|of| table.row(row(of)));
    session.say_all(table.lines())?;
    let Some(budget) = args.macs else { return Ok(()) };
    session.say("")?;
    let line = match (picked, least) {
        (Some(of), _) => format!(
            "--{share} {} leaves {} of the MACs, {} as the paper counts",
            of.mass,
            percent(of.macs.share),
            percent(of.macs.paper_share)
        ),
        (None, Some(of)) => {
            let least = percent(of.macs.share);
            format!("no masks leave {} of the MACs: the smallest leave {least}", percent(budget))
        }
        (None, None) => return Ok(()),
    };
    Ok(session.say(line)?)
}

/// Trains.
fn train(args: &args::Train, session: &mut Session<'_>) -> Result<Answer, Stop> {
    check_output(&args.output)?;
    let target = match (args.mass, args.uniform) {
        (Some(mass), _) => Target::Mass(ratio("--mass", mass)?),
        (None, uniform) => Target::Uniform(ratio("--uniform", uniform.unwrap_or(1.0))?),
    };
    if !(args.head_lr > 0.0 && args.head_lr.is_finite()) {
        return Err(Failure::usage(format!("`--head-lr {}`: expected a number above 0", args.head_lr)).into());
    }
    let pool = match args.pool {
        args::Pool::Max => Pool::Max,
        args::Pool::Average => Pool::Average,
    };
    let how = dynamic::Dynamic { target, pool, joint: args.joint, fixed: args.fixed, rate: args.head_lr };
    let at = Lesson::open(
        (&args.model, args.weights.as_deref()),
        (&args.data, args.eval_data.as_deref()),
        &args.way,
        session,
    )?;
    let mut settings = settings(args.epochs, &args.way, &at.data, session.global.seed.unwrap_or(0))?;
    let steps = &args.way.steps;
    if steps.optimizer.is_none() {
        settings.rate = steps.lr.unwrap_or(RATE);
    }
    let task = at.task(&args.output);
    let work = |tell: &mut dyn FnMut(At<'_>)| dynamic::train(&task, &settings, &how, tell);
    let done = watched(args.epochs, session, work)?;
    say_trained(args, at.data.name(), &done, session)
}

fn say_trained(args: &args::Train, items: &str, done: &Done, session: &mut Session<'_>) -> Result<Answer, Stop> {
    if session.global.json {
        session.json(done)?;
        return Ok(Answer::Yes);
    }
    let Done { trained, items_per_second, .. } = done;
    session.say_all(passes(trained))?;
    let Trained { weights, tensors, steps, peak_bytes, .. } = *trained;
    session.say(format!("{weights} weights, of heads too, in {tensors} tensors trained in {steps} steps"))?;
    let most = human(peak_bytes as u64);
    session.say(format!("{items_per_second:.0} {items} a second, values took {most} at most"))?;
    session.say(format!("wrote {}", args.output.output.display()))?;
    Ok(Answer::Yes)
}

/// The network of a file of heads.
fn network((model, heads): (&std::path::Path, &std::path::Path), session: &mut Session<'_>) -> Result<Network, Stop> {
    let model = load(model, None.into(), session)?;
    Ok(HeadsFile::open(heads)?.network(&model)?)
}

#[derive(Serialize)]
struct EvalJson {
    #[serde(flatten)]
    measured: Measured,
    seconds: f64,
}

/// Measures.
fn eval(args: &args::Eval, session: &mut Session<'_>) -> Result<Answer, Stop> {
    if args.model.is_dir() {
        return text::eval(args, session);
    }
    let start = Instant::now();
    let network = network((&args.model, &args.heads), session)?;
    let data = Dataset::open(&args.data)?;
    let bar = Progress::examples(session);
    let progress = |done, total| bar.at(done, total);
    let measured = on_threads(session, || network.measure(&data, args.limit, &progress))?;
    drop(bar);
    if session.global.json {
        session.json(&EvalJson { measured, seconds: start.elapsed().as_secs_f64() })?;
        return Ok(Answer::Yes);
    }
    say_measured(&measured, session)?;
    Ok(Answer::Yes)
}

fn say_measured(measured: &Measured, session: &mut Session<'_>) -> Result<(), Stop> {
    let columns = [
        ("layer", Side::Left),
        ("channels", Side::Right),
        ("computed", Side::Right),
        ("right", Side::Right),
        ("of fixed masks", Side::Right),
        ("differ", Side::Right),
    ];
    let mut table = Table::new(&columns);
    for layer in &measured.layers {
        let does = layer.does;
        table.row([
            layer.layer.clone(),
            layer.channels.to_string(),
            percent(does.active),
            percent(does.head_accuracy),
            percent(does.majority_by_channel),
            percent(does.variation),
        ]);
    }
    session.say_all(table.lines())?;
    session.say("")?;
    let (by, macs, does) = (&measured.evaluation, measured.macs, measured.does);
    if let (Some(accuracy), Some(loss)) = (by.accuracy, by.loss) {
        session.say(format!("accuracy {}, loss {loss:.4}, of {} images", percent(accuracy), by.examples))?;
    }
    session.say(format!(
        "{:.0} of {} MACs, {}, with {} of heads; {} as the paper counts",
        macs.active,
        macs.dense,
        percent(macs.share),
        macs.heads,
        percent(macs.paper_share)
    ))?;
    session.say(format!(
        "heads are right in {} of channels, fixed masks in {}; {} of channels differ between two images",
        percent(does.head_accuracy),
        percent(does.majority_by_channel),
        percent(does.variation)
    ))?;
    Ok(())
}

#[derive(Serialize)]
struct ExportJson {
    layers: usize,
    seconds: f64,
}

/// Writes it as ONNX.
fn export(args: &args::Export, session: &mut Session<'_>) -> Result<Answer, Stop> {
    check_output(&args.output)?;
    let start = Instant::now();
    let network = network((&args.model, &args.heads), session)?;
    network.export((&args.output.output, args.output.overwrite()))?;
    let layers = network.layers().count();
    if session.global.json {
        session.json(&ExportJson { layers, seconds: start.elapsed().as_secs_f64() })?;
        return Ok(Answer::Yes);
    }
    session.say(format!("{layers} convolutions with their heads"))?;
    session.say(format!("wrote {}", args.output.output.display()))?;
    Ok(Answer::Yes)
}

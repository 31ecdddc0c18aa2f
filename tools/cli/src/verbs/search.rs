//! `search`: a scheme for each layer, within a budget.

use std::path::PathBuf;
use std::time::Instant;

use niwaki_codes::Scheme;
use niwaki_engine::calibrate::{Calibration, calibrate};
use niwaki_engine::model::Model;
use niwaki_engine::recipe;
use niwaki_engine::search::{Budget, Found, FoundTensor, Outcome, Probe, Search, search};
use niwaki_engine::train::Lessons;
use niwaki_engine::{Device, Names, Recipe, Source, Stats};
use niwaki_quant::Fit;
use niwaki_tensors::Overwrite;
use serde::Serialize;

use super::{check_output, load, on_threads, open, selection};
use crate::args::Compress;
use crate::args::calibrate as args;
use crate::failure::{Failure, Stop};
use crate::progress::Progress;
use crate::session::{Answer, Session};
use crate::size::human;
use crate::table::{Side, Table};

#[derive(Serialize)]
struct Json<'a> {
    #[serde(flatten)]
    found: &'a Found,
    seconds: f64,
}

/// The schemes of a search where none are given.
const SCHEMES: [&str; 6] =
    ["int2/g64/affine", "int3/g64/affine", "int4/g64/affine", "int5/g64/affine", "int6/g64/affine", "int8/g64/affine"];

/// Examples that statistics are of where none are given.
const EXAMPLES: usize = 128;

/// What a budget says, in bits for each weight or in bytes.
fn budget(text: &str) -> Result<Budget, Stop> {
    let wrong = |why: &str| Failure::usage(format!("`--budget {text}`: {why}; write for example 4bits or 120MiB"));
    if let Some(bits) = text.strip_suffix("bits") {
        let bits: Option<f64> = bits.trim_end().parse().ok();
        let bits = bits.filter(|bits| *bits > 0.0 && *bits <= 64.0).ok_or_else(|| wrong("no number of bits"))?;
        return Ok(Budget::Bits(bits));
    }
    let bytes = crate::size::parse(text).map_err(|_| wrong("neither bits nor a size"))?;
    Ok(Budget::Bytes(bytes as u64))
}

/// Schemes, the rest's, and the fit of a search.
fn among(flags: &args::Among, fit: Option<&str>) -> Result<(Vec<Scheme>, Option<Scheme>, Fit), Stop> {
    let given = flags.schemes.iter().map(String::as_str);
    let texts: Vec<&str> = if flags.schemes.is_empty() { SCHEMES.to_vec() } else { given.collect() };
    let schemes = texts.into_iter().map(recipe::scheme).collect::<Result<Vec<_>, _>>()?;
    let rest = flags.rest.as_deref().map(recipe::scheme).transpose()?;
    Ok((schemes, rest, fit.map_or(Ok(Fit::Lsq), selection::fit)?))
}

/// Writes a recipe.
pub(crate) fn run(args: &args::Search, session: &mut Session<'_>) -> Result<Answer, Stop> {
    check_output(&args.output)?;
    let start = Instant::now();
    let budget = budget(&args.budget)?;
    let (schemes, rest, fit) = among(&args.among, args.fit.as_deref())?;
    let opened = open(&args.model)?;
    let source = opened.source(None, Names::Own)?;
    let model = args.data.as_ref().map(|_| load(&args.model, None.into(), session)).transpose()?;
    let data = match (&args.data, &model) {
        (Some(data), Some(model)) => Some(Lessons::open(data, model)?),
        _ => None,
    };
    let stats = match (&args.stats, &model, &data) {
        (Some(path), ..) => Stats::of(path, &source)?,
        (None, Some(model), Some(data)) => seen(args, model, data, session)?,
        _ => return Err(Failure::usage("neither `--stats` nor `--data`: nothing says what matters").into()),
    };
    let probe = model.as_ref().zip(data.as_ref()).map(|(model, data)| Probe::new(model, data, args.limit));
    let how = Search { source: &source, stats: &stats, schemes: &schemes, fit, rest, budget };
    let bar = Progress::examples(session);
    let progress = |done, total| bar.at(done, total);
    let outcome = on_threads(session, || search(&how, probe.as_ref(), &progress))?;
    drop(bar);
    let found = match outcome {
        Outcome::Found(found) => found,
        Outcome::Unreachable { least } => return unreachable(&args.budget, budget, least, session),
    };
    niwaki_engine::search::write(&found, &args.output.output, args.output.overwrite(), args.output.durable)?;
    if session.global.json {
        session.json(&Json { found: &found, seconds: start.elapsed().as_secs_f64() })?;
        return Ok(Answer::Yes);
    }
    let mut table =
        Table::new(&[("name", Side::Left), ("scheme", Side::Left), ("size", Side::Right), ("loss", Side::Right)]);
    for FoundTensor { name, scheme, loss, bytes, .. } in &found.tensors {
        table.row([name.clone(), scheme.clone(), human(*bytes), format!("{loss:.3e}")]);
    }
    session.say_all(table.lines())?;
    session.say("")?;
    say(&found, session)?;
    session.say(format!("wrote {}", args.output.output.display()))?;
    Ok(Answer::Yes)
}

/// Statistics of the data that the model is looked at on, in a file that is gone when they are open; what a killed run
/// leaves of it has the name of something unfinished.
fn seen(args: &args::Search, model: &Model, data: &Lessons, session: &Session<'_>) -> Result<Stats, Stop> {
    let mut path = args.output.output.clone().into_os_string();
    path.push(".stats.niwaki-partial");
    let path = PathBuf::from(path);
    let seed = session.global.seed.unwrap_or(0);
    let how = Calibration {
        model,
        checkpoint: &args.model,
        data,
        limit: EXAMPLES,
        seed,
        gram: true,
        histogram: false,
        device: &Device::default(),
    };
    on_threads(session, || calibrate(&how, (&path, Overwrite::Replace), &|_, _| {}))?;
    let stats = Stats::open(&path);
    std::fs::remove_file(&path).map_err(|e| Failure::reading(&path, &e))?;
    Ok(stats?)
}

/// What a choice amounts to, in a line.
fn say(found: &Found, session: &mut Session<'_>) -> Result<(), Stop> {
    let how = match (found.exact, found.gap) {
        (true, _) => "no choice loses less".to_owned(),
        (false, gap) => format!("none can lose less by more than {gap:.3e}"),
    };
    let Found { bits_per_weight, bytes, loss, .. } = found;
    Ok(session
        .say(format!("{bits_per_weight:.3} bits for each weight, {} in all, loss {loss:.4e}: {how}", human(*bytes)))?)
}

/// Says that a budget cannot be met, and the least that can.
fn unreachable(text: &str, budget: Budget, least: f64, session: &mut Session<'_>) -> Result<Answer, Stop> {
    let least = match budget {
        Budget::Bits(_) => format!("{:.4}bits", (least * 1e4).ceil() / 1e4),
        Budget::Bytes(_) => format!("{least} B"),
    };
    if session.global.json {
        #[derive(Serialize)]
        struct No<'a> {
            budget: &'a str,
            least: &'a str,
        }
        session.json(&No { budget: text, least: &least })?;
    } else {
        session.say(format!("a budget of {text} cannot be met: the cheapest schemes take {least}"))?;
    }
    Ok(Answer::No)
}

/// The recipe of a compression within a budget; none, and why, where it cannot be met.
pub(super) fn budgeted(
    source: &Source<'_>,
    args: &Compress,
    text: &str,
    session: &mut Session<'_>,
) -> Result<Option<Recipe>, Stop> {
    let budget = budget(text)?;
    let Some(path) = &args.selection.stats else {
        let failure = Failure::usage("`--budget` without `--stats`: nothing says what matters");
        return Err(failure.hinting("`calibrate` makes statistics").into());
    };
    let (schemes, rest, fit) = among(&args.among, args.selection.fit.as_deref())?;
    let stats = Stats::of(path, source)?;
    let how = Search { source, stats: &stats, schemes: &schemes, fit, rest, budget };
    let outcome = on_threads(session, || search(&how, None, &|_, _| {}))?;
    match outcome {
        Outcome::Found(found) => Ok(Some(Recipe::parse(&found.recipe)?)),
        Outcome::Unreachable { least } => {
            unreachable(text, budget, least, session)?;
            Ok(None)
        }
    }
}

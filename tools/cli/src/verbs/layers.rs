//! `layers`: whole blocks of a model, ranked and removed.

mod remove;

use std::time::Instant;

use niwaki_engine::layers::{self, Blocks, By, Criterion, Ranking, Removable, Seen};
use serde::Serialize;

use super::on_threads;
use crate::args::layers::{self as args, Layers, Rank, Rule, Sample};
use crate::failure::{Failure, Stop};
use crate::progress::Progress;
use crate::session::{Answer, Session};
use crate::table::{Side, Table};

#[derive(Serialize)]
struct Ranked<'a> {
    by: &'static str,
    seed: Option<u64>,
    windows: u64,
    tokens: u64,
    images: u64,
    order: &'a [usize],
    blocks: Vec<Scored>,
    seconds: f64,
}

#[derive(Serialize)]
struct Scored {
    block: usize,
    score: Option<f64>,
    #[serde(flatten)]
    about: Option<About>,
}

/// What is known of a block of a graph.
#[derive(Serialize)]
struct About {
    what: &'static str,
    stage: usize,
    macs: u64,
    weights: u64,
    removable: bool,
}

/// Does what was asked.
pub(crate) fn run(args: &Layers, session: &mut Session<'_>) -> Result<Answer, Stop> {
    match args {
        Layers::Rank(args) => rank(args, session),
        Layers::Remove(args) => remove::remove(args, session),
    }
}

/// Opens a model, and says which of its blocks may go.
fn open(args: &args::Blocks) -> Result<(Blocks, Removable), Stop> {
    let blocks = Blocks::open(&args.model, args.halves)?;
    let removable = match args.rule {
        None => blocks.removable(),
        Some(Rule::Code) => Removable::Code,
        Some(Rule::Paper) => Removable::Paper,
        Some(Rule::Any) => Removable::Any,
    };
    Ok((blocks, removable))
}

/// A criterion and what it needs, of what was typed.
fn by<'s>(criterion: Criterion, sample: &'s Sample, session: &Session<'_>) -> Result<By<'s>, Stop> {
    let data = sample.data.as_deref().map(|data| layers::Sample { data, limit: sample.limit });
    if data.is_none() && criterion != Criterion::Random {
        let failure = Failure::usage(format!("`--by {criterion}` needs `--data DATA`"));
        return Err(failure
            .hinting("a text, or a dataset that `dataset import` makes; `--by random` needs none")
            .into());
    }
    let sample = data.filter(|_| criterion != Criterion::Random);
    Ok(By { criterion, sample, seed: session.global.seed.unwrap_or(0) })
}

/// Scores blocks.
fn rank(args: &Rank, session: &mut Session<'_>) -> Result<Answer, Stop> {
    let start = Instant::now();
    let criterion: Criterion = args.by.parse()?;
    let by = by(criterion, &args.sample, session)?;
    let (blocks, removable) = open(&args.blocks)?;
    let found = {
        let bar = Progress::examples(session);
        on_threads(session, || blocks.rank(by, &|done, total| bar.at(done, total)))?
    };
    let candidates = blocks.candidates(removable);
    if session.global.json {
        let about = |at: usize| {
            let block = blocks.network()?.blocks().get(at)?;
            let removable = candidates.get(at) == Some(&true);
            Some(About { what: block.what, stage: block.stage, macs: block.macs, weights: block.weights, removable })
        };
        let scored = |(block, score): (usize, &Option<f64>)| Scored { block, score: *score, about: about(block) };
        let Seen { windows, tokens, images } = found.seen;
        session.json(&Ranked {
            by: criterion.name(),
            seed: (criterion == Criterion::Random || images > 0).then_some(by.seed),
            windows,
            tokens,
            images,
            order: &found.order,
            blocks: found.scores.iter().enumerate().map(scored).collect(),
            seconds: start.elapsed().as_secs_f64(),
        })?;
        return Ok(Answer::Yes);
    }
    say_ranking(&blocks, by, &found, &candidates, session)?;
    let seen = match (by.criterion, found.seen) {
        (Criterion::Random, _) => format!("drawn of seed {}", by.seed),
        (_, seen) => format!("measured on {}", counted(seen)),
    };
    session.say(format!("the first goes first; {seen}"))?;
    if blocks.network().is_some() {
        session.say(format!("{} blocks can go at most", blocks.most(removable)))?;
    }
    Ok(Answer::Yes)
}

fn say_ranking(
    blocks: &Blocks,
    by: By<'_>,
    found: &Ranking,
    candidates: &[bool],
    session: &mut Session<'_>,
) -> Result<(), Stop> {
    let mut columns = vec![("rank", Side::Right), ("block", Side::Right), (by.criterion.name(), Side::Right)];
    if blocks.network().is_some() {
        columns.extend([("what", Side::Left), ("stage", Side::Right), ("MACs", Side::Right), ("may go", Side::Left)]);
    }
    let mut table = Table::new(&columns);
    let rest = (0..found.scores.len()).filter(|at| !found.order.contains(at));
    let ranks =
        (1..).map(|rank: usize| rank.to_string()).take(found.order.len()).chain(std::iter::repeat(String::new()));
    for (rank, block) in ranks.zip(found.order.iter().copied().chain(rest)) {
        // Small ones are compared too.
        let digits = |score: f64| match score != 0.0 && score.abs() < 1e-3 {
            true => format!("{score:.3e}"),
            false => format!("{score:.6}"),
        };
        let score = found.scores.get(block).copied().flatten().map_or_else(String::new, digits);
        let mut row = vec![rank, block.to_string(), score];
        if let Some(about) = blocks.network().and_then(|network| network.blocks().get(block)) {
            let may = if candidates.get(block) == Some(&true) { "yes" } else { "no" };
            row.extend([about.what.to_owned(), about.stage.to_string(), about.macs.to_string(), may.to_owned()]);
        }
        table.row(row);
    }
    session.say_all(table.lines())?;
    Ok(session.say("")?)
}

/// What was looked at, in words.
fn counted(seen: Seen) -> String {
    let Seen { windows, tokens, images } = seen;
    if images > 0 {
        return if images == 1 { "1 image".to_owned() } else { format!("{images} images") };
    }
    let windows = if windows == 1 { "1 window".to_owned() } else { format!("{windows} windows") };
    format!("{tokens} tokens in {windows}")
}

//! `layers`: whole blocks of a model, ranked and removed.

use std::path::Path;
use std::time::Instant;

use niwaki_engine::layers::{self, By, Criterion, Ranking, Removed};
use serde::Serialize;

use super::{compress, on_threads, percent};
use crate::args::layers::{Layers, Rank, Remove, Sample};
use crate::failure::{Failure, Stop};
use crate::progress::Progress;
use crate::session::{Answer, Session};
use crate::size::human;
use crate::table::{Side, Table};

#[derive(Serialize)]
struct Ranked<'a> {
    by: &'static str,
    seed: Option<u64>,
    windows: u64,
    tokens: u64,
    order: &'a [usize],
    blocks: Vec<Scored>,
    seconds: f64,
}

#[derive(Serialize)]
struct Scored {
    block: usize,
    score: f64,
}

#[derive(Serialize)]
struct Written<'a> {
    by: Option<&'static str>,
    removed: &'a [usize],
    kept: &'a [usize],
    weights_before: u64,
    weights_after: u64,
    input_bytes: u64,
    output_bytes: u64,
    left_out: &'a [String],
    seconds: f64,
}

/// Does what was asked.
pub(crate) fn run(args: &Layers, session: &mut Session<'_>) -> Result<Answer, Stop> {
    match args {
        Layers::Rank(args) => rank(args, session),
        Layers::Remove(args) => remove(args, session),
    }
}

/// A criterion and what it needs, of what was typed.
fn by<'s>(criterion: Criterion, sample: &'s Sample, session: &Session<'_>) -> Result<By<'s>, Stop> {
    let seen = || {
        let missing = || {
            let failure = Failure::usage(format!("`--by {criterion}` needs `--data DATA`"));
            failure.hinting("a text, or a dataset that `dataset import text` makes; `--by random` needs none")
        };
        let data = sample.data.as_deref().ok_or_else(missing)?;
        Ok::<_, Stop>(layers::Sample { data, limit: sample.limit })
    };
    Ok(match criterion {
        Criterion::Influence => By::Influence(seen()?),
        Criterion::Kl => By::Kl(seen()?),
        Criterion::Random => By::Random(session.global.seed.unwrap_or(0)),
    })
}

fn ranking(model: &Path, by: By<'_>, session: &Session<'_>) -> Result<Ranking, Stop> {
    let bar = Progress::examples(session);
    on_threads(session, || layers::rank(model, by, &|done, total| bar.at(done, total)))
}

/// Scores blocks.
fn rank(args: &Rank, session: &mut Session<'_>) -> Result<Answer, Stop> {
    let start = Instant::now();
    let criterion: Criterion = args.by.parse()?;
    let by = by(criterion, &args.sample, session)?;
    let found = ranking(&args.model, by, session)?;
    let Ranking { scores, order, windows, tokens } = &found;
    if session.global.json {
        let seed = if let By::Random(seed) = by { Some(seed) } else { None };
        let blocks = scores.iter().enumerate().map(|(block, score)| Scored { block, score: *score }).collect();
        let seconds = start.elapsed().as_secs_f64();
        let (windows, tokens) = (*windows, *tokens);
        session.json(&Ranked { by: criterion.name(), seed, windows, tokens, order, blocks, seconds })?;
        return Ok(Answer::Yes);
    }
    let mut table = Table::new(&[("rank", Side::Right), ("block", Side::Right), (criterion.name(), Side::Right)]);
    for (rank, block) in (1..).zip(order) {
        let score = scores.get(*block).copied().unwrap_or(f64::NAN);
        // Small ones are compared too.
        let digits = if score != 0.0 && score.abs() < 1e-3 { format!("{score:.3e}") } else { format!("{score:.6}") };
        table.row([format!("{rank}"), block.to_string(), digits]);
    }
    session.say_all(table.lines())?;
    session.say("")?;
    session.say(match by {
        By::Random(seed) => format!("the first goes first; drawn of seed {seed}"),
        _ => format!("the first goes first; measured on {}", counted(*tokens, *windows)),
    })?;
    Ok(Answer::Yes)
}

/// So many tokens in so many windows, in words.
fn counted(tokens: u64, windows: u64) -> String {
    let windows = if windows == 1 { "1 window".to_owned() } else { format!("{windows} windows") };
    format!("{tokens} tokens in {windows}")
}

/// Blocks in words.
fn listed(blocks: &[usize]) -> String {
    let numbers: Vec<_> = blocks.iter().map(ToString::to_string).collect();
    format!("{} {}", if blocks.len() == 1 { "block" } else { "blocks" }, numbers.join(", "))
}

/// The blocks to remove, and by which criterion they were chosen.
fn chosen(args: &Remove, session: &Session<'_>) -> Result<(Vec<usize>, Option<Criterion>), Stop> {
    let usage = |what: &str| Err(Failure::usage(what).into());
    let Some(count) = args.count else {
        if args.blocks.is_empty() {
            let failure = Failure::usage("missing `--count P` or `--blocks N`");
            return Err(failure.hinting("`niwaki layers rank` scores blocks").into());
        }
        let given = [
            ("--by", args.by.is_some()),
            ("--data", args.sample.data.is_some()),
            ("--limit", args.sample.limit.is_some()),
        ];
        return match given.into_iter().find(|(_, given)| *given) {
            Some((flag, _)) => usage(&format!("`{flag}` means nothing with `--blocks`")),
            None => Ok((args.blocks.clone(), None)),
        };
    };
    if !args.blocks.is_empty() {
        return usage("`--count` and `--blocks` exclude each other");
    }
    let criterion = args.by.as_deref().map_or(Ok(Criterion::Influence), str::parse)?;
    let by = by(criterion, &args.sample, session)?;
    layers::check_count(&args.model, count)?;
    let found = ranking(&args.model, by, session)?;
    Ok((layers::lowest(&args.model, &found, count)?, Some(criterion)))
}

/// Writes a model with fewer blocks.
fn remove(args: &Remove, session: &mut Session<'_>) -> Result<Answer, Stop> {
    let start = Instant::now();
    let out = &args.output.output;
    layers::check_output(&args.model, out, args.output.force)?;
    let (blocks, criterion) = chosen(args, session)?;
    let options = compress::options(&args.output, session);
    let bar = Progress::new(session);
    let found = layers::remove(&args.model, &blocks, out, &options, &|done, total| bar.at(done, total))?;
    drop(bar);
    let Removed { removed, kept, weights_before, weights_after, input_bytes, output_bytes, left_out } = &found;
    for file in left_out {
        session.note(&format!("`{file}` was left out: weights of all blocks in another format"));
    }
    if session.global.json {
        session.json(&Written {
            by: criterion.map(Criterion::name),
            removed,
            kept,
            weights_before: *weights_before,
            weights_after: *weights_after,
            input_bytes: *input_bytes,
            output_bytes: *output_bytes,
            left_out,
            seconds: start.elapsed().as_secs_f64(),
        })?;
        return Ok(Answer::Yes);
    }
    let why = criterion.map_or_else(String::new, |criterion| format!(", chosen by {criterion}"));
    session.say(format!("removed {} of {}{why}", listed(removed), removed.len() + kept.len()))?;
    let share = percent(*weights_after, *weights_before);
    session.say(format!("{weights_before} weights became {weights_after} ({share})"))?;
    session.say(format!("wrote {}, {}", out.display(), human(*output_bytes)))?;
    Ok(Answer::Yes)
}

//! `compare`: how far two checkpoints are apart, tensor by tensor.

use niwaki_engine::compare::{Comparison, compare};
use niwaki_engine::{Names, Opened, Options};
use serde::Serialize;

use super::patches::Open;
use super::{SQNR, open, threads, width};
use crate::args::Compare;
use crate::failure::{Failure, Stop};
use crate::session::{Answer, Session};
use crate::table::{Side, Table};

#[derive(Serialize)]
struct Json {
    #[serde(flatten)]
    comparison: Comparison,
    /// Names of the tensors that pass a limit.
    beyond: Vec<String>,
}

/// Compares B with the reference A; the answer is no if a limit is passed.
pub(crate) fn run(args: &Compare, session: &mut Session<'_>) -> Result<Answer, Stop> {
    let bits = args.bits.map(width).transpose()?;
    let (a, b) = (open(&args.a)?, open(&args.b)?);
    let (a_bits, b_bits) = (bits.filter(|_| is_elastic(&a)), bits.filter(|_| is_elastic(&b)));
    if bits.is_some() && a_bits.or(b_bits).is_none() {
        return Err(Failure::usage("`--bits` chooses a width of elastic tensors; neither file has one").into());
    }
    // Beside a file of the same kind, a GGUF file goes by its own names.
    let names = if matches!((&a, &b), (Opened::Gguf(_), Opened::Gguf(_))) { Names::Own } else { Names::HuggingFace };
    let patches = Open::new(&args.patches)?;
    let (a, b) = (a.source(a_bits, names)?, patches.over(&b, b_bits, names)?);
    let options = Options { threads: threads(session), ..Options::default() };
    let comparison = compare(&a, &b, &options)?;
    let beyond = beyond(&comparison, args);
    let answer = if beyond.is_empty() { Answer::Yes } else { Answer::No };
    if session.global.json {
        let beyond = beyond.into_iter().map(|(name, _)| name).collect();
        session.json(&Json { comparison, beyond })?;
        return Ok(answer);
    }
    session.say_all(table(&comparison).lines())?;
    session.say("")?;
    session.say(SQNR)?;
    for (name, why) in &beyond {
        session.say(format!("beyond the limit: `{name}`: {why}"))?;
    }
    Ok(answer)
}

fn is_elastic(opened: &Opened) -> bool {
    opened.artifact().is_some_and(|artifact| artifact.tensors().any(|t| t.widths().is_some()))
}

fn table(comparison: &Comparison) -> Table {
    let mut table = Table::new(&[
        ("name", Side::Left),
        ("SQNR", Side::Right),
        ("largest error", Side::Right),
        ("cosine", Side::Right),
        ("zeros", Side::Right),
    ]);
    for t in &comparison.tensors {
        table.row([
            t.name.clone(),
            decibels(t.sqnr_db, t.max_abs),
            if t.max_abs == 0.0 { "0".to_owned() } else { format!("{:.3e}", t.max_abs) },
            t.cosine.map_or_else(|| "-".to_owned(), |c| format!("{c:.6}")),
            if t.zeros.0 == t.zeros.1 { t.zeros.0.to_string() } else { format!("{} -> {}", t.zeros.0, t.zeros.1) },
        ]);
    }
    let largest =
        comparison.tensors.iter().map(|t| t.max_abs).fold(0.0, |a, b| if b > a || b.is_nan() { b } else { a });
    table.row(["all".to_owned(), decibels(comparison.sqnr_db, largest)]);
    table
}

/// No figure means equal, unless something differs where a ratio says nothing: all of it zero, or a NaN.
fn decibels(db: Option<f64>, largest: f64) -> String {
    match db {
        Some(db) => format!("{db:.2} dB"),
        None if largest == 0.0 => "equal".to_owned(),
        None => "-".to_owned(),
    }
}

/// The tensors that pass a limit, and by what.
fn beyond(comparison: &Comparison, args: &Compare) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for t in &comparison.tensors {
        // A tensor that differs and has no figure is beyond every limit of noise, and so is a NaN.
        let noisy = match t.sqnr_db {
            Some(db) => args.min_sqnr.is_some_and(|min| db < min),
            None => args.min_sqnr.is_some() && t.max_abs != 0.0,
        };
        let far = args.max_abs.is_some_and(|max| t.max_abs > max || t.max_abs.is_nan());
        if noisy {
            let (db, min) = (decibels(t.sqnr_db, t.max_abs), args.min_sqnr.unwrap_or_default());
            found.push((t.name.clone(), format!("SQNR is {db}, at least {min} dB asked")));
        } else if far {
            let max = args.max_abs.unwrap_or_default();
            found.push((t.name.clone(), format!("largest error is {:.3e}, at most {max} asked", t.max_abs)));
        }
    }
    found
}

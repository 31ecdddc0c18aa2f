//! `signature combine` and `signature similarity`.

use std::time::Instant;

use niwaki_engine::signature::{self, How};
use niwaki_engine::{Options, Ratio};
use serde::Serialize;

use super::{Written, encoding};
use crate::args::signature as args;
use crate::failure::{Failure, Stop};
use crate::progress::Progress;
use crate::session::{Answer, Session};
use crate::table::{Side, Table};
use crate::verbs::patches::Open;
use crate::verbs::{check_output, compress, threads};

#[derive(Serialize)]
struct Matrix {
    signatures: Vec<String>,
    cosine: Vec<Vec<Option<f64>>>,
}

/// Makes one signature of several.
pub(super) fn combine(args: &args::Combine, session: &mut Session<'_>) -> Result<Answer, Stop> {
    let start = Instant::now();
    check_output(&args.output)?;
    let density = Ratio::new(args.density);
    let density = density.map_err(|e| Failure::usage(format!("`--density {}`: {e}", args.density)))?;
    let how = match args.how {
        args::How::Sum => How::Sum,
        args::How::Ties => How::Ties { density },
        args::How::Dare => How::Dare { density, seed: session.global.seed.unwrap_or(0) },
    };
    let open = Open::of_texts(&args.signatures, false)?;
    let encoding = encoding(&args.encoding)?;
    let options = compress::options(&args.output, session);
    let progress = Progress::new(session);
    let out = &args.output.output;
    let report = signature::combine(&open.patches(), how, &encoding, out, &options, &|done, total| {
        progress.at(done, total);
    })?;
    drop(progress);
    Written::new(report, start).say(out, session)
}

/// The cosine of each pair.
pub(super) fn similarity(args: &args::Similarity, session: &mut Session<'_>) -> Result<Answer, Stop> {
    let open = Open::of_texts(&args.signatures, false)?;
    let patches = open.patches();
    let options = Options { threads: threads(session), ..Options::default() };
    let cosine = signature::similarity(&patches, &options)?;
    let signatures: Vec<String> = patches.iter().map(|patch| patch.signature.name().to_owned()).collect();
    if session.global.json {
        session.json(&Matrix { signatures, cosine })?;
        return Ok(Answer::Yes);
    }
    let numbers: Vec<String> = (1..=signatures.len()).map(|n| format!("({n})")).collect();
    let mut table = Table::of(
        vec![("cosine".to_owned(), Side::Left)]
            .into_iter()
            .chain(numbers.iter().map(|n| (n.clone(), Side::Right)))
            .collect(),
    );
    for ((name, number), row) in signatures.iter().zip(&numbers).zip(&cosine) {
        let cells = row.iter().map(|cosine| cosine.map_or_else(|| "-".to_owned(), |x| format!("{x:.4}")));
        table.row([format!("{number} {name}")].into_iter().chain(cells));
    }
    session.say_all(table.lines())?;
    Ok(Answer::Yes)
}

//! `dataset`: data made of what is found elsewhere, and worse copies of it.

use std::path::Path;
use std::time::Instant;

use niwaki_engine::Options;
use niwaki_engine::dataset::import::{Kind, Pictures, Split, Word};
use niwaki_engine::dataset::{self as data, Corruption, Dataset, Filter, Preprocessing, Request, Severity};
use serde::Serialize;

use super::{check_output, compress, shape_text};
use crate::args::dataset as args;
use crate::failure::{Failure, Stop};
use crate::progress::Progress;
use crate::session::{Answer, Session};
use crate::size::human;

#[derive(Serialize)]
struct Imported<'a> {
    kind: &'static str,
    items: usize,
    shape: &'a [usize],
    classes: Option<usize>,
    left_out: u64,
    output_bytes: u64,
    seconds: f64,
}

#[derive(Serialize)]
struct Corrupted {
    kind: &'static str,
    severity: u8,
    seed: u64,
    items: usize,
    shape: [usize; 3],
    output_bytes: u64,
    seconds: f64,
}

/// Does what was asked.
pub(crate) fn run(args: &args::Dataset, session: &mut Session<'_>) -> Result<Answer, Stop> {
    match args {
        args::Dataset::Import(args) => import(args, session),
        args::Dataset::Corrupt(args) => corrupt(args, session),
    }
}

/// Refuses flags that mean nothing for a kind of data.
fn check_flags(args: &args::Import, word: Word) -> Result<(), Stop> {
    let images = word != Word::Text;
    let pictures = word == Word::Images;
    let flags = [
        ("--split", args.split.is_some(), matches!(word, Word::Idx | Word::Cifar10)),
        ("--mean", !args.mean.is_empty(), images),
        ("--std", !args.std.is_empty(), images),
        ("--scale", args.scale.is_some(), images),
        ("--classes", !args.classes.is_empty(), images),
        ("--size", args.size.is_some(), pictures),
        ("--filter", args.filter.is_some(), pictures),
        ("--channels", args.channels.is_some(), pictures),
        ("--tokenizer", args.tokenizer.is_some(), !images),
        ("--length", args.length.is_some(), !images),
    ];
    match flags.into_iter().find(|(_, given, means)| *given && !means) {
        Some((flag, ..)) => Err(Failure::usage(format!("`{flag}` means nothing for `{word}`")).into()),
        None => Ok(()),
    }
}

fn kind(args: &args::Import, word: Word) -> Result<Kind, Stop> {
    let split = args.split.map(|split| match split {
        args::Split::Train => Split::Train,
        args::Split::Test => Split::Test,
    });
    Ok(match word {
        Word::Idx => Kind::Idx(split),
        Word::Cifar10 => Kind::Cifar10(split),
        Word::Images => {
            let pictures = Pictures::new(args.size, args.shorter, args.channels.unwrap_or(3))?;
            Kind::Images(pictures.filtered(args.filter.map_or(Filter::default(), |filter| match filter {
                args::Filter::Bilinear => Filter::Bilinear,
                args::Filter::Bicubic => Filter::Bicubic,
                args::Filter::Box => Filter::Box,
            })))
        }
        _ => {
            let missing =
                || Failure::usage("missing `--tokenizer FILE`").hinting("text becomes tokens by a tokenizer.json");
            let tokenizer = args.tokenizer.clone().ok_or_else(missing)?;
            Kind::Text { tokenizer, length: args.length.unwrap_or(512) }
        }
    })
}

fn request(args: &args::Import) -> Result<Request, Stop> {
    let scale = args.scale.unwrap_or(Preprocessing::default().scale());
    let preprocessing = Preprocessing::new(scale, args.mean.clone(), args.std.clone());
    let preprocessing = preprocessing.map_err(|fault| Failure::usage(fault.to_string()))?;
    let classes = (!args.classes.is_empty()).then(|| args.classes.clone());
    Ok(Request { preprocessing, classes, limit: args.limit })
}

fn import(args: &args::Import, session: &mut Session<'_>) -> Result<Answer, Stop> {
    let start = Instant::now();
    let word: Word = args.kind.parse()?;
    check_flags(args, word)?;
    check_output(&args.output)?;
    let (kind, request) = (kind(args, word)?, request(args)?);
    let out = &args.output.output;
    let imported = with_progress(&args.output, session, |options, progress| {
        data::import(&kind, &args.src, &request, out, options, progress)
    })?;
    let data::Imported { items, shape, classes, output_bytes, left_out } = imported;
    if session.global.json {
        let seconds = start.elapsed().as_secs_f64();
        session.json(&Imported {
            kind: word.name(),
            items,
            shape: &shape,
            classes,
            left_out,
            output_bytes,
            seconds,
        })?;
        return Ok(Answer::Yes);
    }
    let what = match word {
        Word::Text => format!("{} of {} tokens", counted(items, "window"), shape_text(&shape)),
        _ => format!("{} of {}, {}", counted(items, "image"), shape_text(&shape), in_classes(classes)),
    };
    session.say(what)?;
    if left_out > 0 {
        session.say(match (word, left_out) {
            (Word::Text, 1) => "1 token at the end fills no window and was left out".to_owned(),
            (Word::Text, _) => format!("{left_out} tokens at the end fill no window and were left out"),
            (_, 1) => "1 file that is neither PNG nor JPEG was left out".to_owned(),
            _ => format!("{left_out} files that are neither PNG nor JPEG were left out"),
        })?;
    }
    wrote(out, output_bytes, session)
}

fn corrupt(args: &args::Corrupt, session: &mut Session<'_>) -> Result<Answer, Stop> {
    let start = Instant::now();
    let kind: data::corrupt::Kind = args.kind.parse()?;
    let severity = Severity::new(args.severity)?;
    check_output(&args.output)?;
    let seed = session.global.seed.unwrap_or(0);
    let images = Dataset::open(&args.data)?;
    let corruption = Corruption::new(kind, severity, seed);
    let out = &args.output.output;
    let (items, output_bytes) = with_progress(&args.output, session, |options, progress| {
        data::corrupt(&images, &corruption, args.limit, out, options, progress)
    })?;
    let shape = images.shape();
    if session.global.json {
        let (kind, severity, seconds) = (kind.name(), severity.get(), start.elapsed().as_secs_f64());
        session.json(&Corrupted { kind, severity, seed, items, shape, output_bytes, seconds })?;
        return Ok(Answer::Yes);
    }
    let what = counted(items, "image");
    session.say(format!("{what} of {}, {kind} of severity {}", shape_text(&shape), severity.get()))?;
    wrote(out, output_bytes, session)
}

/// Does work that is told how to write, and shows how far it is.
fn with_progress<T>(
    output: &crate::args::Output,
    session: &Session<'_>,
    work: impl FnOnce(&Options, &(dyn Fn(u64, u64) + Sync)) -> Result<T, niwaki_engine::Error>,
) -> Result<T, Stop> {
    let options = compress::options(output, session);
    let progress = Progress::new(session);
    Ok(work(&options, &|done, total| progress.at(done, total))?)
}

/// So many things, in words.
fn counted(things: usize, name: &str) -> String {
    if things == 1 { format!("1 {name}") } else { format!("{things} {name}s") }
}

fn in_classes(classes: Option<usize>) -> String {
    match classes {
        None => "no labels".to_owned(),
        Some(1) => "1 class".to_owned(),
        Some(classes) => format!("{classes} classes"),
    }
}

fn wrote(out: &Path, bytes: u64, session: &mut Session<'_>) -> Result<Answer, Stop> {
    session.say(format!("wrote {}, {}", out.display(), human(bytes)))?;
    Ok(Answer::Yes)
}

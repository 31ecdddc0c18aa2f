//! One module per verb: arguments in, an answer out.

mod about;
mod compare;
mod compress;
mod devices;
mod export;
mod inspect;
mod patches;
mod plan;
mod selection;
mod signature;
mod slice;
mod verify;

use std::path::Path;

use niwaki_codes::Bits;
use niwaki_engine::{Format, Opened};
use niwaki_tensors::{Limits, Overwrite};

use crate::args::{Output, Verb};
use crate::failure::{Failure, Stop};
use crate::session::{Answer, Session};

/// Does what was asked.
pub(crate) fn run(verb: Verb, session: &mut Session<'_>) -> Result<Answer, Stop> {
    devices::check(session)?;
    match verb {
        Verb::Inspect(args) => inspect::run(&args, session),
        Verb::Plan(args) => plan::run(&args, session),
        Verb::Compress(args) => compress::run(&args, session),
        Verb::Slice(args) => slice::run(&args, session),
        Verb::Export(args) => export::run(&args, session),
        Verb::Compare(args) => compare::run(&args, session),
        Verb::Verify(args) => verify::run(&args, session),
        Verb::Signature(args) => signature::run(&args, session),
        Verb::Devices => devices::run(session),
        Verb::Completions { shell } => about::completions(shell, session),
        Verb::Man { verb } => about::man(verb.as_deref(), session),
    }
}

/// A width as it was typed, as a width that codes can have.
fn width(bits: u32) -> Result<Bits, Stop> {
    Bits::new(bits).map_err(|e| Failure::usage(format!("`--bits {bits}`: {e}")).into())
}

/// Threads to use: those asked for, else all cores.
fn threads(session: &Session<'_>) -> usize {
    session.global.threads.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from)
}

/// Looks at the place of an output before any work is done.
fn check_output(output: &Output) -> Result<(), Stop> {
    let overwrite = if output.force { Overwrite::Replace } else { Overwrite::Refuse };
    let path = &output.output;
    if path.as_os_str().as_encoded_bytes().ends_with(b"/") {
        return Err(Failure::usage(format!("`{}` is a folder; the output is one file", path.display())).into());
    }
    Ok(niwaki_tensors::check_output(path, overwrite)?)
}

/// Looks at the place of an output of a format before any work is done.
///
/// Of a folder safetensors are a folder, unless the output is named like a file; GGUF is always a
/// file, and formats of other tools are always folders.
fn check_place(output: &Output, input: &Path, format: Format) -> Result<(), Stop> {
    let path = &output.output;
    let named = |extension: &str| path.extension().is_some_and(|e| e.eq_ignore_ascii_case(extension));
    let folder = match format {
        Format::Safetensors => input.is_dir() && !named("safetensors"),
        Format::Gguf => false,
        _ => true,
    };
    let other = match format {
        Format::Gguf => "safetensors",
        _ => "gguf",
    };
    if named(other) {
        let what = format!("`{}`: is named `.{other}`, and the output is {format}", path.display());
        return Err(Failure::usage(what).hinting("`--to` says the format").into());
    }
    if folder { Ok(()) } else { check_output(output) }
}

/// Opens a checkpoint of whatever format.
fn open(path: &Path) -> Result<Opened, Stop> {
    Ok(Opened::open(path, &Limits::default())?)
}

/// A shape as text: `64x784`, `scalar` without dimensions.
fn shape_text(dims: &[usize]) -> String {
    if dims.is_empty() {
        return "scalar".to_owned();
    }
    dims.iter().map(ToString::to_string).collect::<Vec<_>>().join("x")
}

/// So many tensors, in words.
fn counted(tensors: usize) -> String {
    if tensors == 1 { "1 tensor".to_owned() } else { format!("{tensors} tensors") }
}

/// How much of `before` is left, as a percentage.
fn percent(after: u64, before: u64) -> String {
    if before == 0 { "100 %".to_owned() } else { format!("{:.1} %", after as f64 * 100.0 / before as f64) }
}

/// What the figures in dB mean, for readers who meet them first here.
const SQNR: &str = "SQNR compares the weights with the error made: higher is better, about 6 dB for each bit of width.";

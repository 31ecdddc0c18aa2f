//! One module per verb: arguments in, an answer out.

mod about;
mod calibrate;
mod compare;
mod compress;
mod dataset;
mod devices;
mod dynamic;
mod elastic;
mod eval;
mod export;
mod generate;
mod inspect;
mod join;
mod layers;
mod mask;
mod patches;
mod plan;
mod report;
mod run;
mod search;
mod selection;
mod signature;
mod slice;
mod train;
mod verify;

use std::path::Path;

use niwaki_codes::Bits;
use niwaki_engine::model::{Model, Replaced};
use niwaki_engine::{Error, Format, Given, Opened};
use niwaki_tensors::Limits;

use crate::args::{Output, Verb};
use crate::failure::{Failure, Stop};
use crate::session::{Answer, Session};

/// Does what was asked.
pub(crate) fn run(verb: Verb, session: &mut Session<'_>) -> Result<Answer, Stop> {
    let device = devices::choose(&verb, session)?;
    match verb {
        Verb::Inspect(args) => inspect::run(&args, session),
        Verb::Plan(args) => plan::run(&args, session),
        Verb::Compress(args) => compress::run(&args, device, session),
        Verb::Join(args) => join::run(&args, session),
        Verb::Slice(args) => slice::run(&args, session),
        Verb::Export(args) => export::run(&args, session),
        Verb::Compare(args) => compare::run(&args, session),
        Verb::Verify(args) => verify::run(&args, session),
        Verb::Dataset(args) => dataset::run(&args, session),
        Verb::Signature(args) => signature::run(&args, session),
        Verb::Layers(args) => layers::run(&args, session),
        Verb::Mask(args) => mask::run(&args, session),
        Verb::Elastic(args) => elastic::run(&args, session),
        Verb::Dynamic(args) => dynamic::run(&args, session),
        Verb::Train(args) => train::run(&args, session),
        Verb::Run(args) => run::run(&args, session),
        Verb::Eval(args) => eval::run(&args, session),
        Verb::Calibrate(args) => calibrate::run(&args, &device, session),
        Verb::Search(args) => search::run(&args, session),
        Verb::Generate(args) => generate::run(&args, session),
        Verb::Report(args) => report::run(&args, session),
        Verb::Devices => devices::run(session),
        Verb::Completions { shell } => about::completions(shell, session),
        Verb::Man { verb } => about::man(&verb, session),
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
    let path = &output.output;
    if path.as_os_str().as_encoded_bytes().ends_with(b"/") {
        return Err(Failure::usage(format!("`{}` is a folder; the output is one file", path.display())).into());
    }
    Ok(niwaki_tensors::check_output(path, output.overwrite())?)
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
        Format::Gguf | Format::Onnx => false,
        _ => true,
    };
    let others: &[&str] = match format {
        Format::Gguf => &["safetensors", "onnx"],
        Format::Onnx => &["safetensors", "gguf"],
        _ => &["gguf", "onnx"],
    };
    if let Some(other) = others.iter().find(|other| named(other)) {
        let what = format!("`{}`: is named `.{other}`, and the output is {format}", path.display());
        return Err(Failure::usage(what).hinting("`--to` says the format").into());
    }
    if folder { Ok(()) } else { check_output(output) }
}

/// Opens a checkpoint of whatever format.
fn open(path: &Path) -> Result<Opened, Stop> {
    Ok(Opened::open(path, &Limits::default())?)
}

/// Whether a path is that of a model, not of a bare checkpoint: an ONNX file, or a folder that says what it is.
fn has_graph(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx")) || path.join("config.json").is_file()
}

/// Opens a model, with what is given in the place of its weights or over them.
fn load(path: &Path, given: Given<'_>, session: &mut Session<'_>) -> Result<Model, Stop> {
    let (model, replaced) = match path.is_dir() {
        true => Model::of_folder(path, given)?,
        false => Model::of_file(path, given)?,
    };
    note_unknown(&replaced, given.weights, session);
    Ok(model)
}

/// Says which tensors of a checkpoint a model has no weight for.
fn note_unknown(replaced: &Replaced, weights: Option<&Path>, session: &mut Session<'_>) {
    let Some(weights) = weights else { return };
    match replaced.unknown.as_slice() {
        [] => {}
        [one] => session.note(&format!("`{}` has `{one}`, the model has no such weight", weights.display())),
        [one, ..] => {
            let count = replaced.unknown.len();
            session.note(&format!(
                "`{}` has {count} tensors that are no weights of the model: `{one}`, …",
                weights.display()
            ));
        }
    }
}

/// Does something on as many threads as were asked for.
fn on_threads<T: Send>(session: &Session<'_>, work: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Stop> {
    Ok(niwaki_engine::model::on_threads(threads(session), work)?)
}

/// A shape as text: `64x784`, `scalar` without dimensions.
fn shape_text(dims: &[usize]) -> String {
    if dims.is_empty() {
        return "scalar".to_owned();
    }
    dims.iter().map(ToString::to_string).collect::<Vec<_>>().join("x")
}

/// Blocks in words.
fn listed(blocks: &[usize]) -> String {
    let numbers: Vec<_> = blocks.iter().map(ToString::to_string).collect();
    format!("{} {}", if blocks.len() == 1 { "block" } else { "blocks" }, numbers.join(", "))
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

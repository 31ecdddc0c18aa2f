//! The engine on made-up checkpoints, from file to file.

use std::path::Path;

use niwaki_codes::Bits;
use niwaki_container::Artifact;
use niwaki_engine::compare::{self, Comparison};
use niwaki_engine::{Destination, Names, Opened, Options, Plan, Recipe, Report, Tail, compress};
use niwaki_tensors::{Dtype, Limits};

/// Weights as the bytes of a float type.
pub fn bytes(dtype: Dtype, weights: &[f32]) -> Vec<u8> {
    match dtype {
        Dtype::F64 => weights.iter().flat_map(|w| f64::from(*w).to_le_bytes()).collect(),
        Dtype::F16 => weights.iter().flat_map(|w| half::f16::from_f32(*w).to_le_bytes()).collect(),
        Dtype::BF16 => weights.iter().flat_map(|w| half::bf16::from_f32(*w).to_le_bytes()).collect(),
        Dtype::F8_E4M3 => weights.iter().map(|w| if *w < 0.0 { 0xA8 } else { 0x25 } + (w.abs() * 16.0) as u8).collect(),
        _ => weights.iter().flat_map(|w| w.to_le_bytes()).collect(),
    }
}

/// Compresses `source` by a recipe to `out`.
///
/// # Errors
///
/// Those of the engine.
pub fn run(source: &str, recipe: &str, out: &str, threads: usize) -> Result<Report, niwaki_engine::Error> {
    let opened = Opened::open(Path::new(source), &Limits::default())?;
    let source = opened.source(None, Names::Own)?;
    let mut plan = Plan::new(&source, Recipe::parse(recipe)?, Tail::Short, Destination::default())?;
    let options = Options { threads, replace: true, ..Options::default() };
    compress(&source, &mut plan, Path::new(out), &options, &|_, _| {})
}

/// Opens any checkpoint.
///
/// # Panics
///
/// If it does not open.
pub fn opened(path: &str) -> Opened {
    Opened::open(Path::new(path), &Limits::default()).expect("a checkpoint that opens")
}

/// Opens what [`run`] wrote.
///
/// # Panics
///
/// If it does not open.
pub fn open(path: &str) -> Artifact {
    Artifact::open(Path::new(path), &Limits::default()).expect("a file that opens")
}

/// Compares two checkpoints, the second at `bits`.
///
/// # Panics
///
/// If either cannot be read.
pub fn compared(a: &str, b: &str, bits: Option<Bits>) -> Comparison {
    let (a, b) = (opened(a), opened(b));
    let (a, b) = (a.source(None, Names::Own), b.source(bits, Names::Own));
    let (a, b) = (a.expect("the first can be read"), b.expect("the second can be read"));
    compare::compare(&a, &b, &Options::default()).expect("the two correspond")
}

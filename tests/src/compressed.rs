//! The engine on made-up checkpoints, from file to file.

use std::path::Path;

use niwaki_container::Artifact;
use niwaki_engine::{Options, Plan, Recipe, Report, Tail, compress};
use niwaki_tensors::{Checkpoint, Dtype, Limits};

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
    let checkpoint = Checkpoint::open(source, &Limits::default())?;
    let mut plan = Plan::new(&checkpoint, Recipe::parse(recipe)?, Tail::Short)?;
    let options = Options { threads, replace: true, ..Options::default() };
    compress(&checkpoint, &mut plan, Path::new(out), &options, &|_, _| {})
}

/// Opens what [`run`] wrote.
///
/// # Panics
///
/// If it does not open.
pub fn open(path: &str) -> Artifact {
    Artifact::open(Path::new(path), &Limits::default()).expect("a file that opens")
}

//! Multiplies a tensor of a checkpoint with 1, 2, 4, 8, 16, ..
//!
//! ```text
//! cargo run -p niwaki-container --example dot -- tests/golden/example.safetensors w
//! ```
#![allow(clippy::print_stdout, reason = "a program prints")]

use niwaki_codes::product::{Inputs, Kernel};
use niwaki_container::{Artifact, Error, Overlay};
use niwaki_tensors::Limits;

/// The products of all rows; none where there is no such tensor.
pub(crate) fn products(path: &str, name: &str) -> Result<Option<Vec<f32>>, Error> {
    let model = Artifact::open(path.as_ref(), &Limits::default())?;
    let Some(tensor) = model.get(name) else { return Ok(None) };
    // The widest form that is stored; no signatures over it, and no mask.
    let weights = tensor.prepare(Kernel::best(), None, &Overlay::default(), None)?;
    let x: Vec<f32> = (0..weights.cols()).map(|at| 2f32.powi(at as i32)).collect();
    let mut y = vec![0.0; weights.rows()];
    weights.gemv(0..weights.rows(), &Inputs::plain(&x), &mut y)?;
    Ok(Some(y))
}

#[allow(dead_code, reason = "a test takes the function alone")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(path), Some(name)) = (args.next(), args.next()) else { return Err("usage: dot FILE TENSOR".into()) };
    println!("{:?}", products(&path, &name)?.ok_or("no such tensor")?);
    Ok(())
}

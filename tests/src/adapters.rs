//! Adapters made without any code of the project, and what they mean, element by element.

use niwaki_engine::signature::peft::{Adapter, LowRank};
use niwaki_tensors::Limits;

use crate::checkpoints::{Tensor, f32s, write};
use crate::folder::Folder;

/// The configuration's file.
pub const CONFIG: &str = "adapter_config.json";

/// The file of weights.
pub const WEIGHTS: &str = "adapter_model.safetensors";

/// A tensor of an adapter: its name after `base_model.model.`, its shape, its elements.
pub type Factor = (&'static str, &'static [usize], Vec<f32>);

/// Writes an adapter's folder.
///
/// # Panics
///
/// If it cannot be written.
pub fn make(config: &str, tensors: &[Factor]) -> Folder {
    let folder = Folder::new("peft");
    std::fs::write(folder.at(CONFIG), config).expect("a file that can be written");
    let names: Vec<String> = tensors.iter().map(|(name, ..)| format!("base_model.model.{name}")).collect();
    let stored: Vec<Tensor<'_>> =
        names.iter().zip(tensors).map(|(name, (_, shape, x))| (name.as_str(), "F32", *shape, f32s(x))).collect();
    write(folder.at(WEIGHTS), &stored);
    folder
}

/// Opens the adapter in a folder.
///
/// # Errors
///
/// Those of [`Adapter::open`].
pub fn open(folder: &Folder) -> Result<Adapter, niwaki_engine::Error> {
    Adapter::open(folder.path(), &Limits::default())
}

/// `scaling * B A`, of `(rows, rank, cols)`.
pub fn product(b: &[f32], a: &[f32], (rows, rank, cols): (usize, usize, usize), scaling: f64) -> Vec<f32> {
    let mut out = vec![0.0; rows * cols];
    for row in 0..rows {
        for col in 0..cols {
            let mut sum = 0.0;
            for k in 0..rank {
                sum += f64::from(b[row * rank + k]) * f64::from(a[k * cols + col]);
            }
            out[row * cols + col] = (scaling * sum) as f32;
        }
    }
    out
}

/// The transpose of a matrix with rows of `cols`.
pub fn transposed(x: &[f32], cols: usize) -> Vec<f32> {
    let rows = x.len() / cols;
    (0..x.len()).map(|at| x[at % rows * cols + at / rows]).collect()
}

/// All of a difference, in blocks of `step` rows.
///
/// # Panics
///
/// If it is refused.
pub fn all(difference: &LowRank, step: usize) -> Vec<f32> {
    let (rows, cols) = (difference.shape().rows(), difference.shape().cols());
    let mut out = vec![0.0; rows * cols];
    for begin in (0..rows).step_by(step) {
        let end = rows.min(begin + step);
        difference.rows(begin..end, &mut out[begin * cols..end * cols]).expect("rows that are there");
    }
    out
}

//! Made-up checkpoints of one small network: initial, trained as usual, and trained to be robust.

use crate::checkpoints::{Tensor, f32s, weights, write};
use crate::folder::Folder;

/// Names and shapes of the network's tensors of floats.
pub const NETWORK: [(&str, &[usize]); 12] = [
    ("bn1.bias", &[8]),
    ("bn1.running_mean", &[8]),
    ("bn1.running_var", &[8]),
    ("bn1.weight", &[8]),
    ("conv1.bias", &[8]),
    ("conv1.weight", &[8, 4, 3, 3]),
    ("fc.bias", &[10]),
    ("fc.weight", &[10, 64]),
    ("layer1.0.conv.weight", &[16, 8, 3, 3]),
    ("layer1.2.conv.weight", &[16, 16, 4, 4]),
    ("layer1.10.conv.weight", &[64, 16, 4, 4]),
    ("norm.weight", &[64]),
];

/// Weights of one tensor in each of the four checkpoints: `init`, `standard`, `fog`, `noise`.
pub fn tensor(index: usize, elements: usize) -> [Vec<f32>; 4] {
    let seed = 10 * index as u64 + 1;
    let near = |from: &[f32], by: f32, seed| -> Vec<f32> {
        from.iter().zip(weights(seed, elements)).map(|(x, d)| x + by * d).collect()
    };
    let init: Vec<f32> = weights(seed, elements).iter().map(|x| x.abs() + x).collect();
    let standard = near(&init, 0.3, seed + 1);
    let fog = near(&standard, 0.2, seed + 2);
    let noise = near(&standard, 0.1, seed + 3);
    [init, standard, fog, noise]
}

/// Writes `init`, `standard`, `fog` and `noise`, each as `NAME.safetensors`.
///
/// # Panics
///
/// If a file cannot be written.
pub fn write_trained(folder: &Folder) {
    let all: Vec<[Vec<f32>; 4]> =
        NETWORK.iter().enumerate().map(|(index, (_, shape))| tensor(index, shape.iter().product())).collect();
    for (which, name) in ["init", "standard", "fog", "noise"].iter().enumerate() {
        let mut tensors: Vec<Tensor<'_>> =
            NETWORK.iter().zip(&all).map(|((name, shape), four)| (*name, "F32", *shape, f32s(&four[which]))).collect();
        tensors.push(("bn1.num_batches_tracked", "I64", &[], vec![which as u8; 8]));
        write(folder.at(&format!("{name}.safetensors")), &tensors);
    }
}

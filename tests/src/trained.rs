//! Made-up checkpoints of one small network: initial, trained as usual, and trained to be robust.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;

use crate::checkpoints::{Tensor, f32s, weights, write};
use crate::folder::Folder;
use crate::scene::{attempt, run};

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
    write_trained_in(folder.path());
}

/// The same into any folder.
///
/// # Panics
///
/// If a file cannot be written.
pub fn write_trained_in(folder: &Path) {
    let all: Vec<[Vec<f32>; 4]> =
        NETWORK.iter().enumerate().map(|(index, (_, shape))| tensor(index, shape.iter().product())).collect();
    for (which, name) in ["init", "standard", "fog", "noise"].iter().enumerate() {
        let mut tensors: Vec<Tensor<'_>> =
            NETWORK.iter().zip(&all).map(|((name, shape), four)| (*name, "F32", *shape, f32s(&four[which]))).collect();
        tensors.push(("bn1.num_batches_tracked", "I64", &[], vec![which as u8; 8]));
        write(folder.join(format!("{name}.safetensors")), &tensors);
    }
}

/// The flags that name the first two of the checkpoints.
pub const THREE: &str = "--init @init.safetensors --standard @standard.safetensors";

/// Checkpoints, and five signatures `s0` to `s4` of different kinds and encodings.
///
/// # Panics
///
/// If they cannot be made.
pub fn signed() -> Folder {
    let folder = Folder::new("stacks");
    write_trained(&folder);
    let extract = |robust: &str, flags: &str, out: &str| {
        let line = format!("signature extract {THREE} --robust @{robust}.safetensors {flags} -o @{out}.safetensors");
        run(&folder, &line);
    };
    extract("fog", "--layers 2", "s0");
    extract("noise", "--scheme int8/row/sym", "s1");
    extract("fog", "--scheme f16 --norms none", "s2");
    extract("noise", "--sparsity 0.9 --scheme int8/g64/sym --norms none", "s3");
    let line = "signature extract --standard @standard.safetensors --robust @fog.safetensors --interpolate";
    run(&folder, &format!("{line} --only layer1.2.* -o @s4.safetensors"));
    folder
}

/// The files of a folder, or a file, by name.
///
/// # Panics
///
/// If they cannot be read.
pub fn contents(path: &str) -> Vec<(String, Vec<u8>)> {
    let path = Path::new(path);
    if path.is_file() {
        return vec![(String::new(), std::fs::read(path).unwrap())];
    }
    let mut files: Vec<_> = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
        .iter()
        .map(|file| (file.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(file).unwrap()))
        .collect()
}

/// Refuses a line, says why, and leaves every file as it was.
///
/// # Panics
///
/// If it does not.
pub fn refuse(folder: &Folder, line: &str, what: &str) {
    let all = || folder.names().into_iter().map(|name| (contents(&folder.at(&name)), name)).collect::<Vec<_>>();
    let before = all();
    let answer = attempt(folder, &format!("{line} -q"));
    assert!(answer.error().contains(what), "{line}: {}", answer.err);
    assert!(all() == before, "{line} leaves something behind");
}

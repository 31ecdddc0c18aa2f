//! What signatures of the first convolutions of VGG-16 take, as the arithmetic of the paper has it:
//! Robust Weight Signatures (ICML 2023), whose headline is a thirteenth of the full weights.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use niwaki_conformance::checkpoints::{f32s, file, weights};
use niwaki_conformance::folder::Folder;
use niwaki_conformance::scene::run;
use niwaki_tensors::{Checkpoint, Limits};

/// Outputs of the convolutions of VGG-16, 3x3 each; 0 is a pooling of the maximum.
const LAYERS: [usize; 18] = [64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0];

/// Names and shapes of VGG-16 without normalization for images of CIFAR-10, in order of depth:
/// 13 convolutions under torchvision's numbers, in which activations and pools count, and one
/// linear layer on the average of the last image.
fn vgg16() -> Vec<(String, Vec<usize>)> {
    let (mut tensors, mut number, mut inputs) = (Vec::new(), 0, 3);
    for outputs in LAYERS {
        if outputs == 0 {
            number += 1;
            continue;
        }
        tensors.push((format!("features.{number}.weight"), vec![outputs, inputs, 3, 3]));
        tensors.push((format!("features.{number}.bias"), vec![outputs]));
        number += 2;
        inputs = outputs;
    }
    tensors.push(("classifier.weight".to_owned(), vec![10, inputs]));
    tensors.push(("classifier.bias".to_owned(), vec![10]));
    tensors
}

/// Writes VGG-16 in F32: random weights in the first `filled` layers, zeros, which take no room
/// on the disk, in the others. A tensor's weights depend on the seed and its place only.
fn write_vgg16(path: &Path, seed: u64, filled: usize) {
    let tensors = vgg16();
    let mut end = 0;
    let entries = tensors.iter().map(|(name, shape)| {
        let start = end;
        end += shape.iter().product::<usize>() * 4;
        format!("\"{name}\":{{\"dtype\":\"F32\",\"shape\":{shape:?},\"data_offsets\":[{start},{end}]}}")
    });
    let head = file(&format!("{{{}}}", entries.collect::<Vec<_>>().join(",")), &[]);
    let mut out = BufWriter::new(File::create(path).unwrap());
    out.write_all(&head).unwrap();
    // Weight and bias of each layer.
    for (i, (_, shape)) in tensors.iter().enumerate().take(filled * 2) {
        out.write_all(&f32s(&weights(seed << 8 | i as u64, shape.iter().product()))).unwrap();
    }
    let out = out.into_inner().unwrap();
    out.set_len((head.len() + end) as u64).unwrap();
}

/// Parameters of the first `kept` convolutions of a checkpoint: what has a weight of four
/// dimensions, by the number in its name, with its bias.
fn parameters_of_first(checkpoint: &Checkpoint, kept: usize) -> usize {
    let mut convolutions: Vec<(usize, usize)> = Vec::new();
    for view in checkpoint.tensors().filter(|view| view.shape().len() == 4) {
        let layer = view.name().strip_suffix(".weight").unwrap();
        let depth = layer.rsplit('.').next().unwrap().parse().unwrap();
        let bias = checkpoint.get(&format!("{layer}.bias")).unwrap();
        convolutions.push((depth, view.elements() + bias.elements()));
    }
    convolutions.sort_unstable();
    convolutions.iter().take(kept).map(|(_, parameters)| parameters).sum()
}

/// `full` over `part`, to as many places as the table of the arithmetic has.
fn ratio(full: usize, part: usize, places: usize) -> String {
    format!("{:.places$}", full as f64 / part as f64)
}

#[test]
fn vgg_16_has_the_parameters_and_names_of_the_paper() {
    let folder = Folder::new("vgg16");
    let path = folder.path().join("vgg16.safetensors");
    write_vgg16(&path, 1, 1);
    let checkpoint = Checkpoint::open(&path, &Limits::default()).unwrap();
    let total: usize = checkpoint.tensors().map(|view| view.elements()).sum();
    assert_eq!((checkpoint.tensors().count(), total), (28, 14_719_818));
    let shape = |name: &str| checkpoint.get(name).unwrap().shape().to_vec();
    assert_eq!(shape("features.0.weight"), [64, 3, 3, 3]);
    assert_eq!(shape("features.28.weight"), [512, 512, 3, 3]);
    assert_eq!((shape("features.28.bias"), shape("classifier.weight")), (vec![512], vec![10, 512]));
    // The numbers that torchvision's `vgg16().features` has its convolutions under.
    for number in [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28] {
        assert_eq!(shape(&format!("features.{number}.weight")).len(), 4);
    }
    let is_zero = |name: &str| checkpoint.get(name).unwrap().bytes().iter().all(|byte| *byte == 0);
    let zeros = ["features.0.weight", "features.0.bias", "features.2.weight", "classifier.bias"].map(is_zero);
    assert_eq!(zeros, [false, false, true, true]);
}

#[test]
fn the_file_depends_on_the_seed_and_on_nothing_else() {
    let folder = Folder::new("vgg16-seed");
    let written = |seed, filled| {
        let path = folder.path().join("vgg16.safetensors");
        write_vgg16(&path, seed, filled);
        let checkpoint = Checkpoint::open(&path, &Limits::default()).unwrap();
        ["features.0.weight", "features.2.bias"].map(|name| checkpoint.get(name).unwrap().bytes().to_vec())
    };
    let first = written(1, 2);
    assert_eq!(first, written(1, 2));
    let (other, fewer) = (written(2, 2), written(1, 1));
    assert!(first[0] != other[0] && first[1] != other[1]);
    assert!(first[0] == fewer[0] && first[1] != fewer[1]);
}

#[test]
fn what_the_first_convolutions_take() {
    let folder = Folder::new("vgg16-storage");
    let path = folder.path().join("vgg16.safetensors");
    write_vgg16(&path, 1, 0);
    let checkpoint = Checkpoint::open(&path, &Limits::default()).unwrap();
    let full = 14_719_818;
    // Kept convolutions, their parameters, how often they go into the full weights: both in
    // float, and the full weights in float with the kept ones in codes of 8 bits.
    for (kept, parameters, float, (codes, places)) in [
        (5, 555_328, "26.5", ("106", 0)),
        (6, 1_145_408, "12.9", ("51", 0)),
        (7, 1_735_488, "8.5", ("33.9", 1)),
        (8, 2_915_648, "5.0", ("20", 0)),
        (9, 5_275_456, "2.8", ("11.2", 1)),
    ] {
        assert_eq!(parameters_of_first(&checkpoint, kept), parameters, "{kept}");
        assert_eq!(ratio(full * 4, parameters * 4, 1), float, "{kept}");
        assert_eq!(ratio(full * 4, parameters, places), codes, "{kept}");
        // The least and the largest value of each tensor, which decode the codes, change no digit.
        assert_eq!(ratio(full * 4, parameters + kept * 2 * 8, places), codes, "{kept}");
    }
    assert_eq!(parameters_of_first(&checkpoint, 13), full - 5130, "all but the linear layer");
    assert_eq!(parameters_of_first(&checkpoint, 0), 0);
}

/// Bytes of the signature of the first `layers` convolutions, stored as `flags` say.
fn extracted(folder: &Folder, layers: usize, flags: &str) -> u64 {
    let line = format!(
        "signature extract --init @init.safetensors --standard @standard.safetensors --robust @robust.safetensors \
         --layers {layers} {flags} --force -o @sig.safetensors --json"
    );
    let report = run(folder, &line).json();
    let bytes = std::fs::metadata(folder.at("sig.safetensors")).unwrap().len();
    assert_eq!(report["bytes"], bytes);
    bytes
}

#[test]
fn files_of_the_first_six_convolutions_are_as_small_as_the_arithmetic_says() {
    let folder = Folder::new("vgg16-files");
    for (seed, name) in [(1, "init"), (2, "standard"), (3, "robust")] {
        write_vgg16(folder.at(&format!("{name}.safetensors")).as_ref(), seed, 6);
    }
    let copy = std::fs::metadata(folder.at("standard.safetensors")).unwrap().len() as f64;
    let times = |flags: &str| copy / extracted(&folder, 6, flags) as f64;
    // 12.9 in the arithmetic; names and digests of the file take the rest.
    let (f32, f16, codes) = (times("--scheme f32"), times("--scheme f16"), times("--scheme int8/row/sym"));
    assert!((12.8..12.9).contains(&f32), "{f32}");
    assert!(f16 >= 13.0 && (25.0..25.8).contains(&f16), "{f16}");
    assert!((50.0..51.5).contains(&codes), "{codes}");
}

#[test]
fn a_sparse_patch_of_one_weight_in_a_hundred_takes_a_fortieth_of_the_bytes_of_codes() {
    let folder = Folder::new("sparse-patch");
    let shape: &[usize] = &[1024, 2048];
    for (seed, name) in [(1, "init"), (2, "standard"), (3, "robust")] {
        let tensor = ("proj.weight", "F32", shape, f32s(&weights(seed, 1024 * 2048)));
        niwaki_conformance::checkpoints::write(folder.at(&format!("{name}.safetensors")), &[tensor]);
    }
    run(&folder, "compress @standard.safetensors --scheme int8/row/sym -o @model.safetensors");
    let model = std::fs::metadata(folder.at("model.safetensors")).unwrap().len() as f64;
    let patch = extracted(&folder, 1, "--sparsity 0.99 --scheme int8/g64/sym") as f64;
    assert!(patch <= 0.025 * model, "{} %", 100.0 * patch / model);
    // It goes on and off.
    let original = std::fs::read(folder.at("model.safetensors")).unwrap();
    run(&folder, "signature apply @model.safetensors @sig.safetensors --allow-loss -o @on.safetensors");
    run(&folder, "signature remove @on.safetensors sig -o @off.safetensors");
    assert!(std::fs::read(folder.at("off.safetensors")).unwrap() == original);
}

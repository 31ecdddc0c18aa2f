//! Running statistics measured anew when a signature is applied.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;

use niwaki_conformance::folder::{Folder, bundled, sample};
use niwaki_conformance::residual::network;
use niwaki_conformance::scene::run;
use niwaki_conformance::trained::refuse;
use niwaki_engine::dataset::Dataset;
use niwaki_tensors::{Checkpoint, Limits};

/// An initial network, one trained on clean images, and the signature of one trained on foggy ones.
fn scene() -> Folder {
    let folder = Folder::new("recalibrate");
    network(&folder.path().join("net.onnx"), 1);
    run(&folder, &format!("dataset corrupt {} --kind fog --severity 5 -o @fog.safetensors", sample()));
    let train = |model: &str, data: &str, how: &str, out: &str| {
        run(&folder, &format!("train @{model} --data {data} --epochs 1 --batch 100 --lr 0.05{how} -o @{out}"));
    };
    let fog = folder.at("fog.safetensors");
    train("net.onnx", &sample(), " --init random", "init.onnx");
    train("init.onnx", &sample(), "", "standard.onnx");
    train("init.onnx", &fog, "", "foggy.onnx");
    run(
        &folder,
        "signature extract --init @init.onnx --standard @standard.onnx --robust @foggy.onnx --scheme int8/row/sym -o @s.safetensors",
    );
    folder
}

fn floats(folder: &Folder, file: &str, name: &str) -> Vec<f32> {
    let exported = folder.at("exported.safetensors");
    let _ = fs::remove_file(&exported);
    run(folder, &format!("export @{file} --to safetensors -o @exported.safetensors"));
    let checkpoint = Checkpoint::open(&exported, &Limits::default()).unwrap();
    checkpoint.get(name).unwrap().f32s().unwrap().to_vec()
}

/// Mean and variance of each channel of the first convolution, as single loops in f64 have them: averages over batches
/// of 64.
fn of_stem(folder: &Folder, weights: &[f32], data: &str) -> (Vec<f64>, Vec<f64>) {
    let data = Dataset::open(folder.at(data).as_ref()).unwrap();
    let (mut means, mut variances) = (vec![0.0; 8], vec![0.0; 8]);
    for start in (0..data.len()).step_by(64) {
        let items = start..(start + 64).min(data.len());
        let count = items.len();
        let mut images = vec![0.0f32; count * 784];
        data.batch(items, &mut images).unwrap();
        for channel in 0..8 {
            let mut all = Vec::new();
            for image in images.chunks(784) {
                for (y, x) in (0..14).flat_map(|y| (0..14).map(move |x| (y, x))) {
                    let mut sum = 0.0f64;
                    for (ky, kx) in (0..3).flat_map(|ky| (0..3).map(move |kx| (ky, kx))) {
                        let (row, column) = (2 * y + ky, 2 * x + kx);
                        if (1..=28).contains(&row) && (1..=28).contains(&column) {
                            let pixel = image[(row - 1) * 28 + column - 1];
                            sum += f64::from(weights[channel * 9 + ky * 3 + kx]) * f64::from(pixel);
                        }
                    }
                    all.push(sum);
                }
            }
            let mean = all.iter().sum::<f64>() / all.len() as f64;
            let share = count as f64 / data.len() as f64;
            means[channel] += share * mean;
            variances[channel] += share * all.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / all.len() as f64;
        }
    }
    (means, variances)
}

fn assert_near(found: &[f32], expected: &[f64], what: &str) {
    for (found, expected) in found.iter().zip(expected) {
        let error = (f64::from(*found) - expected).abs();
        assert!(error <= 1e-4 * (1.0 + expected.abs()), "{what}: {found}, {expected} expected");
    }
}

#[test]
fn statistics_are_those_of_the_patched_model_and_go_with_the_patch() {
    let folder = scene();
    run(&folder, "signature apply @standard.onnx @s.safetensors -o @plain.onnx");
    run(&folder, "signature apply @standard.onnx @s.safetensors --recalibrate @fog.safetensors -o @anew.onnx");
    // Weights are those of the patch without recalibration, codes and all.
    let stem = floats(&folder, "plain.onnx", "stem.weight");
    assert_eq!(floats(&folder, "anew.onnx", "stem.weight"), stem);
    let (means, variances) = of_stem(&folder, &stem, "fog.safetensors");
    assert_near(&floats(&folder, "anew.onnx", "bn.running_mean"), &means, "mean");
    assert_near(&floats(&folder, "anew.onnx", "bn.running_var"), &variances, "variance");
    // Half a patch has half of what is measured with it.
    run(&folder, "signature apply @standard.onnx @s.safetensors@0.5 --recalibrate @fog.safetensors -o @half.onnx");
    let (means, _) = of_stem(&folder, &floats(&folder, "half.onnx", "stem.weight"), "fog.safetensors");
    let own = floats(&folder, "standard.onnx", "bn.running_mean");
    let mixed: Vec<f64> = means.iter().zip(own).map(|(new, own)| 0.5 * new + 0.5 * f64::from(own)).collect();
    assert_near(&floats(&folder, "half.onnx", "bn.running_mean"), &mixed, "half of the mean");
    // It is one patch, and leaves nothing behind.
    let listed = run(&folder, "signature list @anew.onnx --json").json();
    assert_eq!(listed["patches"].as_array().unwrap().len(), 1, "{listed}");
    run(&folder, "signature remove @anew.onnx s -o @back.onnx");
    assert_eq!(fs::read(folder.at("back.onnx")).unwrap(), fs::read(folder.at("standard.onnx")).unwrap());
    // Nothing is written, and any number of threads measures the same.
    let apply = "signature apply @standard.onnx @s.safetensors --recalibrate @fog.safetensors";
    let dry = run(&folder, &format!("{apply} --dry-run --json")).json();
    let touched: Vec<&str> = dry["tensors"].as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap()).collect();
    assert!(touched.contains(&"bnb1.running_var") && touched.contains(&"stem.weight"), "{touched:?}");
    run(&folder, &format!("{apply} --threads 3 -o @three.onnx"));
    assert!(fs::read(folder.at("anew.onnx")).unwrap() == fs::read(folder.at("three.onnx")).unwrap());
}

#[test]
fn a_checkpoint_without_a_graph_takes_that_of_a_model_and_a_second_patch_keeps_the_first() {
    let folder = scene();
    run(&folder, "export @standard.onnx --to safetensors -o @standard.safetensors");
    let apply = "signature apply @standard.safetensors @s.safetensors --recalibrate @fog.safetensors";
    refuse(&folder, &format!("{apply} -o @no.safetensors"), "recalibration of a checkpoint that has no graph");
    run(&folder, &format!("{apply} --model @net.onnx -o @anew.safetensors"));
    run(&folder, "signature apply @standard.onnx @s.safetensors --recalibrate @fog.safetensors -o @anew.onnx");
    let of = |file: &str| floats(&folder, file, "bnb1.running_mean");
    assert_eq!(of("anew.safetensors"), of("anew.onnx"));
    // On top of a stack, digests are those of the checkpoint without it.
    run(
        &folder,
        &format!("signature apply @anew.onnx @s.safetensors --name more --recalibrate {} -o @two.onnx", sample()),
    );
    assert_ne!(of("two.onnx"), of("anew.onnx"));
    run(&folder, "signature remove @two.onnx more -o @one.onnx");
    assert_eq!(fs::read(folder.at("one.onnx")).unwrap(), fs::read(folder.at("anew.onnx")).unwrap());
    run(&folder, "signature remove @two.onnx s -o @other.onnx");
    run(&folder, "signature remove @other.onnx more -o @none.onnx");
    assert_eq!(fs::read(folder.at("none.onnx")).unwrap(), fs::read(folder.at("standard.onnx")).unwrap());
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let folder = scene();
    let apply = "signature apply @standard.onnx @s.safetensors";
    let refuse = |line: &str, what: &str| refuse(&folder, line, what);
    refuse(
        &format!("{apply} --alpha 1.5 --recalibrate @fog.safetensors -o @no.onnx"),
        "recalibration with an alpha of 1.5: from 0 to 1 expected",
    );
    refuse(&format!("{apply} --recalibrate @s.safetensors -o @no.onnx"), "no tensor `images`");
    refuse(&format!("{apply} --recalibrate @fog.safetensors -o @foggy.onnx"), "exists");
    // A network without normalizations, and a patch of it.
    let cnn = bundled("model.onnx");
    refuse(&format!("{apply} --recalibrate @fog.safetensors --model {cnn} -o @no.onnx"), "none of the weights of");
    run(&folder, &format!("train {cnn} --data @fog.safetensors --epochs 1 --lr 0.001 -o @robust.onnx"));
    let extract = format!("signature extract --init {cnn} --standard {cnn} --robust @robust.onnx -o @c.safetensors");
    run(&folder, &extract);
    let without = format!("signature apply {cnn} @c.safetensors --recalibrate @fog.safetensors -o @no.onnx");
    refuse(&without, "without running statistics");
    run(&folder, &format!("train @standard.onnx --data {} --epochs 1 -o @other.onnx", sample()));
    refuse(
        "signature apply @other.onnx @s.safetensors --recalibrate @fog.safetensors -o @no.onnx",
        "other weights than those of the signature",
    );
}

//! What is written is read by the tools themselves, where they are installed.

#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod made;

use std::process::Command;

use made::cases::{cases, float_bytes, float_cases, float_value};
use made::{Tensors, module};
use niwaki_foreign::{Activations, Module, ModuleScheme, float_parts, quantization_config};
use niwaki_tensors::{Dtype, Overwrite, write_file};
use serde_json::{Value, json};

#[test]
fn the_tools_read_what_we_write() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/scripts/foreign_golden.py");
    let python = |args: &[&str]| Command::new("python3").args(args).env("CUDA_VISIBLE_DEVICES", "").output();
    let installed = python(&["-c", "import mlx.core, torch, compressed_tensors, safetensors"]);
    if !installed.is_ok_and(|output| output.status.success()) {
        println!("skipped: python3 with mlx, torch and compressed-tensors is not installed");
        return;
    }
    let folder = std::env::temp_dir().join(format!("niwaki-foreign-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let written = write_cases(&folder);
    let output = python(&[script, "--check", folder.to_str().unwrap()]).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(said.lines().filter(|line| line.ends_with(" same")).count(), written, "{said}");
}

/// A file and a configuration for each case that the tools can open; how many there are.
fn write_cases(folder: &std::path::Path) -> usize {
    let mut written = 0;
    let mut write =
        |family: &str, key: &str, stored: &Tensors, (config, expected): (Value, Vec<f32>), shape: [usize; 2]| {
            let expected: Vec<u8> = expected.into_iter().flat_map(f32::to_le_bytes).collect();
            let mut tensors: Vec<(&str, Dtype, &[usize], &[u8])> = Vec::new();
            for (name, (dtype, shape, bytes)) in &stored.all {
                tensors.push((name, *dtype, shape, bytes));
            }
            tensors.push(("expected", Dtype::F32, &shape, &expected));
            let path = folder.join(format!("{family}-{written:03}.safetensors"));
            write_file(&path, &tensors, &[("format", "pt")], Overwrite::Refuse).unwrap();
            std::fs::write(path.with_extension("json"), json!({ key: config }).to_string()).unwrap();
            written += 1;
        };
    for (format, weight, dtype) in cases() {
        let expected: Vec<f32> =
            (0..weight.rows * weight.cols).map(|i| weight.value(i / weight.cols, i % weight.cols) as f32).collect();
        let (stored, outline) = weight.stored(format, dtype);
        let config = quantization_config(&[module("m", &outline)], &[], Activations::Float).unwrap();
        match format.family() {
            "mlx" => write("mlx", "quantization", &stored, (config, expected), [weight.rows, weight.cols]),
            "compressed-tensors" if dtype == Dtype::F32 => {
                write("ct", "quantization_config", &stored, (config, expected), [weight.rows, weight.cols]);
            }
            _ => {}
        }
    }
    for (format, float, shape) in float_cases() {
        let [rows, cols] = shape[..] else { continue };
        let stored = float_bytes(&float_parts(format, "m.weight", float, &shape).unwrap());
        let value = |i: usize| float_value(float, &stored, "m.", (0, i / cols, rows), (i % cols, cols)) as f32;
        let expected = (0..rows * cols).map(value).collect();
        let module = Module { name: "m", format, scheme: ModuleScheme::Float(float) };
        let config = quantization_config(&[module], &["lm_head"], Activations::Float).unwrap();
        match format.family() {
            "mlx" => write("mlx", "quantization", &stored, (config, expected), [rows, cols]),
            "compressed-tensors" => write("ct", "quantization_config", &stored, (config, expected), [rows, cols]),
            _ => {}
        }
    }
    written
}

//! `--device`: the same bytes on a CUDA device as on the processor, and why there is none.
//!
//! The device is a real one, or the emulated one where LD_LIBRARY_PATH names the folder of its driver
//! (quant/cuda/emulator/build). Without any, tests that need one print *skipped*; with NIWAKI_REQUIRE_GPU set they fail.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;

use niwaki_conformance::checkpoints::{bf16s, f32s, weights, write};
use niwaki_conformance::folder::{Folder, bundled, sample};
use niwaki_conformance::scene::{attempt, json};

/// Why there is no device; nothing where there is one.
fn missing() -> Option<String> {
    let folder = Folder::new("cuda-devices");
    let devices = json(&folder, "devices");
    let cuda = devices["devices"].as_array().unwrap().iter().find(|d| d["name"].as_str().unwrap().starts_with("cuda"));
    cuda.unwrap()["why"].as_str().map(str::to_owned)
}

/// Whether to go on, on a device that works.
#[allow(clippy::print_stderr, reason = "who skips says so")]
fn works() -> bool {
    match missing() {
        Some(why) => {
            assert!(std::env::var_os("NIWAKI_REQUIRE_GPU").is_none(), "NIWAKI_REQUIRE_GPU is set, and {why}");
            eprintln!("skipped: {why}");
            false
        }
        None => !fails(),
    }
}

/// Whether the emulated device was asked to fail.
fn fails() -> bool {
    std::env::var_os("NIWAKI_EMULATOR_FAIL").is_some()
}

/// Weights of several types and shapes; rows of some begin anywhere.
fn checkpoint(folder: &Folder) {
    let (one, two, three) = (weights(1, 40 * 96), weights(2, 7 * 333), weights(3, 3 * 5000));
    let halves: Vec<u8> = weights(4, 16 * 130).iter().flat_map(|x| half::f16::from_f32(*x).to_le_bytes()).collect();
    write(
        folder.at("net.safetensors"),
        &[
            ("one", "F32", &[40, 96], f32s(&one)),
            ("two", "BF16", &[7, 333], bf16s(&two)),
            ("three", "F32", &[3, 5000], f32s(&three)),
            ("four", "F16", &[16, 130], halves),
            ("bias", "F32", &[40], f32s(&one[..40])),
        ],
    );
}

#[test]
fn checkpoints_are_those_of_the_processor() {
    if !works() {
        return;
    }
    let folder = Folder::new("cuda-compress");
    checkpoint(&folder);
    for scheme in
        ["int4/g64/sym", "int3/g32/affine", "int8/row/sym", "int5/row/affine", "int4/tensor/sym", "int4/g600/sym"]
    {
        for fit in ["min_max", "clip"] {
            for device in ["cpu", "cuda", "cuda:0", "auto"] {
                let out = device.replace(':', "-");
                let line = format!("compress @net.safetensors --scheme {scheme} --fit {fit} --device {device}");
                json(&folder, &format!("{line} --threads 3 -o @{out}.safetensors --force"));
                let [cpu, other] =
                    ["cpu", &out].map(|name| fs::read(folder.at(&format!("{name}.safetensors"))).unwrap());
                assert!(cpu == other, "{scheme} {fit} on {device}");
            }
        }
    }
}

#[test]
fn statistics_are_those_of_the_processor() {
    if !works() {
        return;
    }
    let folder = Folder::new("cuda-calibrate");
    let (model, data) = (bundled("model.onnx"), sample());
    for flags in ["--histogram", "--gram", "--gram --histogram"] {
        for device in ["cpu", "cuda"] {
            let line = format!("calibrate {model} --data {data} --limit 3 {flags} --device {device}");
            json(&folder, &format!("{line} -o @{device}.safetensors --force"));
        }
        let [cpu, cuda] = ["cpu", "cuda"].map(|name| fs::read(folder.at(&format!("{name}.safetensors"))).unwrap());
        assert!(cpu == cuda, "{flags}");
    }
}

#[test]
fn weights_that_no_code_holds_are_named_alike() {
    if !works() {
        return;
    }
    let folder = Folder::new("cuda-nan");
    let mut values = weights(1, 64 * 64);
    values[64 * 40 + 3] = f32::NAN;
    write(folder.at("net.safetensors"), &[("w", "F32", &[64, 64], f32s(&values))]);
    let [cpu, cuda] = ["cpu", "cuda"].map(|device| {
        let line = format!("compress @net.safetensors --scheme int4/g32/sym --device {device} -o @out.safetensors");
        attempt(&folder, &line).error().to_owned()
    });
    assert!(cpu == cuda && cpu.contains("`w`") && cpu.contains("2563"), "{cpu}; {cuda}");
}

#[test]
fn a_device_that_gives_up_is_an_error_and_nothing_is_written() {
    if missing().is_some() || !fails() {
        return;
    }
    let folder = Folder::new("cuda-fails");
    checkpoint(&folder);
    let (model, data) = (bundled("model.onnx"), sample());
    for line in [
        "compress @net.safetensors --scheme int4/g64/sym --device cuda -o @out.safetensors".to_owned(),
        format!("calibrate {model} --data {data} --limit 3 --gram --device cuda -o @out.safetensors"),
        format!("calibrate {model} --data {data} --limit 3 --device cuda -o @out.safetensors"),
    ] {
        let answer = attempt(&folder, &line);
        assert!(answer.error().contains("CUDA driver refused"), "{answer:?}");
        assert_eq!(folder.names(), ["net.safetensors"], "{line}");
    }
}

#[test]
fn devices_that_are_not_there_are_errors() {
    let folder = Folder::new("cuda-missing");
    checkpoint(&folder);
    let compress = |device: &str| {
        let line = format!("compress @net.safetensors --scheme int4/g64/sym --device {device} -o @out.safetensors");
        attempt(&folder, &line).error().to_owned()
    };
    let why = compress("cuda:4294967295");
    assert!(why.starts_with("`--device cuda:4294967295`: no CUDA ") || missing().is_some(), "{why}");
    for device in ["gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "auto:1"] {
        let why = compress(device);
        assert_eq!(why, format!("`--device {device}`: expected auto, cpu or cuda[:N]"));
    }
    if let Some(missing) = missing() {
        assert_eq!(compress("cuda"), format!("`--device cuda`: {missing}"));
        assert_eq!(folder.names(), ["net.safetensors"]);
        // And without being asked for, the processor does it, and says why under -v.
        let answer = attempt(&folder, "compress @net.safetensors --scheme int4/g64/sym -v -o @out.safetensors");
        assert!(answer.err.contains(&format!("; {missing}")), "{answer:?}");
    } else {
        let answer = attempt(&folder, "verify @net.safetensors --device cuda");
        assert!(answer.error().contains("`--device cuda` with this verb"), "{answer:?}");
    }
}

//! Device images of elastic and of sparse weights: their prefixes, and C against them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;

use niwaki_conformance::device::{compiled, vectors};
use niwaki_conformance::folder::{Folder, bundled, sample};
use niwaki_conformance::scene::{json, run};
use niwaki_conformance::trained::refuse;
use niwaki_image::{Image, Kind, seal};

/// A folder with the statistics of the bundled network, and the start of a line that exports it.
fn calibrated(name: &str) -> (Folder, String) {
    let folder = Folder::new(name);
    run(&folder, &format!("calibrate {} --data {} -o @stats.safetensors", bundled("model.onnx"), sample()));
    let line = format!("export {} --stats {}", bundled("model.onnx"), folder.at("stats.safetensors"));
    (folder, line)
}

fn accuracy(folder: &Folder, image: &str) -> f64 {
    json(folder, &format!("eval @{image} --data {}", sample()))["accuracy"].as_f64().unwrap()
}

#[test]
fn the_first_bytes_of_an_image_are_a_narrower_network() {
    let (folder, line) = calibrated("narrow-prefixes");
    let said = json(&folder, &format!("{line} --to image --scheme elastic/row -o @e.image"));
    let bytes = fs::read(folder.at("e.image")).unwrap();
    let image = Image::parse(&bytes).unwrap();
    assert_eq!(said["prefixes"].as_array().unwrap().len(), 7);
    // What is lost to two bits that nothing was trained for, and to more of them, in parts of all.
    let worst = [0.12, 0.03, 0.02, 0.01, 0.01, 0.01, 0.01];
    let float = json(&folder, &format!("eval {} --data {}", bundled("model.onnx"), sample()));
    let float = float["accuracy"].as_f64().unwrap();
    for ((bits, end), worst) in image.widths().zip(worst) {
        run(&folder, &format!("slice @e.image --bits {bits} -o @{bits}.image"));
        assert!(fs::read(folder.at(&format!("{bits}.image"))).unwrap() == bytes[..end]);
        let found = accuracy(&folder, &format!("{bits}.image"));
        assert!(found >= float - worst, "{found} in {bits} bits, {float} in floats");
    }
    // Two planes of eight, and of the numbers of rows one set of seven.
    let narrow = image.widths().next().unwrap().1;
    assert!(narrow * 4 < bytes.len(), "{narrow} of {} bytes", bytes.len());
    run(&folder, &format!("{line} --to image --scheme elastic/row --threads 1 -o @again.image"));
    assert!(fs::read(folder.at("again.image")).unwrap() == bytes, "the same bytes every time");
    refuse(&folder, "slice @3.image --bits 4 -o @x.image", "a device image of width 4; it serves 2, 3");
    run(&folder, &format!("{line} --to image -o @eight.image"));
    refuse(&folder, "slice @eight.image --bits 4 -o @x.image", "it serves none");
    let refused = |flags: &str, what: &str| refuse(&folder, &format!("{line} --to image -o @x.image {flags}"), what);
    refused("--scheme elastic/row/9", "a device image holds no such codes");
    refused("--scheme elastic/g64", "a device image holds no such codes");
    refused("--scheme elastic/row --fit lsq", "`--fit` with `--scheme elastic/row`");
    refused("--scheme elastic/row --sparse", "`--sparse` with `--scheme elastic/row`");
    fs::write(folder.at("cut.image"), &bytes[..bytes.len() - 16]).unwrap();
    refuse(&folder, &format!("eval @cut.image --data {}", sample()), "bytes expected, has");
    let mut greedy = bytes;
    greedy[24..28].copy_from_slice(&u32::MAX.to_le_bytes());
    seal(&mut greedy);
    fs::write(folder.at("greedy.image"), greedy).unwrap();
    refuse(&folder, &format!("eval @greedy.image --data {}", sample()), "needs 4294967295 bytes of private memory");
}

#[test]
fn c_is_compiled_for_the_width_that_it_is_told() {
    let (folder, line) = calibrated("narrow-c");
    run(&folder, &format!("{line} --to image --scheme elastic/row/2,4,7,8 -o @e.image"));
    run(&folder, &format!("{line} --to c --scheme elastic/row/2,4,7,8 -o @e"));
    for bits in [2, 4, 7, 8] {
        run(&folder, &format!("slice @e.image --bits {bits} -o @{bits}.image"));
        let text = vectors(folder.at(&format!("{bits}.image")).as_ref(), sample().as_ref(), 100).unwrap();
        fs::write(folder.at("e/vectors.h"), text).unwrap();
        let Some((code, said)) = compiled(&folder, "e", &[&format!("-DMODEL_WIDTH={bits}")]) else { return };
        assert!(code == 0 && said.starts_with("equal 100 of 100, "), "{bits} bits: {said}");
    }
    // These vectors are those of 8 bits.
    let Some((code, said)) = compiled(&folder, "e", &["-DMODEL_WIDTH=2"]) else { return };
    assert!(code == 1 && !said.starts_with("equal 100 "), "{said}");
}

#[test]
fn weights_that_are_left_out_change_no_code() {
    let (folder, line) = calibrated("narrow-sparse");
    let codes = |image: &str| vectors(folder.at(image).as_ref(), sample().as_ref(), 100).unwrap();
    for (name, scheme, kind) in [("4", "int4/row/sym", Kind::Sparse4), ("8", "int8/row/sym", Kind::Sparse8)] {
        run(&folder, &format!("{line} --to image --scheme {scheme} -o @dense{name}.image"));
        run(&folder, &format!("{line} --to image --scheme {scheme} --sparse -o @sparse{name}.image"));
        run(&folder, &format!("{line} --to c --scheme {scheme} --sparse -o @c{name}"));
        let [dense, sparse] = ["dense", "sparse"].map(|of| fs::read(folder.at(&format!("{of}{name}.image"))).unwrap());
        assert!(sparse.len() < dense.len(), "{} of {} bytes", sparse.len(), dense.len());
        let image = Image::parse(&sparse).unwrap();
        assert!((0..image.tensors()).any(|at| image.tensor(at).is_some_and(|tensor| tensor.kind == kind)));
        let made = codes(&format!("sparse{name}.image"));
        assert_eq!(made, codes(&format!("dense{name}.image")));
        fs::write(folder.at(&format!("c{name}/vectors.h")), made).unwrap();
        let Some((code, said)) = compiled(&folder, &format!("c{name}"), &[]) else { return };
        assert!(code == 0 && said.starts_with("equal 100 of 100, "), "{scheme}: {said}");
    }
}

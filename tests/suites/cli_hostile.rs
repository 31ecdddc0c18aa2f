//! What can be wrong with files and places, seen through the command line: a clear
//! error, exit code 2, and nothing lost.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::ffi::OsString;

use niwaki_conformance::checkpoints::{Tensor, f32s, file, header, weights, write};
use niwaki_conformance::cli::{Answer, niwaki};
use niwaki_conformance::folder::{Folder, fashion};

fn compress(from: &str, to: &str, more: &[&str]) -> Answer {
    niwaki(["compress", from, "--scheme", "int4/g32/sym", "-o", to].into_iter().chain(more.iter().copied()))
}

#[test]
fn a_file_cut_anywhere_is_refused_and_no_output_appears() {
    let folder = Folder::new("hostile");
    let whole = std::fs::read(fashion()).unwrap();
    let cut = folder.at("cut.safetensors");
    for at in [0, 1, 7, 8, 9, 100, 600, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&cut, &whole[..at]).unwrap();
        let answer = compress(&cut, &folder.at("out.safetensors"), &[]);
        assert!(answer.error().contains("cut.safetensors"), "{at}: {}", answer.err);
        assert_eq!(folder.names(), ["cut.safetensors"], "{at}");
    }
}

#[test]
fn a_container_cut_anywhere_is_refused_by_every_reading_verb() {
    let folder = Folder::new("hostile");
    let good = folder.at("good.safetensors");
    niwaki(["compress", &fashion(), "--scheme", "elastic/g32", "-o", &good]).ok();
    let whole = std::fs::read(&good).unwrap();
    let (cut, out) = (folder.at("cut.safetensors"), folder.at("out.safetensors"));
    for at in [7, 200, 5000, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&cut, &whole[..at]).unwrap();
        let verbs: [&[&str]; 5] = [
            &["inspect", &cut],
            &["verify", &cut],
            &["compare", &good, &cut],
            &["slice", &cut, "--bits", "4", "-o", &out],
            &["export", &cut, "--to", "safetensors", "-o", &out],
        ];
        for verb in verbs {
            assert!(niwaki(verb).error().contains("cut.safetensors"), "{verb:?} at {at}");
        }
    }
    assert_eq!(folder.names(), ["cut.safetensors", "good.safetensors"]);
}

#[test]
fn a_name_that_stands_twice_is_named() {
    let folder = Folder::new("hostile");
    let path = folder.at("twice.safetensors");
    let entry = r#""w":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}"#;
    std::fs::write(&path, file(&format!("{{{entry},{entry}}}"), &[0; 16])).unwrap();
    let answer = compress(&path, &folder.at("out.safetensors"), &[]);
    assert!(answer.error().contains("two tensors are called `w`"), "{}", answer.err);
}

#[test]
fn a_name_that_a_part_would_take_is_refused() {
    let folder = Folder::new("hostile");
    let path = folder.at("in.safetensors");
    let tensors: [Tensor<'_>; 2] =
        [("w", "F32", &[2, 4], f32s(&weights(1, 8))), ("w.codes", "F32", &[2], f32s(&weights(2, 2)))];
    write(&path, &tensors);
    let answer = compress(&path, &folder.at("out.safetensors"), &[]);
    assert!(answer.error().contains("`w.codes`"), "{}", answer.err);
    assert_eq!(folder.names(), ["in.safetensors"]);
}

#[test]
fn a_weight_that_is_no_number_is_named_and_can_be_kept() {
    let folder = Folder::new("hostile");
    let path = folder.at("in.safetensors");
    let out = folder.at("out.safetensors");
    for (at, value) in [(0, f32::NAN), (131, f32::INFINITY), (8191, f32::NEG_INFINITY)] {
        let mut values = weights(3, 8192);
        values[at] = value;
        write(
            &path,
            &[("good", "F32", &[8, 64], f32s(&weights(4, 512))), ("spoilt", "F32", &[64, 128], f32s(&values))],
        );
        for scheme in ["int4/g32/sym", "int8/row/affine", "int4/tensor/sym", "elastic/g64"] {
            let answer = niwaki(["compress", &path, "--scheme", scheme, "-o", &out]);
            let error = answer.error();
            assert!(error.contains("tensor `spoilt`") && error.contains(&format!("weight {at} ")), "{scheme}: {error}");
            assert_eq!(folder.names(), ["in.safetensors"], "{scheme}");
        }
        let kept = niwaki(["compress", &path, "--scheme", "int4/g32/sym", "-o", &out, "--nan", "keep", "--json"]);
        let note = format!("note: tensor `spoilt`: weight {at} is NaN or infinite; carried as it is\n");
        assert_eq!((kept.code, &kept.err), (0, &note));
        let kept = kept.json();
        assert_eq!((&kept["tensors"][0]["fate"], &kept["tensors"][1]["fate"]), (&"quantize".into(), &"keep".into()));
        std::fs::remove_file(&out).unwrap();
    }
}

#[test]
fn an_output_that_exists_is_overwritten_with_force_only() {
    let folder = Folder::new("hostile");
    let out = folder.at("out.safetensors");
    std::fs::write(&out, "precious").unwrap();
    let answer = compress(&fashion(), &out, &[]);
    assert!(answer.error().contains("out.safetensors") && answer.err.contains("--force"), "{}", answer.err);
    assert_eq!(std::fs::read(&out).unwrap(), b"precious");
    compress(&fashion(), &out, &["--force"]).ok();
    niwaki(["verify", &out]).ok();
    assert_eq!(folder.names(), ["out.safetensors"]);
}

#[test]
fn force_does_not_turn_a_refusal_into_a_loss() {
    let folder = Folder::new("hostile");
    let (spoilt, out) = (folder.at("in.safetensors"), folder.at("out.safetensors"));
    let mut values = weights(3, 64);
    values[63] = f32::NAN;
    write(&spoilt, &[("w", "F32", &[2, 32], f32s(&values))]);
    std::fs::write(&out, "precious").unwrap();
    assert!(compress(&spoilt, &out, &["--force"]).error().contains("`w`"));
    assert_eq!(std::fs::read(&out).unwrap(), b"precious");
}

#[test]
fn the_input_is_never_the_output() {
    let folder = Folder::new("hostile");
    let path = folder.at("in.safetensors");
    std::fs::copy(fashion(), &path).unwrap();
    let before = std::fs::read(&path).unwrap();
    let answer = compress(&path, &path, &[]);
    assert_eq!(answer.code, 2);
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn quantized_inputs_are_named() {
    let folder = Folder::new("hostile");
    let path = folder.at("in.safetensors");
    write(
        &path,
        &[("p.weight", "F8_E4M3", &[4, 16], vec![0x38; 64]), ("p.weight_scale", "F32", &[4, 1], f32s(&[0.5; 4]))],
    );
    let answer = compress(&path, &folder.at("out.safetensors"), &[]);
    let note = "note: 1 tensor holds codes already (FP8 with scales): SQNR is against what those decode to\n";
    assert_eq!((answer.code, answer.err.as_str()), (0, note));
    write(&path, &[("p.weight", "I8", &[4, 16], vec![3; 64]), ("p.SCB", "F32", &[4], f32s(&[0.5; 4]))]);
    let answer = compress(&path, &folder.at("none.safetensors"), &[]);
    assert!(answer.error().contains("LLM.int8"), "{}", answer.err);
    let small = folder.at("small.safetensors");
    compress(&fashion(), &small, &[]).ok();
    let again = compress(&small, &folder.at("again.safetensors"), &[]);
    assert!(again.error().contains("already quantized"), "{}", again.err);
}

#[cfg(target_os = "linux")]
#[test]
fn paths_that_are_not_utf8_work() {
    use std::os::unix::ffi::OsStringExt;
    let folder = Folder::new("hostile");
    let name = |tail: &[u8]| {
        let mut path = OsString::from(folder.path()).into_vec();
        path.extend_from_slice(b"/\xff");
        path.extend_from_slice(tail);
        OsString::from_vec(path)
    };
    let (from, to) = (name(b"in.safetensors"), name(b"out.safetensors"));
    std::fs::copy(fashion(), &from).unwrap();
    let flags = ["--scheme", "int4/g32/sym", "-o"].map(OsString::from);
    let command = [OsString::from("compress"), from].into_iter().chain(flags).chain([to.clone()]);
    niwaki(command).ok();
    niwaki([OsString::from("verify"), to]).ok();
    let missing = niwaki([OsString::from("inspect"), name(b"missing")]);
    assert!(missing.error().ends_with("does not exist"), "{}", missing.err);
}

#[cfg(target_os = "linux")]
#[test]
fn a_place_that_cannot_be_written_is_an_error_before_work_starts() {
    let folder = Folder::new("hostile");
    // Root may write anywhere but into the kernel's own tree.
    for place in ["/proc/out.safetensors", &folder.at("no/such/folder/out.safetensors")] {
        let answer = compress(&fashion(), place, &[]);
        assert!(
            answer.error().contains("out.safetensors") || answer.error().contains("no/such/folder"),
            "{}",
            answer.err
        );
    }
    let a_folder = compress(&fashion(), &folder.at(""), &[]);
    assert_eq!(a_folder.code, 2);
    assert!(folder.names().is_empty());
}

#[test]
fn a_memory_cap_that_nothing_can_keep_says_what_is_needed() {
    let folder = Folder::new("hostile");
    let answer = compress(&fashion(), &folder.at("out.safetensors"), &["--memory", "1KiB"]);
    assert!(answer.error().contains("bytes of private memory; the cap is 1024"), "{}", answer.err);
}

#[test]
fn tensors_without_weights_and_of_other_types_are_carried() {
    let folder = Folder::new("hostile");
    let path = folder.at("in.safetensors");
    let tensors: Vec<Tensor<'_>> = vec![
        ("empty", "F32", &[0, 8], Vec::new()),
        ("flags", "BOOL", &[2, 2], vec![1, 0, 0, 1]),
        ("ids", "I64", &[2, 2], vec![7; 32]),
        ("scalar", "F32", &[], f32s(&[0.5])),
        ("tall", "F32", &[300, 1], f32s(&weights(5, 300))),
        ("wide", "F32", &[1, 301], f32s(&weights(6, 301))),
    ];
    assert!(header(&tensors).len() > 8);
    write(&path, &tensors);
    for scheme in
        ["int4/g32/sym", "int3/g60/affine", "int8/row/sym", "int5/tensor/affine", "elastic/g64", "elastic/g7/2,5"]
    {
        let (out, back) = (folder.at("out.safetensors"), folder.at("back.safetensors"));
        let report = niwaki(["compress", &path, "--scheme", scheme, "-o", &out, "--force", "--json"]).ok().json();
        let fates: Vec<_> = report["tensors"].as_array().unwrap().iter().map(|t| t["fate"] == "keep").collect();
        assert_eq!(fates, [true, true, true, true, false, false], "{scheme}");
        niwaki(["verify", &out]).ok();
        niwaki(["export", &out, "--to", "safetensors", "-o", &back, "--force"]).ok();
        let same = niwaki(["compare", &out, &back, "--max-abs", "0"]);
        assert_eq!(same.code, 0, "{scheme}: {}", same.out);
    }
}

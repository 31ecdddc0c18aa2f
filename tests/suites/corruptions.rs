//! Corruptions: against other implementations, against their formulas, and the same everywhere.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;

use niwaki_conformance::cli::{Answer, niwaki};
use niwaki_conformance::folder::{Folder, repository, sample};
use niwaki_engine::dataset::corrupt::Kind;
use niwaki_engine::dataset::{Corruption, Dataset, Severity};
use niwaki_tensors::{Checkpoint, Limits};

fn severity(severity: u8) -> Severity {
    Severity::new(severity).unwrap()
}

fn apply(kind: Kind, strength: u8, seed: u64, shape: [usize; 3], item: u64, pixels: &[u8]) -> Vec<u8> {
    let mut out = vec![0; pixels.len()];
    Corruption::new(kind, severity(strength), seed).apply(shape, item, pixels, &mut out).unwrap();
    out
}

/// Pictures and results of `tests/scripts/corruptions_golden.py`.
fn golden() -> Checkpoint {
    let path = repository().join("tests/golden/corruptions.safetensors");
    Checkpoint::open(path, &Limits::default()).unwrap()
}

#[test]
fn corruptions_agree_with_pillow_and_scipy() {
    let golden = golden();
    let (mut equal, mut compared) = (0, 0);
    for expected in golden.tensors() {
        let Some((picture, rest)) = expected.name().split_once('/') else { continue };
        let (kind, strength) = rest.split_once('/').unwrap();
        // The reference spells it as ours does.
        let kind: Kind = kind.parse().unwrap();
        let picture = golden.get(picture).unwrap();
        let shape: [usize; 3] = picture.shape().try_into().unwrap();
        let found = apply(kind, strength.parse().unwrap(), 5, shape, 7, picture.bytes());
        let largest = found.iter().zip(expected.bytes()).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        // Integers are equal. Elsewhere a fraction is dropped, and sums in another order may lie
        // on the other side of a whole number.
        let allowed = u8::from(!matches!(kind, Kind::Jpeg | Kind::Pixelate));
        assert!(largest <= allowed, "{}: {largest}", expected.name());
        equal += found.iter().zip(expected.bytes()).filter(|(a, b)| a == b).count();
        compared += found.len();
    }
    assert!(compared > 70_000 && compared - equal < compared / 200, "{equal} of {compared} bytes are equal");
}

/// Numbers of 0 to 1 that a corruption makes of equal pixels, each fraction put in the middle.
fn of_equal_pixels(kind: Kind, strength: u8, pixel: u8) -> Vec<f64> {
    let out = apply(kind, strength, 11, [3, 200, 100], 0, &[pixel; 60_000]);
    out.into_iter().map(|x| (f64::from(x) + 0.5) / 255.0).collect()
}

/// Mean and standard deviation.
fn moments(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (mean, (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt())
}

/// Whether 60,000 draws have this mean and deviation, within five standard errors and, for the
/// deviation, what rounding to bytes adds to the variance: a twelfth of a step's square.
fn agree((mean, deviation): (f64, f64), found: (f64, f64)) -> bool {
    let rounded = (deviation.powi(2) + (1.0f64 / 255.0).powi(2) / 12.0).sqrt();
    let error = rounded / 60_000f64.sqrt();
    (found.0 - mean).abs() < 5.0 * error && (found.1 - rounded).abs() < 5.0 * error
}

#[test]
fn noise_has_the_moments_of_its_formula() {
    let x = 128.0 / 255.0;
    for (strength, s, photons, speckle) in [(1, 0.04, 500.0, 0.06), (3, 0.08, 100.0, 0.12)] {
        for (kind, deviation) in
            [(Kind::GaussianNoise, s), (Kind::ShotNoise, f64::sqrt(x / photons)), (Kind::SpeckleNoise, x * speckle)]
        {
            let found = moments(&of_equal_pixels(kind, strength, 128));
            assert!(agree((x, deviation), found), "{kind} {strength}: {found:?}, expected {x} {deviation}");
            assert!(!agree((x, deviation * 1.05), found), "{kind} {strength}: the test sees no difference");
        }
    }
    for (strength, share) in [(1, 0.01), (5, 0.07)] {
        let out = apply(Kind::ImpulseNoise, strength, 3, [3, 200, 100], 0, &[77; 60_000]);
        let count = |pixel| out.iter().filter(|x| **x == pixel).count() as f64;
        // Five deviations of a binomial count.
        let allowed = 5.0 * (60_000.0 * share / 2.0f64).sqrt();
        for pixel in [0, 255] {
            assert!((count(pixel) - 30_000.0 * share).abs() < allowed, "{strength}: {} of {pixel}", count(pixel));
        }
        assert_eq!(count(0) + count(255) + count(77) + count(76), 60_000.0);
    }
}

#[test]
fn photons_are_counted() {
    // At c = 50 a pixel is a whole number of fiftieths.
    let out = apply(Kind::ShotNoise, 5, 0, [1, 60, 60], 0, &[100; 3600]);
    let fiftieths: Vec<u8> = (0..=50).map(|k| (f64::from(k) / 50.0 * 255.0) as u8).collect();
    assert!(out.iter().all(|x| fiftieths.contains(x)));
    assert_eq!(apply(Kind::ShotNoise, 5, 0, [1, 60, 60], 0, &[0; 3600]), [0; 3600]);
}

#[test]
fn fog_is_thickest_and_thinnest_as_its_formula_says() {
    for (strength, amount) in [(1, 0.2), (5, 1.5)] {
        // On white, (1 + a F) / (1 + a) with F from 0 to 1, for a map of 32x32.
        let white = apply(Kind::Fog, strength, 5, [3, 32, 32], 4, &[255; 3072]);
        let least = (1.0 / (1.0 + amount) * 255.0) as u8;
        assert_eq!((white.iter().min(), white.iter().max()), (Some(&least), Some(&255)));
        assert!(white[..1024] == white[1024..2048] && white[..1024] == white[2048..], "the same in all channels");
        // On black there is nothing that could be fogged: the largest value scales all.
        assert_eq!(apply(Kind::Fog, strength, 5, [1, 32, 32], 4, &[0; 1024]), [0; 1024]);
    }
}

#[test]
fn glass_takes_pixels_from_the_neighbourhood() {
    // Without a blur at severity 1: every pixel is one of its neighbours before, or itself.
    let pixels: Vec<u8> = (0..100).collect();
    let out = apply(Kind::GlassBlur, 1, 2, [1, 10, 10], 0, &pixels);
    let mut moved = 0;
    for (i, x) in out.iter().enumerate() {
        let (y, x, i) = (i32::from(*x) / 10, i32::from(*x) % 10, i as i32);
        let (dy, dx) = (i / 10 - y, i % 10 - x);
        // A fraction that is dropped may make a value one less: 0 to 1 either way, and one more.
        assert!((-1..=2).contains(&dy) && (-1..=2).contains(&dx) || dx == -9 || dx == 9, "{i}: {dy} {dx}");
        moved += u32::from(dy != 0 || dx != 0);
    }
    assert!(moved > 20, "{moved}");
}

#[test]
fn a_picture_becomes_the_same_whatever_else_is_done() {
    let pixels: Vec<u8> = (0..3 * 24 * 24u32).map(|i| (i * 37 % 251) as u8).collect();
    for kind in Kind::ALL {
        for strength in 1..=5 {
            let one = apply(kind, strength, 1, [3, 24, 24], 9, &pixels);
            assert_eq!(one, apply(kind, strength, 1, [3, 24, 24], 9, &pixels));
            assert_ne!(one, pixels, "{kind} {strength} changes nothing");
            let random = one != apply(kind, strength, 2, [3, 24, 24], 9, &pixels);
            let by_item = one != apply(kind, strength, 1, [3, 24, 24], 8, &pixels);
            let draws = matches!(
                kind,
                Kind::GaussianNoise
                    | Kind::ShotNoise
                    | Kind::ImpulseNoise
                    | Kind::SpeckleNoise
                    | Kind::GlassBlur
                    | Kind::MotionBlur
                    | Kind::Snow
                    | Kind::Fog
            );
            assert_eq!((random, by_item), (draws, draws), "{kind}");
        }
    }
}

#[test]
fn small_and_long_pictures_are_no_trouble() {
    for shape in [[1, 1, 1], [3, 1, 1], [1, 1, 7], [3, 2, 1], [1, 40, 3], [3, 3, 41]] {
        let pixels: Vec<u8> = (0..shape.iter().product::<usize>()).map(|i| (i * 91) as u8).collect();
        for kind in Kind::ALL.into_iter().filter(|kind| shape[0] == 3 || *kind != Kind::Saturate) {
            for strength in 1..=5 {
                apply(kind, strength, 0, shape, 0, &pixels);
            }
        }
    }
    let refused = |kind, shape: [usize; 3], bytes: usize| {
        let mut out = vec![0; bytes];
        Corruption::new(kind, severity(1), 0).apply(shape, 0, &vec![0; bytes], &mut out).unwrap_err().to_string()
    };
    assert_eq!(refused(Kind::Jpeg, [2, 1, 1], 2), "is 2x1x1; expected 1 or 3 channels of pixels");
    assert_eq!(refused(Kind::Jpeg, [3, 0, 1], 0), "is 3x0x1; expected 1 or 3 channels of pixels");
    assert_eq!(refused(Kind::Jpeg, [3, 1, 1], 2), "a buffer of 2 elements; expected 3");
    assert_eq!(
        refused(Kind::Fog, [1, 1, 5000], 5000),
        "5000 pixels in a row or column under fog; at most 4096 are dealt with"
    );
    let grey = "`saturate` changes colours; expected images of 3 channels, found 1";
    assert_eq!(refused(Kind::Saturate, [1, 1, 1], 1), grey);
}

/// FNV-1a.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

fn corrupt(folder: &Folder, flags: &str, out: &str) -> Answer {
    let words = ["dataset", "corrupt", &sample()].map(str::to_owned);
    niwaki(words.into_iter().chain(flags.split(' ').map(str::to_owned)).chain(["-o".to_owned(), folder.at(out)]))
}

/// The pixels of a dataset.
fn images(path: &str) -> Vec<u8> {
    Dataset::open(Path::new(path)).unwrap().checkpoint().get("images").unwrap().bytes().to_vec()
}

#[test]
fn every_kind_gives_the_bytes_that_it_always_gave() {
    let pixels = images(&sample());
    let colours = golden();
    let colours = colours.get("colour-20x20").unwrap();
    let mut found = String::new();
    for kind in Kind::ALL {
        let mut hashes = Vec::new();
        for strength in [2, 5] {
            let grey: Vec<u8> = match kind {
                Kind::Saturate => Vec::new(),
                _ => (0..20)
                    .flat_map(|i| apply(kind, strength, 0, [1, 28, 28], i as u64, &pixels[i * 784..(i + 1) * 784]))
                    .collect(),
            };
            let colour = apply(kind, strength, 0, [3, 20, 20], 0, colours.bytes());
            hashes.push(fingerprint(&[grey, colour].concat()));
        }
        found += &format!("{kind} {:016x} {:016x}\n", hashes[0], hashes[1]);
    }
    assert_eq!(found, include_str!("../golden/corruptions.txt"), "{found}");
}

#[test]
fn a_copy_keeps_labels_and_metadata_and_does_not_hang_on_threads() {
    let folder = Folder::new("corrupt");
    let said = corrupt(&folder, "--kind shot_noise --severity 4 --seed 3 --threads 1", "a.safetensors").ok().out;
    let expected =
        format!("500 images of 1x28x28, shot_noise of severity 4\nwrote {}, 387 KiB\n", folder.at("a.safetensors"));
    assert_eq!(said, expected);
    corrupt(&folder, "--kind shot_noise --severity 4 --seed 3 --threads 5", "b.safetensors").ok();
    let bytes = std::fs::read(folder.at("a.safetensors")).unwrap();
    assert!(bytes == std::fs::read(folder.at("b.safetensors")).unwrap());
    corrupt(&folder, "--kind shot_noise --severity 4 --seed 3 --limit 100", "c.safetensors").ok();
    assert_eq!(images(&folder.at("c.safetensors")), images(&folder.at("a.safetensors"))[..78_400]);
    corrupt(&folder, "--kind shot_noise --severity 4", "d.safetensors").ok();
    assert_ne!(images(&folder.at("d.safetensors")), images(&folder.at("a.safetensors")));

    let (ours, theirs) = (Dataset::open(Path::new(&folder.at("a.safetensors"))), Dataset::open(Path::new(&sample())));
    let (ours, theirs) = (ours.unwrap(), theirs.unwrap());
    assert!((0..500).all(|i| ours.label(i).unwrap() == theirs.label(i).unwrap()));
    assert_eq!((ours.names(), ours.preprocessing()), (theirs.names(), theirs.preprocessing()));
    let metadata = ours.checkpoint().metadata();
    let key = |key| metadata.get(key).copied();
    assert_eq!((key("corruption"), key("severity"), key("seed")), (Some("shot_noise"), Some("4"), Some("3")));

    let json = corrupt(&folder, "--kind jpeg --severity 1 --limit 2 --json", "e.safetensors").json();
    assert_eq!(
        (&json["kind"], &json["items"], &json["shape"]),
        (&"jpeg".into(), &2.into(), &serde_json::json!([1, 28, 28]))
    );
}

#[test]
fn flags_that_mean_nothing_are_refused() {
    let folder = Folder::new("corrupt-bad");
    for (flags, text) in [
        ("--kind rain --severity 1", "no corruption `rain`"),
        ("--kind gausian_noise --severity 1", "no corruption `gausian_noise`"),
        ("--kind jpeg --severity 0", "severity 0; expected 1 to 5"),
        ("--kind jpeg --severity 6", "severity 6; expected 1 to 5"),
        ("--kind jpeg --severity 999", "`--severity 999`: expected a whole number in range"),
        ("--kind jpeg --severity 1 --limit 0", "no image is left under a limit of 0"),
    ] {
        assert_eq!(corrupt(&folder, flags, "o.safetensors").error(), text);
    }
    let grey = corrupt(&folder, "--kind saturate --severity 1", "o.safetensors");
    assert!(grey.error().ends_with("`saturate` changes colours; expected images of 3 channels, found 1"), "{grey:?}");
    assert_eq!(folder.names(), [""; 0]);
}

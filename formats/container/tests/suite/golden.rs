//! The conformance vectors in `tests/golden`: made again from their seeds, decoded, and
//! decoded by the reference decoder in Python.
//!
//! After a change that is meant, write them anew with
//! `cargo test -p niwaki-container --test suite -- --ignored golden_files_are_written_anew`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use niwaki_codes::Bits;
use niwaki_codes::simd::Level;
use niwaki_container::{Layout, Meta, TensorMeta, slice, verify};
use niwaki_tensors::{Checkpoint, Dtype, Limits, Overwrite, write_file};

use crate::made::{Folder, decoded, layout, listed, open, write, write_parts};

mod forms;

use forms::{blocks, elastic, floats, masked, mixed, positions, uniform};

const NAMES: [&str; 11] = [
    "blocks",
    "elastic",
    "example",
    "example-floats",
    "example-positions",
    "floats",
    "masked",
    "mixed",
    "mixed-sliced-4",
    "positions",
    "uniform",
];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(name)
}

/// The file of FORMAT.md's worked example, its bytes chosen by hand.
fn write_example(path: &Path) {
    let tensors = [
        ("e", layout(Dtype::BF16, &[4], "elastic/g4/2", None)),
        ("w", layout(Dtype::F32, &[2, 3], "int4/g2/affine", None)),
    ];
    let parts: [(&str, &[u8]); 7] = [
        ("w.codes", &[0xf1, 0x07, 0x80, 0x03]),
        ("w.scales", &[0x00, 0x38, 0x00, 0x3c, 0x00, 0x34, 0x00, 0x40]),
        ("w.zeros", &[8, 7, 0, 4]),
        ("e.base", &[0x00, 0x00, 0x00, 0x3c]),
        ("e.fix2", &[0x88]),
        ("e.plane7", &[0b1100]),
        ("e.plane6", &[0b1010]),
    ];
    write_bare(path, &tensors, &parts);
}

/// The file of the section on small floats.
fn write_float_example(path: &Path) {
    let tensors = [
        ("f", layout(Dtype::F32, &[3, 3], "fp8_e4m3/b2", None)),
        ("n", layout(Dtype::F32, &[2, 3], "nvfp4", None)),
        ("q", layout(Dtype::F32, &[5], "nf4/g2", None)),
    ];
    let floats = |x: &[f32]| x.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>();
    let parts: [(&str, &[u8]); 7] = [
        ("f.codes", &[0x38, 0xc0, 0x7e, 0x01, 0x3c, 0xb0, 0x08, 0x80, 0x4a]),
        ("f.scales", &floats(&[1.0, 0.5, 2.0, 0.25])),
        ("n.codes", &[0x93, 0x07, 0xf1, 0x0c]),
        ("n.scales", &[0x38, 0x44]),
        ("n.factor", &floats(&[2.0])),
        ("q.codes", &[0xf0, 0x87, 0x0f]),
        ("q.scales", &floats(&[1.0, 2.0, 0.5])),
    ];
    write_bare(path, &tensors, &parts);
}

/// The file of the section on positions.
fn write_positions_example(path: &Path) {
    let tensors = [
        ("i", listed(Dtype::F32, &[2, 40], "int4/row/sym", 5)),
        ("v", listed(Dtype::BF16, &[3, 4], "dense", 1)),
        ("z", listed(Dtype::F32, &[3], "dense", 0)),
    ];
    let parts: [(&str, &[u8]); 7] = [
        ("i.positions", &[0x2d, 0x01, 0x13, 0x92, 0x0f]),
        ("i.codes", &[0xf1, 0x08, 0x0c]),
        ("i.scales", &[0x00, 0x00, 0x00, 0x3f, 0x00, 0x00, 0x00, 0x40]),
        ("v.positions", &[0x02, 0x01]),
        ("v.values", &[0xc0, 0x3f]),
        ("z.positions", &[]),
        ("z.values", &[]),
    ];
    write_bare(path, &tensors, &parts);
}

/// Writes parts with nothing in the metadata that decoding does not need.
fn write_bare(path: &Path, tensors: &[(&str, Layout)], parts: &[(&str, &[u8])]) {
    let parts = parts.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect();
    write_parts(path, tensors, &parts, |meta| {
        let tensors = std::mem::take(&mut meta.tensors);
        let bare = |t: TensorMeta| TensorMeta { source_digest: None, ..t };
        *meta = Meta::new(tensors.into_iter().map(|(name, tensor)| (name, bare(tensor))).collect());
    });
}

/// Writes every golden file and its expected values into `folder`.
fn write_all(folder: &Path) {
    let files = [
        ("uniform", uniform()),
        ("elastic", elastic()),
        ("masked", masked()),
        ("mixed", mixed()),
        ("blocks", blocks()),
        ("floats", floats()),
        ("positions", positions()),
    ];
    for (seed, (name, tensors)) in (1..).zip(files) {
        let tensors: Vec<(&str, Layout)> = tensors.iter().map(|(name, layout)| (name.as_str(), *layout)).collect();
        write(&folder.join(format!("{name}.safetensors")), &tensors, seed);
    }
    write_example(&folder.join("example.safetensors"));
    write_float_example(&folder.join("example-floats.safetensors"));
    write_positions_example(&folder.join("example-positions.safetensors"));
    let cut = folder.join("mixed-sliced-4.safetensors");
    slice(&open(&folder.join("mixed.safetensors")), Bits::new(4).unwrap(), &cut, Overwrite::Replace).unwrap();
    for name in NAMES {
        let values = decoded(&open(&folder.join(format!("{name}.safetensors"))), Level::Scalar);
        let bytes: Vec<(&String, Vec<u8>)> =
            values.iter().map(|(name, x)| (name, x.iter().flat_map(|x| x.to_le_bytes()).collect())).collect();
        let dims: Vec<[usize; 1]> = bytes.iter().map(|(_, x)| [x.len() / 4]).collect();
        let tensors: Vec<(&str, Dtype, &[usize], &[u8])> =
            bytes.iter().zip(&dims).map(|((name, x), dims)| (name.as_str(), Dtype::F32, &dims[..], &x[..])).collect();
        write_file(&folder.join(format!("{name}.expected.safetensors")), &tensors, &[], Overwrite::Replace).unwrap();
    }
}

#[test]
#[ignore = "writes into the source tree"]
fn golden_files_are_written_anew() {
    write_all(&golden(""));
}

#[test]
fn golden_files_are_the_bytes_that_their_seeds_make() {
    let folder = Folder::new();
    write_all(&folder.file(""));
    for name in NAMES.iter().flat_map(|name| [format!("{name}.safetensors"), format!("{name}.expected.safetensors")]) {
        let (made, kept) = (std::fs::read(folder.file(&name)).unwrap(), std::fs::read(golden(&name)).unwrap());
        let first = made.iter().zip(&kept).position(|(a, b)| a != b);
        assert!(made == kept, "{name}: {} bytes made, {} kept, first difference {first:?}", made.len(), kept.len());
    }
}

#[test]
fn golden_files_decode_to_their_expected_values_on_every_level() {
    for name in NAMES {
        let artifact = open(&golden(&format!("{name}.safetensors")));
        let expected = Checkpoint::open(golden(&format!("{name}.expected.safetensors")), &Limits::default()).unwrap();
        for level in Level::all() {
            let values = decoded(&artifact, level);
            let names: Vec<&str> = values.keys().map(String::as_str).collect();
            let expected_names: BTreeMap<&str, ()> =
                expected.tensors().filter(|t| !niwaki_tensors::is_pad(t.name())).map(|t| (t.name(), ())).collect();
            assert_eq!(names, expected_names.into_keys().collect::<Vec<_>>(), "{name}");
            for (tensor, values) in values {
                let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
                assert!(bytes == expected.get(&tensor).unwrap().bytes(), "{name}: {tensor} on {level:?}");
            }
        }
    }
}

#[test]
fn golden_files_have_no_fault() {
    for name in NAMES {
        let faults = verify(&open(&golden(&format!("{name}.safetensors"))), 2).faults;
        assert!(faults.is_empty(), "{name}: {faults:?}");
    }
}

/// Sixteen bytes a line, each line with its place in the data; lines of zeros left out.
fn dump(data: &[u8]) -> String {
    let lines = data.chunks(16).enumerate().filter(|(_, bytes)| bytes.iter().any(|byte| *byte != 0));
    lines.fold(String::new(), |text, (i, bytes)| {
        let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{text}{:4}  {}\n", 16 * i, hex.join(" "))
    })
}

fn page() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../FORMAT.md")).unwrap()
}

#[test]
fn the_worked_example_is_the_golden_file() {
    let page = page();
    let artifact = open(&golden("example.safetensors"));
    let shard = &artifact.checkpoint().shards()[0];
    let bytes = dump(&shard.bytes()[shard.data_start()..]);
    assert!(page.contains(&bytes), "FORMAT.md lacks these bytes:\n{bytes}");
    let unbroken: String = page.lines().map(str::trim_start).collect();
    let json = artifact.metas()[0].to_json();
    assert!(unbroken.contains(&json), "FORMAT.md lacks this metadata, whatever its line breaks:\n{json}");
    let length = format!("{:016x}", u64::from_le_bytes(shard.bytes()[..8].try_into().unwrap()).swap_bytes());
    assert!(page.contains(&length), "FORMAT.md lacks the length of the header, {length}");
    for entry in shard.entries() {
        let offsets = format!("\"data_offsets\":[{},{}]", entry.begin, entry.end);
        assert!(page.contains(&offsets), "FORMAT.md lacks {} at {offsets}", entry.name);
    }
}

/// That the page has the parts, the bytes and the decoded values of an example file.
fn assert_on_page(file: &str, names: usize, expected: &[(&str, &[f32])]) {
    let page = page();
    let artifact = open(&golden(file));
    let shard = &artifact.checkpoint().shards()[0];
    let bytes = dump(&shard.bytes()[shard.data_start()..]);
    assert!(page.contains(&bytes), "FORMAT.md lacks these bytes:\n{bytes}");
    for entry in shard.entries().iter().filter(|entry| !niwaki_tensors::is_pad(&entry.name)) {
        let shape: Vec<String> = entry.shape.iter().map(usize::to_string).collect();
        let line = format!("{:names$}{:<9}[{}]", entry.name, entry.dtype.to_string(), shape.join(", "));
        assert!(page.contains(&line), "FORMAT.md lacks this part:\n{line}");
    }
    for (name, expected) in expected {
        let tensor = artifact.get(name).unwrap();
        let mut out = vec![f32::NAN; expected.len()];
        tensor.dequantize_rows(Level::best(), None, 0..tensor.matrix().0, &mut out).unwrap();
        let same = out.iter().zip(*expected).all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(same, "{name}: {out:?}, not {expected:?}");
    }
}

#[test]
fn the_example_of_small_floats_is_the_golden_file() {
    // What the page says that they decode to.
    let expected: [(&str, &[f32]); 3] = [
        ("f", &[1.0, -2.0, 224.0, 0.001_953_125, 1.5, -0.25, 0.03125, -0.0, 1.25]),
        ("n", &[0.75, -0.25, 3.0, 0.75, -9.0, -3.0]),
        ("q", &[-1.0, 1.0, 0.0, 0.159_160_6, 0.5]),
    ];
    assert_on_page("example-floats.safetensors", 10, &expected);
}

#[test]
fn the_example_of_positions_is_the_golden_file() {
    let (mut i, mut v) = ([0.0; 80], [0.0; 12]);
    for (place, value) in [(3, -3.5), (17, 3.5), (18, 0.0), (41, -16.0), (79, 8.0)] {
        i[place] = value;
    }
    v[9] = 1.5;
    assert_on_page("example-positions.safetensors", 13, &[("i", &i), ("v", &v), ("z", &[0.0; 3])]);
}

/// The reference decoder over one file: whether every value is as expected, and what it said.
fn reference(file: &Path, expected: &Path) -> Option<(bool, String)> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/scripts/reference_decoder.py");
    let run = Command::new("python3").arg(script).arg(file).arg(expected).output().ok()?;
    let said = [run.stdout, run.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    Some((run.status.success(), said))
}

#[test]
fn the_reference_decoder_agrees_bit_for_bit() {
    for name in NAMES {
        let expected = golden(&format!("{name}.expected.safetensors"));
        let Some((same, said)) = reference(&golden(&format!("{name}.safetensors")), &expected) else {
            println!("skipped: python3 is not there");
            return;
        };
        assert!(same, "{name}:\n{said}");
        let lines = said.lines().filter(|line| line.ends_with("equal")).count();
        let tensors = Checkpoint::open(&expected, &Limits::default()).unwrap();
        let named = tensors.tensors().filter(|t| !niwaki_tensors::is_pad(t.name())).count();
        assert_eq!(lines, named, "{name}:\n{said}");
    }
}

#[test]
fn the_reference_decoder_sees_one_wrong_bit() {
    let folder = Folder::new();
    let mut bytes = std::fs::read(golden("elastic.safetensors")).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(folder.file("wrong.safetensors"), bytes).unwrap();
    match reference(&folder.file("wrong.safetensors"), &golden("elastic.expected.safetensors")) {
        None => println!("skipped: python3 is not there"),
        Some((same, said)) => assert!(!same && said.contains("DIFFERENT"), "{said}"),
    }
}

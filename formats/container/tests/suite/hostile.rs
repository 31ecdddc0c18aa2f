//! Files that contradict themselves, each named; and thousands of mutated ones.

use std::path::Path;

use niwaki_codes::simd::Level;
use niwaki_container::{Artifact, Layout, META_KEY, Meta, Part, TensorMeta, canonical, parse_meta, verify};
use niwaki_tensors::{Dtype, Limits, Overwrite, decodes_to_f32, write_file};
use serde_json::Value;

use crate::made::{Folder, Random, layout, listed, open, write, write_parts};

fn tensors() -> Vec<(&'static str, Layout)> {
    vec![
        ("b", layout(Dtype::F32, &[3], "dense", None)),
        ("w", layout(Dtype::F32, &[3, 5], "int3/g4/affine", None)),
        ("m", layout(Dtype::F32, &[3, 5], "int4/row/sym", Some(7))),
        ("k", layout(Dtype::BF16, &[3, 5], "dense", Some(7))),
        ("f", layout(Dtype::F32, &[3, 5], "fp8_e4m3/b2", None)),
        ("n", layout(Dtype::BF16, &[2, 33], "nvfp4", None)),
        ("q", layout(Dtype::F32, &[3, 5], "nf4/g3", None)),
        ("e", layout(Dtype::F32, &[3, 5], "elastic/g4/2,4", None)),
        ("x", layout(Dtype::F32, &[3, 5], "elastic/g4/2,3", Some(8))),
        ("p", listed(Dtype::F32, &[3, 5], "int4/row/sym", 4)),
        ("l", listed(Dtype::BF16, &[3, 50], "dense", 4)),
    ]
}

type Physical = (String, Dtype, Vec<usize>, Vec<u8>);

/// The message for the sample after changes to its physical tensors and its metadata.
fn message(tensors_of: impl FnOnce(&mut Vec<Physical>), meta_of: impl FnOnce(&mut Meta)) -> String {
    let folder = Folder::new();
    write(&folder.file("a"), &tensors(), 1);
    let artifact = open(&folder.file("a"));
    let owned =
        |t: niwaki_tensors::TensorView<'_>| (t.name().to_owned(), t.dtype(), t.shape().to_vec(), t.bytes().to_vec());
    let mut physical: Vec<Physical> = artifact.checkpoint().tensors().map(owned).collect();
    physical.retain(|(name, ..)| !niwaki_tensors::is_pad(name));
    tensors_of(&mut physical);
    let mut meta = artifact.metas()[0].clone();
    meta_of(&mut meta);
    let listed: Vec<_> = physical.iter().map(|(n, d, s, b)| (n.as_str(), *d, s.as_slice(), b.as_slice())).collect();
    write_file(&folder.file("b"), &listed, &[(META_KEY, &meta.to_json())], Overwrite::Refuse).unwrap();
    let error = Artifact::open(&folder.file("b"), &Limits::default()).unwrap_err();
    let path = format!("`{}`: ", folder.file("b").display());
    error.to_string().strip_prefix(&path).expect("the path stands first").to_owned()
}

fn find<'a>(tensors: &'a mut [Physical], name: &str) -> &'a mut Physical {
    tensors.iter_mut().find(|(n, ..)| n == name).unwrap()
}

#[test]
fn a_missing_part_is_named() {
    let said = message(|t| t.retain(|(name, ..)| name != "w.scales"), |_| ());
    assert_eq!(said, "tensor `w`: part `w.scales` is not there");
    let said = message(|t| t.retain(|(name, ..)| name != "n.factor"), |_| ());
    assert_eq!(said, "tensor `n`: part `n.factor` is not there");
    let said = message(|t| t.retain(|(name, ..)| name != "b"), |_| ());
    assert_eq!(said, "tensor `b`: part `b` is not there");
}

#[test]
fn a_part_of_another_type_or_shape_is_named() {
    let said = message(|t| find(t, "w.scales").1 = Dtype::BF16, |_| ());
    assert_eq!(said, "tensor `w`: part `w.scales` needs F16 3x2, has BF16 3x2");
    let said = message(|t| find(t, "w.codes").2 = vec![6, 1], |_| ());
    assert_eq!(said, "tensor `w`: part `w.codes` needs U8 3x2, has U8 6x1");
    // The bytes alone do not say that they are floats.
    let said = message(|t| find(t, "f.codes").1 = Dtype::U8, |_| ());
    assert_eq!(said, "tensor `f`: part `f.codes` needs F8_E4M3 3x5, has U8 3x5");
    let said = message(|t| find(t, "f.scales").2 = vec![3, 2], |_| ());
    assert_eq!(said, "tensor `f`: part `f.scales` needs F32 2x3, has F32 3x2");
    let said = message(|t| find(t, "n.scales").1 = Dtype::U8, |_| ());
    assert_eq!(said, "tensor `n`: part `n.scales` needs F8_E4M3 2x3, has U8 2x3");
    let said = message(|t| find(t, "n.factor").2 = vec![1, 1], |_| ());
    assert_eq!(said, "tensor `n`: part `n.factor` needs F32 1, has F32 1x1");
    let shorter = |t: &mut Vec<Physical>| {
        find(t, "e.plane6").2 = vec![2, 1];
        find(t, "e.plane6").3.pop();
    };
    assert_eq!(message(shorter, |_| ()), "tensor `e`: part `e.plane6` needs U8 3x1, has U8 2x1");
    let said = message(|t| find(t, "b").2 = vec![3, 1], |_| ());
    assert_eq!(said, "tensor `b`: part `b` needs F32 3, has F32 3x1");
    let said = message(|t| find(t, "l.positions").2 = vec![1, 5], |_| ());
    assert_eq!(said, "tensor `l`: part `l.positions` needs U8 5, has U8 1x5");
}

#[test]
fn few_positions_of_very_many_weights_cost_little() {
    let folder = Folder::new();
    // 2^50 rows of 4 weights, of which three are kept: 50 low bits each.
    let tensors = [("w", listed(Dtype::F32, &[1 << 50, 4], "int8/g64/sym", 3))];
    write_huge(&folder.file("a"), &tensors);
    let artifact = open(&folder.file("a"));
    assert!(verify(&artifact, 1).faults.is_empty());
    let decoder = artifact.get("w").unwrap().at(None).unwrap();
    let mut out = [7.0; 8];
    for (row, expected) in [(0, [0.0; 8]), (1 << 49, [0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0])] {
        decoder.dequantize_rows(Level::best(), row..row + 2, &mut out).unwrap();
        assert_eq!(out, expected);
    }
    let mut places = vec![];
    decoder.visit_kept(Level::best(), 1 << 48..1 << 50, |some, _| places.extend_from_slice(some)).unwrap();
    assert_eq!(places, [(1 << 51) + 3, (1 << 52) - 1]);
}

/// The one tensor of the test above: the weights 0, 1 and 2 at places far apart.
fn write_huge(path: &Path, tensors: &[(&str, Layout)]) {
    let mut positions = vec![0; tensors[0].1.parts().unwrap()[0].bytes];
    niwaki_codes::positions::encode(1 << 52, 3, [8, (1 << 51) + 3, (1 << 52) - 1], &mut positions).unwrap();
    let parts = [("w.positions", positions), ("w.codes", vec![0x80, 0x81, 0x82]), ("w.scales", vec![0, 0x3c])];
    let parts = parts.map(|(name, bytes)| (name.to_owned(), bytes));
    write_parts(path, tensors, &parts.into_iter().collect(), |_| ());
}

#[test]
fn an_unlisted_tensor_is_named() {
    let said = message(|t| t.push(("e.plane3".to_owned(), Dtype::U8, vec![3, 1], vec![0; 3])), |_| ());
    assert_eq!(said, "`e.plane3` belongs to no tensor of the metadata");
    let said = message(|_| (), |meta| drop(meta.tensors.remove("k")));
    assert_eq!(said, "`k.mask` belongs to no tensor of the metadata");
}

#[test]
fn a_tensor_that_claims_the_part_of_another_is_refused() {
    let claim = |meta: &mut Meta| {
        let layout = layout(Dtype::U8, &[3, 2], "dense", None);
        let hash = meta.tensors["w"].parts[0].1;
        meta.tensors.insert("w.codes".to_owned(), TensorMeta::new(layout, &[(Part::Whole, hash)], None).unwrap());
    };
    assert_eq!(message(|_| (), claim), "tensor `w.codes`: part `w.codes` is not there");
}

#[test]
fn a_scheme_of_other_sizes_is_found_by_its_parts() {
    let widen = |meta: &mut Meta| {
        let tensor = meta.tensors.get_mut("w").unwrap();
        tensor.layout.scheme = Some("int4/g4/affine".parse().unwrap());
    };
    assert_eq!(message(|_| (), widen), "tensor `w`: part `w.codes` needs U8 3x3, has U8 3x2");
    let by_row = |meta: &mut Meta| {
        let tensor = meta.tensors.get_mut("f").unwrap();
        tensor.layout.scheme = Some("fp8_e4m3/row".parse().unwrap());
    };
    assert_eq!(message(|_| (), by_row), "tensor `f`: part `f.scales` needs F32 3x1, has F32 2x3");
}

#[test]
fn a_newer_version_is_refused_with_the_path() {
    let folder = Folder::new();
    let json = r#"{"container":[2,0]}"#;
    write_file(&folder.file("a"), &[("w", Dtype::F32, &[1], &[0; 4])], &[(META_KEY, json)], Overwrite::Refuse).unwrap();
    let error = Artifact::open(&folder.file("a"), &Limits::default()).unwrap_err();
    let path = folder.file("a");
    assert_eq!(error.to_string(), format!("`{}`: container version 2; this niwaki reads 1", path.display()));
    assert_eq!((error.path(), error.hint()), (Some(path.as_path()), Some("update niwaki")));
}

/// Opens, decodes a few rows at every width, verifies: whatever comes, no panic. Says
/// whether the file opened.
fn exercise(path: &Path) -> bool {
    let Ok(artifact) = Artifact::open(path, &Limits::default()) else { return false };
    for tensor in artifact.tensors() {
        let (mut rows, cols) = tensor.matrix();
        // A few bytes of positions may stand for any number of weights: some of them will do.
        rows = rows.min((1usize << 20).checked_div(cols).unwrap_or(0));
        let mut out = vec![0.0; rows * cols];
        for width in tensor.widths().map_or(vec![None], |widths| widths.iter().map(Some).collect()) {
            let result = tensor.dequantize_rows(Level::best(), width, 0..rows, &mut out);
            assert!(result.is_err() || decodes_to_f32(tensor.dtype()));
        }
    }
    let _ = verify(&artifact, 1);
    true
}

/// One to four changes: a bit, a byte, a digit of the header, a cut, a piece moved.
fn mutate(bytes: &mut Vec<u8>, header: usize, random: &mut Random) {
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        match random.below(8) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.next() as u8,
            2 => bytes.truncate(at.max(1)),
            3 => {
                let piece = bytes[at..(at + random.below(40)).min(bytes.len())].to_vec();
                let to = random.below(bytes.len());
                bytes.splice(to..to, piece);
            }
            _ => {
                let at = random.below(header.min(bytes.len()));
                match bytes[at] {
                    digit @ b'0'..=b'9' => bytes[at] = b'0' + (digit - b'0' + 1 + random.below(9) as u8) % 10,
                    b'a'..=b'z' => bytes[at] = b'a' + random.below(26) as u8,
                    _ => (),
                }
            }
        }
    }
}

#[test]
fn ten_thousand_mutated_files_do_not_panic() {
    let folder = Folder::new();
    write(&folder.file("a"), &tensors(), 1);
    let bytes = std::fs::read(folder.file("a")).unwrap();
    let header = open(&folder.file("a")).checkpoint().shards()[0].data_start();
    let mut random = Random(11);
    let mut opened = 0;
    for round in 0..10_000 {
        let mut changed = bytes.clone();
        mutate(&mut changed, header, &mut random);
        // A new name each time: some file systems wait for the disk where a file is overwritten.
        let path = folder.file(&round.to_string());
        std::fs::write(&path, &changed).unwrap();
        opened += usize::from(exercise(&path));
        std::fs::remove_file(path).unwrap();
    }
    assert!((500..9_500).contains(&opened), "{opened} of 10000 opened: the mutations are too strong or too weak");
}

/// Replaces one value of a JSON tree by another that stands in it, or by a hard one.
fn mutate_json(value: &mut Value, random: &mut Random) {
    let hard =
        ["0", "-1", "18446744073709551615", "1e300", "null", "\"\"", "\"dense\"", "\"int2/row/sym\"", "[]", "{}"];
    match value {
        Value::Object(object) if !object.is_empty() && random.below(8) > 0 => {
            let n = random.below(object.len());
            object.values_mut().nth(n).into_iter().for_each(|value| mutate_json(value, random));
        }
        Value::Array(items) if !items.is_empty() && random.below(8) > 0 => {
            let n = random.below(items.len());
            mutate_json(&mut items[n], random);
        }
        other => *other = serde_json::from_str(hard[random.below(hard.len())]).unwrap(),
    }
}

#[test]
fn ten_thousand_mutated_metadata_do_not_panic() {
    let folder = Folder::new();
    write(&folder.file("a"), &tensors(), 1);
    let artifact = open(&folder.file("a"));
    let physical: Vec<_> = artifact.checkpoint().tensors().filter(|t| !niwaki_tensors::is_pad(t.name())).collect();
    let physical: Vec<_> = physical.iter().map(|t| (t.name(), t.dtype(), t.shape(), t.bytes())).collect();
    let json: Value = serde_json::from_str(&artifact.metas()[0].to_json()).unwrap();
    let mut random = Random(12);
    let mut read = 0;
    for round in 0..10_000 {
        let mut changed = json.clone();
        mutate_json(&mut changed, &mut random);
        let text = canonical(&changed);
        let Ok(meta) = parse_meta(text.as_bytes()) else { continue };
        // What is read is written as it was read.
        assert_eq!(parse_meta(meta.to_json().as_bytes()).unwrap(), meta);
        read += 1;
        if round % 10 == 0 {
            let path = folder.file(&round.to_string());
            write_file(&path, &physical, &[(META_KEY, &text)], Overwrite::Refuse).unwrap();
            exercise(&path);
            std::fs::remove_file(path).unwrap();
        }
    }
    assert!((500..9_500).contains(&read), "{read} of 10000 were read");
}

#[test]
fn rows_of_nothing_cost_nothing() {
    let folder = Folder::new();
    let huge = [1usize << 40, 0];
    write_file(&folder.file("a"), &[("w", Dtype::F32, &huge, &[])], &[], Overwrite::Refuse).unwrap();
    assert!(exercise(&folder.file("a")));
    let coded = [("w.codes", Dtype::U8, &huge[..], &[][..]), ("w.scales", Dtype::F16, &huge, &[])];
    let hash = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
    let tensor = format!(
        r#"{{"digest":"{hash}","dtype":"F32","parts":{{"codes":"{hash}","scales":"{hash}"}},"scheme":"int4/g4/sym","shape":[1099511627776,0],"source_digest":null}}"#
    );
    let json = format!(
        r#"{{"container":[1,0],"digest":"{hash}","lineage":{{"parents":[],"source":null}},"patches":[],"recipe":null,"recipe_digest":null,"report":{{}},"source_metadata":{{}},"tensors":{{"w":{tensor}}}}}"#
    );
    write_file(&folder.file("b"), &coded, &[(META_KEY, &json)], Overwrite::Refuse).unwrap();
    let error = Artifact::open(&folder.file("b"), &Limits::default()).unwrap_err();
    assert!(error.to_string().ends_with("is stored as it is, never as int4/g4/sym"), "{error}");
}

//! What the verifier finds: one fault for each thing that was changed.

use std::collections::BTreeMap;
use std::path::Path;

use niwaki_container::{Digest, Fault, Kind, Layout, META_KEY, Meta, verify};
use niwaki_tensors::{Dtype, Overwrite, write_file, write_index};

use crate::made::{Folder, layout, listed, open, write, write_padded, write_parts};

fn tensors() -> Vec<(&'static str, Layout)> {
    vec![
        ("b", layout(Dtype::F32, &[3], "dense", None)),
        ("w", layout(Dtype::F32, &[3, 5], "int3/g4/affine", None)),
        ("r", layout(Dtype::F32, &[3, 5], "int4/row/sym", None)),
        ("m", layout(Dtype::F32, &[3, 5], "int4/g4/sym", Some(7))),
        ("k", layout(Dtype::F32, &[3, 5], "dense", Some(7))),
        ("f", layout(Dtype::F32, &[3, 5], "fp8_e4m3/row", None)),
        ("n", layout(Dtype::BF16, &[2, 33], "nvfp4", None)),
        ("q", layout(Dtype::F32, &[3, 5], "nf4/g3", None)),
        ("p", listed(Dtype::F32, &[4, 20], "int4/g2/sym", 5)),
        ("e", layout(Dtype::F32, &[3, 5], "elastic/g4/2,4", None)),
    ]
}

/// The parts of a container, by name in the file.
fn parts(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let artifact = open(path);
    let named =
        artifact.tensors().flat_map(|t| t.parts().map(move |(part, bytes)| (part.name(t.name()), bytes.to_vec())));
    named.collect()
}

fn texts(faults: &[Fault]) -> Vec<String> {
    faults.iter().map(ToString::to_string).collect()
}

/// Faults of the sample with one byte of a part changed before hashing.
fn with_part(name: &str, byte: usize, value: u8) -> Vec<String> {
    let folder = Folder::new();
    write(&folder.file("a"), &tensors(), 1);
    let mut parts = parts(&folder.file("a"));
    parts.get_mut(name).unwrap()[byte] = value;
    write_parts(&folder.file("b"), &tensors(), &parts, |_| ());
    texts(&verify(&open(&folder.file("b")), 2).faults)
}

/// Faults of the sample with the metadata changed.
fn with_meta(edit: impl FnOnce(&mut Meta)) -> Vec<String> {
    let folder = Folder::new();
    write(&folder.file("a"), &tensors(), 1);
    write_parts(&folder.file("b"), &tensors(), &parts(&folder.file("a")), edit);
    texts(&verify(&open(&folder.file("b")), 2).faults)
}

#[test]
fn what_was_written_has_no_fault() {
    let folder = Folder::new();
    write(&folder.file("a"), &tensors(), 1);
    let found = verify(&open(&folder.file("a")), 1);
    assert_eq!((found.kind, texts(&found.faults)), (Kind::Container, vec![]));
}

#[test]
fn every_changed_byte_of_data_is_found() {
    let folder = Folder::new();
    write(&folder.file("a"), &tensors(), 1);
    let bytes = std::fs::read(folder.file("a")).unwrap();
    let start = open(&folder.file("a")).checkpoint().shards()[0].data_start();
    for at in start..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 0x10;
        let path = folder.file(&at.to_string());
        std::fs::write(&path, changed).unwrap();
        let faults = verify(&open(&path), 1).faults;
        assert!(!faults.is_empty(), "byte {at}");
        let text = faults[0].to_string();
        assert!(text.contains("content hash says") || text.contains("holds more than zeros"), "{text}");
    }
}

#[test]
fn contents_that_no_encoder_writes_are_named() {
    assert_eq!(with_part("w.codes", 1, 0xFF), ["tensor `w`, part `codes`: `codes` has bits set past the end of row 0"]);
    let zero = "tensor `w`, part `zeros`: zero point 9 of group 2 is outside the 8 codes of int3";
    assert_eq!(with_part("w.zeros", 2, 9), [zero]);
    assert_eq!(
        with_part("e.plane7", 2, 0xFF),
        ["tensor `e`, part `plane7`: `plane7` has bits set past the end of row 2"]
    );
    assert_eq!(with_part("m.codes", 3, 0xFF), ["tensor `m`, part `codes`: `codes` has bits set past the end of row 0"]);
    assert_eq!(with_part("q.codes", 5, 0x10), ["tensor `q`, part `codes`: `codes` has bits set past the end of row 1"]);
    assert_eq!(with_part("f.codes", 14, 0xFF), ["tensor `f`, part `codes`: `codes` has a NaN in row 2"]);
    let factor = "tensor `n`, part `factor`: the factor of the scales is not finite and above 0";
    assert_eq!([with_part("n.factor", 3, 0xC0), with_part("n.factor", 3, 0xFF)], [[factor], [factor]]);
}

#[test]
fn parameters_that_are_not_finite_are_named() {
    let folder = Folder::new();
    write(&folder.file("a"), &tensors(), 1);
    let parameters: [(&str, &[u8]); 6] = [
        ("w.scales", &[0x00, 0x7C]),
        ("r.scales", &[0, 0, 0x80, 0x7F]),
        ("f.scales", &[0, 0, 0x80, 0xFF]),
        ("n.scales", &[0x7F]),
        ("q.scales", &[0, 0, 0xC0, 0x7F]),
        ("e.base", &[0x01, 0x7E]),
    ];
    for (part, bytes) in parameters {
        let mut parts = parts(&folder.file("a"));
        parts.get_mut(part).unwrap()[..bytes.len()].copy_from_slice(bytes);
        write_parts(&folder.file("b"), &tensors(), &parts, |_| ());
        let faults = texts(&verify(&open(&folder.file("b")), 2).faults);
        assert_eq!(faults.len(), 1, "{part}: {faults:?}");
        let (tensor, part) = part.split_once('.').unwrap();
        assert_eq!(faults[0], format!("tensor `{tensor}`, part `{part}`: scale of group 0 is not finite"));
    }
}

#[test]
fn positions_that_are_no_ascending_list_are_named() {
    let folder = Folder::new();
    write(&folder.file("a"), &tensors(), 1);
    let with = |bytes: [u8; 5]| {
        let mut parts = parts(&folder.file("a"));
        parts.insert("p.positions".to_owned(), bytes.to_vec());
        write_parts(&folder.file("b"), &tensors(), &parts, |_| ());
        texts(&verify(&open(&folder.file("b")), 2).faults)
    };
    // 3, 17, 18, 41, 79 of 80, as in FORMAT.md.
    assert_eq!(with([0x2d, 0x01, 0x13, 0x92, 0x0f]), Vec::<String>::new());
    let named = |fault: &str| [format!("tensor `p`, part `positions`: {fault}")];
    let twice = "`positions` puts kept weight 2 at 17, not at one of 18..80";
    assert_eq!(with([0x2d, 0x01, 0x13, 0x91, 0x0f]), named(twice));
    let outside = "`positions` puts kept weight 4 at 95, not at one of 42..80";
    assert_eq!(with([0x2d, 0x02, 0x13, 0x92, 0x0f]), named(outside));
    assert_eq!(with([0x2d, 0x00, 0x13, 0x92, 0x0f]), named("`positions` holds 4 positions, needs 5"));
    let stray = "`positions` has bits set past the end of row 0";
    assert_eq!(
        [with([0x2d, 0x11, 0x13, 0x92, 0x0f]), with([0x2d, 0x01, 0x13, 0x92, 0x1f])],
        [named(stray), named(stray)]
    );
}

#[test]
fn a_mask_of_another_count_is_named() {
    for name in ["m.mask", "k.mask"] {
        let faults = with_part(name, 0, 0);
        assert_eq!(faults.len(), 1, "{faults:?}");
        let tensor = &name[..1];
        let start = format!("tensor `{tensor}`, part `mask`: metadata says that the mask keeps 7 weights, it keeps ");
        assert!(faults[0].starts_with(&start), "{}", faults[0]);
    }
}

#[test]
fn digests_that_are_wrong_are_named() {
    let other = Digest::of(b"other");
    let one = |faults: Vec<String>, start: &str| {
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].starts_with(start) && faults[0].contains(&other.to_string()), "{}", faults[0]);
    };
    one(with_meta(|meta| meta.digest = other), "checkpoint digest says ");
    one(with_meta(|meta| meta.recipe_digest = Some(other)), "recipe digest says ");
    let tensor = with_meta(|meta| meta.tensors.get_mut("w").unwrap().digest = other);
    assert!(tensor.iter().any(|text| text.starts_with("tensor `w`: digest says ")), "{tensor:?}");
    let none = with_meta(|meta| meta.recipe = None);
    assert!(none.len() == 1 && none[0].ends_with("has none"), "{none:?}");
    let part = with_meta(|meta| meta.tensors.get_mut("e").unwrap().parts[1].1 = other);
    assert!(part.iter().any(|text| text.starts_with("tensor `e`, part `fix2`: content hash says ")), "{part:?}");
    assert!(part.iter().any(|text| text.starts_with("tensor `e`: digest says ")), "{part:?}");
}

/// Writes the sample's parts in an order and with metadata of one's own.
fn rewritten(
    path: &Path,
    order: impl FnOnce(&mut Vec<String>),
    metadata: impl FnOnce(String) -> Vec<(String, String)>,
) {
    let folder = Folder::new();
    write(&folder.file("a"), &tensors(), 1);
    let artifact = open(&folder.file("a"));
    let checkpoint = artifact.checkpoint();
    let mut names: Vec<String> = checkpoint.tensors().map(|t| t.name().to_owned()).collect();
    names.retain(|name| !niwaki_tensors::is_pad(name));
    order(&mut names);
    let views: Vec<_> = names.iter().map(|name| checkpoint.get(name).unwrap()).collect();
    let tensors: Vec<_> = views.iter().map(|v| (v.name(), v.dtype(), v.shape(), v.bytes())).collect();
    let metadata = metadata(artifact.metas()[0].to_json());
    let metadata: Vec<_> = metadata.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    write_padded(path, &tensors, &metadata);
}

#[test]
fn another_order_of_parts_decodes_but_is_a_fault() {
    let folder = Folder::new();
    let ours = |json| vec![(META_KEY.to_owned(), json)];
    rewritten(&folder.file("b"), |_| (), ours);
    assert_eq!(texts(&verify(&open(&folder.file("b")), 1).faults), Vec::<String>::new());
    rewritten(&folder.file("b"), |names| names.reverse(), ours);
    let faults = texts(&verify(&open(&folder.file("b")), 1).faults);
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].contains(" belongs at byte 0 of the data, `e.plane4` stands next, at byte 0"), "{}", faults[0]);
}

#[test]
fn other_metadata_and_other_spellings_are_faults() {
    let folder = Folder::new();
    let spare = |json| vec![(META_KEY.to_owned(), json), ("format".to_owned(), "pt".to_owned())];
    rewritten(&folder.file("b"), |_| (), spare);
    let faults = texts(&verify(&open(&folder.file("b")), 1).faults);
    assert_eq!(faults, ["metadata has a key `format` beside `niwaki`"]);
    rewritten(&folder.file("b"), |_| (), |json| vec![(META_KEY.to_owned(), json.replacen(':', ": ", 1))]);
    let faults = texts(&verify(&open(&folder.file("b")), 1).faults);
    assert_eq!(faults, ["metadata `niwaki` is not canonical JSON"]);
}

#[test]
fn data_that_is_not_aligned_is_a_fault() {
    let folder = Folder::new();
    write(&folder.file("a"), &tensors(), 1);
    let mut bytes = std::fs::read(folder.file("a")).unwrap();
    let start = open(&folder.file("a")).checkpoint().shards()[0].data_start();
    bytes.insert(start, b' ');
    bytes[..8].copy_from_slice(&(start as u64 - 8 + 1).to_le_bytes());
    std::fs::write(folder.file("b"), bytes).unwrap();
    let faults = texts(&verify(&open(&folder.file("b")), 1).faults);
    assert_eq!(faults, [format!("data begins at byte {}, which is no multiple of 64", start + 1)]);
}

#[test]
fn faults_do_not_depend_on_the_number_of_threads() {
    let folder = Folder::new();
    write(&folder.file("a"), &tensors(), 1);
    let mut parts = parts(&folder.file("a"));
    parts.values_mut().for_each(|bytes| bytes[0] ^= 0x80);
    write_parts(&folder.file("b"), &tensors(), &parts, |meta| meta.digest = Digest::of(b"x"));
    let artifact = open(&folder.file("b"));
    let one = verify(&artifact, 1);
    assert!(one.faults.len() > 3, "{one:?}");
    for threads in [0, 2, 8] {
        assert_eq!(verify(&artifact, threads), one);
    }
}

#[test]
fn shards_of_two_recipes_are_a_fault() {
    let folder = Folder::new();
    let other = |meta: &mut Meta| {
        let tensors = std::mem::take(&mut meta.tensors);
        *meta = Meta { lineage: meta.lineage.clone(), ..Meta::new(tensors) }.with_recipe("version = 1\nseed = 1\n");
    };
    let (one, two) = (&tensors()[..1], &tensors()[1..2]);
    write(&folder.file("1.safetensors"), one, 1);
    write(&folder.file("2"), two, 1);
    write_parts(&folder.file("2.safetensors"), two, &parts(&folder.file("2")), other);
    let files = [
        ("b", "1.safetensors"),
        ("w.codes", "2.safetensors"),
        ("w.scales", "2.safetensors"),
        ("w.zeros", "2.safetensors"),
    ];
    write_index(&folder.file(""), files.map(|(name, file)| (name, file, 1)), Overwrite::Refuse).unwrap();
    let faults = verify(&open(&folder.file("model.safetensors.index.json")), 1).faults;
    assert_eq!(texts(&faults), ["recipe or lineage differ from those of the first file"]);
    assert_eq!(faults[0].shard, 1);
}

#[test]
fn digests_are_what_the_format_page_says() {
    let folder = Folder::new();
    write(&folder.file("a"), &tensors(), 1);
    let artifact = open(&folder.file("a"));
    let content = |name: &str| *blake3::hash(artifact.checkpoint().get(name).unwrap().bytes()).as_bytes();
    let join = |pieces: &[&[u8]]| *blake3::hash(&pieces.concat()).as_bytes();
    let b = join(&[b"niwaki tensor\0F32\x003\0", &content("b")]);
    let k = join(&[
        b"niwaki code\0dense\0F32\x003x5\0mask\0U8\x003x1\0",
        &content("k.mask"),
        b"values\0F32\x007\0",
        &content("k.values"),
    ]);
    let w = join(&[
        b"niwaki code\0int3/g4/affine\0F32\x003x5\0codes\0U8\x003x2\0",
        &content("w.codes"),
        b"scales\0F16\x003x2\0",
        &content("w.scales"),
        b"zeros\0U8\x003x2\0",
        &content("w.zeros"),
    ]);
    let n = join(&[
        b"niwaki code\0nvfp4\0BF16\x002x33\0codes\0U8\x002x17\0",
        &content("n.codes"),
        b"factor\0F32\x001\0",
        &content("n.factor"),
        b"scales\0F8_E4M3\x002x3\0",
        &content("n.scales"),
    ]);
    let digest = |name: &str| artifact.get(name).unwrap().meta().unwrap().digest.0;
    assert_eq!((digest("b"), digest("k"), digest("w"), digest("n")), (b, k, w, n));
    let p = join(&[
        b"niwaki code\0int4/g2/sym\0F32\x004x20\0codes\0U8\x003\0",
        &content("p.codes"),
        b"positions\0U8\x005\0",
        &content("p.positions"),
        b"scales\0F16\x003\0",
        &content("p.scales"),
    ]);
    assert_eq!(artifact.get("p").unwrap().meta().unwrap().digest.0, p);
    let names = ["b", "e", "f", "k", "m", "n", "p", "q", "r", "w"];
    let listed: Vec<Vec<u8>> = names.iter().map(|n| [n.as_bytes(), b"\0", &digest(n)].concat()).collect();
    let all = join(&[b"niwaki checkpoint\0", &listed.concat()]);
    assert_eq!((artifact.digest().unwrap().0, artifact.metas()[0].digest.0), (all, all));
}

#[test]
fn a_plain_file_is_reported_as_one() {
    let folder = Folder::new();
    write_file(&folder.file("a"), &[("w", Dtype::F32, &[1], &[0; 4])], &[], Overwrite::Refuse).unwrap();
    let found = verify(&open(&folder.file("a")), 1);
    assert_eq!((found.kind, found.faults.len()), (Kind::Plain, 0));
}

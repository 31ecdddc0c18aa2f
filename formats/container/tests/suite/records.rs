//! Containers with a record of patches: opened, undone; and those that contradict themselves.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use niwaki_container::{
    Artifact, Digest, Layout, META_KEY, Meta, Patch, apply_correction, canonical, chunks, encode_correction,
    header_blob, parse_meta, patch_blob, undo_blob, verify,
};
use niwaki_tensors::{Dtype, Limits, is_pad};
use serde_json::{Value, json};

use crate::made::{Folder, Random, layout, open, write, write_padded, write_parts};

type Blobs = Vec<(String, Vec<u8>)>;

fn tensors() -> Vec<(&'static str, Layout)> {
    vec![
        ("b", layout(Dtype::F32, &[3], "dense", None)),
        ("w", layout(Dtype::F32, &[9, 70], "int3/g4/affine", None)),
        ("h", layout(Dtype::BF16, &[40, 5], "dense", None)),
        ("e", layout(Dtype::F32, &[3, 70], "elastic/g4/2,4", None)),
        ("z", layout(Dtype::F32, &[0, 4], "dense", None)),
    ]
}

/// A signature file; what its patch touches does not matter here.
fn signature(folder: &Folder) -> Vec<u8> {
    let (path, w) = (folder.file("signature"), layout(Dtype::F32, &[2], "dense", None));
    write_parts(&path, &[("w", w)], &[("w".to_owned(), vec![0, 0, 128, 63, 0, 0, 0, 64])].into(), |meta| {
        meta.signature = Some(json!({"any": 1.5}));
    });
    std::fs::read(path).unwrap()
}

/// A patched file, what it was, and what an engine would predict for each part that has changed.
struct Merged {
    path: PathBuf,
    original: Vec<u8>,
    predicted: BTreeMap<String, Vec<u8>>,
}

/// The bytes of an element of a part, in which corrections count.
fn width(dtype: Dtype) -> usize {
    dtype.bitsize().div_ceil(8)
}

/// Writes a container as it was and as it is patched, the record and the metadata changed by `edit`.
fn merge(folder: &Folder, edit: impl FnOnce(&mut Meta, &mut Blobs)) -> Merged {
    let [base, other, path] = ["base", "other", "out"].map(|name| folder.file(name));
    write(&base, &tensors(), 1);
    // What the patched tensors hold: contents that verify.
    write(&other, &tensors(), 2);
    let (base, other) = (open(&base), open(&other));
    let (shard, new) = (&base.checkpoint().shards()[0], other.checkpoint());
    let mut physical = Vec::new();
    let mut blobs: Blobs = vec![(patch_blob(0), signature(folder))];
    blobs.push((header_blob(), shard.bytes()[..shard.data_start()].to_vec()));
    let (mut random, mut predicted) = (Random(3), BTreeMap::new());
    for old in base.checkpoint().tensors().filter(|view| !is_pad(view.name())) {
        let changed = old.name() != "b" && !old.bytes().is_empty();
        let now = if changed { new.get(old.name()).unwrap() } else { old };
        physical.push((old.name(), old.dtype(), old.shape(), now.bytes()));
        if changed {
            let mut content = old.bytes().to_vec();
            let at = random.below(content.len());
            content[at] ^= 5;
            let mut stream = vec![0; 4];
            encode_correction(width(old.dtype()), old.bytes(), &content, &mut stream).unwrap();
            let length = (stream.len() - 4) as u32;
            stream[..4].copy_from_slice(&length.to_le_bytes());
            blobs.push((undo_blob(old.name()), stream));
            predicted.insert(old.name().to_owned(), content);
        }
    }
    let mut meta = base.metas()[0].clone();
    meta.tensors
        .extend(other.metas()[0].tensors.iter().filter(|(name, _)| *name != "b").map(|(n, t)| (n.clone(), t.clone())));
    meta.digest = Meta::new(meta.tensors.clone()).digest;
    let (digest, bytes) = (Digest::of(&blobs[0].1), blobs[0].1.len() as u64);
    meta.patches = vec![Patch { name: "calm".to_owned(), alpha: 0.5, digest, tensors: 1, bytes }];
    meta.undo = Some(blobs.iter().map(|(name, bytes)| (name.clone(), Digest::of(bytes))).collect());
    edit(&mut meta, &mut blobs);
    let shapes: Vec<[usize; 1]> = blobs.iter().map(|(_, bytes)| [bytes.len()]).collect();
    let record =
        blobs.iter().zip(&shapes).map(|((name, bytes), shape)| (name.as_str(), Dtype::U8, &shape[..], &bytes[..]));
    physical.extend(record);
    write_padded(&path, &physical, &[(META_KEY, &meta.to_json())]);
    Merged { path, original: shard.bytes().to_vec(), predicted }
}

#[test]
fn a_patched_file_becomes_what_it_was() {
    let folder = Folder::new();
    let Merged { path, original, predicted } = merge(&folder, |_, _| ());
    let artifact = open(&path);
    assert_eq!(verify(&artifact, 2).faults, []);
    let undo = artifact.undo().unwrap().pop().unwrap().unwrap();
    let (shard, mut bytes) = (&artifact.checkpoint().shards()[0], undo.header().to_vec());
    let start = bytes.len();
    bytes.extend(&shard.bytes()[shard.data_start()..shard.data_start() + undo.data_bytes()]);
    let mut corrected = 0;
    for tensor in artifact.tensors() {
        for (spec, _) in &tensor.meta().unwrap().parts {
            let Some(stream) = undo.corrections(tensor.name(), spec.part) else { continue };
            let name = spec.part.name(tensor.name());
            let entry = shard.entries().iter().find(|entry| entry.name == name).unwrap();
            let content = &mut bytes[start + entry.begin..start + entry.end];
            content.copy_from_slice(&predicted[&name]);
            let [chunk] = chunks(stream).unwrap()[..] else { panic!("one chunk") };
            apply_correction(width(spec.dtype), chunk, content).unwrap();
            corrected += 1;
        }
    }
    assert_eq!(corrected, predicted.len());
    assert!(bytes == original);
}

#[test]
fn an_embedded_signature_opens_where_it_lies() {
    let folder = Folder::new();
    let artifact = open(&merge(&folder, |_, _| ()).path);
    let signature = artifact.undo().unwrap()[0].as_ref().unwrap().signature(0).unwrap();
    drop(artifact);
    assert_eq!(signature.metas()[0].signature, Some(json!({"any": 1.5})));
    let values = signature.checkpoint().get("w").unwrap();
    assert_eq!(values.f32s(), Some(&[1.0, 2.0][..]), "data of an embedded file is aligned");
    // A file inside another one stands beside nothing, least of all beside a model's settings.
    std::fs::write(folder.file("config.json"), "{}").unwrap();
    assert!(signature.checkpoint().config().is_none());
}

fn said(path: &Path, error: &niwaki_container::Error) -> String {
    error.to_string().replacen(&format!("`{}`: ", path.display()), "", 1)
}

#[test]
fn tensors_that_are_not_those_listed_are_refused() {
    let refused = |edit: &dyn Fn(&mut Meta, &mut Blobs)| {
        let folder = Folder::new();
        let path = merge(&folder, edit).path;
        said(&path, &Artifact::open(&path, &Limits::default()).unwrap_err())
    };
    assert_eq!(refused(&|_, blobs| drop(blobs.remove(1))), "part `__niwaki_header` is not there");
    let stray = "`__niwaki_x` belongs to no tensor of the metadata";
    assert_eq!(refused(&|_, blobs| blobs.push(("__niwaki_x".to_owned(), vec![1]))), stray);
    let none = "`__niwaki_patch.0` belongs to no tensor of the metadata";
    assert_eq!(refused(&|meta, _| meta.undo = None), none);
    let twice = |meta: &mut Meta, _: &mut Blobs| meta.patches.push(meta.patches[0].clone());
    assert_eq!(refused(&twice), "metadata `niwaki`: two patches are called `calm`");
}

#[test]
fn a_changed_byte_of_the_record_is_refused_before_it_does_harm() {
    let count = merge(&Folder::new(), |_, _| ()).predicted.len() + 2;
    for index in 0..count {
        let folder = Folder::new();
        let mut name = String::new();
        let path = merge(&folder, |_, blobs| {
            name.clone_from(&blobs[index].0);
            *blobs[index].1.last_mut().unwrap() ^= 1;
        });
        let artifact = open(&path.path);
        let message = said(&path.path, &artifact.undo().unwrap_err());
        assert_eq!(message, format!("tensor `{name}`: correction: a record that was changed"));
        assert_eq!(verify(&artifact, 1).faults.len(), 1, "{name}");
    }
}

/// What is said where the header without patches is another one, listed with its hash.
fn with_header(edit: impl FnOnce(&mut Value)) -> String {
    let folder = Folder::new();
    let path = merge(&folder, |meta, blobs| {
        let header = &mut blobs[1].1;
        let mut value: Value = serde_json::from_slice(&header[8..]).unwrap();
        edit(&mut value);
        let text = canonical(&value);
        *header = [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
        meta.undo.as_mut().unwrap().insert(header_blob(), Digest::of(header));
    });
    let artifact = open(&path.path);
    // The verifier says what opening the record says, or that the record is no use.
    assert!(!verify(&artifact, 1).faults.is_empty());
    artifact.undo().err().map(|error| said(&path.path, &error)).unwrap_or_default()
}

#[test]
fn a_header_without_patches_fits_the_file() {
    let first = "metadata `niwaki`: the header without patches ";
    for end in [u64::MAX, 1 << 40, i64::MAX as u64, 1] {
        let message = with_header(|header| header["e.plane4"]["data_offsets"][1] = end.into());
        assert!(message.starts_with(&format!("{first}is none: ")), "{message}");
    }
    let longer = |header: &mut Value| {
        let begin = header["e.plane4"]["data_offsets"][0].as_u64().unwrap();
        header["e.plane4"]["data_offsets"][1] = (begin + (1 << 40)).into();
        header["e.plane4"]["shape"] = json!([1u64 << 40]);
    };
    assert_eq!(with_header(longer), format!("{first}has `e.plane4` where the file has not"));
    let renamed = |header: &mut Value| {
        let entry = header.as_object_mut().unwrap().remove("b").unwrap();
        header["c"] = entry;
    };
    assert_eq!(with_header(renamed), format!("{first}has `c` where the file has not"));
    let other = |header: &mut Value| header["__metadata__"] = json!({"format": "pt"});
    assert!(with_header(other).starts_with("no metadata `niwaki`"));
    let fewer = |header: &mut Value| {
        let mut meta = parse_meta(header["__metadata__"]["niwaki"].as_str().unwrap().as_bytes()).unwrap();
        meta.tensors.remove("b");
        header["__metadata__"]["niwaki"] = meta.to_json().into();
    };
    assert_eq!(with_header(fewer), "");
}

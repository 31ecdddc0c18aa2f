//! What is written is read back, and bytes depend on nothing but what is written.

#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod made;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

use made::{Made, Random, Scratch};
use niwaki_gguf::{Array, Entry, GgmlType, Gguf, Layout, Metadata, Value, Writer, parse};
use niwaki_tensors::{Blame, Limits, Overwrite};

fn text(random: &mut Random) -> String {
    (0..random.below(9)).map(|_| *random.pick(&['a', 'ß', '▁', '\n', '\u{1f680}', ' '])).collect()
}

fn array(random: &mut Random, depth: usize) -> Array {
    let n = random.below(5);
    match random.below(if depth < 4 { 13 } else { 12 }) {
        0 => Array::U8((0..n).map(|_| random.next() as u8).collect()),
        1 => Array::I8((0..n).map(|_| random.next() as i8).collect()),
        2 => Array::U16((0..n).map(|_| random.next() as u16).collect()),
        3 => Array::I16((0..n).map(|_| random.next() as i16).collect()),
        4 => Array::U32((0..n).map(|_| random.next() as u32).collect()),
        5 => Array::I32((0..n).map(|_| random.next() as i32).collect()),
        6 => Array::F32((0..n).map(|_| random.next() as f32).collect()),
        7 => Array::Bool((0..n).map(|_| random.below(2) == 1).collect()),
        8 => Array::Text((0..n).map(|_| text(random)).collect::<Vec<_>>().iter().map(String::as_str).collect()),
        9 => Array::U64((0..n).map(|_| random.next()).collect()),
        10 => Array::I64((0..n).map(|_| random.next() as i64).collect()),
        11 => Array::F64((0..n).map(|_| random.next() as f64).collect()),
        _ => Array::Array((0..n).map(|_| array(random, depth + 1)).collect()),
    }
}

fn value(random: &mut Random) -> Value {
    match random.below(13) {
        0 => Value::U8(random.next() as u8),
        1 => Value::I8(random.next() as i8),
        2 => Value::U16(random.next() as u16),
        3 => Value::I16(random.next() as i16),
        4 => Value::U32(random.next() as u32),
        5 => Value::I32(random.next() as i32),
        6 => Value::F32(random.next() as f32),
        7 => Value::Bool(random.below(2) == 1),
        8 => Value::Text(text(random)),
        9 => Value::U64(random.next()),
        10 => Value::I64(random.next() as i64),
        11 => Value::F64(random.next() as f64),
        _ => Value::Array(array(random, 1)),
    }
}

fn entry(random: &mut Random, index: usize) -> Entry {
    let ggml_type = *random.pick(GgmlType::ALL);
    let mut dims: Vec<usize> = (0..random.below(4)).map(|_| random.below(4)).collect();
    if ggml_type.block_elements() > 1 || random.below(4) > 0 {
        dims.push(random.below(3) * ggml_type.block_elements());
    }
    Entry { name: format!("t{index}"), dims, ggml_type }
}

fn file(random: &mut Random) -> (Metadata, Vec<Entry>) {
    let mut metadata = Metadata::new();
    for key in 0..random.below(8) {
        metadata.set(&format!("k{key}"), value(random));
    }
    if random.below(2) == 0 {
        metadata.set("general.alignment", Value::U32(1 << random.below(9)));
    }
    (metadata, (0..random.below(9)).map(|index| entry(random, index)).collect())
}

/// The bytes of a tensor: seeded by its index.
fn data(index: usize, len: u64) -> Vec<u8> {
    let mut random = Random::new(index as u64 + 1000);
    (0..len).map(|_| random.next() as u8).collect()
}

fn write(path: &Path, metadata: &Metadata, entries: &[Entry]) {
    let writer = Writer::create(path, Layout::new(metadata, entries).unwrap(), Overwrite::Replace).unwrap();
    for index in 0..entries.len() {
        writer.write_at(index, 0, &data(index, writer.layout().entry_bytes(index).unwrap())).unwrap();
    }
    writer.finish(false).unwrap();
}

#[test]
fn random_files_come_back() {
    let folder = Scratch::new();
    let path = folder.join("m.gguf");
    for seed in 0..300 {
        let (metadata, entries) = file(&mut Random::new(seed));
        write(&path, &metadata, &entries);
        let gguf = Gguf::open(&path, &Limits::default()).unwrap();
        assert_eq!((gguf.metadata(), gguf.len()), (&metadata, entries.len()), "seed {seed}");
        for (index, (view, entry)) in gguf.tensors().zip(&entries).enumerate() {
            assert_eq!((view.name(), view.dims()), (&*entry.name, &*entry.dims));
            assert_eq!(view.ggml_type().unwrap(), entry.ggml_type);
            let bytes = view.bytes().unwrap();
            assert_eq!(bytes, data(index, bytes.len() as u64), "seed {seed}, tensor {index}");
        }
        // Nothing but what random metadata lacks, random numbers are, and no engine stores.
        for fault in gguf.verify() {
            let text = fault.to_string();
            let known = text.contains("not finite") || text.contains("is missing") || text.contains("activations");
            assert!(known, "seed {seed}: {text}");
        }
    }
}

#[test]
fn bytes_by_hand() {
    let mut metadata = Metadata::new();
    metadata.set("general.architecture", Value::Text("llama".to_owned()));
    metadata.set("general.quantization_version", Value::U32(2));
    let entries = [
        Entry { name: "a".to_owned(), dims: vec![3, 2], ggml_type: GgmlType::F32 },
        Entry { name: "b".to_owned(), dims: vec![2, 32], ggml_type: GgmlType::Q8_0 },
    ];
    let folder = Scratch::new();
    let path = folder.join("m.gguf");
    let writer = Writer::create(&path, Layout::new(&metadata, &entries).unwrap(), Overwrite::Refuse).unwrap();
    writer.write_at(0, 0, &Made::new().data[..24]).unwrap();
    writer.write_at(1, 0, &Made::new().data[32..100]).unwrap();
    writer.finish(true).unwrap();
    assert_eq!(fs::read(&path).unwrap(), Made::new().bytes());
    assert_eq!(folder.names(), ["m.gguf"]);
}

#[test]
fn threads_and_resuming_change_nothing() {
    let folder = Scratch::new();
    let (metadata, entries) = file(&mut Random::new(7));
    let layout = || Layout::new(&metadata, &entries).unwrap();
    let (one, many, resumed) = (folder.join("one"), folder.join("many"), folder.join("resumed"));
    write(&one, &metadata, &entries);
    let writer = Writer::create(&many, layout(), Overwrite::Refuse).unwrap();
    thread::scope(|scope| {
        for index in (0..entries.len()).rev() {
            let writer = &writer;
            scope.spawn(move || {
                let bytes = data(index, writer.layout().entry_bytes(index).unwrap());
                for (at, piece) in bytes.chunks(7).enumerate().collect::<Vec<_>>().into_iter().rev() {
                    writer.write_at(index, at as u64 * 7, piece).unwrap();
                }
            });
        }
    });
    writer.finish(false).unwrap();
    assert_eq!(fs::read(&one).unwrap(), fs::read(&many).unwrap());

    assert!(Writer::resume(&resumed, layout(), Overwrite::Refuse).unwrap().is_none());
    let writer = Writer::create(&resumed, layout(), Overwrite::Refuse).unwrap();
    writer.keep_partial(true);
    drop(writer);
    // Rubbish in header and padding does not survive.
    let partial = folder.join("resumed.niwaki-partial");
    fs::write(&partial, vec![0xee; layout().file_bytes() as usize]).unwrap();
    let writer = Writer::resume(&resumed, layout(), Overwrite::Refuse).unwrap().unwrap();
    for index in 0..entries.len() {
        writer.write_at(index, 0, &data(index, writer.layout().entry_bytes(index).unwrap())).unwrap();
    }
    let mut back = vec![0; 3];
    writer.read_at(0, 1, &mut back).unwrap();
    assert_eq!(back, data(0, 4)[1..]);
    writer.finish(false).unwrap();
    assert_eq!(fs::read(&one).unwrap(), fs::read(&resumed).unwrap());
}

#[test]
fn layouts_that_cannot_be() {
    let entry = |name: &str, dims: &[usize], ggml_type| Entry { name: name.to_owned(), dims: dims.to_vec(), ggml_type };
    let f32s = |name: &str| entry(name, &[1], GgmlType::F32);
    let refused = |metadata: &Metadata, entries: &[Entry]| {
        let error = Layout::new(metadata, entries).unwrap_err();
        assert_eq!(error.blame(), Blame::Caller, "{error}");
        error.to_string()
    };
    let none = Metadata::new();
    assert_eq!(refused(&none, &[f32s("a"), f32s("b"), f32s("a")]), "two tensors are called `a`");
    assert_eq!(refused(&none, &[f32s("")]), "tensor 0: its name is empty");
    let long = "n".repeat(64);
    assert_eq!(refused(&none, &[f32s(&long)]), format!("tensor `{long}`: its name has 64 bytes; it may have 63"));
    let said = "tensor `a`: 5 dimensions; the format ends at 4";
    assert_eq!(refused(&none, &[entry("a", &[1; 5], GgmlType::F32)]), said);
    let said = "tensor `a`: rows of 100 elements are no whole blocks; Q6_K has blocks of 256";
    assert_eq!(refused(&none, &[entry("a", &[2, 100], GgmlType::Q6_K)]), said);
    let huge = entry("a", &[1 << 61], GgmlType::F32);
    assert_eq!(
        refused(&none, &[huge]),
        "tensor `a`: F32 2305843009213693952 does not fit into the address space".to_owned()
    );
    let large = |name| entry(name, &[1 << 59], GgmlType::F32);
    let four = [large("a"), large("b"), large("c"), large("d")];
    assert_eq!(refused(&none, &four), "tensor `d`: F32 576460752303423488 does not fit into the address space");
    let mut metadata = Metadata::new();
    metadata.set("general.alignment", Value::U32(48));
    assert_eq!(refused(&metadata, &[]), "key `general.alignment`: 48 is no power of two up to 1048576");
    let mut metadata = Metadata::new();
    metadata.set("", Value::Bool(true));
    assert_eq!(refused(&metadata, &[]), "key 0: its name is empty");
}

#[test]
fn pieces_stay_inside_their_tensor() {
    let folder = Scratch::new();
    let path = folder.join("out");
    let entry = Entry { name: "a".to_owned(), dims: vec![2], ggml_type: GgmlType::F32 };
    let writer = Writer::create(&path, Layout::new(&Metadata::new(), &[entry]).unwrap(), Overwrite::Refuse).unwrap();
    let said = |error: niwaki_gguf::Error| {
        assert_eq!((error.blame(), error.path()), (Blame::Caller, Some(&*path)));
        error.to_string().strip_prefix(&format!("`{}`: ", path.display())).unwrap().to_owned()
    };
    let error = writer.write_at(0, 7, &[0; 2]).unwrap_err();
    assert_eq!(said(error), "2 bytes at byte 7 of tensor `a` were asked for; it has 8");
    assert_eq!(said(writer.read_at(1, 0, &mut [0]).unwrap_err()), "entry 1 was asked for; there are 1");
    let error = writer.write_at(0, u64::MAX, &[0]).unwrap_err();
    assert_eq!(said(error), "1 bytes at byte 18446744073709551615 of tensor `a` were asked for; it has 8");
    drop(writer);
    assert!(folder.names().is_empty());
    fs::write(&path, "old").unwrap();
    let error = Writer::create(&path, Layout::new(&Metadata::new(), &[]).unwrap(), Overwrite::Refuse).unwrap_err();
    assert_eq!((error.to_string(), error.blame()), (format!("`{}`: exists already", path.display()), Blame::Caller));
}

#[test]
fn a_vocabulary_without_tensors() {
    let bytes = Layout::new(&Metadata::new(), &[]).unwrap().header().to_vec();
    assert_eq!(bytes, [&b"GGUF\x03\0\0\0"[..], &[0; 24]].concat());
    assert!(parse(&bytes, &Limits::default()).unwrap().tensors.is_empty());
}

/// Python that has the package `gguf`, where there is one.
fn python() -> Option<String> {
    let python = std::env::var("NIWAKI_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has = Command::new(&python).args(["-c", "import gguf"]).output().is_ok_and(|done| done.status.success());
    has.then_some(python)
}

#[test]
fn gguf_py_reads_the_same() {
    let Some(python) = python() else { return println!("skipped: no Python with the package gguf here") };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/scripts/dump_gguf.py");
    let folder = Scratch::new();
    let path = folder.join("m.gguf");
    for seed in 0..12 {
        let (mut metadata, entries) = file(&mut Random::new(seed));
        // It knows no arrays of arrays and needs 8 bytes of alignment.
        let nested = |value: &Value| matches!(value, Value::Array(Array::Array(_)));
        let drop: Vec<String> = metadata.iter().filter(|(_, v)| nested(v)).map(|(k, _)| k.to_owned()).collect();
        drop.iter().for_each(|key| assert!(metadata.remove(key).is_some()));
        metadata.set("general.alignment", Value::U32(64));
        metadata.set("general.architecture", Value::Text("llama".to_owned()));
        // Nor types of this year, nor the right size of Q8_1, nor tensors without dimensions or elements.
        let known = |e: &Entry| {
            e.ggml_type.id() <= 40 && e.ggml_type != GgmlType::Q8_1 && !e.dims.is_empty() && !e.dims.contains(&0)
        };
        let entries: Vec<Entry> = entries.into_iter().filter(known).collect();
        write(&path, &metadata, &entries);
        let done = Command::new(&python).arg(&script).arg(&path).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        assert_eq!(String::from_utf8(done.stdout).unwrap(), dump(&path), "seed {seed}");
    }
}

/// What the script says: keys with types and lengths, tensors with a sum of their bytes.
fn dump(path: &Path) -> String {
    let gguf = Gguf::open(path, &Limits::default()).unwrap();
    let mut out = String::new();
    for (key, value) in gguf.metadata().iter() {
        let said = match value {
            Value::Array(array) => format!("array {} {}", array.element_type().id(), array.len()),
            Value::Text(text) => format!("{} {text:?}", value.value_type().id()).replace("\\u{1f680}", "\u{1f680}"),
            Value::F32(x) => format!("6 {:?}", f64::from(*x).to_bits()),
            Value::F64(x) => format!("12 {:?}", x.to_bits()),
            Value::Bool(yes) => format!("7 {}", u8::from(*yes)),
            Value::I8(n) => format!("1 {n}"),
            Value::I16(n) => format!("3 {n}"),
            Value::I32(n) => format!("5 {n}"),
            Value::I64(n) => format!("11 {n}"),
            other => format!("{} {}", other.value_type().id(), other.as_u64().unwrap()),
        };
        out += &format!("{key} {said}\n");
    }
    for view in gguf.tensors() {
        let sum = view.bytes().unwrap().iter().fold(0u32, |sum, b| sum.wrapping_mul(31).wrapping_add((*b).into()));
        let dims: Vec<String> = view.dims().iter().rev().map(ToString::to_string).collect();
        out += &format!("{} {} {} {sum}\n", view.name(), view.ggml_type().unwrap(), dims.join(","));
    }
    out
}

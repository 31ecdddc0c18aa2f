//! What is written opens again, here and in the `safetensors` crate.

#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod scratch;

use std::path::Path;

use niwaki_tensors::{
    ALIGNMENT, ALL_DTYPES, Advice, Blame, Checkpoint, Dtype, Entry, ErrorKind, Layout, Limits, Overwrite, Writer,
    byte_len, is_pad, metadata_len, write_file,
};
use safetensors::SafeTensors;
use scratch::{Random, Scratch, file};

/// One tensor of every type, with shapes that leave gaps, empty and 0-d ones among them.
fn every_type() -> Vec<(String, Dtype, Vec<usize>, Vec<u8>)> {
    let mut random = Random::new(5);
    let shapes: [&[usize]; 5] = [&[4, 3], &[], &[0, 7], &[8], &[2, 1, 2, 1, 1, 2, 1, 1]];
    let mut tensors = Vec::new();
    for (i, dtype) in ALL_DTYPES.into_iter().enumerate() {
        for (j, shape) in shapes.iter().enumerate() {
            let Some(len) = byte_len(dtype, shape.iter().product()) else { continue };
            // Not the order of names, nor that of alignment.
            let name = format!("{}.{}/\"é\\\n", (i * 7) % 22, j);
            tensors.push((name, dtype, shape.to_vec(), (0..len).map(|_| random.next() as u8).collect()));
        }
    }
    tensors
}

/// Tensor after tensor, each at once, with pads between them.
fn write(path: &Path, tensors: &[(String, Dtype, Vec<usize>, Vec<u8>)], metadata: &[(&str, &str)]) {
    let writer = Writer::create(path, layout(tensors, metadata), Overwrite::Refuse).unwrap();
    for (i, (.., bytes)) in tensors.iter().enumerate() {
        writer.write_at(i, 0, bytes).unwrap();
    }
    writer.finish(metadata, false).unwrap();
}

type Borrowed<'a> = Vec<(&'a str, Dtype, &'a [usize], &'a [u8])>;

fn borrowed(tensors: &[(String, Dtype, Vec<usize>, Vec<u8>)]) -> Borrowed<'_> {
    tensors.iter().map(|(name, dtype, shape, bytes)| (name.as_str(), *dtype, &shape[..], &bytes[..])).collect()
}

#[test]
fn every_type_and_shape_comes_back_in_the_declared_order() {
    let folder = Scratch::new();
    let path = folder.join("all.safetensors");
    let tensors = every_type();
    let metadata = [("z", "1"), ("format", "pt \"quoted\" \n é")];
    write(&path, &tensors, &metadata);

    let checkpoint = Checkpoint::open(&path, &Limits::default()).unwrap();
    let read: Vec<_> = checkpoint.tensors().filter(|t| !is_pad(t.name())).collect();
    assert_eq!(read.len(), tensors.len());
    for (view, (name, dtype, shape, bytes)) in read.iter().zip(&tensors) {
        assert_eq!((view.name(), view.dtype(), view.shape(), view.bytes()), (&**name, *dtype, &**shape, &**bytes));
        assert_eq!(checkpoint.get(name).unwrap().bytes(), bytes);
        let place = view.file_range();
        assert_eq!(&view.file().bytes()[place.clone()], bytes);
        assert!(bytes.is_empty() || (place.start as u64).is_multiple_of(ALIGNMENT), "{name} at {}", place.start);
    }
    assert_eq!(checkpoint.metadata().into_iter().collect::<Vec<_>>(), [metadata[1], metadata[0]]);

    let whole = std::fs::read(&path).unwrap();
    let theirs = SafeTensors::deserialize(&whole).unwrap();
    assert_eq!(theirs.len(), checkpoint.len());
    for (name, dtype, shape, bytes) in &tensors {
        let view = theirs.tensor(name).unwrap();
        assert_eq!((view.dtype(), view.shape(), view.data()), (*dtype, &**shape, &**bytes));
    }
    let pads = checkpoint.tensors().filter(|t| is_pad(t.name()));
    assert!(pads.map(|pad| assert!(pad.bytes().iter().all(|b| *b == 0))).count() > 20);
    assert_eq!(folder.names(), ["all.safetensors"]);
}

#[test]
fn the_same_input_gives_the_same_bytes_whatever_the_order_of_writing() {
    let folder = Scratch::new();
    let tensors = every_type();
    let (one, other) = (folder.join("one"), folder.join("other"));
    let metadata = [("b", "2"), ("a", "1")];
    write(&one, &tensors, &metadata);

    let writer = Writer::create(&other, layout(&tensors, &metadata), Overwrite::Refuse).unwrap();
    std::thread::scope(|scope| {
        for part in 0..4 {
            let (writer, tensors) = (&writer, &tensors);
            scope.spawn(move || {
                for (i, (.., bytes)) in tensors.iter().enumerate().rev().filter(|(i, _)| i % 4 == part) {
                    // Byte by byte, backwards.
                    for (at, byte) in bytes.iter().enumerate().rev() {
                        writer.write_at(i, at as u64, &[*byte]).unwrap();
                    }
                }
            });
        }
    });
    let swapped = [metadata[1], metadata[0]];
    writer.finish(&swapped, true).unwrap();
    assert!(std::fs::read(&one).unwrap() == std::fs::read(&other).unwrap());
}

fn layout(tensors: &[(String, Dtype, Vec<usize>, Vec<u8>)], metadata: &[(&str, &str)]) -> Layout {
    let entry = |(name, dtype, shape, _): &(String, Dtype, Vec<usize>, Vec<u8>)| Entry {
        name: name.clone(),
        dtype: *dtype,
        shape: shape.clone(),
    };
    Layout::new(tensors.iter().map(entry).collect(), metadata_len(metadata)).unwrap()
}

#[test]
fn a_file_written_at_once_has_no_pads() {
    let folder = Scratch::new();
    let path = folder.join("plain");
    let tensors = every_type();
    write_file(&path, &borrowed(&tensors), &[], Overwrite::Refuse).unwrap();
    let checkpoint = Checkpoint::open(&path, &Limits::default()).unwrap();
    let read: Vec<_> = checkpoint.tensors().map(|t| (t.name(), t.dtype(), t.shape(), t.bytes())).collect();
    assert_eq!(read, borrowed(&tensors));
    assert_eq!(SafeTensors::deserialize(&std::fs::read(&path).unwrap()).unwrap().len(), tensors.len());
}

#[test]
fn no_tensors_and_no_metadata_make_a_file() {
    let folder = Scratch::new();
    let path = folder.join("empty");
    write_file(&path, &[], &[], Overwrite::Refuse).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(bytes.len(), 64);
    assert_eq!(&bytes[8..11], b"{} ");
    assert!(SafeTensors::deserialize(&bytes).unwrap().is_empty());
    assert!(Checkpoint::open(&path, &Limits::default()).unwrap().is_empty());
}

#[test]
fn room_left_over_is_spaces() {
    let folder = Scratch::new();
    let path = folder.join("roomy");
    let entry = Entry { name: "w".to_owned(), dtype: Dtype::U8, shape: vec![3] };
    let layout = Layout::new(vec![entry], 1000).unwrap();
    assert_eq!((layout.file_offset(0), layout.entry_bytes(0)), (Some(layout.data_start()), Some(3)));
    assert_eq!(layout.file_bytes(), layout.data_start() + 3);
    let writer = Writer::create(&path, layout, Overwrite::Refuse).unwrap();
    writer.write_at(0, 0, b"abc").unwrap();
    writer.finish(&[("k", "v")], false).unwrap();
    let checkpoint = Checkpoint::open(&path, &Limits::default()).unwrap();
    assert_eq!(checkpoint.get("w").unwrap().bytes(), b"abc");
    assert_eq!(checkpoint.shards()[0].metadata()["k"], "v");
    assert!(checkpoint.shards()[0].data_start() > 1000 && checkpoint.shards()[0].data_start().is_multiple_of(64));
}

#[test]
fn an_exact_layout_takes_pads_as_entries() {
    let folder = Scratch::new();
    let path = folder.join("exact");
    let entry = |name: &str, len| Entry { name: name.to_owned(), dtype: Dtype::U8, shape: vec![len] };
    let layout = Layout::exact(vec![entry("a", 3), entry("__niwaki_pad.0", 61), entry("b", 2)], 0).unwrap();
    assert_eq!(layout.file_offset(2), Some(layout.data_start() + 64));
    let writer = Writer::create(&path, layout.clone(), Overwrite::Refuse).unwrap();
    writer.write_at(2, 0, b"bb").unwrap();
    writer.write_at(0, 0, b"aaa").unwrap();
    writer.finish(&[], false).unwrap();
    let checkpoint = Checkpoint::open(&path, &Limits::default()).unwrap();
    assert_eq!(checkpoint.get("b").unwrap().bytes(), b"bb");
    assert_eq!(checkpoint.get("__niwaki_pad.0").unwrap().bytes(), [0; 61]);
    // `new` makes the same places out of what is not a pad.
    let same = Layout::new(vec![entry("a", 3), entry("b", 2)], 0).unwrap();
    assert_eq!((same.file_offset(1), same.file_bytes()), (layout.file_offset(2), layout.file_bytes()));
}

#[test]
fn layouts_that_cannot_be() {
    let entry = |name: &str, dtype, shape: &[usize]| Entry { name: name.to_owned(), dtype, shape: shape.to_vec() };
    let refused = |entries: Vec<Entry>| {
        let error = Layout::new(entries, 0).unwrap_err();
        assert_eq!(
            error.blame(),
            if matches!(error.kind(), ErrorKind::Reserved) { Blame::Caller } else { Blame::Input }
        );
        error.to_string()
    };
    let w = || entry("w", Dtype::U8, &[1]);
    assert_eq!(refused(vec![w(), entry("v", Dtype::I8, &[2]), w()]), "two tensors are called `w`");
    assert_eq!(refused(vec![entry("__metadata__", Dtype::U8, &[1])]), "`__metadata__` is a reserved name");
    assert_eq!(refused(vec![entry("__niwaki_pad.7", Dtype::U8, &[1])]), "`__niwaki_pad.7` is a reserved name");
    let said = "tensor `w` needs 20 bits (F4, 5), which are no whole bytes";
    assert_eq!(refused(vec![entry("w", Dtype::F4, &[5])]), said);
    let huge = usize::MAX / 2;
    let said = format!("tensor `w` (F32, {huge}x3) does not fit into the address space");
    assert_eq!(refused(vec![entry("w", Dtype::F32, &[huge, 3])]), said);
    let big = usize::MAX / 8;
    let all = (0..5).map(|i| entry(&i.to_string(), Dtype::U8, &[big])).collect();
    assert_eq!(refused(all), format!("tensor `3` (U8, {big}) does not fit into the address space"));
    let error = Layout::new(vec![w()], 100_000_000).unwrap_err();
    assert_eq!(error.to_string(), "header says 100000056 bytes; the format ends at 100000000");
}

#[test]
fn threads_may_share_what_is_open() {
    fn shared<T: Send + Sync>() {}
    shared::<Checkpoint>();
    shared::<Writer>();
    shared::<niwaki_tensors::Error>();
    // An error is one word.
    assert_eq!(size_of::<niwaki_tensors::Error>(), size_of::<usize>());
}

#[test]
fn odd_offsets_are_decoded_and_never_cast() {
    // One U8 in front puts the F32s at odd addresses.
    let header = r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"w":{"dtype":"F32","shape":[3],"data_offsets":[1,13]}}"#;
    let mut bytes = file(header, 1);
    let values = [1.5f32, -0.0, f32::MIN_POSITIVE];
    bytes.extend(values.iter().flat_map(|x| x.to_le_bytes()));
    let folder = Scratch::new();
    let path = folder.write("odd", &bytes);
    let checkpoint = Checkpoint::open(&path, &Limits::default()).unwrap();
    let w = checkpoint.get("w").unwrap();
    let start = w.bytes().as_ptr() as usize;
    assert_eq!(w.f32s().is_some(), start.is_multiple_of(4));
    let mut out = [9.0; 3];
    w.decode_f32(0..3, &mut out).unwrap();
    assert_eq!(out.map(f32::to_bits), values.map(f32::to_bits));
    let mut one = [9.0];
    w.decode_f32(2..3, &mut one).unwrap();
    assert_eq!(one[0], values[2]);
}

#[test]
fn aligned_floats_are_handed_out() {
    let folder = Scratch::new();
    let path = folder.join("f");
    let bytes: Vec<u8> = [1.0f32, 2.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    let tensors: Borrowed<'_> =
        vec![("x", Dtype::U8, &[4], &[7; 4]), ("w", Dtype::F32, &[2], &bytes), ("i", Dtype::I32, &[2], &bytes)];
    write_file(&path, &tensors, &[], Overwrite::Refuse).unwrap();
    let checkpoint = Checkpoint::open(&path, &Limits::default()).unwrap();
    assert_eq!(checkpoint.get("w").unwrap().f32s(), Some(&[1.0, 2.0][..]));
    assert_eq!(checkpoint.get("i").unwrap().f32s(), None);
}

#[test]
fn ranges_of_elements() {
    let folder = Scratch::new();
    let path = folder.join("r");
    let tensors: Borrowed<'_> =
        vec![("h", Dtype::U16, &[2, 2], &[0, 1, 2, 3, 4, 5, 6, 7]), ("n", Dtype::F4, &[4], &[8, 9])];
    write_file(&path, &tensors, &[], Overwrite::Refuse).unwrap();
    let checkpoint = Checkpoint::open(&path, &Limits::default()).unwrap();
    let (h, n) = (checkpoint.get("h").unwrap(), checkpoint.get("n").unwrap());
    assert_eq!(h.slice_bytes(1..3).unwrap(), [2, 3, 4, 5]);
    assert_eq!(h.slice_bytes(4..4).unwrap(), [] as [u8; 0]);
    assert_eq!(n.slice_bytes(2..4).unwrap(), [9]);
    let said = "elements 3 to 5 of tensor `h` were asked for; it has 4";
    assert_eq!(h.slice_bytes(3..5).unwrap_err().to_string(), said);
    #[allow(clippy::reversed_empty_ranges, reason = "such a range is the case")]
    let reversed = h.slice_bytes(3..2).unwrap_err();
    assert_eq!(reversed.to_string(), "elements 3 to 2 of tensor `h` were asked for; it has 4");
    let said = "elements 1 to 3 of tensor `n` (F4) are no whole bytes";
    assert_eq!(n.slice_bytes(1..3).unwrap_err().to_string(), said);
    let error = h.decode_f32(0..4, &mut [0.0; 4]).unwrap_err();
    assert_eq!((error.tensor(), error.blame()), (Some("h"), Blame::Caller));
}

#[test]
fn advice_changes_nothing_that_is_read() {
    let folder = Scratch::new();
    let path = folder.join("a");
    let bytes: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8).collect();
    let shape = [bytes.len()];
    let tensors: Borrowed<'_> = vec![("e", Dtype::U8, &[0], &[]), ("w", Dtype::U8, &shape, &bytes)];
    write_file(&path, &tensors, &[], Overwrite::Refuse).unwrap();
    let checkpoint = Checkpoint::open(&path, &Limits::default()).unwrap();
    let w = checkpoint.get("w").unwrap();
    for advice in [Advice::WillNeed, Advice::Populate, Advice::DontNeed] {
        for range in [0..bytes.len(), 5000..70_001, 99_999..100_000, 7..7, 90_000..usize::MAX] {
            w.advise(range, advice).unwrap();
            assert!(w.bytes() == bytes);
        }
        checkpoint.get("e").unwrap().advise(0..10, advice).unwrap();
        checkpoint.shards()[0].advise(0..usize::MAX, advice).unwrap();
    }
}

#[test]
fn an_open_file_and_bytes_of_somebody_else_open_as_the_path_does() {
    let scratch = Scratch::new();
    let path = scratch.path().join("a.safetensors");
    write_file(&path, &[("w", Dtype::F32, &[2], &[1, 2, 3, 4, 5, 6, 7, 8])], &[], Overwrite::Replace).unwrap();
    let limits = Limits::default();
    let bytes: &'static [u8] = std::fs::read(&path).unwrap().leak();
    let all = [
        Checkpoint::open(&path, &limits).unwrap(),
        Checkpoint::from_file("fd", std::fs::File::open(&path).unwrap(), &limits).unwrap(),
        Checkpoint::from_owner("memory", bytes, &limits).unwrap(),
    ];
    for checkpoint in &all {
        assert_eq!(checkpoint.get("w").unwrap().bytes(), [1, 2, 3, 4, 5, 6, 7, 8]);
        checkpoint.ensure_unchanged().unwrap();
    }
    // Nothing was copied.
    assert!(bytes.as_ptr_range().contains(&all[2].get("w").unwrap().bytes().as_ptr()));
    let folder = std::fs::File::open(scratch.path()).unwrap();
    let error = Checkpoint::from_file("fd", folder, &limits).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::NotAFile), "{error}");
}

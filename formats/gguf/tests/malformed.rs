//! One test for each way in which a file can be wrong: whole message, blame, place.

#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod made;

use std::fs;

use made::{Made, Scratch, key, string, tensor};
use niwaki_gguf::{Error, Gguf, parse};
use niwaki_tensors::{Blame, Limits};

fn refused(bytes: &[u8]) -> Error {
    let error = parse(bytes, &Limits::default()).unwrap_err();
    assert_eq!(error.blame(), Blame::Input, "{error}");
    error
}

/// What is said of the good file with one more key.
fn bad_key(key: Vec<u8>) -> String {
    refused(&Made::new().with_key(key).bytes()).to_string()
}

/// What is said of the good file with a third tensor.
fn bad_tensor(tensor: Vec<u8>) -> String {
    let error = refused(&Made::new().with_tensor(tensor).bytes());
    assert!(error.tensor().is_some(), "{error}");
    error.to_string()
}

#[test]
fn the_good_file_is_accepted() {
    let header = parse(&Made::new().bytes(), &Limits::default()).unwrap();
    assert_eq!((header.version, header.tensors.len(), header.alignment), (3, 2, 32));
    assert_eq!((header.tensors[0].dims.as_slice(), header.tensors[1].dims.as_slice()), (&[3, 2][..], &[2, 32][..]));
    assert_eq!(header.file_range(1).unwrap().len(), 68);
    assert_eq!(parse(&Made { version: 2, ..Made::new() }.bytes(), &Limits::default()).unwrap().version, 2);
    assert!(parse(&Made::empty().bytes(), &Limits::default()).unwrap().tensors.is_empty());
}

#[test]
fn shorter_than_the_beginning() {
    let error = refused(b"GGUF\x03\0\0");
    assert_eq!(error.to_string(), "has 7 bytes; a GGUF file begins with 24");
    assert_eq!(error.hint(), Some("the download or copy may be incomplete"));
    assert_eq!(refused(b"").to_string(), "has 0 bytes; a GGUF file begins with 24");
}

#[test]
fn other_magic() {
    let said = "begins with `PK\\x03\\x04`; a GGUF file begins with `GGUF`";
    assert_eq!(refused(b"PK\x03\x04 and so on, and so on").to_string(), said);
    assert_eq!(refused(b"PK\x03\x04").to_string(), said);
}

#[test]
fn other_versions() {
    for version in [0, 1, 4, 70_000] {
        let error = refused(&Made { version, ..Made::new() }.bytes());
        assert_eq!(error.to_string(), format!("GGUF version {version} is not read; 2 and 3 are"));
        assert_eq!(error.hint().is_some(), version == 1);
    }
    let error = refused(&Made { version: 3u32.swap_bytes(), ..Made::new() }.bytes());
    assert_eq!(error.to_string(), "GGUF version 3 for big-endian machines is not read");
}

#[test]
fn counts_that_the_file_has_no_room_for() {
    let bytes = Made::new().claiming(2, u64::MAX);
    let said = "header says 18446744073709551615 keys; the rest of the file has room for 25 at most";
    assert_eq!(refused(&bytes).to_string(), said);
    let said = "header says 900 tensors; the rest of the file has room for 13 at most";
    assert_eq!(refused(&Made::new().claiming(900, 2)).to_string(), said);
    let error = parse(&Made::new().claiming(u64::MAX, 2), &Limits::default()).unwrap_err();
    let said = "header says 18446744073709551615 tensors; the limit is 1000000 (`Limits::tensors`)";
    assert_eq!((error.to_string().as_str(), error.blame()), (said, Blame::Limit));
}

#[test]
fn limits() {
    let good = Made::new().bytes();
    let said = |limits| {
        let error = parse(&good, &limits).unwrap_err();
        assert_eq!(error.blame(), Blame::Limit);
        error.to_string()
    };
    let limits = Limits::default();
    let text = said(Limits { header_bytes: 60, ..limits });
    assert_eq!(text, "header has 69 bytes or more; the limit is 60 (`Limits::header_bytes`)");
    assert_eq!(said(Limits { tensors: 1, ..limits }), "header says 2 tensors; the limit is 1 (`Limits::tensors`)");
    let text = said(Limits { name_bytes: 0, ..limits });
    assert_eq!(text, "tensor `a`: its name has 1 bytes; the limit is 0 (`Limits::name_bytes`)");
    let text = said(Limits { dims: 1, ..limits });
    assert_eq!(text, "tensor `a`: 2 dimensions; the limit is 1 (`Limits::dims`)");
}

#[test]
fn texts_longer_than_the_file() {
    let huge = (u64::MAX - 1).to_le_bytes();
    let error = refused(&Made::empty().with_key([&huge[..], b"abcdefgh"].concat()).bytes());
    let said = "key 0: its name at byte 32 needs 18446744073709551614 bytes; the file has 32 more";
    assert_eq!(error.to_string(), said);
    let error = refused(&Made::empty().with_key(key("k", 8, 99u64.to_le_bytes())).bytes());
    assert_eq!(error.to_string(), "key `k`: its text at byte 45 needs 99 bytes; the file has 19 more");
    assert_eq!(error.key(), Some("k"));
    let error = refused(&Made::empty().with_tensor([&huge[..], &[0; 24]].concat()).bytes());
    assert!(error.to_string().starts_with("tensor 0: its name at byte 32 needs"), "{error}");
}

#[test]
fn cut_anywhere() {
    let good = Made::new().bytes();
    let data = parse(&good, &Limits::default()).unwrap().data_start;
    for len in 0..data + 100 {
        refused(&good[..len]);
    }
    // What is left out from here on is padding.
    assert!(parse(&good[..data + 100], &Limits::default()).is_ok());
    let error = refused(&good[..data + 99]);
    assert_eq!(error.to_string(), "tensor `b`: ends at byte 100 of the data; the file has 99");
}

#[test]
fn names_that_are_not_utf8() {
    let bytes = Made::empty().with_key([&string(b"a\xff")[..], &[0; 16]].concat()).bytes();
    assert_eq!(refused(&bytes).to_string(), "key 0: its name is not UTF-8 at byte 33");
    let bytes = Made::empty().with_key(key("k", 8, string(b"ab\xc3"))).bytes();
    assert_eq!(refused(&bytes).to_string(), "key `k`: its text is not UTF-8 at byte 47");
    let bytes = Made::empty().with_tensor([&string(b"\x80")[..], &[0; 16]].concat()).bytes();
    assert_eq!(refused(&bytes).to_string(), "tensor 0: its name is not UTF-8 at byte 32");
}

#[test]
fn names_that_are_empty_or_too_long() {
    assert_eq!(bad_key(key("", 0, [0])), "key 2: its name is empty");
    let error = refused(&Made::new().with_tensor(tensor("", &[1], 0, 0)).bytes());
    assert_eq!(error.to_string(), "tensor 2: its name is empty");
    let error = refused(&Made::new().with_tensor(tensor(&"n".repeat(65), &[1], 0, 0)).bytes());
    assert_eq!(error.to_string(), "tensor 2: its name has 65 bytes; it may have 64");
    assert_eq!(bad_key(key(&"k".repeat(65_536), 0, [0])), "key 2: its name has 65536 bytes; it may have 65535");
}

#[test]
fn values_of_unknown_type() {
    assert_eq!(bad_key(key("k", 13, [])), "key `k`: value type 13 at byte 122 is unknown; 0 to 12 are known");
    let array = [&99u32.to_le_bytes()[..], &[0; 8]].concat();
    assert_eq!(bad_key(key("k", 9, array)), "key `k`: value type 99 at byte 126 is unknown; 0 to 12 are known");
}

#[test]
fn bools_that_are_neither() {
    assert_eq!(bad_key(key("k", 7, [2])), "key `k`: the bool at byte 126 is 2; 0 or 1 is expected");
    let array = [&7u32.to_le_bytes()[..], &2u64.to_le_bytes(), &[1, 255]].concat();
    assert_eq!(bad_key(key("k", 9, array)), "key `k`: the bool at byte 139 is 255; 0 or 1 is expected");
}

#[test]
fn arrays_longer_than_the_file() {
    let array = |element: u32, count: u64| [&element.to_le_bytes()[..], &count.to_le_bytes()].concat();
    let cut = |element, count| refused(&Made::empty().with_key(key("k", 9, array(element, count))).bytes()).to_string();
    assert_eq!(cut(10, 5), "key `k`: its array at byte 49 needs 40 bytes; the file has 15 more");
    assert_eq!(cut(8, 2), "key `k`: its array at byte 49 needs 16 bytes; the file has 15 more");
    let said = "key `k`: its array at byte 49 needs 18446744073709551615 bytes; the file has 15 more";
    assert_eq!(cut(0, u64::MAX), said);
    assert_eq!(cut(12, 1 << 62), said);
    assert_eq!(cut(9, u64::MAX / 2), said);
}

#[test]
fn arrays_nested_deeply() {
    let level = [&9u32.to_le_bytes()[..], &1u64.to_le_bytes()].concat();
    let last = [&0u32.to_le_bytes()[..], &0u64.to_le_bytes()].concat();
    let nested = |depth: usize| key("k", 9, [level.repeat(depth - 1), last.clone()].concat());
    assert!(parse(&Made::new().with_key(nested(4)).bytes(), &Limits::default()).is_ok());
    for depth in [5, 100_000] {
        assert_eq!(bad_key(nested(depth)), "key `k`: arrays in arrays are read to a depth of 4; these are deeper");
    }
}

#[test]
fn what_stands_twice() {
    let error = refused(&Made::new().with_key(key("general.architecture", 0, [0])).bytes());
    assert_eq!(error.to_string(), "the key `general.architecture` stands twice");
    assert_eq!(error.key(), Some("general.architecture"));
    assert_eq!(bad_tensor(tensor("a", &[0], 0, 0)), "two tensors are called `a`");
}

#[test]
fn alignments() {
    let said = |n: u32| bad_key(key("general.alignment", 4, n.to_le_bytes()));
    for n in [0, 24, 1 << 21, u32::MAX] {
        assert_eq!(said(n), format!("key `general.alignment`: {n} is no power of two up to 1048576"));
    }
    let said = "key `general.alignment`: is of type u64; u32 is expected";
    assert_eq!(bad_key(key("general.alignment", 10, 32u64.to_le_bytes())), said);
    let mut made = Made::new().with_key(key("general.alignment", 4, 64u32.to_le_bytes()));
    made.alignment = 64;
    let error = refused(&made.bytes());
    assert_eq!(error.to_string(), "tensor `b`: begins at byte 32 of the data; a multiple of 64 is expected");
}

#[test]
fn dimensions() {
    assert_eq!(bad_tensor(tensor("c", &[1; 5], 0, 0)), "tensor `c`: 5 dimensions; the format ends at 4");
    let mut many = string("c");
    many.extend(u32::MAX.to_le_bytes());
    assert_eq!(bad_tensor([many, vec![0; 40]].concat()), "tensor `c`: 4294967295 dimensions; the format ends at 4");
    let said = "tensor `c`: F32 4294967296x4294967296 does not fit into the address space";
    assert_eq!(bad_tensor(tensor("c", &[1 << 32, 1 << 32], 0, 0)), said);
    let said = "tensor `c`: F32 0x4294967296x4294967296 does not fit into the address space";
    assert_eq!(bad_tensor(tensor("c", &[1 << 32, 1 << 32, 0], 0, 0)), said);
    let said = "tensor `c`: F32 4611686018427387904 does not fit into the address space";
    assert_eq!(bad_tensor(tensor("c", &[1 << 62], 0, 0)), said);
    let said = "tensor `c`: 4611686018427387904x4 does not fit into the address space";
    assert_eq!(bad_tensor(tensor("c", &[4, 1 << 62], 77, 0)), said);
}

#[test]
fn rows_that_are_no_whole_blocks() {
    let said = "tensor `c`: rows of 48 elements are no whole blocks; Q8_0 has blocks of 32";
    assert_eq!(bad_tensor(tensor("c", &[48, 2], 8, 0)), said);
    let said = "tensor `c`: rows of 1 elements are no whole blocks; Q4_K has blocks of 256";
    assert_eq!(bad_tensor(tensor("c", &[], 12, 0)), said);
}

#[test]
fn places() {
    let said = "tensor `c`: begins at byte 7 of the data; a multiple of 32 is expected";
    assert_eq!(bad_tensor(tensor("c", &[1], 0, 7)), said);
    assert_eq!(bad_tensor(tensor("c", &[1], 0, 128)), "tensor `c`: ends at byte 132 of the data; the file has 128");
    let said = "tensor `c`: ends at byte 18446744073709551588 of the data; the file has 128";
    assert_eq!(bad_tensor(tensor("c", &[1], 0, u64::MAX - 31)), said);
    let said = "tensor `c`: ends at byte 160 of the data; the file has 128";
    assert_eq!(bad_tensor(tensor("c", &[1], 77, 160)), said);
    let said = "tensor `c`: begins at byte 64 of the data, inside `b`, which ends at 100";
    assert_eq!(bad_tensor(tensor("c", &[1], 0, 64)), said);
    let said = "tensor `a`: begins at byte 0 of the data, inside `c`, which ends at 4";
    assert_eq!(bad_tensor(tensor("c", &[1], 0, 0)), said);
    // Tensors without elements take no place.
    assert!(parse(&Made::new().with_tensor(tensor("c", &[32, 0], 8, 64)).bytes(), &Limits::default()).is_ok());
}

#[test]
fn unknown_types_matter_when_their_data_does() {
    let folder = Scratch::new();
    let path = folder.join("m.gguf");
    for (id, said) in [(77, "type 77 is unknown"), (4, "type 4 is one that ggml has retired")] {
        let mut made = Made::new().with_tensor(tensor("c", &[5, 2], id, 128));
        made.data.extend([0; 32]);
        fs::write(&path, made.bytes()).unwrap();
        let gguf = Gguf::open(&path, &Limits::default()).unwrap();
        assert_eq!(gguf.get("b").unwrap().bytes().unwrap().len(), 68);
        let c = gguf.get("c").unwrap();
        assert_eq!((c.dims(), c.type_id()), (&[2, 5][..], id));
        let error = c.bytes().unwrap_err();
        assert_eq!(error.to_string(), format!("`{}`: tensor `c`: {said}", path.display()));
        assert_eq!((error.tensor(), error.blame()), (Some("c"), Blame::Input));
    }
}

#[test]
fn files_that_cannot_be_opened() {
    let folder = Scratch::new();
    let error = Gguf::open(folder.path(), &Limits::default()).unwrap_err();
    let said = format!("`{}`: is a folder; a GGUF file is expected", folder.path().display());
    assert_eq!((error.to_string(), error.blame()), (said, Blame::Caller));
    let path = folder.join("no");
    let error = Gguf::open(&path, &Limits::default()).unwrap_err();
    assert_eq!((error.to_string(), error.path()), (format!("`{}`: does not exist", path.display()), Some(&*path)));
    let path = folder.join("m.gguf");
    fs::write(&path, "").unwrap();
    let error = Gguf::open(&path, &Limits::default()).unwrap_err();
    assert_eq!(error.to_string(), format!("`{}`: has 0 bytes; a GGUF file begins with 24", path.display()));
}

#[test]
fn control_characters_stay_on_the_line() {
    let text = bad_tensor(tensor("c\n\u{1b}[31m", &[1; 5], 0, 0));
    assert_eq!(text, "tensor `c\\n\\u{1b}[31m`: 5 dimensions; the format ends at 4");
}

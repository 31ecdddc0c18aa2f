//! One test for each way in which a header can be wrong: whole message, blame, tensor.

#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod scratch;

use niwaki_tensors::{Blame, Checkpoint, Error, ErrorKind, Limit, Limits, parse_header, parse_header_alone};
use scratch::{Scratch, file};

fn refused(bytes: &[u8]) -> Error {
    let error = parse_header(bytes, &Limits::default()).unwrap_err();
    assert_eq!(error.blame(), Blame::Input, "{error}");
    error
}

fn header(text: &str, data: usize) -> Error {
    refused(&file(text, data))
}

/// A header of one tensor `w`, with this as its entry.
fn entry(text: &str, data: usize) -> Error {
    let error = header(&format!("{{\"w\":{text}}}"), data);
    assert_eq!(error.tensor(), Some("w"), "{error}");
    error
}

#[test]
fn shorter_than_the_length() {
    assert_eq!(refused(b"1234567").to_string(), "has 7 bytes; a safetensors file begins with 8 bytes of header length");
    assert_eq!(refused(b"").to_string(), "has 0 bytes; a safetensors file begins with 8 bytes of header length");
}

#[test]
fn header_longer_than_the_file() {
    let error = refused(&file("{}", 0)[..9]);
    assert_eq!(error.to_string(), "header says 2 bytes, the file has 1 after its length");
    assert_eq!(error.hint(), Some("the download or copy may be incomplete"));
}

#[test]
fn huge_header() {
    let mut bytes = file("{}", 0);
    bytes[..8].copy_from_slice(&(1u64 << 31).to_le_bytes());
    let error = parse_header(&bytes, &Limits::default()).unwrap_err();
    let said = "header says 2147483648 bytes; the limit is 100000000 (`Limits::header_bytes`)";
    assert_eq!((error.to_string().as_str(), error.blame()), (said, Blame::Limit));
    let limits = Limits { header_bytes: u64::MAX, ..Limits::default() };
    let error = parse_header(&bytes, &limits).unwrap_err();
    assert_eq!(error.to_string(), "header says 2147483648 bytes; the format ends at 100000000");
    bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    let error = parse_header(&bytes, &limits).unwrap_err();
    assert_eq!(error.to_string(), "header says 18446744073709551615 bytes; the format ends at 100000000");
}

#[test]
fn header_that_is_not_utf8() {
    assert_eq!(refused(&file(b"{\"\xff\":1}", 0)).to_string(), "header is not UTF-8 at its byte 2");
}

#[test]
fn header_that_is_not_json() {
    let error = header("{\"w\":,}", 0);
    assert_eq!(error.to_string(), "header is not a JSON object of tensors at its line 1, column 6");
    assert!(std::error::Error::source(&error).is_some());
    assert!(header("{} x", 0).to_string().starts_with("header is not a JSON object"));
    assert!(header("", 0).to_string().starts_with("header is not a JSON object"));
}

#[test]
fn header_that_is_no_object() {
    assert_eq!(header("[]", 0).to_string(), "header is not a JSON object of tensors at its line 1, column 0");
}

#[test]
fn header_nested_deeply() {
    let deep = format!("{{\"w\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(header(&deep, 0).to_string(), "the entry of tensor `w` is not an object");
    let deep = format!("{{\"w\":{{\"dtype\":{}{}}}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(header(&deep, 0).to_string(), "the entry of tensor `w` has no `shape`");
}

#[test]
fn duplicate_tensors() {
    // The crate takes the second and sees nothing wrong.
    let one = r#""w":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}"#;
    let bytes = file(format!("{{{one},{one}}}"), 2);
    assert!(safetensors::SafeTensors::deserialize(&bytes).is_ok());
    let error = refused(&bytes);
    assert_eq!((error.to_string().as_str(), error.tensor()), ("two tensors are called `w`", Some("w")));
}

#[test]
fn duplicate_tensors_spelled_differently() {
    let error = header(
        r#"{"w":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"\u0077":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#,
        0,
    );
    assert_eq!(error.to_string(), "two tensors are called `w`");
}

#[test]
fn duplicate_keys_in_an_entry() {
    let error = entry(r#"{"dtype":"U8","dtype":"U8","shape":[2],"data_offsets":[0,2]}"#, 2);
    assert_eq!(error.to_string(), "the entry of tensor `w` has `dtype` twice");
    // Also of keys that mean nothing, which the crate skips.
    let error = entry(r#"{"x":1,"x":2,"dtype":"U8","shape":[2],"data_offsets":[0,2]}"#, 2);
    assert_eq!(error.to_string(), "the entry of tensor `w` has `x` twice");
}

#[test]
fn duplicate_metadata() {
    let error = header(r#"{"__metadata__":{"a":"1","a":"2"}}"#, 0);
    assert_eq!(error.to_string(), "the key `a` stands twice");
    let error = header(r#"{"__metadata__":{},"__metadata__":{}}"#, 0);
    assert_eq!(error.to_string(), "the key `__metadata__` stands twice");
}

#[test]
fn metadata_that_is_no_text() {
    for metadata in [r#"{"a":1}"#, "[]", r#""x""#] {
        let error = header(&format!("{{\"__metadata__\":{metadata}}}"), 0);
        assert_eq!(error.to_string(), "`__metadata__` is not an object of texts");
    }
}

#[test]
fn entry_that_is_no_object() {
    assert_eq!(entry("17", 0).to_string(), "the entry of tensor `w` is not an object");
}

#[test]
fn entry_without_a_key() {
    let error = entry(r#"{"shape":[2],"data_offsets":[0,2]}"#, 2);
    assert_eq!(error.to_string(), "the entry of tensor `w` has no `dtype`");
    let error = entry(r#"{"dtype":"U8","data_offsets":[0,2]}"#, 2);
    assert_eq!(error.to_string(), "the entry of tensor `w` has no `shape`");
    let error = entry(r#"{"dtype":"U8","shape":[2]}"#, 2);
    assert_eq!(error.to_string(), "the entry of tensor `w` has no `data_offsets`");
}

#[test]
fn unknown_type() {
    let error = entry(r#"{"dtype":"I4","shape":[2],"data_offsets":[0,1]}"#, 1);
    assert_eq!(error.to_string(), "tensor `w` has type `I4`, which safetensors does not know");
    let error = entry(r#"{"dtype":7,"shape":[2],"data_offsets":[0,1]}"#, 1);
    assert_eq!(error.to_string(), "the `dtype` of tensor `w` is not a text");
}

#[test]
fn shape_of_other_than_whole_numbers() {
    for shape in ["[-1]", "[1.5]", "2", "[\"2\"]", "[18446744073709551616]", "null"] {
        let error = entry(&format!(r#"{{"dtype":"U8","shape":{shape},"data_offsets":[0,2]}}"#), 2);
        assert_eq!(error.to_string(), "the `shape` of tensor `w` is not a list of whole numbers from 0", "{shape}");
    }
}

#[test]
fn offsets_that_are_not_two() {
    for offsets in ["[0]", "[0,1,2]", "[0,-1]", "[0,2.0]", "{}"] {
        let error = entry(&format!(r#"{{"dtype":"U8","shape":[2],"data_offsets":{offsets}}}"#), 2);
        let said = "the `data_offsets` of tensor `w` are not two whole numbers from 0";
        assert_eq!(error.to_string(), said, "{offsets}");
    }
}

#[test]
fn offsets_in_reverse() {
    let error = entry(r#"{"dtype":"U8","shape":[2],"data_offsets":[2,0]}"#, 2);
    assert_eq!(error.to_string(), "tensor `w` begins at byte 2 and ends before it, at 0");
}

#[test]
fn hole() {
    let error = entry(r#"{"dtype":"U8","shape":[2],"data_offsets":[4,6]}"#, 6);
    assert_eq!(error.to_string(), "bytes 0 to 4, before tensor `w`, belong to none");
}

#[test]
fn overlap() {
    let error = header(
        r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}"#,
        6,
    );
    let said = "tensor `b` begins at byte 2, inside `a`, which ends at 4";
    assert_eq!((error.to_string().as_str(), error.tensor()), (said, Some("b")));
}

#[test]
fn wrong_size() {
    let error = entry(r#"{"dtype":"F32","shape":[2],"data_offsets":[0,4]}"#, 4);
    assert_eq!(error.to_string(), "tensor `w` needs 8 bytes (F32, 2), its offsets span 4");
    let error = entry(r#"{"dtype":"BF16","shape":[256,64],"data_offsets":[0,4]}"#, 4);
    assert_eq!(error.to_string(), "tensor `w` needs 32768 bytes (BF16, 256x64), its offsets span 4");
    let error = entry(r#"{"dtype":"F64","shape":[],"data_offsets":[0,4]}"#, 4);
    assert_eq!(error.to_string(), "tensor `w` needs 8 bytes (F64, scalar), its offsets span 4");
}

#[test]
fn overflowing_shape() {
    let error = entry(r#"{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}"#, 4);
    let said = "tensor `w` (F32, 4294967296x4294967296) does not fit into the address space";
    assert_eq!(error.to_string(), said);
    let error = entry(r#"{"dtype":"F64","shape":[9223372036854775807],"data_offsets":[0,4]}"#, 4);
    assert_eq!(error.to_string(), "tensor `w` (F64, 9223372036854775807) does not fit into the address space");
}

#[test]
fn offsets_at_the_end_of_the_numbers() {
    // 2^61 - 1 bytes is the most whose bits fit; the crate adds such ends up unchecked.
    let error = entry(r#"{"dtype":"U8","shape":[2305843009213693951],"data_offsets":[0,2305843009213693951]}"#, 4);
    assert_eq!(error.to_string(), "tensor `w` ends at byte 2305843009213693951 of the data, the file ends at 4");
    let max = u64::MAX;
    let error = entry(&format!(r#"{{"dtype":"U8","shape":[0],"data_offsets":[{max},{max}]}}"#), 4);
    assert_eq!(error.to_string(), "bytes 0 to 18446744073709551615, before tensor `w`, belong to none");
}

#[test]
fn part_of_a_byte() {
    let error = entry(r#"{"dtype":"F4","shape":[3],"data_offsets":[0,2]}"#, 2);
    assert_eq!(error.to_string(), "tensor `w` needs 12 bits (F4, 3), which are no whole bytes");
}

#[test]
fn truncated() {
    let error = entry(r#"{"dtype":"F32","shape":[4],"data_offsets":[0,16]}"#, 10);
    assert_eq!(error.to_string(), "tensor `w` ends at byte 16 of the data, the file ends at 10");
    assert_eq!(error.hint(), Some("the download or copy may be incomplete"));
}

#[test]
fn trailing_bytes() {
    let error = header(r#"{"w":{"dtype":"U8","shape":[4096],"data_offsets":[0,4096]}}"#, 8192);
    assert_eq!(error.to_string(), "tensors end at byte 4096 of 8192; the last 4096 belong to none");
    assert_eq!(header("{}", 3).to_string(), "tensors end at byte 0 of 3; the last 3 belong to none");
}

#[test]
fn every_limit_names_itself_and_its_value() {
    let bytes = file(
        r#"{"ab":{"dtype":"U8","shape":[1,1,1],"data_offsets":[0,1]},"c":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#,
        2,
    );
    assert!(parse_header(&bytes, &Limits::default()).is_ok());
    let limited = |limits: Limits| parse_header(&bytes, &limits).unwrap_err();
    let none = Limits::default();
    let cases = [
        (Limits { tensors: 1, ..none }, Limit::Tensors, "more than 1 tensors; the limit is 1 (`Limits::tensors`)"),
        (
            Limits { name_bytes: 1, ..none },
            Limit::NameBytes,
            "a tensor's name has 2 bytes; the limit is 1 (`Limits::name_bytes`)",
        ),
        (Limits { dims: 2, ..none }, Limit::Dims, "tensor `ab` has 3 dimensions; the limit is 2 (`Limits::dims`)"),
        (
            Limits { header_bytes: 9, ..none },
            Limit::HeaderBytes,
            "header says 110 bytes; the limit is 9 (`Limits::header_bytes`)",
        ),
    ];
    for (limits, limit, said) in cases {
        let error = limited(limits);
        assert_eq!((error.to_string().as_str(), error.blame()), (said, Blame::Limit));
        assert!(matches!(error.kind(), ErrorKind::Limit { limit: l, .. } if *l == limit));
    }
    // The value itself is allowed.
    let exact = Limits { tensors: 2, name_bytes: 2, dims: 3, header_bytes: 110, ..none };
    assert!(parse_header(&bytes, &exact).is_ok());
}

#[test]
fn dimensions_are_counted_exactly() {
    let limits = Limits { dims: 3, ..Limits::default() };
    for (shape, dims) in [("[ 1 , 1,1 ]", 3), ("[1,1,1,1]", 4), ("[ ]", 0), ("[1,1,1,1,1,1,1,1,1]", 9)] {
        for entry in
            [format!(r#"{{"dtype":"U8","shape":{shape},"data_offsets":[0,1]}}"#), format!(r#"["U8",{shape},[0,1]]"#)]
        {
            let parsed = parse_header(&file(format!("{{\"w\":{entry}}}"), 1), &limits);
            let said = format!("tensor `w` has {dims} dimensions; the limit is 3 (`Limits::dims`)");
            match parsed {
                Ok(header) => assert_eq!(header.entries[0].shape.len(), dims),
                Err(error) => assert!(dims > 3 && error.to_string() == said, "{error}"),
            }
        }
    }
}

#[test]
fn opening_names_the_file() {
    let folder = Scratch::new();
    let path = folder.write("a.safetensors", file("{}", 1));
    let error = Checkpoint::open(&path, &Limits::default()).unwrap_err();
    let said = format!("`{}`: tensors end at byte 0 of 1; the last 1 belong to none", path.display());
    assert_eq!((error.to_string(), error.path()), (said, Some(&*path)));
}

#[test]
fn what_is_not_there_or_no_file() {
    let folder = Scratch::new();
    let path = folder.join("none.safetensors");
    let error = Checkpoint::open(&path, &Limits::default()).unwrap_err();
    assert_eq!(error.to_string(), format!("`{}`: does not exist", path.display()));
    assert_eq!(error.blame(), Blame::Caller);
    if cfg!(unix) {
        let error = Checkpoint::open("/dev/null", &Limits::default()).unwrap_err();
        assert_eq!(error.to_string(), "`/dev/null`: is neither a file nor a folder");
    }
    let empty = folder.write("empty.safetensors", b"");
    let error = Checkpoint::open(&empty, &Limits::default()).unwrap_err();
    assert!(error.to_string().ends_with("has 0 bytes; a safetensors file begins with 8 bytes of header length"));
}

#[test]
fn a_header_is_read_without_its_data() {
    let alone = |bytes: &[u8]| parse_header_alone(bytes, &Limits::default());
    let file = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let text =
        r#"{"b":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},"e":{"dtype":"U8","shape":[0],"data_offsets":[3,3]}}"#;
    let front = file(text);
    let whole = [&front[..], &[0; 3]].concat();
    assert_eq!(alone(&front).unwrap(), parse_header(&whole, &Limits::default()).unwrap());
    for wrong in [&whole[..], &front[..front.len() - 1], &front[..7]] {
        assert!(matches!(
            alone(wrong).unwrap_err().kind(),
            ErrorKind::HeaderBeyondFile { .. } | ErrorKind::Short { .. }
        ));
    }
    let holed = alone(&file(r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}"#)).unwrap_err();
    assert!(matches!(holed.kind(), ErrorKind::Hole { from: 0, to: 1 }), "{holed}");
    let short = file(r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,18446744073709551615]}}"#);
    assert!(matches!(alone(&short).unwrap_err().kind(), ErrorKind::Size { .. }));
}

//! Folders and indexes: what is found, what is refused, in whole messages.

#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod scratch;

use niwaki_tensors::{Blame, Checkpoint, Error, INDEX_NAME, Limits, Overwrite, Source, parse_index, write_index};
use scratch::{Scratch, u8s};

fn open(folder: &Scratch) -> Result<Checkpoint, Error> {
    Checkpoint::open(folder.path(), &Limits::default())
}

fn index(pairs: &[(&str, &str)]) -> String {
    let pairs: Vec<String> = pairs.iter().map(|(tensor, shard)| format!("\"{tensor}\":\"{shard}\"")).collect();
    format!("{{\"metadata\":{{\"total_size\":1}},\"weight_map\":{{{}}}}}", pairs.join(","))
}

/// Two shards, `a` and `b` in the one, `c` in the other, with this index.
fn sharded(pairs: &[(&str, &str)]) -> Scratch {
    let folder = Scratch::new();
    folder.write("1.safetensors", u8s(&[("b", 3), ("a", 2)]));
    folder.write("2.safetensors", u8s(&[("c", 4)]));
    folder.write(INDEX_NAME, index(pairs));
    folder
}

/// The sentence without the path of the index in front of it.
fn refused(folder: &Scratch) -> String {
    let error = open(folder).unwrap_err();
    assert_eq!(error.blame(), Blame::Input);
    let prefix = format!("`{}`: ", folder.join(INDEX_NAME).display());
    let text = error.to_string();
    text.strip_prefix(&prefix).unwrap_or_else(|| panic!("{text} does not begin with {prefix}")).to_owned()
}

const GOOD: [(&str, &str); 3] = [("a", "1.safetensors"), ("b", "1.safetensors"), ("c", "2.safetensors")];

#[test]
fn an_index_opens_all_its_files_in_order() {
    let folder = sharded(&GOOD);
    folder.write("config.json", "{}");
    folder.write("stray.safetensors", u8s(&[("x", 1)]));
    for path in [folder.path().to_owned(), folder.join(INDEX_NAME)] {
        let checkpoint = Checkpoint::open(&path, &Limits::default()).unwrap();
        let tensors: Vec<_> = checkpoint.tensors().map(|t| (t.name().to_owned(), t.shard(), t.bytes().len())).collect();
        assert_eq!(tensors, [("b".to_owned(), 0, 3), ("a".to_owned(), 0, 2), ("c".to_owned(), 1, 4)]);
        assert_eq!(checkpoint.get("c").unwrap().bytes(), [0, 1, 2, 3]);
        assert_eq!(checkpoint.get("b").unwrap().file_range().end, checkpoint.get("a").unwrap().file_range().start);
        assert!(checkpoint.get("x").is_none());
        assert_eq!((checkpoint.len(), checkpoint.data_bytes()), (3, 9));
        assert_eq!(checkpoint.folder_files().unwrap(), [folder.join("config.json")]);
        let source = Source::Folder { folder: folder.path().to_owned(), index: Some(folder.join(INDEX_NAME)) };
        assert_eq!((checkpoint.source(), checkpoint.path()), (&source, &*path));
    }
}

#[test]
fn a_folder_with_one_file_needs_no_index() {
    let folder = Scratch::new();
    folder.write("weights.safetensors", u8s(&[("x", 1)]));
    folder.write("tokenizer.json", "{}");
    let checkpoint = open(&folder).unwrap();
    assert_eq!(checkpoint.source(), &Source::Folder { folder: folder.path().to_owned(), index: None });
    assert_eq!(checkpoint.shards()[0].path(), folder.join("weights.safetensors"));
    assert_eq!(checkpoint.folder_files().unwrap(), [folder.join("tokenizer.json")]);
    // The same file by its own name has no folder to carry along.
    let file = Checkpoint::open(folder.join("weights.safetensors"), &Limits::default()).unwrap();
    assert_eq!(file.source(), &Source::File(folder.join("weights.safetensors")));
    assert_eq!(file.folder_files().unwrap(), [] as [std::path::PathBuf; 0]);
}

#[test]
fn an_index_of_another_name_is_found() {
    let folder = Scratch::new();
    folder.write("1.safetensors", u8s(&[("x", 1)]));
    folder.write("diffusion.safetensors.index.json", index(&[("x", "1.safetensors")]));
    assert_eq!(open(&folder).unwrap().len(), 1);
    folder.write("other.safetensors.index.json", "{}");
    let said = "holds 2 candidates and no index that joins them: \
                `diffusion.safetensors.index.json`, `other.safetensors.index.json`";
    assert_eq!(open(&folder).unwrap_err().to_string(), format!("`{}`: {said}", folder.path().display()));
}

#[test]
fn a_folder_without_a_checkpoint() {
    let folder = Scratch::new();
    folder.write("pytorch_model.bin", "");
    let said = "holds no checkpoint; looked for `model.safetensors.index.json`, another `*.safetensors.index.json`, \
                and one `*.safetensors`";
    let error = open(&folder).unwrap_err();
    assert_eq!(error.to_string(), format!("`{}`: {said}", folder.path().display()));
    assert_eq!(error.blame(), Blame::Caller);
}

#[test]
fn several_files_without_an_index() {
    let folder = Scratch::new();
    folder.write("b.safetensors", u8s(&[("x", 1)]));
    folder.write("a.safetensors", u8s(&[("y", 1)]));
    let error = open(&folder).unwrap_err();
    let said = "holds 2 candidates and no index that joins them: `a.safetensors`, `b.safetensors`";
    assert_eq!(error.to_string(), format!("`{}`: {said}", folder.path().display()));
    assert_eq!(error.hint(), Some("name one of them"));
}

#[test]
fn tensor_in_the_index_and_in_no_file() {
    let folder = sharded(&[GOOD[0], GOOD[1], GOOD[2], ("d", "2.safetensors")]);
    assert_eq!(refused(&folder), "the index places tensor `d` in `2.safetensors`, which does not have it");
}

#[test]
fn tensor_in_another_file() {
    let folder = sharded(&[GOOD[0], ("b", "2.safetensors"), GOOD[2]]);
    assert_eq!(refused(&folder), "the index places tensor `b` in `2.safetensors`, but `1.safetensors` has it");
}

#[test]
fn tensor_that_the_index_does_not_name() {
    assert_eq!(refused(&sharded(&[GOOD[0], GOOD[2]])), "the index does not name tensor `b` of `1.safetensors`");
}

#[test]
fn tensor_in_two_files() {
    let folder = sharded(&GOOD);
    folder.write("2.safetensors", u8s(&[("c", 4), ("a", 2)]));
    assert_eq!(refused(&folder), "tensor `a` is in `1.safetensors` and in `2.safetensors`");
}

#[test]
fn pads_may_stand_in_every_file() {
    let folder = sharded(&GOOD);
    folder.write("1.safetensors", u8s(&[("b", 3), ("__niwaki_pad.0", 61), ("a", 2)]));
    folder.write("2.safetensors", u8s(&[("c", 4), ("__niwaki_pad.0", 60)]));
    assert_eq!(open(&folder).unwrap().len(), 5);
    // Nor does it matter whether the index names one.
    folder.write(INDEX_NAME, index(&[GOOD[0], GOOD[1], GOOD[2], ("__niwaki_pad.0", "2.safetensors")]));
    assert_eq!(open(&folder).unwrap().len(), 5);
}

#[test]
fn file_of_the_index_that_is_not_there() {
    let folder = sharded(&[GOOD[0], GOOD[1], ("c", "3.safetensors")]);
    let error = open(&folder).unwrap_err();
    assert_eq!(error.to_string(), format!("`{}`: does not exist", folder.join("3.safetensors").display()));
}

#[test]
fn file_outside_the_folder() {
    for shard in ["../1.safetensors", "/etc/passwd", "", "a/../../b", ".."] {
        let folder = sharded(&[("a", shard)]);
        let said = format!("the index places tensor `a` in `{shard}`, which is no file name inside the folder");
        assert_eq!(refused(&folder), said);
    }
}

#[test]
fn index_that_is_wrong() {
    let cases = [
        ("{\"weight_map\":{\"a\":\n,}}", "is not a checkpoint index at line 2, column 1"),
        ("{\n\"weight_map\":[]}", "is not a checkpoint index at line 2, column 0"),
        ("[]", "is not a checkpoint index at line 1, column 0"),
        ("", "is not a checkpoint index at line 1, column 0"),
        ("{\"metadata\":{}}", "the index has no `weight_map`"),
        ("{\"weight_map\":{},\"weight_map\":{}}", "the key `weight_map` stands twice"),
        ("{\"weight_map\":{\"a\":\"1\",\"a\":\"1\"}}", "two tensors are called `a`"),
        ("{\"weight_map\":{\"a\":7}}", "the index places tensor `a` in `7`, which is no file name inside the folder"),
    ];
    for (text, said) in cases {
        let folder = sharded(&GOOD);
        folder.write(INDEX_NAME, text);
        assert_eq!(refused(&folder), said, "{text}");
    }
    let folder = sharded(&GOOD);
    folder.write(INDEX_NAME, b"{\n\"\xff");
    assert_eq!(refused(&folder), "is not a checkpoint index at line 2, column 2");
}

#[test]
fn limits_of_an_index() {
    let text = index(&GOOD);
    let refused = |limits| parse_index(text.as_bytes(), &limits).unwrap_err().to_string();
    let none = Limits::default();
    let bytes = text.len();
    assert_eq!(
        refused(Limits { index_bytes: 9, ..none }),
        format!("{bytes} bytes of JSON; the limit is 9 (`Limits::index_bytes`)")
    );
    assert_eq!(refused(Limits { tensors: 2, ..none }), "more than 2 tensors; the limit is 2 (`Limits::tensors`)");
    assert_eq!(refused(Limits { shards: 1, ..none }), "index names 2 files; the limit is 1 (`Limits::shards`)");
    let exact = Limits { index_bytes: bytes as u64, tensors: 3, shards: 2, ..none };
    assert_eq!(parse_index(text.as_bytes(), &exact).unwrap().shards(), ["1.safetensors", "2.safetensors"]);
    // The file is measured before it is read.
    let folder = sharded(&GOOD);
    let error = Checkpoint::open(folder.path(), &Limits { index_bytes: 9, ..none }).unwrap_err();
    assert!(error.to_string().ends_with("; the limit is 9 (`Limits::index_bytes`)"), "{error}");
}

#[test]
fn a_written_index_opens_and_is_sorted() {
    let folder = sharded(&[]);
    let tensors = [("c", "2.safetensors", 4), ("b", "1.safetensors", 3), ("a", "1.safetensors", 2)];
    let error = write_index(folder.path(), tensors, Overwrite::Refuse).unwrap_err();
    assert_eq!(error.to_string(), format!("`{}`: exists already", folder.join(INDEX_NAME).display()));
    let path = write_index(folder.path(), tensors, Overwrite::Replace).unwrap();
    let text = "{\n  \"metadata\": {\n    \"total_size\": 9\n  },\n  \"weight_map\": {\n    \"a\": \"1.safetensors\",\n    \
                \"b\": \"1.safetensors\",\n    \"c\": \"2.safetensors\"\n  }\n}\n";
    assert_eq!(std::fs::read_to_string(path).unwrap(), text);
    assert_eq!(open(&folder).unwrap().len(), 3);
    assert_eq!(folder.names(), ["1.safetensors", "2.safetensors", INDEX_NAME]);
}

#[test]
fn a_wrong_index_is_not_written() {
    let folder = Scratch::new();
    let error = write_index(folder.path(), [("a", "1", 1), ("a", "2", 1)], Overwrite::Refuse).unwrap_err();
    assert!(error.to_string().ends_with("tensor `a` is in `1` and in `2`"), "{error}");
    let error = write_index(folder.path(), [("a", "../1", 1)], Overwrite::Refuse).unwrap_err();
    assert!(error.to_string().ends_with("which is no file name inside the folder"), "{error}");
    assert!(folder.names().is_empty());
}

#[cfg(unix)]
#[test]
fn paths_need_not_be_utf8() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let scratch = Scratch::new();
    let folder = scratch.path().join(OsStr::from_bytes(b"f\xff"));
    std::fs::create_dir(&folder).unwrap();
    let file = folder.join(OsStr::from_bytes(b"\xfe.safetensors"));
    std::fs::write(&file, u8s(&[("x", 1)])).unwrap();
    assert_eq!(Checkpoint::open(&file, &Limits::default()).unwrap().len(), 1);
    let checkpoint = Checkpoint::open(&folder, &Limits::default()).unwrap();
    assert_eq!(checkpoint.shards()[0].path(), file);
    let out = folder.join(OsStr::from_bytes(b"\xfd.safetensors"));
    niwaki_tensors::write_file(&out, &[], &[], Overwrite::Refuse).unwrap();
    assert!(Checkpoint::open(&out, &Limits::default()).unwrap().is_empty());
    let error = Checkpoint::open(folder.join(OsStr::from_bytes(b"\xfc")), &Limits::default()).unwrap_err();
    assert!(error.path().unwrap().as_os_str().as_bytes().ends_with(b"\xfc"));
}

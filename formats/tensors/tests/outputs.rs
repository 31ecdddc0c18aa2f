//! Where files may be written, and that nothing is lost when writing ends early.

#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod scratch;

use std::fs;
use std::path::Path;

use niwaki_tensors::{
    Blame, Checkpoint, Dtype, Limits, Overwrite, Writer, check_output, copy_file, partial_path, write_file,
};
use scratch::{Scratch, layout, sentence};

fn refused(path: &Path, overwrite: Overwrite) -> String {
    let error = check_output(path, overwrite).unwrap_err();
    assert_eq!(error.blame(), Blame::Caller);
    // Beginning to write says the same, and leaves nothing behind.
    let begun = Writer::create(path, layout(&[1]), overwrite).unwrap_err();
    assert_eq!(begun.to_string(), error.to_string());
    assert!(!partial_path(path).exists());
    sentence(&error, path)
}

#[test]
fn an_output_that_exists_is_replaced_only_if_asked() {
    let folder = Scratch::new();
    let path = folder.write("out", "old");
    assert_eq!(refused(&path, Overwrite::Refuse), "exists already");
    write_file(&path, &[], &[], Overwrite::Replace).unwrap();
    assert_eq!(fs::read(&path).unwrap().len(), 64);
    assert_eq!(folder.names(), ["out"]);
}

#[test]
fn outputs_that_cannot_be_files() {
    let folder = Scratch::new();
    assert_eq!(refused(folder.path(), Overwrite::Replace), "is a folder; the output is a file");
    assert_eq!(refused(&folder.join("no/out"), Overwrite::Replace), "its folder does not exist");
    folder.write("file", "");
    assert_eq!(refused(&folder.join("file/out"), Overwrite::Replace), "its folder does not exist");
    assert_eq!(refused(&folder.join(".."), Overwrite::Replace), "is a folder; the output is a file");
    assert_eq!(refused(Path::new(""), Overwrite::Replace), "has no file name");
    if cfg!(unix) {
        assert_eq!(refused(Path::new("/dev/full"), Overwrite::Replace), "is not a regular file");
    }
}

#[test]
fn a_read_only_output_is_left_alone() {
    let folder = Scratch::new();
    let path = folder.write("out", "old");
    let mut permissions = fs::metadata(&path).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&path, permissions).unwrap();
    assert_eq!(refused(&path, Overwrite::Replace), "is read-only");
    assert_eq!(fs::read(&path).unwrap(), b"old");
}

#[cfg(unix)]
#[test]
fn a_link_that_leads_nowhere_exists() {
    let folder = Scratch::new();
    let path = folder.join("link");
    std::os::unix::fs::symlink(folder.join("nothing"), &path).unwrap();
    assert_eq!(refused(&path, Overwrite::Refuse), "exists already");
    write_file(&path, &[], &[], Overwrite::Replace).unwrap();
    assert!(fs::symlink_metadata(&path).unwrap().is_file());
    assert_eq!(folder.names(), ["link"]);
}

#[test]
fn dropping_leaves_the_old_file_and_no_other() {
    let folder = Scratch::new();
    let path = folder.write("out", "old");
    let writer = Writer::create(&path, layout(&[100]), Overwrite::Replace).unwrap();
    writer.write_at(0, 0, &[1; 100]).unwrap();
    assert_eq!(folder.names(), ["out", "out.niwaki-partial"]);
    assert_eq!(fs::read(&path).unwrap(), b"old");
    drop(writer);
    assert_eq!((folder.names(), fs::read(&path).unwrap()), (vec!["out".to_owned()], b"old".to_vec()));
}

#[test]
fn a_partial_file_is_resumed() {
    let folder = Scratch::new();
    let path = folder.write("out", "old");
    assert!(Writer::resume(&path, layout(&[3, 5]), Overwrite::Replace).unwrap().is_none());
    let writer = Writer::create(&path, layout(&[3, 5]), Overwrite::Replace).unwrap();
    writer.keep_partial(true);
    writer.write_at(0, 0, b"abc").unwrap();
    drop(writer);
    assert_eq!(fs::read(&path).unwrap(), b"old");
    // Another length is another run.
    assert!(Writer::resume(&path, layout(&[3, 6]), Overwrite::Replace).unwrap().is_none());
    // Rubbish in the pad does not survive.
    let mut bytes = fs::read(partial_path(&path)).unwrap();
    let at = layout(&[3, 5]).file_offset(0).unwrap() as usize;
    bytes[at + 10] = 7;
    fs::write(partial_path(&path), bytes).unwrap();
    let writer = Writer::resume(&path, layout(&[3, 5]), Overwrite::Replace).unwrap().unwrap();
    let mut back = [0; 2];
    writer.read_at(0, 1, &mut back).unwrap();
    assert_eq!(&back, b"bc");
    writer.write_at(1, 0, b"defgh").unwrap();
    writer.finish(&[("k", "v")], false).unwrap();
    assert_eq!(folder.names(), ["out"]);
    let fresh = folder.join("fresh");
    let writer = Writer::create(&fresh, layout(&[3, 5]), Overwrite::Refuse).unwrap();
    writer.write_at(0, 0, b"abc").unwrap();
    writer.write_at(1, 0, b"defgh").unwrap();
    writer.finish(&[("k", "v")], false).unwrap();
    assert_eq!(fs::read(&path).unwrap(), fs::read(&fresh).unwrap());
}

#[test]
fn a_resumed_file_stays_for_the_next_run() {
    let folder = Scratch::new();
    let path = folder.join("out");
    let writer = Writer::create(&path, layout(&[3]), Overwrite::Refuse).unwrap();
    writer.keep_partial(true);
    drop(writer);
    drop(Writer::resume(&path, layout(&[3]), Overwrite::Refuse).unwrap());
    assert_eq!(folder.names(), ["out.niwaki-partial"]);
    let writer = Writer::resume(&path, layout(&[3]), Overwrite::Refuse).unwrap().unwrap();
    writer.keep_partial(false);
    drop(writer);
    assert!(folder.names().is_empty());
}

#[test]
fn a_second_writer_of_the_same_output_is_refused() {
    let folder = Scratch::new();
    let path = folder.join("out");
    let writer = Writer::create(&path, layout(&[3]), Overwrite::Refuse).unwrap();
    writer.write_at(0, 0, b"abc").unwrap();
    for second in [
        Writer::create(&path, layout(&[3]), Overwrite::Replace).map(Some),
        Writer::resume(&path, layout(&[3]), Overwrite::Replace),
    ] {
        let error = second.unwrap_err();
        assert_eq!(
            (sentence(&error, &path).as_str(), error.blame()),
            ("is being written by another process", Blame::Environment)
        );
    }
    writer.finish(&[], false).unwrap();
    assert_eq!(Checkpoint::open(&path, &Limits::default()).unwrap().get("t0").unwrap().bytes(), b"abc");
}

#[test]
fn an_output_that_appears_meanwhile_is_not_replaced() {
    let folder = Scratch::new();
    let path = folder.join("out");
    let writer = Writer::create(&path, layout(&[3]), Overwrite::Refuse).unwrap();
    fs::write(&path, "theirs").unwrap();
    assert_eq!(sentence(&writer.finish(&[], false).unwrap_err(), &path), "exists already");
    assert_eq!((folder.names(), fs::read(&path).unwrap()), (vec!["out".to_owned()], b"theirs".to_vec()));
}

#[test]
fn pieces_stay_inside_their_tensor() {
    let folder = Scratch::new();
    let path = folder.join("out");
    let writer = Writer::create(&path, layout(&[3, 5]), Overwrite::Refuse).unwrap();
    let said = "2 bytes at byte 2 of tensor `t0` were asked for; it has 3";
    assert_eq!(sentence(&writer.write_at(0, 2, &[0; 2]).unwrap_err(), &path), said);
    assert_eq!(sentence(&writer.read_at(0, 2, &mut [0; 2]).unwrap_err(), &path), said);
    let said = "1 bytes at byte 18446744073709551615 of tensor `t1` were asked for; it has 5";
    assert_eq!(sentence(&writer.write_at(1, u64::MAX, &[0]).unwrap_err(), &path), said);
    assert_eq!(sentence(&writer.write_at(2, 0, &[]).unwrap_err(), &path), "entry 2 was asked for; there are 2");
    writer.write_at(0, 3, &[]).unwrap();
    let long = "v".repeat(200);
    let error = writer.finish(&[("k", &long)], false).unwrap_err();
    let text = sentence(&error, &path);
    assert!(text.starts_with("header needs ") && text.ends_with(" are reserved"), "{text}");
    assert!(folder.names().is_empty());
}

#[test]
fn tensors_given_with_the_wrong_bytes() {
    let folder = Scratch::new();
    let path = folder.join("out");
    let error = write_file(&path, &[("w", Dtype::F32, &[2], &[0; 7])], &[], Overwrite::Refuse).unwrap_err();
    assert_eq!(sentence(&error, &path), "tensor `w` needs 8 bytes, 7 were given");
    assert_eq!((error.tensor(), folder.names().len()), (Some("w"), 0));
}

#[test]
fn a_copy_has_the_bytes_and_permissions_and_takes_its_name_when_it_is_whole() {
    let folder = Scratch::new();
    let from = folder.write("from", "new");
    let mut permissions = fs::metadata(&from).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&from, permissions).unwrap();
    let to = folder.write("to", "a longer old");
    let error = copy_file(&from, &to, Overwrite::Refuse, false).unwrap_err();
    assert_eq!(sentence(&error, &to), "exists already");
    assert_eq!(fs::read(&to).unwrap(), b"a longer old");
    copy_file(&from, &to, Overwrite::Replace, true).unwrap();
    assert_eq!(fs::read(&to).unwrap(), b"new");
    assert!(fs::metadata(&to).unwrap().permissions().readonly());
    let error =
        copy_file(&folder.path().join("none"), &folder.path().join("other"), Overwrite::Refuse, false).unwrap_err();
    assert_eq!(error.path(), Some(folder.path().join("none").as_path()), "{error}");
    assert_eq!(folder.names(), ["from", "to"]);
}

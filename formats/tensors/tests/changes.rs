//! Files that change while they are mapped.

#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod scratch;

use std::fs::{self, File, OpenOptions};
use std::time::{Duration, SystemTime};

use niwaki_tensors::{Advice, Blame, Checkpoint, Limits};
use scratch::{Scratch, u8s};

fn opened() -> (Scratch, std::path::PathBuf, Checkpoint) {
    let folder = Scratch::new();
    let path = folder.write("a.safetensors", u8s(&[("w", 100_000)]));
    let checkpoint = Checkpoint::open(&path, &Limits::default()).unwrap();
    checkpoint.shards()[0].ensure_unchanged().unwrap();
    (folder, path, checkpoint)
}

#[test]
fn a_file_left_alone_is_unchanged() {
    let (_folder, path, checkpoint) = opened();
    assert_eq!(fs::read(&path).unwrap().len() as u64, checkpoint.shards()[0].file_bytes());
    let w = checkpoint.get("w").unwrap();
    assert_eq!(w.bytes().iter().map(|b| u64::from(*b)).sum::<u64>(), (0..100_000u64).map(|i| i % 256).sum::<u64>());
    w.advise(0..100_000, Advice::DontNeed).unwrap();
    w.file().ensure_unchanged().unwrap();
    checkpoint.ensure_unchanged().unwrap();
}

#[test]
fn a_file_that_grew() {
    let (_folder, path, checkpoint) = opened();
    let had = fs::metadata(&path).unwrap().len();
    OpenOptions::new().write(true).open(&path).unwrap().set_len(had + 1).unwrap();
    let error = checkpoint.shards()[0].ensure_unchanged().unwrap_err();
    let said =
        format!("`{}`: the file changed while it was mapped: it had {had} bytes, now {}", path.display(), had + 1);
    assert_eq!((error.to_string(), error.blame()), (said, Blame::Environment));
    assert_eq!(error.hint(), Some("run again when nothing else writes to it"));
}

#[test]
fn a_file_that_was_written_to() {
    let (_folder, path, checkpoint) = opened();
    let file = File::options().write(true).open(&path).unwrap();
    file.set_modified(SystemTime::now() + Duration::from_secs(5)).unwrap();
    let error = checkpoint.ensure_unchanged().unwrap_err();
    assert_eq!(error.to_string(), format!("`{}`: the file was modified while it was mapped", path.display()));
}

#[test]
fn a_file_that_was_replaced_stays_as_it_was() {
    let (folder, path, checkpoint) = opened();
    let other = folder.write("b", u8s(&[("w", 3)]));
    fs::rename(other, &path).unwrap();
    checkpoint.shards()[0].ensure_unchanged().unwrap();
    assert_eq!(checkpoint.get("w").unwrap().bytes()[99_999], (99_999 % 256) as u8);
}

#[cfg(target_os = "linux")]
#[test]
fn a_shortened_file_is_an_error_where_pages_are_asked_for_first() {
    let (_folder, path, checkpoint) = opened();
    OpenOptions::new().write(true).open(&path).unwrap().set_len(4096).unwrap();
    let w = checkpoint.get("w").unwrap();
    let error = w.advise(50_000..60_000, Advice::Populate).unwrap_err();
    assert!(error.to_string().ends_with("bytes, now 4096"), "{error}");
    // The rest of the advice never reads.
    w.advise(50_000..60_000, Advice::WillNeed).unwrap();
    w.advise(50_000..60_000, Advice::DontNeed).unwrap();
}

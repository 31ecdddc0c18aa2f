//! What is written where a disk is full or takes nothing: apart from the other tests, since a program that is started, here to
//! mount disks, has all files and locks of its parent until it becomes itself.

#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod scratch;

use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

use niwaki_tensors::{Blame, Overwrite, Writer, write_file};
use scratch::{Scratch, layout, sentence};

/// A file system of its own, where this process may mount one.
struct Mounted(Scratch);

impl Mounted {
    fn new(options: &str) -> Option<Self> {
        let folder = Scratch::new();
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(folder.path()).output();
        mount.is_ok_and(|done| done.status.success()).then_some(Self(folder))
    }

    fn remount(&self, options: &str) {
        let done = Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(self.0.path()).status();
        assert!(done.unwrap().success());
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_leaves_the_old_file() {
    let Some(disk) = Mounted::new("size=256k") else { return println!("skipped: cannot mount a small disk here") };
    let path = disk.0.write("out", "old");
    let writer = Writer::create(&path, layout(&[1 << 20]), Overwrite::Replace).unwrap();
    let error = (0..16).find_map(|i| writer.write_at(0, i << 16, &[1; 1 << 16]).err()).unwrap();
    assert_eq!(sentence(&error, &path), "the disk is full");
    assert_eq!((error.blame(), error.tensor()), (Blame::Io, Some("t0")));
    assert!(std::error::Error::source(&error).is_some());
    drop(writer);
    assert_eq!((disk.0.names(), fs::read(&path).unwrap()), (vec!["out".to_owned()], b"old".to_vec()));
    // A process that another test starts has the file that is gone open until it becomes its program.
    let again = || write_file(&path, &[], &[], Overwrite::Replace).is_ok();
    assert!((0..200).any(|_| again() || {
        thread::sleep(Duration::from_millis(10));
        false
    }));
}

#[test]
fn a_read_only_file_system_is_named() {
    let Some(disk) = Mounted::new("size=256k") else { return println!("skipped: cannot mount a small disk here") };
    let path = disk.0.write("out", "old");
    disk.remount("ro");
    let error = write_file(&path, &[], &[], Overwrite::Replace).unwrap_err();
    assert_eq!((sentence(&error, &path).as_str(), error.blame()), ("the file system is read-only", Blame::Io));
    assert_eq!(fs::read(&path).unwrap(), b"old");
}

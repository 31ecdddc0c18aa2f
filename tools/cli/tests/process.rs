//! The program itself, as a process: pipes, exit codes, memory, and being killed.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use niwaki_conformance::checkpoints::write_large;
use niwaki_conformance::folder::{Folder, fashion};

fn niwaki(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_niwaki"));
    command.args(args).env_remove("NO_COLOR").stdin(Stdio::null());
    command
}

#[test]
fn exit_codes_and_streams_reach_the_caller() {
    let fine = niwaki(&["inspect", &fashion()]).output().unwrap();
    assert_eq!((fine.status.code(), fine.stderr.len()), (Some(0), 0));
    assert!(fine.stdout.starts_with(b"plain safetensors: 8 tensors, 52138 weights"));
    let no = niwaki(&["inspect", "no-such-file"]).output().unwrap();
    assert_eq!((no.status.code(), no.stdout.len()), (Some(2), 0));
    assert_eq!(no.stderr, b"error: `no-such-file`: does not exist\n");
}

#[test]
fn a_reader_that_has_read_enough_is_no_error() {
    let mut child = niwaki(&["completions", "bash"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!((child.wait().unwrap().code(), err.as_str()), (Some(0), ""));
}

/// Numbers that are the same in every run: the moments at which runs are killed.
struct Moments(u64);

impl Moments {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit.max(1)
    }
}

fn finish(mut child: Child) -> (i32, String) {
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    (child.wait().unwrap().code().unwrap_or(-1), err)
}

#[test]
fn a_killed_run_goes_on_and_ends_in_the_same_bytes() {
    let folder = Folder::new("killed");
    let (from, whole, out) =
        (folder.at("in.safetensors"), folder.at("whole.safetensors"), folder.at("out.safetensors"));
    write_large(&from, 24, 256, 4096);
    let run = |out: &str| {
        let args = ["compress", &from, "--scheme", "int4/g32/sym", "--fit", "lsq", "--threads", "2", "-o", out];
        niwaki(&args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let start = Instant::now();
    assert_eq!(finish(run(&whole)), (0, String::new()));
    let took = start.elapsed();
    let whole = std::fs::read(whole).unwrap();

    let (mut moments, mut resumed, mut killed) = (Moments(1), 0, 0);
    for _ in 0..6 {
        let mut child = run(&out);
        std::thread::sleep(took / 10 + Duration::from_micros(moments.below(took.as_micros() as u64 * 8 / 10)));
        let dead = child.try_wait().unwrap().is_none();
        child.kill().unwrap();
        child.wait().unwrap();
        killed += usize::from(dead && !std::path::Path::new(&out).exists());
        if !std::path::Path::new(&out).exists() {
            let (code, err) = finish(run(&out));
            assert_eq!(code, 0, "{err}");
            resumed += usize::from(err.starts_with("note: went on after an earlier run"));
        }
        assert!(std::fs::read(&out).unwrap() == whole, "the bytes differ from those of an undisturbed run");
        std::fs::remove_file(&out).unwrap();
        assert_eq!(folder.names(), ["in.safetensors", "whole.safetensors"]);
    }
    assert!(killed > 0 && resumed > 0, "{killed} runs were killed, {resumed} went on");
}

#[test]
fn an_older_output_survives_a_killed_run() {
    let folder = Folder::new("killed");
    let (from, out) = (folder.at("in.safetensors"), folder.at("out.safetensors"));
    write_large(&from, 8, 256, 4096);
    std::fs::write(&out, "precious").unwrap();
    let args = ["compress", &from, "--scheme", "int4/g32/sym", "--fit", "lsq", "--force", "-o", &out];
    let mut child = niwaki(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let partial = folder.path().join("out.safetensors.niwaki-partial");
    while !partial.exists() && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    child.kill().unwrap();
    if !child.wait().unwrap().success() {
        assert_eq!(std::fs::read(&out).unwrap(), b"precious");
    }
}

/// A limit on the size of files stands in for a full disk: both end in a write that fails.
#[cfg(target_os = "linux")]
#[test]
fn a_disk_without_room_is_an_error_and_nothing_is_lost() {
    let folder = Folder::new("full");
    let out = folder.at("out.safetensors");
    std::fs::write(&out, "precious").unwrap();
    let script = "trap '' XFSZ; ulimit -f 8; exec \"$@\"";
    for scheme in ["int8/row/sym", "elastic/g64"] {
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_niwaki"), "compress", &fashion()]);
        let answer = command.args(["--scheme", scheme, "--force", "-o", &out]).output().unwrap();
        let err = String::from_utf8(answer.stderr).unwrap();
        assert_eq!((answer.status.code(), answer.stdout.len()), (Some(2), 0), "{err}");
        assert!(err.starts_with("error: ") && err.contains("out.safetensors"), "{err}");
        assert_eq!(std::fs::read(&out).unwrap(), b"precious");
        assert_eq!(folder.names(), ["out.safetensors"]);
    }
}

/// The largest value of `RssAnon` that the process was seen to have, in bytes.
#[cfg(target_os = "linux")]
fn peak_private_memory(child: &mut Child) -> u64 {
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|l| l.strip_prefix("RssAnon:"));
        let kib = line.and_then(|l| l.trim().strip_suffix(" kB")).and_then(|n| n.parse::<u64>().ok());
        peak = peak.max(kib.unwrap_or(0) * 1024);
        std::thread::sleep(Duration::from_micros(500));
    }
    peak
}

#[cfg(target_os = "linux")]
#[test]
fn private_memory_does_not_grow_with_the_tensor() {
    const LIMIT: u64 = 32 << 20;
    let folder = Folder::new("memory");
    let (from, out) = (folder.at("in.safetensors"), folder.at("out.safetensors"));
    write_large(&from, 1, 8192, 8192);
    let checked = |args: &[&str]| {
        let mut child = niwaki(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let peak = peak_private_memory(&mut child);
        assert_eq!(finish(child), (0, String::new()), "{args:?}");
        assert!(
            peak > 0 && peak <= LIMIT,
            "{args:?}: {peak} bytes of private memory, the tensor has {}",
            8192 * 8192 * 4
        );
    };
    for scheme in ["int4/g32/sym", "int8/row/sym", "int4/tensor/affine", "elastic/g64"] {
        checked(&["compress", &from, "--scheme", scheme, "--threads", "2", "--force", "-o", &out]);
    }
    checked(&["export", &out, "--to", "safetensors", "--threads", "2", "-o", &folder.at("back.safetensors")]);
    checked(&["compare", &from, &out, "--threads", "2"]);
}

//! Programs in C, linked with the library and run: under sanitizers, under valgrind, on many threads.
//!
//! What is missing on a machine, a compiler or valgrind, is said with the word *skipped*.
#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]
#![allow(clippy::print_stdout, reason = "it says what it skipped and measured")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use niwaki_conformance::cli::niwaki;
use niwaki_conformance::folder::Folder;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
const FASHION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/fashion-cnn");
const SANITIZERS: [&str; 3] = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g"];

/// A file that cargo has built for this test.
fn built(name: &str) -> PathBuf {
    let deps = std::env::current_exe().unwrap().parent().unwrap().to_owned();
    let file = deps.join(name);
    assert!(file.is_file(), "{} is not there", file.display());
    file
}

/// Whether a program is there; says so where it is not.
fn there(tool: &str) -> bool {
    let found = Command::new(tool).arg("--version").output().is_ok_and(|output| output.status.success());
    if !found {
        println!("skipped: no {tool} on this machine");
    }
    found
}

/// A program, in a folder of its own.
struct Program {
    folder: Folder,
    path: PathBuf,
}

impl Program {
    /// Compiles and links a source; none without a compiler.
    fn new(source: &Path, flags: &[&str]) -> Option<Self> {
        if !there("gcc") {
            return None;
        }
        let folder = Folder::new("capi-program");
        let path = folder.path().join("program");
        let mut gcc = Command::new("gcc");
        gcc.args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-O1"]).args(flags);
        gcc.arg(format!("-I{}/include", env!("CARGO_MANIFEST_DIR"))).arg(source).arg(built("libniwaki_capi.a"));
        done(gcc.args(["-lpthread", "-ldl", "-lm", "-o"]).arg(&path));
        Some(Self { folder, path })
    }

    fn of(name: &str, flags: &[&str]) -> Option<Self> {
        Self::new(&Path::new(env!("CARGO_MANIFEST_DIR")).join(name), flags)
    }

    /// What it prints, where it succeeds.
    fn run(&self, arguments: &[&str]) -> String {
        done(Command::new(&self.path).args(arguments).current_dir(self.folder.path()))
    }
}

fn done(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

#[test]
fn every_function_does_what_it_says_under_sanitizers() {
    let Some(program) = Program::of("tests/c/functional.c", &SANITIZERS) else { return };
    assert_eq!(program.run(&[&format!("{ROOT}/tests/golden")]), "161 tensors decoded and multiplied\n");
}

#[test]
fn valgrind_finds_nothing() {
    let Some(program) = Program::of("tests/c/functional.c", &["-g"]).filter(|_| there("valgrind")) else { return };
    let mut valgrind = Command::new("valgrind");
    valgrind.args([
        "-q",
        "--error-exitcode=9",
        "--leak-check=full",
        // What the standard library keeps for the main thread is *possibly* lost.
        "--errors-for-leak-kinds=definite,indirect",
    ]);
    let said = done(valgrind.arg(&program.path).arg(format!("{ROOT}/tests/golden")));
    assert_eq!(said, "161 tensors decoded and multiplied\n");
}

#[test]
fn threads_share_handles() {
    let Some(program) = Program::of("tests/c/threads.c", &SANITIZERS) else { return };
    for (name, tensors) in [("blocks", 15), ("elastic", 5), ("positions", 12)] {
        let said = program.run(&[&format!("{ROOT}/tests/golden/{name}.safetensors")]);
        assert_eq!(said, format!("{tensors} tensors shared by 4 threads\n"));
    }
}

/// How many of the sample the example gets right.
fn right(program: &Program, model: &str, more: &[&str]) -> usize {
    let sample = format!("{FASHION}/sample.safetensors");
    let said = program.run(&[&[model, &sample], more].concat());
    said.strip_suffix(" of 500 right\n").unwrap().parse().unwrap()
}

#[test]
fn the_example_classifies_with_packed_weights_as_with_decoded_ones() {
    let Some(program) = Program::of("examples/classify.c", &SANITIZERS) else { return };
    let source = format!("{FASHION}/model.safetensors");
    // The README of the fixture says so.
    assert_eq!(right(&program, &source, &[]), 459);
    let file = |name: &str| program.folder.path().join(name).to_str().unwrap().to_owned();
    for (scheme, least) in [("int8/row/sym", 455), ("int4/g16/sym", 445), ("elastic/g16", 455)] {
        let (packed, floats) = (file("packed.safetensors"), file("floats.safetensors"));
        niwaki(["compress", &source, "--scheme", scheme, "-o", &packed, "-q", "--force"]).ok();
        niwaki(["export", &packed, "--to", "safetensors", "-o", &floats, "-q", "--force"]).ok();
        let (packed_right, floats_right) = (right(&program, &packed, &[]), right(&program, &floats, &[]));
        println!("{scheme}: {packed_right} packed, {floats_right} decoded");
        // Sums are rounded in another order: a picture on the edge may fall on the other side.
        assert!(packed_right.abs_diff(floats_right) <= 1, "{scheme}: {packed_right} and {floats_right}");
        assert!(packed_right >= least, "{scheme}: {packed_right}");
        // Activations of 8 bits are off by half a 127th of the largest of 32.
        assert!(right(&program, &packed, &["int8"]) + 5 >= packed_right, "{scheme}");
    }
}

#[test]
fn the_example_of_the_readme_multiplies() {
    let Some(program) = Program::of("examples/dot.c", &SANITIZERS) else { return };
    assert_eq!(program.run(&[&format!("{ROOT}/tests/golden/example.safetensors"), "w"]), "3.5 -4\n");
}

#[test]
fn the_shared_library_exports_the_header_and_nothing_else() {
    if !cfg!(target_os = "linux") || !there("nm") {
        return;
    }
    let library = built("libniwaki_capi.so");
    let said = done(Command::new("nm").args(["-D", "--defined-only"]).arg(&library));
    let exported: BTreeSet<&str> = said.lines().filter_map(|line| line.split(' ').nth(2)).collect();
    let header = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("include/niwaki.h")).unwrap();
    let words =
        header.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '(')).filter_map(|word| word.split_once('('));
    let declared: BTreeSet<&str> = words.map(|(name, _)| name).filter(|name| name.starts_with("niwaki_")).collect();
    assert_eq!(exported, declared);
    if there("readelf") {
        let said = done(Command::new("readelf").arg("-d").arg(&library));
        assert!(said.contains("[libniwaki.so.0]"), "{said}");
    }
}

#[test]
fn the_header_is_cpp_too() {
    if !there("g++") {
        return;
    }
    let header = format!("{}/include/niwaki.h", env!("CARGO_MANIFEST_DIR"));
    done(Command::new("g++").args([
        "-std=c++11",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-fsyntax-only",
        "-x",
        "c++",
        &header,
    ]));
}

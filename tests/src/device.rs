//! What a device image makes of images on this machine, to be compared with what a device does.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "a test that is skipped says so")]

use std::error::Error;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use niwaki_engine::dataset::Dataset;
use niwaki_engine::image::input_codes;
use niwaki_image::Image;

use crate::folder::{Folder, repository};

/// Codes that go in, those that come out, and the label.
struct Example {
    input: Vec<i8>,
    output: Vec<i8>,
    label: usize,
}

fn examples(image: &Path, data: &Path, count: usize) -> Result<Vec<Example>, Box<dyn Error>> {
    let bytes = std::fs::read(image)?;
    let image = Image::parse(&bytes)?;
    let data = Dataset::open(data)?;
    let mut numbers = vec![0.0; data.item_len()];
    let mut arena = vec![0; image.arena()];
    let example = |item| {
        data.batch(std::iter::once(item), &mut numbers)?;
        let input = input_codes(&image, &numbers);
        let output = niwaki_micro::run(&image, &input, &mut arena)?.to_vec();
        Ok(Example { input, output, label: data.label(item)? })
    };
    (0..count.min(data.len())).map(example).collect()
}

/// The inputs, outputs and labels of the first `count` images of a dataset, as a header of C.
///
/// # Errors
///
/// A file that is no device image, or no dataset for it.
pub fn vectors(image: &Path, data: &Path, count: usize) -> Result<String, Box<dyn Error>> {
    let all = examples(image, data, count)?;
    let (mut inputs, mut outputs, mut labels) = (String::new(), String::new(), String::new());
    for Example { input, output, label } in &all {
        writeln!(inputs, "{{{}}},", listed(input))?;
        writeln!(outputs, "{{{}}},", listed(output))?;
        write!(labels, "{label}, ")?;
    }
    let [takes, makes] = all.first().map_or([0; 2], |first| [first.input.len(), first.output.len()]);
    let count = all.len();
    Ok(format!(
        "#include <stdint.h>\n#define VECTORS {count}\nstatic const int8_t inputs[VECTORS][{takes}] = {{\n{inputs}}};\n\
         static const int8_t outputs[VECTORS][{makes}] = {{\n{outputs}}};\n\
         static const uint16_t labels[VECTORS] = {{{labels}}};\n"
    ))
}

/// The same as bytes: of each image the codes that go in, those that come out, and the label, a byte.
///
/// # Errors
///
/// Those of [`vectors`]; a label beyond 255.
pub fn vector_bytes(image: &Path, data: &Path, count: usize) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut bytes = Vec::new();
    for Example { input, output, label } in examples(image, data, count)? {
        bytes.extend(input.iter().chain(&output).map(|code| *code as u8));
        bytes.push(u8::try_from(label)?);
    }
    Ok(bytes)
}

fn listed(codes: &[i8]) -> String {
    codes.iter().map(i8::to_string).collect::<Vec<_>>().join(",")
}

/// The C compiler, where there is one.
pub fn compiler() -> Option<String> {
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let found = Command::new(&compiler).arg("--version").output().is_ok_and(|done| done.status.success());
    if !found {
        println!("skipped: no C compiler `{compiler}`");
    }
    found.then_some(compiler)
}

/// Compiles a folder of C with vectors and what is defined, and runs it: its exit code and what it says; none without a compiler.
pub fn compiled(folder: &Folder, name: &str, define: &[&str]) -> Option<(i32, String)> {
    let compiler = compiler()?;
    let at = |file: &str| format!("{}/{file}", folder.at(name));
    let flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O1", "-ftrapv"];
    let micro = repository().join("tests/micro");
    let one = |file: &str, out: &str, more: &[&str]| {
        let mut line = Command::new(&compiler);
        line.args(flags).args(define).args(more).arg(format!("-I{}", folder.at(name))).args(["-c", file, "-o", out]);
        let done = line.output().unwrap();
        assert!(done.status.success(), "{file}: {}", String::from_utf8_lossy(&done.stderr));
    };
    let main = micro.join("main.c").to_string_lossy().into_owned();
    one(&at("model.c"), &at("model.o"), &["-ffreestanding"]);
    one(&at("niwaki_micro.c"), &at("niwaki_micro.o"), &["-ffreestanding"]);
    one(&main, &at("main.o"), &["-DHOST"]);
    let objects = ["model.o", "niwaki_micro.o", "main.o"].map(&at);
    assert!(Command::new(&compiler).args(objects).arg("-o").arg(at("run")).status().unwrap().success());
    let done = Command::new(at("run")).output().unwrap();
    Some((done.status.code().unwrap_or(-1), String::from_utf8(done.stdout).unwrap()))
}

//! The header that is committed is that of the source.
#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

use std::fs;
use std::path::{Path, PathBuf};

fn header() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("include/niwaki.h")
}

/// The header as cbindgen makes it.
fn generated() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).unwrap();
    let mut builder = cbindgen::Builder::new().with_config(config);
    // In this order, so that it reads from the beginning.
    for module in ["error", "artifact", "verification", "overlay", "memory", "operand", "product"] {
        builder = builder.with_src(root.join(format!("src/{module}.rs")));
    }
    let mut out = Vec::new();
    builder.generate().unwrap().write(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn the_header_is_that_of_the_source() {
    let (has, needs) = (fs::read_to_string(header()).unwrap(), generated());
    let differs = has.lines().zip(needs.lines()).find(|(has, needs)| has != needs);
    assert!(
        has == needs,
        "{differs:?}; `cargo test -p niwaki-capi --test header -- --ignored` writes it anew, and a change that programs \
         notice asks for another `ABI`"
    );
}

#[test]
#[ignore = "writes into the project"]
fn the_header_is_written_anew() {
    fs::write(header(), generated()).unwrap();
}

#[test]
fn every_function_of_the_source_is_in_the_header() {
    let src = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    let source: String = src.map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    let (header, no_mangle) = (fs::read_to_string(header()).unwrap(), "#[unsafe(no_mangle)]");
    let functions = source.split(no_mangle).skip(1).map(|rest| {
        let rest = rest.split_once("extern \"C\" fn ").unwrap().1;
        rest.split_once('(').unwrap().0
    });
    let functions: Vec<&str> = functions.collect();
    assert!(functions.len() > 20, "{functions:?}");
    for function in functions {
        assert_eq!(header.matches(&format!("{function}(")).count(), 1, "{function}");
    }
}

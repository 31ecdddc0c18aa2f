//! The committed code is what the committed schema gives.

#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

use std::fs;
use std::path::{Path, PathBuf};

fn here(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The code for `schema/`, as prost-build words it today.
fn generated() -> String {
    let files = protox::compile(["onnx.proto", "onnx-data.proto"], [here("schema")]).unwrap();
    let out = std::env::temp_dir().join(format!(
        "niwaki-onnx-schema-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    ));
    fs::create_dir_all(&out).unwrap();
    let mut config = prost_build::Config::new();
    config.bytes(["."]).disable_comments(["."]).out_dir(&out).compile_fds(files).unwrap();
    let code = fs::read_to_string(out.join("onnx.rs")).unwrap();
    fs::remove_dir_all(&out).unwrap();
    code
}

#[test]
fn the_committed_code_is_generated_from_the_schema() {
    let committed = fs::read_to_string(here("src/proto.rs")).unwrap();
    assert!(
        committed == generated(),
        "src/proto.rs differs: run `cargo test -p niwaki-onnx --test schema -- --ignored`"
    );
}

/// Writes `src/proto.rs` anew; to be run after a change of the schema.
#[test]
#[ignore = "writes a source file"]
fn regenerate() {
    fs::write(here("src/proto.rs"), generated()).unwrap();
}

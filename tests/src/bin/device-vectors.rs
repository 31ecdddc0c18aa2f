//! Writes what a device should make of the first images of a dataset, as C.
//!
//! ```text
//! cargo run -q -p niwaki-conformance --bin device-vectors -- IMAGE DATA COUNT OUT.h
//! ```
#![allow(clippy::print_stderr, reason = "a program of the tests")]

use std::process::ExitCode;

use niwaki_conformance::device::vectors;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [image, data, count, out] = args.as_slice() else {
        eprintln!("device-vectors IMAGE DATA COUNT OUT.h");
        return ExitCode::from(2);
    };
    let count = count.parse().unwrap_or(0);
    match vectors(image.as_ref(), data.as_ref(), count).and_then(|text| Ok(std::fs::write(out, text)?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

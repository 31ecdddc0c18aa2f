//! Writes what a device should make of the first images of a dataset: as C, or as bytes where OUT does not end in `.h`.
//!
//! ```text
//! cargo run -q -p niwaki-conformance --bin device-vectors -- IMAGE DATA COUNT OUT
//! ```
#![allow(clippy::print_stderr, reason = "a program of the tests")]

use std::process::ExitCode;

use niwaki_conformance::device::{vector_bytes, vectors};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [image, data, count, out] = args.as_slice() else {
        eprintln!("device-vectors IMAGE DATA COUNT OUT");
        return ExitCode::from(2);
    };
    let count = count.parse().unwrap_or(0);
    let made = match out.ends_with(".h") {
        true => vectors(image.as_ref(), data.as_ref(), count).map(String::into_bytes),
        false => vector_bytes(image.as_ref(), data.as_ref(), count),
    };
    match made.and_then(|made| Ok(std::fs::write(out, made)?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

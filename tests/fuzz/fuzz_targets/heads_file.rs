#![no_main]
//! The target `heads_file` as a libFuzzer program.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = niwaki_fuzz::heads_file(bytes);
});

#![no_main]
//! The target `idx_file` as a libFuzzer program.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = niwaki_fuzz::idx_file(bytes);
});

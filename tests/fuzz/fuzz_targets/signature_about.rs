#![no_main]
//! The target `signature_about` as a libFuzzer program.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = niwaki_fuzz::signature_about(bytes);
});

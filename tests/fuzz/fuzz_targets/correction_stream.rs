#![no_main]
//! The target `correction_stream` as a libFuzzer program.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = niwaki_fuzz::correction_stream(bytes);
});

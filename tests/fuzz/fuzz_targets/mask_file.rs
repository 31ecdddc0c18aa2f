#![no_main]
//! The target `mask_file` as a libFuzzer program.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = niwaki_fuzz::mask_file(bytes);
});

#![no_main]
//! The target `picture_file` as a libFuzzer program.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = niwaki_fuzz::picture_file(bytes);
});

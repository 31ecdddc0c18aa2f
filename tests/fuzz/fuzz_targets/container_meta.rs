#![no_main]
//! The target `container_meta` as a libFuzzer program.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = niwaki_fuzz::container_meta(bytes);
});

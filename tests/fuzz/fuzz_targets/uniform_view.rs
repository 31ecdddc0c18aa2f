#![no_main]
//! The target `uniform_view` as a libFuzzer program.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = niwaki_fuzz::uniform_view(bytes);
});

#![no_main]
//! The target `float_view` as a libFuzzer program.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = niwaki_fuzz::float_view(bytes);
});

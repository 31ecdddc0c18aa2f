#![no_main]
//! The target `elastic_view` as a libFuzzer program.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = niwaki_fuzz::elastic_view(bytes);
});

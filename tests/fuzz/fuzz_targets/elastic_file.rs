#![no_main]
//! The target `elastic_file` as a libFuzzer program.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = niwaki_fuzz::elastic_file(bytes);
});

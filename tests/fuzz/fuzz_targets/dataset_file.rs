#![no_main]
//! The target `dataset_file` as a libFuzzer program.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = niwaki_fuzz::dataset_file(bytes);
});

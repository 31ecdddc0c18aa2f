#![no_main]
//! The target `sparse_view` as a libFuzzer program.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = niwaki_fuzz::sparse_view(bytes);
});

#![no_main]
//! The target `block_view` as a libFuzzer program.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = niwaki_fuzz::block_view(bytes);
});

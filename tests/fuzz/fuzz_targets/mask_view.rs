#![no_main]
//! The target `mask_view` as a libFuzzer program.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = niwaki_fuzz::mask_view(bytes);
});

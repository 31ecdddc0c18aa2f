#![no_main]
//! The target `positions_view` as a libFuzzer program.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = niwaki_fuzz::positions_view(bytes);
});

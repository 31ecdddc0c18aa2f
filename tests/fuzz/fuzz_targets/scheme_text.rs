#![no_main]
//! The target `scheme_text` as a libFuzzer program.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = niwaki_fuzz::scheme_text(bytes);
});

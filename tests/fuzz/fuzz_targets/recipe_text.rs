#![no_main]
//! The target `recipe_text` as a libFuzzer program.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = niwaki_fuzz::recipe_text(bytes);
});

#![no_main]
//! The target `gguf_folder` as a libFuzzer program.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = niwaki_fuzz::gguf_folder(bytes);
});

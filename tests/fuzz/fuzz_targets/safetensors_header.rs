#![no_main]
//! The target `safetensors_header` as a libFuzzer program.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = niwaki_fuzz::safetensors_header(bytes);
});

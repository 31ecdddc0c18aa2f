#![no_main]
//! The target `hf_config` as a libFuzzer program.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = niwaki_fuzz::hf_config(bytes);
});

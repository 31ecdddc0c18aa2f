#![no_main]
//! The target `training_state` as a libFuzzer program.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = niwaki_fuzz::training_state(bytes);
});

#![no_main]
//! The target `foreign_checkpoint` as a libFuzzer program.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = niwaki_fuzz::foreign_checkpoint(bytes);
});

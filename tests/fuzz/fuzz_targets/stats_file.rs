#![no_main]
//! The target `stats_file` as a libFuzzer program.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = niwaki_fuzz::stats_file(bytes);
});

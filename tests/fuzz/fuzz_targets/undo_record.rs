#![no_main]
//! The target `undo_record` as a libFuzzer program.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = niwaki_fuzz::undo_record(bytes);
});

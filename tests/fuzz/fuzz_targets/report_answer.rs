#![no_main]
//! The target `report_answer` as a libFuzzer program.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = niwaki_fuzz::report_answer(bytes);
});

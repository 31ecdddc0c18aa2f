#![no_main]
//! The target `device_image` as a libFuzzer program.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = niwaki_fuzz::device_image(bytes);
});

#![no_main]
//! The target `imatrix_dat` as a libFuzzer program.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = niwaki_fuzz::imatrix_dat(bytes);
});

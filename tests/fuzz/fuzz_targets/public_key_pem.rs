#![no_main]
//! The target `public_key_pem` as a libFuzzer program.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = niwaki_fuzz::public_key_pem(bytes);
});

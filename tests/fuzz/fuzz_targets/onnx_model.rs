#![no_main]
//! The target `onnx_model` as a libFuzzer program.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = niwaki_fuzz::onnx_model(bytes);
});

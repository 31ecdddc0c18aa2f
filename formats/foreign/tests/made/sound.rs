//! Sound checkpoints of one module, to be harmed.

use niwaki_foreign::{Activations, Format, quantization_config};
use niwaki_tensors::Dtype;
use serde_json::{Value, json};

use super::{Tensors, Weight, module};

/// A sound checkpoint of one module.
pub(crate) fn sound(format: Format) -> (Tensors, Value) {
    let (scheme, size, dtype) = match format {
        Format::PackQuantized => ("int4/g32/affine", (16, 64), Dtype::BF16),
        Format::IntQuantized => ("int8/row/affine", (16, 64), Dtype::F32),
        Format::Gptq | Format::GptqV2 => ("int4/g32/affine", (16, 64), Dtype::F16),
        Format::Awq => ("int4/g32/affine", (16, 64), Dtype::F16),
        _ => ("int4/g32/affine", (16, 64), Dtype::F32),
    };
    let (mut tensors, outline) = Weight::new(scheme, size, 1).stored(format, dtype);
    tensors.put("m.bias", Dtype::F32, &[16], vec![0; 64]);
    let config = quantization_config(&[module("m", &outline)], &[], Activations::Float).unwrap();
    (tensors, json!({ "quantization_config": config }))
}

/// NF4 under double quantization: 160 weights, three blocks.
pub(crate) fn nf4() -> (Tensors, Value) {
    let mut tensors = Tensors::default();
    let floats = |n: usize| (0..n).flat_map(|i| (i as f32 / 16.0 - 1.0).to_le_bytes()).collect();
    tensors.put("m.weight", Dtype::U8, &[80, 1], vec![0x5A; 80]);
    tensors.put("m.weight.absmax", Dtype::U8, &[3], vec![1, 2, 3]);
    tensors.put("m.weight.quant_map", Dtype::F32, &[16], floats(16));
    tensors.put("m.weight.nested_absmax", Dtype::F32, &[1], floats(1));
    tensors.put("m.weight.nested_quant_map", Dtype::F32, &[256], floats(256));
    let state = r#"{"quant_type":"nf4","blocksize":64,"dtype":"bfloat16","shape":[10,16],"nested_blocksize":256,"nested_dtype":"float32","nested_offset":0.25}"#;
    let name = "m.weight.quant_state.bitsandbytes__nf4";
    tensors.put(name, Dtype::U8, &[state.len()], state.as_bytes().to_vec());
    (tensors, json!({ "quantization_config": { "quant_method": "bitsandbytes" } }))
}

/// Squares of 16 over 20x40.
pub(crate) fn fp8() -> (Tensors, Value) {
    let mut tensors = Tensors::default();
    tensors.put("m.weight", Dtype::F8_E4M3, &[20, 40], vec![0x38; 800]);
    tensors.put("m.weight_scale_inv", Dtype::F32, &[2, 3], 1f32.to_le_bytes().repeat(6));
    (tensors, json!({ "quantization_config": { "quant_method": "fp8", "weight_block_size": [16, 16] } }))
}

pub(crate) fn mxfp4() -> (Tensors, Value) {
    let mut tensors = Tensors::default();
    tensors.put("e.gate_blocks", Dtype::U8, &[2, 3, 4, 16], vec![0x21; 384]);
    tensors.put("e.gate_scales", Dtype::U8, &[2, 3, 4], vec![127; 24]);
    (tensors, json!({ "quantization_config": { "quant_method": "mxfp4" } }))
}

/// Replaces a tensor by one of zeros.
pub(crate) fn zeros(tensors: &mut Tensors, name: &str, dtype: Dtype, shape: &[usize]) {
    let bytes = shape.iter().product::<usize>() * dtype.bitsize() / 8;
    tensors.put(name, dtype, shape, vec![0; bytes]);
}

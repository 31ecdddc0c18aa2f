//! The configurations that are written, whole.

#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

use niwaki_codes::Scheme;
use niwaki_codes::floats::Float;
use niwaki_foreign::{Activations, Format, Module, ModuleScheme, quantization_config};
use serde_json::{Value, json};

fn module(name: &'static str, format: Format, scheme: &str) -> Module<'static> {
    let scheme = match scheme.parse::<Scheme>() {
        Ok(Scheme::Uniform(uniform)) => ModuleScheme::Uniform(uniform),
        _ => ModuleScheme::Float(scheme.parse::<Float>().unwrap()),
    };
    Module { name, format, scheme }
}

fn weights_alone(modules: &[Module<'_>], ignore: &[&str]) -> Value {
    quantization_config(modules, ignore, Activations::Float).unwrap()
}

fn dynamic(modules: &[Module<'_>]) -> Value {
    quantization_config(modules, &["lm_head"], Activations::Dynamic).unwrap()
}

fn weights(bits: u32, kind: &str, strategy: &str, group: Option<u32>) -> Value {
    json!({
        "dynamic": false, "group_size": group, "num_bits": bits, "strategy": strategy, "symmetric": true, "type": kind,
    })
}

fn tokens(kind: &str) -> Value {
    json!({ "dynamic": true, "group_size": null, "num_bits": 8, "strategy": "token", "symmetric": true, "type": kind })
}

fn compressed(format: &str, groups: Value, ignore: &[&str]) -> Value {
    json!({
        "config_groups": groups, "format": format, "global_compression_ratio": null, "ignore": ignore,
        "kv_cache_scheme": null, "quant_method": "compressed-tensors", "quantization_status": "compressed",
        "version": "0.20.0",
    })
}

fn group(format: &str, weights: Value, inputs: Value, targets: &[&str]) -> Value {
    json!({
        "format": format, "input_activations": inputs, "output_activations": null, "targets": targets, "weights": weights,
    })
}

#[test]
fn w4a16_of_compressed_tensors() {
    let modules =
        [module("a", Format::PackQuantized, "int4/g128/sym"), module("b", Format::PackQuantized, "int4/g128/sym")];
    let one = group("pack-quantized", weights(4, "int", "group", Some(128)), Value::Null, &["Linear"]);
    let expected = compressed("pack-quantized", json!({ "group_0": one }), &["lm_head"]);
    assert_eq!(weights_alone(&modules, &["lm_head"]), expected);
}

#[test]
fn w8a8_and_fp8_with_inputs_quantized_as_they_come() {
    let int8 = group("int-quantized", weights(8, "int", "channel", None), tokens("int"), &["Linear"]);
    let expected = compressed("int-quantized", json!({ "group_0": int8 }), &["lm_head"]);
    assert_eq!(dynamic(&[module("a", Format::IntQuantized, "int8/row/sym")]), expected);
    let fp8 = group("float-quantized", weights(8, "float", "channel", None), tokens("float"), &["Linear"]);
    let expected = compressed("float-quantized", json!({ "group_0": fp8 }), &["lm_head"]);
    assert_eq!(dynamic(&[module("a", Format::FloatQuantized, "fp8_e4m3/row")]), expected);
    let packed = [module("a", Format::PackQuantized, "int4/row/sym")];
    let error = quantization_config(&packed, &[], Activations::Dynamic).unwrap_err();
    let message =
        "compressed-tensors pack-quantized cannot hold int4/row/sym: its inputs are not quantized as they come";
    assert_eq!(error.to_string(), message);
}

#[test]
fn several_schemes_of_compressed_tensors_name_their_modules() {
    let modules = [
        module("b", Format::PackQuantized, "int4/g64/sym"),
        module("a", Format::FloatQuantized, "fp8_e4m3/b128"),
        module("c", Format::PackQuantized, "int4/g64/sym"),
    ];
    let mut square = weights(8, "float", "block", None);
    square["block_structure"] = json!([128, 128]);
    let groups = json!({
        "group_0": group("pack-quantized", weights(4, "int", "group", Some(64)), Value::Null, &["b", "c"]),
        "group_1": group("float-quantized", square, Value::Null, &["a"]),
    });
    assert_eq!(weights_alone(&modules, &[]), compressed("mixed-precision", groups, &[]));
}

#[test]
fn gptq_lists_what_differs_and_what_stays() {
    let modules = [
        module("model.layers.0.mlp", Format::GptqV2, "int4/g128/sym"),
        module("model.layers.1.mlp", Format::GptqV2, "int8/row/affine"),
    ];
    let expected = json!({
        "bits": 4, "checkpoint_format": "gptq_v2", "desc_act": false, "group_size": 128, "lm_head": false,
        "pack_dtype": "int32", "quant_method": "gptq", "sym": true,
        "dynamic": {
            r"+:^model\.layers\.1\.mlp$": { "bits": 8, "group_size": -1, "sym": false },
            r"-:^lm_head$": {},
        },
    });
    assert_eq!(weights_alone(&modules, &["lm_head"]), expected);
}

#[test]
fn gptq_names_what_is_quantized_where_modules_of_blocks_stay() {
    let modules = [
        module("model.layers.0.mlp", Format::Gptq, "int4/g128/sym"),
        module("model.layers.1.mlp", Format::Gptq, "int4/g128/sym"),
    ];
    let expected = json!({
        "bits": 4, "checkpoint_format": "gptq", "desc_act": false, "group_size": 128, "lm_head": false,
        "pack_dtype": "int32", "quant_method": "gptq", "sym": true,
        "dynamic": { r"-:^lm_head$": {}, r"-:^model\.layers\.0\.attn$": {} },
        "modules_in_block_to_quantize": [["model.layers.0.mlp", "model.layers.1.mlp"]],
    });
    assert_eq!(weights_alone(&modules, &["lm_head", "model.layers.0.attn"]), expected);
}

#[test]
fn awq_has_one_scheme_for_all() {
    let one = module("a", Format::Awq, "int4/g64/sym");
    let expected = json!({
        "bits": 4, "group_size": 64, "modules_to_not_convert": ["lm_head"], "quant_method": "awq", "version": "gemm",
        "zero_point": true,
    });
    // Zero points are stored either way.
    assert_eq!(weights_alone(&[one, module("b", Format::Awq, "int4/g64/affine")], &["lm_head"]), expected);
    let other = module("b", Format::Awq, "int4/g32/sym");
    let error = quantization_config(&[one, other], &[], Activations::Float).unwrap_err();
    assert_eq!(error.to_string(), "AWQ has one scheme for all; int4/g64/sym (AWQ) and int4/g32/sym (AWQ) differ");
}

#[test]
fn mlx_overrides_by_module() {
    let modules = [
        module("a", Format::Mlx, "int4/g64/affine"),
        module("b", Format::Mlx, "int8/g32/affine"),
        module("c", Format::MlxMxfp4, "mxfp4"),
    ];
    let expected = json!({
        "bits": 4, "group_size": 64, "mode": "affine",
        "b": { "bits": 8, "group_size": 32, "mode": "affine" },
        "c": { "bits": 4, "group_size": 32, "mode": "mxfp4" },
        "lm_head": false,
    });
    assert_eq!(weights_alone(&modules, &["lm_head"]), expected);
}

#[test]
fn fp8_in_squares_as_deepseek_has_it() {
    let expected = json!({
        "activation_scheme": "dynamic", "fmt": "e4m3", "modules_to_not_convert": ["gate"], "quant_method": "fp8",
        "weight_block_size": [128, 128],
    });
    assert_eq!(weights_alone(&[module("a", Format::Fp8, "fp8_e4m3/b128")], &["gate"]), expected);
}

#[test]
fn families_do_not_mix_and_no_module_is_no_configuration() {
    let modules = [module("a", Format::Awq, "int4/g64/sym"), module("b", Format::Gptq, "int4/g64/sym")];
    assert!(quantization_config(&modules, &[], Activations::Float).is_err());
    assert!(quantization_config(&[], &[], Activations::Float).is_err());
}

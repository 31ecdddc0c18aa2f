//! Quantized checkpoints of others are recognised, plain ones are not.

#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod scratch;

use niwaki_tensors::{Checkpoint, Dtype, ForeignKind, Limits, Overwrite, byte_len, write_file};
use scratch::Scratch;

type Tensor<'a> = (&'a str, Dtype, &'a [usize]);

/// What is seen in a checkpoint of these tensors, beside this `config.json`.
fn seen(tensors: &[Tensor<'_>], config: Option<&str>) -> Option<(ForeignKind, String)> {
    let folder = Scratch::new();
    if let Some(config) = config {
        folder.write("config.json", config);
    }
    let bytes: Vec<Vec<u8>> =
        tensors.iter().map(|(_, dtype, shape)| vec![0; byte_len(*dtype, shape.iter().product()).unwrap()]).collect();
    let all: Vec<_> = tensors.iter().zip(&bytes).map(|((n, d, s), b)| (*n, *d, *s, &b[..])).collect();
    let path = folder.join("model.safetensors");
    write_file(&path, &all, &[], Overwrite::Refuse).unwrap();
    let foreign = Checkpoint::open(&path, &Limits::default()).unwrap().foreign()?;
    assert_eq!(foreign.hint(), "begin with the checkpoint that it was made from");
    Some((foreign.kind().clone(), foreign.tensor().to_owned()))
}

fn is(kind: ForeignKind, tensor: &str) -> Option<(ForeignKind, String)> {
    Some((kind, tensor.to_owned()))
}

const PLAIN: Tensor<'_> = ("norm.weight", Dtype::BF16, &[64]);

#[test]
fn plain_checkpoints_pass() {
    assert_eq!(seen(&[], None), None);
    assert_eq!(seen(&[PLAIN, ("scales", Dtype::F32, &[8, 8])], None), None);
    let names: [Tensor<'_>; 9] = [
        ("l.weight", Dtype::F32, &[8, 8]),
        ("l.scales", Dtype::F32, &[8]),
        ("l.biases", Dtype::F32, &[8]),
        ("l.weight_scale", Dtype::F32, &[8]),
        ("l.qweight", Dtype::F32, &[8, 8]),
        ("l.qzeros", Dtype::F32, &[8]),
        ("x_blocks", Dtype::U8, &[8]),
        ("l.absmax", Dtype::F32, &[8]),
        ("l.ids", Dtype::I64, &[8, 8]),
    ];
    assert_eq!(seen(&names, None), None);
    // Codes without scales: F8 and integers carried as they are.
    assert_eq!(
        seen(
            &[("w", Dtype::F8_E4M3, &[8, 8]), ("m.weight", Dtype::I8, &[8, 8]), ("u.weight", Dtype::U32, &[8, 8])],
            None
        ),
        None
    );
}

#[test]
fn a_config_alone_proves_nothing() {
    for method in ["gptq", "fp8", "something"] {
        let config = format!(r#"{{"quantization_config":{{"quant_method":"{method}"}}}}"#);
        assert_eq!(seen(&[PLAIN, ("w", Dtype::BF16, &[8, 8])], Some(&config)), None);
    }
    assert_eq!(seen(&[PLAIN], Some("{ not json")), None);
}

#[test]
fn fp8() {
    let w: Tensor<'_> = ("l.weight", Dtype::F8_E4M3, &[8, 8]);
    let found = is(ForeignKind::Fp8, "l.weight");
    assert_eq!(seen(&[PLAIN, w, ("l.weight_scale_inv", Dtype::F32, &[1, 1])], None), found);
    assert_eq!(seen(&[w, ("l.weight_scale", Dtype::F32, &[1])], None), found);
    assert_eq!(seen(&[w, ("l.scale_weight", Dtype::F32, &[])], None), found);
    assert_eq!(seen(&[w], Some(r#"{"quantization_config":{"quant_method":"fp8"}}"#)), found);
}

const SCALES: Tensor<'_> = ("l.scales", Dtype::F16, &[2, 64]);
const QZEROS: Tensor<'_> = ("l.qzeros", Dtype::I32, &[2, 8]);

#[test]
fn gptq() {
    let found = is(ForeignKind::Gptq, "l.qweight");
    let qweight: Tensor<'_> = ("l.qweight", Dtype::I32, &[8, 64]);
    let g_idx: Tensor<'_> = ("l.g_idx", Dtype::I32, &[64]);
    assert_eq!(seen(&[PLAIN, g_idx, qweight, QZEROS, SCALES], None), found);
    assert_eq!(seen(&[qweight, QZEROS, SCALES], None), found);
    let gptq = r#"{"quantization_config":{"quant_method":"gptq","bits":4}}"#;
    assert_eq!(seen(&[qweight, QZEROS, SCALES], Some(gptq)), found);
}

#[test]
fn awq() {
    let found = is(ForeignKind::Awq, "l.qweight");
    let qweight: Tensor<'_> = ("l.qweight", Dtype::I32, &[64, 8]);
    assert_eq!(seen(&[qweight, QZEROS, SCALES], None), found);
    let awq = r#"{"quantization_config":{"quant_method":"awq"}}"#;
    assert_eq!(seen(&[("l.qweight", Dtype::I32, &[8, 64]), QZEROS, SCALES], Some(awq)), found);
}

#[test]
fn compressed_tensors() {
    let packed: Tensor<'_> = ("l.weight_packed", Dtype::I32, &[8, 1]);
    let scale: Tensor<'_> = ("l.weight_scale", Dtype::BF16, &[8, 1]);
    let found = is(ForeignKind::CompressedTensors, "l.weight_packed");
    assert_eq!(seen(&[packed, scale, ("l.weight_shape", Dtype::I64, &[2])], None), found);
    let int8: Tensor<'_> = ("l.weight", Dtype::I8, &[8, 8]);
    assert_eq!(seen(&[int8, scale], None), is(ForeignKind::CompressedTensors, "l.weight"));
    let config = r#"{"quantization_config":{"quant_method":"compressed-tensors","format":"float-quantized"}}"#;
    let fp8: Tensor<'_> = ("l.weight", Dtype::F8_E4M3, &[8, 8]);
    assert_eq!(seen(&[fp8, scale], Some(config)), is(ForeignKind::CompressedTensors, "l.weight"));
    let sparse: [Tensor<'_>; 2] =
        [("l.weight.bitmask", Dtype::U8, &[8, 1]), ("l.weight.compressed", Dtype::BF16, &[9])];
    assert_eq!(seen(&sparse, None), is(ForeignKind::CompressedTensors, "l.weight.bitmask"));
}

#[test]
fn bitsandbytes() {
    let nf4: [Tensor<'_>; 4] = [
        ("l.weight", Dtype::U8, &[32, 1]),
        ("l.weight.absmax", Dtype::F32, &[1]),
        ("l.weight.quant_map", Dtype::F32, &[16]),
        ("l.weight.quant_state.bitsandbytes__nf4", Dtype::U8, &[80]),
    ];
    assert_eq!(seen(&nf4, None), is(ForeignKind::BitsAndBytes, "l.weight"));
    let int8: [Tensor<'_>; 2] = [("l.weight", Dtype::I8, &[8, 8]), ("l.SCB", Dtype::F32, &[8])];
    assert_eq!(seen(&int8, None), is(ForeignKind::BitsAndBytes, "l.weight"));
}

#[test]
fn mxfp4() {
    let found = is(ForeignKind::Mxfp4, "experts.down_proj_blocks");
    let blocks: Tensor<'_> = ("experts.down_proj_blocks", Dtype::U8, &[2, 8, 1, 16]);
    assert_eq!(seen(&[blocks, ("experts.down_proj_scales", Dtype::U8, &[2, 8, 1])], None), found);
}

#[test]
fn mlx() {
    let w: Tensor<'_> = ("l.weight", Dtype::U32, &[8, 8]);
    let (scales, biases): (Tensor<'_>, Tensor<'_>) =
        (("l.scales", Dtype::BF16, &[8, 1]), ("l.biases", Dtype::BF16, &[8, 1]));
    assert_eq!(seen(&[w, scales, biases], None), is(ForeignKind::Mlx, "l.weight"));
    assert_eq!(seen(&[w, ("l.scales", Dtype::U8, &[8, 2])], None), is(ForeignKind::Mlx, "l.weight"));
}

#[test]
fn methods_without_a_signature_here() {
    let config = r#"{"quantization_config":{"quant_method":"hqq"}}"#;
    let found = is(ForeignKind::Named("hqq".to_owned()), "l.W_q");
    assert_eq!(seen(&[PLAIN, ("l.W_q", Dtype::U8, &[8, 8])], Some(config)), found);
}

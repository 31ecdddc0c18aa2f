//! Small floats are encoded to the bytes that compressed-tensors stores, where both choose scales
//! by the same rule.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;

use niwaki_codes::floats::Float;
use niwaki_codes::simd::Level;
use niwaki_foreign::{Format, float_parts};
use niwaki_quant::{FloatOut, Values, encode_float_rows, float_bytes, largest, nvfp4_factor};
use niwaki_tensors::{Checkpoint, Limits};

/// Codes, scales and the factor of a tensor, as they are stored.
fn encoded(float: Float, weights: &[u8], cols: usize) -> [Vec<u8>; 3] {
    let values = Values::F32(weights);
    let most = largest(Level::best(), values).unwrap();
    let (codes, scales) = float_bytes(float, values.len() / cols, cols);
    let (mut codes, mut scales) = (vec![0; codes], vec![0; scales]);
    let out = FloatOut { codes: &mut codes, scales: &mut scales };
    encode_float_rows(Level::best(), float, values, cols, most, out).unwrap();
    [codes, scales, nvfp4_factor(most).to_le_bytes().to_vec()]
}

/// The parts whose bytes differ from those that the tool stored.
fn differing(case: &str, format: Format, float: &str) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../formats/foreign/tests/golden");
    let checkpoint = Checkpoint::open(folder.join(format!("{case}.safetensors")), &Limits::default()).unwrap();
    let source = checkpoint.get("source").unwrap();
    let float = float.parse().unwrap();
    let ours = encoded(float, source.bytes(), source.shape()[1]);
    let parts = float_parts(format, "m.weight", float, source.shape()).unwrap();
    let mut differing = Vec::new();
    for (part, ours) in parts.iter().zip(&ours) {
        let theirs = checkpoint.get(&part.name).unwrap();
        assert_eq!((theirs.dtype(), theirs.shape()), (part.dtype, &part.shape[..]), "{case} {}", part.name);
        if theirs.bytes() != ours {
            let same = theirs.bytes().iter().zip(ours).filter(|(a, b)| a == b).count();
            differing.push(format!("{} ({same} of {} bytes are the same)", part.name, ours.len()));
        }
    }
    differing
}

#[test]
fn fp8_and_nvfp4_are_those_of_compressed_tensors() {
    let none: [String; 0] = [];
    assert_eq!(differing("ct-fp8-row", Format::FloatQuantized, "fp8_e4m3/row"), none);
    assert_eq!(differing("ct-fp8-tensor", Format::FloatQuantized, "fp8_e4m3/tensor"), none);
    assert_eq!(differing("ct-fp8-block", Format::FloatQuantized, "fp8_e4m3/b16"), none);
    assert_eq!(differing("ct-nvfp4", Format::Nvfp4Packed, "nvfp4"), none);
}

#[test]
fn a_difference_would_be_seen() {
    // The squares of another side have as many codes and other scales.
    let found = std::panic::catch_unwind(|| differing("ct-fp8-block", Format::FloatQuantized, "fp8_e4m3/b32"));
    assert!(found.is_err());
    assert!(!differing("ct-mxfp4", Format::Mxfp4Packed, "mxfp4").is_empty());
}

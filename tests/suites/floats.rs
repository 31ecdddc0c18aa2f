//! Small floats from one crate to the next: what is encoded has the parts of a container, and
//! our view decodes what other tools store to the numbers that their layouts decode to.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;

use niwaki_codes::simd::Level;
use niwaki_codes::{Float, FloatView, Scheme, Shape};
use niwaki_conformance::checkpoints::weights;
use niwaki_conformance::compressed::bytes;
use niwaki_container::{Layout, Part};
use niwaki_foreign::Imported;
use niwaki_quant::{FloatOut, Values, encode_float_rows, float_bytes, largest, nvfp4_factor};
use niwaki_tensors::{Checkpoint, Dtype, Limits};

const TEXTS: [&str; 7] =
    ["fp8_e4m3/tensor", "fp8_e4m3/row", "fp8_e4m3/b128", "fp8_e4m3/b16", "nvfp4", "nf4/g64", "nf4/g7"];

#[test]
fn what_is_encoded_fills_the_parts_of_a_container_and_decodes_to_what_was_measured() {
    for text in TEXTS {
        for (rows, cols) in [(40, 150), (3, 37), (1, 1), (130, 64)] {
            let Scheme::Float(float) = text.parse().unwrap() else { panic!("{text} is no float") };
            let x = weights(7, rows * cols);
            let source = bytes(Dtype::F32, &x);
            let values = Values::F32(&source);
            let most = largest(Level::best(), values).unwrap();
            let (codes, scales) = float_bytes(float, rows, cols);
            let (mut codes, mut scales) = (vec![0; codes], vec![0; scales]);
            let out = FloatOut { codes: &mut codes, scales: &mut scales };
            let measured = encode_float_rows(Level::best(), float, values, cols, most, out).unwrap();

            let shape = Shape::new(&[rows, cols]).unwrap();
            let layout = Layout { scheme: Some(Scheme::Float(float)), ..Layout::plain(Dtype::F32, shape) };
            let parts = layout.parts().unwrap();
            let needs = |part| parts.iter().find(|spec| spec.part == part).map(|spec| spec.bytes);
            assert_eq!((needs(Part::Codes), needs(Part::Scales)), (Some(codes.len()), Some(scales.len())), "{text}");
            let factor = nvfp4_factor(most).to_le_bytes();
            let factor = needs(Part::Factor).map(|_| &factor[..]);

            let view = FloatView::new(float, rows, cols, &codes, &scales, factor).unwrap();
            assert_eq!(view.check(), Ok(()), "{text} {rows}x{cols}");
            let mut y = vec![f32::NAN; rows * cols];
            view.dequantize_rows(Level::best(), 0..rows, &mut y).unwrap();
            // The largest error is exact: the encoder measures what its codes decode to.
            let worst = x.iter().zip(&y).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
            assert_eq!((worst, x.len() as u64), (measured.max_abs, measured.elements), "{text} {rows}x{cols}");
        }
    }
}

/// The numbers of the tensor that a tool stored: by our view of its bytes, and by its layout.
fn both(case: &str, text: &str) -> [Vec<f32>; 2] {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../formats/foreign/tests/golden");
    let checkpoint = Checkpoint::open(folder.join(format!("{case}.safetensors")), &Limits::default()).unwrap();
    let config = std::fs::read(folder.join(format!("{case}.json"))).unwrap();
    let config = serde_json::from_slice(&config).unwrap();
    let imported = Imported::open(&checkpoint, Some(&config)).unwrap().unwrap();
    let [tensor] = imported.tensors() else { panic!("{case} has other tensors") };
    let (rows, cols) = (tensor.rows(), tensor.cols());
    let mut theirs = vec![f32::NAN; rows * cols];
    tensor.decode_rows(Level::best(), 0..rows, &mut theirs).unwrap();

    let float: Float = text.parse().unwrap();
    let part = |tails: &[&str]| {
        let names = tails.iter().map(|tail| format!("m.weight{tail}"));
        names.into_iter().find_map(|name| checkpoint.get(&name)).map(|part| part.bytes().to_vec())
    };
    let mut codes = part(&["", "_packed"]).unwrap();
    if let Float::Nf4(_) = float {
        // bitsandbytes puts the first code in the high nibble.
        codes.iter_mut().for_each(|byte| *byte = byte.rotate_left(4));
    }
    let (scales, factor) = (part(&["_scale", ".absmax"]).unwrap(), part(&["_global_scale"]));
    let view = FloatView::new(float, rows, cols, &codes, &scales, factor.as_deref()).unwrap();
    assert_eq!(view.check(), Ok(()), "{case}");
    let mut ours = vec![f32::NAN; rows * cols];
    view.dequantize_rows(Level::best(), 0..rows, &mut ours).unwrap();
    [ours, theirs]
}

#[test]
fn the_view_decodes_what_other_tools_store_bit_for_bit() {
    let cases = [
        ("ct-fp8-tensor", "fp8_e4m3/tensor"),
        ("ct-fp8-row", "fp8_e4m3/row"),
        ("ct-fp8-block", "fp8_e4m3/b16"),
        ("ct-nvfp4", "nvfp4"),
        ("ct-mxfp4", "mxfp4"),
        ("bnb-nf4", "nf4/g64"),
    ];
    for (case, text) in cases {
        let [ours, theirs] = both(case, text);
        assert!(ours.len() > 100, "{case}");
        let differ = ours.iter().zip(&theirs).position(|(a, b)| a.to_bits() != b.to_bits());
        assert_eq!(differ, None, "{case}: {ours:?}, not {theirs:?}");
    }
}

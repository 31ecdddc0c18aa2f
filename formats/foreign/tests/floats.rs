//! Small floats: the layouts that are written are read back.

#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod made;

use made::cases::{float_bytes, float_cases, float_value};
use niwaki_codes::simd::Level;
use niwaki_foreign::{Activations, Format, Imported, Module, ModuleScheme, float_parts, quantization_config};
use serde_json::json;

#[test]
fn small_floats_are_read_back() {
    for (format, float, shape) in float_cases() {
        let name = if format == Format::Mxfp4 { "m.experts" } else { "m.weight" };
        let parts = match (format, &shape[..]) {
            // A stack of squares: the writer's shapes, three-dimensional.
            (Format::Fp8, [planes, rows, cols]) => {
                let mut parts = float_parts(format, name, float, &[*rows, *cols]).unwrap();
                parts.iter_mut().for_each(|part| part.shape.insert(0, *planes));
                assert_eq!(parts, float_parts(format, name, float, &shape).unwrap());
                parts
            }
            _ => float_parts(format, name, float, &shape).unwrap(),
        };
        let stored = float_bytes(&parts);
        let module = Module { name: "m", format, scheme: ModuleScheme::Float(float) };
        let config = quantization_config(&[module], &[], Activations::Float).unwrap();
        let config = json!({ "quantization_config": config });
        let inventory = stored.inventory();
        let imported = Imported::of(&inventory, Some(&config)).unwrap().unwrap();
        let [tensor] = imported.tensors() else { panic!("{format}") };
        assert_eq!((tensor.format(), tensor.shape(), tensor.parts().len()), (format, &shape[..], parts.len()));
        let (rows, cols) = (shape[shape.len() - 2], shape[shape.len() - 1]);
        let mut all = vec![0.0; tensor.rows() * cols];
        tensor.decode_rows(Level::best(), 0..tensor.rows(), &mut all).unwrap();
        let head = name.strip_suffix("weight").unwrap_or(name);
        for (i, x) in all.iter().enumerate() {
            let (line, col) = (i / cols, i % cols);
            let expected = float_value(float, &stored, head, (line / rows, line % rows, rows), (col, cols));
            assert_eq!(*x, expected as f32, "{format} {float} at {i}");
        }
    }
}

#[test]
fn small_floats_that_a_format_cannot_hold_are_refused() {
    let message = |format, float: &str, shape: &[usize]| {
        float_parts(format, "w", float.parse().unwrap(), shape).unwrap_err().to_string()
    };
    assert_eq!(
        message(Format::Awq, "mxfp4", &[8, 32]),
        "tensor `w`: AWQ cannot hold mxfp4: its codes are integers; the nearest is int4/g64/sym"
    );
    assert_eq!(
        message(Format::Fp8, "nvfp4", &[8, 32]),
        "tensor `w`: FP8 with scales cannot hold nvfp4: its codes are e4m3; the nearest is fp8_e4m3/row"
    );
    let divides = "tensor `w`: MXFP4 cannot hold mxfp4: groups of 32 do not divide rows of 48";
    assert_eq!(message(Format::Mxfp4, "mxfp4", &[8, 48]), divides);
}

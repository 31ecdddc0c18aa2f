//! What is written, read back: by decoders that share nothing with the crate, and by the crate.

#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod made;

use made::cases::{cases, naming};
use made::{Tensors, Weight, module};
use niwaki_codes::simd::Level;
use niwaki_codes::{Scheme, Uniform};
use niwaki_foreign::{Activations, ErrorKind, Format, Imported, Outline, quantization_config};
use niwaki_tensors::Dtype;
use serde_json::{Value, json};

fn config(outline: &Outline) -> Value {
    let config = quantization_config(&[module("m", outline)], &[], Activations::Float).unwrap();
    json!({ "quantization_config": config })
}

/// The numbers that the stored tensors mean, bit by bit from the descriptions of the formats.
fn naive(format: Format, stored: &Tensors, (rows, cols): (usize, usize), bits: usize) -> Vec<f64> {
    let mut all = Vec::new();
    for row in 0..rows {
        for col in 0..cols {
            all.push(match format {
                Format::PackQuantized => packed(stored, row, (rows, cols), col, bits),
                Format::IntQuantized => bytes(stored, row, cols, col),
                Format::Gptq | Format::GptqV2 => gptq(stored, row, rows, (col, cols), bits, format),
                Format::Awq => awq(stored, row, rows, (col, cols)),
                _ => mlx(stored, row, (cols, col), bits),
            });
        }
    }
    all
}

/// The group of a column, where `line` groups share a row of `cols`.
fn group(line: usize, cols: usize, col: usize) -> usize {
    col / (cols / line)
}

fn packed(stored: &Tensors, row: usize, (_, cols): (usize, usize), col: usize, bits: usize) -> f64 {
    let words = stored.all["m.weight_packed"].1[1];
    let code = stored.bits("m.weight_packed", col * bits, bits, |k| row * words + k);
    let half = 1 << (bits - 1);
    let shape = &stored.all["m.weight_scale"].1;
    let (index, line) = if shape.len() == 1 { (0, 1) } else { (row * shape[1] + group(shape[1], cols, col), shape[1]) };
    let zero = match stored.all.contains_key("m.weight_zero_point") {
        true => stored.bits("m.weight_zero_point", row * bits, bits, |k| k * line + index % line) as i32 - half,
        false => 0,
    };
    f64::from(stored.float("m.weight_scale", index)) * f64::from(code as i32 - half - zero)
}

fn bytes(stored: &Tensors, row: usize, cols: usize, col: usize) -> f64 {
    let shape = &stored.all["m.weight_scale"].1;
    let index = if shape.len() == 1 { 0 } else { row * shape[1] + group(shape[1], cols, col) };
    let code = stored.all["m.weight"].2[row * cols + col] as i8;
    let zero = stored.all.get("m.weight_zero_point").map_or(0, |zeros| zeros.2[index] as i8);
    f64::from(stored.float("m.weight_scale", index)) * (f64::from(code) - f64::from(zero))
}

fn gptq(stored: &Tensors, row: usize, rows: usize, (col, cols): (usize, usize), bits: usize, format: Format) -> f64 {
    let code = stored.bits("m.qweight", col * bits, bits, |k| k * rows + row);
    let group = stored.word("m.g_idx", col) as usize;
    assert_eq!(group, col / (cols / stored.all["m.scales"].1[0]));
    let words = stored.all["m.qzeros"].1[1];
    let zero = stored.bits("m.qzeros", row * bits, bits, |k| group * words + k) + u32::from(format == Format::Gptq);
    f64::from(stored.float("m.scales", group * rows + row)) * (f64::from(code) - f64::from(zero))
}

fn awq(stored: &Tensors, row: usize, rows: usize, (col, cols): (usize, usize)) -> f64 {
    let nibble = [0, 2, 4, 6, 1, 3, 5, 7].iter().position(|output| *output == row % 8).unwrap();
    let of = |name: &str, line: usize| stored.word(name, line * (rows / 8) + row / 8) >> (4 * nibble) & 15;
    let group = group(stored.all["m.scales"].1[0], cols, col);
    let scale = stored.float("m.scales", group * rows + row);
    f64::from(scale) * (f64::from(of("m.qweight", col)) - f64::from(of("m.qzeros", group)))
}

fn mlx(stored: &Tensors, row: usize, (cols, col): (usize, usize), bits: usize) -> f64 {
    let (words, line) = (stored.all["m.weight"].1[1], stored.all["m.scales"].1[1]);
    let code = stored.bits("m.weight", col * bits, bits, |k| row * words + k);
    let index = row * line + group(line, cols, col);
    f64::from(stored.float("m.scales", index)) * f64::from(code) + f64::from(stored.float("m.biases", index))
}

#[test]
fn plain_decoders_find_the_numbers() {
    for (format, weight, dtype) in cases() {
        let (stored, _) = weight.stored(format, dtype);
        let found = naive(format, &stored, (weight.rows, weight.cols), weight.scheme.bits.get() as usize);
        let given: Vec<f64> =
            (0..weight.rows * weight.cols).map(|i| weight.value(i / weight.cols, i % weight.cols)).collect();
        assert!(found == given, "{}", naming(format, &weight));
    }
}

#[test]
fn a_plain_decoder_sees_one_wrong_bit() {
    let weight = Weight::new("int3/g32/affine", (64, 96), 1);
    let (good, _) = weight.stored(Format::Gptq, Dtype::F16);
    let found = |stored: &Tensors| naive(Format::Gptq, stored, (64, 96), 3);
    for name in ["m.qweight", "m.qzeros", "m.scales"] {
        let mut bad = good.clone();
        bad.all.get_mut(name).unwrap().2[17] ^= 4;
        assert_ne!(found(&bad), found(&good), "{name}");
    }
}

#[test]
fn what_is_written_is_read_back() {
    for (format, weight, dtype) in cases() {
        let name = naming(format, &weight);
        let (stored, outline) = weight.stored(format, dtype);
        let (inventory, config) = (stored.inventory(), config(&outline));
        let imported = Imported::of(&inventory, Some(&config)).unwrap_or_else(|e| panic!("{name}: {e}")).unwrap();
        let [tensor] = imported.tensors() else { panic!("{name}") };
        assert_eq!(
            (tensor.name(), tensor.format(), tensor.shape()),
            ("m.weight", format, &[weight.rows, weight.cols][..])
        );
        assert_eq!(tensor.parts().len(), outline.parts().len(), "{name}");
        let mut all = vec![0.0; weight.rows * weight.cols];
        tensor.decode_rows(Level::best(), 0..weight.rows, &mut all).unwrap();
        for (i, x) in all.iter().enumerate() {
            assert_eq!(f64::from(*x), weight.value(i / weight.cols, i % weight.cols), "{name} at {i}");
        }
        same_codes(&name, tensor, &weight);
    }
}

/// Codes, scales and zero points are taken over as they were.
fn same_codes(name: &str, tensor: &niwaki_foreign::Logical<'_>, weight: &Weight) {
    let Some(scheme) = tensor.uniform() else { panic!("{name}: on no grid of ours") };
    assert_eq!(scheme.bits, weight.scheme.bits, "{name}");
    let parts = tensor.uniform_rows(Level::best(), &scheme, 0..weight.rows).unwrap();
    let row_bytes = scheme.row_bytes(weight.cols);
    let mut codes = vec![0; weight.codes.len()];
    for (packed, codes) in parts.codes.chunks(row_bytes).zip(codes.chunks_mut(weight.cols)) {
        niwaki_codes::unpack_row(Level::best(), scheme.bits, packed, codes).unwrap();
    }
    assert_eq!(codes, weight.codes, "{name}");
}

fn uniform(text: &str) -> Uniform {
    let Scheme::Uniform(scheme) = text.parse().unwrap() else { panic!("{text}") };
    scheme
}

/// A format, a scheme, rows and columns, and why the format cannot hold that.
type Refusal = (Format, &'static str, (usize, usize), &'static str);

const REFUSALS: [Refusal; 10] = [
    (
        Format::Awq,
        "int3/g32/sym",
        (8, 64),
        "AWQ cannot hold int3/g32/sym: its widths are 4; the nearest is int4/g32/sym",
    ),
    (
        Format::Gptq,
        "int5/g48/affine",
        (32, 64),
        "GPTQ cannot hold int5/g48/affine: its widths are 2, 3, 4, 8; the nearest is int8/g16/affine",
    ),
    (
        Format::PackQuantized,
        "int4/g64/sym",
        (8, 96),
        "compressed-tensors pack-quantized cannot hold int4/g64/sym: groups of 64 do not divide rows of 96; the nearest is int4/g32/sym",
    ),
    (
        Format::PackQuantized,
        "int4/g64/sym",
        (8, 90),
        "compressed-tensors pack-quantized cannot hold int4/g64/sym: groups of 64 do not divide rows of 90; the nearest is int4/row/sym",
    ),
    (
        Format::Mlx,
        "int7/g64/sym",
        (8, 64),
        "MLX affine cannot hold int7/g64/sym: its widths are 2, 3, 4, 5, 6, 8; the nearest is int8/g64/sym",
    ),
    (
        Format::Mlx,
        "int4/g16/affine",
        (8, 64),
        "MLX affine cannot hold int4/g16/affine: its groups are 32, 64 and 128; the nearest is int4/g32/affine",
    ),
    (
        Format::Mlx,
        "int4/row/sym",
        (8, 80),
        "MLX affine cannot hold int4/row/sym: none of its groups (32, 64, 128) divides rows of 80",
    ),
    (Format::Awq, "int4/g32/sym", (12, 64), "AWQ cannot hold int4/g32/sym: 12 rows are no multiple of 8"),
    (Format::GptqV2, "int3/row/sym", (32, 80), "GPTQ v2 cannot hold int3/row/sym: rows of 80 are no multiple of 32"),
    (
        Format::IntQuantized,
        "int4/row/sym",
        (8, 64),
        "compressed-tensors int-quantized cannot hold int4/row/sym: its widths are 8; the nearest is int8/row/sym",
    ),
];

#[test]
fn what_a_format_cannot_hold_names_the_nearest() {
    for (format, scheme, size, message) in REFUSALS {
        let error = Outline::new(format, "m.weight", &uniform(scheme), size, Dtype::F16).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Scheme { .. }), "{error}");
        assert_eq!(error.to_string(), format!("tensor `m.weight`: {message}"));
    }
    let error = Outline::new(Format::Awq, "w", &uniform("int4/g32/sym"), (8, 64), Dtype::F32).unwrap_err();
    assert_eq!(error.to_string(), "tensor `w`: AWQ cannot hold int4/g32/sym: its scales are F16 or BF16, not F32");
}

#[test]
fn a_zero_point_of_zero_is_refused_by_gptq_v1() {
    let mut weight = Weight::new("int4/g32/affine", (8, 64), 1);
    weight.zeros[3] = 0;
    let outline = Outline::new(Format::Gptq, "m.weight", &weight.scheme, (8, 64), Dtype::F16).unwrap();
    let error = outline.pieces(&weight.scheme, 0..8, weight.coded(&(0..8))).unwrap_err();
    let message = "GPTQ cannot hold int4/g32/affine: zero point 0 (row 1, group 1) cannot be stored less one; the nearest is int4/g32/affine in GPTQ v2";
    assert_eq!(error.to_string(), message);
}

#[test]
fn scales_that_are_rounded_are_counted_and_those_that_overflow_refused() {
    let mut weight = Weight::new("int4/g32/sym", (8, 64), 0);
    weight.scales[2] = 0.1;
    weight.scales[5] = 1.0 + f32::EPSILON;
    let outline = Outline::new(Format::Gptq, "m.weight", &weight.scheme, (8, 64), Dtype::F16).unwrap();
    assert_eq!(outline.pieces(&weight.scheme, 0..8, weight.coded(&(0..8))).unwrap().rounded, 2);
    weight.scales[7] = 65536.0;
    let error = outline.pieces(&weight.scheme, 0..8, weight.coded(&(0..8))).unwrap_err();
    assert_eq!(error.to_string(), "scale of group 7 is not finite in the type it is stored in");
}

#[test]
fn rows_that_no_step_allows_are_refused() {
    let weight = Weight::new("int4/row/affine", (70, 32), 0);
    let outline = Outline::new(Format::PackQuantized, "m.weight", &weight.scheme, (70, 32), Dtype::F32).unwrap();
    assert_eq!(outline.step(), Some(32));
    let pieces = |some: std::ops::Range<usize>| outline.pieces(&weight.scheme, some.clone(), weight.coded(&some));
    assert!(pieces(32..64).is_ok() && pieces(64..70).is_ok());
    assert!(matches!(pieces(0..31).unwrap_err().kind(), ErrorKind::Range { .. }));
    assert!(matches!(pieces(8..40).unwrap_err().kind(), ErrorKind::Range { .. }));
    let mut short = weight.coded(&(0..70));
    short.zeros = &short.zeros[1..];
    assert!(matches!(outline.pieces(&weight.scheme, 0..70, short).unwrap_err().kind(), ErrorKind::Range { .. }));
}

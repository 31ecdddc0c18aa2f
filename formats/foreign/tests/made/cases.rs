//! What the formats are asked to hold.

use niwaki_codes::Scheme;
use niwaki_codes::floats::{Blocks, Float, e4m3_to_f32, e8m0_to_f32};
use niwaki_foreign::Format;
use niwaki_tensors::Dtype;

use super::{Random, Tensors, Weight};

/// Each format with the schemes, sizes and types of scales that it is asked to hold.
pub(crate) fn cases() -> Vec<(Format, Weight, Dtype)> {
    let mut cases = Vec::new();
    let mut add =
        |format, scheme: String, size, low, dtype| cases.push((format, Weight::new(&scheme, size, low), dtype));
    for bits in 2..=8 {
        for tail in ["g32/sym", "g32/affine", "row/sym", "row/affine", "tensor/sym", "tensor/affine"] {
            add(Format::PackQuantized, format!("int{bits}/{tail}"), (37, 96), 0, Dtype::F32);
        }
        add(Format::PackQuantized, format!("int{bits}/row/affine"), (70, 33), 0, Dtype::BF16);
    }
    for tail in ["row/sym", "row/affine", "tensor/sym", "g8/affine"] {
        add(Format::IntQuantized, format!("int8/{tail}"), (5, 40), 0, Dtype::F32);
    }
    for bits in [2, 3, 4, 8] {
        for tail in ["g32/sym", "g32/affine", "row/affine", "tensor/sym"] {
            add(Format::Gptq, format!("int{bits}/{tail}"), (64, 96), 1, Dtype::F16);
            add(Format::GptqV2, format!("int{bits}/{tail}"), (64, 96), 0, Dtype::F16);
        }
    }
    for tail in ["g32/sym", "g32/affine", "row/sym", "tensor/affine"] {
        add(Format::Awq, format!("int4/{tail}"), (24, 96), 0, Dtype::F16);
    }
    for bits in [2, 3, 4, 5, 6, 8] {
        for tail in ["g32/sym", "g64/affine", "g128/affine", "row/affine", "tensor/sym"] {
            add(Format::Mlx, format!("int{bits}/{tail}"), (5, 128), 0, Dtype::F32);
        }
    }
    cases
}

pub(crate) fn naming(format: Format, weight: &Weight) -> String {
    format!("{format} {} {}x{}", Scheme::Uniform(weight.scheme), weight.rows, weight.cols)
}

/// Bytes of small floats: codes and scales of no meaning beyond their bits, NaN left out.
pub(crate) fn float_bytes(parts: &[niwaki_foreign::Part]) -> Tensors {
    let mut random = Random::new(9);
    let mut tensors = Tensors::default();
    for part in parts {
        let n = part.shape.iter().product::<usize>();
        let bytes = match part.dtype {
            Dtype::F32 => (0..n).flat_map(|_| (random.below(900) as f32 / 64.0 + 0.5).to_le_bytes()).collect(),
            Dtype::F8_E4M3 => (0..n).map(|_| random.below(0x7F) as u8 | (random.below(2) as u8) << 7).collect(),
            Dtype::U8 if part.name.ends_with("scale") || part.name.ends_with("scales") => {
                (0..n).map(|_| 120 + random.below(12) as u8).collect()
            }
            _ => (0..n * part.dtype.bitsize() / 8).map(|_| random.next() as u8).collect(),
        };
        tensors.put(&part.name, part.dtype, &part.shape, bytes);
    }
    tensors
}

/// The values of FP4, by its definition.
pub(crate) fn fp4(code: u8) -> f64 {
    let (exponent, fraction) = (i32::from(code >> 1 & 3), f64::from(code & 1));
    let magnitude = if exponent == 0 { fraction / 2.0 } else { (1.0 + fraction / 2.0) * 2f64.powi(exponent - 1) };
    if code & 8 == 0 { magnitude } else { -magnitude }
}

pub(crate) fn float_cases() -> Vec<(Format, Float, Vec<usize>)> {
    let square = |side| Float::Fp8E4m3(Blocks::Square(std::num::NonZeroU32::new(side).unwrap()));
    let mut cases = vec![
        (Format::Nvfp4Packed, Float::Nvfp4, vec![5, 64]),
        (Format::Mxfp4Packed, Float::Mxfp4, vec![5, 64]),
        (Format::MlxMxfp4, Float::Mxfp4, vec![5, 64]),
        (Format::Mxfp4, Float::Mxfp4, vec![3, 5, 64]),
        (Format::Fp8, square(16), vec![40, 50]),
        (Format::Fp8, square(128), vec![200, 130]),
        (Format::Fp8, square(16), vec![2, 20, 50]),
    ];
    for format in [Format::Fp8, Format::FloatQuantized] {
        cases.push((format, Float::Fp8E4m3(Blocks::Row), vec![5, 24]));
        cases.push((format, Float::Fp8E4m3(Blocks::Tensor), vec![5, 24]));
    }
    cases.push((Format::FloatQuantized, square(16), vec![40, 50]));
    cases
}

pub(crate) fn float_value(
    float: Float,
    stored: &Tensors,
    name: &str,
    (plane, row, rows): (usize, usize, usize),
    (col, cols): (usize, usize),
) -> f64 {
    let part = |tails: &[&str]| {
        let names = tails.iter().map(|tail| format!("{name}{tail}"));
        names.into_iter().find(|name| stored.all.contains_key(name)).unwrap()
    };
    let line = plane * rows + row;
    match float {
        Float::Fp8E4m3(blocks) => {
            let scale = part(&["weight_scale_inv", "weight_scale"]);
            let index = match blocks {
                Blocks::Tensor => 0,
                Blocks::Row => line,
                Blocks::Square(side) => {
                    let side = side.get() as usize;
                    (plane * rows.div_ceil(side) + row / side) * cols.div_ceil(side) + col / side
                }
            };
            let code = stored.all[&part(&["weight"])].2[line * cols + col];
            f64::from(e4m3_to_f32(code)) * f64::from(stored.float(&scale, index))
        }
        _ => {
            let codes = part(&["weight_packed", "weight", "_blocks"]);
            let scales = part(&["weight_scale", "scales", "_scales"]);
            let byte = stored.all[&codes].2[(line * cols + col) / 2];
            let level = fp4(if col % 2 == 0 { byte & 15 } else { byte >> 4 });
            let group = if float == Float::Nvfp4 { 16 } else { 32 };
            let scale = stored.all[&scales].2[line * (cols / group) + col / group];
            match float {
                Float::Nvfp4 => {
                    // The quotient is rounded to f32, as the tool does it.
                    level * f64::from(e4m3_to_f32(scale) / stored.float(&part(&["weight_global_scale"]), 0))
                }
                _ => level * f64::from(e8m0_to_f32(scale)),
            }
        }
    }
}

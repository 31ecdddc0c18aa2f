//! Codes as initializers of a graph, and the nodes that read them.

use niwaki_codes::Symmetry;
use niwaki_onnx::DataType;
use niwaki_onnx::build::{attr_int, initializer, node};
use niwaki_onnx::proto::{NodeProto, TensorProto};

use super::rewrite::{Codes, Replacement, Rewrite};
use crate::destination::{Form, Node};
use crate::matrix::transposed;
use crate::plan::Planned;
use crate::recontain::Plain;

/// Elements that stand for themselves.
pub(super) fn elements(name: &str, kind: DataType, dims: &[usize], bytes: Vec<u8>) -> TensorProto {
    initializer(name, kind, dims, bytes)
}

/// What takes the place of a weight of type `kind`.
pub(super) fn replacement(
    rewrite: &Rewrite<'_>,
    planned: &Planned,
    form: &Form,
    kind: DataType,
    plain: Plain,
) -> Replacement {
    let name = |what: &str| rewrite.name(&planned.name, what);
    let codes = name("quantized");
    let (scale, zero) = (name("scale"), name("zero_point"));
    match &form.node {
        Node::Linear { codes: of, dims, axis, reshape, cast } => {
            let affine = form.scheme.symmetry == Symmetry::Affine;
            let grid = grid(form, *axis);
            let around =
                |all: &[f32]| swapped(all, form, *axis).iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>();
            let mut tensors = vec![
                initializer(&codes, *of, dims, linear_codes(&plain, form, *of)),
                initializer(&scale, DataType::Float, &grid, around(&plain.scales)),
            ];
            let mut inputs = vec![codes.as_str(), scale.as_str()];
            if affine {
                let zeros = packed(&swapped(&plain.zeros, form, *axis), *of);
                tensors.push(initializer(&zero, *of, &grid, zeros));
                inputs.push(&zero);
            }
            let mut nodes = Vec::new();
            let (flat, float) = (name("flat"), name("float"));
            let last = |done: bool| if done { planned.name.as_str() } else { float.as_str() };
            let first = if *reshape { flat.as_str() } else { last(!*cast) };
            nodes.push(linear(&inputs, first, form, *axis));
            if *reshape {
                let shape = name("shape");
                let dims = planned.layout.shape.dims();
                let numbers = dims.iter().flat_map(|dim| i64::try_from(*dim).unwrap_or(i64::MAX).to_le_bytes());
                tensors.push(initializer(&shape, DataType::Int64, &[dims.len()], numbers.collect::<Vec<_>>()));
                nodes.push(node("Reshape", &[&flat, &shape], &[last(!*cast)], vec![]));
            }
            if *cast {
                nodes.push(node("Cast", &[&float], &[&planned.name], vec![attr_int("to", i64::from(kind.number()))]));
            }
            for node in &mut nodes {
                node.name = Some(rewrite.name(&planned.name, node.op_type()));
            }
            Replacement::Linear { tensors, nodes }
        }
        Node::NBits { scales } => {
            let blocks = form.blocks();
            let group = form.group().unwrap_or(form.cols);
            let bits = form.scheme.bits.get() as usize;
            let bytes: Vec<u8> = match scales {
                DataType::Float16 => plain.scales.iter().flat_map(|x| half::f16::from_f32(*x).to_le_bytes()).collect(),
                _ => plain.scales.iter().flat_map(|x| x.to_le_bytes()).collect(),
            };
            let mut tensors = vec![
                initializer(&codes, DataType::Uint8, &[form.rows, blocks, group * bits / 8], block_codes(&plain, form)),
                initializer(&scale, *scales, &[form.rows * blocks], bytes),
            ];
            if form.scheme.symmetry == Symmetry::Affine {
                let row = |zeros: &[u8]| squeezed(zeros, bits);
                let zeros: Vec<u8> = plain.zeros.chunks(blocks.max(1)).flat_map(row).collect();
                tensors.push(initializer(&zero, DataType::Uint8, &[zeros.len()], zeros));
            }
            Replacement::NBits(Codes { tensors, k: form.cols, n: form.rows, bits, block: group })
        }
    }
}

/// `DequantizeLinear`.
fn linear(inputs: &[&str], output: &str, form: &Form, axis: Option<usize>) -> NodeProto {
    let number = |name: &str, value: usize| attr_int(name, i64::try_from(value).unwrap_or(i64::MAX));
    let mut attributes = Vec::new();
    if let Some(axis) = axis {
        attributes.push(number("axis", axis));
        attributes.extend(form.group().map(|group| number("block_size", group)));
    }
    node("DequantizeLinear", inputs, &[output], attributes)
}

/// The shape of scales and zero points.
fn grid(form: &Form, axis: Option<usize>) -> Vec<usize> {
    match (axis, form.group()) {
        (None, _) => Vec::new(),
        (Some(_), None) => vec![form.rows],
        (Some(_), Some(_)) if form.across => vec![form.blocks(), form.rows],
        (Some(_), Some(_)) => vec![form.rows, form.blocks()],
    }
}

/// Scales or zero points as the weight has its rows.
fn swapped<T: Copy>(all: &[T], form: &Form, axis: Option<usize>) -> Vec<T> {
    match axis.is_some() && form.group().is_some() && form.across {
        true => transposed(all, form.blocks()),
        false => all.to_vec(),
    }
}

/// Codes as `DequantizeLinear` reads them: signed ones around 0, where there are no zero points.
fn linear_codes(plain: &Plain, form: &Form, of: DataType) -> Vec<u8> {
    let codes = match form.across {
        true => transposed(&plain.codes, form.cols),
        false => plain.codes.clone(),
    };
    let middle = match of {
        DataType::Int8 | DataType::Int4 => form.scheme.bits.half() as u8,
        _ => 0,
    };
    let codes: Vec<u8> = codes.into_iter().map(|code| code.wrapping_sub(middle)).collect();
    packed(&codes, of)
}

/// Codes of a type of 8 or 4 bits.
fn packed(codes: &[u8], of: DataType) -> Vec<u8> {
    if of.bits() == 8 { codes.to_vec() } else { squeezed(codes, of.bits()) }
}

/// Codes of 2, 4 or 8 bits, the first in the lowest bits.
fn squeezed(codes: &[u8], bits: usize) -> Vec<u8> {
    let mask = ((1u16 << bits) - 1) as u8;
    let byte = |some: &[u8]| some.iter().enumerate().fold(0, |all, (at, code)| all | (code & mask) << (at * bits));
    codes.chunks(8 / bits).map(byte).collect()
}

/// Codes as `MatMulNBits` reads them: each block in whole bytes, the last of a row filled up with
/// zeros.
fn block_codes(plain: &Plain, form: &Form) -> Vec<u8> {
    let (group, bits) = (form.group().unwrap_or(form.cols).max(1), form.scheme.bits.get() as usize);
    let bytes = group * bits / 8;
    let mut out = Vec::with_capacity(form.rows * form.blocks() * bytes);
    for row in plain.codes.chunks(form.cols.max(1)) {
        for block in row.chunks(group) {
            let filled = out.len() + bytes;
            out.extend(squeezed(block, bits));
            out.resize(filled, 0);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_codes_begin_in_the_lowest_bits() {
        assert_eq!(squeezed(&[1, 2, 0xFF], 4), [0x21, 0x0F]);
        assert_eq!(squeezed(&[1, 2, 3, 0, 1], 2), [0b00_11_10_01, 1]);
        assert_eq!(squeezed(&[7, 255], 8), [7, 255]);
    }
}

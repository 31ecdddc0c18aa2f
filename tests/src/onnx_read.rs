//! The weights of an ONNX model, decoded naively after the words of the specification.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::path::Path;

use niwaki_onnx::proto::NodeProto;
use niwaki_onnx::{Attributes, DataType, Limits, Model, Tensor};

/// A weight: its dimensions and numbers.
pub type Weight = (Vec<usize>, Vec<f32>);

/// Every float that the graph has for nodes to compute with: initializers, what `DequantizeLinear`
/// makes of such and `Reshape` and `Cast` after it; what `MatMulNBits` computes with is listed as
/// `NAME` for codes `NAME_quantized`, transposed as it is stored there.
///
/// # Panics
///
/// If the model cannot be read.
pub fn decoded(path: &str) -> BTreeMap<String, Weight> {
    let model = Model::open(Path::new(path), &Limits::default()).unwrap();
    let mut stored = BTreeMap::new();
    for initializer in model.initializers() {
        stored.insert(initializer.name().to_owned(), model.read(initializer).unwrap());
    }
    let mut out = BTreeMap::new();
    for (name, tensor) in &stored {
        if matches!(tensor.dtype, DataType::Float | DataType::Float16 | DataType::Bfloat16) {
            out.insert(name.clone(), (tensor.dims.clone(), floats(tensor)));
        }
    }
    for node in &model.graph().node {
        match node.op_type() {
            "DequantizeLinear" => {
                let made = linear(node, &stored);
                out.insert(node.output[0].clone(), made);
            }
            "MatMulNBits" => {
                let made = nbits(node, &stored);
                out.insert(node.input[1].strip_suffix("_quantized").unwrap().to_owned(), made);
            }
            "Reshape" if out.contains_key(&node.input[0]) && stored.contains_key(&node.input[1]) => {
                let dims = &stored[&node.input[1]].bytes;
                let dims = dims.as_chunks::<8>().0.iter().map(|d| i64::from_le_bytes(*d) as usize).collect();
                let values = out[&node.input[0]].1.clone();
                out.insert(node.output[0].clone(), (dims, values));
            }
            "Cast" if out.contains_key(&node.input[0]) => {
                let (dims, values) = out[&node.input[0]].clone();
                let half = Attributes::new(node).int("to").unwrap() == 10;
                let narrow =
                    |x: &f32| if half { half::f16::from_f32(*x).to_f32() } else { half::bf16::from_f32(*x).to_f32() };
                out.insert(node.output[0].clone(), (dims, values.iter().map(narrow).collect()));
            }
            _ => {}
        }
    }
    out
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    match tensor.dtype {
        DataType::Float => tensor.bytes.as_chunks::<4>().0.iter().map(|x| f32::from_le_bytes(*x)).collect(),
        DataType::Float16 => {
            tensor.bytes.as_chunks::<2>().0.iter().map(|x| half::f16::from_le_bytes(*x).to_f32()).collect()
        }
        _ => tensor.bytes.as_chunks::<2>().0.iter().map(|x| half::bf16::from_le_bytes(*x).to_f32()).collect(),
    }
}

/// Small integers, signed or not.
fn codes(tensor: &Tensor) -> Vec<i32> {
    let at = |i: usize| i32::from(tensor.bytes[i / 2] >> (i % 2 * 4) & 15);
    (0..tensor.elements())
        .map(|i| match tensor.dtype {
            DataType::Int8 => i32::from(tensor.bytes[i] as i8),
            DataType::Uint8 => i32::from(tensor.bytes[i]),
            DataType::Uint4 => at(i),
            DataType::Int4 => (at(i) ^ 8) - 8,
            other => panic!("codes of {other}"),
        })
        .collect()
}

fn linear(node: &NodeProto, stored: &BTreeMap<String, Tensor>) -> Weight {
    let attributes = Attributes::new(node);
    let x = &stored[&node.input[0]];
    let scale = &stored[&node.input[1]];
    let (q, s) = (codes(x), floats(scale));
    let zero = node.input.get(2).map(|name| codes(&stored[name]));
    let block = attributes.int_or("block_size", 0).unwrap() as usize;
    let axis = attributes.int_or("axis", 1).unwrap() as usize;
    let value = |i: usize| {
        let group = if scale.dims.is_empty() {
            0
        } else {
            let inner: usize = x.dims[axis + 1..].iter().product();
            let along = i / inner % x.dims[axis];
            match block {
                0 => along,
                _ => (i / inner / x.dims[axis] * scale.dims[axis] + along / block) * inner + i % inner,
            }
        };
        (q[i] - zero.as_ref().map_or(0, |zero| zero[group])) as f32 * s[group]
    };
    (x.dims.clone(), (0..q.len()).map(value).collect())
}

fn nbits(node: &NodeProto, stored: &BTreeMap<String, Tensor>) -> Weight {
    let attributes = Attributes::new(node);
    let number = |name: &str| attributes.int(name).unwrap() as usize;
    let (k, n, bits, block) = (number("K"), number("N"), number("bits"), number("block_size"));
    let blocks = k.div_ceil(block);
    let packed = &stored[&node.input[1]];
    assert_eq!(packed.dims, [n, blocks, block * bits / 8]);
    let scales = floats(&stored[&node.input[2]]);
    let zeros = node.input.get(3).filter(|name| !name.is_empty()).map(|name| &stored[name].bytes);
    let code = |bytes: &[u8], at: usize| u32::from(bytes[at * bits / 8]) >> (at * bits % 8) & ((1 << bits) - 1);
    let value = |at: usize| {
        let (row, col) = (at / k, at % k);
        let group = row * blocks + col / block;
        let row_bytes = (blocks * bits).div_ceil(8);
        let zero = zeros.map_or(1 << (bits - 1), |all| code(&all[row * row_bytes..], col / block));
        let bytes = &packed.bytes[group * block * bits / 8..];
        (code(bytes, col % block) as f32 - zero as f32) * scales[group]
    };
    (vec![n, k], (0..n * k).map(value).collect())
}

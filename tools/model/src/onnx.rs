//! Graphs of ONNX models.

mod call;
mod definition;
mod scope;

use std::path::Path;

use niwaki_onnx::proto::NodeProto;
use niwaki_onnx::{DataType, Limits, Model};

use crate::error::{Error, ErrorKind};
use crate::graph::Graph;
use crate::tensor::{Buffer, Data, Dtype, Tensor};
pub use scope::described;
use scope::{Scope, Tally};

/// The graph of a model in a file. Weights point into the file where they are aligned there.
///
/// # Errors
///
/// Those of [`Model::open`] and [`graph`].
pub fn open(path: &Path) -> Result<Graph, Error> {
    // What it says of a file that it cannot open names that file.
    let model = Model::open(path, &Limits::default()).map_err(unreadable)?;
    graph(&model).map_err(|e| e.at(path))
}

/// The graph of a model. Calls of functions that it brings along are written out.
///
/// # Errors
///
/// Operators that are not supported: one error that lists each node. Attributes and weights that
/// do not fit; cycles; values that nothing makes.
pub fn graph(model: &Model) -> Result<Graph, Error> {
    let mut tally = Tally::new(model);
    let mut graph = Scope::new(model, None).fill(model.graph(), &mut tally)?.0;
    if !tally.unsupported.is_empty() {
        return Err(ErrorKind::Operators(tally.unsupported).into());
    }
    graph.sort()?;
    Ok(graph)
}

fn unreadable(error: niwaki_onnx::Error) -> Error {
    ErrorKind::Onnx(Box::new(error)).into()
}

/// The type of elements that computing is done with; integers of less than a byte take a byte.
fn dtype(of: DataType) -> Option<Dtype> {
    Some(match of {
        DataType::Float => Dtype::F32,
        DataType::Double => Dtype::F64,
        DataType::Float16 => Dtype::F16,
        DataType::Bfloat16 => Dtype::BF16,
        DataType::Int64 => Dtype::I64,
        DataType::Int32 => Dtype::I32,
        DataType::Int16 => Dtype::I16,
        DataType::Int8 | DataType::Int4 | DataType::Int2 => Dtype::I8,
        DataType::Uint64 => Dtype::U64,
        DataType::Uint32 => Dtype::U32,
        DataType::Uint16 => Dtype::U16,
        DataType::Uint8 | DataType::Uint4 | DataType::Uint2 => Dtype::U8,
        DataType::Bool => Dtype::BOOL,
        _ => return None,
    })
}

/// A tensor of a model as one to compute with.
///
/// # Errors
///
/// Types that nothing computes with.
pub fn tensor(from: niwaki_onnx::Tensor) -> Result<Tensor, Error> {
    let wrong = || Error::from(ErrorKind::Model(format!("a tensor of type {} is not supported", from.dtype.name())));
    let dtype = dtype(from.dtype).ok_or_else(wrong)?;
    let data = match from.dtype.bits() {
        bits @ (2 | 4) => small(&from, bits, dtype == Dtype::I8),
        _ => Data::from_bytes(dtype, from.bytes.clone()).ok_or_else(wrong)?,
    };
    let sizes = || crate::fault::dims(&from.dims);
    Tensor::new(from.dims.clone(), data)
        .ok_or_else(|| Error::from(ErrorKind::Model(format!("a tensor of {} does not fit in memory", sizes()))))
}

/// Integers of less than a byte, one a byte.
fn small(from: &niwaki_onnx::Tensor, bits: usize, signed: bool) -> Data {
    let code = |at: usize| from.bytes[at * bits / 8] >> (at * bits % 8) & ((1 << bits) - 1);
    let codes = (0..from.elements()).map(code);
    if signed {
        let half = 1i8 << (bits - 1);
        return Data::I8(Buffer::from(codes.map(|code| (code as i8 ^ half) - half).collect::<Vec<_>>()));
    }
    Data::U8(Buffer::from(codes.collect::<Vec<_>>()))
}

/// The name of a node: its own, or that of the first value that it makes.
fn name_of(node: &NodeProto, at: usize) -> String {
    match node.name() {
        "" => node.output.iter().find(|output| !output.is_empty()).cloned().unwrap_or_else(|| format!("node {at}")),
        name => name.to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use niwaki_onnx::build::{Dim, graph, initializer, model, node, value};
    use niwaki_onnx::{Bytes, SaveOptions, save};

    use super::*;
    use crate::{Executor, Run};

    /// The graph of a model, by way of its file.
    fn opened(name: &str, proto: &niwaki_onnx::proto::ModelProto) -> Result<Graph, Error> {
        let path = std::env::temp_dir().join(format!("niwaki-model-{name}-{}.onnx", std::process::id()));
        save(proto, &path, &SaveOptions { overwrite: true, ..SaveOptions::default() }).unwrap();
        let graph = open(&path);
        std::fs::remove_file(path).unwrap();
        graph
    }

    #[test]
    fn codes_of_four_bits_end_at_seven() {
        let x = value("x", DataType::Float, &[Dim::Known(3)]);
        let y = value("y", DataType::Int4, &[Dim::Known(3)]);
        let scale = initializer("s", DataType::Float, &[], 1.0f32.to_le_bytes().to_vec());
        let zero = initializer("z", DataType::Int4, &[], vec![0]);
        let node = node("QuantizeLinear", &["x", "s", "z"], &["y"], vec![]);
        let proto = model(21, graph("q", vec![node], vec![x], vec![y], vec![scale, zero]));
        let executor = Executor::new(opened("q", &proto).unwrap()).unwrap();
        let x = Tensor::vector(vec![100.0f32, -100.0, 3.0]);
        let y = executor.run(vec![x], Run::default()).unwrap().outputs.remove(0);
        assert_eq!(y.get::<i8>().unwrap(), [7, -8, 3]);
    }

    #[test]
    fn integers_of_four_bits_are_two_in_a_byte() {
        let of = |dtype| niwaki_onnx::Tensor { dtype, dims: vec![3], bytes: Bytes::from_static(&[0xF7, 0x08]) };
        assert_eq!(tensor(of(DataType::Int4)).unwrap().get::<i8>().unwrap(), [7, -1, -8]);
        assert_eq!(tensor(of(DataType::Uint4)).unwrap().get::<u8>().unwrap(), [7, 15, 8]);
    }
}

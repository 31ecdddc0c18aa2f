//! Types of elements by ONNX's numbers.

use crate::fault::Fault;
use crate::tensor::Dtype;

/// The type of that number (`TensorProto.DataType`).
///
/// # Errors
///
/// Types that are not computed with.
pub(crate) fn dtype(code: i64) -> Result<Dtype, Fault> {
    Ok(match code {
        1 => Dtype::F32,
        2 => Dtype::U8,
        3 => Dtype::I8,
        4 => Dtype::U16,
        5 => Dtype::I16,
        6 => Dtype::I32,
        7 => Dtype::I64,
        9 => Dtype::BOOL,
        10 => Dtype::F16,
        11 => Dtype::F64,
        12 => Dtype::U32,
        13 => Dtype::U64,
        16 => Dtype::BF16,
        _ => return Err(Fault::Unsupported(format!("an element type of number {code}"))),
    })
}

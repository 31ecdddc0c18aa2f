//! Fields of typed values, as the bytes that `raw_data` would hold.

use bytes::Bytes;

use crate::data_type::DataType;
use crate::error::{Error, ErrorKind};
use crate::proto::TensorProto;

/// The field for values of a type.
fn expected(dtype: DataType) -> &'static str {
    match dtype {
        DataType::Float | DataType::Complex64 => "float_data",
        DataType::Double | DataType::Complex128 => "double_data",
        DataType::Int64 => "int64_data",
        DataType::Uint32 | DataType::Uint64 => "uint64_data",
        DataType::String => "string_data",
        _ => "int32_data",
    }
}

/// How many values of its field a tensor of so many elements needs.
fn values(dtype: DataType, elements: usize) -> Option<usize> {
    match dtype {
        DataType::Complex64 | DataType::Complex128 => elements.checked_mul(2),
        _ if dtype.bits() < 8 => dtype.byte_len(elements),
        _ => Some(elements),
    }
}

/// The values of `field`, which is the only one that holds any.
pub(crate) fn bytes(
    proto: &TensorProto,
    field: &'static str,
    dtype: DataType,
    dims: &[usize],
    elements: usize,
) -> Result<Bytes, Error> {
    if field != expected(dtype) {
        return Err(ErrorKind::Field { dtype, found: field, expected: expected(dtype) }.into());
    }
    let has = match field {
        "float_data" => proto.float_data.len(),
        "double_data" => proto.double_data.len(),
        "int64_data" => proto.int64_data.len(),
        "uint64_data" => proto.uint64_data.len(),
        _ => proto.int32_data.len(),
    };
    let needs = values(dtype, elements).unwrap_or(usize::MAX);
    if has != needs {
        return Err(ErrorKind::Count { field, dtype, dims: dims.to_vec(), needs, has }.into());
    }
    let bytes: Vec<u8> = match dtype {
        DataType::Float | DataType::Complex64 => proto.float_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        DataType::Double | DataType::Complex128 => proto.double_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        DataType::Int64 => proto.int64_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        DataType::Uint64 => proto.uint64_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        DataType::Uint32 => narrow(dtype, &proto.uint64_data, 0, u32::MAX.into(), 4)?,
        DataType::Int32 => proto.int32_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        DataType::Int16 => narrow(dtype, &proto.int32_data, i16::MIN.into(), i16::MAX.into(), 2)?,
        DataType::Int8 => narrow(dtype, &proto.int32_data, i8::MIN.into(), i8::MAX.into(), 1)?,
        DataType::Bool => narrow(dtype, &proto.int32_data, 0, 1, 1)?,
        _ if dtype.bits() == 16 => narrow(dtype, &proto.int32_data, 0, u16::MAX.into(), 2)?,
        _ => narrow(dtype, &proto.int32_data, 0, u8::MAX.into(), 1)?,
    };
    Ok(bytes.into())
}

/// The lowest `size` bytes of values that are from `least` to `most`.
fn narrow<T: Copy + Into<i128>>(
    dtype: DataType,
    values: &[T],
    least: i128,
    most: i128,
    size: usize,
) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::with_capacity(values.len().saturating_mul(size));
    for (index, value) in values.iter().enumerate() {
        let found: i128 = (*value).into();
        if !(least..=most).contains(&found) {
            return Err(ErrorKind::Value { dtype, index, found }.into());
        }
        bytes.extend(found.to_le_bytes().iter().take(size));
    }
    Ok(bytes)
}

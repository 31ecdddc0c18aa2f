//! Tensors as bytes, wherever the model keeps them.

use bytes::Bytes;

use crate::data_type::DataType;
use crate::error::{Error, ErrorKind};
use crate::external::External;
use crate::limits::Limits;
use crate::proto::TensorProto;
use crate::proto::tensor_proto::DataLocation;
use crate::typed;

/// A tensor: its type, its dimensions, and its elements in row-major order.
///
/// The elements lie as in `raw_data`: little-endian, without gaps, those of less than eight
/// bits packed with the first in the lowest bits.
///
/// # Invariants
///
/// `bytes` has the length that `dtype` and `dims` ask for. It need not be aligned.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// The type of an element.
    pub dtype: DataType,
    /// The dimensions; none for a scalar.
    pub dims: Vec<usize>,
    /// The elements.
    pub bytes: Bytes,
}

impl Tensor {
    /// How many elements it has: one for a scalar.
    pub fn elements(&self) -> usize {
        elements(&self.dims).unwrap_or(usize::MAX)
    }
}

/// Reads a tensor of a model that is in `folder`, or in no folder: external data is an error
/// then. Every call maps external data anew; [`Model::tensor`](crate::Model::tensor) does not.
///
/// # Errors
///
/// Dimensions or data that do not fit each other or the type, external data outside the
/// folder or beyond its file, and texts: [`strings`] reads those.
pub fn tensor(proto: &TensorProto, folder: Option<&std::path::Path>) -> Result<Tensor, Error> {
    let limits = Limits::default();
    read(proto, &External::new(folder.map(ToOwned::to_owned), limits), &limits)
}

/// Reads the texts of a tensor of type `STRING`, with its dimensions.
///
/// # Errors
///
/// Another type, another number of texts than the dimensions ask for, texts that are not
/// UTF-8.
pub fn strings(proto: &TensorProto) -> Result<(Vec<usize>, Vec<String>), Error> {
    let read = || {
        let (dtype, dims) = described(proto, &Limits::default())?;
        if dtype != DataType::String {
            return Err(ErrorKind::NotText { dtype }.into());
        }
        let (needs, has) = (checked_elements(dtype, proto, &dims)?, proto.string_data.len());
        if needs != has {
            return Err(ErrorKind::Count { field: "string_data", dtype, dims, needs, has }.into());
        }
        // Copied first: what lies in a map may change under a check.
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).map_err(|_| Error::from(ErrorKind::Utf8));
        let texts = proto.string_data.iter().map(text).collect::<Result<_, _>>()?;
        Ok((dims, texts))
    };
    read().map_err(|e: Error| e.of(proto.name()))
}

pub(crate) fn read(proto: &TensorProto, external: &External, limits: &Limits) -> Result<Tensor, Error> {
    read_unnamed(proto, external, limits).map_err(|e| e.of(proto.name()))
}

fn read_unnamed(proto: &TensorProto, external: &External, limits: &Limits) -> Result<Tensor, Error> {
    let (dtype, dims) = described(proto, limits)?;
    if dtype == DataType::String {
        return Err(ErrorKind::Text.into());
    }
    let elements = checked_elements(dtype, proto, &dims)?;
    let overflow = || ErrorKind::Overflow { dtype, dims: proto.dims.clone() };
    let needs = dtype.byte_len(elements).filter(|len| isize::try_from(*len).is_ok()).ok_or_else(overflow)?;
    let bytes = if is_external(proto)? {
        external.bytes(proto, needs)?
    } else {
        match one_field(proto)? {
            None | Some("raw_data") => proto.raw_data.clone().unwrap_or_default(),
            Some(field) => typed::bytes(proto, field, dtype, &dims, elements)?,
        }
    };
    if bytes.len() != needs {
        return Err(ErrorKind::Bytes { dtype, dims, needs, has: bytes.len() }.into());
    }
    Ok(Tensor { dtype, dims, bytes })
}

/// Whether a tensor says that its data is outside.
pub(crate) fn is_external(proto: &TensorProto) -> Result<bool, Error> {
    match proto.data_location {
        None => Ok(false),
        Some(found) => match DataLocation::try_from(found) {
            Ok(DataLocation::Default) => Ok(false),
            Ok(DataLocation::External) => Ok(true),
            Err(_) => Err(ErrorKind::DataLocation { found }.into()),
        },
    }
}

/// A tensor's type and dimensions.
fn described(proto: &TensorProto, limits: &Limits) -> Result<(DataType, Vec<usize>), Error> {
    if proto.segment.is_some() {
        return Err(ErrorKind::Segment.into());
    }
    let found = proto.data_type.unwrap_or_default();
    let dtype = DataType::from_i32(found).ok_or(ErrorKind::DataType { found })?;
    Ok((dtype, checked_dims(&proto.dims, dtype, limits)?))
}

/// Dimensions that are numbers of elements.
pub(crate) fn checked_dims(dims: &[i64], dtype: DataType, limits: &Limits) -> Result<Vec<usize>, Error> {
    if dims.len() > limits.dims {
        return Err(ErrorKind::Limit { limit: "dims", max: limits.dims as u64, has: dims.len() as u64 }.into());
    }
    if dims.iter().any(|dim| *dim < 0) {
        return Err(ErrorKind::NegativeDim { dims: dims.to_vec() }.into());
    }
    let fit: Result<Vec<usize>, _> = dims.iter().map(|dim| usize::try_from(*dim)).collect();
    fit.map_err(|_| ErrorKind::Overflow { dtype, dims: dims.to_vec() }.into())
}

/// How many elements, unless that is more than an address can say.
pub(crate) fn elements(dims: &[usize]) -> Option<usize> {
    if dims.contains(&0) {
        return Some(0);
    }
    dims.iter().try_fold(1usize, |product, dim| product.checked_mul(*dim))
}

fn checked_elements(dtype: DataType, proto: &TensorProto, dims: &[usize]) -> Result<usize, Error> {
    elements(dims).ok_or_else(|| ErrorKind::Overflow { dtype, dims: proto.dims.clone() }.into())
}

/// The field that holds data, if one does.
pub(crate) fn one_field(proto: &TensorProto) -> Result<Option<&'static str>, Error> {
    let mut fields = [
        ("raw_data", proto.raw_data.as_ref().is_some_and(|raw| !raw.is_empty())),
        ("float_data", !proto.float_data.is_empty()),
        ("int32_data", !proto.int32_data.is_empty()),
        ("int64_data", !proto.int64_data.is_empty()),
        ("double_data", !proto.double_data.is_empty()),
        ("uint64_data", !proto.uint64_data.is_empty()),
        ("string_data", !proto.string_data.is_empty()),
    ]
    .into_iter()
    .filter_map(|(field, used)| used.then_some(field));
    match (fields.next(), fields.next()) {
        (Some(one), Some(other)) => Err(ErrorKind::Fields { one, other }.into()),
        (one, _) => Ok(one),
    }
}

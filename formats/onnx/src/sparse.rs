//! Sparse tensors, written out.

use crate::data_type::DataType;
use crate::error::{Error, ErrorKind, dims};
use crate::external::External;
use crate::limits::Limits;
use crate::proto::SparseTensorProto;
use crate::tensor::{Tensor, checked_dims, elements, read};

/// Every element, with zeros where nothing is stored.
pub(crate) fn expand(proto: &SparseTensorProto, external: &External, limits: &Limits) -> Result<Tensor, Error> {
    let name = proto.values.as_ref().map_or("", |values| values.name());
    expand_unnamed(proto, external, limits).map_err(|e| e.of(name))
}

fn expand_unnamed(proto: &SparseTensorProto, external: &External, limits: &Limits) -> Result<Tensor, Error> {
    let missing = |what: &str| ErrorKind::Positions { found: "not there".to_owned(), expected: what.to_owned() };
    let values = proto.values.as_ref().ok_or_else(|| missing("a tensor of values"))?;
    let values = read(values, external, limits)?;
    let shape = checked_dims(&proto.dims, values.dtype, limits)?;
    let overflow = || ErrorKind::Overflow { dtype: values.dtype, dims: proto.dims.clone() };
    let count = elements(&shape).ok_or_else(overflow)?;
    let len = values.dtype.byte_len(count).ok_or_else(overflow)?;
    if len as u64 > limits.expanded_bytes {
        let (max, has) = (limits.expanded_bytes, len as u64);
        return Err(ErrorKind::Limit { limit: "expanded_bytes", max, has }.into());
    }
    if values.dims.len() != 1 {
        let expected = "one dimension of values".to_owned();
        return Err(ErrorKind::Positions { found: format!("for values of {}", dims(&values.dims)), expected }.into());
    }
    let at = match &proto.indices {
        Some(indices) => positions(&read(indices, external, limits)?, values.elements(), &shape)?,
        None if values.elements() == 0 => Vec::new(),
        None => return Err(missing("a tensor of INT64").into()),
    };
    let mut bytes = vec![0u8; len];
    let bits = values.dtype.bits();
    for (from, to) in at.into_iter().enumerate() {
        if bits >= 8 {
            let size = bits / 8;
            let element = values.bytes.get(from * size..(from + 1) * size).unwrap_or_default();
            bytes.iter_mut().skip(to * size).zip(element).for_each(|(to, from)| *to = *from);
        } else {
            let per = 8 / bits;
            let element = values.bytes.get(from / per).map_or(0, |byte| byte >> (from % per * bits));
            let kept = element & ((1 << bits) - 1);
            bytes.iter_mut().skip(to / per).take(1).for_each(|byte| *byte |= kept << (to % per * bits));
        }
    }
    Ok(Tensor { dtype: values.dtype, dims: shape, bytes: bytes.into() })
}

/// Where the values stand, counted in row-major order: ascending, none twice, all inside.
fn positions(indices: &Tensor, values: usize, shape: &[usize]) -> Result<Vec<usize>, Error> {
    let rank = shape.len();
    let by_dim = match &*indices.dims {
        [n] if *n == values => false,
        [n, per] if *n == values && *per == rank => true,
        _ => false,
    };
    let fits = by_dim || *indices.dims == [values];
    if indices.dtype != DataType::Int64 || !fits {
        let found = format!("{} {}", indices.dtype, dims(&indices.dims));
        let expected = format!("INT64 {values} or {values}x{rank}");
        return Err(ErrorKind::Positions { found, expected }.into());
    }
    let numbers: Vec<i64> =
        indices.bytes.chunks_exact(8).map(|b| i64::from_le_bytes(std::array::from_fn(|i| b[i]))).collect();
    let total = elements(shape).unwrap_or(0);
    let mut out: Vec<usize> = Vec::with_capacity(values);
    for index in 0..values {
        let place = if by_dim {
            let tuple = numbers.iter().skip(index * rank).take(rank);
            tuple.zip(shape).try_fold(0usize, |place, (i, dim)| inside(*i, *dim, index).map(|i| place * dim + i))?
        } else {
            numbers.get(index).map_or(Ok(0), |number| inside(*number, total, index))?
        };
        if out.last().is_some_and(|last| *last >= place) || place >= total {
            let expected = "a place after the one before";
            return Err(ErrorKind::Position { index, found: place as i64, expected }.into());
        }
        out.push(place);
    }
    Ok(out)
}

fn inside(number: i64, dim: usize, index: usize) -> Result<usize, Error> {
    let place = usize::try_from(number).ok().filter(|place| *place < dim);
    let expected = "a place inside the dimensions";
    place.ok_or_else(|| ErrorKind::Position { index, found: number, expected }.into())
}

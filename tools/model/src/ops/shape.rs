//! Shapes: axes, strides and broadcasting.

use crate::fault::{Fault, dims};

/// An axis of a tensor with `rank` dimensions; negative ones count from the end.
///
/// # Errors
///
/// An axis that it does not have.
pub(crate) fn axis(axis: i64, rank: usize) -> Result<usize, Fault> {
    let from_front = if axis < 0 { axis + rank as i64 } else { axis };
    match usize::try_from(from_front) {
        Ok(at) if at < rank => Ok(at),
        _ => Err(Fault::shape(format!("axis {axis}"), format!("one of {rank} dimensions"))),
    }
}

/// Several axes, in order, each once.
///
/// # Errors
///
/// Those of [`axis`], and an axis that comes twice.
pub(crate) fn axes(all: &[i64], rank: usize) -> Result<Vec<usize>, Fault> {
    let mut found = all.iter().map(|one| axis(*one, rank)).collect::<Result<Vec<_>, _>>()?;
    found.sort_unstable();
    if found.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(Fault::shape(format!("axes {all:?}"), "each once"));
    }
    Ok(found)
}

/// How far apart neighbours along each dimension are, in elements.
pub(crate) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; shape.len()];
    for at in (1..shape.len()).rev() {
        // Where they do not fit, there are no elements.
        strides[at - 1] = strides[at].saturating_mul(shape[at]);
    }
    strides
}

/// The shape that shapes have together (ONNX, "Broadcasting in ONNX", multidirectional).
///
/// # Errors
///
/// Shapes that have none.
pub(crate) fn broadcast(shapes: &[&[usize]]) -> Result<Vec<usize>, Fault> {
    let rank = shapes.iter().map(|shape| shape.len()).max().unwrap_or(0);
    let mut all = vec![1; rank];
    for shape in shapes {
        for (dim, all) in shape.iter().rev().zip(all.iter_mut().rev()) {
            match (*dim, *all) {
                (dim, 1) => *all = dim,
                (dim, all) if dim == 1 || dim == all => {}
                _ => {
                    let found: Vec<_> = shapes.iter().map(|shape| dims(shape)).collect();
                    return Err(Fault::shape(format!("shapes {}", found.join(" and ")), "shapes that broadcast"));
                }
            }
        }
    }
    Ok(all)
}

/// Strides of a tensor of `shape` seen as one of `as_shape`, to which it broadcasts: 0 where it is
/// repeated.
pub(crate) fn broadcast_strides(shape: &[usize], as_shape: &[usize]) -> Vec<usize> {
    let lead = as_shape.len().saturating_sub(shape.len());
    let own = strides(shape);
    (0..as_shape.len())
        .map(|at| match at.checked_sub(lead) {
            Some(own_at) if shape[own_at] != 1 => own[own_at],
            _ => 0,
        })
        .collect()
}

/// Calls `each` with the offset of every element in row-major order of `shape`, in tensors of these
/// strides.
pub(crate) fn walk<const N: usize>(shape: &[usize], strides: [&[usize]; N], mut each: impl FnMut([usize; N])) {
    if shape.contains(&0) {
        return;
    }
    let mut at = vec![0usize; shape.len()];
    let mut offsets = [0usize; N];
    loop {
        each(offsets);
        let mut axis = shape.len();
        loop {
            let Some(next) = axis.checked_sub(1) else { return };
            axis = next;
            at[axis] += 1;
            for (offset, strides) in offsets.iter_mut().zip(strides) {
                *offset += strides[axis];
            }
            if at[axis] < shape[axis] {
                break;
            }
            for (offset, strides) in offsets.iter_mut().zip(strides) {
                *offset -= strides[axis] * shape[axis];
            }
            at[axis] = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_broadcast_from_the_end() {
        assert_eq!(broadcast(&[&[2, 1, 4], &[3, 1]]).unwrap(), [2, 3, 4]);
        assert_eq!(broadcast(&[&[], &[0, 2]]).unwrap(), [0, 2]);
        assert!(broadcast(&[&[2], &[3]]).is_err());
        assert_eq!(broadcast_strides(&[3, 1], &[2, 3, 4]), [0, 1, 0]);
    }

    #[test]
    fn axes_count_from_either_end() {
        assert_eq!(axis(-1, 3).unwrap(), 2);
        assert!(axis(3, 3).is_err() && axis(-4, 3).is_err() && axis(0, 0).is_err());
        assert_eq!(axes(&[2, -3], 3).unwrap(), [0, 2]);
        assert!(axes(&[0, -3], 3).is_err());
    }

    #[test]
    fn a_walk_is_in_row_major_order() {
        let mut seen = Vec::new();
        walk(&[2, 3], [&[3, 1], &[0, 1]], |[a, b]| seen.push((a, b)));
        assert_eq!(seen, [(0, 0), (1, 1), (2, 2), (3, 0), (4, 1), (5, 2)]);
        let mut count = 0;
        walk(&[], [], |[]| count += 1);
        walk(&[2, 0], [], |[]| count += 1);
        assert_eq!(count, 1);
    }
}

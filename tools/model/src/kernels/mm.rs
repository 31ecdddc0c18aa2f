//! Products of matrices: of single floats by [`Product`], of doubles by the `gemm` crate, which has no other caller.

use gemm_common::Parallelism;

use crate::fault::Fault;
use crate::kernels::product::{Packed, Product, Right, Side};
use crate::real::Real;
use crate::tensor::Dtype;

/// A matrix where it stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix<'a, T> {
    elements: &'a [T],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

/// A matrix to be written, each row in one piece.
#[derive(Debug)]
pub(crate) struct Target<'a, T> {
    elements: &'a mut [T],
    rows: usize,
    columns: usize,
    row_stride: usize,
}

/// What becomes of the elements that are there, and who computes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way<T> {
    /// The product is added to what is there, else it replaces it.
    pub(crate) add: bool,
    /// What the product is multiplied with.
    pub(crate) scale: T,
    /// Whether all threads of the pool share the work. The result is the same.
    pub(crate) parallel: bool,
}

impl<T: Real> Way<T> {
    /// The product replaces what is there, on all threads.
    pub(crate) fn replace() -> Self {
        Self { add: false, scale: T::ONE, parallel: true }
    }
}

/// Elements from the first one to the last one that a matrix reaches.
fn reach(rows: usize, columns: usize, row_stride: usize, column_stride: usize) -> Option<usize> {
    if rows == 0 || columns == 0 {
        return Some(0);
    }
    let down = (rows - 1).checked_mul(row_stride)?;
    let across = (columns - 1).checked_mul(column_stride)?;
    let all = down.checked_add(across)?.checked_add(1)?;
    // Offsets are of type isize.
    isize::try_from(all).is_ok().then_some(all)
}

fn outside(rows: usize, columns: usize, has: usize) -> Fault {
    Fault::shape(format!("{has} elements"), format!("those of a matrix of {rows}x{columns}"))
}

impl<'a, T> Matrix<'a, T> {
    /// A matrix that stands row after row.
    ///
    /// # Errors
    ///
    /// Fewer elements than it has.
    pub(crate) fn rows(elements: &'a [T], rows: usize, columns: usize) -> Result<Self, Fault> {
        Self::strided(elements, (rows, columns), (columns, 1))
    }

    /// A matrix of which rows, and columns, are so many elements apart.
    ///
    /// # Errors
    ///
    /// Fewer elements than it reaches.
    pub(crate) fn strided(elements: &'a [T], size: (usize, usize), strides: (usize, usize)) -> Result<Self, Fault> {
        let ((rows, columns), (row_stride, column_stride)) = (size, strides);
        match reach(rows, columns, row_stride, column_stride) {
            Some(reach) if reach <= elements.len() => Ok(Self { elements, rows, columns, row_stride, column_stride }),
            _ => Err(outside(rows, columns, elements.len())),
        }
    }

    /// The same, rows and columns exchanged.
    pub(crate) fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    /// Only `count` columns, from the one at `first` on.
    ///
    /// # Errors
    ///
    /// Columns that it does not have.
    pub(crate) fn columns(self, first: usize, count: usize) -> Result<Self, Fault> {
        let last = first.checked_add(count).filter(|last| *last <= self.columns);
        let from = first.checked_mul(self.column_stride).filter(|from| *from <= self.elements.len());
        match (last, from) {
            (Some(_), Some(from)) => Ok(Self { elements: &self.elements[from..], columns: count, ..self }),
            _ => Err(outside(self.rows, count, self.elements.len())),
        }
    }

    /// Only `count` rows, from the one at `first` on.
    ///
    /// # Errors
    ///
    /// Rows that it does not have.
    pub(crate) fn slice_rows(self, first: usize, count: usize) -> Result<Self, Fault> {
        self.transposed().columns(first, count).map(Self::transposed)
    }

    fn at(&self, row: usize, column: usize) -> usize {
        row * self.row_stride + column * self.column_stride
    }
}

impl<'a, T> Target<'a, T> {
    /// A matrix that stands row after row.
    ///
    /// # Errors
    ///
    /// Fewer elements than it has.
    pub(crate) fn rows(elements: &'a mut [T], rows: usize, columns: usize) -> Result<Self, Fault> {
        Self::strided(elements, (rows, columns), columns)
    }

    /// A matrix of which rows are so many elements apart.
    ///
    /// # Errors
    ///
    /// Fewer elements than it reaches, and rows that overlap.
    pub(crate) fn strided(elements: &'a mut [T], size: (usize, usize), row_stride: usize) -> Result<Self, Fault> {
        let (rows, columns) = size;
        match reach(rows, columns, row_stride, 1) {
            Some(reach) if reach <= elements.len() && (row_stride >= columns || rows <= 1) => {
                Ok(Self { elements, rows, columns, row_stride })
            }
            _ => Err(outside(rows, columns, elements.len())),
        }
    }
}

/// `target = scale * left * right`, added to what is there where `way` says so.
///
/// Each element is summed in the same order on any number of threads.
///
/// # Errors
///
/// Matrices whose sizes do not fit.
pub(crate) fn mm<T: Real>(
    mut target: Target<'_, T>,
    left: Matrix<'_, T>,
    right: Matrix<'_, T>,
    way: Way<T>,
) -> Result<(), Fault> {
    if left.columns != right.rows || target.rows != left.rows || target.columns != right.columns {
        let found = format!("{}x{} times {}x{}", left.rows, left.columns, right.rows, right.columns);
        return Err(Fault::shape(found, format!("a product of {}x{}", target.rows, target.columns)));
    }
    if target.rows == 0 || target.columns == 0 {
        return Ok(());
    }
    if left.columns == 0 {
        if !way.add {
            for row in target.elements.chunks_mut(target.row_stride.max(1)).take(target.rows) {
                row.iter_mut().take(target.columns).for_each(|x| *x = T::ZERO);
            }
        }
        return Ok(());
    }
    // What is left of either bound is checked where a matrix is made; this says it once more.
    debug_assert!(left.at(left.rows - 1, left.columns - 1) < left.elements.len());
    debug_assert!(right.at(right.rows - 1, right.columns - 1) < right.elements.len());
    let parallelism = if way.parallel { Parallelism::Rayon(0) } else { Parallelism::None };
    // SAFETY: `reach` was found to lie in `elements` when each of the three was made, and their
    // fields are private; the sizes fit each other; the target is borrowed alone.
    unsafe {
        let Some(gemm) = T::product() else {
            single(&mut target, &left, &right, way).run(way.parallel);
            return Ok(());
        };
        gemm(
            target.rows,
            target.columns,
            left.columns,
            target.elements.as_mut_ptr(),
            1,
            target.row_stride as isize,
            way.add,
            left.elements.as_ptr(),
            left.column_stride as isize,
            left.row_stride as isize,
            right.elements.as_ptr(),
            right.column_stride as isize,
            right.row_stride as isize,
            T::ONE,
            way.scale,
            false,
            false,
            false,
            parallelism,
        );
    }
    Ok(())
}

/// A matrix of single floats that is multiplied from the right often, in panels.
pub(crate) fn packed(right: Matrix<'_, f32>) -> Packed {
    // SAFETY: `reach` was found to lie in `elements` when the matrix was made.
    unsafe { Packed::new([right.rows, right.columns], side(&right)) }
}

/// `target = scale * left * right`, the same bits as [`mm`] makes.
///
/// # Errors
///
/// Matrices whose sizes do not fit.
pub(crate) fn mm_packed(
    target: Target<'_, f32>,
    left: Matrix<'_, f32>,
    right: &Packed,
    scale: f32,
) -> Result<(), Fault> {
    let [k, n] = right.size();
    if (left.columns, target.rows, target.columns) != (k, left.rows, n) || k == 0 {
        let found = format!("{}x{} times {k}x{n}", left.rows, left.columns);
        return Err(Fault::shape(found, format!("a product of {}x{}", target.rows, target.columns)));
    }
    let product = Product {
        m: target.rows,
        k,
        n,
        left: side(&left),
        right: right.right(),
        out: target.elements.as_mut_ptr(),
        out_row: target.row_stride,
        add: false,
        scale,
    };
    // SAFETY: as in `mm`; the panels are there as long as the product runs.
    unsafe { product.run(true) };
    Ok(())
}

fn side<T>(of: &Matrix<'_, T>) -> Side {
    Side { from: of.elements.as_ptr().cast(), row: of.row_stride, column: of.column_stride }
}

/// A product of single floats, which are the only ones without a `gemm`.
fn single<T: Real>(target: &mut Target<'_, T>, left: &Matrix<'_, T>, right: &Matrix<'_, T>, way: Way<T>) -> Product {
    assert!(T::DTYPE == Dtype::F32, "a product of {}", T::DTYPE);
    Product {
        m: target.rows,
        k: left.columns,
        n: target.columns,
        left: side(left),
        right: Right::Lies(side(right)),
        out: target.elements.as_mut_ptr().cast(),
        out_row: target.row_stride,
        add: way.add,
        scale: way.scale.wide() as f32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(len: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let next = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        (0..len).map(next).collect()
    }

    #[test]
    fn products_are_those_of_the_definition() {
        for (m, k, n) in [(1, 1, 1), (3, 5, 7), (17, 64, 33), (1, 300, 40), (40, 300, 1), (4, 0, 3)] {
            let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
            let mut out = vec![9.0f32; m * n];
            let (left, right) = (Matrix::rows(&a, m, k).unwrap(), Matrix::rows(&b, k, n).unwrap());
            mm(Target::rows(&mut out, m, n).unwrap(), left, right, Way::replace()).unwrap();
            for (i, x) in out.iter().enumerate() {
                let sum: f64 = (0..k).map(|t| f64::from(a[i / n * k + t]) * f64::from(b[t * n + i % n])).sum();
                assert!((f64::from(*x) - sum).abs() < 1e-5, "{m}x{k}x{n} at {i}: {x}, {sum} expected");
            }
        }
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits() {
        for (m, k, n) in [(1, 900, 700), (65, 1200, 130), (200, 300, 400)] {
            let (a, b) = (numbers(m * k, 3), numbers(k * n, 4));
            let on = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| {
                    let mut out = vec![0.0f32; m * n];
                    let (left, right) = (Matrix::rows(&a, m, k).unwrap(), Matrix::rows(&b, k, n).unwrap());
                    mm(Target::rows(&mut out, m, n).unwrap(), left, right, Way::replace()).unwrap();
                    out.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
                })
            };
            let one = on(1);
            assert_eq!(one, on(2));
            assert_eq!(one, on(5));
        }
    }

    #[test]
    fn transposed_and_added() {
        // [[1, 2], [3, 4]] transposed, times [1, 10], on top of 100.
        let mut out = vec![100.0f64; 2];
        let left = Matrix::rows(&[1.0, 2.0, 3.0, 4.0], 2, 2).unwrap().transposed();
        let right = Matrix::rows(&[1.0, 10.0], 2, 1).unwrap();
        mm(Target::rows(&mut out, 2, 1).unwrap(), left, right, Way { add: true, scale: 2.0, parallel: false }).unwrap();
        assert_eq!(out, [162.0, 184.0]);
    }

    #[test]
    fn matrices_stay_within_their_elements() {
        assert!(Matrix::rows(&[0.0f32; 5], 2, 3).is_err());
        assert!(Matrix::strided(&[0.0f32; 5], (2, 2), (usize::MAX, 1)).is_err());
        assert!(Target::strided(&mut [0.0f32; 4], (2, 2), 1).is_err());
        let mut out = [0.0f32; 4];
        let wrong = Matrix::rows(&[0.0f32; 6], 2, 3).unwrap();
        assert!(mm(Target::rows(&mut out, 2, 2).unwrap(), wrong, wrong, Way::replace()).is_err());
    }
}

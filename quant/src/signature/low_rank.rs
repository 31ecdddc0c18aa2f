//! The best approximation of a matrix by one of low rank.
//!
//! ```text
//! V      n x l of pseudo-random numbers, l = rank + 8
//! V      orthonormal columns of D'(D V), four times
//! Q R    D V, Q of orthonormal columns
//! U S W' R
//! B      Q U sqrt(S)        A  sqrt(S) (V W)'        the first `rank` of them
//! ```
//!
//! Whence: subspace iteration, [halko, algorithms 4.4 and 5.1] (Halko, Martinsson and Tropp,
//! 2011: Finding structure with randomness). Departures: both halves of an iteration are one pass
//! over the rows, so columns are made orthonormal once an iteration and not twice; the start is
//! uniform and not normal.
//!
//! The matrix is read by blocks of rows in six passes. All sums are `f64` in an order that
//! depends on neither blocks nor SIMD level, so the same matrix gives the same factors.

mod dense;

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use niwaki_codes::simd::Level;
use niwaki_codes::stamp;

use crate::{Error, ErrorKind};
use dense::{Columns, jacobi, orthonormalize, sqrt};

/// Columns beyond the rank that the iteration carries: what is beside the rank decays faster.
const OVERSAMPLING: usize = 8;

/// Iterations: each multiplies the ratio of neighbouring singular values by itself twice.
const ITERATIONS: usize = 4;

/// Weights that are read at once, or one row.
const BLOCK: usize = 1 << 16;

/// Columns that the kernels deal with at once.
const PANEL: usize = 8;

/// Rows that the kernels deal with at once.
const ROWS: usize = 4;

/// A matrix of `m` by `n` as the product of two: `D = B A`, nearly.
///
/// Singular values are split evenly: column `k` of `B` and row `k` of `A` have the same length,
/// the root of the singular value.
#[derive(Clone, Debug, PartialEq)]
pub struct Factors {
    /// `B`, `m` by `rank`, row by row.
    pub b: Vec<f32>,
    /// `A`, `rank` by `n`, row by row.
    pub a: Vec<f32>,
    /// The singular values, largest first.
    pub singular_values: Vec<f64>,
    /// Frobenius norm of `D - B A` over that of `D`, as the factors stand; 0 where `D` is zero.
    pub relative_error: f64,
}

/// Approximates a matrix of `(rows, cols)` by one of rank `rank`.
///
/// `read(range, out)` writes those rows, one after another, into `out`; it is called for all rows
/// in order, several times, and must say the same each time. Private memory is about
/// `8 (rows + 2 cols) (rank + 8)` bytes. The time is that of `18 rows cols (rank + 8)`
/// multiplications, and where the rank comes near the smaller side, of some tens of its cubes.
///
/// # Errors
///
/// [`ErrorKind::Rank`] for rank 0 or one beyond the smaller side, [`ErrorKind::NotFinite`] with
/// the flat index of the weight, and whatever `read` returns.
pub fn low_rank<E: From<Error>>(
    level: Level,
    (rows, cols): (usize, usize),
    rank: usize,
    read: impl FnMut(Range<usize>, &mut [f32]) -> Result<(), E>,
) -> Result<Factors, E> {
    let smaller = rows.min(cols);
    if rank == 0 || rank > smaller || rows.checked_mul(cols).is_none() {
        return Err(Error::from(ErrorKind::Rank { rank, rows, cols }).into());
    }
    let most = (BLOCK / cols).max(ROWS).min(rows);
    let mut matrix = Matrix { level, rows, cols, read, block: vec![0.0; most * cols] };
    let mut v = start(cols, rank.saturating_add(OVERSAMPLING).min(smaller));
    for _ in 0..ITERATIONS {
        v = matrix.gram(&v)?;
        orthonormalize(&mut v);
    }
    let mut q = matrix.times(&v)?;
    let mut r = orthonormalize(&mut q);
    let (w, singular_values) = jacobi(&mut r);
    let roots: Vec<f64> = singular_values.iter().take(rank).map(|s| sqrt(*s)).collect();
    let (b, a) = (q.combined(&r, &roots).by_rows(), v.combined(&w, &roots).into_rows());
    let relative_error = matrix.relative_error(&b, &a)?;
    let singular_values = singular_values.into_iter().take(rank).collect();
    Ok(Factors { b, a, singular_values, relative_error })
}

/// A row of the product `B A`: the row `b` of `B` times `A`, whose rows follow one another.
///
/// Products are exact in `f64` and added in the order of the rank, on every SIMD level alike.
///
/// # Panics
///
/// If `a` does not hold a row as long as `out` for each element of `b`.
pub fn product_row(level: Level, b: &[f32], a: &[f32], out: &mut [f64]) {
    assert_eq!(Some(a.len()), b.len().checked_mul(out.len()), "A has a row for each element of the row of B");
    row_of_product(level, b, a, out);
}

/// A matrix that is read by blocks of rows.
struct Matrix<F> {
    level: Level,
    rows: usize,
    cols: usize,
    read: F,
    block: Vec<f32>,
}

impl<F> Matrix<F> {
    /// Shows all rows, block by block.
    fn each<E: From<Error>>(&mut self, mut see: impl FnMut(Range<usize>, &[f32])) -> Result<(), E>
    where
        F: FnMut(Range<usize>, &mut [f32]) -> Result<(), E>,
    {
        let most = self.block.len() / self.cols;
        for begin in (0..self.rows).step_by(most) {
            let range = begin..self.rows.min(begin + most);
            let block = &mut self.block[..range.len() * self.cols];
            (self.read)(range.clone(), block)?;
            if let Some(at) = block.iter().position(|x| !x.is_finite()) {
                return Err(Error::from(ErrorKind::NotFinite { index: begin * self.cols + at }).into());
            }
            see(range, block);
        }
        Ok(())
    }

    /// `D'(D V)`.
    fn gram<E: From<Error>>(&mut self, v: &Columns) -> Result<Columns, E>
    where
        F: FnMut(Range<usize>, &mut [f32]) -> Result<(), E>,
    {
        let (level, cols, panels) = (self.level, self.cols, panels(v));
        let mut sums = vec![0.0; panels.len()];
        let mut products = vec![0.0; self.block.len() / cols * PANEL];
        self.each(|range, x| {
            let products = &mut products[..range.len() * PANEL];
            for (panel, sums) in panels.chunks(cols * PANEL).zip(sums.chunks_mut(cols * PANEL)) {
                multiply(level, x, panel, products);
                gather(level, x, products, sums);
            }
        })?;
        let mut result = Columns::zeros(cols, v.count());
        for (panel, sums) in sums.chunks(cols * PANEL).enumerate() {
            result.place::<PANEL>(panel * PANEL, 0, sums.as_chunks().0);
        }
        Ok(result)
    }

    /// `D V`.
    fn times<E: From<Error>>(&mut self, v: &Columns) -> Result<Columns, E>
    where
        F: FnMut(Range<usize>, &mut [f32]) -> Result<(), E>,
    {
        let (level, cols, panels) = (self.level, self.cols, panels(v));
        let mut result = Columns::zeros(self.rows, v.count());
        let mut products = vec![0.0; self.block.len() / cols * PANEL];
        self.each(|range, x| {
            let products = &mut products[..range.len() * PANEL];
            for (at, panel) in panels.chunks(cols * PANEL).enumerate() {
                multiply(level, x, panel, products);
                result.place::<PANEL>(at * PANEL, range.start, products.as_chunks().0);
            }
        })?;
        Ok(result)
    }

    /// What `B A` lacks of the matrix.
    fn relative_error<E: From<Error>>(&mut self, b: &[f32], a: &[f32]) -> Result<f64, E>
    where
        F: FnMut(Range<usize>, &mut [f32]) -> Result<(), E>,
    {
        let (level, cols, rank) = (self.level, self.cols, a.len() / self.cols);
        let (mut lacks, mut has) = (0.0, 0.0);
        let mut product = vec![0.0; cols];
        self.each(|range, x| {
            let b = &b[range.start * rank..range.end * rank];
            for (b, x) in b.chunks(rank).zip(x.chunks(cols)) {
                product_row(level, b, a, &mut product);
                for (x, y) in x.iter().zip(&product) {
                    let x = f64::from(*x);
                    lacks += (x - y) * (x - y);
                    has += x * x;
                }
            }
        })?;
        Ok(if has == 0.0 { 0.0 } else { sqrt(lacks / has) })
    }
}

/// Columns of pseudo-random numbers from -1 to 1, the same for the same size.
fn start(rows: usize, count: usize) -> Columns {
    let mut columns = Columns::zeros(rows, count);
    // Marsaglia's xorshift; the seed is the golden ratio's fraction.
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for at in 0..count {
        for x in columns.column_mut(at) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *x = (state >> 11) as f64 / (1_u64 << 52) as f64 - 1.0;
        }
    }
    columns
}

/// Columns in panels: eight of them side by side, row by row, with zeros where there is none.
fn panels(columns: &Columns) -> Vec<f64> {
    let mut panels = vec![0.0; columns.rows() * columns.count().next_multiple_of(PANEL)];
    for at in 0..columns.count() {
        let panel = &mut panels[at / PANEL * PANEL * columns.rows()..];
        for (lanes, x) in panel.as_chunks_mut::<PANEL>().0.iter_mut().zip(columns.column(at)) {
            lanes[at % PANEL] = *x;
        }
    }
    panels
}

stamp! {
    /// Rows `x` times a panel: eight sums for each row.
    fn multiply = multiply_body(x: &[f32], panel: &[f64], out: &mut [f64]) -> ();
}

stamp! {
    /// Adds to each row of a panel the products of its column of `x` with the rows' sums.
    fn gather = gather_body(x: &[f32], products: &[f64], sums: &mut [f64]) -> ();
}

stamp! {
    fn row_of_product = row_of_product_body(b: &[f32], a: &[f32], out: &mut [f64]) -> ();
}

#[inline(always)]
fn multiply_body(x: &[f32], panel: &[f64], out: &mut [f64]) {
    let panel = panel.as_chunks::<PANEL>().0;
    let cols = panel.len();
    let (groups, rest) = out.as_chunks_mut::<PANEL>().0.as_chunks_mut::<ROWS>();
    let (several, last) = x.split_at(groups.len() * ROWS * cols);
    for (out, x) in groups.iter_mut().zip(several.chunks_exact(ROWS * cols)) {
        *out = multiply_rows(core::array::from_fn(|row| &x[row * cols..(row + 1) * cols]), panel);
    }
    for (out, x) in rest.iter_mut().zip(last.chunks_exact(cols)) {
        [*out] = multiply_rows([x], panel);
    }
}

#[inline(always)]
fn multiply_rows<const N: usize>(x: [&[f32]; N], panel: &[[f64; PANEL]]) -> [[f64; PANEL]; N] {
    let mut sums = [[0.0; PANEL]; N];
    for (at, lanes) in panel.iter().enumerate() {
        for row in 0..N {
            let x = f64::from(x[row][at]);
            for lane in 0..PANEL {
                sums[row][lane] += x * lanes[lane];
            }
        }
    }
    sums
}

#[inline(always)]
fn gather_body(x: &[f32], products: &[f64], sums: &mut [f64]) {
    let sums = sums.as_chunks_mut::<PANEL>().0;
    let cols = sums.len();
    let (groups, rest) = products.as_chunks::<PANEL>().0.as_chunks::<ROWS>();
    let (several, last) = x.split_at(groups.len() * ROWS * cols);
    for (products, x) in groups.iter().zip(several.chunks_exact(ROWS * cols)) {
        gather_rows(core::array::from_fn(|row| &x[row * cols..(row + 1) * cols]), products, sums);
    }
    for (products, x) in rest.iter().zip(last.chunks_exact(cols)) {
        gather_rows([x], &[*products], sums);
    }
}

#[inline(always)]
fn gather_rows<const N: usize>(x: [&[f32]; N], products: &[[f64; PANEL]; N], sums: &mut [[f64; PANEL]]) {
    for (at, lanes) in sums.iter_mut().enumerate() {
        // Row after row, as if each came alone.
        for row in 0..N {
            let x = f64::from(x[row][at]);
            for lane in 0..PANEL {
                lanes[lane] += x * products[row][lane];
            }
        }
    }
}

#[inline(always)]
fn row_of_product_body(b: &[f32], a: &[f32], out: &mut [f64]) {
    out.fill(0.0);
    let cols = out.len();
    for (at, b) in b.iter().enumerate() {
        let b = f64::from(*b);
        for (out, a) in out.iter_mut().zip(&a[at * cols..(at + 1) * cols]) {
            *out += b * f64::from(*a);
        }
    }
}

#[cfg(all(test, feature = "std"))]
mod tests;

//! How far two checkpoints are apart, tensor by tensor; either may be compressed.

use std::collections::BTreeMap;
use std::ops::Range;

use niwaki_codes::Shape;
use niwaki_container::matrix;
use rayon::prelude::*;
use serde::Serialize;

use crate::blocks::BLOCK;
use crate::compress::Options;
use crate::error::{Error, ErrorKind};
use crate::source::{Source, SourceTensor};

/// All tensors of two checkpoints, compared.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// Signal of A to difference over all tensors of floats, in dB; none where there is no
    /// difference.
    pub sqnr_db: Option<f64>,
    /// Each tensor, in the order of A.
    pub tensors: Vec<TensorComparison>,
}

/// One tensor of both.
#[derive(Clone, Debug, Serialize)]
pub struct TensorComparison {
    /// Its name.
    pub name: String,
    /// Signal of A to difference in dB; none where they are equal.
    pub sqnr_db: Option<f64>,
    /// The largest difference.
    pub max_abs: f64,
    /// Cosine of the angle between them; none where one is all zero.
    pub cosine: Option<f64>,
    /// Zeros in A and in B.
    pub zeros: (u64, u64),
}

/// Sums over pairs of weights.
#[derive(Clone, Copy, Default)]
struct Sums {
    signal: f64,
    noise: f64,
    other: f64,
    dot: f64,
    max_abs: f64,
    zeros: (u64, u64),
}

impl Sums {
    fn of(a: &[f32], b: &[f32]) -> Self {
        let mut sums = Self::default();
        for (a, b) in a.iter().zip(b) {
            let (x, y) = (f64::from(*a), f64::from(*b));
            // Equal infinities and two NaN of the same bits are no difference.
            let difference = if a.to_bits() == b.to_bits() { 0.0 } else { (x - y).abs() };
            sums.signal += x * x;
            sums.other += y * y;
            sums.dot += x * y;
            sums.noise += difference * difference;
            sums.max_abs = if difference > sums.max_abs || difference.is_nan() { difference } else { sums.max_abs };
            sums.zeros.0 += u64::from(x == 0.0);
            sums.zeros.1 += u64::from(y == 0.0);
        }
        sums
    }

    fn merge(mut self, next: &Self) -> Self {
        self.signal += next.signal;
        self.other += next.other;
        self.dot += next.dot;
        self.noise += next.noise;
        self.max_abs = if next.max_abs > self.max_abs || next.max_abs.is_nan() { next.max_abs } else { self.max_abs };
        self.zeros.0 += next.zeros.0;
        self.zeros.1 += next.zeros.1;
        self
    }

    fn db(&self) -> Option<f64> {
        let db = 10.0 * (self.signal / self.noise).log10();
        (self.noise != 0.0 && db.is_finite()).then(|| (db * 1e4).round() / 1e4)
    }

    fn cosine(&self) -> Option<f64> {
        let norms = (self.signal * self.other).sqrt();
        (norms > 0.0 && norms.is_finite()).then(|| (self.dot / norms).clamp(-1.0, 1.0))
    }
}

/// Compares B with A: the same tensors by name and shape.
///
/// # Errors
///
/// [`ErrorKind::Unlike`] where names or shapes differ, and those of reading either.
pub fn compare(a: &Source<'_>, b: &Source<'_>, options: &Options) -> Result<Comparison, Error> {
    let mut tensors = Vec::new();
    let mut all = Sums::default();
    let pool = options.pool()?;
    let find = |source: &Source<'_>| -> BTreeMap<String, usize> {
        source.tensors().iter().enumerate().map(|(i, tensor)| (tensor.name().to_owned(), i)).collect()
    };
    let (of_a, of_b) = (find(a), find(b));
    for left in a.tensors() {
        let name = left.name();
        let right = of_b.get(name).map(|i| &b.tensors()[*i]);
        let right = right.ok_or_else(|| unlike(name, "is only in the first of the two".to_owned()))?;
        if left.shape().dims() != right.shape().dims() {
            return Err(unlike(name, format!("is {} in the first, {} in the second", left.shape(), right.shape())));
        }
        let sums = pool.install(|| tensor(left, right))?;
        // Whole numbers, positions say, are no weights: they would drown the signal of all.
        if left.is_float() {
            all = all.merge(&sums);
        }
        tensors.push(TensorComparison {
            name: name.to_owned(),
            sqnr_db: sums.db(),
            max_abs: sums.max_abs,
            cosine: sums.cosine(),
            zeros: sums.zeros,
        });
    }
    if let Some(extra) = b.tensors().iter().find(|t| !of_a.contains_key(t.name())) {
        return Err(unlike(extra.name(), "is only in the second of the two".to_owned()));
    }
    Ok(Comparison { sqnr_db: all.db(), tensors })
}

/// The first weight of each tensor that decodes to no finite number.
///
/// # Errors
///
/// Those of reading.
pub fn not_finite(source: &Source<'_>, threads: usize) -> Result<Vec<(String, usize)>, Error> {
    let pool = Options { threads, ..Options::default() }.pool()?;
    let mut found = Vec::new();
    for tensor in source.tensors().iter().filter(|tensor| tensor.is_float()) {
        let (_, cols) = tensor.matrix();
        let first = |rows: Range<usize>| -> Result<Option<usize>, Error> {
            let numbers = numbers(tensor, rows.clone())?;
            Ok(numbers.iter().position(|x| !x.is_finite()).map(|at| rows.start * cols + at))
        };
        let first = pool.install(|| row_blocks(tensor.shape()).map(first).find_map_first(Result::transpose));
        if let Some(index) = first.transpose()? {
            found.push((tensor.name().to_owned(), index));
        }
    }
    Ok(found)
}

/// Signal to noise of a tensor against another of its shape; none where they are equal.
pub(crate) fn sqnr(a: &SourceTensor<'_>, b: &SourceTensor<'_>) -> Result<Option<f64>, Error> {
    Ok(tensor(a, b)?.db())
}

fn unlike(name: &str, what: String) -> Error {
    Error::from(ErrorKind::Unlike { what }).of(name)
}

/// Rows that are decoded at a time.
pub(crate) fn row_blocks(shape: &Shape) -> impl IndexedParallelIterator<Item = Range<usize>> + use<> {
    let (rows, cols) = matrix(shape);
    let each = (BLOCK / cols.max(1)).max(1);
    (0..rows.div_ceil(each)).into_par_iter().map(move |i| i * each..((i + 1) * each).min(rows))
}

fn tensor(a: &SourceTensor<'_>, b: &SourceTensor<'_>) -> Result<Sums, Error> {
    let blocks: Vec<Result<Sums, Error>> =
        row_blocks(a.shape()).map(|rows| Ok(Sums::of(&numbers(a, rows.clone())?, &numbers(b, rows)?))).collect();
    blocks.into_iter().try_fold(Sums::default(), |total, sums| Ok(total.merge(&sums?)))
}

/// Rows of a tensor as floats; whole numbers beyond 2^24 lose their last digits.
fn numbers(tensor: &SourceTensor<'_>, rows: Range<usize>) -> Result<Vec<f32>, Error> {
    let (_, cols) = tensor.matrix();
    let range = rows.start * cols..rows.end * cols;
    if let Some(numbers) = whole_numbers(tensor, range.clone()) {
        return Ok(numbers);
    }
    let mut out = vec![0.0; range.len()];
    tensor.decode(range, &mut out)?;
    Ok(out)
}

/// Elements of a tensor of whole numbers.
fn whole_numbers(tensor: &SourceTensor<'_>, range: Range<usize>) -> Option<Vec<f32>> {
    use niwaki_tensors::Dtype;
    macro_rules! read {
        ($type:ty) => {{
            let size = size_of::<$type>();
            let bytes = tensor.elements()?.get(range.start * size..range.end * size)?;
            let cells = bytes.as_chunks::<{ size_of::<$type>() }>().0;
            Some(cells.iter().map(|cell| <$type>::from_le_bytes(*cell) as f32).collect())
        }};
    }
    match tensor.dtype() {
        Dtype::BOOL | Dtype::U8 => read!(u8),
        Dtype::I8 => read!(i8),
        Dtype::I16 => read!(i16),
        Dtype::U16 => read!(u16),
        Dtype::I32 => read!(i32),
        Dtype::U32 => read!(u32),
        Dtype::I64 => read!(i64),
        Dtype::U64 => read!(u64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_a_tenth_is_20_decibels_and_equal_ones_have_none() {
        let sums = Sums::of(&[1.0, -1.0, 0.0], &[1.1, -0.9, 0.0]);
        assert!((sums.db().unwrap() - 20.0).abs() < 1e-3);
        assert!((sums.max_abs - 0.1).abs() < 1e-6 && sums.cosine().unwrap() > 0.99);
        assert_eq!(sums.zeros, (1, 1));
        let same = Sums::of(&[1.0, f32::INFINITY], &[1.0, f32::INFINITY]);
        assert_eq!((same.db(), same.max_abs), (None, 0.0));
        let opposite = Sums::of(&[1.0], &[-1.0]);
        assert_eq!((opposite.cosine(), opposite.max_abs), (Some(-1.0), 2.0));
    }

    #[test]
    fn a_nan_shows_as_a_difference() {
        assert!(Sums::of(&[1.0, 2.0], &[f32::NAN, 2.0]).max_abs.is_nan());
    }
}

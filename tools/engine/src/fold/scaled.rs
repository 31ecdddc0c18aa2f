//! A tensor with scales folded into it, as it is read.

use std::ops::Range;

use niwaki_tensors::Dtype;

use crate::error::{Error, ErrorKind};
use crate::source::{SourceTensor, Weights};

/// What becomes of a tensor: rows, of a vector its elements, are divided, and columns multiplied.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Factors {
    /// By row; none for ones.
    pub(super) rows: Option<Vec<f32>>,
    /// By column; none for ones.
    pub(super) columns: Option<Vec<f32>>,
    /// Both in words.
    pub(super) how: Vec<String>,
}

/// The weights of a tensor, scaled as they are read.
pub(super) struct Scaled<'a> {
    pub(super) base: SourceTensor<'a>,
    pub(super) factors: &'a Factors,
}

impl Factors {
    /// Scales the elements of a tensor with rows of `columns` from `start` on. Each is rounded once.
    fn scale(&self, start: usize, columns: usize, elements: &mut [f32]) {
        let columns = columns.max(1);
        let (mut at, mut rest) = (start, elements);
        while !rest.is_empty() {
            let (row, column) = (at / columns, at % columns);
            let len = (columns - column).min(rest.len());
            let run = rest.split_off_mut(..len).unwrap_or_default();
            let divisor = self.rows.as_ref().and_then(|rows| rows.get(row)).map_or(1.0, |by| f64::from(*by));
            match self.columns.as_ref().and_then(|by| by.get(column..column + len)) {
                Some(by) => run.iter_mut().zip(by).for_each(|(x, by)| *x = quotient(*x, f64::from(*by), divisor)),
                None => run.iter_mut().for_each(|x| *x = quotient(*x, 1.0, divisor)),
            }
            at += len;
        }
    }
}

fn quotient(x: f32, by: f64, divisor: f64) -> f32 {
    (f64::from(x) * by / divisor) as f32
}

/// The largest number of a type of floats.
fn largest(dtype: Dtype) -> f32 {
    match dtype {
        Dtype::F16 => half::f16::MAX.to_f32(),
        Dtype::BF16 => half::bf16::MAX.to_f32(),
        _ => f32::MAX,
    }
}

impl Weights for Scaled<'_> {
    fn decode(&self, range: Range<usize>, out: &mut [f32]) -> Result<(), Error> {
        self.base.decode(range.clone(), out)?;
        let finite = out.iter().all(|x| x.is_finite());
        let dims = self.base.shape().dims();
        let columns = if dims.len() < 2 { 1 } else { self.base.matrix().1 };
        self.factors.scale(range.start, columns, out);
        let (dtype, limit) = (self.base.float_dtype(), largest(self.base.float_dtype()));
        match out.iter().position(|x| x.is_nan() || x.abs() > limit) {
            Some(at) if finite => {
                let what =
                    format!("weight {} is {} with its scales, beyond the largest {dtype}", range.start + at, out[at]);
                let error = Error::from(ErrorKind::Usage { what }).of(self.base.name());
                Err(error.hinting("a smaller `alpha` in `[[fold]]` scales less"))
            }
            _ => Ok(()),
        }
    }

    fn ensure_unchanged(&self) -> Result<(), Error> {
        self.base.ensure_unchanged()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_divided_and_columns_multiplied_wherever_a_piece_begins() {
        let factors = Factors { rows: Some(vec![2.0, 0.5]), columns: Some(vec![4.0, 1.0, 8.0]), how: vec![] };
        let all = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let needs = [2.0, 1.0, 12.0, 32.0, 10.0, 96.0];
        for start in 0..6 {
            for end in start..=6 {
                let mut piece = all[start..end].to_vec();
                factors.scale(start, 3, &mut piece);
                assert_eq!(piece, needs[start..end], "{start}..{end}");
            }
        }
    }

    #[test]
    fn elements_of_a_vector_are_rows() {
        let factors = Factors { rows: Some(vec![2.0, 4.0, 0.5]), ..Factors::default() };
        let mut all = [1.0, 3.0, f32::INFINITY];
        factors.scale(0, 1, &mut all);
        assert_eq!(all, [0.5, 0.75, f32::INFINITY]);
    }

    #[test]
    fn what_is_scaled_is_rounded_once() {
        let factors = Factors { rows: Some(vec![3.0]), columns: Some(vec![0.3, 7.0]), how: vec![] };
        let mut all = [0.1f32, 1e-7];
        factors.scale(0, 2, &mut all);
        let by = |x: f32, by: f32| (f64::from(x) * f64::from(by) / 3.0) as f32;
        assert_eq!(all, [by(0.1, 0.3), by(1e-7, 7.0)]);
    }
}

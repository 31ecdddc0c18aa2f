//! Approximations of matrices whose singular values are known.

use super::*;

/// `U S V'` with pseudo-random orthonormal columns and these singular values.
struct Known {
    rows: usize,
    cols: usize,
    weights: Vec<f32>,
}

impl Known {
    fn new(rows: usize, cols: usize, values: &[f64]) -> Self {
        let (mut u, mut v) = (start(rows, values.len()), start(cols, values.len()));
        orthonormalize(&mut u);
        orthonormalize(&mut v);
        let element = |row: usize, col: usize| -> f64 {
            values.iter().enumerate().map(|(at, s)| s * u.column(at)[row] * v.column(at)[col]).sum()
        };
        let weights = (0..rows * cols).map(|at| element(at / cols, at % cols) as f32).collect();
        Self { rows, cols, weights }
    }

    fn factors(&self, level: Level, rank: usize) -> Factors {
        let size = (self.rows, self.cols);
        low_rank(level, size, rank, |range, out| {
            out.copy_from_slice(&self.weights[range.start * self.cols..range.end * self.cols]);
            Ok::<(), Error>(())
        })
        .expect("a rank that there is, and finite weights")
    }
}

/// `1, ratio, ratio^2, …`
fn geometric(count: i32, ratio: f64) -> Vec<f64> {
    (0..count).map(|at| ratio.powi(at)).collect()
}

fn norm(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().map(|x| x * x).sum::<f64>().sqrt()
}

#[test]
fn a_matrix_of_low_rank_is_found_again() {
    for (rows, cols) in [(40, 30), (5, 64), (300, 9), (70_000, 3)] {
        let known = Known::new(rows, cols, &[3.0, 2.0, 0.5]);
        let factors = known.factors(Level::best(), 3);
        // The matrix itself and both factors are rounded to `f32`.
        assert!(factors.relative_error <= 4.0 * f64::from(f32::EPSILON), "{}", factors.relative_error);
        for (found, value) in factors.singular_values.iter().zip([3.0, 2.0, 0.5]) {
            assert!((found - value).abs() <= 3.0 * f64::from(f32::EPSILON), "{found} {value}");
        }
    }
}

#[test]
fn no_matrix_of_the_rank_is_nearer() {
    // Eckart and Young: what remains are the other singular values.
    for (rows, cols, rank) in [(90, 120, 4), (120, 90, 10), (64, 64, 1)] {
        let values = geometric(40, 0.8);
        let factors = Known::new(rows, cols, &values).factors(Level::best(), rank);
        let best = norm(values[rank..].iter().copied()) / norm(values.iter().copied());
        assert!(factors.relative_error >= best * (1.0 - 1e-5), "{} {best}", factors.relative_error);
        assert!(factors.relative_error <= best * (1.0 + 1e-3), "{} {best}", factors.relative_error);
        for (found, value) in factors.singular_values.iter().zip(&values) {
            assert!((found / value - 1.0).abs() <= 1e-3, "{found} {value}");
        }
    }
}

#[test]
fn the_error_is_that_of_the_factors() {
    let known = Known::new(33, 21, &geometric(20, 0.7));
    let Factors { b, a, relative_error, .. } = known.factors(Level::best(), 5);
    let mut lacks = 0.0;
    for row in 0..33 {
        for col in 0..21 {
            let product: f64 = (0..5).map(|k| f64::from(b[row * 5 + k]) * f64::from(a[k * 21 + col])).sum();
            lacks += (f64::from(known.weights[row * 21 + col]) - product).powi(2);
        }
    }
    let naive = lacks.sqrt() / norm(known.weights.iter().map(|x| f64::from(*x)));
    assert!((relative_error / naive - 1.0).abs() < 1e-9, "{relative_error} {naive}");
}

#[test]
fn singular_values_are_split_evenly() {
    let Factors { b, a, singular_values, .. } = Known::new(50, 70, &[9.0, 4.0, 1e-3]).factors(Level::best(), 3);
    for (at, value) in singular_values.iter().enumerate() {
        let column = norm(b.iter().skip(at).step_by(3).map(|x| f64::from(*x)));
        let row = norm(a[at * 70..(at + 1) * 70].iter().map(|x| f64::from(*x)));
        for length in [column, row] {
            assert!((length * length / value - 1.0).abs() < 1e-5, "{length} {value}");
        }
    }
}

#[test]
fn every_simd_level_gives_the_same_factors() {
    for (rows, cols) in [(37, 45), (4, 9), (1, 3)] {
        let known = Known::new(rows, cols, &geometric(1 + rows.min(cols) as i32 / 2, 0.9));
        let rank = rows.min(cols).min(6);
        let scalar = known.factors(Level::Scalar, rank);
        for level in Level::all() {
            assert_eq!(known.factors(level, rank), scalar, "{}", level.name());
        }
    }
}

#[test]
fn blocks_of_rows_come_in_order_and_change_nothing() {
    // Rows so long that a block is a few of them; the last is shorter.
    let known = Known::new(11, 20_000, &[2.0, 1.0]);
    let mut begins = Vec::new();
    let factors = low_rank(Level::best(), (11, 20_000), 2, |range, out: &mut [f32]| {
        begins.push(range.clone());
        out.copy_from_slice(&known.weights[range.start * 20_000..range.end * 20_000]);
        Ok::<(), Error>(())
    });
    assert_eq!(begins.len(), 6 * 3);
    assert_eq!(begins[..3], [0..4, 4..8, 8..11]);
    assert!(factors.unwrap().relative_error < 4.0 * f64::from(f32::EPSILON));
}

#[test]
fn a_full_rank_leaves_rounding_only() {
    let known = Known::new(12, 10, &geometric(10, 0.9));
    let factors = known.factors(Level::best(), 10);
    assert!(factors.relative_error < 4.0 * f64::from(f32::EPSILON), "{}", factors.relative_error);
}

#[test]
fn zeros_have_zero_factors() {
    let factors = Known::new(6, 7, &[]).factors(Level::best(), 2);
    assert!(factors.a.iter().chain(&factors.b).all(|x| *x == 0.0));
    assert_eq!((factors.singular_values, factors.relative_error), (vec![0.0, 0.0], 0.0));
}

#[test]
fn extreme_weights_neither_overflow_nor_vanish() {
    for scale in [1e38, 1e-38] {
        let read = |range: Range<usize>, out: &mut [f32]| {
            range.zip(out.chunks_mut(5)).for_each(|(row, out)| out.fill(if row % 2 == 0 { scale } else { -scale }));
            Ok::<(), Error>(())
        };
        let factors = low_rank(Level::best(), (8, 5), 1, read).unwrap();
        assert!(factors.relative_error < 2.0 * f64::from(f32::EPSILON), "{}", factors.relative_error);
    }
}

#[test]
fn ranks_that_no_matrix_has_are_refused() {
    let none = |_: Range<usize>, _: &mut [f32]| Ok::<(), Error>(());
    for (rows, cols, rank) in [(4, 5, 0), (4, 5, 5), (0, 5, 1), (5, 0, 1), (usize::MAX, 2, 1), (2, 2, usize::MAX)] {
        let error = low_rank(Level::best(), (rows, cols), rank, none).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Rank { rank, rows, cols });
    }
    let error = low_rank(Level::best(), (4, 5), 6, none).unwrap_err();
    assert_eq!(alloc::format!("{error}"), "rank 6; a matrix of 4x5 has ranks from 1 to 4");
}

#[test]
fn weights_that_are_not_finite_are_named() {
    let read = |range: Range<usize>, out: &mut [f32]| {
        out.fill(1.0);
        if let Some(row) = range.clone().position(|row| row == 2) {
            out[row * 5 + 3] = f32::NAN;
        }
        Ok::<(), Error>(())
    };
    let error = low_rank(Level::best(), (4, 5), 2, read).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFinite { index: 13 });
}

#[test]
fn errors_of_the_reader_are_handed_on() {
    #[derive(Debug, PartialEq)]
    struct Other(usize);
    impl From<Error> for Other {
        fn from(_: Error) -> Self {
            Self(0)
        }
    }
    let read = |range: Range<usize>, _: &mut [f32]| Err(Other(range.end));
    assert_eq!(low_rank(Level::best(), (4, 5), 2, read), Err(Other(4)));
}

//! Identities that the dense pieces keep.

use super::*;

fn made(rows: usize, count: usize, seed: u64) -> Columns {
    let mut state = seed;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f64 / 65536.0 - 128.0
    };
    Columns { rows, count, data: (0..rows * count).map(|_| next()).collect() }
}

/// `X Y`.
fn product(x: &Columns, y: &Columns) -> Columns {
    x.combined(y, &vec![1.0; y.count])
}

fn transposed(x: &Columns) -> Columns {
    let element = |at: usize| x.data[at % x.count * x.rows + at / x.count];
    Columns { rows: x.count, count: x.rows, data: (0..x.data.len()).map(element).collect() }
}

/// The largest difference of two matrices, against the largest element of the second.
fn apart(x: &Columns, y: &Columns) -> f64 {
    assert_eq!((x.rows, x.count), (y.rows, y.count));
    let largest = y.data.iter().fold(f64::MIN_POSITIVE, |most, y| most.max(y.abs()));
    x.data.iter().zip(&y.data).fold(0.0_f64, |most, (x, y)| most.max((x - y).abs())) / largest
}

/// The identity, with zeros where columns were dependent.
fn identity(ones: &[bool]) -> Columns {
    let mut result = Columns::zeros(ones.len(), ones.len());
    (0..ones.len()).for_each(|at| result.column_mut(at)[at] = f64::from(ones[at]));
    result
}

/// Rounding of sums of `n` products, with room for the few steps that follow each other.
fn rounding(n: usize) -> f64 {
    16.0 * n as f64 * f64::EPSILON
}

#[test]
fn q_r_is_the_matrix_and_q_is_orthonormal() {
    for (rows, count) in [(1, 1), (9, 9), (40, 7), (133, 24)] {
        let x = made(rows, count, 7 + rows as u64);
        let mut q = x.clone();
        let r = orthonormalize(&mut q);
        assert!(apart(&product(&q, &r), &x) <= rounding(count), "{rows}x{count}");
        let gram = product(&transposed(&q), &q);
        assert!(apart(&gram, &identity(&vec![true; count])) <= rounding(rows), "{rows}x{count}");
        let below = (0..count).flat_map(|at| r.column(at)[at + 1..].to_vec());
        assert!(below.into_iter().all(|x| x == 0.0));
    }
}

#[test]
fn dependent_columns_become_zero() {
    let mut x = made(30, 4, 3);
    let (first, third) = x.pair(0, 2);
    third.copy_from_slice(first);
    x.column_mut(1).fill(0.0);
    let mut q = x.clone();
    let r = orthonormalize(&mut q);
    assert!(q.column(1).iter().chain(q.column(2)).all(|x| *x == 0.0));
    assert!(apart(&product(&q, &r), &x) <= rounding(4));
    let gram = product(&transposed(&q), &q);
    assert!(apart(&gram, &identity(&[true, false, false, true])) <= rounding(30));
}

#[test]
fn nearly_parallel_columns_become_orthonormal() {
    let mut x = made(50, 3, 5);
    for at in 1..3 {
        let small: Vec<f64> = x.column(at).iter().map(|x| x * 1e-9).collect();
        let (first, other) = x.pair(0, at);
        other.iter_mut().zip(first).zip(small).for_each(|((other, first), small)| *other = *first + small);
    }
    orthonormalize(&mut x);
    let gram = product(&transposed(&x), &x);
    assert!(apart(&gram, &identity(&[true; 3])) <= rounding(50));
}

#[test]
fn jacobi_finds_singular_values_and_vectors() {
    for (rows, count) in [(1, 1), (5, 5), (24, 24), (60, 11)] {
        let x = made(rows, count, 11 + rows as u64);
        let mut u = x.clone();
        let (w, values) = jacobi(&mut u);
        assert!(values.windows(2).all(|pair| pair[0] >= pair[1]));
        let mut stretched = u.clone();
        for (at, value) in values.iter().enumerate() {
            stretched.column_mut(at).iter_mut().for_each(|x| *x *= value);
        }
        let tolerance = 8.0 * rounding(rows);
        assert!(apart(&product(&stretched, &transposed(&w)), &x) <= tolerance, "{rows}x{count}");
        assert!(apart(&product(&transposed(&w), &w), &identity(&vec![true; count])) <= tolerance);
        assert!(apart(&product(&transposed(&u), &u), &identity(&vec![true; count])) <= tolerance);
    }
}

#[test]
fn singular_values_of_a_known_matrix() {
    // [[3, 0], [4, 5]] has the squares 45 and 5.
    let mut x = Columns { rows: 2, count: 2, data: vec![3.0, 4.0, 0.0, 5.0] };
    let (_, values) = jacobi(&mut x);
    assert!((values[0] - 45.0_f64.sqrt()).abs() < rounding(2) * 8.0, "{values:?}");
    assert!((values[1] - 5.0_f64.sqrt()).abs() < rounding(2) * 8.0, "{values:?}");
}

#[test]
fn a_zero_column_has_a_zero_singular_value() {
    let mut x = made(6, 3, 9);
    x.column_mut(1).fill(0.0);
    let (_, values) = jacobi(&mut x);
    assert_eq!(values[2], 0.0);
    assert!(x.column(2).iter().all(|x| *x == 0.0));
}

#[test]
fn roots_are_those_of_std() {
    let mut x = 5e-324;
    while x < 1e300 {
        assert!((sqrt(x) / x.sqrt() - 1.0).abs() <= 2.0 * f64::EPSILON, "{x}");
        x *= 1.7;
        if x < 1e-320 {
            x += 5e-324;
        }
    }
    assert_eq!([0.0, -1.0, 1.0, 4.0, 2.25].map(sqrt), [0.0, 0.0, 1.0, 2.0, 1.5]);
    assert_eq!(sqrt(f64::INFINITY), f64::INFINITY);
}

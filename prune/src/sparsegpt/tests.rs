#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use super::*;

/// Numbers between -1 and 1.
fn numbers(len: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// Inputs that go together: each is half of the one before it.
fn inputs(rows: usize, cols: usize, seed: u64) -> Vec<f64> {
    let mut all = numbers(rows * cols, seed);
    for row in all.chunks_exact_mut(cols) {
        for at in 1..cols {
            row[at] = 0.4 * row[at] * (1 + at % 3) as f64 + 0.5 * row[at - 1];
        }
    }
    all
}

/// X'X, a little damped.
fn gram(x: &[f64], cols: usize) -> Vec<f64> {
    let mut h = vec![0.0; cols * cols];
    for row in x.chunks_exact(cols) {
        for (at, h) in h.iter_mut().enumerate() {
            *h += row[at / cols] * row[at % cols];
        }
    }
    (0..cols).for_each(|at| h[at * cols + at] += 0.01 * x.len() as f64 / cols as f64 / 10.0);
    h
}

/// The inverse of the rows and columns from `from` on, by Gauss and Jordan.
fn inverse(h: &[f64], cols: usize, from: usize) -> Vec<f64> {
    let n = cols - from;
    let mut a: Vec<f64> = (0..n * n).map(|at| h[(at / n + from) * cols + at % n + from]).collect();
    let mut b: Vec<f64> = (0..n * n).map(|at| f64::from(u8::from(at / n == at % n))).collect();
    for k in 0..n {
        let pivot = a[k * n + k];
        (0..n).for_each(|j| (a[k * n + j], b[k * n + j]) = (a[k * n + j] / pivot, b[k * n + j] / pivot));
        for i in (0..n).filter(|i| *i != k) {
            let factor = a[i * n + k];
            for j in 0..n {
                a[i * n + j] -= factor * a[k * n + j];
                b[i * n + j] -= factor * b[k * n + j];
            }
        }
    }
    b
}

/// The upper factor: row `j` is that of the inverse without the columns before `j`, over the root of its first.
fn factor(h: &[f64], cols: usize) -> Vec<f64> {
    let mut upper = vec![0.0; cols * cols];
    for j in 0..cols {
        let inverse = inverse(h, cols, j);
        (j..cols).for_each(|k| upper[j * cols + k] = inverse[k - j] / inverse[0].sqrt());
    }
    upper
}

fn run(size: (usize, usize), weights: &[f32], factors: &[Vec<f64>], kept: Kept) -> (Mask, Vec<f32>) {
    let factors: Vec<&[f64]> = factors.iter().map(Vec::as_slice).collect();
    let each = |level: Level| {
        let mut state = SparseGpt::new(level, size, weights, factors.clone(), kept).unwrap();
        while state.choose().unwrap() {
            // From the last to the first: their order does not matter.
            state.bands().into_iter().rev().for_each(Band::solve);
        }
        state.finish().unwrap()
    };
    let all: Vec<_> = Level::all().map(each).collect();
    all.iter().for_each(|(mask, weights)| assert!((mask, weights) == (&all[0].0, &all[0].1), "of every level"));
    all[0].clone()
}

fn singles(all: &[f64]) -> Vec<f32> {
    all.iter().map(|x| *x as f32).collect()
}

/// ||X (W - V)'||².
fn lost(x: &[f64], weights: &[f32], others: &[f32], cols: usize) -> f64 {
    let of = |(w, v): (&[f32], &[f32])| -> f64 {
        let difference: Vec<f64> = w.iter().zip(v).map(|(w, v)| f64::from(*w) - f64::from(*v)).collect();
        let dot = |x: &[f64]| x.iter().zip(&difference).map(|(x, d)| x * d).sum::<f64>();
        x.chunks_exact(cols).map(|x| dot(x).powi(2)).sum()
    };
    weights.chunks_exact(cols).zip(others.chunks_exact(cols)).map(of).sum()
}

#[test]
fn a_row_is_that_of_the_optimal_brain_surgeon() {
    // More columns than a block has.
    let cols = 150;
    let x = inputs(3 * cols, cols, 1);
    let h = gram(&x, cols);
    let upper = factor(&h, cols);
    let weights = singles(&numbers(cols, 2));
    for kept in [Kept::Count(61), Kept::NofM(NofM::new(2, 4).unwrap()), Kept::NofM(NofM::new(1, 3).unwrap())] {
        let (mask, found) = run((1, cols), &weights, std::slice::from_ref(&upper), kept);
        // Column by column, each with the inverse of all that is not yet passed.
        let mut expected: Vec<f64> = weights.iter().map(|w| f64::from(*w)).collect();
        for j in 0..cols {
            if mask.view().keeps(0, j) == Some(true) {
                continue;
            }
            let inverse = inverse(&h, cols, j);
            let error = expected[j] / inverse[0];
            (j..cols).for_each(|k| expected[k] -= error * inverse[k - j]);
            assert!(expected[j].abs() < 1e-12);
        }
        for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert!((f64::from(*found) - expected).abs() < 1e-6, "{kept:?}, column {at}: {found}, {expected}");
        }
    }
}

#[test]
fn each_run_is_chosen_when_it_comes() {
    let cols = 10;
    let h = gram(&inputs(40, cols, 3), cols);
    let weights = singles(&numbers(cols, 4));
    let (mask, _) = run((1, cols), &weights, &[factor(&h, cols)], Kept::NofM(NofM::new(2, 4).unwrap()));
    let mut now: Vec<f64> = weights.iter().map(|w| f64::from(*w)).collect();
    for start in (0..cols).step_by(4) {
        let last = (start + 4).min(cols);
        let score = |j: &usize| now[*j].abs() / inverse(&h, cols, *j)[0].sqrt();
        let mut order: Vec<usize> = (start..last).collect();
        order.sort_by(|a, b| score(b).total_cmp(&score(a)));
        // The short last run keeps its two.
        for (rank, j) in order.iter().enumerate() {
            assert_eq!(mask.view().keeps(0, *j), Some(rank < 2), "column {j}");
        }
        for j in start..last {
            if mask.view().keeps(0, j) == Some(false) {
                let inverse = inverse(&h, cols, j);
                let error = now[j] / inverse[0];
                (j..cols).for_each(|k| now[k] -= error * inverse[k - j]);
            }
        }
    }
}

#[test]
fn counts_are_kept_to_the_weight_and_what_goes_is_zero() {
    for (rows, cols) in [(1, 1), (3, 7), (20, 128), (17, 129), (5, 300), (2, 0), (0, 3)] {
        let upper = factor(&gram(&inputs(cols + 4, cols.max(1), 5), cols.max(1)), cols.max(1));
        let upper = if cols == 0 { Vec::new() } else { upper };
        let weights = singles(&numbers(rows * cols, 6));
        let all = (rows * cols) as u64;
        for count in [0, 1, all / 3, all / 2, all, all + 9] {
            let (mask, found) = run((rows, cols), &weights, std::slice::from_ref(&upper), Kept::Count(count));
            assert_eq!(mask.view().kept() as u64, count.min(all), "{rows}x{cols}");
            for (at, w) in found.iter().enumerate() {
                let keeps = mask.view().keeps(at / cols, at % cols) == Some(true);
                assert!(keeps || w.to_bits() == 0, "{rows}x{cols} at {at}: {w}");
            }
            if count >= all {
                assert_eq!(found, weights);
            }
        }
        for (n, m) in [(2, 4), (1, 1), (3, 200)] {
            let run_of = NofM::new(n, m).unwrap();
            let (mask, _) = run((rows, cols), &weights, std::slice::from_ref(&upper), Kept::NofM(run_of));
            assert_eq!(mask.view().kept(), rows * run_of.of_row(cols), "{n}:{m} of {rows}x{cols}");
        }
    }
}

#[test]
fn less_is_lost_than_by_the_norms_of_inputs_and_by_magnitudes() {
    let (rows, cols) = (24, 160);
    let x = inputs(400, cols, 7);
    let weights = singles(&numbers(rows * cols, 8));
    let upper = factor(&gram(&x, cols), cols);
    let norm = |at: usize| x.chunks_exact(cols).map(|row| row[at] * row[at]).sum::<f64>().sqrt() as f32;
    let norms: Vec<f32> = (0..cols).map(norm).collect();
    let wanda: Vec<f32> =
        weights.chunks_exact(cols).flat_map(|row| row.iter().zip(&norms).map(|(w, n)| w * n)).collect();
    let masked = |scores: &[f32]| -> Vec<f32> {
        let each = |(row, scores): (&[f32], &[f32])| -> Vec<f32> {
            let mask = mask_of_count(Level::best(), cols as u64 / 2, 1, cols, scores).unwrap();
            row.iter()
                .enumerate()
                .map(|(at, w)| if mask.view().keeps(0, at) == Some(true) { *w } else { 0.0 })
                .collect()
        };
        weights.chunks_exact(cols).zip(scores.chunks_exact(cols)).flat_map(each).collect()
    };
    let (_, found) = run((rows, cols), &weights, &[upper], Kept::Count((rows * cols) as u64 / 2));
    let [sparsegpt, wanda, magnitude] =
        [found, masked(&wanda), masked(&weights)].map(|others| lost(&x, &weights, &others, cols));
    assert!(sparsegpt < 0.8 * wanda && wanda <= magnitude, "{sparsegpt}, {wanda}, {magnitude}");
}

#[test]
fn parts_of_the_rows_have_inputs_of_their_own() {
    let (rows, cols) = (6, 9);
    let uppers: Vec<Vec<f64>> = (0..3).map(|seed| factor(&gram(&inputs(30, cols, seed + 10), cols), cols)).collect();
    let weights = singles(&numbers(rows * cols, 11));
    let nofm = Kept::NofM(NofM::new(1, 3).unwrap());
    let (mask, found) = run((rows, cols), &weights, &uppers, nofm);
    for (nth, upper) in uppers.iter().enumerate() {
        let part = nth * 2 * cols..(nth + 1) * 2 * cols;
        let (own, alone) = run((2, cols), &weights[part.clone()], std::slice::from_ref(upper), nofm);
        assert_eq!(alone, found[part]);
        assert!(
            (0..2 * cols).all(|at| {
                own.view().keeps(at / cols, at % cols) == mask.view().keeps(2 * nth + at / cols, at % cols)
            })
        );
    }
    let (mask, _) = run((rows, cols), &weights, &uppers, Kept::Count(20));
    assert_eq!(mask.view().kept(), 20);
}

#[test]
fn what_does_not_fit_is_refused() {
    let refuse = |size, weights: &[f32], factors: Vec<&[f64]>| {
        SparseGpt::new(Level::best(), size, weights, factors, Kept::Count(1)).unwrap_err().kind().clone()
    };
    let one = [1.0, 0.0, 0.0, 1.0];
    assert_eq!(refuse((2, 2), &[1.0; 3], vec![&one]), ErrorKind::Count { needs: 4, has: 3 });
    assert_eq!(refuse((usize::MAX, 2), &[1.0; 3], vec![&one]), ErrorKind::Count { needs: u64::MAX, has: 3 });
    let nan = refuse((1, 2), &[1.0, f32::NAN], vec![&one]);
    assert!(matches!(nan, ErrorKind::NotFinite { index: 1, .. }), "{nan:?}");
    assert_eq!(refuse((3, 2), &[1.0; 6], vec![&one, &one]), ErrorKind::Factor { factor: 2 });
    assert_eq!(refuse((1, 2), &[1.0; 2], vec![]), ErrorKind::Factor { factor: 0 });
    for wrong in [&[1.0, 0.0, 0.0][..], &[1.0, 0.0, 0.0, 0.0], &[1.0, f64::NAN, 0.0, 1.0], &[-1.0, 0.0, 0.0, 1.0]] {
        assert_eq!(refuse((2, 2), &[1.0; 4], vec![&one, wrong]), ErrorKind::Factor { factor: 1 });
    }
    // An update beyond all floats.
    let (far, nofm) = ([1e-30, 1e60, 0.0, 1e-2], Kept::NofM(NofM::new(1, 2).unwrap()));
    let mut state = SparseGpt::new(Level::best(), (1, 2), &[1e-30, 1.0], vec![&far], nofm).unwrap();
    while state.choose().unwrap() {
        state.bands().into_iter().for_each(Band::solve);
    }
    assert!(matches!(state.finish().unwrap_err().kind(), ErrorKind::NotFinite { .. }));
}

//! Ranges, counts and sums: those that niwaki-quant remembers.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod device;

use device::{TYPES, card, numbers};
use niwaki_codes::simd::Level;
use niwaki_cuda::{GramSums, Numbers, Range};
use niwaki_quant::observe::{Extremes, Gram, Histogram, SecondMoments};

/// The largest magnitude; of two the negative one.
fn extreme(x: impl Iterator<Item = f32>) -> f32 {
    f32::from_bits(x.map(|x| x.to_bits().rotate_left(1)).fold(0, u32::max).rotate_right(1))
}

#[test]
fn ranges_are_those_of_rows_and_columns() {
    let Some(card) = card() else { return };
    for (rows, cols) in [(1, 1), (3, 31), (5, 1000), (300, 40), (2, 70_001), (513, 3)] {
        for of in TYPES {
            let bytes = of.bytes(&numbers(rows * cols, 1));
            let floats = of.floats(&bytes);
            let mut columns = Extremes::new(cols);
            columns.rows(&floats);
            for (at, found) in card.column_ranges(of.numbers(&bytes), cols).unwrap().into_iter().enumerate() {
                let extreme = extreme(floats.iter().skip(at).step_by(cols).copied());
                assert_eq!(found, Range { extreme, low: columns.low()[at], high: columns.high()[at] });
            }
            let found = card.row_ranges(of.numbers(&bytes), cols).unwrap();
            assert_eq!(found.len(), rows);
            for (row, found) in floats.chunks(cols).zip(found) {
                let (low, high) =
                    row.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), x| (l.min(*x), h.max(*x)));
                assert_eq!(found, Range { extreme: extreme(row.iter().copied()), low, high });
            }
        }
    }
}

#[test]
fn what_is_no_number_shows_in_the_extreme_alone() {
    let Some(card) = card() else { return };
    let mut x = numbers(2 * 50, 3);
    x[60] = f32::NAN;
    let found = card.row_ranges(Numbers::of(&x), 50).unwrap();
    assert!(found[0].extreme.is_finite() && !found[1].extreme.is_finite());
    assert!(found[1].low.is_finite() && found[1].high.is_finite());
    assert_eq!(card.row_ranges(Numbers::of(&[]), 5).unwrap(), []);
    assert!(card.row_ranges(Numbers::of(&x), 7).is_err() && card.column_ranges(Numbers::of(&x), 0).is_err());
}

#[test]
fn counts_are_those_of_the_histogram() {
    let Some(card) = card() else { return };
    let mut x = numbers(10_001, 5);
    for (at, odd) in [1e-30, -1e-12, 3e9, -5e20, 1e-40, f32::INFINITY, f32::NAN, f32::NEG_INFINITY, f32::MAX, f32::MIN]
        .into_iter()
        .enumerate()
    {
        x[at * 37] = odd;
    }
    for of in TYPES {
        for len in [0, 1, 7, 500, 10_001] {
            let bytes = of.bytes(&x[..len]);
            let mut histogram = Histogram::default();
            histogram.see(&of.floats(&bytes));
            assert_eq!(card.histogram(of.numbers(&bytes)).unwrap(), histogram.counts(), "{len} {of:?}");
        }
    }
}

#[test]
fn squares_are_added_by_runs_and_near_those_in_order() {
    let Some(card) = card() else { return };
    for (rows, cols) in [(1, 1), (40, 300), (256, 5), (257, 5), (1000, 3)] {
        for of in TYPES {
            let bytes = of.bytes(&numbers(rows * cols, 7));
            let floats = of.floats(&bytes);
            let found = card.second_moments(of.numbers(&bytes), cols).unwrap();
            let mut in_order = SecondMoments::new(cols);
            in_order.rows(&floats);
            for (at, (found, mean)) in found.iter().zip(in_order.means()).enumerate() {
                let column: Vec<f64> = floats.iter().skip(at).step_by(cols).map(|x| f64::from(*x)).collect();
                let runs = column.chunks(256).map(|run| run.iter().fold(0.0, |sum, x| sum + x * x));
                let want = runs.fold(0.0, |sum, run| sum + run);
                assert_eq!(found.to_bits(), want.to_bits());
                // Each of two orders is within (rows - 1) / 2^53 of the exact sum.
                assert!((found - mean * rows as f64).abs() <= 3.0 * rows as f64 * f64::EPSILON * want);
            }
        }
    }
    assert_eq!(card.second_moments(Numbers::of(&[]), 2).unwrap(), [0.0, 0.0]);
}

#[test]
fn products_are_added_as_the_cpu_does() {
    let Some(card) = card() else { return };
    for (inputs, runs) in [(1, vec![1, 70]), (9, vec![64, 65]), (70, vec![33]), (130, vec![130, 3])] {
        for of in TYPES {
            let (mut gram, mut there) = (Gram::new(inputs), GramSums::at_a_time(&card, inputs, 256).unwrap());
            for (nth, rows) in runs.iter().enumerate() {
                let bytes = of.bytes(&numbers(rows * inputs, nth as u64));
                gram.rows(Level::best(), &of.floats(&bytes));
                there.rows(of.numbers(&bytes)).unwrap();
            }
            let sums = there.into_sums().unwrap();
            for (row, column) in (0..inputs).flat_map(|row| (row..inputs).map(move |column| (row, column))) {
                let (found, want) = (sums[row * inputs + column], gram.get(row, column));
                assert_eq!(found.to_bits(), want.to_bits(), "{inputs} inputs, {row} and {column}");
            }
            assert!((1..inputs).all(|row| sums[row * inputs..row * inputs + row].iter().all(|sum| *sum == 0.0)));
        }
    }
    assert!(GramSums::at_a_time(&card, 3, 1).unwrap().rows(Numbers::of(&[0.0; 4])).is_err());
}

#[test]
fn rows_beyond_what_goes_to_the_device_at_once_are_added_in_the_same_order() {
    let Some(card) = card() else { return };
    let inputs = 9;
    let (mut gram, mut there) = (Gram::new(inputs), GramSums::at_a_time(&card, inputs, 65).unwrap());
    let x = numbers(300 * inputs, 3);
    gram.rows(Level::best(), &x);
    there.rows(Numbers::of(&x)).unwrap();
    let sums = there.into_sums().unwrap();
    assert!((0..inputs).all(|at| sums[at].to_bits() == gram.get(0, at).to_bits()));
}

//! Rules against sorting, weight by weight.

extern crate alloc;

use alloc::vec;
use alloc::vec::Vec;

use super::*;

fn marked(rule: Rule, level: Level, row: &[f32], left: &mut u64) -> Vec<usize> {
    let mut bits = vec![0xaa; row.len().div_ceil(8)];
    rule.mark_row(level, 0, row, left, &mut bits).unwrap();
    (0..bits.len() * 8).filter(|i| bits[i / 8] >> (i % 8) & 1 == 1).collect()
}

/// The n largest of each run by sorting, places as the second key.
fn sorted_runs(n: usize, m: usize, row: &[f32]) -> Vec<usize> {
    let mut kept = vec![];
    for (r, run) in row.chunks(m).enumerate() {
        let mut order: Vec<_> = (0..run.len()).collect();
        order.sort_by(|a, b| run[*b].abs().total_cmp(&run[*a].abs()).then(a.cmp(b)));
        kept.extend(order.iter().take(n).map(|i| r * m + i));
    }
    kept.sort_unstable();
    kept
}

/// Few different magnitudes, so that ties abound; both zeros among them.
fn row(len: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 7919 + i / 5) % 7) as f32 * if i % 3 == 0 { -0.5 } else { 0.5 }).collect()
}

#[test]
fn runs_keep_their_largest_at_every_level() {
    for level in Level::all() {
        for (n, m) in [(1, 1), (1, 2), (2, 4), (3, 4), (4, 8), (8, 8), (1, 3), (5, 16), (2, 256)] {
            let rule = Rule::NofM(NofM::new(n, m).unwrap());
            for len in (0..40).chain([255, 256, 257, 600]) {
                let row = row(len);
                let got = marked(rule, level, &row, &mut 9);
                assert_eq!(got, sorted_runs(n as usize, m as usize, &row), "{n}:{m} of {len} at {}", level.name());
                assert_eq!(rule.tally(level, len, &row).kept(0), got.len() as u64);
            }
        }
    }
}

#[test]
fn the_oracle_of_runs_breaks_ties_by_place() {
    assert_eq!(sorted_runs(1, 3, &[1.0, -1.0, 0.5, 0.0, -0.0]), [0, 3]);
    assert_ne!(sorted_runs(1, 3, &[1.0, -1.0, 0.5]), [1]);
}

#[test]
fn a_threshold_keeps_what_is_above_and_the_first_ties() {
    let threshold = 1.5f32;
    for level in Level::all() {
        for len in (0..40).chain([127, 128, 129, 1000]) {
            let row = row(len);
            for ties in [0, 1, 3, 8, 1000] {
                let rule = Rule::Threshold { bits: threshold.to_bits(), ties };
                let mut left = ties;
                let got = marked(rule, level, &row, &mut left);
                let mut allowed = ties;
                let want = (0..len).filter(|i| {
                    let equal = row[*i].abs() == threshold && allowed > 0;
                    allowed -= u64::from(equal);
                    row[*i].abs() > threshold || equal
                });
                assert_eq!(got, want.collect::<Vec<_>>(), "{len} weights, {ties} ties, {}", level.name());
                assert_eq!(left, allowed);
                assert_eq!(rule.tally(level, len, &row).kept(ties), got.len() as u64);
            }
        }
    }
}

#[test]
fn padding_never_takes_a_tie() {
    let rule = Rule::Threshold { bits: 0, ties: 5 };
    let mut left = 5;
    assert_eq!(marked(rule, Level::best(), &[0.0, -0.0, 0.0], &mut left), [0, 1, 2]);
    assert_eq!(left, 2);
}

#[test]
fn weights_without_magnitude_are_named() {
    let rule = Rule::NofM(NofM::new(2, 4).unwrap());
    for level in Level::all() {
        let error = rule.mark_row(level, 40, &[1.0, 2.0, f32::NEG_INFINITY], &mut 0, &mut [0]).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::NotFinite { index: 42, value: f32::NEG_INFINITY });
        let error = rule.mark_row(level, 0, &[1.0; 9], &mut 0, &mut [0]).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Bits { needs: 2, has: 1 });
    }
}

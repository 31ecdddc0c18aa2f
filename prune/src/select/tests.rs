//! Selection against sorting, however the tensor is cut.

use alloc::vec;
use alloc::vec::Vec;

use super::*;
use crate::{NofM, Ratio};

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    /// Finite weights of all magnitudes, or of few.
    fn weights(&mut self, n: usize, few: bool) -> Vec<f32> {
        let any = |r: u64| f32::from_bits((r as u32).wrapping_mul(0x9e37_79b1));
        let one =
            |r: u64| if few { (r % 5) as f32 - 2.0 } else { Some(any(r)).filter(|w| w.is_finite()).unwrap_or(0.5) };
        (0..n).map(|_| one(self.next())).collect()
    }
}

fn keep(ratio: f64) -> Pattern {
    Pattern::Keep(Ratio::new(ratio).unwrap())
}

/// The kept places by sorting all weights, places as the second key.
fn sorted(keep: u64, weights: &[f32]) -> Vec<usize> {
    let mut order: Vec<_> = (0..weights.len()).collect();
    order.sort_by(|a, b| weights[*b].abs().total_cmp(&weights[*a].abs()).then(a.cmp(b)));
    order.truncate(keep as usize);
    order.sort_unstable();
    order
}

fn places(mask: &Mask) -> Vec<usize> {
    let (rows, cols) = (mask.rows(), mask.cols());
    (0..rows * cols).filter(|i| mask.keeps(i / cols, i % cols).unwrap()).collect()
}

#[test]
fn selection_agrees_with_sorting() {
    let mut random = Random(3);
    for (rows, cols) in [(1, 1), (1, 9), (3, 7), (16, 64), (5, 1000), (700, 1)] {
        for few in [false, true] {
            let weights = random.weights(rows * cols, few);
            for ratio in [1e-9, 0.1, 0.25, 0.5, 0.9, 1.0] {
                let pattern = keep(ratio);
                let kept = pattern.kept_count(rows, cols);
                for level in Level::all() {
                    let mask = magnitude_mask(level, &pattern, rows, cols, &weights).unwrap();
                    assert_eq!(mask.kept() as u64, kept);
                    assert_eq!(places(&mask), sorted(kept, &weights), "{rows}x{cols} {pattern} {}", level.name());
                }
            }
        }
    }
}

#[test]
fn the_oracle_breaks_ties_by_place() {
    assert_eq!(sorted(2, &[1.0, -2.0, 1.0, 0.0]), [0, 1]);
    assert_ne!(sorted(2, &[1.0, -2.0, 1.0, 0.0]), [1, 2]);
}

/// The engine's way: counts by several workers, tallies by block, then blocks in any order.
fn in_blocks(pattern: Pattern, cols: usize, weights: &[f32], workers: usize, rows_a_block: usize) -> Vec<u8> {
    let level = Level::best();
    let rows = weights.len() / cols;
    let pieces: Vec<_> = weights.chunks(cols * rows_a_block).collect();
    let mut step = pattern.select(rows, cols);
    let rule = loop {
        match step {
            Step::Done(rule) => break rule,
            Step::Observe(pass) => {
                let mut all: Vec<_> = (0..workers).map(|_| pass.counts()).collect();
                for (i, piece) in pieces.iter().enumerate() {
                    all[i * 7 % workers].observe(level, (i * rows_a_block * cols) as u64, piece).unwrap();
                }
                let mut sum = all.pop().unwrap();
                all.iter().rev().for_each(|counts| sum.merge(counts).unwrap());
                step = pass.advance(&sum).unwrap();
            }
        }
    };
    let mut left = rule.ties();
    let starts: Vec<_> = pieces
        .iter()
        .map(|piece| {
            let start = left;
            left = left.saturating_sub(rule.tally(level, cols, piece).ties);
            start
        })
        .collect();
    let width = cols.div_ceil(8);
    let mut bytes = vec![0; rows * width];
    let blocks = bytes.chunks_mut(width * rows_a_block).zip(&pieces).zip(starts).enumerate();
    for (b, ((bits, piece), mut left)) in blocks.rev() {
        let kept = rule.tally(level, cols, piece).kept(left);
        for (r, (row, bits)) in piece.chunks(cols).zip(bits.chunks_mut(width)).enumerate() {
            rule.mark_row(level, ((b * rows_a_block + r) * cols) as u64, row, &mut left, bits).unwrap();
        }
        assert_eq!(kept, bits.iter().map(|b| u64::from(b.count_ones())).sum::<u64>());
    }
    bytes
}

#[test]
fn workers_and_blocks_do_not_matter() {
    let mut random = Random(11);
    let (rows, cols) = (37, 45);
    for few in [false, true] {
        let weights = random.weights(rows * cols, few);
        for pattern in [keep(0.3), keep(1.0), keep(1e-9), Pattern::NofM(NofM::new(2, 4).unwrap())] {
            let want = magnitude_mask(Level::Scalar, &pattern, rows, cols, &weights).unwrap();
            for (workers, rows_a_block) in [(1, 37), (1, 1), (2, 5), (8, 4), (5, 36)] {
                let got = in_blocks(pattern, cols, &weights, workers, rows_a_block);
                assert_eq!(got, want.bytes(), "{pattern}, {workers} workers, blocks of {rows_a_block}");
            }
        }
    }
}

#[test]
fn equal_weights_are_kept_from_the_front() {
    let mask = magnitude_mask(Level::best(), &keep(0.5), 2, 5, &[0.0; 10]).unwrap();
    assert_eq!(places(&mask), [0, 1, 2, 3, 4]);
    let mask = magnitude_mask(Level::best(), &keep(0.2), 1, 10, &[-0.0; 10]).unwrap();
    assert_eq!(places(&mask), [0, 1]);
}

#[test]
fn neighbouring_magnitudes_are_told_apart() {
    let low = f32::from_bits(0x3f80_7fff);
    let high = f32::from_bits(0x3f80_8000);
    let mask = magnitude_mask(Level::best(), &keep(0.5), 1, 4, &[low, -high, low, high]).unwrap();
    assert_eq!(places(&mask), [1, 3]);
    let extremes = [f32::MAX, -f32::MAX, f32::from_bits(1), 0.0];
    let mask = magnitude_mask(Level::best(), &keep(0.75), 4, 1, &extremes).unwrap();
    assert_eq!(places(&mask), [0, 1, 2]);
}

#[test]
fn tensors_without_weights_have_masks_without_bits() {
    for (rows, cols) in [(0, 5), (5, 0), (0, 0)] {
        for pattern in [keep(0.5), Pattern::NofM(NofM::new(2, 4).unwrap())] {
            let mask = magnitude_mask(Level::best(), &pattern, rows, cols, &[]).unwrap();
            assert_eq!((mask.kept(), mask.bytes().len()), (0, 0));
            assert_eq!(pattern.kept_count(rows, cols), 0);
        }
    }
}

#[test]
fn weights_without_magnitude_are_named_by_flat_index() {
    for value in [f32::INFINITY, f32::NEG_INFINITY] {
        let mut weights = vec![1.0; 10_000];
        weights[9_876] = value;
        for pattern in [keep(0.5), Pattern::NofM(NofM::new(2, 4).unwrap())] {
            let error = magnitude_mask(Level::best(), &pattern, 100, 100, &weights).unwrap_err();
            assert_eq!(*error.kind(), ErrorKind::NotFinite { index: 9_876, value });
        }
    }
    let error = magnitude_mask(Level::best(), &keep(0.5), 1, 2, &[1.0, f32::NAN]).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::NotFinite { index: 1, value } if value.is_nan()));
}

#[test]
fn a_pass_refuses_counts_that_are_not_its_own() {
    let Step::Observe(pass) = keep(0.5).select(2, 2) else { panic!("two passes") };
    let mut counts = pass.counts();
    counts.observe(Level::best(), 0, &[1.0, 2.0, 3.0]).unwrap();
    assert_eq!(*pass.advance(&counts).unwrap_err().kind(), ErrorKind::Count { needs: 4, has: 3 });
    counts.observe(Level::best(), 3, &[4.0]).unwrap();
    let Step::Observe(next) = pass.advance(&counts).unwrap() else { panic!("two passes") };
    assert_eq!(*next.advance(&counts).unwrap_err().kind(), ErrorKind::Passes);
    assert_eq!(*next.counts().merge(&counts).unwrap_err().kind(), ErrorKind::Passes);

    let mut changed = next.counts();
    changed.observe(Level::best(), 0, &[0.0; 4]).unwrap();
    assert_eq!(*next.advance(&changed).unwrap_err().kind(), ErrorKind::Changed);
    let error = magnitude_mask(Level::best(), &keep(0.5), 2, 2, &[1.0]).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Count { needs: 4, has: 1 });
}

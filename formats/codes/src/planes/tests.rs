//! Planes against one bit at a time, on every level.
#![cfg(feature = "std")]

use super::*;
use std::vec;
use std::vec::Vec;

/// Short enough to believe by reading.
fn naive_split(bit: u32, codes: &[u8]) -> Vec<u8> {
    let mut out = vec![0; codes.len().div_ceil(8)];
    for (i, code) in codes.iter().enumerate() {
        out[i / 8] |= (code >> bit & 1) << (i % 8);
    }
    out
}

fn codes(n: usize, bits: u32) -> Vec<u8> {
    (0..n).map(|i| ((i as u32).wrapping_mul(2_654_435_761) >> 13) as u8 >> (8 - bits)).collect()
}

const LENGTHS: [usize; 14] = [0, 1, 7, 8, 9, 31, 32, 33, 63, 64, 65, 127, 197, 1025];

#[test]
fn every_level_splits_as_the_naive_loop_does() {
    for level in Level::all() {
        for n in LENGTHS {
            let codes = codes(n, 8);
            for bit in 0..8 {
                let mut plane = vec![0xAA; n.div_ceil(8)];
                split(level, bit, &codes, &mut plane).unwrap();
                assert_eq!(plane, naive_split(bit, &codes), "{} {n} {bit}", level.name());
            }
        }
    }
}

#[test]
fn merging_undoes_splitting_at_every_width() {
    for level in Level::all() {
        for n in LENGTHS {
            for bits in 1..=8 {
                let codes = codes(n, bits);
                let planes: Vec<_> = (0..bits).rev().map(|bit| naive_split(bit, &codes)).collect();
                let planes: Vec<&[u8]> = planes.iter().map(|p| &p[..]).collect();
                let mut back = vec![0xAA; n];
                merge(level, &planes, &mut back).unwrap();
                assert_eq!(back, codes, "{} {n} {bits}", level.name());
            }
        }
    }
}

#[test]
fn bits_past_the_end_do_not_reach_the_codes() {
    for level in Level::all() {
        let mut codes = [9; 67];
        merge(level, &[&[0xFF; 9][..], &[0; 12]], &mut codes).unwrap();
        assert_eq!(codes, [2; 67]);
    }
}

#[test]
fn a_buffer_of_the_wrong_length_is_refused() {
    let level = Level::best();
    let kind = |r: Result<(), Error>| r.unwrap_err().kind();
    assert_eq!(kind(split(level, 0, &[0; 9], &mut [0; 1])), ErrorKind::Range { needs: 2, has: 1 });
    assert_eq!(kind(split(level, 8, &[0; 8], &mut [0; 1])), ErrorKind::Range { needs: 9, has: 8 });
    assert_eq!(kind(merge(level, &[&[0; 2][..], &[0; 1]], &mut [0; 9])), ErrorKind::Range { needs: 2, has: 1 });
    assert_eq!(kind(merge(level, &[&[0][..]; 9], &mut [0; 8])), ErrorKind::Range { needs: 9, has: 8 });
    merge(level, &[], &mut [1; 3]).unwrap();
}

//! What a mask promises, and every level against naive twins.

use super::*;
use crate::simd::Level;

/// A small generator (splitmix64), so that runs repeat.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
}

fn bit(bits: &[u8], i: usize) -> bool {
    bits[i / 8] >> (i % 8) & 1 == 1
}

/// `density` eighths of all bits are set, stray ones included.
fn random_bits(random: &mut Random, cols: usize, density: u64) -> [u8; 40] {
    let mut bits = [0; 40];
    for i in 0..cols.next_multiple_of(8) {
        bits[i / 8] |= u8::from(random.next() % 8 < density) << (i % 8);
    }
    bits
}

/// Both ways at one level, over all lengths around the vector widths, against loops of one line.
fn moves_like_the_naive_loops<T: Cell + PartialEq + core::fmt::Debug>(level: Level, make: impl Fn(u64) -> T) {
    let mut random = Random(7);
    for cols in (0..70).chain([127, 128, 129, 200, 301]) {
        for density in [0, 1, 4, 7, 8] {
            let bits = random_bits(&mut random, cols, density);
            let bits = &bits[..cols.div_ceil(8)];
            let mut values = [T::ZERO; 301];
            values.iter_mut().for_each(|v| *v = make(random.next() | 1));
            let (values, _) = values.split_at(cols);
            let (mut want, mut n) = ([make(5); 304], 0);
            for i in (0..cols).filter(|i| bit(bits, *i)) {
                want[n] = values[i];
                n += 1;
            }
            let mut got = [make(5); 304];
            assert_eq!(gather(level, bits, values, &mut got).unwrap(), n);
            assert!(got == want, "gather of {cols} at {}: {got:?}, not {want:?}", level.name());

            let mut row = [make(5); 301];
            assert_eq!(scatter(level, bits, &got[..n], &mut row[..cols]).unwrap(), n);
            for i in 0..cols {
                let want = if bit(bits, i) { values[i] } else { T::ZERO };
                assert!(row[i] == want, "scatter of {cols} at {}: weight {i}", level.name());
            }
            assert!(row[cols..].iter().all(|v| *v == make(5)));
        }
    }
}

#[test]
fn every_level_moves_like_the_naive_loops() {
    for level in Level::all() {
        moves_like_the_naive_loops(level, |r| r as u8);
        moves_like_the_naive_loops(level, |r| r as u16);
        moves_like_the_naive_loops(level, |r| r as u32);
        moves_like_the_naive_loops(level, |r| r);
        moves_like_the_naive_loops(level, |r| (r as u16).to_le_bytes());
        moves_like_the_naive_loops(level, |r| (r as u32).to_le_bytes());
        moves_like_the_naive_loops(level, |r| f32::from_bits((r as u32) & 0x7f00_ffff));
    }
}

#[test]
fn dropped_weights_are_positive_zero_and_kept_bits_survive() {
    for level in Level::all() {
        let odd = [f32::from_bits(0xffc0_0001), -0.0, f32::INFINITY];
        let mut row = [-1.0; 9];
        assert_eq!(scatter(level, &[0b1000_0001, 1], &odd, &mut row).unwrap(), 3);
        let bits = row.map(f32::to_bits);
        assert_eq!(bits, [0xffc0_0001, 0, 0, 0, 0, 0, 0, 0x8000_0000, 0x7f80_0000]);
    }
}

#[test]
fn slices_of_the_wrong_length_are_errors() {
    for level in Level::all() {
        let short = ErrorKind::PartLength { part: "mask", needs: 2, has: 1 };
        assert_eq!(gather(level, &[0xff], &[1.0; 9], &mut [0.0; 9]).unwrap_err().kind(), short);
        assert_eq!(scatter(level, &[0xff], &[1.0; 9], &mut [0.0; 9]).unwrap_err().kind(), short);
        let few = ErrorKind::Range { needs: 8, has: 7 };
        assert_eq!(gather(level, &[0xff], &[1.0; 8], &mut [0.0; 7]).unwrap_err().kind(), few);
        assert_eq!(scatter(level, &[0xff], &[1.0; 7], &mut [0.0; 8]).unwrap_err().kind(), few);
    }
}

#[test]
fn stray_bits_are_found_and_never_count() {
    let bytes = [0xff, 0b011, 0, 0b100];
    let mask = MaskView::new(2, 10, &bytes).unwrap();
    assert_eq!(mask.check().unwrap_err().kind(), ErrorKind::StrayBits { part: "mask", row: 1 });
    assert_eq!((mask.kept(), mask.kept_in_rows(1..2)), (10, Some(0)));
    assert_eq!(mask.keeps(1, 10), None);
    assert_eq!(gather(Level::Scalar, &bytes[2..], &[1.0; 10], &mut []).unwrap(), 0);
    assert!(MaskView::new(2, 10, &[0xff, 0b011, 0, 0]).unwrap().check().is_ok());
}

#[test]
fn blocks_of_rows_end_where_the_mask_ends() {
    let bytes = [1, 3, 7, 15];
    let mask = MaskView::new(4, 8, &bytes).unwrap();
    assert_eq!(mask.rows_in(1..3), MaskView::new(2, 8, &[3, 7]).ok());
    assert_eq!((mask.row(3), mask.row(4)), (Some(&bytes[3..]), None));
    assert_eq!((mask.rows_in(3..5), mask.row(usize::MAX)), (None, None));
    assert_eq!(mask.kept_in_rows(0..4), Some(10));
    #[expect(clippy::reversed_empty_ranges, reason = "a caller may hand in such a range")]
    let reversed = mask.kept_in_rows(3..1);
    assert_eq!(reversed, None);
}

#[test]
fn masks_without_weights_are_masks() {
    let endless = MaskView::new(usize::MAX, 0, &[]).unwrap();
    assert!(endless.check().is_ok());
    assert_eq!((endless.kept(), endless.row(usize::MAX - 1)), (0, Some(&[][..])));
    assert_eq!(MaskView::new(0, 5, &[]).unwrap().kept(), 0);
    assert_eq!(MaskView::new(usize::MAX, 2, &[]).unwrap_err().kind(), ErrorKind::Overflow);
    assert_eq!(MaskView::part_len(1, usize::MAX).unwrap(), usize::MAX / 8 + 1);
}

#[cfg(feature = "alloc")]
#[test]
fn an_owned_mask_never_has_stray_bits() {
    use alloc::vec;
    assert_eq!(Mask::new(1, 3, vec![8]).unwrap_err().kind(), ErrorKind::StrayBits { part: "mask", row: 0 });
    let mask = Mask::new(2, 3, vec![0b101, 0b111]).unwrap();
    assert_eq!((mask.kept(), mask.keeps(0, 1), mask.keeps(2, 0)), (5, Some(false), None));
    assert_eq!(Mask::from_fn(2, 3, |row, col| mask.keeps(row, col).unwrap()).unwrap(), mask);
    let both = mask.clone().and(MaskView::new(2, 3, &[0b001, 0b110]).unwrap()).unwrap();
    assert_eq!(both.bytes(), [0b001, 0b110]);
    assert!(mask.and(MaskView::new(1, 3, &[0]).unwrap()).is_err());
    assert_eq!(Mask::from_fn(usize::MAX, 0, |_, _| true).unwrap().kept(), 0);
}

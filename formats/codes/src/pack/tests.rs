use super::*;
use crate::simd::Level;
use std::vec::Vec;

/// One bit at a time.
fn naive(bits: Bits, codes: &[u8]) -> Vec<u8> {
    let b = bits.get() as usize;
    let mut out = vec![0; (codes.len() * b).div_ceil(8)];
    for i in 0..codes.len() * b {
        out[i / 8] |= (codes[i / b] >> (i % b) & 1) << (i % 8);
    }
    out
}

fn some_codes(n: usize, bits: Bits) -> Vec<u8> {
    let mut x = 0x9E37_79B9_7F4A_7C15u64 ^ n as u64;
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        (x >> 40) as u8 & (bits.levels() - 1) as u8
    };
    (0..n).map(|_| next()).collect()
}

#[test]
fn every_level_packs_as_the_naive_loop_does() {
    for level in Level::all() {
        for bits in Bits::all() {
            for n in [0, 1, 7, 8, 9, 29, 63, 64, 65, 127, 128, 129, 197, 500] {
                let codes = some_codes(n, bits);
                let mut packed = vec![0xFF; packed_bytes(n, bits)];
                pack_row(level, bits, &codes, &mut packed).unwrap();
                assert_eq!(packed, naive(bits, &codes), "{level:?} int{bits} {n}");
                let mut back = vec![0xFF; n];
                unpack_row(level, bits, &packed, &mut back).unwrap();
                assert_eq!(back, codes, "{level:?} int{bits} {n}");
                assert!((0..n).all(|i| code_at(bits, &packed, i) == codes[i]));
            }
        }
    }
}

#[test]
fn the_naive_loop_follows_the_drawing() {
    let bits = Bits::new(3).unwrap();
    assert_eq!(naive(bits, &[1, 2, 3, 4, 5, 6, 7, 0]), [0b1101_0001, 0b0101_1000, 0b0001_1111]);
    assert_ne!(naive(bits, &[1, 2, 3, 4, 5, 6, 7, 1]), [0b1101_0001, 0b0101_1000, 0b0001_1111]);
}

#[test]
fn a_buffer_of_the_wrong_length_is_refused() {
    let bits = Bits::new(5).unwrap();
    let refused = pack_row(Level::Scalar, bits, &[0; 9], &mut [0; 5]).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Range { needs: 6, has: 5 });
    let refused = unpack_row(Level::Scalar, bits, &[0; 7], &mut [0; 9]).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Range { needs: 6, has: 7 });
}

#[test]
fn padding_is_the_bits_past_the_last_code() {
    let bits = Bits::new(3).unwrap();
    assert!(padding_is_clear(3, bits, &[0xFF, 0x01]));
    assert!(!padding_is_clear(3, bits, &[0xFF, 0x03]));
    assert!(padding_is_clear(8, bits, &[0xFF, 0xFF, 0xFF]));
}

//! What turns predicted bytes into the original ones, coded for differences that are mostly
//! nothing (`FORMAT.md` 16).
//!
//! Both are seen as little-endian whole numbers of `width` bytes. The difference `original -
//! predicted`, modulo `2^(8 width)`, is folded so that small ones of either sign are small:
//! 0, -1, 1, -2, 2 become 0, 1, 2, 3, 4. Sixty-four differences are a block:
//!
//! ```text
//! b, then 8 b bytes     64 differences of b bits, the lowest bit first; b from 1 to 8 width
//! 0, n                  a block of nothing, and n more of them, n from 0 to 255
//! ```
//!
//! The last block is filled with nothing.

use niwaki_codes::simd::Level;
use niwaki_codes::{Bits, pack_row, stamp};

use crate::error::{Error, ErrorKind};

/// Differences in a block.
const BLOCK: usize = 64;

/// Codes the difference of two strings of bytes of one length, a multiple of `width`, which is
/// 1, 2, 4 or 8; appends it to `out`.
///
/// # Errors
///
/// [`ErrorKind::Correction`] for another width, and strings that are not such.
pub fn encode_correction(width: usize, original: &[u8], predicted: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    if original.len() != predicted.len() {
        return Err(wrong("two strings of different lengths"));
    }
    let mut empty = None::<usize>;
    let mut folded = [0u64; BLOCK];
    let (step, level) = (block_bytes(width, original.len())?, Level::best());
    for (original, predicted) in original.chunks(step).zip(predicted.chunks(step)) {
        // Equal bytes are found at the speed of memory.
        let bits = if original == predicted { 0 } else { fold(level, width, original, predicted, &mut folded) };
        match (bits, empty) {
            (0, Some(at)) if out.get(at).is_some_and(|n| *n < u8::MAX) => out[at] += 1,
            (0, _) => {
                out.extend([0, 0]);
                empty = Some(out.len() - 1);
            }
            (bits, _) => {
                out.push(bits as u8);
                pack(level, bits, &folded, out);
                empty = None;
            }
        }
    }
    Ok(())
}

/// Turns `predicted` into the original by a coded difference.
///
/// # Errors
///
/// [`ErrorKind::Correction`] for a stream that is cut short, has bytes left over, or widths that
/// no encoder writes. What `predicted` holds is then of no use.
pub fn apply_correction(width: usize, stream: &[u8], predicted: &mut [u8]) -> Result<(), Error> {
    let step = block_bytes(width, predicted.len())?;
    let mut rest = stream;
    let mut skip = 0usize;
    let mut folded = [0u64; BLOCK];
    for block in predicted.chunks_mut(step) {
        if skip > 0 {
            skip -= 1;
            continue;
        }
        let bits = usize::from(take(&mut rest, 1)?[0]);
        if bits == 0 {
            skip = usize::from(take(&mut rest, 1)?[0]);
        } else if bits > 8 * width {
            return Err(wrong("a difference wider than its numbers"));
        } else {
            unpack(bits, take(&mut rest, 8 * bits)?, &mut folded);
            unfold(width, &folded, block);
        }
    }
    match (skip, rest) {
        (0, []) => Ok(()),
        _ => Err(wrong("a stream for more bytes than there are")),
    }
}

fn wrong(why: &'static str) -> Error {
    ErrorKind::Correction(why).into()
}

/// Bytes of a block.
fn block_bytes(width: usize, len: usize) -> Result<usize, Error> {
    match width {
        1 | 2 | 4 | 8 if len.is_multiple_of(width) => Ok(BLOCK * width),
        _ => Err(wrong("bytes that are no whole numbers")),
    }
}

fn take<'s>(rest: &mut &'s [u8], len: usize) -> Result<&'s [u8], Error> {
    rest.split_off(..len).ok_or_else(|| wrong("a stream that is cut short"))
}

stamp! {
    /// Folds the differences of a block; how many bits the widest takes.
    fn fold = fold_body(width: usize, original: &[u8], predicted: &[u8], out: &mut [u64; BLOCK]) -> usize;
}

#[inline(always)]
fn fold_body(width: usize, original: &[u8], predicted: &[u8], out: &mut [u64; BLOCK]) -> usize {
    macro_rules! each {
        ($unsigned:ty, $signed:ty) => {{
            const N: usize = size_of::<$unsigned>();
            let (a, b) = (original.as_chunks::<N>().0, predicted.as_chunks::<N>().0);
            let mut all = 0;
            for ((a, b), out) in a.iter().zip(b).zip(&mut *out) {
                let difference = <$unsigned>::from_le_bytes(*a).wrapping_sub(<$unsigned>::from_le_bytes(*b)) as $signed;
                let folded = ((difference << 1) ^ (difference >> (8 * N - 1))) as $unsigned;
                all |= folded;
                *out = u64::from(folded);
            }
            out.iter_mut().skip(a.len()).for_each(|out| *out = 0);
            u64::from(all)
        }};
    }
    let all = match width {
        1 => each!(u8, i8),
        2 => each!(u16, i16),
        4 => each!(u32, i32),
        _ => each!(u64, i64),
    };
    (64 - all.leading_zeros()) as usize
}

fn unfold(width: usize, folded: &[u64; BLOCK], block: &mut [u8]) {
    fn each<const N: usize>(folded: &[u64; BLOCK], block: &mut [u8]) {
        for (bytes, folded) in block.as_chunks_mut::<N>().0.iter_mut().zip(folded) {
            let difference = (folded >> 1) ^ (folded & 1).wrapping_neg();
            let sum = number(bytes).wrapping_add(difference).to_le_bytes();
            bytes.iter_mut().zip(sum).for_each(|(to, from)| *to = from);
        }
    }
    match width {
        1 => each::<1>(folded, block),
        2 => each::<2>(folded, block),
        4 => each::<4>(folded, block),
        _ => each::<8>(folded, block),
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Appends the low `bits` bits of each number.
fn pack(level: Level, bits: usize, numbers: &[u64; BLOCK], out: &mut Vec<u8>) {
    // Codes of this many bits have kernels of their own.
    if let Ok(width) = Bits::new(bits as u32) {
        let codes: [u8; BLOCK] = numbers.map(|number| number as u8);
        let mut packed = [0; BLOCK];
        if let Some(packed) = packed.get_mut(..8 * bits)
            && pack_row(level, width, &codes, packed).is_ok()
        {
            return out.extend_from_slice(packed);
        }
    }
    let (mut word, mut filled) = (0u128, 0);
    for number in numbers {
        word |= u128::from(*number) << filled;
        filled += bits;
        if filled >= 64 {
            out.extend((word as u64).to_le_bytes());
            word >>= 64;
            filled -= 64;
        }
    }
}

fn unpack(bits: usize, bytes: &[u8], numbers: &mut [u64; BLOCK]) {
    let mut words = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
    let (mut word, mut filled) = (0u128, 0);
    let mask = u64::MAX >> (64 - bits.clamp(1, 64));
    for number in numbers {
        if filled < bits {
            word |= u128::from(words.next().unwrap_or(0)) << filled;
            filled += 64;
        }
        *number = word as u64 & mask;
        word >>= bits;
        filled -= bits;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0
        }
    }

    fn coded(width: usize, original: &[u8], predicted: &[u8]) -> Vec<u8> {
        let mut out = vec![7];
        encode_correction(width, original, predicted, &mut out).unwrap();
        out.split_off(1)
    }

    #[test]
    fn whatever_differs_comes_back() {
        let mut random = Random(0x9E37_79B9);
        for width in [1, 2, 4, 8] {
            for len in [0, 1, 63, 64, 65, 1000, 20_000] {
                for spread in [0, 1, 5, 30, 64] {
                    let original: Vec<u8> = (0..len * width).map(|_| random.next() as u8).collect();
                    let mut predicted = original.clone();
                    for number in predicted.chunks_exact_mut(width) {
                        if spread > 0 && random.next().is_multiple_of(3) {
                            let change = random.next() >> (64 - spread);
                            let sum = super::number(number).wrapping_add(change).to_le_bytes();
                            number.copy_from_slice(&sum[..width]);
                        }
                    }
                    let stream = coded(width, &original, &predicted);
                    apply_correction(width, &stream, &mut predicted).unwrap();
                    assert!(predicted == original, "{width} {len} {spread}");
                }
            }
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_format() {
        assert_eq!(coded(1, &[5; 64], &[5; 64]), [0, 0]);
        assert_eq!(coded(1, &[5; 64 * 258], &[5; 64 * 258]), [0, 255, 0, 1]);
        // 1 more: folded 2, two bits; 1 less: folded 1.
        let (mut original, predicted) = ([9; 70], [9; 70]);
        original[0] = 10;
        original[1] = 8;
        assert_eq!(coded(1, &original, &predicted), [2, 0b0110, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(coded(2, &[0, 0], &[0xFF, 0xFF])[..2], [2, 2]);
    }

    #[test]
    fn hostile_streams_are_refused_and_never_panic() {
        let refuse =
            |width, stream: &[u8], len| apply_correction(width, stream, &mut vec![0; len]).unwrap_err().to_string();
        assert_eq!(refuse(1, &[], 1), "correction: a stream that is cut short");
        assert_eq!(refuse(1, &[0], 1), "correction: a stream that is cut short");
        assert_eq!(refuse(1, &[0, 1], 64), "correction: a stream for more bytes than there are");
        assert_eq!(refuse(1, &[0, 0, 0], 64), "correction: a stream for more bytes than there are");
        assert_eq!(refuse(1, &[9; 80], 64), "correction: a difference wider than its numbers");
        assert_eq!(refuse(3, &[0, 0], 3), "correction: bytes that are no whole numbers");
        assert_eq!(refuse(4, &[0, 0], 6), "correction: bytes that are no whole numbers");
        assert!(encode_correction(1, &[1], &[1, 2], &mut Vec::new()).is_err());
        let mut random = Random(77);
        for _ in 0..20_000 {
            let stream: Vec<u8> = (0..random.next() % 40).map(|_| (random.next() % 18) as u8).collect();
            let width = 1 << (random.next() % 4);
            let _ = apply_correction(width, &stream, &mut vec![0; width * (random.next() % 300) as usize]);
        }
    }
}

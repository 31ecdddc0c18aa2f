//! Rows of weights that are stored in less than 8 bits each, made codes of 8 bits.

use niwaki_image::Kind;

/// Codes of 4 bits, the first of two in the low half of a byte.
pub(crate) fn unpack(packed: &[u8], codes: &mut [i8]) {
    for (pair, byte) in codes.chunks_mut(2).zip(packed) {
        pair.iter_mut().zip(halves(*byte)).for_each(|(code, half)| *code = half);
    }
}

fn halves(byte: u8) -> [i8; 2] {
    [(byte << 4) as i8 >> 4, byte as i8 >> 4]
}

/// Bits of a row from each plane, the most significant first, to the odd numbers `2 q + 1 - 2^b`. Those of 8 bits do not fit,
/// and are left as `q - 128`.
#[inline(never)]
pub(crate) fn join<'a>(planes: impl Iterator<Item = &'a [u8]> + Clone, codes: &mut [i8]) {
    let width = planes.clone().count() as u32;
    let number = |q: u8| match width {
        8 => q ^ 128,
        _ => q.wrapping_mul(2).wrapping_add(1).wrapping_sub(1u8.wrapping_shl(width)),
    };
    for (at, eight) in codes.chunks_mut(8).enumerate() {
        // Four codes each; a bit more moves them all.
        let mut joined = [0u32; 2];
        for plane in planes.clone() {
            let byte = u32::from(plane.get(at).copied().unwrap_or(0));
            joined = [joined[0] << 1 | spread(byte & 15), joined[1] << 1 | spread(byte >> 4)];
        }
        let all = joined.iter().flat_map(|four| four.to_le_bytes());
        eight.iter_mut().zip(all).for_each(|(code, q)| *code = number(q) as i8);
    }
}

/// Four bits to the lowest of a byte each.
fn spread(bits: u32) -> u32 {
    bits.wrapping_mul(0x0020_4081) & 0x0101_0101
}

/// The kept codes of a row to their places, zeros to the others; what of `kept` is of later rows.
#[inline(never)]
pub(crate) fn scatter<'k>(kind: Kind, mask: &[u8], kept: &'k [u8], codes: &mut [i8]) -> &'k [u8] {
    let count = mask.iter().map(|bits| bits.count_ones() as usize).sum();
    let (row, rest) = kept.split_at_checked(kind.kept_bytes(count)).unwrap_or((kept, &[]));
    match kind {
        Kind::Sparse4 => place(mask, row.iter().flat_map(|byte| halves(*byte)), codes),
        _ => place(mask, row.iter().map(|code| *code as i8), codes),
    }
    rest
}

fn place(mask: &[u8], mut kept: impl Iterator<Item = i8>, codes: &mut [i8]) {
    for (eight, bits) in codes.chunks_mut(8).zip(mask) {
        let mut bits = *bits;
        for code in eight {
            *code = if bits & 1 == 1 { kept.next().unwrap_or(0) } else { 0 };
            bits >>= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_of_bytes_have_signs() {
        let mut codes = [9; 5];
        unpack(&[0x97, 0x0f, 0x81], &mut codes);
        assert_eq!(codes, [7, -7, -1, 0, 1]);
    }

    #[test]
    fn planes_are_odd_numbers() {
        // The codes 0, 1, 2, 3 of two bits, then 3 .. 0; of the second byte one.
        let planes: [&[u8]; 2] = [&[0b0011_1100, 1], &[0b0101_1010, 0]];
        let mut codes = [9; 9];
        join(planes.into_iter(), &mut codes);
        assert_eq!(codes, [-3, -1, 1, 3, 3, 1, -1, -3, 1]);
        let all: [&[u8]; 8] = [&[1], &[0], &[0], &[0], &[0], &[0], &[0], &[3]];
        let mut codes = [0; 3];
        join(all.into_iter(), &mut codes);
        assert_eq!(codes, [1, -127, -128]);
        join(all.into_iter().take(7), &mut codes);
        assert_eq!(codes, [1, -127, -127]);
    }

    #[test]
    fn kept_codes_stand_where_their_bits_do() {
        let (mut codes, kept) = ([9; 10], [0x2f, 0x07, 0x55]);
        let rest = scatter(Kind::Sparse4, &[0b0100_0001, 0b10], &kept, &mut codes);
        assert_eq!((codes, rest), ([-1, 0, 0, 0, 0, 0, 2, 0, 0, 7], &[0x55][..]));
        let rest = scatter(Kind::Sparse8, &[0b10, 0], &kept, &mut codes);
        assert_eq!((codes, rest), ([0, 0x2f, 0, 0, 0, 0, 0, 0, 0, 0], &kept[1..]));
    }
}

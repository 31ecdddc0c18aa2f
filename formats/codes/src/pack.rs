//! Packed rows of codes: a little-endian bit stream, lowest bit first.
//!
//! Element `i` of a row occupies bits `[i*b, i*b + b)` of the row's stream; a row is
//! padded with zero bits to a whole byte. Width 3, the first eight codes `a..h`:
//!
//! ```text
//! byte 0          byte 1          byte 2
//! c c b b b a a a f e e e d d d c h h h g g g f f
//! ^ bit 7       ^ bit 0
//! ```
//!
//! Eight codes always fill `b` whole bytes, so rows are handled in runs of eight.

use crate::{Bits, Error, ErrorKind, stamp};

/// Bytes that `n` consecutive codes of width `bits` take.
pub fn packed_bytes(n: usize, bits: Bits) -> usize {
    // n / 8 whole runs of 8 codes take `bits` bytes each: no product overflows first.
    let bits = bits.get() as usize;
    (n / 8).saturating_mul(bits) + (n % 8 * bits).div_ceil(8)
}

/// [`packed_bytes`] of a width known when compiling.
#[inline(always)]
#[cfg(target_arch = "x86_64")]
pub(crate) const fn packed_bytes_of<const B: usize>(n: usize) -> usize {
    (n / 8).saturating_mul(B) + (n % 8 * B).div_ceil(8)
}

/// Packs one row: one code a byte in, a padded bit stream out. Bits of a code above
/// its width are dropped.
///
/// # Errors
///
/// [`ErrorKind::Range`] unless `out` has [`packed_bytes`] of `codes.len()`.
pub fn pack_row(level: crate::simd::Level, bits: Bits, codes: &[u8], out: &mut [u8]) -> Result<(), Error> {
    let needs = packed_bytes(codes.len(), bits);
    if out.len() != needs {
        return Err(ErrorKind::Range { needs, has: out.len() }.into());
    }
    pack(level, bits, codes, out);
    Ok(())
}

/// Unpacks one row: a padded bit stream in, one code a byte out.
///
/// # Errors
///
/// [`ErrorKind::Range`] unless `packed` has [`packed_bytes`] of `out.len()`.
pub fn unpack_row(level: crate::simd::Level, bits: Bits, packed: &[u8], out: &mut [u8]) -> Result<(), Error> {
    let needs = packed_bytes(out.len(), bits);
    if packed.len() != needs {
        return Err(ErrorKind::Range { needs, has: packed.len() }.into());
    }
    unpack(level, bits, packed, out);
    Ok(())
}

stamp! {
    fn pack = pack_body(bits: Bits, codes: &[u8], out: &mut [u8]) -> ();
}

stamp! {
    fn unpack = unpack_body(bits: Bits, packed: &[u8], out: &mut [u8]) -> ();
}

#[inline(always)]
fn pack_body(bits: Bits, codes: &[u8], out: &mut [u8]) {
    match bits.get() {
        2 => pack_runs::<2>(codes, out),
        3 => pack_runs::<3>(codes, out),
        4 => pack_runs::<4>(codes, out),
        5 => pack_runs::<5>(codes, out),
        6 => pack_runs::<6>(codes, out),
        7 => pack_runs::<7>(codes, out),
        _ => out.iter_mut().zip(codes).for_each(|(to, from)| *to = *from),
    }
}

#[inline(always)]
fn unpack_body(bits: Bits, packed: &[u8], out: &mut [u8]) {
    match bits.get() {
        2 => unpack_runs::<2>(packed, out),
        3 => unpack_runs::<3>(packed, out),
        4 => unpack_runs::<4>(packed, out),
        5 => unpack_runs::<5>(packed, out),
        6 => unpack_runs::<6>(packed, out),
        7 => unpack_runs::<7>(packed, out),
        _ => out.iter_mut().zip(packed).for_each(|(to, from)| *to = *from),
    }
}

#[inline(always)]
fn pack_runs<const B: usize>(codes: &[u8], out: &mut [u8]) {
    let (runs, rest) = codes.as_chunks::<8>();
    let Some((head, tail)) = out.split_at_mut_checked(runs.len() * B) else { return };
    if B == 4 {
        // Pairs of codes side by side: a loop over words of two vectorizes better.
        for (pair, to) in runs.as_flattened().as_chunks::<2>().0.iter().zip(head) {
            let word = u16::from_le_bytes(*pair) & 0x0F0F;
            *to = (word | word >> 4) as u8;
        }
        return pack_last::<B>(rest, tail);
    }
    for (run, to) in runs.iter().zip(head.as_chunks_mut::<B>().0) {
        let word = close::<B>(u64::from_le_bytes(*run)).to_le_bytes();
        *to = core::array::from_fn(|i| word[i]);
    }
    pack_last::<B>(rest, tail);
}

/// The codes past the last run of eight.
#[inline(always)]
fn pack_last<const B: usize>(rest: &[u8], tail: &mut [u8]) {
    let mut last = [0; 8];
    last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    let word = close::<B>(u64::from_le_bytes(last)).to_le_bytes();
    tail.iter_mut().zip(word).for_each(|(to, from)| *to = from);
}

#[inline(always)]
fn unpack_runs<const B: usize>(packed: &[u8], out: &mut [u8]) {
    let (runs, rest) = out.as_chunks_mut::<8>();
    let (head, tail) = packed.split_at_checked(runs.len() * B).unwrap_or((packed, &[]));
    for (from, run) in head.as_chunks::<B>().0.iter().zip(runs) {
        let mut word = [0; 8];
        word.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
        *run = open::<B>(u64::from_le_bytes(word)).to_le_bytes();
    }
    let mut word = [0; 8];
    word.iter_mut().zip(tail).for_each(|(to, from)| *to = *from);
    let last = open::<B>(u64::from_le_bytes(word)).to_le_bytes();
    rest.iter_mut().zip(last).for_each(|(to, from)| *to = from);
}

/// A word whose lanes of `lane` bits each have their lowest `ones` bits set.
const fn lanes(lane: u32, ones: u32) -> u64 {
    let one = if ones >= 64 { u64::MAX } else { (1 << ones) - 1 };
    let mut word = 0;
    let mut at = 0;
    while at < 64 {
        word |= one << at;
        at += lane;
    }
    word
}

/// Eight codes in eight bytes, moved together into the low `8 * B` bits.
#[inline(always)]
pub(crate) const fn close<const B: usize>(x: u64) -> u64 {
    let b = B as u32;
    let x = x & lanes(8, b);
    let x = (x & lanes(16, b)) | ((x >> (8 - b)) & (lanes(16, b) << b));
    let x = (x & lanes(32, 2 * b)) | ((x >> (16 - 2 * b)) & (lanes(32, 2 * b) << (2 * b)));
    (x & lanes(64, 4 * b)) | ((x >> (32 - 4 * b)) & (lanes(64, 4 * b) << (4 * b)))
}

/// The inverse of [`close`]: eight codes of the low `8 * B` bits, one a byte.
#[inline(always)]
pub(crate) const fn open<const B: usize>(x: u64) -> u64 {
    let b = B as u32;
    let x = (x & lanes(64, 4 * b)) | ((x & (lanes(64, 4 * b) << (4 * b))) << (32 - 4 * b));
    let x = (x & lanes(32, 2 * b)) | ((x & (lanes(32, 2 * b) << (2 * b))) << (16 - 2 * b));
    (x & lanes(16, b)) | ((x & (lanes(16, b) << b)) << (8 - b))
}

/// Code `index` of a bit stream; bits past the end of the bytes read as zero.
#[inline(always)]
pub(crate) fn code_at(bits: Bits, packed: &[u8], index: usize) -> u8 {
    // index / 8 runs of `bits` bytes, then a bit offset inside the run: no overflow.
    let b = bits.get() as usize;
    let bit = index % 8 * b;
    let byte = (index / 8).saturating_mul(b).saturating_add(bit / 8);
    let low = packed.get(byte).copied().unwrap_or(0);
    let high = packed.get(byte.saturating_add(1)).copied().unwrap_or(0);
    (u16::from_le_bytes([low, high]) >> (bit % 8)) as u8 & (bits.levels() - 1) as u8
}

/// Whether the bits past the last of `n` codes are clear.
pub(crate) fn padding_is_clear(n: usize, bits: Bits, packed: &[u8]) -> bool {
    let used = n % 8 * bits.get() as usize % 8;
    used == 0 || packed.last().is_none_or(|last| last >> used == 0)
}

#[cfg(all(test, feature = "std"))]
mod tests;

//! Bit-planes: one bit of every code, and the codes that some planes make.
//!
//! ```text
//! codes            plane of bit 1    plane of bit 0
//! 01 11 10 00 ..   0b....0110        0b....0011      lowest bit of a byte first
//! ```
//!
//! A plane of `n` codes takes `ceil(n / 8)` bytes; the bits past its end are zero.

#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(test)]
mod tests;

use crate::simd::Level;
use crate::{Error, ErrorKind};

/// Takes one bit of each code: bit `i` of `out` is bit `bit` of `codes[i]`.
///
/// # Errors
///
/// [`ErrorKind::Range`] unless `out` has one byte for eight codes and `bit` is below 8.
///
/// ```
/// use niwaki_codes::{planes, simd::Level};
///
/// let mut out = [0];
/// planes::split(Level::best(), 1, &[0b01, 0b11, 0b10, 0b00], &mut out)?;
/// assert_eq!(out, [0b0110]);
/// # Ok::<(), niwaki_codes::Error>(())
/// ```
pub fn split(level: Level, bit: u32, codes: &[u8], out: &mut [u8]) -> Result<(), Error> {
    let needs = codes.len().div_ceil(8);
    if out.len() != needs {
        return Err(ErrorKind::Range { needs, has: out.len() }.into());
    }
    if bit >= 8 {
        return Err(ErrorKind::Range { needs: bit as usize + 1, has: 8 }.into());
    }
    let done = match level {
        Level::Scalar => 0,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2(proof) => x86_64::split_avx2(proof, bit, codes, out),
        #[cfg(target_arch = "x86_64")]
        Level::Avx512(proof) => x86_64::split_avx512(proof, bit, codes, out),
    };
    split_scalar(bit, codes.get(8 * done..).unwrap_or(&[]), out.get_mut(done..).unwrap_or(&mut []));
    Ok(())
}

/// Joins planes, most significant first, into codes: the last plane is bit 0. Bits
/// past `out.len()` are not looked at.
///
/// # Errors
///
/// [`ErrorKind::Range`] if a plane is shorter than one byte for eight codes, or for
/// more than eight planes.
///
/// ```
/// use niwaki_codes::{planes, simd::Level};
///
/// let mut codes = [0; 4];
/// planes::merge(Level::best(), &[&[0b0110], &[0b0011]], &mut codes)?;
/// assert_eq!(codes, [0b01, 0b11, 0b10, 0b00]);
/// # Ok::<(), niwaki_codes::Error>(())
/// ```
pub fn merge(level: Level, planes: &[&[u8]], out: &mut [u8]) -> Result<(), Error> {
    let needs = out.len().div_ceil(8);
    if let Some(short) = planes.iter().find(|plane| plane.len() < needs) {
        return Err(ErrorKind::Range { needs, has: short.len() }.into());
    }
    match *planes {
        [] => out.fill(0),
        [a] => merge_of(level, &[a], out),
        [a, b] => merge_of(level, &[a, b], out),
        [a, b, c] => merge_of(level, &[a, b, c], out),
        [a, b, c, d] => merge_of(level, &[a, b, c, d], out),
        [a, b, c, d, e] => merge_of(level, &[a, b, c, d, e], out),
        [a, b, c, d, e, f] => merge_of(level, &[a, b, c, d, e, f], out),
        [a, b, c, d, e, f, g] => merge_of(level, &[a, b, c, d, e, f, g], out),
        [a, b, c, d, e, f, g, h] => merge_of(level, &[a, b, c, d, e, f, g, h], out),
        _ => return Err(ErrorKind::Range { needs: planes.len(), has: 8 }.into()),
    }
    Ok(())
}

fn merge_of<const B: usize>(level: Level, planes: &[&[u8]; B], out: &mut [u8]) {
    let done = match level {
        Level::Scalar => 0,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2(proof) => x86_64::merge_avx2(proof, planes, out),
        #[cfg(target_arch = "x86_64")]
        Level::Avx512(proof) => x86_64::merge_avx512(proof, planes, out),
    };
    merge_scalar(&planes.map(|plane| plane.get(done..).unwrap_or(&[])), out.get_mut(8 * done..).unwrap_or(&mut []));
}

/// The definition of [`split`], eight codes at a time.
fn split_scalar(bit: u32, codes: &[u8], out: &mut [u8]) {
    // The eight lowest bits of eight bytes meet in the top byte of one product.
    const ONES: u64 = 0x0101_0101_0101_0101;
    const GATHER: u64 = 0x0102_0408_1020_4080;
    let (runs, rest) = codes.as_chunks::<8>();
    let mut last = [0; 8];
    last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    for (run, to) in runs.iter().chain([&last]).zip(out) {
        *to = (((u64::from_le_bytes(*run) >> bit) & ONES).wrapping_mul(GATHER) >> 56) as u8;
    }
}

/// The definition of [`merge`], eight codes at a time.
fn merge_scalar<const B: usize>(planes: &[&[u8]; B], out: &mut [u8]) {
    for (at, run) in out.chunks_mut(8).enumerate() {
        let codes = planes.iter().fold(0u64, |codes, plane| (codes << 1) | spread(plane.get(at).copied().unwrap_or(0)));
        run.iter_mut().zip(codes.to_le_bytes()).for_each(|(to, from)| *to = from);
    }
}

/// Bit `i` of a byte as byte `i` of a word, 0 or 1.
#[inline(always)]
const fn spread(byte: u8) -> u64 {
    // The byte in all eight places, one bit kept in each: adding 0x7F carries it to the top.
    let kept = (byte as u64).wrapping_mul(0x0101_0101_0101_0101) & 0x8040_2010_0804_0201;
    ((((kept & 0x7F7F_7F7F_7F7F_7F7F) + 0x7F7F_7F7F_7F7F_7F7F) | kept) >> 7) & 0x0101_0101_0101_0101
}

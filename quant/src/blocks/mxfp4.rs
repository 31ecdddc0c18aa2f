//! MXFP4: floats of four bits (E2M1) on one power of two for 32 weights, as ggml rounds.
//!
//! The power is two less than that of the largest magnitude, so magnitudes up to 1.5 times
//! it are reached and the rest is clipped. Ties go to the smaller magnitude.

use niwaki_codes::stamp;

/// Weights of one block.
const BLOCK: usize = 32;

/// Bytes of one block.
const BYTES: usize = 17;

/// Midpoints between the values 0, 1, 2, 3, 4, 6, 8 and 12.
const MIDDLES: [f32; 7] = [0.5, 1.5, 2.5, 3.5, 5.0, 7.0, 10.0];

stamp! {
    /// Blocks of a power of two (E8M0) and 16 bytes, half-split.
    pub(super) fn mxfp4 = mxfp4_body(x: &[f32], out: &mut [u8]) -> ();
}

#[inline(always)]
fn mxfp4_body(x: &[f32], out: &mut [u8]) {
    for (x, out) in x.as_chunks::<BLOCK>().0.iter().zip(out.as_chunks_mut::<BYTES>().0) {
        let mut most = 0;
        for x in x {
            most = most.max(x.to_bits() & 0x7FFF_FFFF);
        }
        let power = power(f32::from_bits(most));
        out[0] = power;
        // Half of the power: the values above are doubled. Exact, and so are its products below.
        let unit = f32::from_bits(if power < 2 { 0x0020_0000 << power } else { (u32::from(power) - 1) << 23 });
        let mut codes = [0; BLOCK];
        for (x, code) in x.iter().zip(&mut codes) {
            let mut above = 0;
            for middle in MIDDLES {
                above += u32::from(x.abs() > middle * unit);
            }
            *code = (above | u32::from(above != 0 && *x < 0.0) << 3) as u8;
        }
        for (j, byte) in out[1..].iter_mut().enumerate() {
            *byte = codes[j] | codes[j + BLOCK / 2] << 4;
        }
    }
}

/// The biased power of two of a block whose largest magnitude is `most`.
///
/// It is two less than the logarithm as single precision rounds it: what lies so little
/// below a power of two that its logarithm is rounded up to it counts as that power.
#[inline(always)]
fn power(most: f32) -> u8 {
    let bits = most.to_bits();
    // Below the smallest normal number every power is below the range.
    let mut exponent = (bits >> 23) as i32 - 127;
    let short = (1 << 23) - (bits & 0x7F_FFFF);
    if short <= rounded_up(exponent + 1) {
        exponent += 1;
    }
    (exponent + 125).max(0) as u8
}

/// How many of the numbers just below `2^exponent` have a logarithm that rounds to `exponent`.
///
/// The `j`th is `2^exponent * (1 - j * 2^-24)`, and its logarithm falls short by
/// `j * 2^-24 / ln 2`; that is rounded away up to half a step of single precision, which
/// is `2^(n-24)` for exponents of `2^n` to `2^(n+1)`, and half of it just below `2^n`.
#[inline(always)]
fn rounded_up(exponent: i32) -> u32 {
    let size = exponent.unsigned_abs();
    let steps = if exponent > 0 { (size.max(2) - 1).ilog2() } else { size.max(1).ilog2() };
    // 2^n * ln 2, rounded down.
    let most = [0, 1, 2, 5, 11, 22, 44, 88];
    if size == 0 { 0 } else { most[steps as usize & 7] }
}

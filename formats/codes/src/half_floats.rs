//! Half-precision floats, IEEE binary16 and bfloat16: conversion by formula, without
//! branches, so that plain loops vectorize and `core` alone is enough.
//!
//! Rounding is to nearest, ties to even. A NaN stays a NaN; its payload may change.

use crate::stamp;

/// An IEEE half as `f32`, exactly.
#[inline(always)]
pub const fn f16_to_f32(half: u16) -> f32 {
    const TOP: u32 = 0x7C00 << 13;
    let moved = ((half & 0x7FFF) as u32) << 13;
    let exponent = moved & TOP;
    let normal = moved + ((127 - 15) << 23);
    // Infinities and NaN take the largest exponent; a subnormal is (1 + m) - 1 at the
    // smallest normal exponent, a subtraction that is exact.
    let special = normal + ((128 - 16) << 23);
    let subnormal = f32::from_bits(normal + (1 << 23)) - f32::from_bits(113 << 23);
    let magnitude = if exponent == TOP {
        special
    } else if exponent == 0 {
        subnormal.to_bits()
    } else {
        normal
    };
    f32::from_bits(magnitude | ((half & 0x8000) as u32) << 16)
}

/// The nearest IEEE half; beyond 65504 by half a step or more, an infinity.
#[inline(always)]
pub const fn f32_to_f16(x: f32) -> u16 {
    let sign = (x.to_bits() >> 16) & 0x8000;
    let magnitude = x.to_bits() & 0x7FFF_FFFF;
    // Adding 0.5 leaves a subnormal half's bits at the bottom of the sum, rounded.
    let subnormal = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0.5f32.to_bits());
    let odd = (magnitude >> 13) & 1;
    let normal = magnitude.wrapping_sub((127 - 15) << 23).wrapping_add(0xFFF + odd) >> 13;
    let special = if magnitude > 0x7F80_0000 { 0x7E00 } else { 0x7C00 };
    let half = if magnitude >= (127 + 16) << 23 {
        special
    } else if magnitude < (127 - 14) << 23 {
        subnormal
    } else {
        normal
    };
    (half | sign) as u16
}

/// The nearest bfloat16.
#[inline(always)]
pub const fn f32_to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7FFF + ((bits >> 16) & 1)) >> 16;
    let nan = (bits & 0x7FFF_FFFF) > 0x7F80_0000;
    (if nan { bits >> 16 | 0x40 } else { rounded }) as u16
}

/// A bfloat16 as `f32`, exactly.
#[inline(always)]
pub const fn bf16_to_f32(half: u16) -> f32 {
    f32::from_bits((half as u32) << 16)
}

stamp! {
    /// Widens little-endian IEEE halves of any alignment; stops at the shorter side.
    pub fn widen_f16 = widen_f16_body(from: &[u8], to: &mut [f32]) -> ();
}

stamp! {
    /// Widens little-endian bfloat16 of any alignment; stops at the shorter side.
    pub fn widen_bf16 = widen_bf16_body(from: &[u8], to: &mut [f32]) -> ();
}

stamp! {
    /// Reads little-endian `f32` of any alignment; stops at the shorter side.
    pub fn read_f32 = read_f32_body(from: &[u8], to: &mut [f32]) -> ();
}

stamp! {
    /// The nearest IEEE halves, as their bits; stops at the shorter side.
    pub fn narrow_f16 = narrow_f16_body(from: &[f32], to: &mut [u16]) -> ();
}

stamp! {
    /// The nearest bfloat16, as their bits; stops at the shorter side.
    pub fn narrow_bf16 = narrow_bf16_body(from: &[f32], to: &mut [u16]) -> ();
}

#[inline(always)]
fn narrow_f16_body(from: &[f32], to: &mut [u16]) {
    for (x, half) in from.iter().zip(to) {
        *half = f32_to_f16(*x);
    }
}

#[inline(always)]
fn narrow_bf16_body(from: &[f32], to: &mut [u16]) {
    for (x, half) in from.iter().zip(to) {
        *half = f32_to_bf16(*x);
    }
}

/// [`widen_f16`] to be inlined into a stamped body.
#[inline(always)]
pub fn widen_f16_body(from: &[u8], to: &mut [f32]) {
    for (half, x) in from.as_chunks::<2>().0.iter().zip(to) {
        *x = f16_to_f32(u16::from_le_bytes(*half));
    }
}

/// [`widen_bf16`] to be inlined into a stamped body.
#[inline(always)]
pub fn widen_bf16_body(from: &[u8], to: &mut [f32]) {
    for (half, x) in from.as_chunks::<2>().0.iter().zip(to) {
        *x = bf16_to_f32(u16::from_le_bytes(*half));
    }
}

/// [`read_f32`] to be inlined into a stamped body.
#[inline(always)]
pub fn read_f32_body(from: &[u8], to: &mut [f32]) {
    for (bytes, x) in from.as_chunks::<4>().0.iter().zip(to) {
        *x = f32::from_le_bytes(*bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Level;

    #[test]
    fn every_half_widens_as_the_half_crate_says() {
        for bits in 0..=u16::MAX {
            let (ours, theirs) = (f16_to_f32(bits), half::f16::from_bits(bits).to_f32());
            assert!(ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan(), "{bits:04x}");
            let (ours, theirs) = (bf16_to_f32(bits), half::bf16::from_bits(bits).to_f32());
            assert!(ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan(), "{bits:04x}");
        }
    }

    #[test]
    fn rounding_agrees_with_the_half_crate() {
        // Every exponent and sign with a spread of fractions, ties among them.
        for top in 0..1u32 << 12 {
            for low in [0, 1, 0xFFF, 0x1000, 0x1001, 0x1FFF, 0x2000, 0x3000, 0x2FFF, 0x3001, 0x7F_FFFF, 0x12_3456] {
                let x = f32::from_bits(top << 20 | low & 0xF_FFFF);
                let (ours, theirs) = (f32_to_f16(x), half::f16::from_f32_const(x).to_bits());
                assert!(ours == theirs || x.is_nan() && f16_to_f32(ours).is_nan(), "{x:e} {ours:04x} {theirs:04x}");
                let (ours, theirs) = (f32_to_bf16(x), half::bf16::from_f32_const(x).to_bits());
                assert!(ours == theirs || x.is_nan() && bf16_to_f32(ours).is_nan(), "{x:e} {ours:04x} {theirs:04x}");
            }
        }
    }

    #[test]
    fn every_level_narrows_alike() {
        let xs: [f32; 53] = core::array::from_fn(|i| f32::from_bits(0x3F80_0FFF + i as u32 * 0x0123_4567));
        for level in Level::all() {
            for n in [0, 1, 15, 16, 17, 53] {
                let (mut half, mut brain) = ([7; 53], [7; 53]);
                narrow_f16(level, &xs[..n], &mut half);
                narrow_bf16(level, &xs[..n], &mut brain);
                for (i, x) in xs.iter().enumerate() {
                    let expected = if i < n { (f32_to_f16(*x), f32_to_bf16(*x)) } else { (7, 7) };
                    assert_eq!((half[i], brain[i]), expected, "{x:e}");
                }
            }
        }
    }

    #[test]
    fn every_level_widens_alike() {
        let bytes: [u8; 301] = core::array::from_fn(|i| (i * 37 % 251) as u8);
        for level in Level::all() {
            for n in [0, 1, 15, 16, 17, 53] {
                let (mut half, mut brain, mut full) = ([0.0; 53], [0.0; 53], [0.0; 53]);
                widen_f16(level, &bytes[1..1 + 2 * n], &mut half);
                widen_bf16(level, &bytes[1..1 + 2 * n], &mut brain);
                read_f32(level, &bytes[1..1 + 4 * n], &mut full);
                for i in 0..n {
                    let two = u16::from_le_bytes([bytes[1 + 2 * i], bytes[2 + 2 * i]]);
                    assert_eq!(half[i].to_bits(), f16_to_f32(two).to_bits());
                    assert_eq!(brain[i].to_bits(), bf16_to_f32(two).to_bits());
                    let four = core::array::from_fn(|k| bytes[1 + 4 * i + k]);
                    assert_eq!(full[i].to_bits(), u32::from_le_bytes(four));
                }
                assert!(half[n..].iter().chain(&brain[n..]).chain(&full[n..]).all(|x| *x == 0.0));
            }
        }
    }
}

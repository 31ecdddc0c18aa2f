//! Floats of eight and four bits, and the scales that go with them.
//!
//! ```text
//! e4m3   s eeee mmm   (-1)^s 2^(e-7) 1.mmm; e = 0: 2^-6 0.mmm; s1111111: NaN; largest 448
//! e2m1   s ee m       0 0.5 1 1.5 2 3 4 6 and their negatives
//! e8m0   eeeeeeee     2^(e-127); 255: NaN
//! nf4                 sixteen quantiles of the normal distribution, -1 to 1
//! ```
//!
//! Whence: e4m3 is the `e4m3fn` of [ocp-fp8, 5]; e2m1 and e8m0 are those of [ocp-mx, 5.3, 5.4];
//! the table of nf4 is that of [qlora, appendix E].
//!
//! Rounding is to nearest, ties to even, and saturates at the largest magnitude.

use core::fmt;
use core::num::NonZeroU32;
use core::str::FromStr;

use crate::scheme::group;
use crate::{Error, ErrorKind, GroupSize, stamp};

mod view;

pub use view::{FloatSizes, FloatView};

/// The largest value of e4m3.
pub const E4M3_MAX: f32 = 448.0;

/// The largest value of e2m1.
pub const E2M1_MAX: f32 = 6.0;

/// The values of e2m1, by code.
pub const E2M1: [f32; 16] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];

/// The values of nf4, by code.
pub const NF4: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// The values of e4m3, by code.
pub const E4M3: [f32; 256] = {
    let mut table = [0.0; 256];
    let mut code = 0;
    while code < 256 {
        table[code] = e4m3(code as u8);
        code += 1;
    }
    table
};

/// The value of an e4m3, without a look into a table, so that it vectorizes.
#[inline(always)]
const fn e4m3(code: u8) -> f32 {
    let (sign, low) = ((code as u32 & 0x80) << 24, code as u32 & 0x7F);
    // 2^-9 is the value of the lowest bit; its multiples up to 7 are exact.
    let subnormal = (low as f32 / 512.0).to_bits();
    let normal = (low << 20) + ((127 - 7) << 23);
    let magnitude = if low == 0x7F {
        0x7FC0_0000
    } else if low < 8 {
        subnormal
    } else {
        normal
    };
    f32::from_bits(sign | magnitude)
}

/// The value of an e4m3.
#[inline(always)]
pub const fn e4m3_to_f32(code: u8) -> f32 {
    E4M3[code as usize]
}

/// The nearest e4m3; magnitudes beyond 448, infinities too, give 448. A NaN stays one.
#[inline(always)]
pub const fn f32_to_e4m3(x: f32) -> u8 {
    let sign = (x.to_bits() >> 24) & 0x80;
    let magnitude = x.to_bits() & 0x7FFF_FFFF;
    let most = E4M3_MAX.to_bits();
    let cut = if magnitude > most { most } else { magnitude };
    // The lowest bit of 2^14 is 2^-9: the sum ends in the subnormal's bits, rounded.
    let subnormal = (f32::from_bits(cut) + 16384.0).to_bits().wrapping_sub(16384f32.to_bits());
    let odd = (cut >> 20) & 1;
    let normal = cut.wrapping_sub((127 - 7) << 23).wrapping_add(0x7_FFFF + odd) >> 20;
    let code = if magnitude > 0x7F80_0000 {
        0x7F
    } else if cut < (127 - 6) << 23 {
        subnormal
    } else {
        normal
    };
    (code | sign) as u8
}

/// The nearest e2m1, in the low four bits; the sign of a zero stays. A NaN gives zero, for the
/// type has none.
#[inline(always)]
pub const fn f32_to_e2m1(x: f32) -> u8 {
    let a = f32::from_bits(x.to_bits() & 0x7FFF_FFFF);
    // Halfway between two values the code with an even fraction wins.
    let low = (a > 0.25) as u8 + (a >= 0.75) as u8 + (a > 1.25) as u8 + (a >= 1.75) as u8;
    let high = (a > 2.5) as u8 + (a >= 3.5) as u8 + (a > 5.0) as u8;
    (low + high) | (x.to_bits() >> 28 & 8) as u8
}

/// The value of an e8m0: a power of two from 2^-127 to 2^127, or NaN.
#[inline(always)]
pub const fn e8m0_to_f32(code: u8) -> f32 {
    f32::from_bits(match code {
        0 => 0x0040_0000,
        255 => 0x7FC0_0000,
        e => (e as u32) << 23,
    })
}

/// The largest e8m0 whose value is not above `x`, and 0 (2^-127) below that.
#[inline(always)]
pub const fn e8m0_floor(x: f32) -> u8 {
    let exponent = x.to_bits() >> 23 & 0xFF;
    // An infinity or NaN takes the largest power.
    if exponent > 254 { 254 } else { exponent as u8 }
}

/// The nf4 whose value is nearest; of two at the same distance, the lower. A NaN gives code 0.
#[inline(always)]
pub fn f32_to_nf4(x: f32) -> u8 {
    let mut code = 0;
    for pair in NF4.windows(2) {
        if let [low, high] = pair {
            code += u8::from(x > (low + high) / 2.0);
        }
    }
    code
}

stamp! {
    /// The nearest e4m3 of `x / scale`, one a byte; stops at the shorter side.
    pub fn encode_e4m3 = encode_e4m3_body(x: &[f32], scale: f32, out: &mut [u8]) -> ();
}

#[inline(always)]
fn encode_e4m3_body(x: &[f32], scale: f32, out: &mut [u8]) {
    out.iter_mut().zip(x).for_each(|(out, x)| *out = f32_to_e4m3(x / scale));
}

stamp! {
    /// The nearest e2m1 of `x / scale`, one a byte; stops at the shorter side.
    pub fn encode_e2m1 = encode_e2m1_body(x: &[f32], scale: f32, out: &mut [u8]) -> ();
}

#[inline(always)]
fn encode_e2m1_body(x: &[f32], scale: f32, out: &mut [u8]) {
    out.iter_mut().zip(x).for_each(|(out, x)| *out = f32_to_e2m1(x / scale));
}

stamp! {
    /// The nearest nf4 of `x / scale`, one a byte; stops at the shorter side.
    pub fn encode_nf4 = encode_nf4_body(x: &[f32], scale: f32, out: &mut [u8]) -> ();
}

#[inline(always)]
fn encode_nf4_body(x: &[f32], scale: f32, out: &mut [u8]) {
    out.iter_mut().zip(x).for_each(|(out, x)| *out = f32_to_nf4(x / scale));
}

/// Which elements of a tensor of e4m3 share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blocks {
    /// All of them.
    Tensor,
    /// Those of one row.
    Row,
    /// Those of a square of so many rows and columns; the last ones may be smaller.
    Square(NonZeroU32),
}

/// Small floats with scales: what the codes of one tensor mean.
///
/// ```text
/// fp8_e4m3/row     e4m3, one F32 scale a row; also `tensor`, and `b128`: squares of 128x128
/// mxfp4            e2m1, one e8m0 scale for 32 of a row
/// nvfp4            e2m1, one e4m3 scale for 16 of a row, one F32 scale for all
/// nf4/g64          nf4, one F32 scale for 64 of a row
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Float {
    /// F8_E4M3 with F32 scales.
    Fp8E4m3(Blocks),
    /// FP4 in groups of 32 with scales that are powers of two.
    Mxfp4,
    /// FP4 in groups of 16 with FP8 scales under one F32 scale.
    Nvfp4,
    /// Normal quantiles with one F32 scale a group.
    Nf4(GroupSize),
}

impl fmt::Display for Float {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fp8E4m3(Blocks::Tensor) => f.write_str("fp8_e4m3/tensor"),
            Self::Fp8E4m3(Blocks::Row) => f.write_str("fp8_e4m3/row"),
            Self::Fp8E4m3(Blocks::Square(side)) => write!(f, "fp8_e4m3/b{side}"),
            Self::Mxfp4 => f.write_str("mxfp4"),
            Self::Nvfp4 => f.write_str("nvfp4"),
            Self::Nf4(group) => write!(f, "nf4/g{}", group.get()),
        }
    }
}

impl FromStr for Float {
    type Err = Error;

    /// Reads the text form. A group size out of range gives that kind of error, anything
    /// else [`ErrorKind::SchemeText`].
    fn from_str(text: &str) -> Result<Self, Error> {
        if let Some(text) = text.strip_prefix("nf4/") {
            return group(text).map(Self::Nf4);
        }
        let known = match text {
            "fp8_e4m3/tensor" => Some(Self::Fp8E4m3(Blocks::Tensor)),
            "fp8_e4m3/row" => Some(Self::Fp8E4m3(Blocks::Row)),
            "mxfp4" => Some(Self::Mxfp4),
            "nvfp4" => Some(Self::Nvfp4),
            _ => None,
        };
        let square = || Some(Self::Fp8E4m3(Blocks::Square(side(text.strip_prefix("fp8_e4m3/b")?)?)));
        known.or_else(square).ok_or_else(|| ErrorKind::SchemeText.into())
    }
}

/// Decimal digits without sign or leading zero.
fn side(digits: &str) -> Option<NonZeroU32> {
    if digits.starts_with(['0', '+']) { None } else { digits.parse().ok() }
}

#[cfg(all(test, feature = "std"))]
mod tests;

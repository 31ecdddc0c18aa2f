//! The types of elements.

use std::fmt;

/// The type of a tensor's elements, by the numbers of `TensorProto.DataType`.
///
/// The two-bit integers are of ONNX 1.20; the number is all that the schema has of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum DataType {
    /// IEEE 754 single precision.
    Float = 1,
    /// Bytes.
    Uint8 = 2,
    /// Signed bytes.
    Int8 = 3,
    /// 16 bits, unsigned.
    Uint16 = 4,
    /// 16 bits, signed.
    Int16 = 5,
    /// 32 bits, signed.
    Int32 = 6,
    /// 64 bits, signed.
    Int64 = 7,
    /// Texts of any length, which have no place in a tensor's bytes.
    String = 8,
    /// One byte each: 0 or 1.
    Bool = 9,
    /// IEEE 754 half precision.
    Float16 = 10,
    /// IEEE 754 double precision.
    Double = 11,
    /// 32 bits, unsigned.
    Uint32 = 12,
    /// 64 bits, unsigned.
    Uint64 = 13,
    /// Two floats.
    Complex64 = 14,
    /// Two doubles.
    Complex128 = 15,
    /// The upper half of a float.
    Bfloat16 = 16,
    /// Four bits of exponent, three of mantissa; NaN, no infinities.
    Float8E4M3Fn = 17,
    /// The same without a negative zero.
    Float8E4M3Fnuz = 18,
    /// Five bits of exponent, two of mantissa.
    Float8E5M2 = 19,
    /// The same without infinities and negative zero.
    Float8E5M2Fnuz = 20,
    /// Four bits, unsigned; two in a byte, the first in the lower half.
    Uint4 = 21,
    /// Four bits, signed; two in a byte.
    Int4 = 22,
    /// Two bits of exponent, one of mantissa; two in a byte.
    Float4E2M1 = 23,
    /// A power of two: eight bits of exponent.
    Float8E8M0 = 24,
    /// Two bits, unsigned; four in a byte, the first in the lowest bits.
    Uint2 = 25,
    /// Two bits, signed; four in a byte.
    Int2 = 26,
}

/// All types by number.
pub const ALL_DATA_TYPES: [DataType; 26] = {
    use DataType::*;
    [
        Float,
        Uint8,
        Int8,
        Uint16,
        Int16,
        Int32,
        Int64,
        String,
        Bool,
        Float16,
        Double,
        Uint32,
        Uint64,
        Complex64,
        Complex128,
        Bfloat16,
        Float8E4M3Fn,
        Float8E4M3Fnuz,
        Float8E5M2,
        Float8E5M2Fnuz,
        Uint4,
        Int4,
        Float4E2M1,
        Float8E8M0,
        Uint2,
        Int2,
    ]
};

impl DataType {
    /// The type of a number, if it is one.
    pub fn from_i32(number: i32) -> Option<Self> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        ALL_DATA_TYPES.get(index).copied()
    }

    /// Its number in the format.
    pub fn number(self) -> i32 {
        self as i32
    }

    /// Its name as in the schema: `FLOAT`, `INT4`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Float => "FLOAT",
            Self::Uint8 => "UINT8",
            Self::Int8 => "INT8",
            Self::Uint16 => "UINT16",
            Self::Int16 => "INT16",
            Self::Int32 => "INT32",
            Self::Int64 => "INT64",
            Self::String => "STRING",
            Self::Bool => "BOOL",
            Self::Float16 => "FLOAT16",
            Self::Double => "DOUBLE",
            Self::Uint32 => "UINT32",
            Self::Uint64 => "UINT64",
            Self::Complex64 => "COMPLEX64",
            Self::Complex128 => "COMPLEX128",
            Self::Bfloat16 => "BFLOAT16",
            Self::Float8E4M3Fn => "FLOAT8E4M3FN",
            Self::Float8E4M3Fnuz => "FLOAT8E4M3FNUZ",
            Self::Float8E5M2 => "FLOAT8E5M2",
            Self::Float8E5M2Fnuz => "FLOAT8E5M2FNUZ",
            Self::Uint4 => "UINT4",
            Self::Int4 => "INT4",
            Self::Float4E2M1 => "FLOAT4E2M1",
            Self::Float8E8M0 => "FLOAT8E8M0",
            Self::Uint2 => "UINT2",
            Self::Int2 => "INT2",
        }
    }

    /// Bits of an element; 0 for texts, which have any length.
    pub fn bits(self) -> usize {
        match self {
            Self::String => 0,
            Self::Uint2 | Self::Int2 => 2,
            Self::Uint4 | Self::Int4 | Self::Float4E2M1 => 4,
            Self::Uint8 | Self::Int8 | Self::Bool => 8,
            Self::Float8E4M3Fn | Self::Float8E4M3Fnuz | Self::Float8E5M2 => 8,
            Self::Float8E5M2Fnuz | Self::Float8E8M0 => 8,
            Self::Uint16 | Self::Int16 | Self::Float16 | Self::Bfloat16 => 16,
            Self::Float | Self::Int32 | Self::Uint32 => 32,
            Self::Int64 | Self::Uint64 | Self::Double | Self::Complex64 => 64,
            Self::Complex128 => 128,
        }
    }

    /// Bytes of so many elements: small ones are packed, and the last byte may be half empty.
    /// Nothing where that is more than an address can say, or for texts.
    pub fn byte_len(self, elements: usize) -> Option<usize> {
        let per_byte = match self.bits() {
            0 => return None,
            bits @ 8.. => return elements.checked_mul(bits / 8),
            bits => 8 / bits,
        };
        Some(elements.div_ceil(per_byte))
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

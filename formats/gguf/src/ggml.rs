//! The tensor types of ggml: numbers, names, blocks.

use std::fmt;

macro_rules! types {
    ($($(#[$doc:meta])* $variant:ident = $id:literal, $name:literal, $elements:literal x $bytes:literal;)*) => {
        /// How the elements of a tensor are stored. Retired types are not among them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        #[allow(non_camel_case_types, reason = "the names that everybody knows them by")]
        pub enum GgmlType {
            $($(#[$doc])* $variant,)*
        }

        impl GgmlType {
            /// All of them, by number.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Its number in a file.
            pub const fn id(self) -> u32 {
                match self { $(Self::$variant => $id),* }
            }

            /// Its name: `Q4_K`, `BF16`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// Elements of one block: 1 where each stands for itself.
            pub const fn block_elements(self) -> usize {
                match self { $(Self::$variant => $elements),* }
            }

            /// Bytes of one block.
            pub const fn block_bytes(self) -> usize {
                match self { $(Self::$variant => $bytes),* }
            }
        }
    };
}

types! {
    /// IEEE single precision.
    F32 = 0, "F32", 1 x 4;
    /// IEEE half precision.
    F16 = 1, "F16", 1 x 2;
    /// 4 bits, one scale.
    Q4_0 = 2, "Q4_0", 32 x 18;
    /// 4 bits, scale and minimum.
    Q4_1 = 3, "Q4_1", 32 x 20;
    /// 5 bits, one scale.
    Q5_0 = 6, "Q5_0", 32 x 22;
    /// 5 bits, scale and minimum.
    Q5_1 = 7, "Q5_1", 32 x 24;
    /// 8 bits, one scale.
    Q8_0 = 8, "Q8_0", 32 x 34;
    /// 8 bits, scale and sum: of activations, not written to files.
    Q8_1 = 9, "Q8_1", 32 x 36;
    /// 2 bits, scales of scales.
    Q2_K = 10, "Q2_K", 256 x 84;
    /// 3 bits, scales of scales.
    Q3_K = 11, "Q3_K", 256 x 110;
    /// 4 bits, scales of scales.
    Q4_K = 12, "Q4_K", 256 x 144;
    /// 5 bits, scales of scales.
    Q5_K = 13, "Q5_K", 256 x 176;
    /// 6 bits, scales of scales.
    Q6_K = 14, "Q6_K", 256 x 210;
    /// 8 bits, an f32 scale: of activations, not written to files.
    Q8_K = 15, "Q8_K", 256 x 292;
    /// 2.06 bits, lattice.
    IQ2_XXS = 16, "IQ2_XXS", 256 x 66;
    /// 2.31 bits, lattice.
    IQ2_XS = 17, "IQ2_XS", 256 x 74;
    /// 3.06 bits, lattice.
    IQ3_XXS = 18, "IQ3_XXS", 256 x 98;
    /// 1.56 bits, lattice.
    IQ1_S = 19, "IQ1_S", 256 x 50;
    /// 4 bits, uneven levels.
    IQ4_NL = 20, "IQ4_NL", 32 x 18;
    /// 3.44 bits, lattice.
    IQ3_S = 21, "IQ3_S", 256 x 110;
    /// 2.5 bits, lattice.
    IQ2_S = 22, "IQ2_S", 256 x 82;
    /// 4 bits, uneven levels, scales of scales.
    IQ4_XS = 23, "IQ4_XS", 256 x 136;
    /// Whole numbers of 8 bits.
    I8 = 24, "I8", 1 x 1;
    /// Whole numbers of 16 bits.
    I16 = 25, "I16", 1 x 2;
    /// Whole numbers of 32 bits.
    I32 = 26, "I32", 1 x 4;
    /// Whole numbers of 64 bits.
    I64 = 27, "I64", 1 x 8;
    /// IEEE double precision.
    F64 = 28, "F64", 1 x 8;
    /// 1.75 bits, lattice.
    IQ1_M = 29, "IQ1_M", 256 x 56;
    /// The upper half of an f32.
    BF16 = 30, "BF16", 1 x 2;
    /// Ternary, 5 to a byte.
    TQ1_0 = 34, "TQ1_0", 256 x 54;
    /// Ternary, 4 to a byte.
    TQ2_0 = 35, "TQ2_0", 256 x 66;
    /// 4-bit floats, a power of two as scale.
    MXFP4 = 39, "MXFP4", 32 x 17;
    /// 4-bit floats, 8-bit floats as scales.
    NVFP4 = 40, "NVFP4", 64 x 36;
    /// 1 bit, one scale.
    Q1_0 = 41, "Q1_0", 128 x 18;
    /// 2 bits, one scale.
    Q2_0 = 42, "Q2_0", 64 x 18;
}

impl GgmlType {
    /// The type of a number; none for numbers that are unknown or [retired](is_retired).
    pub fn from_id(id: u32) -> Option<Self> {
        Self::ALL.iter().copied().find(|ggml| ggml.id() == id)
    }

    /// The type of a name, in either case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|ggml| ggml.name().eq_ignore_ascii_case(name))
    }

    /// Bytes of a tensor of these dimensions, the last of which is a row; none where a block
    /// does not divide the row, or where the size does not fit.
    pub fn byte_len(self, dims: &[usize]) -> Option<usize> {
        let row = dims.last().copied().unwrap_or(1);
        let blocks = row.is_multiple_of(self.block_elements()).then(|| row / self.block_elements())?;
        let rows = dims.iter().rev().skip(1).try_fold(1usize, |n, dim| n.checked_mul(*dim))?;
        rows.checked_mul(blocks)?.checked_mul(self.block_bytes())
    }

    /// Where the half-precision numbers stand in a block; empty for types without blocks, and
    /// for those whose scales are something else.
    pub(crate) const fn halves(self) -> &'static [usize] {
        match self {
            Self::Q4_0 | Self::Q5_0 | Self::Q8_0 | Self::IQ4_NL | Self::Q1_0 | Self::Q2_0 => &[0],
            Self::IQ2_XXS | Self::IQ2_XS | Self::IQ2_S | Self::IQ3_XXS | Self::IQ3_S => &[0],
            Self::IQ1_S | Self::IQ4_XS => &[0],
            Self::Q4_1 | Self::Q5_1 | Self::Q8_1 | Self::Q4_K | Self::Q5_K => &[0, 2],
            Self::Q2_K => &[80, 82],
            Self::Q3_K => &[108],
            Self::Q6_K => &[208],
            Self::TQ1_0 => &[52],
            Self::TQ2_0 => &[64],
            _ => &[],
        }
    }
}

impl fmt::Display for GgmlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether a type's number was in use once and is not any more.
pub fn is_retired(id: u32) -> bool {
    matches!(id, 4 | 5 | 31..=33 | 36..=38)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_lead_back() {
        for id in 0..100 {
            if let Some(ggml) = GgmlType::from_id(id) {
                assert_eq!((ggml.id(), GgmlType::from_name(&ggml.name().to_lowercase())), (id, Some(ggml)));
                assert!(!is_retired(id));
            } else {
                assert!(is_retired(id) || id > 42, "{id} is missing");
            }
        }
    }

    #[test]
    fn sizes_of_tensors() {
        assert_eq!(GgmlType::Q4_K.byte_len(&[3, 512]), Some(3 * 2 * 144));
        assert_eq!(GgmlType::Q4_K.byte_len(&[3, 500]), None);
        assert_eq!(GgmlType::Q8_0.byte_len(&[]), None);
        assert_eq!(GgmlType::F32.byte_len(&[]), Some(4));
        assert_eq!(GgmlType::Q8_0.byte_len(&[0, 64]), Some(0));
        assert_eq!(GgmlType::F32.byte_len(&[usize::MAX, 2]), None);
    }

    #[test]
    fn halves_stand_inside_their_blocks() {
        for ggml in GgmlType::ALL {
            assert!(ggml.halves().iter().all(|at| at + 2 <= ggml.block_bytes()), "{ggml}");
        }
    }
}

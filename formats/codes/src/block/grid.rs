//! What the codes of a sub-block stand for.

use super::decode::{E2M1, UNEVEN, half, half_power, part, q3_k_scales, six_bits};
use crate::BlockType;

/// What the codes of the weights that share a scale stand for, in f32, each operation rounded by itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum BlockGrid {
    /// `scale * (code - middle) + base`; without a minimum, `base` is 0.
    Even {
        /// Distance between neighbouring codes.
        scale: f32,
        /// The code that stands for `base`.
        middle: u8,
        /// What is added.
        base: f32,
    },
    /// `scale * table[code]`.
    Uneven {
        /// What the values are multiplied by.
        scale: f32,
        /// The value of each code.
        table: &'static [i8; 16],
    },
}

impl BlockGrid {
    /// What a code stands for, as [`crate::BlockView::dequantize_rows`] decodes it, but that a
    /// zero may have the other sign.
    #[inline(always)]
    pub fn value(&self, code: u8) -> f32 {
        match self {
            Self::Even { scale, middle, base } => scale * (i32::from(code) - i32::from(*middle)) as f32 + base,
            Self::Uneven { scale, table } => scale * f32::from(table[usize::from(code & 15)]),
        }
    }
}

impl BlockType {
    /// Weights that share a scale: a sub-block.
    pub const fn sub_block(self) -> usize {
        match self {
            Self::Q2K | Self::Q3K | Self::Q6K => 16,
            _ => 32,
        }
    }

    /// What the codes of sub-block `at` of a block stand for; bytes and sub-blocks that are not
    /// there count as zeros.
    #[inline]
    pub fn grid(self, block: &[u8], at: usize) -> BlockGrid {
        let even = |scale, middle, base| BlockGrid::Even { scale, middle, base };
        let d = |at| half(block, at);
        let pair = |bytes: &[u8; 12], d: f32, m: f32| {
            let (scales, minima) = six_bits(bytes);
            even(d * f32::from(scales[at % 8]), 0, -(m * f32::from(minima[at % 8])))
        };
        match self {
            Self::Q4_0 => even(d(0), 8, 0.0),
            Self::Q5_0 => even(d(0), 16, 0.0),
            Self::Q8_0 => even(d(0), 128, 0.0),
            Self::Q4_1 | Self::Q5_1 => even(d(0), 0, d(2)),
            Self::Q2K => {
                let scale = part::<16>(block, 0)[at % 16];
                even(d(80) * f32::from(scale & 15), 0, -(d(82) * f32::from(scale >> 4)))
            }
            Self::Q3K => even(d(108) * f32::from(q3_k_scales(part(block, 96))[at % 16]), 4, 0.0),
            Self::Q4K | Self::Q5K => pair(part(block, 4), d(0), d(2)),
            Self::Q6K => even(d(208) * f32::from(part::<16>(block, 192)[at % 16] as i8), 32, 0.0),
            Self::Iq4Nl => BlockGrid::Uneven { scale: d(0), table: &UNEVEN },
            Self::Iq4Xs => {
                let low = part::<4>(block, 4)[at / 2 % 4] >> (4 * (at % 2)) & 15;
                let high = u16::from_le_bytes(*part(block, 2)) >> (2 * (at % 8)) & 3;
                let scale = i32::from(low) + i32::from(high) * 16 - 32;
                BlockGrid::Uneven { scale: d(0) * scale as f32, table: &UNEVEN }
            }
            Self::Mxfp4 => {
                let [power] = *part(block, 0);
                BlockGrid::Uneven { scale: half_power(power), table: &E2M1 }
            }
        }
    }
}

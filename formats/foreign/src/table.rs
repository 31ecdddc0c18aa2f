//! Scales, biases and zero points in place: read by row and group, whatever their order.

use niwaki_codes::floats::{e4m3_to_f32, e8m0_to_f32};
use niwaki_codes::half_floats::{bf16_to_f32, f16_to_f32};
use niwaki_tensors::Dtype;

/// How one scale is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Number {
    F32,
    F16,
    Bf16,
    E4m3,
    E8m0,
}

impl Number {
    /// The floats that scales of integers and of FP8 are stored in.
    pub(crate) fn float(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::F32 => Some(Self::F32),
            Dtype::F16 => Some(Self::F16),
            Dtype::BF16 => Some(Self::Bf16),
            _ => None,
        }
    }

    /// Element `index`; 0 past the end.
    pub(crate) fn at(self, bytes: &[u8], index: usize) -> f32 {
        let half = || bytes.as_chunks().0.get(index).map_or(0, |b| u16::from_le_bytes(*b));
        let byte = || bytes.get(index).copied().unwrap_or(0);
        match self {
            Self::F32 => bytes.as_chunks().0.get(index).map_or(0.0, |b| f32::from_le_bytes(*b)),
            Self::F16 => f16_to_f32(half()),
            Self::Bf16 => bf16_to_f32(half()),
            Self::E4m3 => e4m3_to_f32(byte()),
            Self::E8m0 => e8m0_to_f32(byte()),
        }
    }
}

/// Where the entry of a row and a group stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order {
    /// Rows of one matrix; a stack of them has a table each.
    pub(crate) plane: usize,
    /// Rows that share an entry.
    pub(crate) rows: usize,
    /// From one row of entries to the next.
    pub(crate) row_stride: usize,
    /// From one group to the next.
    pub(crate) group_stride: usize,
}

impl Order {
    /// One entry for all.
    pub(crate) const ONE: Self = Self { plane: usize::MAX, rows: 1, row_stride: 0, group_stride: 0 };

    /// One entry a row.
    pub(crate) const ROWS: Self = Self { plane: usize::MAX, rows: 1, row_stride: 1, group_stride: 0 };

    /// Groups of a row side by side.
    pub(crate) const fn groups(groups: usize) -> Self {
        Self { plane: usize::MAX, rows: 1, row_stride: groups, group_stride: 1 }
    }

    /// Rows side by side, a line for each group.
    pub(crate) const fn transposed(rows: usize) -> Self {
        Self { plane: usize::MAX, rows: 1, row_stride: 1, group_stride: rows }
    }

    fn index(&self, row: usize, group: usize) -> usize {
        let (plane, inside) = (row / self.plane, row % self.plane);
        let line = match plane {
            0 => inside / self.rows,
            _ => plane.saturating_mul(self.plane.div_ceil(self.rows)).saturating_add(inside / self.rows),
        };
        line.saturating_mul(self.row_stride).saturating_add(group.saturating_mul(self.group_stride))
    }
}

/// One number for all entries of a table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Factor {
    One,
    Over(f32),
}

/// Scales or biases.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Table<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) number: Number,
    pub(crate) order: Order,
    pub(crate) factor: Factor,
}

impl Table<'_> {
    /// The entry of a row and a group.
    pub(crate) fn at(&self, row: usize, group: usize) -> f32 {
        let entry = self.number.at(self.bytes, self.order.index(row, group));
        match self.factor {
            Factor::One => entry,
            Factor::Over(factor) => entry / factor,
        }
    }
}

/// Zero points, as unsigned codes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Points<'a> {
    /// Bit fields in words of 32: field `row` of the words of a group.
    Fields { bytes: &'a [u8], bits: u32, group_stride: usize, word_stride: usize, less_one: bool },
    /// AWQ's order of eight rows in a word; so many words a group.
    Awq { bytes: &'a [u8], words: usize },
    /// One I8 each.
    Bytes { bytes: &'a [u8], order: Order },
}

impl Points<'_> {
    /// The zero point of a row and a group.
    pub(crate) fn at(&self, row: usize, group: usize) -> u8 {
        match *self {
            Self::Fields { bytes, bits, group_stride, word_stride, less_one } => {
                let stored = field(bytes, bits, group.saturating_mul(group_stride), word_stride, row);
                // A zero point of 0 less one wraps around, and back here.
                stored.wrapping_add(u8::from(less_one)) & mask(bits)
            }
            Self::Awq { bytes, words } => {
                let word = word(bytes, group.saturating_mul(words).saturating_add(row / 8));
                awq_nibble(word, row)
            }
            Self::Bytes { bytes, order } => bytes.get(order.index(row, group)).copied().unwrap_or(0) ^ 0x80,
        }
    }
}

/// The lowest bits.
fn mask(bits: u32) -> u8 {
    ((1u32 << bits) - 1) as u8
}

/// Word `index` of 32 bits; 0 past the end.
pub(crate) fn word(bytes: &[u8], index: usize) -> u32 {
    bytes.as_chunks().0.get(index).map_or(0, |b| u32::from_le_bytes(*b))
}

/// Field `index` of a bit stream whose words stand `stride` apart from `first` on.
fn field(bytes: &[u8], bits: u32, first: usize, stride: usize, index: usize) -> u8 {
    // 32 fields fill `bits` words: no product overflows first.
    let (run, bit) = (index / 32, index % 32 * bits as usize);
    let nth = run.saturating_mul(bits as usize).saturating_add(bit / 32);
    let at = |nth: usize| u64::from(word(bytes, nth.saturating_mul(stride).saturating_add(first)));
    let both = if bit % 32 + bits as usize > 32 { at(nth) | at(nth + 1) << 32 } else { at(nth) };
    (both >> (bit % 32)) as u8 & mask(bits)
}

/// Where in a word of AWQ the outputs 0 to 7 stand, in nibbles.
pub(crate) const AWQ_PLACES: [u32; 8] = [0, 4, 1, 5, 2, 6, 3, 7];

/// The nibble of output `row` in its word.
pub(crate) fn awq_nibble(word: u32, row: usize) -> u8 {
    (word >> (4 * AWQ_PLACES[row % 8])) as u8 & 15
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_may_span_two_words() {
        // 32 codes of 3 bits, 0 to 7 again and again, written bit by bit.
        let mut bits = [false; 96];
        for i in 0..32 {
            (0..3).for_each(|b| bits[3 * i + b] = (i % 8) >> b & 1 == 1);
        }
        // Every second word belongs to another lane.
        let mut bytes = vec![0xFF; 24];
        for (k, chunk) in bits.chunks(32).enumerate() {
            let word = chunk.iter().enumerate().fold(0u32, |word, (b, set)| word | u32::from(*set) << b);
            bytes[8 * k + 4..8 * k + 8].copy_from_slice(&word.to_le_bytes());
        }
        assert!((0..32).all(|i| field(&bytes, 3, 1, 2, i) == (i % 8) as u8));
    }

    #[test]
    fn a_zero_point_less_one_wraps() {
        let bytes = 0x8F70u32.to_le_bytes();
        let points = |less_one| Points::Fields { bytes: &bytes, bits: 4, group_stride: 1, word_stride: 1, less_one };
        assert_eq!([0, 1, 2, 3].map(|row| points(true).at(row, 0)), [1, 8, 0, 9]);
        assert_eq!([0, 1, 2, 3].map(|row| points(false).at(row, 0)), [0, 7, 15, 8]);
    }

    #[test]
    fn squares_start_anew_in_each_plane() {
        // Planes of 3 rows in squares of 2: two lines of entries each.
        let order = Order { plane: 3, rows: 2, row_stride: 5, group_stride: 1 };
        assert_eq!([0, 1, 2, 3, 4, 5].map(|row| order.index(row, 1)), [1, 1, 6, 11, 11, 16]);
    }
}

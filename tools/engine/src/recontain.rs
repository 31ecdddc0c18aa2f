//! Codes in another layout that mean the same numbers.
//!
//! ```text
//! int2..int4 sym, groups of 32 n     q4_0    nibble = code + 8 - half
//! int5 sym                           q5_0
//! int6..int8 sym                     q8_0
//! int2..int4 affine                  q4_1    minimum = -scale * zero point
//! int5 affine                        q5_1
//! q4_0, q5_0, q8_0                   int4, int5, int8 / g32 / sym
//! ```
//!
//! Scales that are no IEEE half are none that blocks hold, and whoever asks encodes anew.
//! Minima are rounded to halves; what that costs, the caller measures.

use niwaki_codes::half_floats::{f16_to_f32, f32_to_f16};
use niwaki_codes::simd::Level;
use niwaki_codes::{BlockType, Grouping, ScaleType, Symmetry, Uniform, unpack_row};
use niwaki_foreign::UniformRows;

use crate::block_rows::even;
use crate::source::Coded;

/// Some rows of evenly spaced codes: one code a byte, one scale and zero point a group.
#[derive(Debug, PartialEq)]
pub(crate) struct Plain {
    pub(crate) scheme: Uniform,
    pub(crate) codes: Vec<u8>,
    pub(crate) scales: Vec<f32>,
    pub(crate) zeros: Vec<u8>,
}

impl Plain {
    /// From packed codes of rows of `cols` weights.
    pub(crate) fn of_rows(scheme: Uniform, rows: &UniformRows, cols: usize) -> Option<Self> {
        let packed = scheme.row_bytes(cols).max(1);
        let mut codes = vec![0; rows.codes.len() / packed * cols];
        for (packed, out) in rows.codes.chunks_exact(packed).zip(codes.chunks_exact_mut(cols.max(1))) {
            unpack_row(Level::best(), scheme.bits, packed, out).ok()?;
        }
        let scales = match scheme.scale_type() {
            ScaleType::F16 => {
                let halves = rows.scales.as_chunks::<2>().0.iter();
                halves.map(|half| f16_to_f32(u16::from_le_bytes(*half))).collect()
            }
            ScaleType::F32 => rows.scales.as_chunks::<4>().0.iter().map(|scale| f32::from_le_bytes(*scale)).collect(),
        };
        Some(Self { scheme, codes, scales, zeros: rows.zeros.clone() })
    }

    /// From codes as they are stored; none for blocks on no even grid.
    pub(crate) fn of(coded: &Coded<'_>, cols: usize) -> Option<Self> {
        match coded {
            Coded::Uniform(scheme, rows) => Self::of_rows(*scheme, rows, cols),
            Coded::Blocks(kind, bytes) => Self::of_blocks(*kind, bytes),
        }
    }

    fn of_blocks(kind: BlockType, bytes: &[u8]) -> Option<Self> {
        let scheme = match kind {
            BlockType::Q4_0 | BlockType::Q5_0 | BlockType::Q8_0 => even(kind),
            _ => return None,
        };
        let (mut codes, mut scales) = (Vec::with_capacity(bytes.len() * 2), Vec::new());
        for block in bytes.chunks_exact(kind.bytes()) {
            let (&[low, high], rest) = block.split_first_chunk::<2>()?;
            scales.push(f16_to_f32(u16::from_le_bytes([low, high])));
            match kind {
                BlockType::Q8_0 => codes.extend(rest.iter().map(|code| code ^ 0x80)),
                BlockType::Q4_0 => {
                    codes.extend(rest.iter().map(|pair| pair & 15));
                    codes.extend(rest.iter().map(|pair| pair >> 4));
                }
                _ => {
                    let (&high, pairs) = rest.split_first_chunk::<4>()?;
                    let high = u32::from_le_bytes(high);
                    let fifth = |at: usize| ((high >> at & 1) as u8) << 4;
                    codes.extend(pairs.iter().enumerate().map(|(i, pair)| pair & 15 | fifth(i)));
                    codes.extend(pairs.iter().enumerate().map(|(i, pair)| pair >> 4 | fifth(i + 16)));
                }
            }
        }
        Some(Self { scheme, codes, scales, zeros: Vec::new() })
    }

    /// The group of weight `col` of row `row` among all groups.
    fn group(&self, row: usize, col: usize, cols: usize) -> usize {
        match self.scheme.grouping {
            Grouping::Tensor => 0,
            Grouping::Row => row,
            Grouping::Group(g) => row * cols.div_ceil(g.get()) + col / g.get(),
        }
    }

    /// Blocks that mean the same but for the rounding of minima; none where `kind` cannot
    /// hold the codes, or a scale is no half.
    pub(crate) fn blocks(&self, kind: BlockType, cols: usize) -> Option<Vec<u8>> {
        let affine = self.scheme.symmetry == Symmetry::Affine;
        let (bits, wants_affine) = match kind {
            BlockType::Q4_0 => (4, false),
            BlockType::Q5_0 => (5, false),
            BlockType::Q8_0 => (8, false),
            BlockType::Q4_1 => (4, true),
            BlockType::Q5_1 => (5, true),
            _ => return None,
        };
        let run = match self.scheme.grouping {
            Grouping::Group(g) => g.get(),
            Grouping::Row | Grouping::Tensor => cols,
        };
        let holds = affine == wants_affine && self.scheme.bits.get() <= bits;
        if !holds || !cols.is_multiple_of(32) || !run.is_multiple_of(32) {
            return None;
        }
        let shift = if affine { 0 } else { (1 << (bits - 1)) - self.scheme.bits.half() as u8 };
        let mut out = Vec::with_capacity(self.codes.len() / 32 * kind.bytes());
        for (row, codes) in self.codes.chunks_exact(cols).enumerate() {
            for (nth, codes) in codes.as_chunks::<32>().0.iter().enumerate() {
                let group = self.group(row, nth * 32, cols);
                let scale = *self.scales.get(group)?;
                let half = f32_to_f16(scale);
                if f16_to_f32(half).to_bits() != scale.to_bits() || !scale.is_finite() {
                    return None;
                }
                out.extend(half.to_le_bytes());
                if affine {
                    let minimum = f32_to_f16(-scale * f32::from(*self.zeros.get(group)?));
                    if !f16_to_f32(minimum).is_finite() {
                        return None;
                    }
                    out.extend(minimum.to_le_bytes());
                }
                let codes = codes.map(|code| code.wrapping_add(shift));
                match bits {
                    8 => out.extend(codes.map(|code| code ^ 0x80)),
                    _ => {
                        if bits == 5 {
                            let high = codes
                                .iter()
                                .enumerate()
                                .fold(0u32, |all, (i, code)| all | u32::from(code >> 4 & 1) << i);
                            out.extend(high.to_le_bytes());
                        }
                        let (low, high) = codes.split_at(16);
                        out.extend(low.iter().zip(high).map(|(low, high)| low & 15 | high << 4));
                    }
                }
            }
        }
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use niwaki_codes::{BlockView, Scheme, UniformView, packed_bytes};

    use super::*;

    fn uniform(text: &str) -> Uniform {
        match text.parse() {
            Ok(Scheme::Uniform(uniform)) => uniform,
            other => panic!("{text}: {other:?}"),
        }
    }

    /// Three rows of 64 with every code, decoded as they are and as blocks.
    fn both(text: &str, kind: BlockType) -> Option<(Vec<f32>, Vec<f32>)> {
        let scheme = uniform(text);
        let (rows, cols) = (3, 64);
        let codes: Vec<u8> = (0..rows * cols).map(|i| (i * 7 % scheme.bits.levels() as usize) as u8).collect();
        let groups = scheme.groups(rows, cols);
        let scales: Vec<f32> = (0..groups).map(|i| f16_to_f32(f32_to_f16(0.01 * (i + 1) as f32))).collect();
        let affine = scheme.symmetry == Symmetry::Affine;
        let zeros: Vec<u8> = (0..if affine { groups } else { 0 }).map(|i| (i % 4) as u8).collect();
        let plain = Plain { scheme, codes: codes.clone(), scales: scales.clone(), zeros: zeros.clone() };
        let mut packed = vec![0; rows * packed_bytes(cols, scheme.bits)];
        for (codes, out) in codes.chunks(cols).zip(packed.chunks_mut(scheme.row_bytes(cols))) {
            niwaki_codes::pack_row(Level::best(), scheme.bits, codes, out).unwrap();
        }
        let stored: Vec<u8> = match scheme.scale_type() {
            ScaleType::F16 => scales.iter().flat_map(|s| f32_to_f16(*s).to_le_bytes()).collect(),
            ScaleType::F32 => scales.iter().flat_map(|s| s.to_le_bytes()).collect(),
        };
        let view = UniformView::new(scheme, rows, cols, &packed, &stored, affine.then_some(&zeros)).unwrap();
        let mut ours = vec![0.0; rows * cols];
        view.dequantize_rows(Level::best(), 0..rows, &mut ours).unwrap();
        let blocks = plain.blocks(kind, cols)?;
        let view = BlockView::new(kind, rows, cols, &blocks).unwrap();
        let mut theirs = vec![0.0; rows * cols];
        view.dequantize_rows(Level::best(), 0..rows, &mut theirs).unwrap();
        if let Some(again) = Plain::of_blocks(kind, &blocks)
            && scheme == again.scheme
        {
            assert_eq!(again, plain);
        }
        Some((ours, theirs))
    }

    #[test]
    fn symmetric_codes_mean_the_same_as_blocks() {
        for (text, kind) in [
            ("int4/g32/sym", BlockType::Q4_0),
            ("int4/g64/sym", BlockType::Q4_0),
            ("int2/row/sym", BlockType::Q4_0),
            ("int3/tensor/sym", BlockType::Q4_0),
            ("int5/g32/sym", BlockType::Q5_0),
            ("int8/g32/sym", BlockType::Q8_0),
            ("int6/row/sym", BlockType::Q8_0),
        ] {
            let (ours, theirs) = both(text, kind).unwrap();
            assert_eq!(ours, theirs, "{text} as {kind}");
        }
    }

    #[test]
    fn affine_codes_are_off_by_the_rounding_of_a_minimum() {
        for (text, kind) in [("int4/g32/affine", BlockType::Q4_1), ("int5/g64/affine", BlockType::Q5_1)] {
            let (ours, theirs) = both(text, kind).unwrap();
            let most = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(most < 2e-4, "{text}: {most}");
        }
    }

    #[test]
    fn what_blocks_cannot_hold_is_refused() {
        assert!(both("int4/g16/sym", BlockType::Q4_0).is_none());
        assert!(both("int5/g32/sym", BlockType::Q4_0).is_none());
        assert!(both("int4/g32/sym", BlockType::Q4_1).is_none());
        assert!(both("int4/g32/sym", BlockType::Q4K).is_none());
        let scheme = uniform("int8/row/sym");
        let plain = Plain { scheme, codes: vec![1; 32], scales: vec![0.1], zeros: Vec::new() };
        assert_eq!(plain.blocks(BlockType::Q8_0, 32), None);
    }
}

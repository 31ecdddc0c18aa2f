//! The bytes of each part.

use std::ops::Range;

use niwaki_codes::half_floats::{bf16_to_f32, f16_to_f32, f32_to_f16};
use niwaki_codes::simd::Level;
use niwaki_codes::{Grouping, Scheme, Symmetry, Uniform, pack_row, packed_bytes};
use niwaki_tensors::Dtype;

use super::{Coded, Outline, Piece, Pieces};
use crate::Format;
use crate::compressed::stream_words;
use crate::error::{Error, ErrorKind};
use crate::table::AWQ_PLACES;

/// Lays out rows whose buffers were measured.
pub(super) fn lay(outline: &Outline, given: &Uniform, some: Range<usize>, coded: Coded<'_>) -> Result<Pieces, Error> {
    let grids = Grids { outline, given, coded, rows: some.len() };
    match outline.format {
        Format::IntQuantized => grids.bytes(some),
        Format::Gptq | Format::GptqV2 => grids.gptq(),
        Format::Awq => grids.awq(),
        Format::Mlx => grids.mlx(some),
        _ => grids.packed(some),
    }
}

/// Codes and parameters by row and group, as they are stored.
struct Grids<'a> {
    outline: &'a Outline,
    given: &'a Uniform,
    coded: Coded<'a>,
    rows: usize,
}

impl Grids<'_> {
    /// Index of the parameters of group `group` of a row, as stored, among those given.
    fn index(&self, row: usize, group: usize) -> usize {
        match self.given.grouping {
            Grouping::Tensor => 0,
            Grouping::Row => row,
            Grouping::Group(g) => row * self.outline.cols.div_ceil(g.get()) + group,
        }
    }

    fn scale(&self, row: usize, group: usize) -> f32 {
        self.coded.scales.get(self.index(row, group)).copied().unwrap_or(0.0)
    }

    fn zero(&self, row: usize, group: usize) -> u8 {
        match self.given.symmetry {
            Symmetry::Symmetric => self.given.bits.half() as u8,
            Symmetry::Affine => self.coded.zeros.get(self.index(row, group)).copied().unwrap_or(0),
        }
    }

    fn code(&self, row: usize, col: usize) -> u8 {
        self.coded.codes.get(row * self.outline.cols + col).copied().unwrap_or(0)
    }

    /// Rows that have parameters of their own in the file, with their groups.
    fn table(&self) -> (usize, usize) {
        let (_, _, groups) = self.outline.size();
        if self.outline.scheme.grouping == Grouping::Tensor { (1, 1) } else { (self.rows, groups) }
    }

    /// Numbers row by row, each `of(row, group)`.
    fn numbers(&self, of: impl Fn(usize, usize) -> f32) -> Result<(Vec<u8>, usize), Error> {
        let (rows, groups) = self.table();
        let places = (0..rows).flat_map(|row| (0..groups).map(move |group| (row, group)));
        stored(self.outline.scales, places.map(|(row, group)| (of(row, group), self.index(row, group))))
    }

    /// Scales with a line for each group.
    fn transposed_scales(&self) -> Result<(Vec<u8>, usize), Error> {
        let (rows, _, groups) = self.outline.size();
        let places = (0..groups).flat_map(|group| (0..rows).map(move |row| (row, group)));
        stored(self.outline.scales, places.map(|(row, group)| (self.scale(row, group), self.index(row, group))))
    }

    /// A stream of words for each row.
    fn streams(&self) -> Result<Vec<u8>, Error> {
        let (cols, bits) = (self.outline.cols, self.given.bits);
        let row_bytes = stream_words(cols, bits.get()) * 4;
        let mut all = vec![0; self.rows.checked_mul(row_bytes).ok_or(ErrorKind::Overflow)?];
        for (codes, row) in self.coded.codes.chunks_exact(cols).zip(all.chunks_exact_mut(row_bytes)) {
            let packed = row.get_mut(..packed_bytes(cols, bits)).unwrap_or_default();
            pack_row(Level::best(), bits, codes, packed)?;
        }
        Ok(all)
    }

    /// compressed-tensors `pack-quantized`.
    fn packed(&self, some: Range<usize>) -> Result<Pieces, Error> {
        let (rows, cols, groups) = self.outline.size();
        let bits = self.given.bits.get();
        let (scales, rounded) = self.numbers(|row, group| self.scale(row, group))?;
        let one = self.outline.scheme.grouping == Grouping::Tensor;
        let scale_at = if one { 0 } else { some.start * groups * size_of_dtype(self.outline.scales) };
        let shape = [rows as u64, cols as u64].map(u64::to_le_bytes).concat();
        let mut pieces = vec![
            piece(0, some.start * stream_words(cols, bits) * 4, self.streams()?),
            piece(1, scale_at, scales),
            piece(2, 0, shape),
        ];
        if self.outline.scheme.symmetry == Symmetry::Affine {
            let lines = stream_words(self.rows, bits);
            let mut words = vec![0u32; lines * groups];
            for row in 0..self.rows {
                for group in 0..groups {
                    put(&mut words, bits, (group, groups), row, self.zero(row, group));
                }
            }
            // Thirty-two rows fill `bits` lines, so that a step begins a line.
            pieces.push(piece(3, some.start / 32 * bits as usize * groups * 4, bytes_of(&words)));
        }
        Ok(Pieces { pieces, rounded })
    }

    /// compressed-tensors `int-quantized`.
    fn bytes(&self, some: Range<usize>) -> Result<Pieces, Error> {
        let (_, cols, groups) = self.outline.size();
        let (scales, rounded) = self.numbers(|row, group| self.scale(row, group))?;
        let one = self.outline.scheme.grouping == Grouping::Tensor;
        let first = if one { 0 } else { some.start * groups };
        let codes = self.coded.codes.iter().map(|code| code ^ 0x80).collect();
        let mut pieces =
            vec![piece(0, some.start * cols, codes), piece(1, first * size_of_dtype(self.outline.scales), scales)];
        if self.outline.scheme.symmetry == Symmetry::Affine {
            let (rows, groups) = self.table();
            let places = (0..rows).flat_map(|row| (0..groups).map(move |group| (row, group)));
            pieces.push(piece(2, first, places.map(|(row, group)| self.zero(row, group) ^ 0x80).collect()));
        }
        Ok(Pieces { pieces, rounded })
    }

    /// MLX `affine`.
    fn mlx(&self, some: Range<usize>) -> Result<Pieces, Error> {
        let (_, cols, groups) = self.outline.size();
        let (scales, rounded) = self.numbers(|row, group| self.scale(row, group))?;
        // The bias of the scale as stored: zero stays where the scale puts it.
        let kept = |row, group| rounded_to(self.outline.scales, self.scale(row, group));
        let (biases, more) = self.numbers(|row, group| -(kept(row, group) * f32::from(self.zero(row, group))))?;
        let at = some.start * groups * size_of_dtype(self.outline.scales);
        let words = some.start * stream_words(cols, self.given.bits.get()) * 4;
        let pieces = vec![piece(0, at, biases), piece(1, at, scales), piece(2, words, self.streams()?)];
        Ok(Pieces { pieces, rounded: rounded + more })
    }

    /// GPTQ, a column of words for each row.
    fn gptq(&self) -> Result<Pieces, Error> {
        let (rows, cols, groups) = self.outline.size();
        let bits = self.given.bits.get();
        let run = cols / groups;
        let index: Vec<u8> = (0..cols).flat_map(|col| ((col / run) as u32).to_le_bytes()).collect();
        let mut codes = vec![0u32; stream_words(cols, bits) * rows];
        for (row, line) in self.coded.codes.chunks_exact(cols).enumerate() {
            for (col, code) in line.iter().enumerate() {
                put(&mut codes, bits, (row, rows), col, *code);
            }
        }
        let less = u8::from(self.outline.format == Format::Gptq);
        let line = stream_words(rows, bits);
        let mut zeros = vec![0u32; groups * line];
        for group in 0..groups {
            for row in 0..rows {
                let zero = self.zero(row, group).checked_sub(less).ok_or_else(|| self.zero_of_zero(row, group))?;
                put(&mut zeros, bits, (group * line, 1), row, zero);
            }
        }
        let (scales, rounded) = self.transposed_scales()?;
        let parts = [index, bytes_of(&codes), bytes_of(&zeros), scales];
        let pieces = parts.into_iter().enumerate().map(|(part, bytes)| piece(part, 0, bytes)).collect();
        Ok(Pieces { pieces, rounded })
    }

    fn zero_of_zero(&self, row: usize, group: usize) -> Error {
        let why = format!("zero point 0 (row {row}, group {group}) cannot be stored less one");
        let scheme = Scheme::Uniform(*self.given).to_string();
        let nearest = Some(format!("{scheme} in {}", Format::GptqV2));
        ErrorKind::Scheme { format: Format::Gptq, scheme, why, nearest }.into()
    }

    /// AWQ, eight rows in a word.
    fn awq(&self) -> Result<Pieces, Error> {
        let (rows, cols, groups) = self.outline.size();
        let words = rows / 8;
        let mut codes = vec![0u32; words * cols];
        // So many words are a cache line of the output.
        for first in (0..words).step_by(16) {
            for (col, line) in codes.chunks_exact_mut(words).enumerate() {
                for (nth, to) in (first..words.min(first + 16)).zip(line.iter_mut().skip(first)) {
                    *to = awq_word(|i| self.code(8 * nth + i, col));
                }
            }
        }
        let places = (0..groups).flat_map(|group| (0..words).map(move |nth| (group, nth)));
        let zeros: Vec<u32> = places.map(|(group, nth)| awq_word(|i| self.zero(8 * nth + i, group))).collect();
        let (scales, rounded) = self.transposed_scales()?;
        let pieces = vec![piece(0, 0, bytes_of(&codes)), piece(1, 0, bytes_of(&zeros)), piece(2, 0, scales)];
        Ok(Pieces { pieces, rounded })
    }
}

/// Eight outputs in a word.
fn awq_word(of: impl Fn(usize) -> u8) -> u32 {
    (0..8).fold(0, |word, i| word | u32::from(of(i) & 15) << (4 * AWQ_PLACES[i]))
}

fn piece(part: usize, at: usize, bytes: Vec<u8>) -> Piece {
    Piece { part, at: at as u64, bytes }
}

/// Writes field `index` of the stream whose words stand `stride` apart from `first` on.
fn put(words: &mut [u32], bits: u32, (first, stride): (usize, usize), index: usize, value: u8) {
    let bit = index * bits as usize;
    let field = (u64::from(value) & ((1 << bits) - 1)) << (bit % 32);
    for (nth, part) in [field as u32, (field >> 32) as u32].into_iter().enumerate() {
        if part != 0
            && let Some(word) = words.get_mut((bit / 32 + nth) * stride + first)
        {
            *word |= part;
        }
    }
}

fn bytes_of(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn size_of_dtype(dtype: Dtype) -> usize {
    dtype.bitsize() / 8
}

/// The nearest number of the type.
fn rounded_to(dtype: Dtype, x: f32) -> f32 {
    match dtype {
        Dtype::F16 => f16_to_f32(f32_to_f16(x)),
        Dtype::BF16 => bf16_to_f32(f32_to_bf16(x)),
        _ => x,
    }
}

/// The nearest bfloat16, ties to even, of a number that is not NaN.
fn f32_to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    (bits.wrapping_add(0x7FFF + (bits >> 16 & 1)) >> 16) as u16
}

/// Numbers in the type, each with the index of its group, and how many that changed.
fn stored(dtype: Dtype, numbers: impl Iterator<Item = (f32, usize)>) -> Result<(Vec<u8>, usize), Error> {
    let (mut bytes, mut changed) = (Vec::new(), 0);
    for (x, group) in numbers {
        let kept = rounded_to(dtype, x);
        if !x.is_finite() || !kept.is_finite() {
            return Err(ErrorKind::Scale { group }.into());
        }
        changed += usize::from(kept.to_bits() != x.to_bits());
        match dtype {
            Dtype::F16 => bytes.extend(f32_to_f16(x).to_le_bytes()),
            Dtype::BF16 => bytes.extend(f32_to_bf16(x).to_le_bytes()),
            _ => bytes.extend(x.to_le_bytes()),
        }
    }
    Ok((bytes, changed))
}

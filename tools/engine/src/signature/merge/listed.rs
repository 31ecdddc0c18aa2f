//! Patches that touch few weights: only those are decoded and stored again.

use std::ops::Range;

use niwaki_codes::simd::Level;
use niwaki_codes::{Grouping, Symmetry, Uniform, UniformView, pack_row, packed_bytes, unpack_row};
use niwaki_container::Part;
use niwaki_quant::frozen::{UniformCodes, recode_rows};
use niwaki_tensors::{Dtype, decode_f32};

use super::storage::{Code, Stored};
use crate::encode::{narrow_into, not_encodable};
use crate::error::{Blame, Error};

/// Whether weights of a tensor are changed one by one here.
pub(super) fn by_one(stored: &Stored<'_>) -> bool {
    matches!(stored.code, Code::Floats(_) | Code::Uniform(_))
}

/// Some weights of some rows of a tensor that is changed [`by_one`].
pub(super) struct Listed<'s, 'a> {
    pub(super) stored: &'s Stored<'a>,
    pub(super) rows: &'s Range<usize>,
    /// Their flat indices, which ascend.
    pub(super) positions: &'s [usize],
}

impl Listed<'_, '_> {
    /// Indices within the rows.
    fn places(&self) -> impl Iterator<Item = usize> {
        let first = self.rows.start * self.stored.tensor.matrix().1;
        self.positions.iter().map(move |at| at - first)
    }

    /// Takes them out of the parts.
    pub(super) fn take(&self, parts: &[Vec<u8>]) -> Result<Taken, Error> {
        match &self.stored.code {
            Code::Floats(dtype) => {
                let size = dtype.bitsize() / 8;
                let bytes: Vec<u8> =
                    self.places().flat_map(|at| parts[0][at * size..][..size].iter().copied()).collect();
                Ok(Taken::Floats(*dtype, bytes))
            }
            Code::Uniform(u) => self.gather(u, parts).map(Taken::Codes),
            _ => Ok(Taken::Floats(Dtype::F32, Vec::new())),
        }
    }

    /// Stores targets for them, in `taken` and in the parts.
    pub(super) fn write(&self, target: &[f32], taken: &mut Taken, parts: &mut [Vec<u8>]) -> Result<(), Error> {
        match (&self.stored.code, taken) {
            (_, Taken::Floats(dtype, bytes)) => {
                let size = dtype.bitsize() / 8;
                narrow_into(target, *dtype, bytes);
                for (at, bytes) in self.places().zip(bytes.chunks_exact(size)) {
                    parts[0][at * size..][..size].copy_from_slice(bytes);
                }
                Ok(())
            }
            (Code::Uniform(u), Taken::Codes(codes)) => {
                self.recode(u, target, codes)?;
                self.put(u, codes, parts);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Puts codes back where they were taken.
    fn put(&self, u: &Uniform, taken: &Codes, parts: &mut [Vec<u8>]) {
        let (Some(part), (_, cols)) = (self.stored.place(Part::Codes), self.stored.tensor.matrix()) else { return };
        let (bits, row_bytes) = (u.bits.get() as usize, u.row_bytes(cols));
        for (at, code) in self.places().zip(&taken.codes) {
            let bit = at % cols * bits;
            let from = at / cols * row_bytes + bit / 8;
            let mask = ((1u16 << bits) - 1) << (bit % 8);
            let word = u16::from(*code) << (bit % 8);
            for (nth, byte) in parts[part][from..].iter_mut().take(2).enumerate() {
                let (mask, word) = ((mask >> (8 * nth)) as u8, (word >> (8 * nth)) as u8);
                *byte = *byte & !mask | word;
            }
        }
    }

    /// Moves the codes; weights that follow each other under one scale are a row.
    fn recode(&self, u: &Uniform, target: &[f32], all: &mut Codes) -> Result<(), Error> {
        let (level, single) = (Level::best(), Uniform::new(u.bits, Grouping::Row, u.symmetry));
        let wrong = |e: niwaki_codes::Error| Error::below(e, Blame::Input).of(self.stored.tensor.name());
        let scales = all.scales.as_chunks::<4>().0;
        let (mut at, mut packed) = (0, Vec::new());
        while at < target.len() {
            let same = |other: &usize| scales[*other] == scales[at] && all.middles[*other] == all.middles[at];
            let run = (at..target.len()).take_while(same).count();
            let codes = &mut all.codes[at..at + run];
            packed.resize(packed_bytes(run, u.bits), 0);
            pack_row(level, u.bits, codes, &mut packed).map_err(wrong)?;
            let middle = [all.middles[at]];
            let zeros = if u.symmetry == Symmetry::Affine { &middle[..] } else { &[] };
            let given = UniformCodes { codes: &mut packed, scales: &scales[at], zeros };
            recode_rows(level, &single, run, given, &target[at..at + run])
                .map_err(|e| not_encodable(&e.offset(self.positions[at], 0), self.stored.tensor.name()))?;
            unpack_row(level, u.bits, &packed, codes).map_err(wrong)?;
            at += run;
        }
        Ok(())
    }

    /// Codes, one a byte, with the scale and the middle of each.
    fn gather(&self, u: &Uniform, parts: &[Vec<u8>]) -> Result<Codes, Error> {
        let (_, cols) = self.stored.tensor.matrix();
        let of = |part: Part| self.stored.place(part).map(|at| parts[at].as_slice());
        let (codes, scales) = (of(Part::Codes).unwrap_or_default(), of(Part::Scales).unwrap_or_default());
        let view = UniformView::new(*u, self.rows.len(), cols, codes, scales, of(Part::Zeros))
            .map_err(|e| Error::below(e, Blame::Input).of(self.stored.tensor.name()))?;
        let group = match u.grouping {
            Grouping::Group(group) => group.get(),
            Grouping::Row | Grouping::Tensor => usize::MAX,
        };
        let bits = u.bits.get() as usize;
        let count = self.positions.len();
        let mut all = Codes {
            codes: Vec::with_capacity(count),
            scales: Vec::with_capacity(4 * count),
            middles: Vec::with_capacity(count),
        };
        for at in self.places() {
            let (row, col) = (at / cols, at % cols);
            let (scale, middle) = view.grid(row, col / group);
            let bytes = view.row_codes(row).get(col * bits / 8..).unwrap_or_default();
            let word = bytes.iter().take(2).rev().fold(0u16, |word, byte| word << 8 | u16::from(*byte));
            all.codes.push((word >> (col * bits % 8) & ((1 << bits) - 1)) as u8);
            all.scales.extend(scale.to_le_bytes());
            all.middles.push(middle);
        }
        Ok(all)
    }
}

/// Weights taken out of their rows.
pub(super) enum Taken {
    /// That stand for themselves.
    Floats(Dtype, Vec<u8>),
    /// That are codes.
    Codes(Codes),
}

/// Codes, with the scale and the middle of each.
pub(super) struct Codes {
    codes: Vec<u8>,
    scales: Vec<u8>,
    middles: Vec<u8>,
}

impl Taken {
    /// What they are.
    pub(super) fn decode(&self) -> Result<Vec<f32>, Error> {
        match self {
            Self::Floats(dtype, bytes) => {
                let mut out = vec![0.0; bytes.len() * 8 / dtype.bitsize()];
                decode_f32(*dtype, bytes, &mut out)?;
                Ok(out)
            }
            Self::Codes(Codes { codes, scales, middles }) => {
                let scales = scales.as_chunks::<4>().0.iter().map(|scale| f32::from_le_bytes(*scale));
                let value =
                    |((code, middle), scale): ((&u8, &u8), f32)| scale * (i32::from(*code) - i32::from(*middle)) as f32;
                Ok(codes.iter().zip(middles).zip(scales).map(value).collect())
            }
        }
    }
}

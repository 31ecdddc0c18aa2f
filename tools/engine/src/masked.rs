//! Tensors of which only some weights are stored.
//!
//! A masked tensor is one item: its kept weights are one stream, so where a row's codes begin
//! depends on all rows before it. Other tensors run beside it.

mod search;

use niwaki_codes::mask::{Cell, gather};
use niwaki_codes::{Grouping, Mask, Scheme, Support, Uniform, positions, simd::Level};
use niwaki_container::Part;
use niwaki_quant::{Solver, UniformOut, Values, encode_rows};

use crate::blocks::{BLOCK, byte_groups};
use crate::encode::{Place, Scratch, narrowed, not_encodable, not_finite, on_grid, rows, solve};
use crate::error::{Blame, Error, ErrorKind};
use crate::job::{ByWidth, Job, merge};
use crate::plan::Selection;
use crate::source::SourceTensor;
pub(crate) use search::magnitude_mask;
use search::runs_down;

/// Selects the weights to keep, writes which they are, and encodes or copies them.
pub(crate) fn encode(job: &Job<'_>, selection: &Selection, scratch: &mut Scratch) -> Result<ByWidth, Error> {
    let searched;
    let mask = match selection {
        Selection::Given(mask) => mask,
        Selection::Magnitude(pattern) => {
            searched = magnitude_mask(job.source, pattern, &mut scratch.decoded)?;
            &searched
        }
        Selection::Down(run) => {
            searched = runs_down(job.source, *run, &mut scratch.decoded)?;
            &searched
        }
    };
    let kept = Kept { job, mask };
    if let (Selection::Given(_), Some(_)) = (selection, job.planned.layout.scheme) {
        // A search has seen every weight; a given mask has seen none.
        kept.check_finite(&mut scratch.decoded)?;
    }
    kept.write_support()?;
    match job.planned.layout.scheme {
        None => kept.copy(scratch),
        Some(Scheme::Uniform(scheme @ Uniform { grouping: Grouping::Row, .. })) => kept.by_row(scheme, scratch),
        Some(Scheme::Uniform(scheme @ Uniform { grouping: Grouping::Tensor, .. })) => kept.on_one_grid(scheme, scratch),
        Some(scheme) => kept.by_group(scheme, scratch),
    }
}

fn below(e: impl std::error::Error + Send + Sync + 'static, tensor: &str) -> Error {
    Error::below(e, Blame::Caller).of(tensor)
}

/// Weights of a tensor as floats.
pub(crate) fn floats<'b>(
    source: &'b SourceTensor<'_>,
    start: usize,
    end: usize,
    level: Level,
    decoded: &'b mut Vec<f32>,
) -> Result<&'b [f32], Error> {
    let mut widened = std::mem::take(decoded);
    widened.resize(end - start, 0.0);
    let mut other = Vec::new();
    source.values(start..end, &mut other)?.decode(level, &mut widened);
    *decoded = widened;
    Ok(decoded)
}

/// The kept weights of one tensor, in row order.
struct Kept<'j, 'a> {
    job: &'j Job<'a>,
    mask: &'j Mask,
}

impl Kept<'_, '_> {
    /// Runs of the source and their mask bits: (first weight, last weight, bits).
    fn runs(&self) -> impl Iterator<Item = (usize, usize, &[u8])> {
        let (rows, cols) = (self.mask.rows(), self.mask.cols());
        let bytes = self.mask.bytes();
        (0..rows).flat_map(move |row| {
            (0..cols).step_by(BLOCK).map(move |col| {
                let len = BLOCK.min(cols - col);
                let first = row * cols.div_ceil(8) + col / 8;
                (row * cols + col, row * cols + col + len, &bytes[first..first + len.div_ceil(8)])
            })
        })
    }

    /// Writes the mask or the positions, as the plan has it.
    fn write_support(&self) -> Result<(), Error> {
        let (job, mask) = (self.job, self.mask);
        let Some((spec, _)) = job.parts.iter().find(|(spec, _)| spec.part == Part::Positions) else {
            return job.write(Part::Mask, 0, mask.bytes());
        };
        let mut bytes = vec![0; spec.bytes];
        let (rows, cols) = (mask.rows(), mask.cols());
        let places = Support::from(mask.view()).iter_rows(0..rows, 0);
        let encoded = positions::encode(rows * cols, mask.kept(), places, &mut bytes);
        encoded.map_err(|e| below(e, &job.planned.name))?;
        job.write(Part::Positions, 0, &bytes)
    }

    /// Refuses kept weights that no code holds, by their place in the tensor.
    fn check_finite(&self, decoded: &mut Vec<f32>) -> Result<(), Error> {
        for (start, end, bits) in self.runs() {
            let weights = floats(self.job.source, start, end, self.job.run.level, decoded)?;
            let kept = |i: usize| bits.get(i / 8).is_some_and(|byte| byte >> (i % 8) & 1 == 1);
            if let Some(at) = weights.iter().enumerate().position(|(i, w)| !w.is_finite() && kept(i)) {
                return Err(not_finite(start + at, &self.job.planned.name));
            }
        }
        Ok(())
    }

    /// Hands out all kept weights, `each` at a time but for the last.
    fn pieces(
        &self,
        each: usize,
        decoded: &mut Vec<f32>,
        kept: &mut Vec<f32>,
        mut take: impl FnMut(usize, &[f32]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (mut first, mut filled) = (0, 0);
        for (start, end, bits) in self.runs() {
            let weights = floats(self.job.source, start, end, self.job.run.level, decoded)?;
            kept.resize(kept.len().max(filled + weights.len()), 0.0);
            let count = gather(self.job.run.level, bits, weights, &mut kept[filled..]);
            filled += count.map_err(|e| below(e, &self.job.planned.name))?;
            let mut used = 0;
            while filled - used >= each {
                take(first, &kept[used..used + each])?;
                first += each;
                used += each;
            }
            kept.copy_within(used..filled, 0);
            filled -= used;
        }
        if filled > 0 { take(first, &kept[..filled]) } else { Ok(()) }
    }

    /// Kept weights in the type of the source.
    fn copy(&self, scratch: &mut Scratch) -> Result<ByWidth, Error> {
        let dtype = self.job.planned.layout.dtype;
        let size = dtype.bitsize() / 8;
        let elements = self.job.source.elements();
        let mut written = 0;
        for (start, end, bits) in self.runs() {
            let decoded;
            let source = match elements {
                Some(bytes) => bytes.get(start * size..end * size).unwrap_or_default(),
                None => {
                    let floats = floats(self.job.source, start, end, self.job.run.level, &mut scratch.decoded)?;
                    decoded = narrowed(floats, dtype);
                    &decoded
                }
            };
            scratch.bytes.resize(source.len(), 0);
            let level = self.job.run.level;
            let kept = match size {
                1 => cells::<1>(level, bits, source, &mut scratch.bytes),
                2 => cells::<2>(level, bits, source, &mut scratch.bytes),
                4 => cells::<4>(level, bits, source, &mut scratch.bytes),
                _ => cells::<8>(level, bits, source, &mut scratch.bytes),
            };
            let bytes = kept.map_err(|e| below(e, &self.job.planned.name))? * size;
            self.job.write(Part::Values, written, &scratch.bytes[..bytes])?;
            written += bytes;
        }
        Ok(ByWidth::new())
    }

    fn by_group(&self, scheme: Scheme, scratch: &mut Scratch) -> Result<ByWidth, Error> {
        let group = match scheme {
            Scheme::Uniform(Uniform { grouping: Grouping::Group(g), .. }) => g.get(),
            Scheme::Elastic(e) => e.group.get(),
            _ => 1,
        };
        let step = byte_groups(group);
        let mut total = ByWidth::new();
        let Scratch { decoded, kept, bytes, .. } = scratch;
        self.pieces((BLOCK / step).max(1) * step, decoded, kept, |first, weights| {
            let place = Place::of_kept(first, &scheme);
            let values = Values::F32(bytemuck::cast_slice(weights));
            merge(&mut total, &rows(self.job, scheme, place, (values, (1, weights.len())), bytes)?);
            Ok(())
        })?;
        Ok(total)
    }

    fn on_one_grid(&self, scheme: Uniform, scratch: &mut Scratch) -> Result<ByWidth, Error> {
        let Scratch { decoded, kept, bytes, .. } = scratch;
        let wrong = |e: niwaki_quant::Error| not_encodable(&e, &self.job.planned.name);
        let observe = |solver: &Solver, _: usize| {
            let mut total = None::<niwaki_quant::Sums>;
            self.pieces(BLOCK, decoded, kept, |_, weights| {
                let sums =
                    solver.observe(self.job.run.level, Values::F32(bytemuck::cast_slice(weights))).map_err(wrong)?;
                match &mut total {
                    Some(total) => total.merge(&sums),
                    None => total = Some(sums),
                }
                Ok(())
            })?;
            total.ok_or_else(|| ErrorKind::Mask { why: "keeps no weight".to_owned() }.into())
        };
        let pieces = usize::from(self.mask.kept() > 0);
        let grid = solve(Solver::new(&scheme, self.job.planned.fit), pieces, observe)?;
        let mut total = ByWidth::new();
        self.pieces(BLOCK, decoded, kept, |first, weights| {
            let place = Place::of_kept(first, &Scheme::Uniform(scheme));
            let values = Values::F32(bytemuck::cast_slice(weights));
            merge(&mut total, &on_grid(self.job, scheme, grid, place, (values, weights.len()), bytes)?);
            Ok(())
        })?;
        Ok(total)
    }

    /// One scale for the kept weights of each row; codes of all rows are one stream of bits.
    fn by_row(&self, scheme: Uniform, scratch: &mut Scratch) -> Result<ByWidth, Error> {
        let (level, name) = (self.job.run.level, &self.job.planned.name);
        let (rows, cols) = (self.mask.rows(), self.mask.cols());
        let (mut total, mut stream, mut parameters) = (ByWidth::new(), BitStream::default(), (Vec::new(), Vec::new()));
        let mut written = 0;
        for row in 0..rows {
            let weights = floats(self.job.source, row * cols, (row + 1) * cols, level, &mut scratch.decoded)?;
            scratch.kept.resize(cols, 0.0);
            let bits = self.mask.view().row(row).unwrap_or_default();
            let count = gather(level, bits, weights, &mut scratch.kept).map_err(|e| below(e, name))?;
            let values = Values::F32(bytemuck::cast_slice(&scratch.kept[..count]));
            scratch.bytes.resize(scheme.row_bytes(count), 0);
            let (mut scale, mut zero) = ([0; 4], [0; 1]);
            let zeros = if self.job.part(Part::Zeros).is_some() { &mut zero[..] } else { &mut [] };
            if count > 0 {
                let out = UniformOut { codes: &mut scratch.bytes, scales: &mut scale, zeros };
                let measured = encode_rows(level, &scheme, self.job.planned.fit, values, count, out);
                let measured = measured.map_err(|e| not_encodable(&e.offset(row * cols, row), name))?;
                merge(&mut total, &vec![(0, measured)]);
                stream.push(&scratch.bytes, count * scheme.bits.get() as usize);
            }
            parameters.0.extend_from_slice(&scale);
            parameters.1.extend_from_slice(&zero);
            if stream.bytes.len() > BLOCK {
                let whole = stream.take_whole();
                self.job.write(Part::Codes, written, &whole)?;
                written += whole.len();
            }
        }
        self.job.write(Part::Codes, written, &stream.bytes)?;
        self.job.write(Part::Scales, 0, &parameters.0)?;
        self.job.write(Part::Zeros, 0, &parameters.1)?;
        Ok(total)
    }
}

/// Gathers elements of `N` bytes to the front of `out`; returns how many.
fn cells<const N: usize>(level: Level, bits: &[u8], source: &[u8], out: &mut [u8]) -> Result<usize, niwaki_codes::Error>
where
    [u8; N]: Cell,
{
    gather(level, bits, source.as_chunks::<N>().0, out.as_chunks_mut::<N>().0)
}

/// Codes of several rows as one stream of bits, lowest bit first.
#[derive(Default)]
struct BitStream {
    bytes: Vec<u8>,
    /// Bits used in the last byte; 0 means all.
    used: usize,
}

impl BitStream {
    /// Appends the first `bits` bits of `source`, whose further bits are clear.
    fn push(&mut self, source: &[u8], bits: usize) {
        if self.used == 0 {
            self.bytes.extend_from_slice(source);
        } else {
            for byte in source {
                if let Some(last) = self.bytes.last_mut() {
                    *last |= byte << self.used;
                }
                self.bytes.push(byte >> (8 - self.used));
            }
            let total = self.used + bits;
            // The last byte pushed may hold no bit at all.
            self.bytes.truncate(self.bytes.len() - (source.len() + 1 - total.div_ceil(8)));
        }
        self.used = (self.used + bits) % 8;
    }

    /// Takes out all bytes that are full.
    fn take_whole(&mut self) -> Vec<u8> {
        let keep = usize::from(self.used > 0);
        let rest = self.bytes.split_off(self.bytes.len() - keep);
        std::mem::replace(&mut self.bytes, rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_bits_join_without_gaps() {
        let (mut stream, mut whole, mut expected) = (BitStream::default(), Vec::new(), Vec::new());
        for n in 0..200usize {
            let bits = n * 3 % 41;
            let mut row = vec![0u8; bits.div_ceil(8)];
            for i in 0..bits {
                let bit = (i * 7 + n) % 3 == 0;
                row[i / 8] |= u8::from(bit) << (i % 8);
                expected.push(bit);
            }
            stream.push(&row, bits);
            if n % 9 == 0 {
                whole.extend(stream.take_whole());
            }
        }
        whole.extend(&stream.bytes);
        assert_eq!(whole.len(), expected.len().div_ceil(8));
        assert!(expected.iter().enumerate().all(|(i, bit)| (whole[i / 8] >> (i % 8) & 1 == 1) == *bit));
    }
}

//! Codes of a stored tensor on the grids that it has.

use std::mem::take;
use std::ops::Range;

use niwaki_codes::simd::Level;
use niwaki_container::Part;
use niwaki_quant::frozen::{
    ElasticCodes, FloatCodes, UniformCodes, recode_block_rows, recode_elastic_rows, recode_float_rows, recode_kept,
    recode_rows, rescale_block_rows, rescale_elastic_kept, rescale_elastic_rows, rescale_float_rows, rescale_kept,
    rescale_rows,
};

use super::storage::{Code, Stored};
use crate::encode::not_encodable;
use crate::error::Error;

/// Gives every weight of the rows the code whose value is nearest to its target.
pub(super) fn recode(
    stored: &Stored<'_>,
    rows: &Range<usize>,
    target: &[f32],
    parts: &mut [Vec<u8>],
) -> Result<(), Error> {
    let (level, (_, cols)) = (Level::best(), stored.tensor.matrix());
    let moved = match &stored.code {
        Code::Floats(_) => Ok(0),
        Code::Uniform(u) => Open::new(stored, parts).uniform(|codes| recode_rows(level, u, cols, codes, target)),
        Code::Block(kind) => recode_block_rows(level, *kind, cols, &mut parts[0], target),
        Code::Float(float) => {
            let mut open = Open::new(stored, parts);
            let mut codes = open.take(Part::Codes);
            let (scales, factor) = (open.bytes(Part::Scales), open.bytes(Part::Factor));
            let moved =
                recode_float_rows(level, *float, cols, FloatCodes { codes: &mut codes, scales, factor }, target);
            open.put(Part::Codes, codes);
            moved
        }
        Code::Elastic(elastic) => Open::new(stored, parts).elastic(elastic, cols, target),
        Code::Foreign(u, _) => {
            let (mut codes, grids) = stored.canonical(parts, rows)?;
            let given = UniformCodes { codes: &mut codes, scales: &grids.scales, zeros: &grids.zeros };
            let moved = recode_rows(level, u, cols, given, target);
            stored.lay_out(&codes, &mut parts[0])?;
            moved
        }
        Code::Kept(code, positions) => match &**code {
            Code::Uniform(u) => {
                let kept = stored.kept_by_row(positions);
                Open::new(stored, parts).uniform(|codes| recode_kept(level, u, &kept, 0, codes, target))
            }
            Code::Elastic(elastic) => Open::new(stored, parts).elastic(elastic, positions.len(), target),
            _ => Ok(0),
        },
    };
    moved.map_err(|e| not_encodable(&e.offset(rows.start * cols, 0), stored.tensor.name()))?;
    Ok(())
}

/// Multiplies what the rows decode to without touching codes; whether that could be done.
pub(super) fn rescale(
    stored: &Stored<'_>,
    rows: &Range<usize>,
    factors: &[f32],
    parts: &mut [Vec<u8>],
) -> Result<bool, Error> {
    let (_, cols) = stored.tensor.matrix();
    let part = match &stored.code {
        Code::Block(_) => Part::Codes,
        Code::Elastic(_) => Part::Base,
        Code::Kept(code, _) if matches!(**code, Code::Elastic(_)) => Part::Base,
        _ => Part::Scales,
    };
    let mut open = Open::new(stored, parts);
    let (mut bytes, mut factor) = (open.take(part), open.take(Part::Factor));
    let done = match &stored.code {
        Code::Uniform(u) => rescale_rows(u, cols, factors, &mut bytes),
        Code::Block(kind) => rescale_block_rows(*kind, cols, factors, &mut bytes),
        Code::Float(float) => {
            // The factor belongs to all rows: it may change where these are all.
            let whole = rows.len() == stored.tensor.matrix().0;
            let shared = factor.first_chunk_mut::<4>().filter(|_| whole);
            rescale_float_rows(*float, cols, factors, &mut bytes, shared)
        }
        Code::Elastic(elastic) => rescale_elastic_rows(elastic, cols, factors, &mut bytes),
        Code::Kept(code, positions) => {
            let kept = stored.kept_by_row(positions);
            match &**code {
                Code::Uniform(u) => rescale_kept(u, &kept, factors, &mut bytes),
                Code::Elastic(elastic) => rescale_elastic_kept(elastic, &kept, factors, &mut bytes),
                _ => Ok(false),
            }
        }
        Code::Floats(_) | Code::Foreign(..) => Ok(false),
    };
    open.put(part, bytes);
    open.put(Part::Factor, factor);
    done.map_err(|e| not_encodable(&e.offset(rows.start * cols, 0), stored.tensor.name()))
}

/// The parts of some rows, some of them taken out to be changed.
struct Open<'p, 's, 'a> {
    stored: &'s Stored<'a>,
    parts: &'p mut [Vec<u8>],
}

impl<'p, 's, 'a> Open<'p, 's, 'a> {
    fn new(stored: &'s Stored<'a>, parts: &'p mut [Vec<u8>]) -> Self {
        Self { stored, parts }
    }

    fn take(&mut self, part: Part) -> Vec<u8> {
        self.stored.place(part).map(|at| take(&mut self.parts[at])).unwrap_or_default()
    }

    fn put(&mut self, part: Part, bytes: Vec<u8>) {
        if let Some(at) = self.stored.place(part) {
            self.parts[at] = bytes;
        }
    }

    fn bytes(&self, part: Part) -> &[u8] {
        self.stored.place(part).map(|at| self.parts[at].as_slice()).unwrap_or_default()
    }

    fn uniform<T>(&mut self, recode: impl FnOnce(UniformCodes<'_>) -> T) -> T {
        let mut codes = self.take(Part::Codes);
        let (scales, zeros) = (self.bytes(Part::Scales), self.bytes(Part::Zeros));
        let moved = recode(UniformCodes { codes: &mut codes, scales, zeros });
        self.put(Part::Codes, codes);
        moved
    }

    fn elastic(
        &mut self,
        elastic: &niwaki_codes::Elastic,
        cols: usize,
        target: &[f32],
    ) -> Result<usize, niwaki_quant::Error> {
        let mut planes: [Vec<u8>; 8] = std::array::from_fn(|plane| self.take(Part::Plane(plane as u8)));
        let widest = elastic.widths.widest();
        let of_planes = planes.each_mut().map(|plane| Some(plane.as_mut_slice()).filter(|plane| !plane.is_empty()));
        let codes =
            ElasticCodes { base: self.bytes(Part::Base), fix: self.bytes(Part::Fix(widest)), planes: of_planes };
        let moved = recode_elastic_rows(Level::best(), elastic, cols, codes, target);
        for (plane, bytes) in (0..).zip(planes) {
            self.put(Part::Plane(plane), bytes);
        }
        moved
    }
}

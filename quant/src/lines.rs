//! Rows of codes that were chosen one by one, packed with their grids.

use alloc::vec;
use alloc::vec::Vec;

use niwaki_codes::simd::Level;
use niwaki_codes::{Symmetry, Uniform, pack_row};

use crate::encode::UniformOut;
use crate::error::exactly;
use crate::grid::{Grid, GridPoint, ROUNDER};
use crate::groups::put;
use crate::{Distortion, Error};

/// Where rows of codes go, one after the other.
pub(crate) struct Lines<'o> {
    level: Level,
    scheme: Uniform,
    out: UniformOut<'o>,
    /// Rows that were written, and groups.
    rows: usize,
    groups: usize,
    codes: Vec<u8>,
    decoded: Vec<f32>,
    lost: Distortion,
}

impl<'o> Lines<'o> {
    /// Begins with so many values in rows of `cols`.
    ///
    /// # Errors
    ///
    /// [`Length`](crate::ErrorKind::Length) for values that are no whole rows, or a buffer of another length.
    pub(crate) fn new(
        level: Level,
        scheme: &Uniform,
        (values, cols): (usize, usize),
        out: UniformOut<'o>,
    ) -> Result<Self, Error> {
        let rows = values.checked_div(cols).unwrap_or(0);
        exactly("values", rows * cols, values)?;
        let groups = scheme.groups(rows, cols);
        let affine = usize::from(scheme.symmetry == Symmetry::Affine);
        exactly("codes", rows * scheme.row_bytes(cols), out.codes.len())?;
        exactly("scales", groups * scheme.scale_type().bytes(), out.scales.len())?;
        exactly("zeros", groups * affine, out.zeros.len())?;
        let (codes, decoded) = (vec![0; cols], vec![0.0; cols]);
        Ok(Self { level, scheme: *scheme, out, rows: 0, groups: 0, codes, decoded, lost: Distortion::default() })
    }

    /// Rounds the next row, whose groups of so many weights lie on these grids.
    pub(crate) fn on_grids(&mut self, row: &[f32], group: usize, points: &[GridPoint]) -> Result<(), Error> {
        let grid = Grid::of(&self.scheme);
        for ((x, codes), point) in row.chunks(group).zip(self.codes.chunks_mut(group)).zip(points) {
            let ruler = grid.ruler(*point);
            for (x, code) in x.iter().zip(codes) {
                *code = (ruler.rounded(*x) - ROUNDER - ruler.low) as u8;
            }
        }
        self.write(row, group, points)
    }

    /// Writes the next row in codes that were chosen for it.
    #[cfg(feature = "std")]
    pub(crate) fn codes(&mut self, row: &[f32], codes: &[u8], group: usize, points: &[GridPoint]) -> Result<(), Error> {
        self.codes.copy_from_slice(codes);
        self.write(row, group, points)
    }

    fn write(&mut self, row: &[f32], group: usize, points: &[GridPoint]) -> Result<(), Error> {
        let groups = self.codes.chunks(group).zip(self.decoded.chunks_mut(group)).zip(points);
        for ((codes, decoded), point) in groups {
            let zero = f32::from(point.zero);
            codes.iter().zip(decoded).for_each(|(code, x)| *x = point.scale * (f32::from(*code) - zero));
            put(&self.scheme, *point, self.groups, self.out.scales, self.out.zeros);
            self.groups += 1;
        }
        self.lost.merge(&Distortion::between(row, &self.decoded));
        let bytes = self.scheme.row_bytes(row.len());
        let to = &mut self.out.codes[self.rows * bytes..(self.rows + 1) * bytes];
        pack_row(self.level, self.scheme.bits, &self.codes, to).map_err(|_| crate::ErrorKind::Length {
            buffer: "codes",
            needs: bytes,
            has: to.len(),
        })?;
        self.rows += 1;
        Ok(())
    }

    /// What all rows lost.
    pub(crate) fn finish(self) -> Distortion {
        self.lost
    }
}

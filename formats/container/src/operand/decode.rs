//! The weights of an operand as floats of three types, without an allocation.
//!
//! ```text
//! packed -> f32 -> f64, patches one after the other -> f32 -> mask -> f16 or bf16
//! ```
//!
//! The same bits as [`OverlaidDecoder::dequantize_rows`](crate::OverlaidDecoder::dequantize_rows)
//! gives, what the mask drops zero. Halves are the nearest, ties to even, of those floats.

use std::ops::Range;

use niwaki_codes::Bits;
use niwaki_codes::half_floats::{narrow_bf16, narrow_f16};

use super::{Operand, range};
use crate::error::Error;

/// Where decoded weights go, row by row.
#[derive(Debug)]
pub enum Floats<'a> {
    /// Single precision.
    F32(&'a mut [f32]),
    /// The bits of IEEE halves.
    F16(&'a mut [u16]),
    /// The bits of bfloat16.
    Bf16(&'a mut [u16]),
}

/// How long the parts of a [`RowScratch`] are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowSizes {
    /// Weights that patches are laid over.
    pub wide: usize,
    /// Values of a patch.
    pub values: usize,
    /// Weights before they are narrowed.
    pub row: usize,
}

/// Memory of the caller's for one row: as long as [`Operand::row_sizes`] says.
#[derive(Debug)]
pub struct RowScratch<'a> {
    /// Weights that patches are laid over.
    pub wide: &'a mut [f64],
    /// Values of a patch.
    pub values: &'a mut [f32],
    /// Weights before they are narrowed.
    pub row: &'a mut [f32],
}

impl Floats<'_> {
    fn len(&self) -> usize {
        match self {
            Self::F32(out) => out.len(),
            Self::F16(out) | Self::Bf16(out) => out.len(),
        }
    }
}

impl Operand<'_> {
    /// The width at which an elastic tensor is decoded.
    pub fn width(&self) -> Option<Bits> {
        self.weights.base.width()
    }

    /// What [`dequantize_rows`](Self::dequantize_rows) asks of its scratch, whatever it decodes to.
    pub fn row_sizes(&self) -> RowSizes {
        let cols = self.cols();
        let patched = if self.weights.layers.is_empty() { 0 } else { cols };
        RowSizes { wide: patched, values: patched, row: cols }
    }

    /// Decodes whole rows into `out`, row by row: patches laid over them, what the mask drops zero.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Codes`](crate::ErrorKind::Codes) for rows that are not there, an `out` of another length, or scratch
    /// that is too short.
    pub fn dequantize_rows(&self, rows: Range<usize>, out: Floats<'_>, scratch: RowScratch<'_>) -> Result<(), Error> {
        self.decode(rows, out, scratch).map_err(|error| error.in_tensor(self.weights.base.tensor().name()))
    }

    fn decode(&self, rows: Range<usize>, out: Floats<'_>, mut scratch: RowScratch<'_>) -> Result<(), Error> {
        let (cols, sizes) = (self.cols(), self.row_sizes());
        if rows.start > rows.end || rows.end > self.rows() {
            return Err(range(rows.end, self.rows()));
        }
        let needs = rows.len().saturating_mul(cols);
        if out.len() != needs {
            return Err(range(needs, out.len()));
        }
        let has = RowSizes { wide: scratch.wide.len(), values: scratch.values.len(), row: scratch.row.len() };
        let short = [(sizes.wide, has.wide), (sizes.values, has.values), (sizes.row, has.row)];
        if let Some((needs, has)) = short.into_iter().find(|(needs, has)| has < needs) {
            return Err(range(needs, has));
        }
        if cols == 0 {
            return Ok(());
        }
        let level = self.kernel.level();
        match out {
            Floats::F32(out) => {
                rows.zip(out.chunks_mut(cols)).try_for_each(|(row, out)| self.row(row, out, &mut scratch))
            }
            Floats::F16(out) => rows
                .zip(out.chunks_mut(cols))
                .try_for_each(|(row, out)| self.narrowed(row, &mut scratch, |row| narrow_f16(level, row, out))),
            Floats::Bf16(out) => rows
                .zip(out.chunks_mut(cols))
                .try_for_each(|(row, out)| self.narrowed(row, &mut scratch, |row| narrow_bf16(level, row, out))),
        }
    }

    /// Decodes one row into scratch, and hands it to `narrow`.
    fn narrowed(&self, row: usize, scratch: &mut RowScratch<'_>, narrow: impl FnOnce(&[f32])) -> Result<(), Error> {
        let RowScratch { wide, values, row: floats } = scratch;
        let Some(floats) = floats.get_mut(..self.cols()) else { return Ok(()) };
        self.row(row, floats, &mut RowScratch { wide, values, row: &mut [] })?;
        narrow(floats);
        Ok(())
    }

    /// Decodes one row.
    fn row(&self, row: usize, out: &mut [f32], scratch: &mut RowScratch<'_>) -> Result<(), Error> {
        let level = self.kernel.level();
        self.weights.base.dequantize_rows(level, row..row + 1, out)?;
        let sizes = self.row_sizes();
        let wide = scratch.wide.get_mut(..sizes.wide).unwrap_or_default();
        let values = scratch.values.get_mut(..sizes.values).unwrap_or_default();
        wide.iter_mut().zip(&*out).for_each(|(wide, x)| *wide = f64::from(*x));
        for layer in &self.weights.layers {
            // Factors are those of the rows of a matrix: `prepare` refuses them for a vector.
            layer.read(level, row..row + 1, (row * self.cols(), self.cols()), values)?;
            layer.kind.apply(level, layer.alpha, values, wide);
        }
        out.iter_mut().zip(&*wide).for_each(|(x, wide)| *x = *wide as f32);
        self.drop(row, 0, out);
        Ok(())
    }
}

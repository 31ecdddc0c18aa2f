//! A borrowed tensor of which only the kept weights are stored, as codes.
//!
//! ```text
//! row 0   a . . b . c . .        kept weights, in row order:  a b c d e f ...
//! row 1   . d e . . . f .        one stream of codes without padding between rows
//! ```
//!
//! Groups of N run over the kept weights and do not end with a row. A scale per row
//! still belongs to a row of the tensor. Which weights are kept a mask says, or a list of
//! their positions.

use core::ops::Range;

use crate::mask::scatter;
use crate::rows::check_rows;
use crate::simd::Level;
use crate::{
    Bits, ElasticView, Error, ErrorKind, Grouping, MaskView, Support, Uniform, UniformView, dequantize_run,
    packed_bytes,
};

#[cfg(test)]
mod tests;

/// Weights that are decoded at a time, on the stack: whole bytes of mask, and no less than a
/// run of [`Support::visit_rows`].
const BLOCK: usize = 512;

/// The places of the kept weights of a tensor, and their codes, borrowed.
///
/// # Invariants
///
/// - there are as many codes as weights are kept
/// - scales and zero points have the lengths that scheme and places ask for
///
/// ```
/// use niwaki_codes::{MaskView, Scheme, SparseView, simd::Level};
///
/// let Scheme::Uniform(scheme) = "int4/row/sym".parse()? else { unreachable!() };
/// let mask = MaskView::new(2, 3, &[0b101, 0b010])?;
/// let scales = [0.5f32.to_le_bytes(), 2f32.to_le_bytes()].concat();
/// let view = SparseView::uniform(mask, scheme, &[0x97, 0x0a], &scales, None)?;
/// let mut out = [9.0; 6];
/// view.dequantize_rows(Level::best(), 0..2, 0, &mut out)?;
/// assert_eq!(out, [-0.5, 0.0, 0.5, 0.0, 4.0, 0.0]);
/// # Ok::<(), niwaki_codes::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct SparseView<'a> {
    support: Support<'a>,
    kept: usize,
    stored: Stored<'a>,
}

#[derive(Clone, Copy, Debug)]
#[expect(clippy::large_enum_variant, reason = "a view is small enough for the stack, and core has no boxes")]
enum Stored<'a> {
    /// One stream of codes; the grids are those of a view without codes of its own.
    Uniform { codes: &'a [u8], grids: UniformView<'a> },
    /// One row of all kept weights.
    Elastic { view: ElasticView<'a>, width: Bits },
}

impl<'a> SparseView<'a> {
    /// Kept weights as evenly spaced codes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::PartLength`] for a part of another length than scheme and places ask
    /// for.
    pub fn uniform(
        support: impl Into<Support<'a>>,
        scheme: Uniform,
        codes: &'a [u8],
        scales: &'a [u8],
        zeros: Option<&'a [u8]>,
    ) -> Result<Self, Error> {
        let support = support.into();
        let kept = support.kept();
        let grids = match scheme.grouping {
            Grouping::Row => {
                let needs = packed_bytes(kept, scheme.bits);
                if codes.len() != needs {
                    return Err(ErrorKind::PartLength { part: "codes", needs, has: codes.len() }.into());
                }
                // Rows of no weights: a scale each, and no codes.
                UniformView::new(scheme, support.rows(), 0, &[], scales, zeros)?
            }
            Grouping::Tensor | Grouping::Group(_) => UniformView::new(scheme, 1, kept, codes, scales, zeros)?,
        };
        Ok(Self { support, kept, stored: Stored::Uniform { codes, grids } })
    }

    /// Kept weights as elastic codes, to be decoded at `width`: `view` is one row of them.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Range`] if `view` has another number of weights than are kept,
    /// [`ErrorKind::Width`] for a width that it does not serve.
    pub fn elastic(support: impl Into<Support<'a>>, view: ElasticView<'a>, width: Bits) -> Result<Self, Error> {
        let support = support.into();
        let kept = support.kept();
        if (view.rows(), view.cols()) != (1, kept) {
            return Err(ErrorKind::Range { needs: kept, has: view.rows().saturating_mul(view.cols()) }.into());
        }
        view.scheme().widths.up_to(width)?;
        Ok(Self { support, kept, stored: Stored::Elastic { view, width } })
    }

    /// Looks for what no encoder writes, in the places and in the kept weights.
    ///
    /// # Errors
    ///
    /// Those of [`Support::check`], [`UniformView::check`] and [`ElasticView::check`].
    pub fn check(&self) -> Result<(), Error> {
        self.support.check()?;
        match &self.stored {
            Stored::Uniform { codes, grids } => {
                grids.check()?;
                let used = self.kept % 8 * grids.scheme().bits.get() as usize % 8;
                match codes.last() {
                    Some(last) if used != 0 && last >> used != 0 => {
                        Err(ErrorKind::StrayBits { part: "codes", row: 0 }.into())
                    }
                    _ => Ok(()),
                }
            }
            Stored::Elastic { view, .. } => view.check(),
        }
    }

    /// Which weights are kept.
    pub fn support(&self) -> Support<'a> {
        self.support
    }

    /// How many weights are kept.
    pub fn kept(&self) -> usize {
        self.kept
    }

    /// Decodes whole rows into `out`, row by row, exact zeros for the dropped weights,
    /// and says how many kept weights these rows have.
    ///
    /// `before` is how many weights the rows before them keep: the sum of what this
    /// returned for them, or [`Support::kept_in_rows`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Range`] for rows or kept weights that are not there, or an `out` of
    /// another length.
    pub fn dequantize_rows(
        &self,
        level: Level,
        rows: Range<usize>,
        before: usize,
        out: &mut [f32],
    ) -> Result<usize, Error> {
        let (has, cols) = (self.support.rows(), self.support.cols());
        check_rows(&rows, (has, cols), out.len())?;
        if let Some(mask) = self.support.mask() {
            return self.under_mask(level, mask, rows, before, out);
        }
        let first = rows.start.saturating_mul(cols);
        out.fill(0.0);
        self.visit_rows(level, rows, before, |places, values| {
            for (place, value) in places.iter().zip(values) {
                if let Some(out) = out.get_mut(place.saturating_sub(first)) {
                    *out = *value;
                }
            }
        })
    }

    /// Hands out the kept weights of whole rows in runs: their flat indices in the tensor, in
    /// order, and their values. Says how many they are. Costs by kept weights, not by weights,
    /// where positions tell the places.
    ///
    /// `before` is how many weights the rows before them keep, as in
    /// [`dequantize_rows`](Self::dequantize_rows).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Range`] for rows or kept weights that are not there.
    pub fn visit_rows(
        &self,
        level: Level,
        rows: Range<usize>,
        before: usize,
        mut take: impl FnMut(&[usize], &[f32]),
    ) -> Result<usize, Error> {
        let has = self.support.rows();
        if rows.start > rows.end || rows.end > has {
            return Err(ErrorKind::Range { needs: rows.end, has }.into());
        }
        if before > self.kept {
            return Err(ErrorKind::Range { needs: before, has: self.kept }.into());
        }
        let (mut next, mut row) = (before, rows.start);
        while row < rows.end {
            // A scale of a row ends with it; other scales do not know rows.
            let end = if self.scale_per_row() { row + 1 } else { rows.end };
            next += self.support.visit_rows(row..end, next, |first, places| {
                let mut decoded = [0.0; BLOCK + 16];
                let values = self.values(level, row, (first, places.len()), &mut decoded)?;
                take(places, values);
                Ok::<(), Error>(())
            })?;
            row = end;
        }
        Ok(next - before)
    }

    fn scale_per_row(&self) -> bool {
        matches!(&self.stored, Stored::Uniform { grids, .. } if grids.scheme().grouping == Grouping::Row)
    }

    /// Decodes whole rows whose places a mask tells: words of weights at a time.
    fn under_mask(
        &self,
        level: Level,
        mask: MaskView<'_>,
        rows: Range<usize>,
        before: usize,
        out: &mut [f32],
    ) -> Result<usize, Error> {
        let block = mask.rows_in(rows.clone()).ok_or(ErrorKind::Range { needs: rows.end, has: mask.rows() })?;
        let last = before.saturating_add(block.kept());
        if last > self.kept {
            return Err(ErrorKind::Range { needs: last, has: self.kept }.into());
        }
        let (mut next, mut decoded) = (before, [0.0; BLOCK + 16]);
        let width = block.cols().div_ceil(8).max(1);
        let pairs = out.chunks_mut(block.cols().max(1)).zip(block.bytes().chunks(width));
        for (row, (out, bits)) in rows.zip(pairs) {
            for (out, bits) in out.chunks_mut(BLOCK).zip(bits.chunks(BLOCK / 8)) {
                let count = MaskView::new(1, out.len(), bits)?.kept();
                next += scatter(level, bits, self.values(level, row, (next, count), &mut decoded)?, out)?;
            }
        }
        Ok(next - before)
    }

    /// Decodes `count` kept weights from number `next` on, where rows have scales all of `row`. There
    /// is room for them and for sixteen more.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Range`] for kept weights that are not there, and for less room.
    pub fn values<'b>(
        &self,
        level: Level,
        row: usize,
        (next, count): (usize, usize),
        decoded: &'b mut [f32],
    ) -> Result<&'b [f32], Error> {
        // Codes go by eights: whole ones are decoded, and what is too much is left out.
        let skip = next % 8;
        let first = next - skip;
        let needs = next.saturating_add(count);
        if needs > self.kept {
            return Err(ErrorKind::Range { needs, has: self.kept }.into());
        }
        let some = (skip + count).next_multiple_of(8).min(self.kept - first);
        let has = decoded.len();
        let decoded = decoded.get_mut(..some).ok_or(ErrorKind::Range { needs: some, has })?;
        match &self.stored {
            Stored::Uniform { codes, grids } => stretch(level, codes, grids, row, first, decoded)?,
            Stored::Elastic { view, width } => view.dequantize_cols(level, *width, 0, first, decoded)?,
        }
        Ok(decoded.get(skip..skip + count).unwrap_or(&[]))
    }
}

/// Decodes the codes from number `next` on, all of one row of the tensor.
fn stretch(
    level: Level,
    codes: &[u8],
    grids: &UniformView<'_>,
    row: usize,
    mut next: usize,
    mut out: &mut [f32],
) -> Result<(), Error> {
    let scheme = grids.scheme();
    while !out.is_empty() {
        let (grid, run) = match scheme.grouping {
            Grouping::Row => (grids.grid(row, 0), out.len()),
            Grouping::Tensor => (grids.grid(0, 0), out.len()),
            Grouping::Group(g) => (grids.grid(0, next / g.get()), g.get() - next % g.get()),
        };
        let Some((now, later)) = out.split_at_mut_checked(run.min(out.len())) else { break };
        dequantize_run(level, scheme.bits, codes, next, grid, now)?;
        next += now.len();
        out = later;
    }
    Ok(())
}

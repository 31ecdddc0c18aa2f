//! Whole rows from weights to packed codes.

use niwaki_codes::simd::Level;
use niwaki_codes::{Grouping, Symmetry, Uniform, pack_row, packed_bytes};

use crate::distortion::{Distortion, LANES, TILE};
use crate::error::exactly;
use crate::grid::{Grid, GridPoint, Ruler};
use crate::groups::{Bench, put};
use crate::trials::MAX_GROUP;
use crate::{Error, ErrorKind, Fit, Solver, Step, Sums, Values, round};

/// Where the parts of encoded rows go.
#[derive(Debug)]
pub struct UniformOut<'a> {
    /// Packed codes: `row_bytes` a row.
    pub codes: &'a mut [u8],
    /// Little-endian scales, one a group.
    pub scales: &'a mut [u8],
    /// Zero points, one a group; empty on a symmetric grid.
    pub zeros: &'a mut [u8],
}

/// Encodes whole rows of `cols` weights, each group with a grid of its own.
///
/// A piece of a long row counts as a row of its own if it starts at a group and its
/// codes start at a byte.
///
/// # Errors
///
/// [`ErrorKind::NotFinite`] for an infinity or NaN, [`ErrorKind::ScaleOverflow`] for a
/// group beyond F16, [`ErrorKind::Length`] for values that are not whole rows or a
/// buffer of another length, [`ErrorKind::WholeTensor`] for a grouping by tensor
/// (that takes a [`Solver`] and [`encode_with`]).
pub fn encode_rows(
    level: Level,
    scheme: &Uniform,
    fit: Fit,
    values: Values<'_>,
    cols: usize,
    out: UniformOut<'_>,
) -> Result<Distortion, Error> {
    let rows = values.len().checked_div(cols).unwrap_or(0);
    exactly("values", rows * cols, values.len())?;
    let groups = scheme.groups(rows, cols);
    let affine = usize::from(scheme.symmetry == Symmetry::Affine);
    exactly("codes", rows * scheme.row_bytes(cols), out.codes.len())?;
    exactly("scales", groups * scheme.scale_type().bytes(), out.scales.len())?;
    exactly("zeros", groups * affine, out.zeros.len())?;
    let group = match scheme.grouping {
        Grouping::Tensor => return Err(ErrorKind::WholeTensor.into()),
        Grouping::Row => cols,
        Grouping::Group(g) => g.get(),
    };
    if fit.needs_inputs() {
        return Err(ErrorKind::NeedsInputs.into());
    }
    let rows = Rows { level, scheme, fit, values, cols, group };
    match scheme.grouping {
        Grouping::Group(_) if group <= MAX_GROUP => rows.in_tiles(out),
        _ => rows.in_passes(out),
    }
}

/// What [`encode_rows`] was asked.
struct Rows<'a> {
    level: Level,
    scheme: &'a Uniform,
    fit: Fit,
    values: Values<'a>,
    cols: usize,
    group: usize,
}

impl Rows<'_> {
    fn count(&self) -> usize {
        self.values.len().checked_div(self.cols).unwrap_or(0)
    }

    fn row(&self, row: usize) -> Values<'_> {
        self.values.slice(row * self.cols..(row + 1) * self.cols)
    }

    /// Groups that fit a tile: one pass.
    fn in_tiles(&self, out: UniformOut<'_>) -> Result<Distortion, Error> {
        let mut bench = Bench::new(self.scheme, self.fit, self.group);
        let mut total = Distortion::default();
        let groups = self.cols.div_ceil(self.group);
        let row_bytes = self.scheme.row_bytes(self.cols);
        let scale_bytes = groups * self.scheme.scale_type().bytes();
        let zero_bytes = out.zeros.len().checked_div(self.count()).unwrap_or(0);
        for row in 0..self.count() {
            let out = UniformOut {
                codes: &mut out.codes[row * row_bytes..(row + 1) * row_bytes],
                scales: &mut out.scales[row * scale_bytes..(row + 1) * scale_bytes],
                zeros: &mut out.zeros[row * zero_bytes..(row + 1) * zero_bytes],
            };
            let lost = bench.encode_row(self.level, self.values, row * self.cols..(row + 1) * self.cols, out);
            total.merge(&lost.map_err(|e| e.offset(row * self.cols, row * groups))?);
        }
        Ok(total)
    }

    /// Groups of any length: passes to find each grid, then one to encode the row.
    fn in_passes(&self, out: UniformOut<'_>) -> Result<Distortion, Error> {
        let mut total = Distortion::default();
        let row_bytes = self.scheme.row_bytes(self.cols);
        let grid = Grid::of(self.scheme);
        let mut group = 0;
        for row in 0..self.count() {
            let values = self.row(row);
            let codes = &mut out.codes[row * row_bytes..(row + 1) * row_bytes];
            let mut tiles = Tiles::new(self.level, self.scheme, codes);
            for at in (0..self.cols).step_by(self.group) {
                let run = values.slice(at..at + self.group);
                let point = self.solve(run).map_err(|e| e.offset(row * self.cols + at, group))?;
                put(self.scheme, point, group, out.scales, out.zeros);
                tiles.push(run, grid.ruler(point));
                group += 1;
            }
            total.merge(&tiles.finish());
        }
        Ok(total)
    }

    fn solve(&self, run: Values<'_>) -> Result<GridPoint, Error> {
        let mut solver = Solver::new(self.scheme, self.fit);
        loop {
            let mut sums = Sums::default();
            sums.merge(&solver.observe(self.level, run)?);
            match solver.advance(sums) {
                Step::Again => {}
                Step::Done(point) if point.scale.is_finite() => return Ok(point),
                Step::Done(_) => return Err(ErrorKind::ScaleOverflow { group: 0 }.into()),
            }
        }
    }
}

/// Encodes whole rows of `cols` finite weights on one given grid.
///
/// # Errors
///
/// [`ErrorKind::Length`] for values that are not whole rows or codes of another length.
pub fn encode_with(
    level: Level,
    scheme: &Uniform,
    point: GridPoint,
    values: Values<'_>,
    cols: usize,
    codes: &mut [u8],
) -> Result<Distortion, Error> {
    let rows = values.len().checked_div(cols).unwrap_or(0);
    exactly("values", rows * cols, values.len())?;
    let row_bytes = scheme.row_bytes(cols);
    exactly("codes", rows * row_bytes, codes.len())?;
    let ruler = Grid::of(scheme).ruler(point);
    let mut total = Distortion::default();
    for row in 0..rows {
        let mut tiles = Tiles::new(level, scheme, &mut codes[row * row_bytes..(row + 1) * row_bytes]);
        tiles.push(values.slice(row * cols..(row + 1) * cols), ruler);
        total.merge(&tiles.finish());
    }
    Ok(total)
}

/// Quantizes finite weights on one given grid, one code a byte, not packed.
///
/// # Errors
///
/// [`ErrorKind::Length`] for codes of another length.
pub fn quantize_run(
    level: Level,
    scheme: &Uniform,
    point: GridPoint,
    values: Values<'_>,
    codes: &mut [u8],
) -> Result<Distortion, Error> {
    exactly("codes", values.len(), codes.len())?;
    let ruler = Grid::of(scheme).ruler(point);
    let mut total = Distortion::default();
    let (mut x, mut tile) = ([0.0; TILE], [0; TILE]);
    for (i, codes) in codes.chunks_mut(TILE).enumerate() {
        let padded = codes.len().next_multiple_of(LANES);
        values.slice(i * TILE..(i + 1) * TILE).decode(level, &mut x);
        x[codes.len()..padded].fill(0.0);
        let tally = round::run(level, &x[..padded], ruler, &mut tile);
        total.merge(&tally.total(codes.len()));
        codes.copy_from_slice(&tile[..codes.len()]);
    }
    Ok(total)
}

/// Packs one row of runs of any length, a tile of codes at a time.
struct Tiles<'a> {
    level: Level,
    scheme: &'a Uniform,
    packed: &'a mut [u8],
    codes: [u8; TILE],
    /// Codes that wait in the tile.
    held: usize,
    total: Distortion,
}

impl<'a> Tiles<'a> {
    fn new(level: Level, scheme: &'a Uniform, packed: &'a mut [u8]) -> Self {
        Self { level, scheme, packed, codes: [0; TILE], held: 0, total: Distortion::default() }
    }

    /// Appends weights that share a grid.
    fn push(&mut self, run: Values<'_>, ruler: Ruler) {
        let (mut x, mut codes) = ([0.0; TILE], [0; TILE]);
        let mut at = 0;
        while at < run.len() {
            let n = (TILE - self.held).min(run.len() - at);
            let padded = n.next_multiple_of(LANES);
            run.slice(at..at + n).decode(self.level, &mut x[..n]);
            x[n..padded].fill(0.0);
            let tally = round::run(self.level, &x[..padded], ruler, &mut codes);
            self.total.merge(&tally.total(n));
            self.codes[self.held..self.held + n].copy_from_slice(&codes[..n]);
            self.held += n;
            at += n;
            if self.held == TILE {
                self.flush();
            }
        }
    }

    /// Packs the codes that wait; a full tile ends on a whole byte.
    fn flush(&mut self) {
        let bytes = packed_bytes(self.held, self.scheme.bits).min(self.packed.len());
        let (head, tail) = core::mem::take(&mut self.packed).split_at_mut(bytes);
        let packed = pack_row(self.level, self.scheme.bits, &self.codes[..self.held], head);
        debug_assert!(packed.is_ok(), "the row was measured by its caller");
        (self.packed, self.held) = (tail, 0);
    }

    fn finish(mut self) -> Distortion {
        self.flush();
        self.total
    }
}

#[cfg(all(test, feature = "std"))]
mod tests;

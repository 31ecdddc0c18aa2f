//! Codes of one tensor where they lie, and what they mean:
//!
//! ```text
//! x = scale * (level(code) - middle)     integers around a middle or a zero point, floats
//! x = scale * level(code) + bias         MLX
//! ```
//!
//! in f32, rounded once or twice. Scales of 16 bits and codes of up to 8 give the exact value;
//! tools that compute in 16 bits round it to those.

use std::num::NonZeroU32;
use std::ops::Range;

use niwaki_codes::floats::{Blocks, E2M1, E4M3};
use niwaki_codes::simd::Level;
use niwaki_codes::{Bits, packed_bytes, stamp, unpack_row};

use crate::error::{Error, ErrorKind};
use crate::table::{Points, Table, awq_nibble, word};

/// Rows that are unpacked together: words that hold several rows are read once for them.
pub(crate) const TILE: usize = 16;

/// A matrix of codes with its parameters; a stack of matrices is one of all their rows.
#[derive(Clone, Debug)]
pub(crate) struct Weights<'a> {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) codes: Codes<'a>,
    pub(crate) levels: Levels,
    pub(crate) scales: Table<'a>,
    pub(crate) middles: Middles<'a>,
    pub(crate) groups: Groups<'a>,
}

/// How codes are packed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Codes<'a> {
    /// A bit stream for each row, lowest bit first.
    Rows { bytes: &'a [u8], row_bytes: usize, bits: Bits },
    /// One byte each; I8 has its top bit flipped.
    Bytes { bytes: &'a [u8], flip: u8 },
    /// GPTQ: a stream for each row, whose words stand as far apart as there are rows.
    Columns { bytes: &'a [u8], bits: Bits },
    /// AWQ: a line for each column, eight rows in a word.
    Awq { bytes: &'a [u8] },
}

/// What a code stands for before scaling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Levels {
    Integers(Bits),
    E2m1,
    E4m3,
}

/// What is taken off or added.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Middles<'a> {
    /// Nothing.
    None,
    /// Half the codes: 2^(bits-1).
    Half(u8),
    /// A zero point a group.
    Points(Points<'a>),
    /// A bias a group, added after scaling.
    Biases(Table<'a>),
}

/// Which columns share a scale.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Groups<'a> {
    /// Runs of so many.
    Runs(usize),
    /// Those of the same number: an I32 each.
    Index { bytes: &'a [u8], groups: usize },
}

impl Codes<'_> {
    /// Unpacks whole rows, one code a byte.
    pub(crate) fn unpack(&self, level: Level, (rows, cols): (usize, usize), some: Range<usize>, out: &mut [u8]) {
        let lines = some.clone().zip(out.chunks_exact_mut(cols.max(1)));
        match *self {
            Self::Rows { bytes, row_bytes, bits } => {
                let used = packed_bytes(cols, bits);
                for (row, out) in lines {
                    let start = row.saturating_mul(row_bytes);
                    let packed = bytes.get(start..start.saturating_add(used)).unwrap_or(&[]);
                    // A row that is not there was refused when the tensor was opened.
                    let _ = unpack_row(level, bits, packed, out);
                }
            }
            Self::Bytes { bytes, flip } => {
                for (row, out) in lines {
                    let from = bytes.get(row.saturating_mul(cols)..).unwrap_or(&[]);
                    out.iter_mut().zip(from).for_each(|(to, from)| *to = from ^ flip);
                }
            }
            Self::Columns { bytes, bits } => {
                for (row, out) in lines {
                    column(level, bytes, bits, (row, rows), out);
                }
            }
            Self::Awq { bytes } => {
                for nth in some.start / 8..some.end.div_ceil(8) {
                    let rows_of_word = some.start.max(8 * nth)..some.end.min(8 * nth + 8);
                    for col in 0..cols {
                        let word = word(bytes, col.saturating_mul(rows / 8).saturating_add(nth));
                        for row in rows_of_word.clone() {
                            if let Some(to) = out.get_mut((row - some.start) * cols + col) {
                                *to = awq_nibble(word, row);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Unpacks one row of GPTQ, 32 codes of `bits` words at a time.
fn column(level: Level, bytes: &[u8], bits: Bits, (row, rows): (usize, usize), out: &mut [u8]) {
    let mut nth = 0usize;
    for codes in out.chunks_mut(32) {
        let mut stream = [0; 32];
        let words = (codes.len() * bits.get() as usize).div_ceil(32);
        for to in stream.as_chunks_mut::<4>().0.iter_mut().take(words) {
            *to = word(bytes, nth.saturating_mul(rows).saturating_add(row)).to_le_bytes();
            nth += 1;
        }
        let packed = stream.get(..packed_bytes(codes.len(), bits)).unwrap_or(&[]);
        let _ = unpack_row(level, bits, packed, codes);
    }
}

impl Groups<'_> {
    /// How many groups a row of `cols` has.
    pub(crate) fn count(&self, cols: usize) -> usize {
        match *self {
            Self::Runs(run) => cols.div_ceil(run.max(1)),
            Self::Index { groups, .. } => groups,
        }
    }
}

/// The scale of a group and what goes with it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Grid {
    scale: f32,
    middle: f32,
    bias: f32,
}

impl Weights<'_> {
    /// Decodes whole rows.
    pub(crate) fn decode_rows(&self, level: Level, rows: Range<usize>, out: &mut [f32]) -> Result<(), Error> {
        let needs = check_rows(&rows, (self.rows, self.cols), out.len())?;
        if needs == 0 {
            return Ok(());
        }
        let mut codes = vec![0; needs.min(TILE.saturating_mul(self.cols))];
        for (tile, out) in out.chunks_mut(codes.len()).enumerate() {
            let first = rows.start + tile * TILE;
            let last = rows.end.min(first + TILE);
            self.codes.unpack(level, (self.rows, self.cols), first..last, &mut codes);
            for ((row, out), codes) in (first..last).zip(out.chunks_mut(self.cols)).zip(codes.chunks(self.cols)) {
                self.decode_row(level, row, codes, out);
            }
        }
        Ok(())
    }

    /// Which weights share a scale, where codes are e4m3 and one of ours says it.
    pub(crate) fn fp8(&self) -> Option<Blocks> {
        let (Levels::E4m3, Groups::Runs(run), Middles::None) = (self.levels, self.groups, self.middles) else {
            return None;
        };
        let order = self.scales.order;
        match (order.row_stride, run >= self.cols) {
            (0, true) => Some(Blocks::Tensor),
            (1, true) if order.rows == 1 => Some(Blocks::Row),
            _ if order.rows == run => NonZeroU32::new(u32::try_from(run).ok()?).map(Blocks::Square),
            _ => None,
        }
    }

    fn decode_row(&self, level: Level, row: usize, codes: &[u8], out: &mut [f32]) {
        match self.levels {
            Levels::Integers(_) => integers(level, codes, out),
            Levels::E2m1 => out.iter_mut().zip(codes).for_each(|(x, code)| *x = E2M1[usize::from(*code & 15)]),
            Levels::E4m3 => out.iter_mut().zip(codes).for_each(|(x, code)| *x = E4M3[usize::from(*code)]),
        }
        match self.groups {
            Groups::Runs(run) => {
                for (group, x) in out.chunks_mut(run.max(1)).enumerate() {
                    self.scale_run(level, self.grid(row, group), x);
                }
            }
            Groups::Index { bytes, .. } => {
                for (col, x) in out.iter_mut().enumerate() {
                    let grid = self.grid(row, word(bytes, col) as usize);
                    self.scale_run(Level::Scalar, grid, std::slice::from_mut(x));
                }
            }
        }
    }

    #[inline]
    fn scale_run(&self, level: Level, grid: Grid, x: &mut [f32]) {
        match self.middles {
            Middles::Biases(_) => biased(level, x, grid.scale, grid.bias),
            Middles::None => centred(level, x, grid.scale, 0.0),
            Middles::Half(_) | Middles::Points(_) => centred(level, x, grid.scale, grid.middle),
        }
    }

    fn grid(&self, row: usize, group: usize) -> Grid {
        let grid = Grid { scale: self.scales.at(row, group), middle: 0.0, bias: 0.0 };
        match self.middles {
            Middles::None => grid,
            Middles::Half(half) => Grid { middle: half.into(), ..grid },
            Middles::Points(points) => Grid { middle: points.at(row, group).into(), ..grid },
            Middles::Biases(biases) => Grid { bias: biases.at(row, group), ..grid },
        }
    }
}

/// How many elements the rows have, if they are there and fill the buffer.
pub(crate) fn check_rows(some: &Range<usize>, (rows, cols): (usize, usize), has: usize) -> Result<usize, Error> {
    if some.start > some.end || some.end > rows {
        return Err(ErrorKind::Range { needs: some.end, has: rows }.into());
    }
    let needs = some.len().checked_mul(cols).ok_or(ErrorKind::Overflow)?;
    if needs == has { Ok(needs) } else { Err(ErrorKind::Range { needs, has }.into()) }
}

stamp! {
    fn integers = integers_body(codes: &[u8], out: &mut [f32]) -> ();
}

stamp! {
    fn centred = centred_body(x: &mut [f32], scale: f32, middle: f32) -> ();
}

stamp! {
    fn biased = biased_body(x: &mut [f32], scale: f32, bias: f32) -> ();
}

#[inline(always)]
fn integers_body(codes: &[u8], out: &mut [f32]) {
    out.iter_mut().zip(codes).for_each(|(x, code)| *x = f32::from(*code));
}

#[inline(always)]
fn centred_body(x: &mut [f32], scale: f32, middle: f32) {
    x.iter_mut().for_each(|x| *x = scale * (*x - middle));
}

#[inline(always)]
fn biased_body(x: &mut [f32], scale: f32, bias: f32) {
    x.iter_mut().for_each(|x| *x = scale * *x + bias);
}

//! From weights to packed codes.

use niwaki_codes::{Grouping, ScaleType, Symmetry, Uniform};

use crate::card::Theme;
use crate::error::{exactly, small};
use crate::observe::{SPAN, row_ranges};
use crate::work::{Arg, Launch, Work, blocks};
use crate::{Card, Error, Numbers};

/// Threads of a block that encodes a tile.
const THREADS: u32 = 128;

/// Weights of a tile at most.
const TILE: usize = 4096;

/// The largest group whose grid is found where its weights are.
const MAX_GROUP: usize = 512;

/// How grids are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// The range of the group.
    MinMax,
    /// A searched range; of groups alone.
    Clip,
}

/// Where the parts of encoded rows go.
#[derive(Debug)]
pub struct Parts<'a> {
    /// Packed codes: `row_bytes` a row.
    pub codes: &'a mut [u8],
    /// Little-endian scales, one a group.
    pub scales: &'a mut [u8],
    /// Zero points, one a group; empty on a symmetric grid.
    pub zeros: &'a mut [u8],
}

/// What codes lost, tile by tile: signal, noise, and the largest error.
///
/// Sums are in floats and in one order; those of tiles are to be added in doubles, of a row first.
#[derive(Clone, Debug, PartialEq)]
pub struct Tiles {
    lost: Vec<f32>,
    in_row: usize,
    /// Weights of a full tile, and of a row.
    full: usize,
    cols: usize,
}

impl Tiles {
    /// Of each row, of each of its tiles: signal, noise, largest error, and how many weights it has.
    pub fn rows(&self) -> impl Iterator<Item = impl Iterator<Item = ([f32; 3], usize)>> {
        let (full, cols) = (self.full, self.cols);
        let rows = self.lost.chunks(3 * self.in_row.max(1));
        rows.map(move |row| {
            let tiles = row.as_chunks::<3>().0.iter().enumerate();
            tiles.map(move |(nth, lost)| (*lost, full.min(cols - nth * full)))
        })
    }
}

/// How the rows of a scheme are cut into tiles.
struct Cut {
    group: usize,
    /// Groups of a tile.
    groups: usize,
    /// Tiles of a row.
    tiles: usize,
}

impl Cut {
    fn new(scheme: &Uniform, cols: usize) -> Option<Self> {
        let (group, groups) = match scheme.grouping {
            Grouping::Tensor => return None,
            Grouping::Row => return Some(Self { group: cols, groups: 1, tiles: cols.div_ceil(TILE) }),
            Grouping::Group(g) if g.get() <= MAX_GROUP => {
                // A multiple of eight groups ends on a whole byte of codes.
                (g.get(), 8 * (TILE / 16 / g.get().next_multiple_of(16)).max(1))
            }
            Grouping::Group(_) => return None,
        };
        Some(Self { group, groups, tiles: cols.div_ceil(group * groups) })
    }

    /// Bytes of shared memory of a tile.
    fn shared(&self, padded: usize, trials: usize, bits: usize) -> usize {
        let size = self.groups * padded;
        4 * (2 * size + 3 * size / 8 + 3 * self.groups + self.groups * (trials + 1)) + size * bits / 8
    }
}

/// Whether there is a kernel for rows of so many weights.
pub fn encodes(scheme: &Uniform, fit: Fit, cols: usize) -> bool {
    let fits = cols > 0 && cols < 1 << 30 && Cut::new(scheme, cols).is_some();
    fits && (fit == Fit::MinMax || scheme.grouping != Grouping::Row)
}

/// Grids that `clip` tries besides the first.
fn trials(scheme: &Uniform, fit: Fit) -> usize {
    match (fit, scheme.symmetry, scheme.bits.get()) {
        (Fit::MinMax, _, _) => 0,
        (Fit::Clip, Symmetry::Affine, _) => 16,
        (Fit::Clip, Symmetry::Symmetric, 2..=4) => 20,
        (Fit::Clip, Symmetry::Symmetric, _) => 14,
    }
}

/// How kernels are told of a scheme: width and flags.
pub(crate) fn words(scheme: &Uniform, fit: Fit) -> [Arg; 2] {
    let flags = u32::from(scheme.symmetry == Symmetry::Affine)
        | u32::from(scheme.scale_type() == ScaleType::F32) << 1
        | u32::from(fit == Fit::Clip) << 2;
    [Arg::U32(scheme.bits.get()), Arg::U32(flags)]
}

impl Card {
    /// Encodes whole rows of `cols` weights, to the bytes of the CPU's encoder. None, and nothing that counts in `out`, where
    /// some weight or scale is one that no code holds: the CPU's encoder says which.
    ///
    /// # Errors
    ///
    /// [`Error::Length`] for weights that are not whole rows or parts of another length, [`Error::TooMany`], and
    /// [`Error::Driver`]; a scheme that [`encodes`] denies is [`Error::Length`] of groups.
    pub fn encode(
        &self,
        (scheme, fit): (&Uniform, Fit),
        weights: Numbers<'_>,
        cols: usize,
        out: Parts<'_>,
    ) -> Result<Option<Tiles>, Error> {
        let cut = Cut::new(scheme, cols).filter(|_| encodes(scheme, fit, cols));
        let cut = cut.ok_or(Error::Length { what: "group", needs: MAX_GROUP, has: cols })?;
        let rows = weights.len() / cols;
        let groups = scheme.groups(rows, cols);
        exactly("weights", rows * cols, weights.len())?;
        exactly("codes", rows * scheme.row_bytes(cols), out.codes.len())?;
        exactly("scales", groups * scheme.scale_type().bytes(), out.scales.len())?;
        exactly("zeros", groups * usize::from(scheme.symmetry == Symmetry::Affine), out.zeros.len())?;
        let tiles = rows * cut.tiles;
        small("tiles", tiles)?;
        // Faults, codes, scales, zeros, what was lost; of rows also their grids and the ranges of parts.
        let parts = cols.div_ceil(SPAN);
        let row = if scheme.grouping == Grouping::Row { rows } else { 0 };
        let sizes = [4, out.codes.len(), out.scales.len(), out.zeros.len(), 12 * tiles];
        let ranges = [8 * row, 4 * row * parts, 4 * row * parts, 4 * row * parts];
        let mut work = self.work(&[weights.bytes().len()], &[&sizes[..], &ranges[..]].concat())?;
        work.upload(0, weights.bytes())?;
        work.clear(0)?;
        match scheme.grouping {
            Grouping::Row => in_rows(&mut work, scheme, weights, (rows, cols), parts)?,
            _ => in_groups(&mut work, (scheme, fit), weights, (rows, cols), &cut)?,
        }
        let done = work.download()?;
        if done.numbers::<u32>(0) != [0] {
            return Ok(None);
        }
        out.codes.copy_from_slice(done.get(1));
        out.scales.copy_from_slice(done.get(2));
        out.zeros.copy_from_slice(done.get(3));
        let full = if row > 0 { TILE } else { cut.group * cut.groups };
        Ok(Some(Tiles { lost: done.numbers(4).to_vec(), in_row: cut.tiles, full, cols }))
    }
}

fn in_groups(
    work: &mut Work<'_>,
    (scheme, fit): (&Uniform, Fit),
    weights: Numbers<'_>,
    (rows, cols): (usize, usize),
    cut: &Cut,
) -> Result<(), Error> {
    let trials = trials(scheme, fit);
    let names = ["niwaki_encode_groups_f32", "niwaki_encode_groups_bf16", "niwaki_encode_groups_f16"];
    let launch = Launch {
        theme: Theme::Encode,
        kernel: weights.of_type(names),
        blocks: (small("tiles", rows * cut.tiles)?, 1),
        threads: THREADS,
        shared: cut.shared(cut.group.next_multiple_of(16), trials, scheme.bits.get() as usize),
    };
    if rows == 0 {
        return Ok(());
    }
    let [bits, flags] = words(scheme, fit);
    let sizes = [cols, cut.group, cut.groups, cut.tiles, trials].map(|n| Arg::U32(n as u32));
    let to = [1, 2, 3, 4, 0].map(|nth| work.output(nth));
    work.launch(&launch, &[&[work.input(0)][..], &sizes, &[bits, flags], &to].concat())
}

fn in_rows(
    work: &mut Work<'_>,
    scheme: &Uniform,
    weights: Numbers<'_>,
    (rows, cols): (usize, usize),
    parts: usize,
) -> Result<(), Error> {
    if rows == 0 {
        return Ok(());
    }
    row_ranges(work, weights, (rows, cols), [6, 7, 8])?;
    let [bits, flags] = words(scheme, Fit::MinMax);
    let grids = Launch {
        theme: Theme::Encode,
        kernel: "niwaki_row_grids",
        blocks: (blocks(rows, THREADS as usize)?, 1),
        threads: THREADS,
        shared: 0,
    };
    let [keys, lows, highs] = [6, 7, 8].map(|nth| work.output(nth));
    let sizes = [Arg::U32(small("rows", rows)?), Arg::U32(small("parts", parts)?)];
    let to = [2, 3, 5, 0].map(|nth| work.output(nth));
    work.launch(&grids, &[&[keys, lows, highs][..], &sizes, &[bits, flags], &to].concat())?;
    let cut = Cut { group: TILE, groups: 1, tiles: cols.div_ceil(TILE) };
    let names = ["niwaki_encode_rows_f32", "niwaki_encode_rows_bf16", "niwaki_encode_rows_f16"];
    let launch = Launch {
        theme: Theme::Encode,
        kernel: weights.of_type(names),
        blocks: (small("tiles", rows * cut.tiles)?, 1),
        threads: THREADS,
        shared: cut.shared(TILE, 0, scheme.bits.get() as usize),
    };
    let to = [5, 1, 4].map(|nth| work.output(nth));
    work.launch(&launch, &[&[work.input(0), Arg::U32(cols as u32), bits, flags][..], &to].concat())
}

//! How an image lies in memory for one convolution, and the tiles of its outputs.

use std::ops::Range;

use niwaki_codes::simd::Level;

use super::BLOCK;
use crate::kernels::conv::{Geometry, Padded};

/// Pixels of tiles, the longest first: as many as registers hold sums of.
#[cfg(target_arch = "x86_64")]
const LONG: &[usize] = &[14, 8, 7, 4, 2, 1];
const SHORT: &[usize] = &[6, 4, 2, 1];

/// What a tile costs besides its pixels, in pixels.
const START: usize = 1;

/// How an image lies in memory for one convolution.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) geometry: Geometry,
    pub(crate) input: [usize; 2],
    pub(crate) output: [usize; 2],
    /// Channels that stand next to each other: [`BLOCK`], or [`FEW`].
    pub(crate) pitch: usize,
    /// Rows of a plane with padding, and pixels of such a row for one phase of columns.
    pub(crate) rows: usize,
    pub(crate) width: usize,
    /// Elements of such a plane.
    pub(crate) plane: usize,
    /// How far from an output's place each tap is, in elements.
    pub(super) taps: Vec<usize>,
    pub(super) tiles: Vec<Tile>,
    /// Whether the image is taken as it lies.
    pub(crate) direct: bool,
}

/// Rows that are kept of an image, with columns to their left and right.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// The row of the image that comes first, and how many there are.
    pub(crate) first: usize,
    pub(crate) rows: usize,
    /// Columns before those of the image, and all of them.
    pub(crate) left: usize,
    pub(crate) width: usize,
}

/// Outputs next to each other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tile {
    /// Where their first tap is, in elements.
    pub(super) from: usize,
    /// The pixel that the first one is.
    pub(super) to: usize,
    /// How many there are.
    pub(super) len: usize,
}

impl Plan {
    /// None where the kernel is larger than the image with its padding, or sizes overflow. `pitch` is [`FEW`] where an
    /// image has no more channels.
    pub(crate) fn new(geometry: Geometry, input: [usize; 2], pitch: usize) -> Option<Self> {
        Self::at(Level::best(), geometry, input, pitch)
    }

    pub(super) fn at(level: Level, geometry: Geometry, input: [usize; 2], pitch: usize) -> Option<Self> {
        let Geometry { kernel, stride, pads, .. } = geometry;
        let Padded { output, rows, width, plane, mut taps } = geometry.padded(input)?;
        let direct = pitch == BLOCK && stride[1] == 1 && pads == [0; 4];
        let plane = plane.checked_mul(pitch)?;
        output[0].checked_mul(output[1])?.checked_mul(pitch)?;
        taps.iter_mut().for_each(|tap| *tap *= pitch);
        let lens = lens(level);
        let tiles = match direct && kernel == [1, 1] && stride[0] == 1 {
            // All pixels are one row.
            true => tiles([1, output[0] * output[1]], 0, pitch, lens),
            false => tiles(output, stride[0] * width * pitch, pitch, lens),
        };
        Some(Self { geometry, input, output, pitch, rows, width, plane, taps, tiles, direct })
    }

    /// Of single pixels of an image that is taken as it lies.
    pub(crate) fn pixels(level: Level, count: usize) -> Self {
        let geometry = Geometry { kernel: [1; 2], stride: [1; 2], dilation: [1; 2], pads: [0; 4] };
        let (size, plane) = ([1, count], count * BLOCK);
        let tiles = tiles(size, 0, BLOCK, lens(level));
        let (taps, direct) = (vec![0], true);
        Self { geometry, input: size, output: size, pitch: BLOCK, rows: 1, width: count, plane, taps, tiles, direct }
    }

    /// Of single pixels of some rows of an image that is taken as it lies. Outputs lie within `room`.
    pub(crate) fn of_rows(level: Level, [height, width]: [usize; 2], fresh: Range<usize>, room: &Room) -> Self {
        let mut plan = Self::pixels(level, 0);
        plan.output = [room.rows, room.width];
        plan.plane = height * width * BLOCK;
        let along = if room.width == width { fresh.len() * width } else { width };
        plan.tiles = tiles([fresh.len() * width / along.max(1), along], along * BLOCK, BLOCK, lens(level));
        for tile in &mut plan.tiles {
            let (row, col) = (fresh.start + tile.to / width.max(1), tile.to % width.max(1));
            tile.from += fresh.start * width * BLOCK;
            tile.to = (row - room.first) * room.width + room.left + col;
        }
        plan
    }

    /// Which pixel of a plane one of the image with its padding is.
    pub(super) fn pixel(&self, row: usize, col: usize) -> usize {
        let step = self.geometry.stride[1];
        (col % step * self.rows + row) * self.width + col / step
    }

    /// Outputs of a channel.
    pub(crate) fn size(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// Tiles that cover all outputs.
    pub(crate) fn tiles(&self) -> usize {
        self.tiles.len()
    }

    /// Rows of a plane with padding that these tiles take.
    pub(crate) fn rows_of(&self, tiles: Range<usize>) -> Range<usize> {
        let Geometry { kernel, stride, dilation, .. } = self.geometry;
        let row = |tile: &Tile| tile.to / self.output[1].max(1) * stride[0];
        let (Some(first), Some(last)) = (self.tiles[tiles.clone()].first(), self.tiles[tiles].last()) else {
            return 0..0;
        };
        row(first)..row(last) + (kernel[0] - 1) * dilation[0] + 1
    }

    /// Elements that an image of `channels` channels takes with its padding.
    pub(crate) fn padded(&self, channels: usize) -> usize {
        channels.div_ceil(self.pitch) * self.plane
    }
}

pub(super) fn lens(level: Level) -> &'static [usize] {
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512(_) => LONG,
        _ => SHORT,
    }
}

/// Tiles over rows of outputs, of which each is `step` elements further in the image.
fn tiles([rows, cols]: [usize; 2], step: usize, pitch: usize, lens: &[usize]) -> Vec<Tile> {
    let cut = cut(cols, lens);
    let mut all = Vec::with_capacity(rows * cut.len());
    for row in 0..rows {
        let mut col = 0;
        for len in &cut {
            all.push(Tile { from: row * step + col * pitch, to: row * cols + col, len: *len });
            col += len;
        }
    }
    all
}

/// Cuts a row into tiles of these lengths, of which the last is 1, so that it takes the least time.
pub(super) fn cut(row: usize, lens: &[usize]) -> Vec<usize> {
    let longest = lens[0];
    // Only about the end of a long row there is something to choose.
    let whole = (row / longest).saturating_sub(longest);
    let left = row - whole * longest;
    let mut best = vec![(0, 0); left + 1];
    for at in 1..=left {
        let of = |len: &usize| (best[at - len].0 + len + START, *len);
        best[at] = lens.iter().filter(|len| **len <= at).map(of).min().unwrap_or_default();
    }
    let mut all = vec![longest; whole];
    let mut at = left;
    while at > 0 {
        all.push(best[at].1);
        at -= best[at].1;
    }
    all
}

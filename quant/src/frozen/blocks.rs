//! Blocks of ggml.

use niwaki_codes::simd::Level;
use niwaki_codes::{BlockGrid, BlockType, pack_blocks, unpack_blocks};

use super::line::Line;
use super::ranked::{ASCENDING, Ranked};
use super::stream::{Grids, recode_unpacked};
use super::whole_rows;
use crate::error::exactly;
use crate::{Error, ErrorKind};

/// Weights whose codes are unpacked at a time: whole blocks of every type.
const RUN: usize = 2048;

/// The codes of E2M1 from the least value to the greatest, without -0.
pub(super) const E2M1_ORDER: [u8; 15] = [15, 14, 13, 12, 11, 10, 9, 0, 1, 2, 3, 4, 5, 6, 7];

/// Moves the codes of whole rows of `cols` weights to the nearest of each target, and says how
/// many moved; scales and minima in the blocks stay.
///
/// A piece of a long row counts as a row of its own if it starts at a block.
///
/// # Errors
///
/// [`ErrorKind::NotFinite`] for a target that is an infinity or NaN, [`ErrorKind::BlockRow`] for
/// rows that are not whole blocks, [`ErrorKind::Length`] for targets that are not whole rows or
/// blocks of another length.
pub fn recode_block_rows(
    level: Level,
    kind: BlockType,
    cols: usize,
    blocks: &mut [u8],
    targets: &[f32],
) -> Result<usize, Error> {
    let row_bytes = kind.row_bytes(cols).map_err(|_| ErrorKind::BlockRow { kind, cols })?;
    let rows = whole_rows(level, cols, targets)?;
    exactly("codes", rows * row_bytes, blocks.len())?;
    let mut unpacked = [0; RUN];
    let (mut ranked, mut moved) = (Ranked::EMPTY, 0);
    for (blocks, targets) in blocks.chunks_mut(RUN / kind.elements() * kind.bytes()).zip(targets.chunks(RUN)) {
        let codes = &mut unpacked[..targets.len()];
        let done = unpack_blocks(level, kind, blocks, codes);
        let mut grids = SubBlocks { kind, blocks, line: None, ranked: &mut ranked };
        let now = recode_unpacked(level, &mut grids, 0, targets, codes);
        if now > 0 {
            let done = done.and_then(|()| pack_blocks(level, kind, codes, blocks));
            debug_assert!(done.is_ok(), "a run is whole blocks");
        }
        moved += now;
    }
    Ok(moved)
}

struct SubBlocks<'a> {
    kind: BlockType,
    blocks: &'a [u8],
    /// The grid that is turned to where its values are even, else they are ranked.
    line: Option<Line>,
    ranked: &'a mut Ranked,
}

impl Grids for SubBlocks<'_> {
    #[inline]
    fn turn_to(&mut self, level: Level, at: usize) -> usize {
        let (kind, size) = (self.kind, self.kind.sub_block());
        let block = self.blocks.get(at / kind.elements() * kind.bytes()..).unwrap_or(&[]);
        let grid = kind.grid(block, at % kind.elements() / size);
        match grid {
            BlockGrid::Even { scale, middle, base } => {
                self.line = Some(Line { scale, middle, base, top: (kind.code_bits().levels() - 1) as u8 });
            }
            BlockGrid::Uneven { .. } => {
                let mut values = [0.0; 16];
                values.iter_mut().zip(0..).for_each(|(to, code)| *to = grid.value(code));
                let order: &[u8] = if kind == BlockType::Mxfp4 { &E2M1_ORDER } else { &ASCENDING };
                self.ranked.set(level, &values, order);
            }
        }
        size - at % size
    }

    #[inline]
    fn recode(&self, level: Level, targets: &[f32], codes: &mut [u8]) -> usize {
        match &self.line {
            Some(line) => line.recode(level, targets, codes),
            None => self.ranked.recode(targets, codes),
        }
    }
}

//! Streams of packed codes under several grids, a tile at a time.

use niwaki_codes::simd::Level;
use niwaki_codes::{Bits, pack_row, packed_bytes, unpack_row};

use crate::Error;
use crate::distortion::TILE;
use crate::error::exactly;

/// The grids of a run of codes, in their order.
pub(super) trait Grids {
    /// Turns to the grid of code `at`, and says how many codes from there on share it.
    fn turn_to(&mut self, level: Level, at: usize) -> usize;

    /// Moves codes of that grid, one a byte, to their targets; says how many moved.
    fn recode(&self, level: Level, targets: &[f32], codes: &mut [u8]) -> usize;
}

/// Moves codes from number `at` on, one a byte, to their targets; says how many moved.
pub(super) fn recode_unpacked(
    level: Level,
    grids: &mut impl Grids,
    at: usize,
    targets: &[f32],
    codes: &mut [u8],
) -> usize {
    let (mut done, mut moved) = (0, 0);
    while done < targets.len() {
        let run = grids.turn_to(level, at + done).clamp(1, targets.len() - done);
        moved += grids.recode(level, &targets[done..done + run], &mut codes[done..done + run]);
        done += run;
    }
    moved
}

/// Moves the codes of a stream from number `first` on to their targets; says how many moved.
///
/// # Errors
///
/// [`crate::ErrorKind::Length`] for a stream that ends before the targets do.
pub(super) fn recode_packed(
    level: Level,
    (bits, packed): (Bits, &mut [u8]),
    grids: &mut impl Grids,
    first: usize,
    targets: &[f32],
) -> Result<usize, Error> {
    let end = first.saturating_add(targets.len());
    let needs = packed_bytes(end, bits);
    if packed.len() < needs {
        exactly("codes", needs, packed.len())?;
    }
    let mut unpacked = [0; TILE];
    let (mut at, mut moved) = (first, 0);
    while at < end {
        // A tile begins with a whole byte, and ends with one or with the stream: codes before and behind
        // are packed again as they are.
        let (begin, stop) = (at - at % 8, (at - at % 8 + TILE).min(end));
        let from = packed_bytes(begin, bits);
        let there = (packed.len() - from).saturating_mul(8) / bits.get() as usize;
        let codes = &mut unpacked[..(stop - begin).next_multiple_of(8).min(there)];
        let bytes = &mut packed[from..from + packed_bytes(codes.len(), bits)];
        let done = unpack_row(level, bits, bytes, codes);
        let now = recode_unpacked(level, grids, at, &targets[at - first..stop - first], &mut codes[at - begin..]);
        if now > 0 {
            let done = done.and_then(|()| pack_row(level, bits, codes, bytes));
            debug_assert!(done.is_ok(), "the bytes were measured for the codes");
        }
        (at, moved) = (stop, moved + now);
    }
    Ok(moved)
}

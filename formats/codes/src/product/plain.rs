//! The definition of products with rounded inputs.

use super::inputs::{BLOCK, Inputs, Kind};
use super::{CHUNK, SUMS, run, total};
use crate::pack::{packed_bytes, unpack_row};
use crate::simd::Level;
use crate::stamp;
use crate::uniform::Parts;

/// The product of a row with rounded inputs in the form of the row.
pub(super) fn rounded(level: Level, parts: &Parts<'_>, row: usize, x: &Inputs<'_>) -> f32 {
    let mut sums = [0.0; SUMS];
    let run = run(parts);
    let bytes = packed_bytes(CHUNK, parts.scheme.bits);
    let chunks = parts.row(row).chunks(bytes.max(1));
    for (at, codes) in chunks.enumerate() {
        let mut whole = [0; CHUNK];
        let n = parts.cols.saturating_sub(at * CHUNK).min(CHUNK);
        // As many bytes as so many codes take.
        let opened = whole.get_mut(..n).map(|out| unpack_row(level, parts.scheme.bits, codes, out));
        debug_assert!(opened.is_some_and(|opened| opened.is_ok()));
        chunk(level, parts, (row, run), at, &whole, x, &mut sums);
    }
    total(sums)
}

stamp! {
    /// Adds the lanes of chunk `at`.
    fn chunk = chunk_body(
        parts: &Parts<'_>, row: (usize, usize), at: usize, codes: &[u8; CHUNK], x: &Inputs<'_>, sums: &mut [f32; SUMS],
    ) -> ();
}

#[inline(always)]
fn chunk_body(
    parts: &Parts<'_>,
    (row, run): (usize, usize),
    at: usize,
    codes: &[u8; CHUNK],
    x: &Inputs<'_>,
    sums: &mut [f32; SUMS],
) {
    let Kind::Rounded(x) = x.kind else { return };
    let inputs: &[i8; CHUNK] = x.codes.as_chunks().0.get(at).unwrap_or(&[0; CHUNK]);
    if !x.eights {
        return lanes::<4>(parts, (row, run), at, (codes, inputs), x.scales, sums);
    }
    let mut ordered = [0; CHUNK];
    for (at, pair) in ordered.as_chunks_mut::<2>().0.iter_mut().enumerate() {
        *pair = [inputs[at], inputs[CHUNK / 2 + at]];
    }
    lanes::<8>(parts, (row, run), at, (codes, &ordered), x.scales, sums);
}

#[inline(always)]
fn lanes<const W: usize>(
    parts: &Parts<'_>,
    (row, run): (usize, usize),
    at: usize,
    (codes, x): (&[u8; CHUNK], &[i8; CHUNK]),
    scales: &[f32],
    sums: &mut [f32; SUMS],
) {
    let first = at * CHUNK;
    let scales = scales.get(first / W..).unwrap_or(&[]);
    let lanes = codes.as_chunks::<W>().0.iter().zip(x.as_chunks::<W>().0).zip(scales);
    // A grid is for 32 columns at least.
    let mut grid = (0.0, 0);
    for (lane, ((codes, x), scale)) in lanes.enumerate() {
        let column = first + lane * W;
        if column >= parts.cols {
            break;
        }
        if (lane * W).is_multiple_of(BLOCK) {
            grid = parts.grid(row, column / run);
        }
        let mut part = 0;
        for (code, x) in codes.iter().zip(x) {
            part += (i32::from(*code) - i32::from(grid.1)) * i32::from(*x);
        }
        sums[lane % SUMS] += grid.0 * scale * part as f32;
    }
}

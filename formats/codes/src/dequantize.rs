//! From packed codes to floats: `x = scale * (code - middle)`, one rounding.

use core::ops::Range;

use crate::pack::{code_at, open, packed_bytes};
use crate::simd::Level;
use crate::uniform::Parts;
use crate::{Bits, Error, ErrorKind, stamp};

/// Decodes the codes `first..first + out.len()` of a bit stream on one grid:
/// `out[i] = scale * (code - middle)`. `middle` is the zero point, or 2^(bits-1) on a
/// symmetric grid.
///
/// # Errors
///
/// [`ErrorKind::Range`] if the stream has fewer codes.
pub fn dequantize_run(
    level: Level,
    bits: Bits,
    codes: &[u8],
    first: usize,
    (scale, middle): (f32, u8),
    out: &mut [f32],
) -> Result<(), Error> {
    let needs = packed_bytes(first.saturating_add(out.len()), bits);
    if codes.len() < needs {
        return Err(ErrorKind::Range { needs, has: codes.len() }.into());
    }
    run(level, bits, codes, first, (scale, middle), out);
    Ok(())
}

stamp! {
    fn run = run_body(bits: Bits, codes: &[u8], first: usize, grid: (f32, u8), out: &mut [f32]) -> ();
}

stamp! {
    /// Decodes whole rows; lengths were checked by the view.
    pub(crate) fn rows = rows_body(parts: &Parts<'_>, rows: Range<usize>, out: &mut [f32]) -> ();
}

#[inline(always)]
fn rows_body(parts: &Parts<'_>, rows: Range<usize>, out: &mut [f32]) {
    match parts.scheme.bits.get() {
        2 => rows_of::<2>(parts, rows, out),
        3 => rows_of::<3>(parts, rows, out),
        4 => rows_of::<4>(parts, rows, out),
        5 => rows_of::<5>(parts, rows, out),
        6 => rows_of::<6>(parts, rows, out),
        7 => rows_of::<7>(parts, rows, out),
        _ => rows_of::<8>(parts, rows, out),
    }
}

#[inline(always)]
fn rows_of<const B: usize>(parts: &Parts<'_>, rows: Range<usize>, out: &mut [f32]) {
    for (row, out) in rows.zip(out.chunks_exact_mut(parts.cols.max(1))) {
        let codes = parts.row(row);
        for (at, out) in out.chunks_mut(parts.run()).enumerate() {
            let grid = parts.grid(row, at);
            run_of::<B>(parts.scheme.bits, codes, at * parts.run(), grid, out);
        }
    }
}

#[inline(always)]
fn run_body(bits: Bits, codes: &[u8], first: usize, grid: (f32, u8), out: &mut [f32]) {
    match bits.get() {
        2 => run_of::<2>(bits, codes, first, grid, out),
        3 => run_of::<3>(bits, codes, first, grid, out),
        4 => run_of::<4>(bits, codes, first, grid, out),
        5 => run_of::<5>(bits, codes, first, grid, out),
        6 => run_of::<6>(bits, codes, first, grid, out),
        7 => run_of::<7>(bits, codes, first, grid, out),
        _ => run_of::<8>(bits, codes, first, grid, out),
    }
}

/// Codes up to the next run of eight one by one, whole runs, then the rest.
#[inline(always)]
fn run_of<const B: usize>(bits: Bits, codes: &[u8], first: usize, (scale, middle): (f32, u8), out: &mut [f32]) {
    let ahead = (first.wrapping_neg() % 8).min(out.len());
    let Some((head, out)) = out.split_at_mut_checked(ahead) else { return };
    let value = |code: u8| scale * (i32::from(code) - i32::from(middle)) as f32;
    for (i, x) in head.iter_mut().enumerate() {
        *x = value(code_at(bits, codes, first + i));
    }
    let (runs, rest) = out.as_chunks_mut::<8>();
    let from = codes.get((first + ahead) / 8 * B..).unwrap_or(&[]);
    for (bytes, run) in from.as_chunks::<B>().0.iter().zip(runs.iter_mut()) {
        let mut word = [0; 8];
        word.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        let codes = open::<B>(u64::from_le_bytes(word)).to_le_bytes();
        *run = codes.map(value);
    }
    let done = first + ahead + 8 * runs.len();
    for (i, x) in rest.iter_mut().enumerate() {
        *x = value(code_at(bits, codes, done + i));
    }
}

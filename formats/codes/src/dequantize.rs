//! From packed codes to floats: `x = scale * (code - middle)`, one rounding.

use core::ops::Range;

use crate::pack::{code_at, packed_bytes};
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
    run(level, bits, codes, first, (scale, middle.into()), out);
    Ok(())
}

/// Groups whose grids are widened at a time.
pub(crate) const GRIDS: usize = 128;

/// Decodes whole rows; lengths were checked by the view.
pub(crate) fn rows(level: Level, parts: &Parts<'_>, rows: Range<usize>, out: &mut [f32]) {
    let mut rest = out;
    for row in rows {
        // Rows without columns may be usize::MAX many.
        if rest.is_empty() {
            return;
        }
        let Some((out, after)) = rest.split_at_mut_checked(parts.cols) else { return };
        rest = after;
        groups(level, parts, row, 0, out);
    }
}

/// Decodes the columns `first..first + out.len()` of a row; lengths were checked, and `first` is a
/// multiple of eight.
pub(crate) fn columns(level: Level, parts: &Parts<'_>, row: usize, first: usize, out: &mut [f32]) {
    let size = parts.run();
    let ahead = ((size - first % size) % size).min(out.len());
    let Some((head, rest)) = out.split_at_mut_checked(ahead) else { return };
    if !head.is_empty() {
        let (scale, middle) = parts.grid(row, first / size);
        run(level, parts.scheme.bits, parts.row(row), first, (scale, middle.into()), head);
    }
    if !rest.is_empty() && (first + ahead).is_multiple_of(8) {
        return groups(level, parts, row, (first + ahead) / size, rest);
    }
    for (at, out) in rest.chunks_mut(size).enumerate() {
        let group = (first + ahead) / size + at;
        let (scale, middle) = parts.grid(row, group);
        run(level, parts.scheme.bits, parts.row(row), group * size, (scale, middle.into()), out);
    }
}

/// Decodes the groups of a row from `at` on, the first code of which starts at a whole byte.
fn groups(level: Level, parts: &Parts<'_>, row: usize, mut at: usize, mut out: &mut [f32]) {
    let (run, bits) = (parts.run(), parts.scheme.bits);
    let (mut scales, mut middles) = ([0.0; GRIDS], [0; GRIDS]);
    let codes = parts.row(row);
    while !out.is_empty() {
        let n = run.saturating_mul(GRIDS).min(out.len());
        let Some((some, after)) = out.split_at_mut_checked(n) else { return };
        out = after;
        let count = n.div_ceil(run);
        let (Some(scales), Some(middles)) = (scales.get_mut(..count), middles.get_mut(..count)) else { return };
        grids(level, parts, (row, at), scales, middles);
        // GRIDS is a multiple of 8, so each turn starts at a whole byte if the first does.
        let from = packed_bytes(at.saturating_mul(run), bits);
        runs(level, bits, codes.get(from..).unwrap_or(&[]), run, (scales, middles), some);
        at += GRIDS;
    }
}

stamp! {
    /// Scales and middle codes of the groups from `at` of a row on.
    pub(crate) fn grids = grids_body(
        parts: &Parts<'_>, at: (usize, usize), scales: &mut [f32], middles: &mut [i32],
    ) -> ();
}

#[inline(always)]
fn grids_body(parts: &Parts<'_>, (row, at): (usize, usize), scales: &mut [f32], middles: &mut [i32]) {
    let first = parts.group(row, at);
    parts.scales_from(first, scales);
    parts.middles_from(first, middles);
}

/// Decodes consecutive runs, each on its grid.
fn runs(level: Level, bits: Bits, codes: &[u8], run: usize, grids: (&[f32], &[i32]), out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if let (Level::Avx512(proof), 0) = (level, run % 8) {
        use crate::kernels::x86_64::runs;
        return match bits.get() {
            2 => runs::<2>(proof, codes, run, grids, out),
            3 => runs::<3>(proof, codes, run, grids, out),
            4 => runs::<4>(proof, codes, run, grids, out),
            5 => runs::<5>(proof, codes, run, grids, out),
            6 => runs::<6>(proof, codes, run, grids, out),
            7 => runs::<7>(proof, codes, run, grids, out),
            _ => runs::<8>(proof, codes, run, grids, out),
        };
    }
    plain_runs(level, bits, codes, run, grids, out);
}

stamp! {
    fn plain_runs = plain_runs_body(
        bits: Bits, codes: &[u8], run: usize, grids: (&[f32], &[i32]), out: &mut [f32],
    ) -> ();
}

#[inline(always)]
fn plain_runs_body(bits: Bits, codes: &[u8], run: usize, (scales, middles): (&[f32], &[i32]), out: &mut [f32]) {
    let (mut first, mut rest) = (0, out);
    for grid in scales.iter().zip(middles) {
        let n = run.min(rest.len());
        let Some((some, after)) = rest.split_at_mut_checked(n) else { return };
        run_body(bits, codes, first, (*grid.0, *grid.1), some);
        (first, rest) = (first + n, after);
    }
}

/// Decodes one run that may start at any bit.
fn run(level: Level, bits: Bits, codes: &[u8], first: usize, grid: (f32, i32), out: &mut [f32]) {
    let ahead = (first.wrapping_neg() % 8).min(out.len());
    let Some((head, rest)) = out.split_at_mut_checked(ahead) else { return };
    run_body(bits, codes, first, grid, head);
    // The code after a whole run of eight starts at a whole byte, or there is none.
    let from = packed_bytes(first.saturating_add(ahead), bits);
    let whole = rest.len().next_multiple_of(8);
    runs(level, bits, codes.get(from..).unwrap_or(&[]), whole, (&[grid.0], &[grid.1]), rest);
}

#[inline(always)]
fn run_body(bits: Bits, codes: &[u8], first: usize, grid: (f32, i32), out: &mut [f32]) {
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
fn run_of<const B: usize>(bits: Bits, codes: &[u8], first: usize, (scale, middle): (f32, i32), out: &mut [f32]) {
    let ahead = (first.wrapping_neg() % 8).min(out.len());
    let Some((head, out)) = out.split_at_mut_checked(ahead) else { return };
    let value = |code: u8| scale * (i32::from(code) - middle) as f32;
    for (i, x) in head.iter_mut().enumerate() {
        *x = value(code_at(bits, codes, first + i));
    }
    let (runs, rest) = out.as_chunks_mut::<8>();
    let from = codes.get((first + ahead) / 8 * B..).unwrap_or(&[]);
    for (bytes, run) in from.as_chunks::<B>().0.iter().zip(runs.iter_mut()) {
        let mut word = [0; 8];
        word.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        // Four codes are 28 bits at most, or 32 where each is a byte.
        let word = u64::from_le_bytes(word);
        let halves = [word as u32, (word >> (4 * B)) as u32];
        for i in 0..8 {
            let code = (halves[i / 4] >> (i % 4 * B)) & ((1 << B) - 1);
            run[i] = scale * (code as i32 - middle) as f32;
        }
    }
    let done = first + ahead + 8 * runs.len();
    for (i, x) in rest.iter_mut().enumerate() {
        *x = value(code_at(bits, codes, done + i));
    }
}

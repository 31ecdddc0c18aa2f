//! AVX-512 with VNNI and VBMI: codes of any width in three instructions for 64 columns.

pub(super) mod blocks;
pub(super) mod elastic;
mod stretch;

use super::inputs::{Inputs, Kind, Rounded};
use super::{CHUNK, SUMS, run};
use stretch::{Stretch, halves, totals};

use crate::simd::Vnni;
use crate::uniform::Parts;
use crate::{ScaleType, Symmetry};

/// Lanes of a vector: a sum each.
const LANES: usize = SUMS;

/// Columns that a kernel takes at a time.
fn chunk(parts: &Parts<'_>) -> usize {
    if parts.scheme.bits.get() == 4 { CHUNK } else { CHUNK / 2 }
}

/// Whether there is a kernel for these rows and the form of these inputs.
pub(super) fn can(parts: &Parts<'_>, x: &Inputs<'_>) -> bool {
    let four = parts.scheme.bits.get() == 4;
    let form = match x.kind {
        Kind::Plain(_) => !four && run(parts).is_multiple_of(CHUNK / 2),
        Kind::Turned(..) => four,
        Kind::Rounded(Rounded { eights, .. }) => eights == four,
    };
    form && fits(parts)
}

/// Whether the groups of a chunk begin and end with it, and with blocks of inputs.
pub(super) fn fits(parts: &Parts<'_>) -> bool {
    let (chunk, run) = (chunk(parts), run(parts));
    run.is_multiple_of(chunk) || (chunk.is_multiple_of(run) && run.is_multiple_of(32))
}

/// Rows that are multiplied at a time, so that inputs are read once for all of them.
const ROWS: usize = 4;

/// Bytes that are fetched ahead at least: memory takes as long to answer as they take to be multiplied.
const FETCHED: usize = 1 << 14;

/// Grids of a row that are widened at a time: few, so that room for them costs little.
const GRIDS: usize = 32;

/// Room for those of some rows, and for some more that are read and not used.
const WIDENED: usize = ROWS * GRIDS + LANES;

/// How rows lie in chunks and groups.
struct Plan {
    bits: u32,
    /// The middle of symmetric grids.
    half: Option<i32>,
    /// Columns of a chunk and of a group.
    chunk: usize,
    run: usize,
    /// Bytes of a chunk.
    bytes: usize,
    /// Chunks that as many grids are for as are widened at a time.
    chunks: usize,
    /// Stretches of so many chunks in a row.
    stretches: usize,
    /// How far apart the first groups of two rows are.
    apart: usize,
    /// The group of each lane, counted from that of the first.
    places: [i32; LANES],
    /// How far ahead bytes are fetched: those that the rows after these have where these are read now.
    ahead: usize,
    /// How many groups further the next chunk begins, after so many chunks of the same.
    step: usize,
    span: usize,
}

impl Plan {
    fn new(parts: &Parts<'_>) -> Self {
        let (chunk, run, bits) = (chunk(parts), run(parts), parts.scheme.bits.get());
        let chunks = run.saturating_mul(GRIDS) / chunk;
        Self {
            bits,
            half: (parts.scheme.symmetry == Symmetry::Symmetric).then(|| parts.scheme.bits.half() as i32),
            chunk,
            run,
            bytes: chunk / 8 * bits as usize,
            chunks,
            stretches: parts.cols.div_ceil(chunk).div_ceil(chunks),
            apart: parts.group(1, 0) - parts.group(0, 0),
            ahead: match ROWS * parts.scheme.row_bytes(parts.cols) {
                all @ 1..FETCHED => FETCHED.next_multiple_of(all),
                all if all < ROWS * FETCHED => all,
                _ => FETCHED,
            },
            places: core::array::from_fn(|lane| (lane * chunk / LANES / run) as i32),
            step: (chunk / run).max(1),
            span: (run / chunk).max(1),
        }
    }
}

/// Scales and middles of groups.
struct Grids {
    scales: [f32; WIDENED],
    middles: [i32; WIDENED],
}

/// The products of rows from `row` on with inputs in a form that [`can`] be taken.
pub(super) fn products(proof: Vnni, parts: &Parts<'_>, mut row: usize, x: &Inputs<'_>, out: &mut [f32]) {
    let (plan, mut grids) = (Plan::new(parts), Grids { scales: [0.0; WIDENED], middles: [0; WIDENED] });
    let (fours, rest) = out.as_chunks_mut::<ROWS>();
    for four in fours {
        *four = some_rows(proof, (parts, &plan), row, x, &mut grids);
        row += ROWS;
    }
    for (at, one) in rest.as_chunks_mut::<1>().0.iter_mut().enumerate() {
        *one = some_rows(proof, (parts, &plan), row + at, x, &mut grids);
    }
}

/// The products of `R` rows, at most [`ROWS`]; the grids may hold anything.
fn some_rows<const R: usize>(
    proof: Vnni,
    (parts, plan): (&Parts<'_>, &Plan),
    row: usize,
    x: &Inputs<'_>,
    grids: &mut Grids,
) -> [f32; R] {
    let mut sums = [[0.0; SUMS]; R];
    for at in 0..plan.stretches {
        let first = at * plan.chunks.saturating_mul(plan.bytes);
        let last = first.saturating_add(plan.chunks.saturating_mul(plan.bytes));
        let codes: [&[u8]; R] = core::array::from_fn(|nth| {
            let all = parts.row(row + nth);
            all.get(first..last.min(all.len())).unwrap_or(&[])
        });
        let apart = grids.widen(proof, (parts, plan), (row, R), at);
        let grids = core::array::from_fn(|nth| {
            let first = nth * apart;
            (&grids.scales[first..], &grids.middles[first..])
        });
        let stretch = Stretch { plan, codes, first: at * plan.chunks * plan.chunk, grids };
        // SAFETY: a `Vnni` is only made by `Vnni::detect`, which saw the features.
        unsafe { stretch.add(x, &mut sums) }
    }
    // SAFETY: as above.
    unsafe { totals(&sums) }
}

impl Grids {
    /// Widens those of a stretch of some rows; says how far apart they are.
    fn widen(
        &mut self,
        proof: Vnni,
        (parts, plan): (&Parts<'_>, &Plan),
        (row, rows): (usize, usize),
        stretch: usize,
    ) -> usize {
        let all = parts.cols.div_ceil(plan.run);
        if plan.stretches == 1 && plan.apart <= GRIDS {
            // Those of the rows stand one after the other.
            self.read(proof, parts, parts.group(row, 0), (0, plan.apart * (rows - 1) + all.min(GRIDS)));
            return plan.apart;
        }
        let count = all.saturating_sub(stretch * GRIDS).min(GRIDS);
        for nth in 0..rows {
            self.read(proof, parts, parts.group(row + nth, stretch * GRIDS), (nth * GRIDS, count));
        }
        GRIDS
    }

    /// Reads those of some groups from `group` on to places from `at` on.
    fn read(&mut self, _: Vnni, parts: &Parts<'_>, group: usize, (at, count): (usize, usize)) {
        let (scales, middles) = (&mut self.scales[at..][..count], &mut self.middles[at..][..count]);
        match (parts.scheme.scale_type(), parts.scales.get(group.saturating_mul(2)..)) {
            // SAFETY: a `Vnni` is only made by `Vnni::detect`, which saw the features.
            (ScaleType::F16, Some(from)) => unsafe { halves(from, scales) },
            _ => parts.scales_from(group, scales),
        }
        if parts.scheme.symmetry == Symmetry::Affine {
            parts.middles_from(group, middles);
        }
    }
}

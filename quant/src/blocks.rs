//! Rows of ggml's block types.
//!
//! [`BlockType::Q8_0`], `Q4_0`, `Q4_1`, `Q5_0`, `Q5_1` and `Mxfp4` are the bytes of ggml's
//! reference quantizer; the K and IQ types are found by searches of our own. A row is whole
//! blocks, so rows that follow each other are one run.

mod affine;
mod iq4;
mod k;
mod lanes;
mod legacy;
mod mxfp4;
mod signed;

use niwaki_codes::simd::Level;
use niwaki_codes::{BlockType, BlockView, stamp};

use crate::distortion::{Distortion, LANES, Tally};
use crate::error::exactly;
use crate::grid::{NOT_FINITE, key};
use crate::kernels::prefetch;
use crate::{Error, ErrorKind, Values};

/// Weights that are encoded at a time: with what they decode to, a first-level cache holds them.
const RUN: usize = 2048;

/// Encodes whole rows of `cols` weights as blocks.
///
/// A piece of a long row counts as a row of its own if it starts at a block.
///
/// # Errors
///
/// [`ErrorKind::NotFinite`] for an infinity or NaN, [`ErrorKind::ScaleOverflow`] for a
/// block beyond F16, [`ErrorKind::BlockRow`] for rows that are not whole blocks,
/// [`ErrorKind::Length`] for values that are not whole rows or an `out` of another length.
pub fn encode_block_rows(
    level: Level,
    kind: BlockType,
    values: Values<'_>,
    cols: usize,
    out: &mut [u8],
) -> Result<Distortion, Error> {
    let encode = encoder(kind);
    let rows = values.len().checked_div(cols).unwrap_or(0);
    exactly("values", rows * cols, values.len())?;
    let row_bytes = kind.row_bytes(cols).map_err(|_| ErrorKind::BlockRow { kind, cols })?;
    exactly("codes", rows * row_bytes, out.len())?;
    let (mut x, mut decoded) = ([0.0; RUN], [0.0; RUN]);
    let mut total = Distortion::default();
    for (i, out) in out.chunks_mut(RUN / kind.elements() * kind.bytes()).enumerate() {
        let run = values.slice(i * RUN..(i + 1) * RUN);
        let ahead = values.ahead((i + 1) * RUN);
        // A quarter of the next run before each step: memory is asked at an even pace.
        let fetch = |quarter: usize| {
            let bytes = RUN / 4 * ahead.size;
            (0..bytes).step_by(64).for_each(|at| prefetch(ahead.bytes, quarter * bytes + at));
        };
        let (x, decoded) = (&mut x[..run.len()], &mut decoded[..run.len()]);
        run.decode(level, x);
        fetch(0);
        if !all_finite(level, x) {
            let bad = x.iter().position(|x| !x.is_finite()).unwrap_or(0);
            return Err(ErrorKind::NotFinite { index: i * RUN + bad }.into());
        }
        fetch(1);
        encode(level, x, out);
        fetch(2);
        let view = BlockView::new(kind, 1, x.len(), out);
        let done = view.clone().and_then(|view| view.dequantize_rows(level, 0..1, decoded));
        debug_assert!(done.is_ok(), "a run is whole blocks");
        fetch(3);
        let lost = tally(level, x, decoded).total(x.len());
        // Under a scale beyond F16 nothing decodes to a number.
        if !lost.noise.is_finite()
            && let Some(group) = view.ok().and_then(|view| beyond_f16(&view))
        {
            return Err(ErrorKind::ScaleOverflow { group: i * (RUN / kind.elements()) + group }.into());
        }
        total.merge(&lost);
    }
    Ok(total)
}

/// Encodes finite weights that fill whole blocks.
type Encoder = fn(Level, &[f32], &mut [u8]);

fn encoder(kind: BlockType) -> Encoder {
    match kind {
        BlockType::Q4_0 => legacy::q4_0,
        BlockType::Q4_1 => legacy::q4_1,
        BlockType::Q5_0 => legacy::q5_0,
        BlockType::Q5_1 => legacy::q5_1,
        BlockType::Q8_0 => legacy::q8_0,
        BlockType::Mxfp4 => mxfp4::mxfp4,
        BlockType::Q2K => k::q2_k,
        BlockType::Q4K => k::q4_k,
        BlockType::Q5K => k::q5_k,
        BlockType::Q3K => k::q3_k,
        BlockType::Q6K => k::q6_k,
        BlockType::Iq4Nl => iq4::iq4_nl,
        BlockType::Iq4Xs => iq4::iq4_xs,
    }
}

/// The first block with a scale beyond F16.
fn beyond_f16(view: &BlockView<'_>) -> Option<usize> {
    match view.check().map_err(|e| e.kind()) {
        Err(niwaki_codes::ErrorKind::Scale { group }) => Some(group),
        _ => None,
    }
}

stamp! {
    fn all_finite = all_finite_body(x: &[f32]) -> bool;
}

#[inline(always)]
fn all_finite_body(x: &[f32]) -> bool {
    let mut most = 0;
    for x in x {
        most = key(*x).max(most);
    }
    most < NOT_FINITE
}

stamp! {
    /// Sums over whole vectors of weights and what they decode to.
    fn tally = tally_body(x: &[f32], decoded: &[f32]) -> Tally;
}

#[inline(always)]
fn tally_body(x: &[f32], decoded: &[f32]) -> Tally {
    let mut tally = Tally::default();
    for (x, y) in x.as_chunks::<LANES>().0.iter().zip(decoded.as_chunks::<LANES>().0) {
        tally.add(x, y);
    }
    tally
}

#[cfg(all(test, feature = "std"))]
mod tests;

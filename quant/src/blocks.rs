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
use crate::grid::all_finite;
use crate::kernels::{floats, prefetch};
use crate::round::Ahead;
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
        let x = &mut x[..run.len()];
        let lost = match encode {
            Encoder::Whole(encode) => whole(level, encode, run, ahead, x, out),
            Encoder::Steps(encode) => steps(level, (kind, encode), run, ahead, (x, &mut decoded), out),
        };
        let lost = lost.map_err(|bad| Error::from(ErrorKind::NotFinite { index: i * RUN + bad }))?;
        // Under a scale beyond F16 nothing decodes to a number.
        if !lost.noise.is_finite()
            && let Some(group) = beyond_f16(kind, run.len(), out)
        {
            return Err(ErrorKind::ScaleOverflow { group: i * (RUN / kind.elements()) + group }.into());
        }
        total.merge(&lost);
    }
    Ok(total)
}

/// Encodes a run and finds what that lost in the same pass, or a weight that is not finite.
fn whole(
    level: Level,
    encode: legacy::Encoder,
    run: Values<'_>,
    ahead: Ahead<'_>,
    x: &mut [f32],
    out: &mut [u8],
) -> Result<Distortion, usize> {
    let aligned = match run {
        Values::F32(bytes) => floats(bytes),
        Values::F16(_) | Values::Bf16(_) => None,
    };
    let x = match aligned {
        Some(x) => x,
        None => {
            run.decode(level, x);
            x
        }
    };
    let lost = encode(level, x, ahead, out).total(x.len());
    if lost.signal.is_finite() {
        return Ok(lost);
    }
    // Squares may be beyond `f32` while weights are not.
    x.iter().position(|x| !x.is_finite()).map_or(Ok(lost), Err)
}

/// Encodes a run and decodes it again, or finds a weight that is not finite.
fn steps(
    level: Level,
    (kind, encode): (BlockType, Stepwise),
    run: Values<'_>,
    ahead: Ahead<'_>,
    (x, decoded): (&mut [f32], &mut [f32; RUN]),
    out: &mut [u8],
) -> Result<Distortion, usize> {
    // A quarter of the next run before each step: memory is asked at an even pace.
    let fetch = |quarter: usize| {
        let bytes = RUN / 4 * ahead.size;
        (0..bytes).step_by(64).for_each(|at| prefetch(ahead.bytes, quarter * bytes + at));
    };
    let decoded = &mut decoded[..x.len()];
    run.decode(level, x);
    fetch(0);
    if !all_finite(level, x) {
        return Err(x.iter().position(|x| !x.is_finite()).unwrap_or(0));
    }
    fetch(1);
    encode(level, x, out);
    fetch(2);
    let view = BlockView::new(kind, 1, x.len(), out);
    let done = view.and_then(|view| view.dequantize_rows(level, 0..1, decoded));
    debug_assert!(done.is_ok(), "a run is whole blocks");
    fetch(3);
    Ok(tally(level, x, decoded).total(x.len()))
}

/// How the blocks of a type are encoded.
#[derive(Clone, Copy)]
enum Encoder {
    Whole(legacy::Encoder),
    Steps(Stepwise),
}

/// Encodes finite weights that fill whole blocks; what that loses is found by decoding them.
type Stepwise = fn(Level, &[f32], &mut [u8]);

fn encoder(kind: BlockType) -> Encoder {
    match kind {
        BlockType::Q4_0 => Encoder::Whole(legacy::q4_0),
        BlockType::Q4_1 => Encoder::Whole(legacy::q4_1),
        BlockType::Q5_0 => Encoder::Whole(legacy::q5_0),
        BlockType::Q5_1 => Encoder::Whole(legacy::q5_1),
        BlockType::Q8_0 => Encoder::Whole(legacy::q8_0),
        BlockType::Mxfp4 => Encoder::Steps(mxfp4::mxfp4),
        BlockType::Q2K => Encoder::Steps(k::q2_k),
        BlockType::Q4K => Encoder::Steps(k::q4_k),
        BlockType::Q5K => Encoder::Steps(k::q5_k),
        BlockType::Q3K => Encoder::Steps(k::q3_k),
        BlockType::Q6K => Encoder::Steps(k::q6_k),
        BlockType::Iq4Nl => Encoder::Steps(iq4::iq4_nl),
        BlockType::Iq4Xs => Encoder::Steps(iq4::iq4_xs),
    }
}

/// The first block with a scale beyond F16.
fn beyond_f16(kind: BlockType, weights: usize, blocks: &[u8]) -> Option<usize> {
    match BlockView::new(kind, 1, weights, blocks).and_then(|view| view.check()).map_err(|e| e.kind()) {
        Err(niwaki_codes::ErrorKind::Scale { group }) => Some(group),
        _ => None,
    }
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

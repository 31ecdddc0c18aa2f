//! Masks of the largest magnitudes of tensors that are only seen piece by piece.

use niwaki_codes::Mask;
use niwaki_codes::simd::Level;
use niwaki_prune::{NofM, Pattern, Step};

use super::{below, floats};
use crate::blocks::{BLOCK, byte_groups};
use crate::encode::not_finite;
use crate::error::Error;
use crate::matrix::transposed;
use crate::source::SourceTensor;

fn wrong(e: niwaki_prune::Error, name: &str) -> Error {
    match e.kind() {
        niwaki_prune::ErrorKind::NotFinite { index, .. } => not_finite(*index as usize, name),
        _ => below(e, name),
    }
}

/// The mask of the largest magnitudes, found in passes over pieces of the tensor.
pub(crate) fn magnitude_mask(
    source: &SourceTensor<'_>,
    pattern: &Pattern,
    decoded: &mut Vec<f32>,
) -> Result<Mask, Error> {
    let (name, level) = (source.name(), Level::best());
    let wrong = |e: niwaki_prune::Error| wrong(e, name);
    let (rows, cols) = source.matrix();
    let mut step = pattern.select(rows, cols);
    let rule = loop {
        match step {
            Step::Done(rule) => break rule,
            Step::Observe(pass) => {
                let mut counts = pass.counts();
                for start in (0..rows * cols).step_by(BLOCK) {
                    let end = (start + BLOCK).min(rows * cols);
                    let piece = floats(source, start, end, level, decoded)?;
                    counts.observe(level, start as u64, piece).map_err(wrong)?;
                }
                step = pass.advance(&counts).map_err(wrong)?;
            }
        }
    };
    let row_bytes = cols.div_ceil(8);
    let run = match pattern {
        Pattern::NofM(n) => byte_groups(n.m()),
        _ => 8,
    };
    let run = (BLOCK / run).max(1) * run;
    let (mut bits, mut ties) = (vec![0; rows * row_bytes], rule.ties());
    for row in 0..rows {
        for col in (0..cols).step_by(run) {
            let (start, end) = (row * cols + col, row * cols + (col + run).min(cols));
            let piece = floats(source, start, end, level, decoded)?;
            let first = row * row_bytes + col / 8;
            let out = &mut bits[first..first + (end - start).div_ceil(8)];
            rule.mark_row(level, start as u64, piece, &mut ties, out).map_err(wrong)?;
        }
    }
    Mask::new(rows, cols, bits).map_err(|e| below(e, name))
}

/// The mask of the largest n of every m down each column, a strip of m rows after the other.
pub(crate) fn runs_down(source: &SourceTensor<'_>, run: NofM, decoded: &mut Vec<f32>) -> Result<Mask, Error> {
    let (name, level, (rows, cols)) = (source.name(), Level::best(), source.matrix());
    let row_bytes = cols.div_ceil(8);
    let mut bits = vec![0u8; rows * row_bytes];
    let width = (BLOCK / run.m()).max(1);
    let mut strip = Vec::new();
    for top in (0..rows).step_by(run.m()) {
        let height = run.m().min(rows - top);
        for left in (0..cols).step_by(width) {
            let wide = width.min(cols - left);
            strip.clear();
            for row in top..top + height {
                let start = row * cols + left;
                strip.extend_from_slice(floats(source, start, start + wide, level, decoded)?);
            }
            let runs = transposed(&strip, wide);
            let kept = niwaki_prune::magnitude_mask(level, &Pattern::NofM(run), wide, height, &runs);
            let kept = kept.map_err(|e| match *e.kind() {
                niwaki_prune::ErrorKind::NotFinite { index, .. } => {
                    let (col, row) = (index as usize / height, index as usize % height);
                    not_finite((top + row) * cols + left + col, name)
                }
                _ => below(e, name),
            })?;
            for (col, row) in (0..wide).flat_map(|col| (0..height).map(move |row| (col, row))) {
                let at = left + col;
                bits[(top + row) * row_bytes + at / 8] |=
                    u8::from(kept.view().keeps(col, row) == Some(true)) << (at % 8);
            }
        }
    }
    Mask::new(rows, cols, bits).map_err(|e| below(e, name))
}

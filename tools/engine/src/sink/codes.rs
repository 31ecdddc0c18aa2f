//! Evenly spaced codes of weights that have none yet.

use std::ops::Range;

use niwaki_codes::simd::Level;
use niwaki_codes::{Grouping, Symmetry, Uniform};
use niwaki_foreign::UniformRows;
use niwaki_quant::{Fit, Solver, UniformOut, Values, encode_rows, encode_with};

use crate::blocks::BLOCK;
use crate::encode::{not_encodable, solve};
use crate::error::{Blame, Error, ErrorKind};
use crate::recontain::Plain;
use crate::source::SourceTensor;
use crate::weigh::Known;

/// Weights to be encoded.
pub(super) enum Weights<'a> {
    /// Those of a tensor.
    Of(&'a SourceTensor<'a>),
    /// These.
    Numbers(&'a [f32]),
}

impl Weights<'_> {
    fn values<'b>(&'b self, range: Range<usize>, decoded: &'b mut Vec<f32>) -> Result<Values<'b>, Error> {
        match self {
            Self::Of(tensor) => tensor.values(range, decoded),
            Self::Numbers(all) => Ok(Values::F32(bytemuck::cast_slice(all.get(range).unwrap_or_default()))),
        }
    }
}

/// How weights become codes.
pub(super) struct New<'a> {
    pub(super) scheme: &'a Uniform,
    pub(super) fit: Fit,
    /// The tensor, for messages.
    pub(super) name: &'a str,
    /// Weights of a row.
    pub(super) cols: usize,
    /// What is known of the layer's inputs, and the group of channels that the rows belong to.
    pub(super) known: Option<(&'a Known, usize)>,
}

impl New<'_> {
    /// Encodes the weights `range`, which are whole rows, and all there are where the tensor has one
    /// scale.
    pub(super) fn encode(
        &self,
        range: Range<usize>,
        weights: &Weights<'_>,
        decoded: &mut Vec<f32>,
    ) -> Result<Plain, Error> {
        let Self { scheme, fit, name, cols, known } = *self;
        let (level, rows) = (Level::best(), range.len().checked_div(cols).unwrap_or(0));
        let wrong = |e: niwaki_quant::Error, start: usize| not_encodable(&e.offset(start, 0), name);
        let groups = scheme.groups(rows, cols);
        let zeros = if scheme.symmetry == Symmetry::Affine { groups } else { 0 };
        let mut coded = UniformRows {
            codes: vec![0; rows * scheme.row_bytes(cols)],
            scales: vec![0; groups * scheme.scale_type().bytes()],
            zeros: vec![0; zeros],
        };
        if scheme.grouping == Grouping::Tensor {
            let piece = |at: usize| range.start + at * BLOCK..(range.start + (at + 1) * BLOCK).min(range.end);
            let grid = solve(Solver::new(scheme, fit), range.len().div_ceil(BLOCK), |solver, at| {
                let observed = solver.observe(level, weights.values(piece(at), decoded)?);
                observed.map_err(|e| wrong(e, piece(at).start))
            })?;
            let start = range.start;
            let values = weights.values(range, decoded)?;
            encode_with(level, scheme, grid, values, cols, &mut coded.codes).map_err(|e| wrong(e, start))?;
            coded.scales.copy_from_slice(&grid.scale.to_le_bytes());
            coded.zeros.iter_mut().for_each(|zero| *zero = grid.zero);
        } else {
            let start = range.start;
            let values = weights.values(range, decoded)?;
            let UniformRows { codes, scales, zeros } = &mut coded;
            let out = UniformOut { codes, scales, zeros };
            let encoded = match known {
                Some((known, group)) => known.encode(group, (scheme, fit), values, out),
                None => encode_rows(level, scheme, fit, values, cols, out),
            };
            encoded.map_err(|e| wrong(e, start))?;
        }
        let lost = || ErrorKind::Below { what: "codes of another length".to_owned(), blame: Blame::Caller };
        Plain::of_rows(*scheme, &coded, cols).ok_or_else(|| lost().into())
    }
}

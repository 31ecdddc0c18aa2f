//! Codes of others as ours, where both mean the same numbers.

use std::ops::Range;

use niwaki_codes::half_floats::{f16_to_f32, f32_to_f16};
use niwaki_codes::simd::Level;
use niwaki_codes::{Bits, GroupSize, Grouping, ScaleType, Symmetry, Uniform, pack_row};

use crate::error::{Error, ErrorKind};
use crate::weights::{Groups, Levels, Middles, TILE, Weights, check_rows};

/// The parts of some rows, as a [`niwaki_codes::UniformView`] takes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UniformRows {
    /// Packed codes.
    pub codes: Vec<u8>,
    /// Little-endian scales: of the whole tensor where it has one, else of these rows.
    pub scales: Vec<u8>,
    /// Zero points of affine schemes.
    pub zeros: Vec<u8>,
}

/// What is known of all groups.
struct Seen {
    /// Every zero point is half the codes.
    symmetric: bool,
    /// Every scale is an IEEE half.
    halves: bool,
}

impl Weights<'_> {
    /// The scheme that means the same numbers; none where there is none. `stacked` tensors
    /// have no scheme by row, for one row of theirs holds a matrix.
    pub(crate) fn uniform(&self, stacked: bool) -> Option<Uniform> {
        let Levels::Integers(bits) = self.levels else { return None };
        let Groups::Runs(run) = self.groups else { return None };
        if self.rows == 0 || self.cols == 0 {
            return None;
        }
        let seen = self.look(bits)?;
        let symmetry = if seen.symmetric { Symmetry::Symmetric } else { Symmetry::Affine };
        let order = self.scales.order;
        let one = order.row_stride == 0 && order.group_stride == 0 && matches!(self.middles, Middles::Half(_));
        let grouping = match run >= self.cols {
            true if one => Grouping::Tensor,
            true if !stacked => Grouping::Row,
            _ => Grouping::Group(GroupSize::new(run.min(self.cols)).ok()?),
        };
        let scheme = Uniform::new(bits, grouping, symmetry);
        Some(if seen.halves { scheme } else { scheme.with_f32_scales() })
    }

    /// Looks at every group; none where one is on no grid of ours.
    fn look(&self, bits: Bits) -> Option<Seen> {
        let mut seen = Seen { symmetric: true, halves: true };
        let groups = self.groups.count(self.cols);
        for row in 0..self.rows {
            for group in 0..groups {
                let (scale, zero) = self.point(bits, row, group)?;
                seen.symmetric &= u32::from(zero) == bits.half();
                seen.halves &= f16_to_f32(f32_to_f16(scale)).to_bits() == scale.to_bits();
            }
        }
        Some(seen)
    }

    /// Scale and zero point of a group; none where they are no such.
    fn point(&self, bits: Bits, row: usize, group: usize) -> Option<(f32, u8)> {
        let scale = self.scales.at(row, group);
        if !scale.is_finite() {
            return None;
        }
        match self.middles {
            Middles::None => None,
            Middles::Half(half) => Some((scale, half)),
            Middles::Points(points) => Some((scale, points.at(row, group))),
            Middles::Biases(biases) => Some((scale, zero_of(bits, scale, biases.at(row, group))?)),
        }
    }

    /// The parts of some rows under the scheme that [`uniform`](Self::uniform) gave.
    pub(crate) fn uniform_rows(
        &self,
        level: Level,
        scheme: &Uniform,
        rows: Range<usize>,
    ) -> Result<UniformRows, Error> {
        let needs = rows.len().checked_mul(self.cols).ok_or(ErrorKind::Overflow)?;
        check_rows(&rows, (self.rows, self.cols), needs)?;
        let row_bytes = scheme.row_bytes(self.cols);
        let mut parts = UniformRows {
            codes: vec![0; rows.len().checked_mul(row_bytes).ok_or(ErrorKind::Overflow)?],
            scales: Vec::new(),
            zeros: Vec::new(),
        };
        let mut tile = vec![0; needs.min(TILE.saturating_mul(self.cols))];
        let tiles = rows.clone().step_by(TILE).zip(parts.codes.chunks_mut(row_bytes.saturating_mul(TILE).max(1)));
        for (first, packed) in tiles {
            let some = first..rows.end.min(first + TILE);
            self.codes.unpack(level, (self.rows, self.cols), some, &mut tile);
            for (codes, packed) in tile.chunks(self.cols.max(1)).zip(packed.chunks_mut(row_bytes.max(1))) {
                pack_row(level, scheme.bits, codes, packed)?;
            }
        }
        let groups = match scheme.grouping {
            Grouping::Group(g) => self.cols.div_ceil(g.get()),
            Grouping::Row | Grouping::Tensor => 1,
        };
        let lines = if scheme.grouping == Grouping::Tensor { 0..self.rows.min(1) } else { rows };
        for row in lines {
            for group in 0..groups {
                let (scale, zero) = self.point(scheme.bits, row, group).ok_or(ErrorKind::Scale { group })?;
                match scheme.scale_type() {
                    ScaleType::F16 => parts.scales.extend(f32_to_f16(scale).to_le_bytes()),
                    ScaleType::F32 => parts.scales.extend(scale.to_le_bytes()),
                }
                if scheme.symmetry == Symmetry::Affine {
                    parts.zeros.push(zero);
                }
            }
        }
        Ok(parts)
    }
}

/// The zero point for which `scale * (code - zero)` is `scale * code + bias`, for every code.
///
/// A scale of 16 significant bits makes all products and sums exact in f32, so that both
/// sides are the same number and not only near.
fn zero_of(bits: Bits, scale: f32, bias: f32) -> Option<u8> {
    if scale == 0.0 {
        return (bias == 0.0).then_some(0);
    }
    let zero = -bias / scale;
    let whole = (0.0..=255.0).contains(&zero) && zero.fract() == 0.0;
    let code = zero as u8;
    let exact = scale.to_bits() & 0xFF == 0 && bias == -(scale * f32::from(code));
    (whole && exact && u32::from(code) < bits.levels()).then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bias_is_a_zero_point_only_where_all_codes_agree() {
        let four = Bits::new(4).unwrap();
        assert_eq!(zero_of(four, 0.5, -4.0), Some(8));
        assert_eq!(zero_of(four, -0.25, 3.75), Some(15));
        assert_eq!(zero_of(four, 0.5, 0.0), Some(0));
        // Outside the codes, between two, of the wrong sign, of a scale with all its bits.
        assert_eq!(zero_of(four, 0.5, -8.0), None);
        assert_eq!(zero_of(four, 0.5, -4.25), None);
        assert_eq!(zero_of(four, 0.5, 4.0), None);
        assert_eq!(zero_of(four, 0.1, -0.8), None);
        assert_eq!((zero_of(four, 0.0, 0.0), zero_of(four, 0.0, 1.0)), (Some(0), None));
        assert_eq!(zero_of(four, 1.0, f32::NAN), None);
    }
}

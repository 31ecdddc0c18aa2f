//! The parameters of the groups of one tile, a field an array, so that grids are
//! computed sixteen at a time.

use niwaki_codes::half_floats::f32_to_f16;
use niwaki_codes::{ScaleType, Symmetry, stamp};

use crate::distortion::{LANES, TILE};
use crate::grid::{Grid, NOT_FINITE, inverse, shift};

/// Groups of a tile at most.
pub(crate) const GROUPS: usize = TILE / LANES;

/// Extents and grids of up to [`GROUPS`] groups.
#[repr(C, align(64))]
#[derive(Clone)]
pub(crate) struct Batch {
    pub(crate) key: [u32; GROUPS],
    pub(crate) low: [f32; GROUPS],
    pub(crate) high: [f32; GROUPS],
    pub(crate) scale: [f32; GROUPS],
    pub(crate) zero: [f32; GROUPS],
    pub(crate) inverse: [f32; GROUPS],
    /// The least and the greatest code, less the zero point.
    pub(crate) bottom: [f32; GROUPS],
    pub(crate) top: [f32; GROUPS],
    /// What makes a code of the bits of a rounded float: the zero point less the bits
    /// of [`ROUNDER`].
    pub(crate) shift: [u32; GROUPS],
}

impl Batch {
    pub(crate) const EMPTY: Self = Self {
        key: [0; GROUPS],
        low: [0.0; GROUPS],
        high: [0.0; GROUPS],
        scale: [0.0; GROUPS],
        zero: [0.0; GROUPS],
        inverse: [0.0; GROUPS],
        bottom: [0.0; GROUPS],
        top: [0.0; GROUPS],
        shift: [0; GROUPS],
    };
}

/// What is wrong with one of the groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Weights that are infinite or not a number.
    Weights(usize),
    /// A scale beyond its type.
    Scale(usize),
}

stamp! {
    /// The `min_max` grids of the first `n` groups.
    pub(crate) fn min_max = min_max_body(grid: Grid, n: usize, batch: &mut Batch) -> Result<(), Fault>;
}

#[inline(always)]
fn min_max_body(grid: Grid, n: usize, batch: &mut Batch) -> Result<(), Fault> {
    let n = n.next_multiple_of(LANES).min(GROUPS);
    let (key, scale) = (&batch.key[..n], &mut batch.scale[..n]);
    match grid.symmetry {
        Symmetry::Symmetric => {
            for (key, scale) in key.iter().zip(scale) {
                *scale = grid.stored(grid.symmetric_scale(*key));
            }
            batch.zero[..n].fill(f32::from(grid.half()));
        }
        Symmetry::Affine => {
            let ends = batch.low.iter().zip(&batch.high);
            for ((low, high), (scale, zero)) in ends.zip(scale.iter_mut().zip(&mut batch.zero)) {
                *scale = grid.stored(grid.affine_scale(*low, *high));
                *zero = grid.affine_zero(*low, *scale);
            }
        }
    }
    faults(key, &batch.scale[..n])
}

#[inline(always)]
fn faults(key: &[u32], scale: &[f32]) -> Result<(), Fault> {
    let mut bad = 0;
    for (key, scale) in key.iter().zip(scale) {
        bad |= u32::from(*key >= NOT_FINITE) | u32::from(!scale.is_finite());
    }
    if bad == 0 {
        return Ok(());
    }
    match key.iter().position(|key| *key >= NOT_FINITE) {
        Some(group) => Err(Fault::Weights(group)),
        None => Err(Fault::Scale(scale.iter().position(|s| !s.is_finite()).unwrap_or(0))),
    }
}

stamp! {
    /// Makes the rulers of the first `n` groups, and writes their grids where they are
    /// stored.
    pub(crate) fn finish = finish_body(
        grid: Grid, n: usize, batch: &mut Batch, scales: &mut [u8], zeros: &mut [u8],
    ) -> ();
}

#[inline(always)]
fn finish_body(grid: Grid, n: usize, batch: &mut Batch, scales: &mut [u8], zeros: &mut [u8]) {
    for i in 0..n.next_multiple_of(LANES).min(GROUPS) {
        batch.inverse[i] = inverse(batch.scale[i]);
        batch.bottom[i] = -batch.zero[i];
        batch.top[i] = grid.top() - batch.zero[i];
        batch.shift[i] = shift(batch.zero[i]);
    }
    match grid.scales {
        ScaleType::F16 => {
            for (to, scale) in scales.as_chunks_mut().0.iter_mut().zip(&batch.scale) {
                *to = f32_to_f16(*scale).to_le_bytes();
            }
        }
        ScaleType::F32 => {
            for (to, scale) in scales.as_chunks_mut().0.iter_mut().zip(&batch.scale) {
                *to = scale.to_le_bytes();
            }
        }
    }
    for (to, zero) in zeros.iter_mut().zip(&batch.zero) {
        *to = *zero as u8;
    }
}

//! Shift and gain of a width: the nearest nibbles to a least-squares line.

use niwaki_codes::{Widths, stamp};

use super::block::Line;
use super::kernel::Sums;
use super::ruler::Rulers;
use crate::distortion::LANES;
use crate::grid::ROUNDER;

/// The byte that moves nothing.
pub(super) const NONE: u8 = 0x88;

stamp! {
    /// The fixes of each width below 8 from its sums over `n` weights.
    pub(super) fn fixes = fixes_body(rulers: &Rulers, sums: &[Sums; 9], n: &Line, widths: Widths) -> [[u8; LANES]; 9];
}

#[inline(always)]
fn fixes_body(rulers: &Rulers, sums: &[Sums; 9], n: &Line, widths: Widths) -> [[u8; LANES]; 9] {
    let mut all = [[NONE; LANES]; 9];
    for width in widths.iter().filter(|width| width.get() < 8) {
        let b = width.get() as usize;
        let cells = (1u32 << (b - 1)) as f32;
        let sums = &sums[b];
        for i in 0..LANES {
            let cell = rulers.half[i] / cells;
            let spread = n[i] * sums.yy[i] - sums.y[i] * sums.y[i];
            // The gain of the line through all levels, rounded; then the shift that suits it best.
            let gain = (n[i] * sums.ry[i] - sums.r[i] * sums.y[i]) / spread;
            // Levels that are all one, but for rounding, have no gain.
            let apart = spread > 1e-5 * (n[i] * sums.yy[i]);
            let g = if apart { nibble((gain - rulers.half[i]) / cell * 16.0) } else { 0.0 };
            let gain = rulers.half[i] + cell * (g * 0.0625);
            let l = nibble((sums.r[i] - gain * sums.y[i]) / (n[i] * cell) * 32.0);
            let fix = ((l + 8.0) + (g + 8.0) * 16.0 + ROUNDER).to_bits() as u8;
            all[b][i] = if cell > 0.0 { fix } else { NONE };
        }
    }
    all
}

/// Rounds to a whole number, ties to even, from -8 to 7.
#[inline(always)]
fn nibble(x: f32) -> f32 {
    let x = if x > -8.0 { x } else { -8.0 };
    let x = if x < 7.0 { x } else { 7.0 };
    (x + ROUNDER) - ROUNDER
}

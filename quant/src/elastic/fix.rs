//! Shift and gain of a width: the nearest nibbles to a least-squares line.

use niwaki_codes::Widths;

use super::kernel::{Ruler, Sums};

/// The byte that moves nothing.
pub(super) const NONE: u8 = 0x88;

/// The fix of each width below 8 from its sums over `n` weights.
pub(super) fn fixes(ruler: &Ruler, sums: &[Sums; 9], n: f32, widths: Widths) -> [u8; 9] {
    let mut all = [NONE; 9];
    for width in widths.iter().filter(|width| width.get() < 8) {
        let b = width.get() as usize;
        let cell = ruler.half / (1u32 << (b - 1)) as f32;
        all[b] = fix(ruler.half, cell, &sums[b], n);
    }
    all
}

/// The gain of the line through all levels, rounded; then the shift that suits it best.
fn fix(half: f32, cell: f32, sums: &Sums, n: f32) -> u8 {
    let spread = n * sums.yy - sums.y * sums.y;
    if !(spread > 0.0 && cell > 0.0) {
        return NONE;
    }
    let gain = (n * sums.ry - sums.r * sums.y) / spread;
    let g = nibble((gain - half) / cell * 16.0);
    let gain = half + cell * ((g - 8.0) / 16.0);
    let l = nibble((sums.r - gain * sums.y) / (n * cell) * 32.0);
    (l as u8) | (g as u8) << 4
}

/// Rounds to a whole number, ties to even, from -8 to 7; then adds 8.
fn nibble(x: f32) -> f32 {
    // Adding 1.5 * 2^23 leaves the nearest whole number.
    const ROUNDER: f32 = 12_582_912.0;
    let x = if x > -8.0 { x } else { -8.0 };
    let x = if x < 7.0 { x } else { 7.0 };
    (x + ROUNDER) - ROUNDER + 8.0
}

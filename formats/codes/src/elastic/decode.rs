//! From planes to floats.

use crate::half_floats::f16_to_f32;
use crate::simd::Level;
use crate::{Bits, ElasticView, planes, stamp};

/// Codes that are joined before they are turned into floats: they stay in the nearest cache.
const BLOCK: usize = 512;

/// What a base pair and a fix say about one group at one width.
///
/// `fix` is the byte of `.fixB`; 0x88, which moves nothing, stands for width 8.
#[inline(always)]
pub fn elastic_levels(width: Bits, middle: u16, half: u16, fix: u8) -> [f32; 4] {
    let (m, h) = (f16_to_f32(middle), f16_to_f32(half & 0x7FFF));
    // 2^-b, by its exponent.
    let small = f32::from_bits((127 - width.get()) << 23);
    let cell = h * (2.0 * small);
    let shift = (f32::from(fix & 15) - 8.0) / 32.0;
    let gain = (f32::from(fix >> 4) - 8.0) / 16.0;
    let a = m + cell * shift;
    let b = h + cell * gain;
    if half & 0x8000 == 0 {
        [a, b * small, 0.0, 0.0]
    } else {
        [a - m * 0.5, (b * 0.75) * small, (m * 0.5) * (small * small), (b * 0.25) * (small * small * small)]
    }
}

impl ElasticView<'_> {
    /// Levels of a group by its flat index.
    #[inline(always)]
    pub(super) fn cubic(&self, width: Bits, group: usize) -> [f32; 4] {
        let [a, b, c, d] = self.parts.base.as_chunks::<4>().0.get(group).copied().unwrap_or([0; 4]);
        let fix = self.parts.fixes.get(width.get() as usize).copied().flatten();
        let fix = fix.and_then(|fix| fix.get(group)).copied().unwrap_or(0x88);
        elastic_levels(width, u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]), fix)
    }

    /// Codes `from..from + out.len()` of a row; `from` is a multiple of eight.
    pub(super) fn merge(&self, level: Level, width: Bits, row: usize, from: usize, out: &mut [u8]) {
        let start = row.saturating_mul(self.cols.div_ceil(8)).saturating_add(from / 8);
        let end = start.saturating_add(out.len().div_ceil(8));
        let [p0, p1, p2, p3, p4, p5, p6, p7] = self.parts.planes;
        let all = [p7, p6, p5, p4, p3, p2, p1, p0].map(|p| p.and_then(|p| p.get(start..end)).unwrap_or(&[]));
        let used = all.get(..width.get() as usize).unwrap_or(&all);
        // The lengths were checked when the view was made.
        let joined = planes::merge(level, used, out);
        debug_assert!(joined.is_ok());
    }

    /// Decodes columns `from..from + out.len()` of a row; all of it is there.
    pub(super) fn decode(&self, level: Level, width: Bits, row: usize, from: usize, mut out: &mut [f32]) {
        let first = row.saturating_mul(self.scheme.groups(self.cols));
        let mut col = from;
        let mut block = [0; BLOCK];
        while !out.is_empty() {
            // The first block may start inside a byte.
            let skip = col % 8;
            let n = out.len().min(BLOCK - skip);
            let Some((now, rest)) = out.split_at_mut_checked(n) else { return };
            let codes = block.get_mut(..skip + n).unwrap_or(&mut []);
            self.merge(level, width, row, col - skip, codes);
            turn(level, self, width, (first, col), codes.get(skip..).unwrap_or(&[]), now);
            col += n;
            out = rest;
        }
    }
}

stamp! {
    /// Turns the codes of the columns from `at.1` on into floats; `at.0` is the row's first group.
    fn turn = turn_body(
        view: &ElasticView<'_>, width: Bits, at: (usize, usize), codes: &[u8], out: &mut [f32],
    ) -> ();
}

#[inline(always)]
fn turn_body(
    view: &ElasticView<'_>,
    width: Bits,
    (first, mut col): (usize, usize),
    mut codes: &[u8],
    mut out: &mut [f32],
) {
    let size = view.scheme.group.get();
    while !codes.is_empty() {
        let n = (size - col % size).min(codes.len());
        let levels = view.cubic(width, first.saturating_add(col / size));
        let (Some((now, later)), Some((to, rest))) = (codes.split_at_checked(n), out.split_at_mut_checked(n)) else {
            return;
        };
        elastic_values_body(width, levels, now, to);
        (col, codes, out) = (col + n, later, rest);
    }
}

/// The floats that codes of one group stand for, to be inlined into a stamped body;
/// stops at the shorter side.
#[inline(always)]
pub fn elastic_values_body(width: Bits, [c0, c1, c2, c3]: [f32; 4], codes: &[u8], out: &mut [f32]) {
    let low = 1 - width.levels() as i32;
    for (code, x) in codes.iter().zip(out) {
        let u = (2 * i32::from(*code) + low) as f32;
        *x = c0 + u * (c1 + u * (c2 + u * c3));
    }
}

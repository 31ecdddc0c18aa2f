//! From planes to floats.

#[cfg(target_arch = "x86_64")]
use core::ops::Range;

use crate::half_floats::f16_to_f32;
use crate::simd::Level;
use crate::{Bits, ElasticView, planes, stamp};

/// Codes that are joined before they are turned into floats: they stay in the nearest cache.
const BLOCK: usize = 1024;

/// Groups whose levels are found together.
const LANES: usize = 16;

/// The byte that moves nothing, which stands for width 8 too.
pub(crate) const NO_FIX: u8 = 0x88;

/// What a base pair and a fix say about one group at one width.
///
/// `fix` is the byte of `.fixB`; 0x88, which moves nothing, stands for width 8.
#[inline(always)]
pub fn elastic_levels(width: Bits, middle: u16, half: u16, fix: u8) -> [f32; 4] {
    let (m, h) = (f16_to_f32(middle), f16_to_f32(half & 0x7FFF));
    let curved = half & 0x8000 != 0;
    // 2^-b, by its exponent.
    let small = f32::from_bits((127 - width.get()) << 23);
    let cell = h * (2.0 * small);
    let shift = (f32::from(fix & 15) - 8.0) / 32.0;
    let gain = (f32::from(fix >> 4) - 8.0) / 16.0;
    let a = m + cell * shift;
    let b = h + cell * gain;
    // Times 1 and less 0 change nothing, so flat cells need no branch.
    let lean = if curved { m * 0.5 } else { 0.0 };
    let (straight, cube) = if curved { (0.75, 0.25) } else { (1.0, 0.0) };
    [a - lean, (b * straight) * small, lean * (small * small), (b * cube) * (small * small * small)]
}

impl ElasticView<'_> {
    /// Levels of a group by its flat index.
    pub(super) fn cubic(&self, width: Bits, group: usize) -> [f32; 4] {
        let (bases, fixes) = self.parameters(width, group);
        let [a, b, c, d] = bases.first().copied().unwrap_or([0; 4]);
        let fix = fixes.first().copied().unwrap_or(NO_FIX);
        elastic_levels(width, u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]), fix)
    }

    /// Base pairs and fixes from a group on; no fixes for width 8.
    pub(crate) fn parameters(&self, width: Bits, group: usize) -> (&[[u8; 4]], &[u8]) {
        let fixes = self.parts.fixes.get(width.get() as usize).copied().flatten().unwrap_or(&[]);
        let bases = self.parts.base.as_chunks::<4>().0;
        (bases.get(group..).unwrap_or(&[]), fixes.get(group..).unwrap_or(&[]))
    }

    /// The bytes of some rows in each plane that `width` takes, the most significant first.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn planes_of(&self, width: Bits, rows: Range<usize>) -> [&[u8]; 8] {
        let bytes = self.cols.div_ceil(8);
        let places = rows.start.saturating_mul(bytes)..rows.end.saturating_mul(bytes);
        core::array::from_fn(|nth| {
            let plane = self.parts.planes.get(7 - nth).copied().flatten().filter(|_| nth < width.get() as usize);
            plane.and_then(|plane| plane.get(places.clone())).unwrap_or(&[])
        })
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
    pub(crate) fn decode(&self, level: Level, width: Bits, row: usize, from: usize, mut out: &mut [f32]) {
        let first = row.saturating_mul(self.scheme.groups(self.cols));
        let size = self.scheme.group.get();
        let mut col = from;
        let mut block = [0; BLOCK];
        while !out.is_empty() {
            // The first block may start inside a byte.
            let skip = col % 8;
            let n = out.len().min(BLOCK - skip);
            let Some((now, rest)) = out.split_at_mut_checked(n) else { return };
            let codes = block.get_mut(..skip + n).unwrap_or(&mut []);
            self.merge(level, width, row, col - skip, codes);
            let parameters = self.parameters(width, first.saturating_add(col / size));
            turn(level, width, (size, col % size), parameters, codes.get(skip..).unwrap_or(&[]), now);
            col += n;
            out = rest;
        }
    }
}

stamp! {
    /// Turns codes into floats; `groups.0` is the size of a group, and `groups.1` how
    /// many weights of the first one come before.
    fn turn = turn_body(
        width: Bits, groups: (usize, usize), parameters: (&[[u8; 4]], &[u8]), codes: &[u8], out: &mut [f32],
    ) -> ();
}

#[inline(always)]
fn turn_body(
    width: Bits,
    (size, mut before): (usize, usize),
    (mut bases, mut fixes): (&[[u8; 4]], &[u8]),
    mut codes: &[u8],
    mut out: &mut [f32],
) {
    while !codes.is_empty() {
        let all = levels_of(width, bases, fixes);
        for levels in all {
            let n = (size - before).min(codes.len());
            let halves = (codes.split_at_checked(n), out.split_at_mut_checked(n));
            let (Some((now, later)), Some((to, rest))) = halves else { return };
            elastic_values_body(width, levels, now, to);
            (before, codes, out) = (0, later, rest);
        }
        bases = bases.get(LANES..).unwrap_or(&[]);
        fixes = fixes.get(LANES..).unwrap_or(&[]);
    }
}

/// Levels of the first groups, as far as there are some.
#[inline(always)]
fn levels_of(width: Bits, bases: &[[u8; 4]], fixes: &[u8]) -> [[f32; 4]; LANES] {
    let (mut pairs, mut bytes) = ([[0; 4]; LANES], [NO_FIX; LANES]);
    pairs.iter_mut().zip(bases).for_each(|(to, from)| *to = *from);
    bytes.iter_mut().zip(fixes).for_each(|(to, from)| *to = *from);
    let mut all = [[0.0; 4]; LANES];
    for ((levels, [a, b, c, d]), fix) in all.iter_mut().zip(pairs).zip(bytes) {
        *levels = elastic_levels(width, u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]), fix);
    }
    all
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

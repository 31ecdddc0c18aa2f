//! Elastic codes at their widest width.

use niwaki_codes::simd::Level;
use niwaki_codes::{Bits, Elastic, elastic_levels, elastic_values_body, planes, stamp};

use super::ranked::{ASCENDING, Ranked};
use super::stream::{Grids, recode_unpacked};
use super::whole_rows;
use crate::distortion::TILE;
use crate::error::exactly;
use crate::{Error, ErrorKind};

/// The byte that moves nothing, which stands for width 8 too.
const NO_FIX: u8 = 0x88;

/// The parts of elastic codes that say what the widest width decodes to; the planes may change.
#[derive(Debug, Default)]
pub struct ElasticCodes<'a> {
    /// `.base`: four bytes a group.
    pub base: &'a [u8],
    /// `.fixB` of the widest width B: one byte a group; empty for width 8.
    pub fix: &'a [u8],
    /// `.planeN` at index N, from 7 down to 8 less the widest width.
    pub planes: [Option<&'a mut [u8]>; 8],
}

/// Moves the codes of whole rows of `cols` weights to the nearest of each target at the widest
/// width served, and says how many moved. Narrower widths follow, as their codes are the top bits.
///
/// A piece of a long row, and one of the kept weights of a masked tensor, counts as a row of its
/// own if it starts at a group and at a whole byte of a plane.
///
/// # Errors
///
/// [`ErrorKind::NotFinite`] for a target that is an infinity or NaN, [`ErrorKind::Length`] for
/// targets that are not whole rows or a part of another length.
pub fn recode_elastic_rows(
    level: Level,
    scheme: &Elastic,
    cols: usize,
    mut parts: ElasticCodes<'_>,
    targets: &[f32],
) -> Result<usize, Error> {
    let rows = whole_rows(level, cols, targets)?;
    fits(scheme, rows, cols, &parts)?;
    let (width, row_bytes, groups) = (scheme.widths.widest(), cols.div_ceil(8), scheme.groups(cols));
    let bases = parts.base.as_chunks().0;
    let (fixes, size) = (parts.fix, scheme.group.get());
    let mut groups_of = Groups { width, bases, fixes, first: 0, size, ranked: Ranked::EMPTY };
    let (mut unpacked, mut moved) = ([0; TILE], 0);
    for (row, targets) in targets.chunks(cols.max(1)).enumerate() {
        groups_of.first = row * groups;
        for (tile, targets) in targets.chunks(TILE).enumerate() {
            let from = row * row_bytes + tile * (TILE / 8);
            let codes = &mut unpacked[..targets.len()];
            let done = merge(level, width, &parts.planes, from, codes);
            let now = recode_unpacked(level, &mut groups_of, tile * TILE, targets, codes);
            if now > 0 {
                let done = done.and_then(|()| split(level, width, &mut parts.planes, from, codes));
                debug_assert!(done.is_ok(), "the planes were measured before");
            }
            moved += now;
        }
    }
    Ok(moved)
}

/// Refuses parts of another length.
fn fits(scheme: &Elastic, rows: usize, cols: usize, parts: &ElasticCodes<'_>) -> Result<(), Error> {
    let over = ErrorKind::Length { buffer: "base", needs: usize::MAX, has: parts.base.len() };
    let sizes = scheme.parts(rows, cols).map_err(|_| over)?;
    exactly("base", sizes.base, parts.base.len())?;
    exactly("fix", if scheme.has_fix(scheme.widths.widest()) { sizes.fix } else { 0 }, parts.fix.len())?;
    for (number, plane) in parts.planes.iter().enumerate() {
        let has = plane.as_ref().map_or(0, |plane| plane.len());
        exactly("plane", if scheme.has_plane(number) { sizes.plane } else { 0 }, has)?;
    }
    Ok(())
}

/// Codes from byte `from` of each plane on.
fn merge(
    level: Level,
    width: Bits,
    planes: &[Option<&mut [u8]>; 8],
    from: usize,
    codes: &mut [u8],
) -> Result<(), niwaki_codes::Error> {
    let mut all: [&[u8]; 8] = [&[]; 8];
    for (to, plane) in all.iter_mut().zip(planes.iter().rev()) {
        *to = plane.as_ref().and_then(|plane| plane.get(from..)).unwrap_or(&[]);
    }
    planes::merge(level, &all[..width.get() as usize], codes)
}

/// Writes codes to the planes from byte `from` of each on.
fn split(
    level: Level,
    width: Bits,
    planes: &mut [Option<&mut [u8]>; 8],
    from: usize,
    codes: &[u8],
) -> Result<(), niwaki_codes::Error> {
    for (bit, plane) in planes.iter_mut().skip(8 - width.get() as usize).enumerate() {
        let Some(plane) = plane else { continue };
        let to = plane.get_mut(from..from + codes.len().div_ceil(8)).unwrap_or(&mut []);
        planes::split(level, bit as u32, codes, to)?;
    }
    Ok(())
}

/// The cubics of groups of one size, that of code 0 being `first`.
struct Groups<'a> {
    width: Bits,
    bases: &'a [[u8; 4]],
    fixes: &'a [u8],
    first: usize,
    size: usize,
    ranked: Ranked,
}

impl Grids for Groups<'_> {
    fn turn_to(&mut self, level: Level, at: usize) -> usize {
        let group = self.first + at / self.size;
        let [a, b, c, d] = self.bases.get(group).copied().unwrap_or([0; 4]);
        let fix = self.fixes.get(group).copied().unwrap_or(NO_FIX);
        let cubic = elastic_levels(self.width, u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]), fix);
        let mut all = [0.0; 256];
        let all = &mut all[..self.width.levels() as usize];
        values(level, self.width, cubic, &ASCENDING, all);
        // Cubics rise, but for those that lean far or are nearly flat: then values are sorted.
        self.ranked.set(level, all, &ASCENDING);
        self.size - at % self.size
    }

    fn recode(&self, _: Level, targets: &[f32], codes: &mut [u8]) -> usize {
        self.ranked.recode(targets, codes)
    }
}

stamp! {
    fn values = elastic_values_body(width: Bits, levels: [f32; 4], codes: &[u8], out: &mut [f32]) -> ();
}

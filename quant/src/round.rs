//! From weights to codes on given grids, with what that loses.

use niwaki_codes::stamp;

use crate::distortion::{LANES, TILE, Tally};
use crate::grid::{ROUNDER, Ruler};

stamp! {
    /// Quantizes `x` in groups of `group` (a multiple of 16), each by its ruler.
    pub(crate) fn quantize = quantize_body(x: &[f32; TILE], group: usize, rulers: &[Ruler], codes: &mut [u8; TILE])
        -> Tally;
}

#[inline(always)]
fn quantize_body(x: &[f32; TILE], group: usize, rulers: &[Ruler], codes: &mut [u8; TILE]) -> Tally {
    let mut tally = Tally::default();
    for ((ruler, x), codes) in rulers.iter().zip(x.chunks_exact(group)).zip(codes.chunks_exact_mut(group)) {
        for (x, codes) in x.as_chunks::<LANES>().0.iter().zip(codes.as_chunks_mut::<LANES>().0) {
            let rounded = x.map(|x| ruler.rounded(x));
            let decoded = rounded.map(|r| (r - ROUNDER) * ruler.scale);
            *codes = rounded.map(|r| r.to_bits().wrapping_add(ruler.zero) as u8);
            tally.add(x, &decoded);
        }
    }
    tally
}
